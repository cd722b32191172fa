"""Which of the noise variances of K factor analysers are one number."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Noise:
    """A way to share the (K, d) uniquenesses: `axes` are those along which they are equal."""

    name: str
    axes: tuple = ()  # 0: over components, 1: over features

    def pooled(self, values):
        """Sums over what shares one number: (K, d) -> (K or 1, d or 1)."""
        return values.sum(axis=self.axes, keepdims=True)

    def free(self, psi):
        """The free numbers of an array that is shared this way: (K, d) -> (K or 1, d or 1)."""
        return psi[tuple(slice(1) if axis in self.axes else slice(None) for axis in (0, 1))]

    def common(self, variance):
        """A level for each feature that respects the sharing over features: (d,) -> (d,)."""
        return np.full_like(variance, variance.mean()) if 1 in self.axes else variance

    @property
    def untied(self):
        """The same sharing over features, with each component its own."""
        return NOISES["isotropic" if 1 in self.axes else "free"]


NOISES = {
    noise.name: noise
    for noise in (
        Noise("free"),
        Noise("shared", (0,)),
        Noise("isotropic", (1,)),
        Noise("shared_isotropic", (0, 1)),
    )
}
