"""Vector-quantised autoencoder: discrete codes that a network decodes, every code summed out."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ._compat import Integral, Interval, Real, StrOptions, _fit_context
from .any_likelihood import LIKELIHOOD_CONSTRAINTS
from .autoencoding import ARCHITECTURE_CONSTRAINTS, Autoencoding, checked_like
from .base import all_or_nothing, fitted
from .inference.history import FitInterrupted
from .inference.sgd import train
from .inference.start import thinned
from .mixture_verbs import DiscreteVerbs
from .networks.architectures import Dense
from .networks.codebook import LOSSES, Quantiser
from .networks.settings import device_named
from .validation import checked_array
from .vqvae_start import quantised_start
from .vqvae_state import VQVAEState

MOST_CODES = 4096  # of which every one is summed
JUDGED, FITTED = 1_000_000, 20_000_000  # rows times codes that choose an epoch, that p(c) is for
PRIOR_TOL = 1e-7  # nats per row that another step of its EM would have to gain


class VQVAE(Autoencoding, DiscreteVerbs):
    """Vector-quantised variational autoencoder for tables, with an exact density.

    p(x) = Σ_c p(c) p(x | c). A code c is an entry of a codebook, or one of each of several
    codebooks; p(x | c) has independent columns whose parameters are a network of the code's vector.
    Training starts at factor analysis, with the scores divided by k-means++, and is that of van den
    Oord et al.: an encoder names a code for each row, the decoder's slope passes through to it, and
    the codebook follows what the encoder makes of the rows. Then p(c) is fitted by EM with all else
    held fixed. No verb uses the encoder: the codes can be counted, so probabilities come from
    Bayes' rule and `score_samples` is log p(x) itself, not a bound.

    Parameters
    ----------
    n_components : int, default=8
        Entries K of a codebook.
    n_codes : int, default=1
        Codebooks P, each with an entry in every row's code: K^P codes, 4096 at most.
    n_factors : int, default=2
        Dimension m of the vectors in a codebook.
    likelihood : str, spec or list of pairs, default="auto"
        p(x_j | c), as in `VAE`: "gaussian", "student_t", "log_normal", "continuous_bernoulli",
        "bernoulli", "categorical", "poisson", "negative_binomial", or groups of columns. "auto"
        reads the dtypes of a DataFrame.
    decoder_variance : {"network", "column", "shared"}, default="network"
        The variance of columns with a scale: each code's own, one number per column, or one number
        for all standardised columns of a group.
    hidden_layer_sizes : tuple of int, default=(64, 64)
        Widths of the encoder's hidden layers, the decoder's in reverse; () makes both linear.
        With `image_shape`, of those between the convolutions and the code.
    image_shape : tuple (height, width) or (channels, height, width), default=None
        Rows are images of this shape, row by row of each channel in turn. Two strided convolutions
        (three from 32 pixels on each side) and hidden layers bend the encoder, their mirror the
        decoder. Constant pixels keep their place.
    encoder, decoder : callable, default=None
        Networks of your own in place of hidden layers: functions n_inputs -> `torch.nn.Module`,
        whose module maps (n, n_inputs) to (n, h) with any h; a linear layer is put upon it. The
        encoder's inputs are what columns show, about 0 and in units of their spread, one number for
        a column (a category less one for "categorical"), 0 where it is missing; behind them for
        each column 1 where it is missing, else 0. With `image_shape` these are whole planes,
        channels of values and then of masks. The decoder's inputs are code vectors. The functions
        are called whenever the model is asked, torch's generator at one seed each time; modules
        have parameters and no other state, and treat each row alike in training and after it.
    noise_floor : float, default=1e-2
        Smallest standard deviation of p(x_j | c), in standard deviations of the column.
    objective : {"codes", "likelihood", "gumbel_softmax"}, default="codes"
        What training raises:

        * "codes": log p(x, c) at the code c that the encoder names, as in a VQ-VAE [1]_;
        * "likelihood": log p(x), which sums every code instead. It needs no encoder, and a step is
          as many times longer as there are codes; its densities are better where codes overlap;
        * "gumbel_softmax": the evidence lower bound of an encoder that gives every code a
          probability, with draws relaxed to points between code vectors [4]_ [5]_, near an entry as
          the temperature falls from 1 to 0.3 over 40 epochs.
    commitment : float, default=0.25
        What the squared distance between encoder and code vector costs, in nats, by "codes".
    codebook_decay : float, default=0.95
        Of the exponential averages, over steps, that p(c) is in training; by "codes" those that the
        codebook consists of, too.
    learning_rate_init : float, default=1e-3
        Step length of AdamW.
    weight_decay : float, default=1e-2
        Of AdamW, on the matrices and kernels of the hidden layers: towards the linear model.
    batch_size : int or "auto", default="auto"
        Rows per step; "auto" is an eighth of them, 16 at least and 128 at most.
    max_iter : int, default=500
        Largest number of epochs.
    tol : float, default=1e-4
        Gain, in nats per row, that counts as progress.
    n_iter_no_change : int, default=50
        Epochs without progress before training stops.
    validation_fraction : float, default=0.15
        Share of the distinct rows (5000 at most) held out: the epoch is kept in which log p of them
        is highest, the start included. With 0, and with fewer than 20 distinct rows, all rows train
        and the last epoch is kept.
    device : str, default="cpu"
        Where training runs: "cpu", "cuda", ..., or "auto". Everything after it runs on the CPU.
    random_state : int, RandomState instance or None, default=None
        Held-out rows, weights, batches, and where entries that no row wants are placed anew.
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Epochs between prints.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components**n_codes,), float64
        p(c): with several positions a Markov chain along them. Codes count up with the last
        position fastest: ``np.unravel_index(c, (n_components,) * n_codes)`` are its entries. The
        entries of each codebook stand in descending order of probability.
    means_ : ndarray of shape (n_components**n_codes, n_features)
        E[x | c], in the units of X.
    codebook_ : ndarray of shape (n_codes, n_components, n_factors)
        The code vectors.
    parameters_ : mapping of str to ndarray
        Weights of encoder and decoder and the codebook, for standardised columns; float32 or
        float64 as X was.
    architecture_ : value
        What the networks look like, as `from_parameters` takes it.
    location_, scale_ : ndarray of shape (n_varying_features,), float64
        What is subtracted from a column, of a log-normal one from its logarithm, and what divides
        it.
    likelihood_, categories_
        What "auto" chose, and the categories of columns of that dtype, as in `VAE`.
    history_ : ndarray of shape (n_iter_ + 1,)
        What training raises, in nats per unit weight and in the units of X: log p(x), log p(x, c)
        at the code that the encoder names, less the price of the distance, or the bound of relaxed
        codes, which is no bound while they are warm. It may fall.
    n_iter_, converged_, n_parameters_, score_kind_, base_measure_, constant_
        The same in every model. `n_parameters_` counts decoder, codebook and p(c), but no more
        than a mixture of as many components with independent columns has.

    Raises
    ------
    ValueError
        For more than 4096 codes, for anything but finite numbers and NaN, for columns without any
        entry, for values outside the support of a likelihood, for an image or networks of shapes
        that do not fit, and for a device that is not there.

    References
    ----------
    .. [1] A. van den Oord, O. Vinyals and K. Kavukcuoglu, "Neural discrete representation
       learning", NeurIPS 2017.
    .. [2] A. Razavi, A. van den Oord and O. Vinyals, "Generating diverse high-fidelity images with
       VQ-VAE-2", NeurIPS 2019: a prior fitted to the codes.
    .. [3] D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA
       2007.
    .. [4] E. Jang, S. Gu and B. Poole, "Categorical reparameterization with Gumbel-softmax", ICLR
       2017.
    .. [5] C. K. Sønderby, B. Poole and A. Mnih, "Continuous relaxation training of discrete latent
       variable image models", Bayesian Deep Learning workshop at NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import VQVAE
    >>> rng = np.random.default_rng(0)
    >>> t = rng.uniform(-2, 2, size=300)
    >>> X = np.column_stack([t, t**2]) + 0.1 * rng.normal(size=(300, 2))
    >>> X[::10, 1] = np.nan
    >>> model = VQVAE(6, tol=0.05, n_iter_no_change=20, random_state=0).fit(X[:190])
    >>> bool(model.score(X[200:]) > model.score(X[200:] + [0.0, 1.0]))
    True
    >>> model.predict(X).shape, model.transform(X).shape
    ((300,), (300, 6))
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_codes": [Interval(Integral, 1, None, closed="left")],
        "n_factors": [Interval(Integral, 1, None, closed="left")],
        **LIKELIHOOD_CONSTRAINTS,
        **ARCHITECTURE_CONSTRAINTS,
        "objective": [StrOptions(set(LOSSES))],
        "commitment": [Interval(Real, 0.0, None, closed="left")],
        "codebook_decay": [Interval(Real, 0.0, 1.0, closed="left")],
        "learning_rate_init": [Interval(Real, 0.0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0.0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0.0, 1.0, closed="left")],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components=8,
        *,
        n_codes=1,
        n_factors=2,
        likelihood="auto",
        decoder_variance="network",
        hidden_layer_sizes=(64, 64),
        image_shape=None,
        encoder=None,
        decoder=None,
        noise_floor=1e-2,
        objective="codes",
        commitment=0.25,
        codebook_decay=0.95,
        learning_rate_init=1e-3,
        weight_decay=1e-2,
        batch_size="auto",
        max_iter=500,
        tol=1e-4,
        n_iter_no_change=50,
        validation_fraction=0.15,
        device="cpu",
        random_state=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.n_components = n_components
        self.n_codes = n_codes
        self.n_factors = n_factors
        self.likelihood = likelihood
        self.decoder_variance = decoder_variance
        self.hidden_layer_sizes = hidden_layer_sizes
        self.image_shape = image_shape
        self.encoder = encoder
        self.decoder = decoder
        self.noise_floor = noise_floor
        self.objective = objective
        self.commitment = commitment
        self.codebook_decay = codebook_decay
        self.learning_rate_init = learning_rate_init
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Train by stochastic gradients and a moving codebook, then fit p(c) by EM.

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
        _check_number_of_codes(self.n_components, self.n_codes)
        rng, least = self._rng(), max(2, self.n_components)
        data, likelihood, training, held_out = self._told(X, sample_weight, rng, least)
        shape = (self.n_codes, self.n_components, self.n_factors)
        size = self.n_codes * self.n_factors
        architecture = self._architecture(likelihood, data.constant, size, rng)
        parameters, weights = quantised_start(training, shape, architecture, likelihood, rng)
        units = training.location, training.scale
        state = VQVAEState(likelihood, parameters, *units, weights, architecture)
        run = self._drive(lambda: self._climb(data, state, training, held_out, device, rng), data)
        return self._finish(run, data)

    def _climb(self, data, state, training, held_out, device, rng):
        """Train from a state: -> Run whose state and history are in the units of X."""
        shift = state.mean_log_jacobian(training)
        report = self._progress(data)
        X = torch.from_numpy(training.X.astype(data.X.dtype)).to(device)
        likelihood = state.likelihood.of_complete_rows() if data.complete else state.likelihood
        module = Quantiser.of(state.parameters, likelihood, state.architecture, X.dtype, device)
        C = state.n_latents
        some, held_out, many = (
            _few(training, JUDGED // C),
            _few(held_out, JUDGED // C),
            _few(training, FITTED // C),
        )

        def at(parameters):
            return replace(state, parameters=parameters).with_prior(some, self.tol)

        def value(rows):
            now = {k: p.detach().cpu().numpy() for k, p in module.named_parameters()}
            return at(now).mean_log_prob(rows)

        def in_units(run):
            end = replace(state, parameters=run.state).with_prior(many, PRIOR_TOL).in_order()
            return run._replace(state=end, history=run.history - shift, report=None)

        try:
            run = train(
                module,
                LOSSES[self.objective](module, state.table, self.commitment, self.codebook_decay),
                X,
                training.weight,
                generator=torch.Generator(device).manual_seed(int(rng.integers(2**63))),
                max_iter=self.max_iter,
                batch_size=self._rows_per_step(training),
                learning_rate=self.learning_rate_init,
                tol=self.tol,
                n_iter_no_change=self.n_iter_no_change,
                judge=partial(value, held_out) if len(held_out.X) else None,
                weight_decay=self.weight_decay,
                decayed=module.bending_matrices(),
                callback=report and (lambda i, arrays, value: report(i, at(arrays), value - shift)),
            )
        except FitInterrupted as stop:
            raise FitInterrupted(in_units(stop.run)) from None
        return in_units(run)

    def predict_codes(self, X):
        """The entry of each codebook in the most probable code of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_codes), int64
        """
        check_is_fitted(self)
        return np.stack(np.unravel_index(self.predict(X), self.run_.state.shape), axis=1)

    @fitted
    def weights_(self):
        """(n_components**n_codes,) p(c)."""
        return self.run_.state.weights

    @fitted
    def means_(self):
        """(n_components**n_codes, n_features) E[x | c], in the units of X."""
        return self._restore(self.run_.state.means())

    @fitted
    def codebook_(self):
        """(n_codes, n_components, n_factors) the code vectors."""
        return self.run_.state.parameters["codebook"]

    @classmethod
    def from_parameters(
        cls,
        *,
        parameters,
        weights,
        location,
        scale,
        likelihood="gaussian",
        decoder_variance="network",
        noise_floor=1e-2,
        architecture=None,
    ):
        """A fitted autoencoder of known weights.

        Parameters
        ----------
        parameters : mapping of str to array-like
            Arrays by the names of `parameters_`.
        weights : array-like of shape (n_components**n_codes,)
            p(c), in the order of `weights_`; they sum to one.
        location, scale : array-like of shape (n_features,)
            What is subtracted from a column and what divides it.
        likelihood, decoder_variance, noise_floor
            As in the constructor; or as `likelihood` the value `state_.likelihood` of another
            model, which knows the categories that it found.
        architecture : value, default=None
            `architecture_` of another model; None is dense layers, of which shapes say all.

        Returns
        -------
        model : VQVAE
            Fitted; all verbs accept it.

        Raises
        ------
        ValueError
            For a name or a shape that does not fit the others, and for weights that are no
            probabilities.
        """
        settings = {"decoder_variance": decoder_variance, "noise_floor": noise_floor}
        model, value, location, scale = cls._known(likelihood, location, scale, **settings)
        architecture = architecture or Dense.of(parameters)
        parameters = _checked_parameters(parameters, value, architecture, len(scale))
        P, K, m = parameters["codebook"].shape
        _check_number_of_codes(K, P)
        weights = checked_array(weights, (K**P,), "weights")
        if (weights < 0).any() or abs(weights.sum() - 1) > 1e-8:
            raise ValueError(f"weights must be probabilities that sum to 1, got {weights}")
        params = model.get_params(deep=False) | {
            "n_components": K,
            "n_codes": P,
            "n_factors": m,
            **architecture.params,
        }
        state = VQVAEState(
            value.in_units(scale), parameters, location, scale, weights, architecture
        )
        return cls._from_state(state, **params)


def _few(rows, n):
    """At most n of the rows, with the weight of all."""
    if len(rows.X) <= n:
        return rows
    chosen, mass = thinned(rows.weight, n)
    return rows.take(chosen)._replace(weight=mass)


def _check_number_of_codes(K, P):
    if K**P > MOST_CODES:
        raise ValueError(
            f"n_components={K} entries at n_codes={P} positions make {K**P} codes: more than the "
            f"{MOST_CODES} that can be summed exactly; lower either"
        )


def _checked_parameters(parameters, likelihood, architecture, d):
    """Float arrays of matching names and shapes, or ValueError."""
    arrays = {name: np.array(value) for name, value in parameters.items()}
    if np.ndim(arrays.get("codebook")) != 3:
        raise ValueError(
            "parameters needs a 'codebook' of shape (n_codes, n_components, n_factors)"
        )
    return checked_like(arrays, Quantiser.like(arrays, likelihood, architecture, d))
