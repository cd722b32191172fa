"""What estimators around a density share: its default, its seeds, its columns and its tags."""

from sklearn.base import clone
from sklearn.utils import get_tags


class DensityWrapper:
    """A meta-estimator with the parameter `estimator` and the fitted `estimator_`.

    A subclass writes `_default`: what ``estimator=None`` stands for.
    """

    def _density(self):
        return self._default() if self.estimator is None else self.estimator

    def _seeded(self, rng):
        """A clone of the density; each random_state that was None, nested too, comes from rng."""
        estimator = clone(self._density())
        unset = [
            name
            for name, value in sorted(estimator.get_params().items(), key=lambda item: item[0])
            if name.split("__")[-1] == "random_state" and value is None
        ]
        return estimator.set_params(**{name: int(rng.integers(2**31 - 1)) for name in unset})

    @property
    def n_features_in_(self):
        """Number of features of `estimator_`."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self):
        """Feature names of `estimator_`."""
        return self.estimator_.feature_names_in_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self._density()).input_tags
        return tags
