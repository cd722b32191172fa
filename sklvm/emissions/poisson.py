"""K products of Poisson distributions: columns of counts."""

from dataclasses import dataclass

import numpy as np
from scipy.special import pdtr

from .exponential import Exponential
from .independent import CountingSpec, between, log_factorials, refuse_unless, whole
from .negative_binomial import NegativeBinomial


@dataclass(frozen=True)
class Poissons(Exponential):
    """p(x | z = k) = prod_j Poisson(x_j; mean_kj)."""

    def check(self, X):
        refuse_unless(whole(X), X, "Poisson() needs counts 0, 1, 2, ...")

    def natural(self):
        """About the Poisson distribution of all rows: large counts keep their digits."""
        return np.log(self.mean / self.centre), self.mean - self.centre

    def log_base(self, X):
        x = np.where(np.isnan(X), 0.0, X)
        return x @ np.log(self.centre) - ~np.isnan(X) @ self.centre - log_factorials(X)

    def sample(self, z, rng):
        return rng.poisson(self.mean[z]).astype(float)

    def variance(self):
        return self.mean

    def cdf(self, X):
        x = np.floor(X)[:, None]
        return np.where(x < 0, 0.0, pdtr(np.maximum(x, 0.0), self.mean))

    def candidates(self):
        return between(np.floor(self.mean[:, 0]))

    @property
    def spec(self):
        return Poisson(self.pseudo)


class Poisson(CountingSpec):
    """Poisson emission: columns of counts, independent within a component.

    Parameters
    ----------
    pseudo : float, default=1.0
        Prior rows, of the average counts of all rows, that each component gets; 0 is maximum
        likelihood.

    See Also
    --------
    NegativeBinomial : Counts that vary more than Poisson counts within a component.

    References
    ----------
    McLachlan & Peel (2000), Finite Mixture Models, chapter 5.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import Mixture
    >>> rng = np.random.default_rng(0)
    >>> X = rng.poisson(np.repeat([[2, 9], [8, 1]], [200, 100], axis=0))
    >>> model = Mixture(2, emission="poisson", random_state=0).fit(X)
    >>> model.means_.round()
    array([[2., 9.],
           [8., 1.]])
    """

    def __init__(self, pseudo=1.0):
        self.pseudo = pseudo

    def broad(self, family, K):
        """K copies of one product fitted to all rows."""
        return Poissons(np.tile(family.mean, (K, 1)), self._checked_pseudo(), family.mean)

    def background(self, family):
        """Counts that vary more."""
        return NegativeBinomial(self.pseudo).background(family)

    def comparable(self, X, family, complete):
        """Twice the square roots: whatever its rate, a Poisson count then has variance 1."""
        return 2.0 * np.sqrt(np.where(np.isnan(X), family.mean, X))
