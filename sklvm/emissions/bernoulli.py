"""K products of Bernoulli distributions: columns of zeros and ones."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from .exponential import Exponential
from .independent import FLOOR, CountingSpec, refuse_unless


@dataclass(frozen=True)
class Bernoullis(Exponential):
    """p(x | z = k) = prod_j mean_kj^x_j (1 - mean_kj)^(1 - x_j) (Bishop 2006, 9.44-9.60)."""

    def check(self, X):
        refuse_unless((X == 0) | (X == 1), X, "Bernoulli() needs zeros and ones")

    def natural(self):
        log_not = np.log1p(-self.mean)
        return np.log(self.mean) - log_not, -log_not

    def _inside(self, mean):
        return np.clip(mean, FLOOR, 1 - FLOOR)

    def _coordinates(self):
        return logit(self.mean)

    def _mean_at(self, coordinates):
        return expit(coordinates)

    def sample(self, z, rng):
        p = self.mean[z]
        return (rng.uniform(size=p.shape) < p).astype(float)

    def variance(self):
        return self.mean * (1 - self.mean)

    def cdf(self, X):
        x = X[:, None]
        return np.where(x < 1, np.where(x < 0, 0.0, 1 - self.mean), 1.0)

    def candidates(self):
        return np.array([0.0, 1.0])

    @property
    def spec(self):
        return Bernoulli(self.pseudo)


class Bernoulli(CountingSpec):
    """Bernoulli emission: columns of zeros and ones, independent within a component.

    Parameters
    ----------
    pseudo : float, default=1.0
        Prior rows, of the average of all rows, that each component gets; 0 is maximum likelihood.

    See Also
    --------
    Categorical : More than two categories.

    References
    ----------
    Lazarsfeld & Henry (1968), Latent Structure Analysis. Bishop (2006), Pattern Recognition and
    Machine Learning, 9.3.3.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import Bernoulli, Mixture
    >>> X = np.repeat([[1, 1, 0, 0], [0, 0, 1, 1]], [20, 10], axis=0)
    >>> model = Mixture(2, emission=Bernoulli(pseudo=0.5), random_state=0).fit(X)
    >>> model.means_.round(2)
    array([[0.99, 0.99, 0.01, 0.01],
           [0.03, 0.03, 0.97, 0.97]])
    """

    def __init__(self, pseudo=1.0):
        self.pseudo = pseudo

    def broad(self, family, K):
        """K copies of one product fitted to all rows."""
        start = Bernoullis(np.tile(family.mean, (K, 1)), self._checked_pseudo(), family.mean)
        return replace(start, mean=start._inside(start.mean))

    def background(self, family):
        """Coins."""
        return replace(self.broad(family, 1), mean=np.full((1, len(family.mean)), 0.5))

    def comparable(self, X, family, complete):
        """Zeros and ones 2 apart, so that a balanced column has variance 1 and a rare one less."""
        return 2.0 * np.where(np.isnan(X), family.mean, X)
