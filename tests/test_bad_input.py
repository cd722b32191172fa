"""Bad input is refused with one clear message; degenerate data are fitted."""

import datetime
import re
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from sklvm import EMFactorAnalysis, GaussianMixture, Mixture, StudentT, VariationalGMM
from tests._models import DISCRETE, MODELS, fitted, make, rows, sweep

X = rows()
N, D = X.shape


def with_entry(value, dtype=float):
    other = X.astype(dtype)
    other[4, 1] = value
    return other


def frame(columns=("a", "b", "c")):
    return pd.DataFrame(X, columns=list(columns))


def refused(call, kind, pattern):
    """The call raises this kind of error, no other behind it, with a message that matches."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(kind) as caught:
            call()
    message = str(caught.value)
    assert re.search(pattern, message, re.DOTALL), message
    assert 15 < len(message) < 1500
    cause = caught.value.__context__
    assert (
        cause is None
        or caught.value.__suppress_context__
        or type(cause)
        in (
            ValueError,
            TypeError,
        )
    ), repr(cause)


# --- what every model refuses -----------------------------------------------------------------

ROWS = {
    "infinity": (with_entry(np.inf), ValueError, "infinity"),
    "minus infinity": (with_entry(-np.inf), ValueError, "infinity"),
    "complex": (X.astype(complex), ValueError, "[Cc]omplex"),
    "strings": (X.astype(str), ValueError, "strings.*OrdinalEncoder"),
    "a string among objects": (with_entry("red", object), ValueError, "strings.*OrdinalEncoder"),
    "a frame with strings": (
        frame().assign(b="red"),
        ValueError,
        "strings.*OrdinalEncoder",
    ),
    "dates": (X.astype("datetime64[D]"), TypeError, "dates"),
    "durations": (X.astype("timedelta64[s]"), TypeError, "dates or durations"),
    "a frame with dates": (
        frame().assign(b=datetime.datetime(2020, 1, 1)),
        TypeError,
        "dates",
    ),
    "a masked array": (
        np.ma.masked_greater(X, np.median(X)),
        ValueError,
        r"masked.*filled\(np.nan\)",
    ),
    "a vector": (X[:, 0], ValueError, "Expected 2D array, got 1D"),
    "three axes": (X[None], ValueError, "dim 3"),
    "a sparse matrix": (sparse.csr_array(X), TypeError, "[Ss]parse"),
    "no columns": (X[:, :0], ValueError, r"0 feature\(s\)"),
    "no rows": (X[:0], ValueError, r"0 sample\(s\)"),
    "a number": (3.0, ValueError, "Expected 2D array, got scalar"),
    "nothing": (None, ValueError, "None|NoneType|scalar"),
    "ragged rows": ([[1.0, 2.0], [3.0]], ValueError, "inhomogeneous|sequence"),
}


@pytest.mark.parametrize("what", ROWS)
@pytest.mark.parametrize("name", ["gmm", "vb", "fa", "mixture-t", *(["vae"] * ("vae" in MODELS))])
def test_rows_that_no_fit_accepts(name, what):
    data, kind, pattern = ROWS[what]
    model = make(name)
    refused(lambda: model.fit(data), kind, pattern)
    refused(lambda: model.score_samples(X), NotFittedError, "not fitted")


@pytest.mark.parametrize("what", ROWS)
def test_rows_that_no_verb_accepts(what):
    data, kind, pattern = ROWS[what]
    for verb in ("score_samples", "transform", "impute", "posterior", "elbo", "predict", "score"):
        refused(partial(getattr(fitted("gmm"), verb), data), kind, pattern)


FIT = {
    "a row": (lambda m: m.fit(X[:1]), ValueError, r"1 sample|n_samples.?=.?1"),
    "a column without entries": (
        lambda m: m.fit(with_entry(np.nan) * [1, np.nan, 1]),
        ValueError,
        r"columns \[1\] are NaN in every row.*drop",
    ),
    "nothing but NaN": (lambda m: m.fit(X * np.nan), ValueError, r"total weight \d.*got 0"),
    "only constant columns": (
        lambda m: m.fit(np.ones((9, 2))),
        ValueError,
        "every column is const",
    ),
    "negative weights": (
        lambda m: m.fit(X, sample_weight=np.r_[-1.0, np.ones(N - 1)]),
        ValueError,
        "[Nn]egative.*sample_weight|weights are counts",
    ),
    "infinite weights": (
        lambda m: m.fit(X, sample_weight=np.r_[np.inf, np.ones(N - 1)]),
        ValueError,
        "infinity|counts",
    ),
    "weights that are NaN": (
        lambda m: m.fit(X, sample_weight=np.full(N, np.nan)),
        ValueError,
        "NaN|counts",
    ),
    "no weight": (
        lambda m: m.fit(X, sample_weight=np.zeros(N)),
        ValueError,
        "weight.*zero|zero.*weight",
    ),
    "too few weights": (
        lambda m: m.fit(X, sample_weight=np.ones(N - 1)),
        ValueError,
        r"sample_weight.*\(59,\)",
    ),
    "weights with two axes": (
        lambda m: m.fit(X, sample_weight=np.ones((N, 1))),
        ValueError,
        "[Ss]ample.weight.*1D",
    ),
    "too little weight": (
        lambda m: m.fit(X, sample_weight=np.r_[1.0, np.zeros(N - 1)]),
        ValueError,
        r"total weight \d.*got 1",
    ),
    "weights as words": (
        lambda m: m.fit(X, sample_weight=["heavy"] * N),
        (ValueError, TypeError),
        "heavy|string|numeric",
    ),
}


@pytest.mark.parametrize("what", FIT)
@sweep(["gmm", "mixture-t", "vb", "fa", "fa-em", *(["vae"] * ("vae" in MODELS))])
def test_what_no_fit_accepts(name, what):
    call, kind, pattern = FIT[what]
    model = make(name)
    refused(lambda: call(model), kind, pattern)
    assert "n_features_in_" not in vars(model)  # as it was


FITTED = {
    "unfitted score_samples": (lambda n: make(n).score_samples(X), NotFittedError, "not fitted"),
    "unfitted sample": (lambda n: make(n).sample(), NotFittedError, "not fitted"),
    "unfitted impute": (lambda n: make(n).impute(X), NotFittedError, "not fitted"),
    "unfitted marginal": (lambda n: make(n).marginal([0]), NotFittedError, "not fitted"),
    "unfitted inverse": (
        lambda n: make(n).inverse_transform(np.ones((1, 1))),
        NotFittedError,
        "not fitted",
    ),
    "unfitted attribute": (lambda n: make(n).history_, NotFittedError, "history_ before fit"),
    "unfitted constant_": (lambda n: make(n).constant_, NotFittedError, "constant_ before fit"),
    "fewer columns": (
        lambda n: fitted(n).score_samples(X[:, :2]),
        ValueError,
        "X has 2 features.*expecting 3",
    ),
    "more columns": (
        lambda n: fitted(n).impute(np.ones((2, 4))),
        ValueError,
        "X has 4 features.*expecting 3",
    ),
    "columns in another order": (
        lambda n: make(n).fit(frame()).score_samples(frame()[["b", "a", "c"]]),
        ValueError,
        "feature names.*same order",
    ),
    "columns of other names": (
        lambda n: make(n).fit(frame()).score_samples(frame(("a", "b", "x"))),
        ValueError,
        "feature names.*x",
    ),
    "no samples": (lambda n: fitted(n).sample(0), ValueError, "n_samples.*at least 1, got 0"),
    "half a sample": (lambda n: fitted(n).sample(1.5), ValueError, "n_samples.*got 1.5"),
    "a true sample": (lambda n: fitted(n).sample(True), ValueError, "n_samples.*got True"),
    "a random_state that is none": (
        lambda n: fitted(n).sample(2, random_state="dice"),
        ValueError,
        "dice",
    ),
    "an unknown imputation": (
        lambda n: fitted(n).impute(X, how="median"),
        ValueError,
        "how must be.*got 'median'",
    ),
    "an imputation that is a number": (
        lambda n: fitted(n).impute(X, how=3),
        ValueError,
        "how must be.*got 3",
    ),
    "no draws": (
        lambda n: fitted(n).impute(X, how="sample", n_draws=0),
        ValueError,
        "n_draws.*got 0",
    ),
    "many means": (
        lambda n: fitted(n).impute(X, n_draws=3),
        ValueError,
        "n_draws=3 needs how='sample'",
    ),
    "a wrong width of latents": (
        lambda n: fitted(n).inverse_transform(np.ones((2, 7))),
        ValueError,
        "needs . columns, one per.*got 7",
    ),
    "latents with NaN": (
        lambda n: fitted(n).inverse_transform(np.full((2, fitted(n).n_components), np.nan)),
        ValueError,
        "NaN",
    ),
    "a column that is not there": (lambda n: fitted(n).marginal([3]), ValueError, r"0\.\.2.*\[3\]"),
    "a column below": (lambda n: fitted(n).marginal([-4]), ValueError, r"0\.\.2.*\[-4\]"),
    "half a column": (lambda n: fitted(n).marginal([0.5]), ValueError, r"0\.\.2.*0\.5"),
    "a column twice": (lambda n: fitted(n).marginal([1, 1]), ValueError, r"once each.*\[1, 1\]"),
    "a column twice, once from behind": (
        lambda n: fitted(n).marginal([1, -2]),
        ValueError,
        r"once each.*\[1, -2\]",
    ),
    "no column": (lambda n: fitted(n).marginal([]), ValueError, r"at least one, got \[\]"),
    "an empty slice": (
        lambda n: fitted(n).marginal(slice(0, 0)),
        ValueError,
        "at least one.*slice",
    ),
    "an empty mask": (
        lambda n: fitted(n).marginal([False] * 3),
        ValueError,
        r"at least one, got \[False",
    ),
    "a short mask": (lambda n: fitted(n).marginal([True, False]), ValueError, "3 entries, got 2"),
    "a name without names": (lambda n: fitted(n).marginal("a"), ValueError, r"unknown columns.*a"),
    "an unknown name": (
        lambda n: make(n).fit(frame()).marginal(["a", "z"]),
        ValueError,
        r"unknown columns \['z'\].*'a', 'b', 'c'",
    ),
    "a name twice": (
        lambda n: make(n).fit(frame()).marginal(["a", "a"]),
        ValueError,
        r"once each.*'a', 'a'",
    ),
    "columns with two axes": (
        lambda n: fitted(n).marginal([[0, 1]]),
        ValueError,
        r"columns.*\[\[0, 1\]\]",
    ),
    "score weights of another length": (
        lambda n: fitted(n).score(X, sample_weight=[1.0, 2.0]),
        ValueError,
        r"sample_weight.*\(2,\)",
    ),
}


@pytest.mark.parametrize("what", FITTED)
@sweep(["gmm", "vb", "fa"])
def test_what_no_verb_accepts(name, what):
    refused(lambda: FITTED[what][0](name), *FITTED[what][1:])


CONDITION = {
    "too few values": (([0, 1], [1.0]), r"each of 2 columns.*\[1\.\]"),
    "too many values": (([0], [1.0, 2.0]), r"each of 1 columns.*1\., 2\."),
    "a value that is NaN": (([0], [np.nan]), "finite.*nan"),
    "an infinite value": (([0], [np.inf]), "finite.*inf"),
    "a word": (([0], ["warm"]), "warm"),
    "every column": (([0, 1, 2], [1.0, 2.0, 3.0]), "no column"),
    "no column": (([], []), "at least one"),
    "a column that is not there": (([5], [1.0]), r"0\.\.2"),
    "a column twice": (([0, 0], [1.0, 1.0]), "once each"),
}


@pytest.mark.parametrize("what", CONDITION)
@sweep(["gmm", "vb", "fa"])
def test_what_condition_refuses(name, what):
    arguments, pattern = CONDITION[what]
    refused(lambda: fitted(name).condition(*arguments), ValueError, pattern)


# --- constructor values -----------------------------------------------------------------------

VALUES = [
    ("gmm", "n_components", 0),
    ("gmm", "n_components", 2.0),
    ("gmm", "n_components", "three"),
    ("gmm", "covariance_type", "round"),
    ("gmm", "covariance_prior", -1.0),
    ("gmm", "covariance_prior", "cv"),
    ("gmm", "reg_covar", -1e-6),
    ("gmm", "reg_covar", np.nan),
    ("gmm", "tol", -1.0),
    ("gmm", "max_iter", 0),
    ("gmm", "n_init", 0),
    ("gmm", "init_params", "magic"),
    ("gmm", "accelerate", "rocket"),
    ("gmm", "random_state", "dice"),
    ("gmm", "verbose_interval", 0),
    ("gmm", "warm_start", "yes"),
    ("gmm", "n_jobs", 1.5),
    ("mixture", "emission", 3),
    ("vb", "weight_concentration_prior", 0.0),
    ("vb", "mean_precision_prior", 0.0),
    ("vb", "degrees_of_freedom_prior", -1.0),
    ("fa", "n_components", -1),
    ("fa", "n_components", "all"),
    ("fa", "solver", "newton"),
    ("fa", "heywood_penalty", -0.1),
]


@pytest.mark.parametrize(("name", "parameter", "value"), VALUES)
def test_constructor_values_are_checked_in_fit(name, parameter, value):
    model = make(name).set_params(**{parameter: value})  # says nothing yet
    pattern = f"'{parameter}' parameter.*Got {re.escape(repr(value))} instead"
    refused(lambda: model.fit(X), ValueError, pattern)


def good(name, **changes):
    return make(name).set_params(**changes)


CONSTRUCTED = {
    "an unknown emission": (
        lambda: Mixture(2, emission="cauchy").fit(X),
        "emission must be one of.*StudentT.*got 'cauchy'",
    ),
    "df below a half": (
        lambda: Mixture(2, emission=StudentT(df=0.1)).fit(X),
        "df must be a number of at least 0.5, got 0.1",
    ),
    "df that is NaN": (lambda: Mixture(2, emission=StudentT(df=np.nan)).fit(X), "df.*got nan"),
    "df that is infinite": (lambda: Mixture(2, emission=StudentT(df=np.inf)).fit(X), "df.*got inf"),
    "df that is a word": (
        lambda: Mixture(2, emission=StudentT(df="four")).fit(X),
        "df.*got 'four'",
    ),
    "weights_init of the wrong sum": (
        lambda: good("gmm", weights_init=[0.5, 0.6]).fit(X),
        r"2 non-negative numbers with sum 1.*0\.6",
    ),
    "weights_init of the wrong length": (
        lambda: good("gmm", weights_init=[0.5, 0.3, 0.2]).fit(X),
        "2 non-negative numbers",
    ),
    "means_init of the wrong shape": (
        lambda: good("gmm", means_init=np.ones((2, 2))).fit(X),
        r"means_init.*\(2, 3\).*\(2, 2\)",
    ),
    "means_init with NaN": (
        lambda: good("gmm", means_init=np.full((2, 3), np.nan)).fit(X),
        "means_init must be finite",
    ),
    "precisions_init of the wrong shape": (
        lambda: good("gmm", precisions_init=np.eye(3)).fit(X),
        r"\(2, 3, 3\)",
    ),
    "precisions_init that is singular": (
        lambda: good("gmm", precisions_init=np.zeros((2, 3, 3))).fit(X),
        "invertible",
    ),
    "precisions_init that is indefinite": (
        lambda: good("gmm", precisions_init=np.tile(np.diag([1.0, 1.0, -1.0]), (2, 1, 1))).fit(X),
        "positive definite",
    ),
    "precisions_init that is negative": (
        lambda: good("gmm-diag", precisions_init=-np.ones((2, 3))).fit(X),
        "positive",
    ),
    "mean_prior of the wrong length": (
        lambda: good("vb", mean_prior=[1.0, 2.0]).fit(X),
        r"mean_prior.*\(3,\).*\(2,\)",
    ),
    "covariance_prior of the wrong shape": (
        lambda: good("vb", covariance_prior=np.eye(2)).fit(X),
        r"\(.*3, 3\).*\(.*2, 2\)",
    ),
    "covariance_prior that is indefinite": (
        lambda: good("vb", covariance_prior=np.diag([1.0, 1.0, -1.0])).fit(X),
        "positive definite",
    ),
    "covariance_prior that is not symmetric": (
        lambda: good("vb", covariance_prior=np.eye(3) + np.eye(3, k=1)).fit(X),
        "symmetric",
    ),
    "too few degrees of freedom": (
        lambda: good("vb", degrees_of_freedom_prior=1.5).fit(X),
        "degrees_of_freedom_prior must exceed 2, got 1.5",
    ),
    "less weight than components": (
        lambda: good("gmm", n_components=70).fit(X),
        "total weight 70 at least, got 60",
    ),
    "profile likelihood with NaN": (
        lambda: EMFactorAnalysis(1, solver="profile").fit(with_entry(np.nan)),
        "profile.*NaN.*'em' or 'auto'",
    ),
    "a warm start with other constants": (
        lambda: make("gmm-warm").fit(X).fit(X[:, :2]),
        "warm_start goes on",
    ),
}


@pytest.mark.parametrize("what", CONSTRUCTED)
def test_what_fit_makes_of_constructor_values(what):
    call, pattern = CONSTRUCTED[what]
    refused(call, ValueError, pattern)


LABELS = {
    "too few": ([0, 1], "one entry per row.*60"),
    "two axes": (np.zeros((N, 2), int), r"one entry per row.*\(60, 2\)"),
    "a component too many": (np.full(N, 2), "from -1 .unknown. to 1"),
    "below unknown": (np.full(N, -2), "from -1 .unknown. to 1"),
    "fractions": (np.full(N, 0.5), "integers"),
    "NaN": (np.full(N, np.nan), "integers"),
    "words": (["left"] * N, "integers.*left"),
    "truth values": (np.zeros(N, bool), "integers"),
}


@pytest.mark.parametrize("what", LABELS)
@pytest.mark.parametrize("name", ["gmm", "mixture-t", "vb-tight"])
def test_labels_that_are_refused(name, what):
    labels, pattern = LABELS[what]
    refused(lambda: make(name).fit(X, labels=labels), ValueError, pattern)


# --- from_parameters --------------------------------------------------------------------------

EYES = np.tile(np.eye(2), (2, 1, 1))
GMM = {"weights": [0.5, 0.5], "means": np.zeros((2, 2)), "covariances": EYES}
VB = {
    "weight_concentration": [1.0, 2.0],
    "means": np.zeros((2, 2)),
    "mean_precision": [1.0, 1.0],
    "degrees_of_freedom": [4.0, 4.0],
    "covariances": EYES,
}
FA = {"components": [[1.0, 2.0]], "noise_variance": [1.0, 1.0], "mean": [0.0, 0.0]}
EMISSION = fitted("mixture-t").emission_

PARAMETERS = [
    (GaussianMixture, GMM, {"weights": [0.5, 0.6]}, r"weights.*sum 1.*0\.6"),
    (GaussianMixture, GMM, {"weights": [1.5, -0.5]}, r"weights.*non-negative.*-0\.5"),
    (GaussianMixture, GMM, {"weights": [np.nan, 1.0]}, "weights.*nan"),
    (GaussianMixture, GMM, {"weights": []}, "weights"),
    (GaussianMixture, GMM, {"weights": 1.0}, "weights"),
    (GaussianMixture, GMM, {"weights": ["a", "b"]}, "'a'"),
    (GaussianMixture, GMM, {"means": np.zeros((3, 2))}, r"means.*\(2, any\).*\(3, 2\)"),
    (GaussianMixture, GMM, {"means": [0.0, 0.0]}, r"means.*two axes|means.*\(2, .*\(2,\)"),
    (GaussianMixture, GMM, {"means": np.full((2, 2), np.inf)}, "means must be finite"),
    (GaussianMixture, GMM, {"covariances": np.eye(2)}, r"\(2, 2, 2\).*\(2, 2\)"),
    (GaussianMixture, GMM, {"covariances": -EYES}, "positive definite"),
    (GaussianMixture, GMM, {"covariances": EYES + np.eye(2, k=1)}, "symmetric"),
    (GaussianMixture, GMM, {"covariances": EYES * np.nan}, "finite"),
    (GaussianMixture, GMM, {"covariances": None}, "exactly one of covariances and precisions"),
    (GaussianMixture, GMM, {"precisions": EYES}, "exactly one of covariances and precisions"),
    (GaussianMixture, GMM, {"covariances": None, "precisions": 0 * EYES}, "invertible"),
    (GaussianMixture, GMM, {"covariance_type": "round"}, "covariance_type.*'round'"),
    (
        GaussianMixture,
        GMM,
        {"covariance_type": "diag", "covariances": -np.ones((2, 2))},
        "positive",
    ),
    (GaussianMixture, GMM, {"covariance_type": "spherical", "covariances": np.ones(3)}, r"\(2,\)"),
    (Mixture, {"weights": [1.0], "emission": EMISSION}, {}, "1 weights for 2 components"),
    (Mixture, {"weights": [0.5, 0.5], "emission": "gaussian"}, {}, "Emission.*'gaussian'"),
    (VariationalGMM, VB, {"weight_concentration": [1.0, 0.0]}, "positive"),
    (VariationalGMM, VB, {"weight_concentration": 1.0}, "weight_concentration"),
    (VariationalGMM, VB, {"weight_concentration": [np.inf, 1.0]}, "weight_concentration"),
    (VariationalGMM, VB, {"means": 0.0}, "means"),
    (VariationalGMM, VB, {"means": np.zeros((3, 2))}, r"means.*\(3, 2\)"),
    (VariationalGMM, VB, {"mean_precision": [1.0]}, r"mean_precision.*\(2,\).*\(1,\)"),
    (VariationalGMM, VB, {"mean_precision": [1.0, -1.0]}, "positive"),
    (VariationalGMM, VB, {"degrees_of_freedom": [4.0, 1.0]}, "degrees_of_freedom.*exceed 1"),
    (VariationalGMM, VB, {"covariances": -EYES}, "positive definite"),
    (EMFactorAnalysis, FA, {"noise_variance": [1.0, 0.0]}, "noise_variance must be positive"),
    (EMFactorAnalysis, FA, {"noise_variance": [1.0, 1.0, 1.0]}, r"noise_variance.*\(2,\)"),
    (EMFactorAnalysis, FA, {"noise_variance": "loud"}, "loud"),
    (EMFactorAnalysis, FA, {"components": np.ones((1, 1, 2))}, "components"),
    (EMFactorAnalysis, FA, {"components": [[1.0, np.nan]]}, "components must be finite"),
    (EMFactorAnalysis, FA, {"mean": [0.0]}, r"mean.*\(2,\).*\(1,\)"),
]


@pytest.mark.parametrize(("cls", "known", "changes", "pattern"), PARAMETERS)
def test_parameters_that_are_refused(cls, known, changes, pattern):
    kind = (ValueError, TypeError)
    refused(lambda: cls.from_parameters(**(known | changes)), kind, pattern)


def test_parameters_that_are_accepted():
    for cls, known in [(GaussianMixture, GMM), (VariationalGMM, VB), (EMFactorAnalysis, FA)]:
        assert np.isfinite(cls.from_parameters(**known).score_samples(np.zeros((1, 2)))).all()


MATRICES = {
    "not square": ((np.ones((3, 2)), 50), "square"),
    "not symmetric": ((np.eye(3) + np.eye(3, k=1), 50), "symmetric"),
    "a zero variance": ((np.diag([1.0, 0.0, 1.0]), 50), "positive diagonal"),
    "correlations above one": ((np.eye(2) + 2 * np.eye(2)[::-1], 50), "positive semidefinite"),
    "with NaN": ((np.full((2, 2), np.nan), 50), "NaN"),
    "too few rows": ((np.eye(3), 1), "n_samples must be at least 2, got 1"),
    "NaN rows": ((np.eye(3), np.nan), "n_samples.*got nan"),
    "infinitely many rows": ((np.eye(3), np.inf), "n_samples.*got inf"),
    "rows as a word": ((np.eye(3), "many"), "n_samples.*got 'many'"),
    "a mean of another length": ((np.eye(3), 50, [0.0]), r"mean.*\(3,\).*\(1,\)"),
}


@pytest.mark.parametrize("what", MATRICES)
def test_covariances_that_factor_analysis_refuses(what):
    arguments, pattern = MATRICES[what]
    model = EMFactorAnalysis(1)
    refused(lambda: model.fit_covariance(*arguments), (ValueError, TypeError), pattern)
    assert "n_features_in_" not in vars(model)


def test_fit_covariance_needs_the_profile():
    model = EMFactorAnalysis(1, solver="em")
    refused(lambda: model.fit_covariance(np.eye(3), 9), ValueError, "solver='auto'")


# --- degenerate data are data -----------------------------------------------------------------


def _rng():
    return np.random.default_rng(0)


DEGENERATE = {
    "a constant column": np.insert(X, 1, 7.0, axis=1),
    "duplicate columns": X[:, [0, 1, 1, 2, 0]],
    "a column that is the sum of others": np.column_stack([X, X.sum(axis=1)]),
    "duplicate rows": np.tile(X[:12], (5, 1)),
    "fewer rows than columns": _rng().normal(size=(8, 20)),
    "two rows": X[:2],
    "an offset of 1e8": X + 1e8,
    "a scale of 1e-8": 1e-8 * X,
    "scales far apart": X * [1e8, 1.0, 1e-8],
    "a scale of 1e150": 1e150 * X,
    "one distinct row but for one": np.concatenate([np.tile(X[:1], (30, 1)), X[1:2]]),
    "a row of NaN": np.concatenate([X, np.full((1, 3), np.nan)]),
    "a huge outlier": np.concatenate([X, np.full((1, 3), 1e9)]),
    "rows on a line": np.outer(np.linspace(-1, 1, 40), [1.0, 2.0, 3.0]) + 5,
    "rounded values": np.round(X / X.std(axis=0)),
    "zeros and ones": (_rng().uniform(size=(60, 3)) < 0.3).astype(float),
    "integers": np.arange(60).reshape(20, 3) % 7,
    "one entry per row": np.where(np.eye(3, dtype=bool)[np.arange(N) % 3], X, np.nan),
    "nearly everything missing": np.where(_rng().uniform(size=X.shape) < 0.1, X, np.nan),
    "single precision": X.astype(np.float32),
    "a column seen twice": np.column_stack([X[:, :2], np.r_[X[:2, 2], np.full(N - 2, np.nan)]]),
    "one column": X[:, :1],
}


@pytest.mark.filterwarnings("ignore:columns .* are constant")
@pytest.mark.parametrize("what", DEGENERATE)
@sweep(["gmm", "gmm-tied", "gmm-diag", "gmm-spherical", "mixture-t", "vb", "fa", "fa-em"])
def test_degenerate_data_get_a_finite_fit(name, what):
    data = DEGENERATE[what]
    model = make(name)
    if name in DISCRETE and len(data) < model.n_components:
        model.set_params(n_components=len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said, not hidden: other tests
        model.fit(data)
    assert np.isfinite(model.history_).all()
    assert np.isfinite(model.score_samples(data)).all()
    assert np.isfinite(model.transform(data)).all()
    assert np.isfinite(model.sample(5, random_state=0)[0]).all()
    assert np.isfinite(model.impute(np.where(np.eye(len(data), data.shape[1]), np.nan, data))).all()
    assert np.isfinite(model.bic(data))
    if name in DISCRETE:
        assert model.weights_.sum() == pytest.approx(1.0)
        assert np.isfinite(model.means_).all()


@sweep(["gmm", "gmm-tied", "gmm-diag", "gmm-spherical", "mixture-t", "vb"])
def test_more_components_than_distinct_rows(name):
    data = np.tile(X[:3], (10, 1))
    model = make(name).set_params(n_components=5).fit(data)
    assert np.isfinite(model.score_samples(data)).all()
    assert np.isfinite(model.score_samples(X)).all()
    assert model.weights_.shape == (5,) and model.weights_.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_more_components_than_distinct_rows_from_every_start(init_params):
    data = np.tile(X[:3], (10, 1))
    model = GaussianMixture(5, init_params=init_params, random_state=0).fit(data)
    assert np.isfinite(model.score_samples(data)).all()


def test_a_collapse_is_named_and_so_is_the_cure():
    data = np.tile(X[:3], (10, 1))
    model = GaussianMixture(3, covariance_prior=0.0, random_state=0)
    refused(lambda: model.fit(data), ValueError, "singular.*covariance_prior='auto'.*reg_covar")


def test_a_few_identical_rows_do_not_take_a_component_alone():
    data = np.concatenate([X, np.tile(X[:1], (20, 1))])
    model = GaussianMixture(3, random_state=0).fit(data)
    assert model.score_samples(X[:1])[0] < 40  # a point mass would score without bound
