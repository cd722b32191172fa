"""What a decoder's outputs mean: p(x | eta), each a true density or pmf. One table names them."""

from ...emissions import EMISSIONS
from ...emissions.base import Spec
from .base import Eta, Likelihood
from .bernoulli import BernoulliLikelihood
from .categorical import CategoricalLikelihood
from .columns import ColumnLikelihoods, joined
from .continuous_bernoulli import ContinuousBernoulliLikelihood
from .counts import NegativeBinomialLikelihood, PoissonLikelihood
from .given import given
from .location_scale import GaussianLikelihood, LogNormalLikelihood, StudentLikelihood

__all__ = ["LIKELIHOODS", "ColumnLikelihoods", "Eta", "Likelihood", "given", "joined"]
__all__ += ["BernoulliLikelihood", "GaussianLikelihood", "named_likelihood"]


def _student(spec, *noise):
    return StudentLikelihood(*noise, df=getattr(spec, "df", None))


def _categorical(spec, *noise):
    n_categories = getattr(spec, "n_categories", None)
    return CategoricalLikelihood(n_categories, None if n_categories is None else 0.0)


# name -> the likelihood of a spec (or None), and the variance and floor of columns with a scale
LIKELIHOODS = {
    "gaussian": lambda spec, *noise: GaussianLikelihood(*noise),
    "student_t": _student,
    "bernoulli": lambda spec, *noise: BernoulliLikelihood(),
    "categorical": _categorical,
    "poisson": lambda spec, *noise: PoissonLikelihood(),
    "negative_binomial": lambda spec, *noise: NegativeBinomialLikelihood(),
    "continuous_bernoulli": lambda spec, *noise: ContinuousBernoulliLikelihood(),
    "log_normal": lambda spec, *noise: LogNormalLikelihood(*noise),
}
WORDS = {EMISSIONS[word]: word for word in LIKELIHOODS if word in EMISSIONS}


def named_likelihood(likelihood, variance, floor):
    """A name or a spec such as StudentT(df=4) -> a likelihood that no rows were told to."""
    word = WORDS.get(type(likelihood)) if isinstance(likelihood, Spec) else likelihood
    if not isinstance(word, str) or word not in LIKELIHOODS:
        raise ValueError(
            f"likelihood must be one of {sorted(LIKELIHOODS)}, 'auto' for a whole table, or a spec "
            f"such as StudentT(df=4), got {likelihood!r}"
        )
    return LIKELIHOODS[word](likelihood, variance, floor)
