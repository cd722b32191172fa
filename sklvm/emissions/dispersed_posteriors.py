"""Posteriors over the means of negative binomial columns: one Gamma for each."""

from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.special import digamma, gammaln

from .base import Integrated
from .dispersion import log_prior
from .independent import FLOOR
from .negative_binomial import CLOSE, ROUNDS, NegativeBinomials


@dataclass(frozen=True)
class GammaMeans(Integrated, NegativeBinomials):
    """q(m_kj) = Gamma(rows mean, rows) of x_j ~ Poisson(m_kj u), u ~ Gamma(1 / a_kj, 1 / a_kj).

    u is one more latent of each row and column. Its best q is a Gamma of 1 / a + x and 1 / a plus
    E[m], and `log_prob` has it integrated out: a negative binomial with E[log m] for log E[m] where
    x multiplies it. The dispersions a are points, under the penalty of EM; the prior of m is that
    of EM's Poisson rows.
    """

    rows: np.ndarray  # (K, d) expected rows that the mean rests on, those of the prior included

    @classmethod
    def unseen(cls, start):
        """The prior of the components of `start`, which EM begins with."""
        values = {field.name: getattr(start, field.name) for field in fields(start)}
        rows = np.broadcast_to(start._prior_rows, start.mean.shape)
        return cls(**{**values, "mean": np.tile(start.centre, (len(rows), 1)), "rows": rows})

    @property
    def _shape(self):
        return self.rows * self.mean

    def _slope_and_constant(self):
        slope, constant = super()._slope_and_constant()
        return slope + digamma(self._shape) - np.log(self._shape), constant

    def m_step(self, stats):
        there, mean = self, self.mean
        rows, total, above = self.sums(stats)
        for _ in range(ROUNDS):
            there = there._with_means(rows, total)
            there = there._with_dispersions(rows, total, above, stats.slope)
            if np.abs(mean / there.mean - 1).max(initial=0.0) < CLOSE:
                break
            mean = there.mean
        return there

    def _with_means(self, rows, total):
        """The best q(m), with q(u) at its best for it: shape / mean = rate, linear in q(u)'s means.

        The positive root m of k m^2 + (k r + rows r - k centre) m - shape r = 0, r = 1 / a and k
        the rows of the prior.
        """
        k, r = self._prior_rows, 1 / self.dispersion
        shape = total + k * self.centre
        linear, constant = r * (k + rows) - k * self.centre, shape * r
        root = np.sqrt(linear**2 + 4 * k * constant)
        up = 2 * constant / np.where(linear + root > 0, linear + root, 1.0)
        mean = np.where(linear > 0, up, (root - linear) / (2 * k))
        mean = np.maximum(mean, FLOOR * self.centre)
        return replace(self, mean=mean, rows=shape / mean)

    def log_prior(self):
        """-KL(q || prior) of the means, and the penalty of the dispersions."""
        k, shape = self._prior_rows, self._shape
        before, log_mean = k * self.centre, digamma(shape) - np.log(self.rows)
        normaliser = gammaln(shape) - shape * np.log(self.rows)
        gap = (shape - before) * log_mean - (self.rows - k) * self.mean
        kl = gammaln(before) - before * np.log(k) - normaliser + gap
        penalty = log_prior(self.dispersion, self._typical, self.pseudo)
        return float((penalty - kl).sum())

    def predictive(self):
        """Negative binomials with the mean and the variance of the average over q."""
        wider = (1 + self.dispersion) * (1 + 1 / self._shape) - 1
        return self._point(self.mean, wider)

    def draw(self, rng):
        """Negative binomials whose means are drawn from q."""
        drawn = rng.standard_gamma(self._shape) / self.rows
        return self._point(np.maximum(drawn, FLOOR * self.centre), self.dispersion)

    def _point(self, mean, dispersion):
        return NegativeBinomials(mean, dispersion, self.pseudo, self.centre, self.spread)

    def variance(self):
        return self.predictive().variance()

    def take(self, order):
        return replace(super().take(order), rows=self.rows[order])

    def marginal(self, columns):
        return replace(super().marginal(columns), rows=self.rows[:, columns])

    def pack(self, other):
        return np.concatenate([super().pack(other), np.log(other.rows / self.rows).ravel()])

    def unpack(self, vector):
        rest, rows = np.split(vector, [2 * self.mean.size])
        rows = self.rows * np.exp(rows.reshape(self.rows.shape))
        return replace(super().unpack(rest), rows=rows)
