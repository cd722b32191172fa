"""Chorales and spoken digits: held-out likelihood and accuracy of hidden Markov models.

    python benchmarks/sequence_quality.py --data PATH [--states 64 384] [--methods sklvm ...]

Chorales (jsb): 88 keys, quarter notes; `HMM(K, emission="bernoulli")` at its defaults is fitted to
229 chorales, and the negative log-likelihood per step of 76 others is printed. Keys that no
training chorale uses are left out; no other one uses them either.

Spoken digits (fsdd): 13 cepstral coefficients less their mean in each recording. A model for each
digit is fitted to three speakers, and the fourth one's digits belong to the model with the highest
score. hmmlearn has the same states and structure, standardised columns and up to 100 iterations.
Seconds are process CPU seconds on one thread.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import argparse
import sys
import time
import warnings
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from _quality import NEEDED, Results, standardised, table
from threadpoolctl import threadpool_limits

from sklvm import HMM, GaussianMixtureEmission

STATES = (5,)
STRUCTURES = ("diag", "full")


def split(rows, lengths):
    """Rows below each other -> a list of (T_i, d)."""
    return np.split(rows, np.cumsum(lengths)[:-1])


# --- chorales ---------------------------------------------------------------------------------


def chorales(file):
    """Training and validation sequences of 88 bits."""
    packed = np.load(file)
    for part in ("train", "valid"):
        bits = np.unpackbits(packed[part], axis=1)[:, :88].astype(float)
        yield split(bits, packed[f"{part}_len"])


def chorale_row(K, train, valid):
    began = time.process_time()
    model = HMM(K, emission="bernoulli", random_state=0).fit(train)
    seconds = time.process_time() - began
    off = np.concatenate(valid)[:, model.constant_] != model.constant_values_[model.constant_]
    if off.any():
        raise ValueError("a validation chorale uses a key that is outside the density")
    per_step = [-model.score_samples(X).sum() / sum(map(len, X)) for X in (valid, train)]
    return [str(K), *(f"{nll:.3f}" for nll in per_step), str(model.n_iter_), f"{seconds:.0f}"]


# --- digits -----------------------------------------------------------------------------------


def spoken(file):
    """Sequences, their digits and their speakers."""
    data = np.load(file)
    sequences = split(data["X"].astype(float), data["lengths"])
    return [x - x.mean(axis=0) for x in sequences], data["digit"], data["speaker"]


def ours(K, structure, **settings):
    def scores(train, test):
        model = HMM(K, covariance_type=structure, random_state=0, **settings)
        return model.fit(train).score_samples(test)

    return scores


def theirs(K, structure):
    from hmmlearn.hmm import GaussianHMM

    def scores(train, test):
        settings = {"covariance_type": structure, "n_iter": 100, "random_state": 0}
        rows, lengths = np.concatenate(train), [len(x) for x in train]
        model = GaussianHMM(K, **settings).fit(rows, lengths)
        return np.array([model.score(x) for x in test])

    return scores


def accuracy(method, sequences, digit, speaker, left_out):
    """Share of the digits of one speaker that models of the other speakers name."""
    train, test = np.flatnonzero(speaker != left_out), np.flatnonzero(speaker == left_out)
    rows = np.concatenate([sequences[i] for i in train])
    whole = standardised(rows, np.concatenate(sequences))[1]
    X = split(whole, [len(x) for x in sequences])
    scores = [
        method([X[i] for i in train if digit[i] == name], [X[i] for i in test])
        for name in np.unique(digit)
    ]
    named = np.unique(digit)[np.argmax(scores, axis=0)]
    return float((named == digit[test]).mean())


METHODS = {
    "hmmlearn": theirs,
    "sklvm": ours,
    "sklvm left-right": partial(ours, topology="left-right"),
    "sklvm left-right, n_mix=2": partial(
        ours, topology="left-right", emission=GaussianMixtureEmission(2)
    ),
}


def digit_rows(file, results, methods):
    data = spoken(file)
    for structure, K, name in product(STRUCTURES, STATES, methods):
        method, found = METHODS[name](K, structure), []
        for left_out in np.unique(data[2]).tolist():
            compute = partial(accuracy, method, *data, left_out)
            found.append(results.get(("fsdd", name, structure, K, left_out), compute))
        shares, seconds = zip(*found, strict=True)
        cells = [f"{100 * share:.1f}" for share in (np.mean(shares), *shares)]
        yield [f"{structure}, {K}", name, *cells, f"{sum(seconds):.0f}"]


def arguments():
    """The command line, with the files of chorales and of digits, or None."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("SKLVM_DATA"), help="the data folder")
    parser.add_argument("--states", nargs="*", type=int, default=[64], help="of the chorales")
    parser.add_argument("--cache", help="a JSON file that keeps the results of the digits")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), help="of the digits")
    options = parser.parse_args()
    found = [sorted(Path(options.data or "", name).glob("*.npz")) for name in ("jsb", "fsdd")]
    if not options.data or not any(found):
        content = "jsb: chorales as bits; fsdd: spoken digits"
        print(NEEDED.format(folder="jsb` or `fsdd", content=content, got=options.data))
        sys.exit(0)
    options.chorales, options.digits = (files[0] if files else None for files in found)
    return options


def main():
    options = arguments()
    if options.chorales and options.states:
        train, valid = chorales(options.chorales)
        rows = [chorale_row(K, train, valid) for K in options.states]
        header = ["states", "NLL per step", "in training", "iterations", "s"]
        table("Chorales: 88 Bernoulli emissions a state, defaults", header, rows)
    if options.digits and options.methods:
        rows = digit_rows(options.digits, Results(options.cache), options.methods)
        header = ["matrices, states", "method", "% right", "left out: 1", "2", "3", "4", "s"]
        table("Spoken digits of a speaker left out", header, list(rows))


if __name__ == "__main__":
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
