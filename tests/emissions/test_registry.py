"""Names of emissions and what is refused."""

import pytest

from sklvm.emissions import EMISSIONS, named_emission
from sklvm.emissions.gaussian import Gaussian
from sklvm.emissions.student_t import StudentT


@pytest.mark.parametrize("name", EMISSIONS)
def test_a_name_is_its_spec(name):
    spec = named_emission(name)
    assert type(spec) is EMISSIONS[name]
    assert named_emission(spec) is spec
    assert repr(spec).startswith(type(spec).__name__ + "(")


@pytest.mark.parametrize("emission", ["normal", 3, None, Gaussian, StudentT])
def test_anything_else_is_refused_with_the_names(emission):
    with pytest.raises(ValueError, match="emission must be one of .*gaussian.*got"):
        named_emission(emission)
