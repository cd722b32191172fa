"""What the first use of a sequence model costs: `python benchmarks/sequence_start.py`.

Each figure comes from a process of its own. "first" is what a call takes more than the same call
again: numba's own import and compiling its kernels (cold: an empty cache, once per installation),
or numba's import and loading them (warm: the median of five processes). Process CPU seconds on one
thread.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # the processes inherit it

import subprocess
import sys
import tempfile

import numpy as np
from _timing import table

SCRIPT = """
import time, warnings
import numpy as np
from sklvm import HMM, LinearGaussianSSM
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X = [rng.normal(size=(30, 2)).cumsum(axis=0) for _ in range(5)]
model = {model}
{before}
def seconds():
    began = time.process_time()
    model.{verb}(X)
    return time.process_time() - began
first = seconds()
print(first - seconds())
"""
HMM, SSM = "HMM(3, max_iter=20, random_state=0)", "LinearGaussianSSM(2, max_iter=20)"
CALLS = [
    ("HMM.fit", HMM, "", "fit"),
    ("HMM.predict, after fit", HMM, "model.fit(X)", "predict"),
    ("LinearGaussianSSM.fit", SSM, "", "fit"),
    ("LinearGaussianSSM.filter, after fit", SSM, "model.fit(X)", "filter"),
]


def seconds(cache, model, before, verb):
    """One process with its own or a shared cache of kernels."""
    script = SCRIPT.format(model=model, before=before, verb=verb)
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", script]
    return float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


def main():
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for label, *call in CALLS:
            cold = seconds(cache, *call)
            warm = np.array([seconds(cache, *call) for _ in range(5)])
            spread = f"{warm.min():.2f}-{warm.max():.2f}"
            rows.append([label, f"{cold:.1f}", f"{np.median(warm):.2f}", spread])
    table("First calls", ["call", "cold s", "warm s", "range"], rows)


if __name__ == "__main__":
    main()
