"""What the quality benchmarks share: where the data lie, results kept between runs, tables."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

NEEDED = """nothing was measured: this benchmark needs the folder `{folder}` of tables
({content})
inside the data folder; name that by --data PATH or by the environment variable SKLVM_DATA
(got {got})."""


def arguments(title, folder, content, max_rows=10_000):
    """The command line of a quality benchmark, with `files`, the tables that it found."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--data", default=os.environ.get("SKLVM_DATA"), help="the data folder")
    parser.add_argument("--seeds", type=int, default=5, help="splits of each table")
    parser.add_argument("--max-rows", type=int, default=max_rows, help="rows drawn from each table")
    parser.add_argument("--cache", help="a JSON file that keeps the results of finished runs")
    parser.add_argument("--methods", nargs="+", help="only these")
    parser.add_argument("--tables", nargs="+", help="only these")
    options = parser.parse_args()
    found = sorted(Path(options.data, folder).glob("*.npz")) if options.data else []
    if not found:
        print(NEEDED.format(folder=folder, content=content, got=options.data or "neither"))
        sys.exit(0)
    files = {file.stem: file for file in found}
    options.files = {name: files[name] for name in options.tables or files}
    return options


class Results:
    """Numbers by name, in a JSON file if there is one, so that a peer is run once."""

    def __init__(self, path):
        self.path = Path(path) if path else None
        self.known = json.loads(self.path.read_text()) if path and self.path.exists() else {}

    def get(self, key, compute):
        """What `compute()` gives, and its CPU seconds: from the file if they are there."""
        name = " ".join(map(str, key))
        if name not in self.known:
            began = time.process_time()
            value = compute()
            self.known[name] = [value, time.process_time() - began]
            if self.path:
                self.path.write_text(json.dumps(self.known, indent=0))
        return self.known[name]


def table(title, header, rows):
    """Print rows of strings under a title, columns aligned."""
    lines = [header, *rows]
    widths = [max(len(line[j]) for line in lines) for j in range(len(header))]
    print(f"\n{title}")
    for line in lines:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths)))


def drawn(n, size, rng):
    """At most `size` of n rows, shuffled: -> positions."""
    return rng.permutation(n)[:size]


def standardised(train, *others):
    """The columns of all tables less the mean of the training rows, over their spread."""
    mean, sd = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
    return [(rows - mean) / np.where(sd > 0, sd, 1.0) for rows in (train, *others)]
