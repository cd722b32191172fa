"""The spec of a mixture of Gaussians within each component."""

import numpy as np

from .base import Spec
from .gaussian import Gaussians
from .nested import NestedMixtures
from .simplex import Point
from .wide import Wide


class GaussianMixtures(NestedMixtures):
    """p(x | z = k) = sum_m weights_km N(x; means_km, S_km) (Juang 1985)."""

    @property
    def spec(self):
        return GaussianMixtureEmission(self.weights.mean.shape[1])


class GaussianMixtureEmission(Spec):
    """A mixture of Gaussians within each state, or component: densities of any shape.

    p(x | z = k) = sum_m weights_km N(x; means_km, S_km), with the matrices of all K n_mix Gaussians
    of the model's `covariance_type`, under its `covariance_prior` as in a mixture of so many.

    Parameters
    ----------
    n_mix : int, default=2
        Gaussians of each state; 1 is "gaussian".

    Notes
    -----
    A start divides the rows among the states, and those of a state by bisecting the widest part
    until it has `n_mix` parts. The fitted ``emission_.weights.mean`` (n_components, n_mix) holds
    the weights within each state, ``emission_.parts`` the Gaussians of all states below each other.

    References
    ----------
    Juang (1985), Maximum-likelihood estimation for mixture multivariate stochastic observations of
    Markov chains.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import HMM, GaussianMixtureEmission
    >>> rng = np.random.default_rng(0)
    >>> calm, wild = rng.normal(size=(60, 1)), 5 * rng.choice([-1, 1], (60, 1))
    >>> X = [np.concatenate([calm, wild + 0.3 * rng.normal(size=(60, 1))])]
    >>> model = HMM(2, emission=GaussianMixtureEmission(n_mix=2), random_state=0).fit(X)
    >>> model.predict(X)[0][[0, 59, 60, 119]] == model.predict(X)[0][0]
    array([ True,  True, False, False])
    """

    matrix = True

    def __init__(self, n_mix=2):
        self.n_mix = n_mix

    def broad(self, family, K):
        """K mixtures of copies of one Gaussian fitted to all rows, which a start sets apart."""
        M = self.checked_size()
        parts = Gaussians(np.tile(family.mean, (K * M, 1)), family.broad(K * M))
        return GaussianMixtures(Point(np.full((K, M), 1 / M)), parts)

    def background(self, family):
        """Independent heavy-tailed columns."""
        return Wide.of(family)

    def checked_size(self):
        """The number of parts, or ValueError."""
        M = self.n_mix
        if not isinstance(M, int | np.integer) or isinstance(M, bool) or M < 1:
            raise ValueError(
                f"GaussianMixtureEmission: n_mix must be an integer of at least 1, got {M!r}"
            )
        return int(M)
