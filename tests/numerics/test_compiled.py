"""numba wakes up while the garbage collector rests, and the collector is left as it was."""

import gc
import importlib

import numba
import pytest

from sklvm.numerics import compiled


@pytest.mark.parametrize("active", [True, False])
def test_the_collector_rests_and_is_left_as_it_was(active, monkeypatch):
    seen = []

    def njit(*signature, **options):
        seen.append(gc.isenabled())
        return lambda function: function

    with monkeypatch.context() as patch:
        patch.setattr(numba, "njit", njit)
        (gc.enable if active else gc.disable)()
        try:
            importlib.reload(compiled)
        finally:
            gc.enable()
    importlib.reload(compiled)
    assert seen == [False, active, active, active]
