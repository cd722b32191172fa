"""A Gaussian mixture that chooses its number of components, its structure and its prior."""

import numpy as np

from ._compat import Integral, Interval, Real, StrOptions, _fit_context
from .alignment import AlignedComponents
from .base import all_or_nothing, fitted
from .cases import Cases
from .components import canonical_order
from .emissions.family import STRUCTURES, CovarianceFamily, named_structure
from .inference.em import em
from .inference.growth import Part
from .inference.moments import pooled_moments
from .inference.start import complete_by_draw
from .mixture import GaussianMixture
from .mixture_verbs import GaussianVerbs, MixtureVerbs
from .size_search import CRITERIA, SizeSearch
from .validation import read_rows, read_weight, telling, training_data


class AutoGaussianMixture(AlignedComponents, GaussianVerbs, MixtureVerbs):
    """Gaussian mixture that chooses components, covariance structure and prior by itself.

    The search goes through ever more components. Each candidate starts from its neighbours, a
    state of fewer components split, one of more merged, one under a stronger prior as it is, and
    from k-means. The candidate of highest score is finished on all rows.

    Parameters
    ----------
    n_components : int, default=25
        Largest number of components; all up to 8 are tried, then steps of a quarter. There are
        never more than half the distinct training rows.
    covariance_types : sequence of str, default=("full", "diag", "VEI")
        Structures that are tried, by the words of `GaussianMixture`. The default ones give the
        same model in whatever units the columns are.
    prior_strengths : "auto" or sequence of float, default="auto"
        Multiples of ``covariance_prior="auto"`` that are tried: positive. "auto" is 4, 1, 1/4,
        2**-5, 2**-10, 2**-16 where rows are held out, and 1 for other criteria, to which a weaker
        prior always looks better. After two in a row that score lower than a stronger one, weaker
        ones are left out for that size.
    criterion : {"cv", "bic", "icl"}, default="cv"
        What the score of a candidate is: the mean log-likelihood of rows held out, or minus half
        the information criterion per unit weight, of which the highest is taken.
    cv : int, cross-validation splitter or iterable of (train, test) positions, default=5
        Folds, where the criterion is "cv". An integer makes folds of distinct rows, in an order
        that the set of rows alone decides.
    patience : int, default=3
        Sizes in a row without a higher score, after which a structure is left alone.
    tol : float, default=1e-6
        The chosen model is finished until the gain still to come is below tol nats per unit weight.
    max_iter : int, default=1000
        Largest number of passes over the rows when the chosen model is finished.
    accelerate : "squarem" or None, default="squarem"
        Extrapolation of these EM steps.
    random_state : int, RandomState instance or None, default=None
        Randomness of folds and starts.
    n_jobs : int or None, default=None
        Processes that share the folds.
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Iterations between prints.

    Attributes
    ----------
    n_components_, covariance_type_, prior_strength_ : int, str, float
        What was chosen.
    results_ : dict of ndarrays
        One entry per candidate: "n_components", "covariance_type", "prior_strength", "score",
        "held_out" and its standard error "held_out_se" over the folds (NaN for other criteria;
        nats per unit weight), and of all rows "log_likelihood", "bic", "icl", "n_parameters".
        ``pandas.DataFrame(model.results_)`` is a table.
    best_index_ : int
        The chosen candidate's position in `results_`.
    weights_, means_, covariances_, precisions_, precisions_cholesky_
        As in `GaussianMixture`.
    lower_bound_, history_, n_iter_, converged_, n_parameters_, score_kind_, base_measure_
        The same in every model.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, and for columns without any entry.

    References
    ----------
    Fraley & Raftery (2002) for the choice of size and structure by BIC, Biernacki, Celeux & Govaert
    (2000) for ICL, Smyth (2000) for the choice by cross-validated likelihood, Ueda et al. (2000)
    for splits and merges.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import AutoGaussianMixture
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(m, 1.0, size=(80, 2)) for m in (-6, 0, 6)])
    >>> model = AutoGaussianMixture(n_components=6, random_state=0).fit(X)
    >>> model.n_components_
    3
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_types": ["array-like"],
        "prior_strengths": [StrOptions({"auto"}), "array-like"],
        "criterion": [StrOptions(set(CRITERIA))],
        "cv": ["cv_object"],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "accelerate": [StrOptions({"squarem"}), None],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=25,
        *,
        covariance_types=("full", "diag", "VEI"),
        prior_strengths="auto",
        criterion="cv",
        cv=5,
        patience=3,
        tol=1e-6,
        max_iter=1000,
        accelerate="squarem",
        random_state=None,
        n_jobs=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.covariance_types = covariance_types
        self.prior_strengths = prior_strengths
        self.criterion = criterion
        self.cv = cv
        self.patience = patience
        self.tol = tol
        self.max_iter = max_iter
        self.accelerate = accelerate
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Search, then finish the chosen mixture on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries, which are integrated out exactly.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts: an integer weight equals repeating the row.

        Returns
        -------
        self : object
        """
        structures, strengths = self._checked_candidates()
        X = read_rows(self, X, reset=True)
        weight = read_weight(sample_weight, X)
        data = training_data(self, X, weight)
        family = self._family(data)
        parts = self._parts(X[:, ~data.constant], weight * telling(X, weight), family)
        search = SizeSearch(
            parts,
            family,
            CRITERIA[self.criterion],
            self._largest(parts),
            strengths,
            self.patience,
            self.n_jobs,
        )
        try:
            run = self._drive(lambda: self._climb(data, search, structures), data)
        finally:
            self._results, self._best_index = search.results()
        means = (run.state.emission.means - family.mean) / np.sqrt(family.variance)
        order = canonical_order(run.state.weights.mean, means)
        run = run._replace(state=run.state.take(order), stats=run.stats.take(order))
        return self._finish(run, data)

    def _checked_candidates(self):
        structures = list(self.covariance_types)
        unknown = [word for word in structures if word not in STRUCTURES]
        if unknown or not structures:
            raise ValueError(
                f"covariance_types must be a sequence of {sorted(STRUCTURES)}, got "
                f"{self.covariance_types!r}"
            )
        given = self.prior_strengths
        if isinstance(given, str):
            given = CRITERIA[self.criterion].strengths
        strengths = np.unique(np.asarray(given, dtype=np.float64))[::-1]
        if not len(strengths) or not (np.isfinite(strengths) & (strengths > 0)).all():
            raise ValueError(
                f"prior_strengths must be positive numbers, got {self.prior_strengths!r}"
            )
        return structures, strengths.tolist()

    def _family(self, data):
        mean, pooled = pooled_moments(data.X, data.weight)
        return CovarianceFamily(
            STRUCTURES["full"], "auto", 0.0, mean, pooled, float(data.weight.sum())
        )

    def _largest(self, parts):
        return max(1, min(self.n_components, *(len(part.train.X) // 2 for part in parts)))

    def _parts(self, X, weight, family):
        """All rows, then what each fold trains on and holds out, if the criterion asks for it."""
        rng = self._rng()
        cases = Cases.of(X, weight, True, rng)
        rows = X[cases.position]
        masses = [(cases.mass, 0.0 * cases.mass)]
        if CRITERIA[self.criterion].needs_folds:
            masses += cases.folds(self.cv)

        def complete(sample):
            filled = complete_by_draw(sample.X, family.mean, family.target(1), rng)
            return (filled - family.mean) / np.sqrt(family.variance)

        seed = int(rng.integers(2**31 - 1))
        return [Part.of(rows, train, test, complete, seed) for train, test in masses]

    def _climb(self, data, search, structures):
        return em(
            search.run(structures),
            (data.X, data.weight),
            max_iter=self.max_iter,
            tol=self.tol,
            accelerate=self.accelerate,
            callback=self._progress(data),
        )

    @property
    def _derived(self):
        return GaussianMixture

    def _params_of(self, state, kept):
        word = named_structure(state.emission.cov, "full")
        return {"n_components": state.n_latents, "covariance_type": word}

    @fitted
    def results_(self):
        """What was measured of each candidate."""
        return self._results

    @fitted
    def best_index_(self):
        """The position of the chosen candidate in `results_`."""
        return self._best_index

    @fitted
    def n_components_(self):
        """The chosen number of components."""
        return self.run_.state.n_latents

    @fitted
    def covariance_type_(self):
        """The chosen structure."""
        return str(self._results["covariance_type"][self._best_index])

    @fitted
    def prior_strength_(self):
        """The chosen multiple of ``covariance_prior="auto"``."""
        return float(self._results["prior_strength"][self._best_index])
