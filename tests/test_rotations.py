"""Rotations as people write them: names, scikit-learn's clone and parameters, what is refused."""

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone

from sklvm import Geomin, Oblimin, Orthomax, Promax, Target
from sklvm.numerics.manifolds import Oblique, Orthogonal
from sklvm.numerics.rotation_criteria import (
    GeominCriterion,
    ObliminCriterion,
    OrthomaxCriterion,
    PromaxTurn,
)
from sklvm.rotations import ROTATIONS, rotation_of

TARGET = [[0.7, 0.0], [np.nan, 0.0], [0.0, 0.5]]
SPECS = [
    Orthomax(),
    Orthomax(gamma=None, kaiser=False),
    Oblimin(gamma=-1.0),
    Geomin(epsilon=0.1, orthogonal=True),
    Promax(power=3),
    Target(TARGET),
    Target(np.array(TARGET), orthogonal=True),
]
each_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)


class Holder(BaseEstimator):
    def __init__(self, rotation=None):
        self.rotation = rotation


@each_spec
def test_specs_are_values(spec):
    for copy in (clone(spec), pickle.loads(pickle.dumps(spec)), type(spec)(**spec.get_params())):
        assert copy == spec and hash(copy) == hash(spec) and repr(copy) == repr(spec)
    assert repr(spec).startswith(f"{type(spec).__name__}(")
    assert spec != Orthomax(gamma=0.123) and spec != "varimax"
    assert clone(Holder(spec)).rotation == spec
    assert spec.among(np.zeros(3, dtype=bool)) == spec


def test_parameters_are_set_from_outside():
    holder = Holder(Oblimin()).set_params(rotation__gamma=-2.0)
    assert holder.rotation == Oblimin(gamma=-2.0)
    with pytest.raises(ValueError, match="no parameter"):
        Geomin().set_params(gamma=1.0)


def test_specs_become_criteria():
    assert Orthomax(0.5, kaiser=False).criterion(9, 4) == OrthomaxCriterion(0.5, False)
    assert Orthomax(None).criterion(9, 4) == OrthomaxCriterion(2.0, True)
    assert Oblimin(-1).criterion(9, 4) == ObliminCriterion(-1.0, True)
    assert Geomin().criterion(9, 4) == GeominCriterion(0.01, Oblique, True)
    assert Geomin(0.1, True, False).criterion(9, 4) == GeominCriterion(0.1, Orthogonal, False)
    assert Promax(3, kaiser=False).criterion(9, 4) == PromaxTurn(3.0, False)
    for orthogonal, manifold in ((False, Oblique), (True, Orthogonal)):
        criterion = Target(TARGET, orthogonal=orthogonal).criterion(3, 2)
        np.testing.assert_array_equal(criterion.target, TARGET)
        assert criterion.manifold is manifold and not criterion.kaiser


def test_names():
    assert sorted(ROTATIONS) == ["equamax", "geomin", "oblimin", "promax", "quartimax", "varimax"]
    gammas = [
        rotation_of(f"{name}max").criterion(10, 6).gamma for name in ("vari", "quarti", "equa")
    ]
    assert gammas == [1.0, 0.0, 3.0]
    assert rotation_of("geomin") == Geomin() and rotation_of("oblimin") == Oblimin()
    assert rotation_of("promax") == Promax()
    spec = Target(TARGET)
    assert rotation_of(spec) is spec
    for unknown in ("varimin", None, 1.0, Orthomax, [Oblimin()]):
        with pytest.raises(ValueError, match="a rotation is one of .*'varimax'"):
            rotation_of(unknown)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Orthomax(gamma="varimax"), "gamma of Orthomax must be a finite number"),
        (Orthomax(gamma=np.inf), "gamma of Orthomax must be a finite number"),
        (Oblimin(gamma=None), "gamma of Oblimin must be a finite number"),
        (Oblimin(gamma=0.5), "gamma <= 0"),
        (Geomin(epsilon=0.0), "epsilon > 0"),
        (Geomin(epsilon=True), "epsilon of Geomin must be a finite number"),
        (Promax(power=1), "power > 1"),
        (Target(np.zeros((2, 3))), r"shape \(3, 2\), got \(2, 3\)"),
        (Target([[0, np.inf], [0, 0], [0, 0]]), "finite numbers"),
        (Target(np.full((3, 2), np.nan)), "finite numbers"),
    ],
)
def test_what_is_out_of_range_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        spec.criterion(3, 2)


def test_targets_leave_out_constant_columns():
    target = Target(TARGET, orthogonal=True).among(np.array([False, True, False]))
    assert target == Target([TARGET[0], TARGET[2]], orthogonal=True)


def test_targets_are_equal_where_their_entries_are():
    assert Target(TARGET) == Target(np.array(TARGET))
    assert Target(TARGET) != Target(TARGET, orthogonal=True)
    assert Target(TARGET) != Target(np.zeros((3, 2)))
    assert Target(np.zeros((3, 2))) != Target(np.zeros((2, 3)))
