"""Conditional distributions p(x | z) and the values they are made of. One registry names them."""

from .base import Spec
from .bernoulli import Bernoulli
from .categorical import Categorical
from .gaussian import Gaussian
from .independent_t import IndependentT
from .negative_binomial import NegativeBinomial
from .poisson import Poisson
from .student_t import StudentT

EMISSIONS: dict[str, type] = {
    "gaussian": Gaussian,
    "student_t": StudentT,
    "independent_t": IndependentT,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}


def named_emission(emission):
    """A name or a spec object -> spec object."""
    if isinstance(emission, str) and emission in EMISSIONS:
        return EMISSIONS[emission]()
    if hasattr(emission, "broad") and isinstance(emission, Spec):
        return emission
    raise ValueError(
        f"emission must be one of {sorted(EMISSIONS)} or a spec object such as StudentT(df=4), "
        f"got {emission!r}"
    )
