"""Variational autoencoder: a nonlinear decoder, scored as the density that it is."""

from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from sklearn.utils.metaestimators import available_if

from ._compat import Integral, Interval, Real, StrOptions, _fit_context
from .any_likelihood import LIKELIHOOD_CONSTRAINTS
from .autoencoding import ARCHITECTURE_CONSTRAINTS, checked_like
from .base import all_or_nothing, fitted
from .inference.blocks import each_block
from .inference.history import FitInterrupted
from .inference.sgd import round_significant, train
from .mixture_verbs import DiscreteVerbs
from .networks.architectures import Dense
from .networks.autoencoder import Autoencoder
from .networks.given import unused
from .networks.importance import normal_points
from .networks.linear import linear_parameters
from .networks.objectives import OBJECTIVES
from .networks.posteriors import POSTERIORS
from .networks.settings import device_named
from .vae_context import CONDITION_CONSTRAINTS, Conditional
from .vae_inference import WAYS, encoded
from .vae_prior import PRIORS, in_order
from .vae_report import Report, baselines, diagnosed, gain
from .vae_start import latents_of, linear_start
from .vae_state import VAEState
from .vae_verbs import VAEVerbs
from .validation import checked_array

MOST_LATENTS = 16  # that are chosen without being asked for


def _has_clusters(model):
    return model.prior == "mixture"


class VAE(Conditional, VAEVerbs):
    """Variational autoencoder for tables, with missing entries, weights and real densities.

    p(x) = integral of p(x | z) p(z) over z, where p(x | z) has independent columns whose
    parameters are a network of z, with a linear path beside it. Training starts at factor analysis
    (Gaussian columns), which the network bends, and keeps the epoch that held-out rows like best,
    the start included. `score_samples` estimates log p(x) itself, not a bound: for each row it
    looks for the most probable z and weighs points spread around it.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Number of latent dimensions q. "auto" is what parallel analysis of the columns (of their
        working variables, where they are not Gaussian) finds and two more, which a bent surface
        may need; at most half the columns and at most 16.
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
    condition_on : int, str, or array-like of int, str or bool, or slice, default=None
        Contexts: columns that the density is given, named as in ColumnTransformer. Scores, draws
        and imputations are of the others given these, p(x_rest | x_c), in the units of the others.
        Networks see contexts as `likelihood` reads them, numbers standardised and categories as
        indicators, the decoder by a linear path too; training starts at linear regression with
        factor analysis of its residuals. No context may be missing.
    hidden_layer_sizes : tuple of int, default=(64, 64)
        Widths of the encoder's hidden layers, the decoder's in reverse; () is the linear model.
        With `image_shape`, of those between the convolutions and the latents.
    image_shape : tuple (height, width) or (channels, height, width), default=None
        Rows are images of this shape, row by row of each channel in turn. Two strided convolutions
        (three from 32 pixels on each side) and hidden layers bend the encoder, their mirror the
        decoder. Constant pixels keep their place; columns of `condition_on` are no pixels.
    encoder, decoder : callable, default=None
        Networks of your own in place of hidden layers: functions n_inputs -> `torch.nn.Module`,
        whose module maps (n, n_inputs) to (n, h) with any h; a linear layer is put upon it. The
        encoder's inputs are what columns show, about 0 and in units of their spread, one number for
        a column (a category less one for "categorical"), 0 where it is missing; behind them for
        each column 1 where it is missing, else 0. With `image_shape` these are whole planes,
        channels of values and then of masks. The decoder's inputs are z. Contexts come behind what
        an encoder sees, and behind z. The functions are called whenever the model is asked, torch's
        generator at one seed each time; modules have parameters and no other state, and treat each
        row alike in training and after it.
    noise_floor : float, default=1e-2
        Smallest standard deviation of p(x_j | z), in standard deviations of the column. Without a
        floor the likelihood has no upper bound.
    learning_rate_init : float, default=1e-3
        Step length of AdamW.
    weight_decay : float, default=1e-2
        Of AdamW, on the matrices and kernels of the hidden layers: towards the linear model.
    batch_size : int or "auto", default="auto"
        Rows per step; "auto" is an eighth of them, 16 at least and 128 at most.
    objective : {"elbo", "stl", "iwae"}, default="elbo"
        The bound that training raises: the evidence lower bound with an exact divergence, the same
        with the gradient that "sticks the landing" (no variance where the encoder is exact), or
        the importance-weighted bound with doubly reparameterised gradients.
    n_draws : int or "auto", default="auto"
        Draws of z per row and step; "auto" is 1, for "iwae" 5, without an encoder 8.
    encoder_covariance : {"diagonal", "full"}, default="diagonal"
        Covariance of the encoder's Gaussian. It says how tight the bound is, not what is scored.
    amortized : bool, default=True
        Whether an encoder says q(z | x) of any row. Otherwise every distinct training row has a
        mean and a covariance of its own, which take natural gradient steps by new noise each time
        that the row is trained with (Hoffman et al. 2013): slow, held in memory, and what an
        encoder approximates. Then the epoch is chosen by scores of held-out rows (200 at most),
        `tighten` starts from N(0, I), `regret` and `amortisation_gap` are not there, `decoder`
        comes alone, and objective="elbo" without weights or free bits is the only one.
    prior : {"auto", "normal", "mixture"}, default="auto"
        p(z): standard normal in training, then a Gaussian mixture fitted to what the encoder makes
        of the training rows, if that raises the log density of the rows that chose the epoch (200
        at most) by `tol`; standard normal; or a mixture trained with the networks, its component
        summed out exactly, which `predict` tells.
    n_clusters : int or "auto", default="auto"
        Components of a mixture prior. "auto" is 10 if the mixture trains; if it is fitted later,
        of 3, 10 and 30 the number that gives those rows the highest bound, with 10 training rows at
        least for each component.
    beta : float, default=1.0
        What the divergence of the encoder from the prior counts in training. Scores, `history_`
        apart, know nothing of it: with another value than 1 training raises no bound on log p.
    kl_warmup : int, default=0
        Epochs over which that weight rises from 0, linearly.
    free_bits : float, default=0.0
        Nats of a row's divergence that cost nothing; for objective="elbo".
    weight_average : float, default=0.0
        Decay of an exponential average of the weights over the steps, its bias corrected, which is
        judged and kept instead of the last weights; 0.999 is usual, 0 keeps the last.
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
    n_components_ : int
        Number of latent dimensions.
    parameters_ : mapping of str to ndarray
        Weights of encoder and decoder, for standardised columns; float32 or float64 as X was.
    condition_on_ : ndarray of shape (n_contexts,), integers
        Positions of the contexts, in the order of `condition_on`; `sample` wants them in this.
    architecture_ : value
        What the networks look like, as `from_parameters` takes it.
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
        What training raises (by default the ELBO) for the training rows at the start and in each
        epoch, in nats per unit weight and in the units of X.
    history_terms_ : ndarray of shape (n_iter_ + 1, 3)
        The terms of the ELBO: E[log p(x | z)], E[log p(z)] and the entropy of q(z | x).
    baselines_ : dict of str to float
        Nats per held-out row (200 at most, in the units of X) of "vae" and of simple models fitted
        to the training rows (5000 at most): "factor_analysis" with as many factors, a
        "gaussian_mixture" of 3 components (diagonal beyond 64 columns), both of the logarithms of
        log-normal columns; for other columns a `Mixture` of 3 with the same groups, named
        "poisson_mixture" and so on, "mixture" for groups; none beside continuous Bernoulli columns.
        Empty without held-out rows and where a column varies in these alone. `fit` warns where one
        of them is better than the VAE by 0.1 nats per row and two standard errors of the
        difference, on 30 rows at least. "vae" is its importance-weighted bound; where a baseline
        beats that, its score.
    active_units_ : int
        Latents whose mean under the encoder varies over the training rows by more than 0.01.
    kl_per_dimension_ : ndarray of shape (n_components,)
        Divergence of q(z_j | x) from N(0, 1), mean over the training rows, in nats.
    n_iter_, converged_, n_parameters_, score_kind_, base_measure_, constant_
        The same in every model. `n_parameters_` counts the decoder, less the rotations of z.

    Raises
    ------
    ValueError
        For anything but finite numbers and NaN, for columns without any entry, for values outside
        the support of a likelihood, for an image or networks of shapes that do not fit, and for a
        device that is not there.

    References
    ----------
    Kingma & Welling (2014), Auto-encoding variational Bayes. Mattei & Frellsen (2018), Leveraging
    the exact likelihood of deep latent variable models. Sohn, Lee & Yan (2015), Learning structured
    output representation using deep conditional generative models. Cremer, Li & Duvenaud (2018),
    Inference suboptimality in variational autoencoders. Lucas, Tucker, Grosse & Norouzi (2019),
    Don't blame the ELBO! (the linear VAE). Owen & Zhou (2000) (deterministic mixture sampling).
    Hoffman, Blei, Wang & Paisley (2013), Stochastic variational inference (natural gradients of
    single rows).

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import VAE
    >>> rng = np.random.default_rng(0)
    >>> t = rng.uniform(-2, 2, size=300)
    >>> X = np.column_stack([t, t**2]) + 0.1 * rng.normal(size=(300, 2))
    >>> X[::10, 1] = np.nan
    >>> model = VAE(n_components=1, tol=0.05, n_iter_no_change=20, random_state=0).fit(X[:190])
    >>> bool(model.score(X[200:]) > model.score(X[200:] + [0.0, 1.0]))
    True
    >>> model.transform(X).shape
    (300, 1)

    Given a column, how the others are distributed, what to expect of them, and draws.

    >>> noise = 0.1 * (1 + np.abs(t)) * rng.normal(size=300)
    >>> X = np.column_stack([t, np.sin(2 * t) + noise])
    >>> model = VAE(1, condition_on=[0], learning_rate_init=0.01, tol=0.05, n_iter_no_change=20,
    ...             random_state=0).fit(X)
    >>> bool(model.score([[1.0, 0.9]]) > model.score([[2.0, 0.9]]))
    True
    >>> _, expected = model.impute([[-0.8, np.nan]])[0]
    >>> bool(abs(expected - np.sin(-1.6)) < 0.3)
    True
    >>> draws, _ = model.sample(4, random_state=0, contexts=[-0.8])
    >>> draws[:, 0].tolist()
    [-0.8, -0.8, -0.8, -0.8]

    Bits of images, whose convolutions lie beside the linear paths:

    >>> rows, noise = rng.uniform(size=(200, 5, 1)), rng.uniform(size=(200, 5, 6))
    >>> bits = (rows + 0.3 * noise > 0.6).reshape(200, 30).astype(float)
    >>> quick = {"likelihood": "bernoulli", "tol": 0.5, "n_iter_no_change": 5, "random_state": 0}
    >>> model = VAE(2, image_shape=(5, 6), **quick).fit(bits)
    >>> model.sample(3, random_state=0)[0].reshape(3, 5, 6).shape
    (3, 5, 6)

    Networks of one's own:

    >>> from torch import nn
    >>> def network(n_inputs):
    ...     return nn.Sequential(nn.Linear(n_inputs, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh())
    >>> model = VAE(2, encoder=network, decoder=network, **quick).fit(bits)
    >>> model.transform(bits[:5]).shape
    (5, 2)

    Without an encoder, each training row improves a Gaussian of its own:

    >>> own = VAE(1, amortized=False, tol=0.5, n_iter_no_change=5, random_state=0)
    >>> bool(own.fit(X[:60]).score(X[200:]) > own.score(X[200:] + [0.0, 1.0]))
    True
    """

    _parameter_constraints: dict = {
        "n_components": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        **LIKELIHOOD_CONSTRAINTS,
        **CONDITION_CONSTRAINTS,
        **ARCHITECTURE_CONSTRAINTS,
        "learning_rate_init": [Interval(Real, 0.0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0.0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "objective": [StrOptions(set(OBJECTIVES))],
        "n_draws": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "encoder_covariance": [StrOptions(set(POSTERIORS))],
        "amortized": ["boolean"],
        "prior": [StrOptions(set(PRIORS))],
        "n_clusters": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "beta": [Interval(Real, 0.0, None, closed="left")],
        "kl_warmup": [Interval(Integral, 0, None, closed="left")],
        "free_bits": [Interval(Real, 0.0, None, closed="left")],
        "weight_average": [Interval(Real, 0.0, 1.0, closed="left")],
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
        n_components="auto",
        *,
        likelihood="auto",
        decoder_variance="network",
        condition_on=None,
        hidden_layer_sizes=(64, 64),
        image_shape=None,
        encoder=None,
        decoder=None,
        noise_floor=1e-2,
        learning_rate_init=1e-3,
        weight_decay=1e-2,
        batch_size="auto",
        objective="elbo",
        n_draws="auto",
        encoder_covariance="diagonal",
        amortized=True,
        prior="auto",
        n_clusters="auto",
        beta=1.0,
        kl_warmup=0,
        free_bits=0.0,
        weight_average=0.0,
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
        self.condition_on = condition_on
        self.hidden_layer_sizes = hidden_layer_sizes
        self.image_shape = image_shape
        self.encoder = encoder
        self.decoder = decoder
        self.noise_floor = noise_floor
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.objective = objective
        self.n_draws = n_draws
        self.encoder_covariance = encoder_covariance
        self.amortized = amortized
        self.prior = prior
        self.n_clusters = n_clusters
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
        self.weight_average = weight_average
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.validation_fraction = validation_fraction
        self.n_importance_samples = n_importance_samples
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.verbose_interval = verbose_interval

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
        device = device_named(self.device)
        rng = self._rng()
        data, likelihood, training, held_out = self._told(X, sample_weight, rng)
        q = self._counted(training, likelihood, rng)
        architecture = self._architecture(likelihood, data.constant, q, rng)
        linear = linear_start(training, q, likelihood, rng)
        family = POSTERIORS[self.encoder_covariance]
        parameters = linear_parameters(linear, architecture, likelihood, rng, family)
        parameters = {name: round_significant(v) for name, v in parameters.items()}
        units = training.location, training.scale
        before, _ = PRIORS[self.prior]
        state = VAEState(likelihood, parameters, *units, np.empty((0, q)), architecture)
        state = before(
            state, partial(encoded, state, training.X), training.weight, self.n_clusters, rng
        )
        state = replace(state, points=normal_points(self.n_importance_samples, q, rng))
        run = self._drive(lambda: self._climb(data, state, training, held_out, device, rng), data)
        return self._finish(run, data)

    def _counted(self, training, likelihood, rng):
        """The number of latents, for which there must be points enough."""
        q = self.n_components
        if q == "auto":
            return latents_of(
                training, likelihood, min(MOST_LATENTS, self.n_importance_samples - 1), rng
            )
        if self.n_importance_samples <= q:
            raise ValueError(
                f"n_importance_samples={self.n_importance_samples} must exceed n_components={q}"
            )
        return q

    def _networks(self):
        if self.amortized:
            return super()._networks()
        if self.encoder is not None:
            raise ValueError("amortized=False trains no encoder: encoder must be None")
        return self.decoder and unused, self.decoder

    def _objective(self):
        """What training raises, as a value."""
        kind = OBJECTIVES[self.objective]
        if self.free_bits and not kind.has_divergence:
            raise ValueError(f"free_bits={self.free_bits} needs objective='elbo'")
        usual = max(kind.usual_draws, WAYS[self.amortized].fewest_draws)
        draws = usual if self.n_draws == "auto" else self.n_draws
        return kind(draws, self.beta, self.kl_warmup, self.free_bits)

    def _climb(self, data, state, training, held_out, device, rng):
        """Train from a state: -> Run whose state and history are in the units of X."""
        shift = state.mean_log_jacobian(training)
        report = self._progress(data)
        likelihood = state.likelihood.of_complete_rows() if data.complete else state.likelihood
        way = WAYS[self.amortized](state, likelihood, training, data.X.dtype, device)
        module, objective = way.module, self._objective()
        judge = way.judge(held_out, rng)

        def at(arrays):
            return replace(state, parameters=in_order(way.kept(arrays)))

        def in_units(run):
            terms = run.report - [shift, 0.0, 0.0]
            return run._replace(
                state=at(run.state),
                history=run.history - shift,
                report=Report(terms, {}, 0, np.empty(0)),
            )

        try:
            run = train(
                module,
                way.loss(objective),
                way.rows,
                training.weight,
                generator=torch.Generator(device).manual_seed(int(rng.integers(2**63))),
                max_iter=self.max_iter,
                batch_size=self._rows_per_step(training),
                learning_rate=self.learning_rate_init,
                tol=self.tol,
                n_iter_no_change=self.n_iter_no_change,
                judge=judge and partial(judge, module),
                weight_decay=self.weight_decay,
                decayed=module.bending_matrices(),
                averaging=self.weight_average,
                by_hand=way.by_hand(objective),
                callback=report and (lambda i, arrays, value: report(i, at(arrays), value - shift)),
            )
        except FitInterrupted as stop:
            raise FitInterrupted(in_units(stop.run)) from None
        run = in_units(run)
        q, value = way.posteriors(run.state), judge and (lambda other: judge(way.networks(other)))
        run = run._replace(state=self._with_prior(run.state, q, value, training, held_out, rng))
        told = baselines(run.state, training, held_out, rng)
        findings = diagnosed(q(), training.weight)
        return run._replace(report=Report(run.report.terms, told, *findings))

    def _with_prior(self, state, q, value, training, held_out, rng):
        """The state, with what its prior may become after training if held-out rows like it.

        `value` is what they say of a state, None if there are none.
        """
        _, after = PRIORS[self.prior]
        if value is None:
            return state
        others = after(state, q, training.weight, self.n_clusters, rng)
        best = max(others, key=value, default=state)
        other = replace(best, parameters=in_order(best.parameters))
        return other if others and gain(other, state, held_out) > self.tol else state

    @fitted
    def n_components_(self):
        """Number of latent dimensions: what was asked for, or found."""
        return self.run_.state.n_latents

    @fitted
    def history_terms_(self):
        """(n_iter_ + 1, 3) terms of the bound at the start and in each epoch, nats per row."""
        return self._report.terms

    @fitted
    def baselines_(self):
        """{name: nats per held-out row} of the VAE and of simple models; may be empty."""
        return MappingProxyType(self._report.baselines)

    @fitted
    def active_units_(self):
        """Number of latents that the encoder uses."""
        return self._report.active

    @fitted
    def kl_per_dimension_(self):
        """(n_components,) divergence of q(z_j | x) from N(0, 1), nats per row."""
        return self._report.divergence

    @property
    def _report(self):
        """What training found out; a model that no fit made knows nothing of it."""
        report = self.run_.report
        if report is None:
            raise AttributeError("only a VAE that fit has trained knows what training found out")
        return report

    @available_if(_has_clusters)
    def predict_proba(self, X):
        """Probability of each component of the prior given the row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.

        Returns
        -------
        probs : ndarray of shape (n_samples, n_clusters), float64
            p(k | x) by importance sampling; the components are in descending order of weight.
        """
        X = self._read(X)
        return each_block(self._density.responsibilities, X)

    predict = available_if(_has_clusters)(DiscreteVerbs.predict)
    fit_predict = available_if(_has_clusters)(DiscreteVerbs.fit_predict)

    @fitted
    def score_kind_(self):
        """ "estimate": log p(x) by importance sampling with fixed points."""
        return "estimate"

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
        condition_on=None,
        points=None,
        n_importance_samples=256,
        random_state=0,
        architecture=None,
    ):
        """A fitted autoencoder of known weights.

        Parameters
        ----------
        parameters : mapping of str to array-like
            Weights by the names of `parameters_`.
        location, scale : array-like of shape (n_features,)
            What is subtracted from a column and what divides it.
        likelihood, decoder_variance, noise_floor
            As in the constructor; or as `likelihood` the value `state_.likelihood` of another
            model, which knows the categories that it found and the columns that it is given.
        condition_on : int or array-like of int or bool, or slice, default=None
            Columns that the density is given.
        points : array-like of shape (n_importance_samples, n_components), default=None
            `points_` of another model; None draws them.
        n_importance_samples : int, default=256
            How many to draw.
        random_state : int, RandomState instance or None, default=0
            Decides the points that are drawn.
        architecture : value, default=None
            `architecture_` of another model; None is dense layers, of which shapes say all.

        Returns
        -------
        model : VAE
            Fitted; all verbs accept it.

        Raises
        ------
        ValueError
            For a name or a shape that does not fit the others.
        """
        model, value, location, scale = cls._known(
            likelihood,
            location,
            scale,
            decoder_variance=decoder_variance,
            noise_floor=noise_floor,
            condition_on=condition_on,
            n_importance_samples=n_importance_samples,
            random_state=random_state,
        )
        architecture = architecture or Dense.of(parameters)
        parameters = _checked_parameters(parameters, value, architecture, len(scale))
        q = len(parameters["encoder.log_sd"])
        if points is None:
            points = normal_points(n_importance_samples, q, model._rng())
        points = checked_array(points, (len(points), q), "points")
        params = model.get_params(deep=False) | {
            "n_components": q,
            **architecture.params,
            "encoder_covariance": "full" if "encoder.lower" in parameters else "diagonal",
            "prior": "mixture" if "prior.logits" in parameters else "normal",
            "n_importance_samples": len(points),
        }
        state = VAEState(value.in_units(scale), parameters, location, scale, points, architecture)
        return cls._from_state(state, **{**params, "amortized": state.has_encoder})


def _checked_parameters(parameters, likelihood, architecture, d):
    """Float arrays of matching names and shapes, or ValueError."""
    arrays = {name: np.array(value) for name, value in parameters.items()}
    if np.ndim(arrays.get("encoder.log_sd")) != 1:
        raise ValueError("parameters needs 'encoder.log_sd' of shape (n_components,)")
    return checked_like(arrays, Autoencoder.like(arrays, likelihood, architecture, d))
