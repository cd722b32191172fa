"""The demo, with tiny settings: it says what it does, prints numbers and saves pictures."""

import re
from contextlib import redirect_stdout
from io import StringIO

import matplotlib.image
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.impute import SimpleImputer

from sklvm import demo

MODELS = {"GaussianMixture", "VariationalGMM", "EMFactorAnalysis", "VAE"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What the demo prints, and the folder with its pictures."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "pictures"
    printed = StringIO()
    with redirect_stdout(printed):
        demo.main(["--fast", "--output", str(folder)])
    return printed.getvalue(), folder


def table(text, title):
    """The rows of a printed table: {name: numbers}."""
    lines = text[text.index(title) :].splitlines()[2:]
    rows = {}
    for line in lines:
        match = re.fullmatch(r"  (\S.*?)((?: +-?\d+\.\d{3}(?: ± \d+\.\d{3})?)+)", line)
        if match is None:
            return rows
        rows[match[1]] = [float(cell.split("±")[0]) for cell in re.split(r"  +", match[2].strip())]
    return rows


def test_it_ranks_outliers(run):
    rows = table(run[0], "AUROC (higher is better)")
    assert rows.keys() == MODELS | {"IsolationForest", "LocalOutlierFactor"}
    aurocs = np.array(list(rows.values()))
    assert aurocs.shape == (6, 2)
    assert (aurocs > 0.8).all() and (aurocs <= 1).all()


def test_it_chooses_a_model(run):
    rows = table(run[0], "held-out nats per row")
    assert rows.keys() == {"full", "tied", "diag", "spherical"}
    K = int(re.search(r"chosen: covariance_type=(\w+), n_components=(\d), with (\S+)", run[0])[2])
    best = re.search(r"chosen: covariance_type=(\w+), n_components=\d, with (\S+)", run[0])
    assert float(best[2]) == pytest.approx(max(map(max, rows.values())), abs=0.006)
    assert rows[best[1]][K - 1] == max(map(max, rows.values()))


def test_it_learns_features(run):
    rows = table(run[0], "accuracy on the other half")
    assert rows.keys() == {"pixels", "hidden bits of RBM(200)"}
    assert rows["pixels"][0] > 0.9
    assert all(0.1 < share <= 1 for (share,) in rows.values())


def test_it_fills_holes(run):
    rows = table(run[0], "RMSE in standard deviations")
    assert rows.keys() == MODELS | {"IterativeImputer", "KNNImputer", "column mean"}
    errors = np.array(list(rows.values()))
    assert errors.shape == (7, 2) and np.isfinite(errors).all() and (errors > 0).all()
    np.testing.assert_allclose(rows["column mean"], 1.0, atol=0.15)
    assert all(rows[model] < rows["column mean"] for model in MODELS)


@pytest.mark.parametrize("name", ["digits_drawn.png", "digits_latent_space.png", "convergence.png"])
def test_it_saves_pictures_and_says_where(run, name):
    text, folder = run
    assert f"saved {folder / name}" in text
    picture = matplotlib.image.imread(folder / name)
    assert min(picture.shape[:2]) > 300
    assert len(np.unique(picture[..., 0])) > 20  # something is drawn


def test_it_says_what_it_is_at_and_how_long_it_took(run):
    pieces = re.findall(r"^  (.+) \.\.\. (\d+\.\d) s$", run[0], flags=re.MULTILINE)
    assert len(pieces) == 11
    assert re.search(r"The demo took \d+ s\.$", run[0].strip())


def test_without_matplotlib_there_are_no_pictures(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    demo.draw_pictures(tmp_path / "none", epochs=1)
    assert "pip install sklvm[plot]" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


# --- the measures -----------------------------------------------------------------------------


def test_train_and_test_rows_are_apart():
    X, y = load_breast_cancer(return_X_y=True)
    X = np.arange(len(y))[:, None] + np.zeros_like(X)  # every row says which it is
    train, test, is_normal = demo.one_class(X, y, 1, seed=0)
    assert len(train) == (y == 1).sum() // 2
    assert (y[train[:, 0].astype(int)] == 1).all()
    np.testing.assert_array_equal(y[test[:, 0].astype(int)] == 1, is_normal)
    assert sorted([*train[:, 0], *test[:, 0]]) == list(range(len(y)))


def test_auroc_knows_the_good_from_the_useless():
    rng = np.random.default_rng(0)
    train, normal = rng.normal(size=(100, 2)), rng.normal(size=(100, 2))
    far, alike = rng.normal(size=(100, 2)) + 50, rng.normal(size=(100, 2))
    truth = np.repeat([True, False], 100)
    forest = IsolationForest(random_state=0)
    assert demo.auroc(forest, train, np.concatenate([normal, far]), truth) > 0.99
    assert demo.auroc(forest, train, np.concatenate([normal, alike]), truth) < 0.6


def test_rmse_of_the_column_mean_is_one_in_every_unit():
    X = np.random.default_rng(0).normal(size=(2000, 3)) * [1, 1e3, 1e-3] + 5
    holes = np.random.default_rng(1).random(X.shape) < 0.2
    assert demo.rmse(SimpleImputer(), X, holes) == pytest.approx(1.0, abs=0.05)
    perfect = SimpleImputer()
    perfect.fit_transform = lambda Z, y=None: (
        (X - np.nanmean(np.where(holes, np.nan, X), 0)) / (np.nanstd(np.where(holes, np.nan, X), 0))
    )
    assert demo.rmse(perfect, X, holes) == pytest.approx(0.0, abs=1e-12)
