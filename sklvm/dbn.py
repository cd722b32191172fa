"""Deep belief network: layers of hidden bits above bits or Gaussian columns, with a likelihood."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._compat import Integral, Interval, StrOptions, _fit_context
from .base import LatentVariableModel, all_or_nothing, fitted, positive_int
from .dbn_layers import DirectedLayer
from .dbn_state import BeliefState
from .dbn_training import TrainedNetwork
from .inference.randomness import generator
from .inference.training_rows import TrainingRows
from .rbm import RBM, Absent
from .rbm_stream import refuse_categories
from .validation import checked_array, read_training_data

NOT_OF_MACHINES = ("n_components", "n_temperatures")  # parameters of RBM that a network lacks


class DeepBeliefNetwork(TrainedNetwork, LatentVariableModel):
    """Deep belief network with a likelihood, missing entries and weights.

    p(x, h_1, ..., h_L) = p(x | h_1) p(h_1 | h_2) ... p(h_(L-1), h_L), where the last factor is a
    restricted Boltzmann machine of two layers of bits and the others are directed: bits, or
    Gaussian columns x, that are independent given the layer above. Training stacks machines, each
    on the hidden bits of the one below, then tunes all layers together. One layer is an `RBM`.

    Where every layer below the last has at most 10 bits their states are counted: the likelihood is
    climbed and scored exactly. Elsewhere `score_samples` estimates log p(x) by importance sampling
    with the recognition distribution q(h | x), the way up, and log Z of the machine on top; and
    `transform` and ``posterior(X).mean`` are those of the recognition.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(10, 10)
        Bits of each hidden layer, from the bottom up.
    visible : {"auto", "bernoulli", "gaussian"}, default="auto"
        What the columns are, as in `RBM`.
    output_layer : int, default=-1
        The hidden layer, counted from the bottom as in a list, whose bits are the latents of
        `transform`, `inverse_transform` and `sample`.
    fine_tuning : {"auto", "exact", "reweighted", "up_down"} or None, default="auto"
        How all layers are trained together in the end. "exact" climbs the likelihood by L-BFGS,
        "reweighted" is reweighted wake-sleep, "up_down" wake-sleep with persistent chains on top.
        "auto" is "exact" where the states are counted, else "reweighted". None leaves the stack as
        it is.
    n_importance_samples : int, default=100
        Draws of the hidden bits behind each estimate. Scores of rows with gaps, and what fills
        these, need more of them than rows without: the way up then begins at a guess.
    solver, n_steps, n_chains, learning_rate_init, batch_size, n_updates
        Of each machine, and of wake-sleep, as in `RBM`.
    weight_prior, noise_floor, max_iter, tol
        As in `RBM`.
    n_annealing_chains, n_annealing_steps : int, default=100 and 1000
        Of log Z of the machine on top where neither of its layers can be counted.
    random_state : int, RandomState instance or None, default=None
        First weights, batches, chains, and the noise that scores of all rows share.
    verbose : int, default=0
        Print progress.
    verbose_interval : int, default=10
        Iterations between prints.

    Attributes
    ----------
    n_components_ : int
        Bits of the output layer.
    components_ : list of ndarray of shape (q_l, q_(l-1))
        Weights of each layer; q_0 columns vary, in their units where they are Gaussian.
    intercepts_ : list of ndarray of shape (q_l,)
        Of the columns and of each hidden layer, given that the layer above is 0; of the last one as
        the machine on top has it.
    recognition_components_, recognition_intercepts_ : list of ndarray, or None
        Of q(h_l | h_(l-1)) for all layers but the last; None where states are counted.
    noise_variance_ : ndarray of shape (n_varying_features,)
        Of Gaussian columns given h_1.
    visible_, thresholds_, levels_
        As in `RBM`.
    log_partition_, log_partition_stderr_ : float
        log Z of the machine on top, and its standard error: 0 where it is exact.
    history_ : ndarray of shape (n_iter_ + 1,)
        Of the last stage of training. Exact: the penalised log-likelihood, or where fine_tuning is
        None its lower bound, nats per unit weight. Else a contrast of rows and fantasies, which
        tends to 0 and is no likelihood.
    n_iter_, converged_, n_parameters_, score_kind_, base_measure_, constant_
        The same in every model.

    Raises
    ------
    ValueError
        As `RBM`, and for fine_tuning="exact" where states cannot be counted.

    References
    ----------
    Hinton, Osindero & Teh (2006), A fast learning algorithm for deep belief nets. Bornschein &
    Bengio (2015), Reweighted wake-sleep. Salakhutdinov & Murray (2008), On the quantitative
    analysis of deep belief networks.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import DeepBeliefNetwork
    >>> rng = np.random.default_rng(0)
    >>> cause = rng.uniform(size=(200, 2)) < 0.5
    >>> X = (rng.uniform(size=(200, 6)) < np.repeat(np.where(cause, 0.9, 0.1), 3, axis=1)) * 1.0
    >>> X[0, 0] = np.nan
    >>> model = DeepBeliefNetwork((2, 2), random_state=0).fit(X)
    >>> model.visible_, model.score_kind_
    ('bernoulli', 'exact')
    >>> bool(model.score(X) > -6 * np.log(2) + 1)
    True
    >>> model.transform(X).shape, model.impute(X[:1]).shape
    ((200, 2), (1, 6))
    """

    _input_dtype = (np.float64, np.float32)

    _parameter_constraints: dict = {
        **{k: v for k, v in RBM._parameter_constraints.items() if k not in NOT_OF_MACHINES},
        "visible": [StrOptions({"auto", "bernoulli", "gaussian"})],
        "hidden_layer_sizes": ["array-like"],
        "output_layer": [Integral],
        "fine_tuning": [StrOptions({"auto", "exact", "reweighted", "up_down"}), None],
        "n_importance_samples": [Interval(Integral, 2, None, closed="left")],
    }

    marginal = Absent()  # of the recognition; p(x_seen) has none of its own

    def __init__(
        self,
        hidden_layer_sizes=(10, 10),
        *,
        visible="auto",
        output_layer=-1,
        fine_tuning="auto",
        n_importance_samples=100,
        solver="auto",
        n_steps=5,
        n_chains=100,
        learning_rate_init="auto",
        batch_size=100,
        n_updates=5000,
        weight_prior=0.01,
        noise_floor=0.1,
        max_iter=500,
        tol=1e-4,
        n_annealing_chains=100,
        n_annealing_steps=1000,
        random_state=None,
        verbose=0,
        verbose_interval=10,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.visible = visible
        self.output_layer = output_layer
        self.fine_tuning = fine_tuning
        self.n_importance_samples = n_importance_samples
        self.solver = solver
        self.n_steps = n_steps
        self.n_chains = n_chains
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.n_updates = n_updates
        self.weight_prior = weight_prior
        self.noise_floor = noise_floor
        self.max_iter = max_iter
        self.tol = tol
        self.n_annealing_chains = n_annealing_chains
        self.n_annealing_steps = n_annealing_steps
        self.random_state = random_state
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    # -- fitting -------------------------------------------------------------------------------

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit layer by layer, then all layers together.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries, which are summed out.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts: an integer weight equals repeating the row.

        Returns
        -------
        self : object
        """
        self._shown()
        refuse_categories(X)
        data = read_training_data(self, X, sample_weight, dtype=self._input_dtype)
        columns = self._columns_of(data)
        rng = self._rng()
        training = TrainingRows.of(columns.read(data.X), data.weight, columns.units)
        report = self._progress(data)
        run = self._drive(lambda: self._train(columns, training, rng, report), data)
        return self._finish(run, data)

    def _sizes(self):
        """Bits of each hidden layer, or ValueError."""
        sizes = np.atleast_1d(self.hidden_layer_sizes).tolist()
        return [positive_int(q, "each of hidden_layer_sizes") for q in sizes]

    def _shown(self):
        """The layer of the latents, counted from 0 at the bottom, or ValueError."""
        n = len(self._sizes())
        if not n or not -n <= self.output_layer < n:
            raise ValueError(
                f"output_layer must be one of the {n} layers of hidden_layer_sizes="
                f"{self.hidden_layer_sizes}, got {self.output_layer}"
            )
        return self.output_layer % n

    def _fitted_attributes(self, run, data):
        run.state.work_out()
        return super()._fitted_attributes(run, data)

    # -- fitted attributes ---------------------------------------------------------------------

    @property
    def _layers(self):
        return getattr(self.run_.state, "layers", ())

    @property
    def _top(self):
        return getattr(self.run_.state, "top", self.run_.state)

    @property
    def _lowest(self):
        """What the columns hang from: a layer, or the machine."""
        return self._layers[0] if self._layers else self._top.machine

    @property
    def _units(self):
        return self._lowest.units

    @fitted
    def n_components_(self):
        """Bits of the output layer."""
        return self.run_.state.n_latents

    @fitted
    def components_(self):
        """List of (q_l, q_(l-1)) weights of each layer."""
        return [layer.W for layer in self._layers] + [self._top.machine.W]

    @fitted
    def intercepts_(self):
        """List of (q_l,) inputs of the columns and of each hidden layer."""
        units, b, machine = self._units, self._lowest.b, self._top.machine
        if not self._layers:
            c = machine.c + machine.W @ units.offset_drive(b)
            return [units.mean_input(b), c]
        return [units.mean_input(b), *(a.b for a in self._layers[1:]), machine.b, machine.c]

    @fitted
    def recognition_components_(self):
        """List of (q_l, q_(l-1)) weights of the way up, or None."""
        return None if self.score_kind_ == "exact" else [layer.R for layer in self._layers]

    @fitted
    def recognition_intercepts_(self):
        """List of (q_l,) log odds of the way up where what is below is 0, or None."""
        if self.score_kind_ == "exact":
            return None
        first, *others = self._layers
        c = first.c + first.R @ first.units.offset_drive(first.b)
        return [c, *(layer.c for layer in others)]

    @fitted
    def log_partition_(self):
        """log Z of the machine on top, for its weights as they are shown."""
        machine = self._top.machine
        return self._top.log_partition - machine.units.offset_log_z(machine.b)

    @fitted
    def log_partition_stderr_(self):
        """Standard error of log Z: 0 where it is exact."""
        return self._top.partition[1]

    @fitted
    def score_kind_(self):
        """ "exact" where states are counted, else "estimate"."""
        return self.run_.state.sums.kind

    # -- verbs ---------------------------------------------------------------------------------

    def sample(self, n_samples=1, random_state=None, *, n_steps=None):
        """Draw rows, and the hidden bits that caused them: from the top down.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Two calls with None differ, an int repeats.
        n_steps : int, default=None
            Gibbs steps of the machine on top from its training chains, where no layer of it can be
            counted; None takes `n_annealing_steps`.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows.
        H : ndarray of shape (n_samples, n_components)
            Bits of the output layer.
        """
        check_is_fitted(self)
        if n_steps is not None:
            positive_int(n_steps, "n_steps")
        n_samples = positive_int(n_samples, "n_samples")
        X, H = self._density.sample(n_samples, generator(random_state), n_steps)
        return self._restore(X), H

    @classmethod
    def from_parameters(
        cls,
        *,
        components,
        intercepts,
        recognition_components=None,
        recognition_intercepts=None,
        noise_variance=None,
        thresholds=None,
        levels=None,
        output_layer=-1,
        n_importance_samples=100,
        n_annealing_chains=100,
        n_annealing_steps=1000,
        random_state=0,
    ):
        """A fitted network of known weights.

        Parameters
        ----------
        components : list of array-like of shape (q_l, q_(l-1))
            Weights of each layer, from the bottom up.
        intercepts : list of array-like of shape (q_l,)
            Of the columns and of each hidden layer: one more than there are layers.
        recognition_components : list of array-like of shape (q_l, q_(l-1)), default=None
            Weights of the way up to all hidden layers but the last; None takes `components`.
        recognition_intercepts : list of array-like of shape (q_l,), default=None
            None takes `intercepts`.
        noise_variance : array-like of shape (n_features,), default=None
            Of Gaussian columns; None: the columns are bits.
        thresholds, levels : array-like, default=None
            As in `RBM.from_parameters`.
        output_layer, n_importance_samples, n_annealing_chains, n_annealing_steps : int
            As in the constructor.
        random_state : int, RandomState instance or None, default=0
            Of the estimates.

        Returns
        -------
        model : DeepBeliefNetwork
            Fitted; all verbs accept it.

        Raises
        ------
        ValueError
            For shapes that do not fit each other, and variances that are not positive.
        """
        settings = {
            "n_annealing_chains": n_annealing_chains,
            "n_annealing_steps": n_annealing_steps,
            "random_state": random_state,
        }
        given = {"noise_variance": noise_variance, "thresholds": thresholds, "levels": levels}
        n = len(components)
        if n < 1 or len(intercepts) != n + 1:
            raise ValueError(
                f"intercepts must be one more than components, got {len(intercepts)} and {n}"
            )
        machines = []
        for i, W in enumerate(components):
            W = checked_array(W, (None, None if i == 0 else len(intercepts[i])), f"components[{i}]")
            b = checked_array(intercepts[i], (W.shape[1],), f"intercepts[{i}]")
            c = checked_array(intercepts[i + 1], (len(W),), f"intercepts[{i + 1}]")
            known = {"components": W, "intercept_visible": b, "intercept_hidden": c}
            machines.append(
                RBM.from_parameters(**known, **(given if i == 0 else {}), **settings).run_.state
            )
        *below, top = machines
        params = settings | {
            "hidden_layer_sizes": tuple(m.n_latents for m in machines),
            "visible": machines[0].machine.units.name,
            "output_layer": output_layer,
            "n_importance_samples": n_importance_samples,
        }
        model = cls(**params)
        model._validate_params()
        shown = model._shown()
        layers = _with_recognition(below, recognition_components, recognition_intercepts)
        if not below:
            return cls._from_state(top, **params)
        seed = int(model._rng().integers(2**31))
        half = np.full(layers[0].n_latents, 0.5)
        state = BeliefState.of(layers, top, shown, layers[0].mean(half), n_importance_samples, seed)
        return cls._from_state(state, **params)


def _with_recognition(states, components, intercepts):
    """Directed layers of machines, with another way up where one is given."""
    layers = [DirectedLayer.of(state.machine) for state in states]
    ways = {"recognition_components": components, "recognition_intercepts": intercepts}
    for name, arrays in ways.items():
        if arrays is not None and len(arrays) != len(layers):
            raise ValueError(
                f"{name} must be one for each layer but the last, {len(layers)}, got {len(arrays)}"
            )
    for i, layer in enumerate(layers):
        R, c = layer.R, layer.c
        if components is not None:
            R = checked_array(components[i], R.shape, f"recognition_components[{i}]")
        if intercepts is not None:
            c = checked_array(intercepts[i], c.shape, f"recognition_intercepts[{i}]")
            c = c - R @ layer.units.offset_drive(layer.b)
        layers[i] = DirectedLayer(layer.units, layer.b, layer.W, c, R)
    return layers
