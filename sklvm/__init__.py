"""Latent-variable models as scikit-learn estimators: score, fill in, sample, explain."""

from importlib import import_module

__version__ = "0.1.0.dev0"

# Public name -> module that holds it, loaded on first use (PEP 562), so that `import sklvm` loads
# neither torch nor numba nor matplotlib.
_HOME = {
    "AutoGaussianMixture": "sklvm.auto",
    "Bernoulli": "sklvm.emissions.bernoulli",
    "Categorical": "sklvm.emissions.categorical",
    "ConvergenceDisplay": "sklvm.display",
    "DeepBeliefNetwork": "sklvm.dbn",
    "DensityOutlierDetector": "sklvm.outlier",
    "EMFactorAnalysis": "sklvm.factor_analysis",
    "FactorEmission": "sklvm.emissions.factor_analyzers",
    "GaussianMixture": "sklvm.mixture",
    "GaussianMixtureEnsemble": "sklvm.ensemble",
    "Geomin": "sklvm.rotations",
    "HMM": "sklvm.hmm",
    "IndependentT": "sklvm.emissions.independent_t",
    "LatentImputer": "sklvm.impute",
    "LatentSpaceDisplay": "sklvm.display",
    "LinearGaussianSSM": "sklvm.state_space",
    "Mixture": "sklvm.mixture",
    "MixtureOfFactorAnalyzers": "sklvm.factor_mixture",
    "NegativeBinomial": "sklvm.emissions.negative_binomial",
    "Oblimin": "sklvm.rotations",
    "Orthomax": "sklvm.rotations",
    "PerStep": "sklvm.per_step",
    "Poisson": "sklvm.emissions.poisson",
    "ProbabilisticPCA": "sklvm.probabilistic_pca",
    "Promax": "sklvm.rotations",
    "RBM": "sklvm.rbm",
    "SequenceSplit": "sklvm.sequence_split",
    "StudentT": "sklvm.emissions.student_t",
    "Target": "sklvm.rotations",
    "VAE": "sklvm.vae",
    "VariationalGMM": "sklvm.variational_mixture",
    "VariationalPCA": "sklvm.variational_pca",
    "local_level": "sklvm.structural",
    "local_linear_trend": "sklvm.structural",
    "pool": "sklvm.impute",
    "seasonal": "sklvm.structural",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(
            f"module 'sklvm' has no attribute {name!r}; its public names are {', '.join(__all__)}"
        )
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__():
    return sorted(globals().keys() | _HOME.keys())
