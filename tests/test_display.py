"""The displays: what they draw and where, what they refuse, and what they leave alone."""

import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklvm import (
    ConvergenceDisplay,
    EMFactorAnalysis,
    GaussianMixture,
    LatentSpaceDisplay,
    VariationalGMM,
)


@pytest.fixture(autouse=True)
def no_figures_left():
    """No screen, and pyplot's figures closed at the end."""
    with matplotlib.rc_context({"backend": "agg"}):
        yield
        from matplotlib import pyplot

        pyplot.close("all")


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(60, 4)) @ np.diag([3.0, 2.0, 1.0, 1.0])


@pytest.fixture
def ax():
    return Figure().subplots()


# --- convergence ------------------------------------------------------------------------------


def test_convergence_of_one_fit(X, ax):
    model = GaussianMixture(2, random_state=0).fit(X)
    display = ConvergenceDisplay.from_estimator(model, ax=ax)
    assert display.ax_ is ax and display.figure_ is ax.figure
    (line,) = display.lines_
    np.testing.assert_array_equal(line.get_ydata(), model.history_)
    np.testing.assert_array_equal(line.get_xdata(), np.arange(model.n_iter_ + 1))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["GaussianMixture"]
    assert ax.get_xlabel() == "iteration" and "nats per row" in ax.get_ylabel()


def test_convergence_of_several_fits(X, ax):
    fits = [GaussianMixture(2, random_state=0).fit(X), VariationalGMM(2, random_state=0).fit(X)]
    display = ConvergenceDisplay.from_estimators(fits, names=["EM", "VB"], ax=ax, linestyle=":")
    assert [line.get_label() for line in ax.lines] == ["EM", "VB"]
    assert {line.get_linestyle() for line in display.lines_} == {":"}
    for line, model in zip(ax.lines, fits):
        np.testing.assert_array_equal(line.get_ydata(), model.history_)


def test_convergence_looks_into_a_pipeline(X, ax):
    model = make_pipeline(StandardScaler(), GaussianMixture(2, random_state=0)).fit(X)
    display = ConvergenceDisplay.from_estimator(model, ax=ax, name="standardised")
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), model[-1].history_)
    assert display.lines_[0].get_label() == "standardised"


def test_the_gap_to_the_best_is_drawn_on_a_logarithmic_axis(ax):
    ConvergenceDisplay([[-5.0, -3.0, -1.0, -2.0, -1.0]]).plot(ax, kind="gap")
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 1, 3])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [4.0, 2.0, 1.0])
    assert ax.get_yscale() == "log"
    assert ax.get_legend() is None


def test_plot_returns_itself_and_draws_again(ax):
    display = ConvergenceDisplay([[0.0, 1.0]])
    assert display.plot(ax) is display
    other = Figure().subplots()
    assert display.plot(other).ax_ is other
    assert len(ax.lines) == len(other.lines) == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ConvergenceDisplay([]), "histories is empty"),
        (lambda: ConvergenceDisplay([[[1.0]]]), r"got shape \(1, 1\)"),
        (lambda: ConvergenceDisplay([[]]), r"got shape \(0,\)"),
        (lambda: ConvergenceDisplay([[1.0]], names=["a", "b"]), "names has 2 entries for 1"),
        (lambda: ConvergenceDisplay([[1.0]]).plot(kind="log"), "kind must be one of.*got 'log'"),
    ],
)
def test_convergence_refuses(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_convergence_wants_a_fitted_model_with_a_history(X):
    with pytest.raises(NotFittedError):
        ConvergenceDisplay.from_estimator(GaussianMixture())
    with pytest.raises(TypeError, match="PCA keeps no history_"):
        ConvergenceDisplay.from_estimator(PCA().fit(X))


# --- latent space -----------------------------------------------------------------------------


def drawn(display):
    return [np.asarray(points.get_offsets()) for points in display.points_]


def test_latent_space_without_labels(X, ax):
    model = EMFactorAnalysis(2).fit(X)
    display = LatentSpaceDisplay.from_estimator(model, X, ax=ax)
    np.testing.assert_array_equal(drawn(display), [model.transform(X)])
    assert display.ax_ is ax and display.figure_ is ax.figure
    assert ax.get_xlabel() == "emfactoranalysis0" and ax.get_ylabel() == "emfactoranalysis1"
    assert ax.get_legend() is None


@pytest.mark.parametrize("labels", [["a", "b", "c"], [0, 1, 2], [False, True, True]])
def test_each_class_has_its_colour_and_its_name(X, ax, labels):
    labels = np.resize(labels, len(X))
    Z = EMFactorAnalysis(2).fit(X).transform(X)
    display = LatentSpaceDisplay(Z, labels).plot(ax)
    classes = np.unique(labels)
    for points, label in zip(drawn(display), classes):
        np.testing.assert_array_equal(points, Z[labels == label])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == [str(label) for label in classes]
    assert len({tuple(p.get_facecolor()[0]) for p in display.points_}) == len(classes)


def test_many_numbers_are_read_off_a_colour_scale(X, ax):
    target = np.linspace(0, 1, len(X))
    display = LatentSpaceDisplay(X[:, :2], target).plot(ax, cmap="magma")
    (points,) = display.points_
    np.testing.assert_array_equal(points.get_array(), target)
    assert points.get_cmap().name == "magma"
    assert len(ax.figure.axes) == 2  # the points and the scale


def test_many_names_still_have_a_legend(X, ax):
    display = LatentSpaceDisplay(X[:, :2], [f"row {i}" for i in range(len(X))]).plot(ax)
    assert len(display.points_) == len(ax.get_legend().get_texts()) == len(X)


def test_components_choose_the_axes(X, ax):
    model = EMFactorAnalysis(3).fit(X)
    display = LatentSpaceDisplay.from_estimator(model, X, components=(2, 0), ax=ax)
    np.testing.assert_array_equal(drawn(display)[0], model.transform(X)[:, [2, 0]])
    assert ax.get_xlabel() == "emfactoranalysis2"


def test_latent_space_of_a_pipeline_with_pandas_output(X, ax):
    model = make_pipeline(StandardScaler(), PCA(2)).set_output(transform="pandas").fit(X)
    display = LatentSpaceDisplay.from_estimator(model, X, ax=ax, s=3, color="red")
    np.testing.assert_array_equal(drawn(display)[0], model.transform(X).to_numpy())
    assert ax.get_xlabel() == "pca0"
    assert display.points_[0].get_sizes() == 3


@pytest.mark.parametrize("components", [(0, 3), (0,), (0, 1, 2), (-1, 0), (0.0, 1.0)])
def test_impossible_components_are_refused(X, components):
    model = EMFactorAnalysis(3).fit(X)
    with pytest.raises(ValueError, match="components must be two of the 3 columns"):
        LatentSpaceDisplay.from_estimator(model, X, components=components)


@pytest.mark.parametrize(
    ("latents", "labels", "message"),
    [
        (np.zeros((4, 3)), None, r"shape \(n_samples, 2\), got \(4, 3\)"),
        (np.zeros(4), None, r"shape \(n_samples, 2\), got \(4,\)"),
        (np.zeros((4, 2)), [1, 2, 3], "inconsistent numbers of samples"),
        (np.zeros((4, 2)), [1.0, 2.0, np.nan, 1.0], "labels contains NaN"),
        (np.zeros((4, 2)), np.zeros((4, 2)), "1d array"),
    ],
)
def test_latent_space_refuses(latents, labels, message):
    with pytest.raises(ValueError, match=message):
        LatentSpaceDisplay(latents, labels)


# --- matplotlib -------------------------------------------------------------------------------

DISPLAYS = [
    ConvergenceDisplay([[0.0, 1.0]], names=["fit"]),
    LatentSpaceDisplay(np.eye(2), ["a", "b"]),
]
by_name = pytest.mark.parametrize("display", DISPLAYS, ids=lambda d: type(d).__name__)


@by_name
def test_a_display_makes_its_own_figure_and_changes_no_setting(display):
    settings = dict(matplotlib.rcParams)
    first, second = display.plot().figure_, display.plot().figure_
    assert first is not second
    assert dict(matplotlib.rcParams) == settings
    first.canvas.draw()


@by_name
def test_only_axes_are_drawn_on(display):
    with pytest.raises(TypeError, match="ax must be one matplotlib Axes or None, got Figure"):
        display.plot(Figure())


@by_name
def test_without_matplotlib_the_error_says_what_to_install(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=rf"{type(display).__name__}.*pip install sklvm\[plot\]"):
        display.plot()
