"""Variational autoencoder: a nonlinear decoder, scored as the density that it is."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch

from ._compat import Integral, Interval, Real, StrOptions, _fit_context
from .any_likelihood import LIKELIHOOD_CONSTRAINTS, AnyLikelihood
from .base import LatentVariableModel, all_or_nothing, fitted
from .inference.history import FitInterrupted
from .inference.sgd import TrainingRows, round_significant, train
from .networks.autoencoder import Autoencoder, hidden_sizes
from .networks.importance import normal_points, row_blocks
from .networks.likelihoods import Likelihood, joined
from .networks.linear import linear_parameters
from .vae_start import linear_start, units_of
from .vae_state import VAEState
from .validation import checked_array, read_training_data

JUDGE_POINTS = 32  # of the importance-weighted bound that chooses the epoch


class VAE(AnyLikelihood, LatentVariableModel):
    """Variational autoencoder for tables, with missing entries, weights and real densities.

    p(x) = integral of p(x | z) N(z; 0, I) over z, where p(x | z) has independent columns whose
    parameters are a network of z, with a linear path beside it. Training starts at factor analysis
    (Gaussian columns), which the network bends, and keeps the epoch that held-out rows like best,
    the start included. `score_samples` estimates log p(x) itself, not a bound: for each row it
    looks for the most probable z and weighs points spread around it.

    Parameters
    ----------
    n_components : int, default=2
        Number of latent dimensions q.
    likelihood : str, spec or list of pairs, default="auto"
        p(x_j | z): of every column by a name, or of groups by pairs such as
        ``[("gaussian", [0, 1]), ("categorical", ["colour"])]`` with columns named as in
        ColumnTransformer. "auto" reads the dtypes of a DataFrame: bool is "bernoulli", category
        "categorical", everything else and every array "gaussian". The names:

        * "gaussian"; "student_t", with heavier tails and degrees of freedom for each column;
          "log_normal", of positive numbers;
        * "continuous_bernoulli", of numbers from 0 to 1;
        * "bernoulli", of 0 and 1; "categorical", of codes 0, 1, 2, ...;
        * "poisson", of counts; "negative_binomial", of counts with a dispersion for each column.

        ``StudentT(df=4)`` and ``Categorical(n_categories=5)`` fix what is learned otherwise.
    decoder_variance : {"network", "column", "shared"}, default="network"
        The variance of columns with a scale (of log-normal ones: of the logarithm): a function of
        z, one number per column, or one number for all standardised columns of a group.
    hidden_layer_sizes : tuple of int, default=(64, 64)
        Widths of the encoder's hidden layers, the decoder's in reverse; () is the linear model.
    noise_floor : float, default=1e-2
        Smallest standard deviation of p(x_j | z), in standard deviations of the column. Without a
        floor the likelihood has no upper bound.
    learning_rate_init : float, default=1e-3
        Step length of AdamW.
    weight_decay : float, default=1e-2
        Of AdamW, on the matrices of the hidden layers: towards the linear model.
    batch_size : int or "auto", default="auto"
        Rows per step; "auto" is an eighth of them, 16 at least and 128 at most.
    max_iter : int, default=500
        Largest number of epochs.
    tol : float, default=1e-4
        Gain, in nats per row, that counts as progress.
    n_iter_no_change : int, default=50
        Epochs without progress before training stops.
    validation_fraction : float, default=0.15
        Share of the distinct rows (5000 at most) held out to choose the epoch; with 0, and with
        fewer than 20 distinct rows, all rows train and the last epoch is kept.
    n_importance_samples : int, default=256
        Points per row in `score_samples` and `impute`; more are more accurate and slower.
    device : str, default="cpu"
        Where training runs: "cpu", "cuda", ..., or "auto". Everything after it runs on the CPU.
    random_state : int, RandomState instance or None, default=None
        Held-out rows, weights, batches, and the points that all rows share.
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Epochs between prints.

    Attributes
    ----------
    parameters_ : mapping of str to ndarray
        Weights of encoder and decoder, for standardised columns; float32 or float64 as X was.
    location_, scale_ : ndarray of shape (n_varying_features,), float64
        What is subtracted from a column, of a log-normal one from its logarithm, and what divides
        it; 0 and 1 where a unit means something: for bits, codes, counts and numbers up to 1.
    likelihood_ : str, spec or list of pairs
        What "auto" chose, else `likelihood`.
    categories_ : tuple of (ndarray or None)
        For columns that were of dtype category in fit their categories. Such a column is read as
        codes, positions among these; samples and imputations hold codes.
    points_ : ndarray of shape (n_importance_samples, n_components), float64
        Standard normal quasi-random noise, drawn once: a score depends on its row alone.
    history_ : ndarray of shape (n_iter_ + 1,)
        The ELBO of the training rows at the start and in each epoch, one draw per row, in nats per
        unit weight and in the units of X.
    n_iter_, converged_, n_parameters_, score_kind_, base_measure_, constant_
        The same in every model. `n_parameters_` counts the decoder, less the rotations of z.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, for columns without any entry, for values outside
        the support of a likelihood, and for a device that is not there.

    References
    ----------
    Kingma & Welling (2014), Auto-encoding variational Bayes. Mattei & Frellsen (2018), Leveraging
    the exact likelihood of deep latent variable models. Cremer, Li & Duvenaud (2018), Inference
    suboptimality in variational autoencoders. Lucas, Tucker, Grosse & Norouzi (2019), Don't blame
    the ELBO! (the linear VAE). Owen & Zhou (2000) (deterministic mixture sampling).

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import VAE
    >>> rng = np.random.default_rng(0)
    >>> t = rng.uniform(-2, 2, size=300)
    >>> X = np.column_stack([t, t**2]) + 0.1 * rng.normal(size=(300, 2))
    >>> X[::10, 1] = np.nan
    >>> model = VAE(n_components=1, tol=0.05, n_iter_no_change=20, random_state=0).fit(X[:200])
    >>> bool(model.score(X[200:]) > model.score(X[200:] + [0.0, 1.0]))
    True
    >>> model.transform(X).shape
    (300, 1)
    """

    _input_dtype = [np.float64, np.float32]

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        **LIKELIHOOD_CONSTRAINTS,
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0.0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0.0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0.0, 1.0, closed="left")],
        "n_importance_samples": [Interval(Integral, 16, None, closed="left")],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=2,
        *,
        likelihood="auto",
        decoder_variance="network",
        hidden_layer_sizes=(64, 64),
        noise_floor=1e-2,
        learning_rate_init=1e-3,
        weight_decay=1e-2,
        batch_size="auto",
        max_iter=500,
        tol=1e-4,
        n_iter_no_change=50,
        validation_fraction=0.15,
        n_importance_samples=256,
        device="cpu",
        random_state=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.likelihood = likelihood
        self.decoder_variance = decoder_variance
        self.hidden_layer_sizes = hidden_layer_sizes
        self.noise_floor = noise_floor
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.validation_fraction = validation_fraction
        self.n_importance_samples = n_importance_samples
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit by stochastic gradient ascent of the evidence lower bound.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries, which are left out of the likelihood. The networks
            compute in float32 where X is float32, else in float64.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts: an integer weight equals repeating the row, to the bit.

        Returns
        -------
        self : object
        """
        device = _device(self.device)
        hidden = _widths(self.hidden_layer_sizes)
        if self.n_importance_samples <= self.n_components:
            raise ValueError(
                f"n_importance_samples={self.n_importance_samples} must exceed n_components="
                f"{self.n_components}"
            )
        X = self._choose(X)
        data = read_training_data(self, X, sample_weight, dtype=self._input_dtype)
        likelihood = self._named(self._choice, data.constant)
        X = self._in_support(data.X, likelihood, data.constant)
        likelihood = joined(likelihood.told(X, data.weight))
        rng = self._rng()
        training, held_out = TrainingRows.of(
            likelihood.to_line(X), data.weight, units_of(likelihood)
        ).split(self.validation_fraction, rng)
        likelihood = likelihood.in_units(training.scale)
        linear = linear_start(training, self.n_components, likelihood, rng)
        parameters = linear_parameters(linear, hidden, likelihood, rng)
        parameters = {name: round_significant(v) for name, v in parameters.items()}
        points = normal_points(self.n_importance_samples, self.n_components, rng)
        state = VAEState(likelihood, parameters, training.location, training.scale, points)
        run = self._drive(lambda: self._climb(data, state, training, held_out, device, rng), data)
        return self._finish(run, data)

    def _climb(self, data, state, training, held_out, device, rng):
        """Train from a state: -> Run whose state and history are in the units of X."""
        shift = state.mean_log_jacobian(training)
        report = self._progress(data)
        X = torch.from_numpy(training.X.astype(data.X.dtype)).to(device)
        likelihood = state.likelihood.of_complete_rows() if data.complete else state.likelihood
        module = Autoencoder.of(state.parameters, likelihood, X.dtype, device)
        batch_size = self.batch_size
        if batch_size == "auto":
            batch_size = int(np.clip(training.weight.sum() / 8, 16, 128))

        def at(parameters):
            return replace(state, parameters=parameters)

        def in_units(run):
            return run._replace(state=at(run.state), history=run.history - shift)

        try:
            run = train(
                module,
                module.loss,
                X,
                training.weight,
                generator=torch.Generator(device).manual_seed(int(rng.integers(2**63))),
                max_iter=self.max_iter,
                batch_size=batch_size,
                learning_rate=self.learning_rate_init,
                tol=self.tol,
                n_iter_no_change=self.n_iter_no_change,
                judge=_judge(module, held_out, X, rng),
                weight_decay=self.weight_decay,
                decayed=module.bending_matrices(),
                callback=report and (lambda i, arrays, value: report(i, at(arrays), value - shift)),
            )
        except FitInterrupted as stop:
            raise FitInterrupted(in_units(stop.run)) from None
        return in_units(run)

    @fitted
    def score_kind_(self):
        """ "estimate": log p(x) by importance sampling with fixed points."""
        return "estimate"

    @fitted
    def parameters_(self):
        """{name: ndarray} weights of encoder and decoder."""
        parameters = {name: v.view() for name, v in self.run_.state.parameters.items()}
        for v in parameters.values():
            v.flags.writeable = False
        return MappingProxyType(parameters)

    @fitted
    def location_(self):
        """(n_varying_features,) what is subtracted from each column."""
        return self.run_.state.location

    @fitted
    def scale_(self):
        """(n_varying_features,) what divides each column."""
        return self.run_.state.scale

    @fitted
    def points_(self):
        """(n_importance_samples, n_components) standard normal noise shared by all rows."""
        return self.run_.state.points

    @classmethod
    def from_parameters(
        cls,
        *,
        parameters,
        location,
        scale,
        likelihood="gaussian",
        decoder_variance="network",
        noise_floor=1e-2,
        points=None,
        n_importance_samples=256,
        random_state=0,
    ):
        """A fitted autoencoder of known weights.

        Parameters
        ----------
        parameters : mapping of str to array-like
            Weights by the names of `parameters_`; their shapes say what the networks look like.
        location, scale : array-like of shape (n_features,)
            What is subtracted from a column and what divides it.
        likelihood, decoder_variance, noise_floor
            As in the constructor; or as `likelihood` the value `state_.likelihood` of another
            model, which knows the categories that it found.
        points : array-like of shape (n_importance_samples, n_components), default=None
            `points_` of another model; None draws them.
        n_importance_samples : int, default=256
            How many to draw.
        random_state : int, RandomState instance or None, default=0
            Decides the points that are drawn.

        Returns
        -------
        model : VAE
            Fitted; all verbs accept it.

        Raises
        ------
        ValueError
            For a name or a shape that does not fit the others.
        """
        is_value = isinstance(likelihood, Likelihood)
        model = cls(
            likelihood=likelihood.spec if is_value else likelihood,
            decoder_variance=decoder_variance,
            noise_floor=noise_floor,
            n_importance_samples=n_importance_samples,
            random_state=random_state,
        )
        model._validate_params()
        location = checked_array(location, (None,), "location")
        d = len(location)
        scale = checked_array(scale, (d,), "scale")
        value = likelihood if is_value else model._named(likelihood, np.zeros(d, bool))
        if not value.is_known:
            raise ValueError(
                "likelihood of categorical columns: give Categorical(n_categories=...), or "
                "state_.likelihood of the model that the parameters come from"
            )
        parameters = _checked_parameters(parameters, value, d)
        q = len(parameters["encoder.log_sd"])
        if not (scale > 0).all():
            raise ValueError("scale must be positive")
        if points is None:
            points = normal_points(n_importance_samples, q, model._rng())
        points = checked_array(points, (len(points), q), "points")
        params = model.get_params(deep=False) | {
            "n_components": q,
            "hidden_layer_sizes": hidden_sizes(parameters),
            "n_importance_samples": len(points),
        }
        state = VAEState(value.in_units(scale), parameters, location, scale, points)
        return cls._from_state(state, **params)


def _judge(module, held_out, like, rng):
    """() -> the importance-weighted bound on held-out rows, by points that all share; or None."""
    if not len(held_out.X):
        return None
    points = normal_points(JUDGE_POINTS, module.n_components, rng)
    noise = torch.from_numpy(points).to(like)[:, None]
    X = torch.from_numpy(held_out.X).to(like)
    weight = torch.from_numpy(held_out.weight / held_out.weight.sum())
    slices = row_blocks(len(X), JUDGE_POINTS, 2 * X.shape[1])

    @torch.no_grad()
    def judge():
        bounds = torch.cat([module.bound(X[rows], noise) for rows in slices])
        return float(weight @ bounds.double().cpu())

    return judge


def _device(name):
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device={name!r} cannot be used here: {error}") from error
    return torch.device(name)


def _widths(sizes):
    widths = tuple(np.atleast_1d(np.asarray(sizes)).tolist())
    if not all(isinstance(width, int) and width > 0 for width in widths):
        raise ValueError(f"hidden_layer_sizes must be positive integers, got {sizes!r}")
    return widths


def _checked_parameters(parameters, likelihood, d):
    """Float arrays of matching names and shapes, or ValueError."""
    arrays = {name: np.array(value) for name, value in parameters.items()}
    if np.ndim(arrays.get("encoder.log_sd")) != 1:
        raise ValueError("parameters needs 'encoder.log_sd' of shape (n_components,)")
    q = len(arrays["encoder.log_sd"])
    shapes = Autoencoder.shapes(d, q, hidden_sizes(arrays), likelihood)
    if arrays.keys() != shapes.keys():
        raise ValueError(
            f"parameters lacks {sorted(shapes.keys() - arrays.keys())} and should not have "
            f"{sorted(arrays.keys() - shapes.keys())}"
        )
    return {name: checked_array(arrays[name], shape, name) for name, shape in shapes.items()}
