"""The only file that imports private names of scikit-learn."""

from sklearn.base import _fit_context
from sklearn.utils._param_validation import (
    HasMethods,
    Integral,
    Interval,
    Real,
    StrOptions,
)
from sklearn.utils._set_output import _get_adapter_from_container
from sklearn.utils.validation import _check_feature_names_in, _check_sample_weight

try:  # scikit-learn 1.9
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:
        """Older scikit-learn has no callbacks to support."""


__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Integral",
    "Interval",
    "Real",
    "StrOptions",
    "_check_feature_names_in",
    "_check_sample_weight",
    "_fit_context",
    "_get_adapter_from_container",
]
