"""Pictures of fits: how they converged, and where they put the rows."""

from .convergence import ConvergenceDisplay
from .latent_space import LatentSpaceDisplay

__all__ = ["ConvergenceDisplay", "LatentSpaceDisplay"]
