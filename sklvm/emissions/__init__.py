"""Conditional distributions p(x | z) and the values they are made of. One registry names them."""

from .base import Spec
from .bernoulli import Bernoulli
from .categorical import Categorical
from .columns import Columns
from .gaussian import Gaussian
from .gaussian_mixture import GaussianMixtureEmission
from .independent_t import IndependentT
from .negative_binomial import NegativeBinomial
from .poisson import Poisson
from .student_t import StudentT

EMISSIONS: dict[str, type] = {
    "gaussian": Gaussian,
    "gaussian_mixture": GaussianMixtureEmission,
    "student_t": StudentT,
    "independent_t": IndependentT,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}


def named_emission(emission):
    """A name, a spec object or a list of pairs (emission, columns) -> spec object."""
    if isinstance(emission, list):
        return Columns([_named_pair(pair) for pair in emission])
    if isinstance(emission, str) and emission in EMISSIONS:
        return EMISSIONS[emission]()
    if hasattr(emission, "broad") and isinstance(emission, Spec):
        return emission
    raise ValueError(
        f"emission must be one of {sorted(EMISSIONS)} or a spec object such as StudentT(df=4), "
        f"got {emission!r}"
    )


def _named_pair(pair):
    if not isinstance(pair, tuple) or len(pair) != 2 or isinstance(pair[0], list):
        raise ValueError(f"a list as emission holds pairs (emission, columns), got {pair!r}")
    return named_emission(pair[0]), pair[1]
