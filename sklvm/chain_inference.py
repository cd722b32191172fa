"""What is found of a hidden Markov model's parameters: their mode (EM), or a posterior (VB)."""

import numpy as np

from .chain_state import ChainState
from .emissions.posteriors import unseen_posterior
from .emissions.simplex import DirichletRows, PenalisedPoint

BEGINNING = 10.0  # pseudo-counts for which the rows of the first chain stand


class Mode:
    """The mode of likelihood and prior, by expectation-maximisation."""

    least = 1.0  # Dirichlet parameter: below it the mode is at the edge

    @staticmethod
    def simplex(begin, prior):
        """Rows of probabilities to begin with, under a Dirichlet prior."""
        return PenalisedPoint(begin, prior - 1.0, begin > 0)

    @staticmethod
    def emission(model, family, constant):
        """K equal states, the prior in place."""
        return model._emission(constant).broad(family, model.n_components)

    @staticmethod
    def draws(model, read, n_draws, rng):
        """States with parameters drawn given sequences."""
        return model._bootstrap(read, n_draws, rng)

    @staticmethod
    def parameter_kl(state):
        """KL(q || prior) of the parameters."""
        return 0.0

    @staticmethod
    def lower_bound(objective, n_steps):
        """What the objective, per step, says of the fit."""
        return objective

    @staticmethod
    def params(state):
        """Constructor parameters of a model of the density of a state."""
        return {}


class Posterior:
    """A posterior: Dirichlet rows and conjugate emissions, by variational Bayes."""

    least = np.finfo(float).tiny

    @staticmethod
    def simplex(begin, prior):
        prior = np.where(begin > 0, prior, 0.0)
        return DirichletRows(prior + BEGINNING * begin, prior)

    @staticmethod
    def emission(model, family, constant):
        return unseen_posterior(model._emission(constant), family, model.n_components)

    @staticmethod
    def draws(model, read, n_draws, rng):
        """From q, which knows the sequences of `fit`: these are not read."""
        q = model.run_.state
        for _ in range(n_draws):
            yield ChainState(q.startprob.draw(rng), q.transmat.draw(rng), q.emission.draw(rng))

    @staticmethod
    def parameter_kl(state):
        return -state.log_prior()

    @staticmethod
    def lower_bound(objective, n_steps):
        """The bound on the log evidence of all sequences."""
        return objective * n_steps

    @staticmethod
    def params(state):
        return {"inference": "em", "emission": state.emission.spec}


INFERENCES = {"em": Mode, "vb": Posterior}
