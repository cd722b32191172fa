"""What holds for every test: settings that must precede scipy's import, one thread per process."""

import os
import sys

SCIPY_LOADED_TOO_EARLY = "scipy" in sys.modules and os.environ.get("SCIPY_ARRAY_API") != "1"
os.environ["SCIPY_ARRAY_API"] = "1"  # read when scipy is imported; without it a check is skipped
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

# The same examples in every run: a test that fails only sometimes is a defect.
hypothesis.settings.register_profile("sklvm", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("sklvm")


def pytest_configure(config):
    if SCIPY_LOADED_TOO_EARLY:
        raise pytest.UsageError("something imported scipy before tests/: set SCIPY_ARRAY_API=1")
    # Not in pyproject.toml: pytest would import scikit-learn, and scipy, before the lines above.
    config.addinivalue_line("filterwarnings", "error::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def one_torch_thread():
    """Keep torch to one thread once a test has loaded it, without loading it for the others."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
