"""Which emissions have a posterior over their parameters, and what it begins as."""

import numpy as np

from .bernoulli import Bernoulli
from .categorical import Categorical
from .cell_posteriors import DirichletCells
from .columns import Columns
from .conjugate import MEAN_PRECISION, Conjugate, no_penalty
from .dispersed_posteriors import GammaMeans
from .factor_analyzers import FactorEmission
from .factor_posteriors import FactorPosteriors
from .family import STRUCTURES
from .gaussian import Gaussian
from .gaussian_mixture import GaussianMixtureEmission
from .negative_binomial import NegativeBinomial
from .nested_posteriors import GaussianMixturePosteriors
from .normal_gamma import NormalGammas, NormalSharedGammas
from .normal_wishart import NormalSharedWishart, NormalWisharts
from .poisson import Poisson
from .rate_posteriors import Betas, Gammas
from .student_posteriors import StudentPosteriors
from .student_t import StudentT, checked_df

POSTERIORS: dict[str, type[Conjugate]] = {
    "full": NormalWisharts,
    "tied": NormalSharedWishart,
    "diag": NormalGammas,
    "spherical": NormalSharedGammas,
}
OF_STRUCTURE = {posterior.structure: posterior for posterior in POSTERIORS.values()}


def unseen_posterior(spec, family, K):
    """The prior of K components, as the posterior of components that have seen nothing.

    In the data's scale: spec is what people say of the emission, family what rows say.
    """
    if type(spec) not in _MAKERS:
        raise ValueError(
            "inference='vb' has posteriors for 'gaussian', 'gaussian_mixture', 'student_t', "
            "FactorEmission, 'bernoulli', 'categorical', 'poisson', 'negative_binomial' and lists "
            f"of these, got {type(spec).__name__}"
        )
    return _MAKERS[type(spec)](spec, family, K)


def _gaussian(spec, family, K):
    if family.structure not in OF_STRUCTURE:
        raise ValueError(
            "inference='vb' of Gaussian emissions needs a covariance_type of "
            f"{sorted(POSTERIORS)}, got {_word(family.structure)!r}"
        )
    posterior, d = OF_STRUCTURE[family.structure], len(family.mean)
    cov = posterior.structure.broad(family.target(K), 1, no_penalty(d))
    means = np.tile(family.mean, (K, 1))
    return posterior.unseen(means, MEAN_PRECISION, posterior.usual_degrees(d), cov)


def _student(spec, family, K):
    df, penalty = checked_df(spec)
    return StudentPosteriors(_gaussian(spec, family, K), np.full(K, df), spec.df is None, penalty)


def _mixtures(spec, family, K):
    parts = _gaussian(spec, family, K * spec.checked_size())
    return GaussianMixturePosteriors.unseen(parts, K)


def _factors(spec, family, K):
    if spec.noise != "free":
        raise ValueError(f"inference='vb' of FactorEmission needs noise='free', got {spec.noise!r}")
    return FactorPosteriors.unseen(spec.broad(family, K), family)


def _word(structure):
    return next(word for word, other in STRUCTURES.items() if other == structure)


def _counts(posterior):
    def make(spec, family, K):
        start = spec.broad(family, K)
        if not start.pseudo > 0:
            raise ValueError(
                f"{type(spec).__name__}: pseudo must be positive for inference='vb', whose prior "
                f"it is, got {spec.pseudo!r}"
            )
        return posterior.unseen(start)

    return make


def _columns(spec, family, K):
    return spec.joined(family, lambda part, of_part: unseen_posterior(part, of_part, K))


_MAKERS = {
    Gaussian: _gaussian,
    StudentT: _student,
    FactorEmission: _factors,
    GaussianMixtureEmission: _mixtures,
    Bernoulli: _counts(Betas),
    Poisson: _counts(Gammas),
    NegativeBinomial: _counts(GammaMeans),
    Categorical: _counts(DirichletCells),
    Columns: _columns,
}
