"""From a constructor's words to a covariance structure with its penalty, in the data's scale."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .covariance import Covariance, Diag, Penalty, Spherical
from .dense import Full, Tied
from .eigen import VALUES, EigenDecomposed

STRUCTURES: dict[str, "type[Covariance] | EigenDecomposed"] = {
    **{"full": Full, "tied": Tied, "diag": Diag, "spherical": Spherical},  # scikit-learn's names
    **{"VVV": Full, "EEE": Tied, "VVI": Diag, "VII": Spherical},  # the same, as mclust has them
    **{name: EigenDecomposed(*name) for name in VALUES},
}

ALIKE = 4.0  # steps of a sequence that count as one independent row


def named_structure(cov, word):
    """The word for a value's structure: `word` where it says so, else the first that does."""
    words = [name for name, structure in STRUCTURES.items() if structure == cov.structure]
    return word if word in words or not words else words[0]


@dataclass(frozen=True)
class CovarianceFamily:
    """A structure, how strongly it is pulled to the pooled covariance, and that covariance."""

    structure: "type[Covariance] | EigenDecomposed"
    prior: "float | str"  # "auto" or pseudo-observations per free matrix
    reg_covar: float
    mean: np.ndarray  # (d,)
    pooled: np.ndarray  # (d, d)
    weight: float  # sum of the sample weights
    tally: Any = None  # what `Spec.tally` says of the rows, column by column
    alike: float = 1.0  # rows that say as much as one; "auto" counts independent ones

    whole = Full  # what describes all rows

    def marginal(self, columns):
        """What it says of some columns."""
        pooled, tally = self.pooled[np.ix_(columns, columns)], _some(self.tally, columns)
        return replace(self, mean=self.mean[columns], pooled=pooled, tally=tally)

    def dependent(self, length):
        """The same for rows that follow each other in sequences of this many."""
        return replace(self, alike=min(ALIKE, length))

    @property
    def spread(self):
        """(d, d)"""
        return self.pooled

    @property
    def variance(self):
        """(d,) the pooled variance of each column."""
        return np.diag(self.pooled)

    def target(self, K):
        """K^(-2/d) times the pooled covariance, which is shrunk to full rank where it is not."""
        d = len(self.pooled)
        return K ** (-2 / max(d, 1)) * full_rank(self.pooled, self.weight)

    def broad(self, K):
        """K copies of one covariance of all rows, with the penalty for K components."""
        d = len(self.pooled)
        auto = self.alike * self.structure.prior_count(d, K)
        count = auto if self.prior == "auto" else float(self.prior)
        ridge = self.reg_covar * self.weight / self.structure.n_matrices(K)
        scale = count * self.target(K) + ridge * np.eye(d)
        return self.structure.broad(full_rank(self.pooled, self.weight), K, Penalty(count, scale))


@dataclass(frozen=True)
class ColumnFamily:
    """The moments of the columns: all that structures without a d x d matrix ask of the data."""

    mean: np.ndarray  # (d,)
    variance: np.ndarray  # (d,)
    weight: float  # sum of the sample weights
    tally: Any = None  # what `Spec.tally` says of the rows, column by column

    whole = Diag

    def marginal(self, columns):
        """What it says of some columns."""
        variance, tally = self.variance[columns], _some(self.tally, columns)
        return replace(self, mean=self.mean[columns], variance=variance, tally=tally)

    def dependent(self, length):
        """The same for rows that follow each other: no prior here is told in rows."""
        return self

    @property
    def spread(self):
        """(d,)"""
        return self.variance


def _some(tally, columns):
    return None if tally is None else [tally[column] for column in columns]


def full_rank(S, weight):
    """S, or S drawn towards its diagonal by d / (weight + d) when its correlations are singular."""
    sd = np.sqrt(np.diag(S))
    values = np.linalg.eigvalsh(S / np.outer(sd, sd))
    d = len(S)
    if not d or values[0] > 10 * d * np.finfo(float).eps * values[-1]:
        return S
    shrink = d / (weight + d)
    return (1 - shrink) * S + shrink * np.diag(np.diag(S))
