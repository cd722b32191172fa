"""What the speed benchmarks share: two contestants in turn, on one thread, by CPU time."""

import time
from typing import NamedTuple

import numpy as np


class Race(NamedTuple):
    """Medians of CPU seconds, and of the ratios of neighbouring runs with their range."""

    theirs: float
    ours: float
    ratio: float
    low: float
    high: float

    def cells(self):
        return [
            f"{1e3 * self.theirs:.3g}",
            f"{1e3 * self.ours:.3g}",
            f"{self.ratio:.2f}",
            f"{self.low:.2f}-{self.high:.2f}",
        ]


def race(theirs, ours, runs=5, inner=1):
    """Time two functions in turn, `inner` calls at a time."""
    times = np.array([[_seconds(theirs, inner), _seconds(ours, inner)] for _ in range(runs)])
    ratios = times[:, 0] / times[:, 1]
    return Race(*np.median(times, axis=0), np.median(ratios), ratios.min(), ratios.max())


def _seconds(function, inner):
    began = time.process_time()
    for _ in range(inner):
        function()
    return (time.process_time() - began) / inner


def table(title, header, rows):
    """Print rows of strings under a title, columns aligned."""
    lines = [header, *rows]
    widths = [max(len(line[j]) for line in lines) for j in range(len(header))]
    print(f"\n{title}")
    for line in lines:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths)))
