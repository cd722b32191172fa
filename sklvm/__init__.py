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
    "Cubature": "sklvm.moment_rules",
    "DeepBeliefNetwork": "sklvm.dbn",
    "DensityOutlierDetector": "sklvm.outlier",
    "EMFactorAnalysis": "sklvm.factor_analysis",
    "Extended": "sklvm.moment_rules",
    "FactorEmission": "sklvm.emissions.factor_analyzers",
    "GaussHermite": "sklvm.moment_rules",
    "GaussianFilter": "sklvm.gaussian_filter",
    "GaussianMixture": "sklvm.mixture",
    "GaussianMixtureEmission": "sklvm.emissions.gaussian_mixture",
    "GaussianMixtureEnsemble": "sklvm.ensemble",
    "Geomin": "sklvm.rotations",
    "HMM": "sklvm.hmm",
    "ImputationEnsemble": "sklvm.imputation_ensemble",
    "IndependentT": "sklvm.emissions.independent_t",
    "LatentImputer": "sklvm.impute",
    "LatentSpaceDisplay": "sklvm.display",
    "LinearGaussianSSM": "sklvm.state_space",
    "Mixture": "sklvm.mixture",
    "MixtureOfFactorAnalyzers": "sklvm.factor_mixture",
    "NegativeBinomial": "sklvm.emissions.negative_binomial",
    "Oblimin": "sklvm.rotations",
    "Orthomax": "sklvm.rotations",
    "ParticleFilter": "sklvm.particle_filter",
    "PerStep": "sklvm.per_step",
    "Poisson": "sklvm.emissions.poisson",
    "ProbabilisticPCA": "sklvm.probabilistic_pca",
    "Promax": "sklvm.rotations",
    "RBM": "sklvm.rbm",
    "SequenceSplit": "sklvm.sequence_split",
    "StudentT": "sklvm.emissions.student_t",
    "Target": "sklvm.rotations",
    "Unscented": "sklvm.moment_rules",
    "VAE": "sklvm.vae",
    "VQVAE": "sklvm.vqvae",
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
