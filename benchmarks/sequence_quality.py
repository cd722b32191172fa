"""Chorales and spoken digits: held-out likelihood and accuracy of hidden Markov models.

    python benchmarks/sequence_quality.py --data PATH [--states 64 384] [--methods sklvm ...]
        [--seeds 3] [--structures diag full]

Chorales (jsb): 88 keys, quarter notes; `HMM(K, emission="bernoulli")` at its defaults is fitted to
229 chorales, and the negative log-likelihood per step of 76 others is printed. Keys that no
training chorale uses are left out; no other one uses them either.

Spoken digits (fsdd): 13 cepstral coefficients less their mean in each recording. A model for each
digit is fitted to three speakers, and the fourth one's digits belong to the model with the highest
score; shares are means over seeds. hmmlearn has the same states and structure, standardised columns
and up to 100 iterations. "n_init=1" is one start, as hmmlearn has. Then the strength of the
covariance prior is judged twice: by speakers left out, and by the log density of a step in every
other recording, under models of those between them, which are of the same four speakers.
Seconds are process CPU seconds on one thread, for each seed.
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
AUTO = {"diag": lambda d: d / (d + 1), "full": lambda d: d / 2}  # of a mixture; HMM: four times it
MULTIPLES = (1, 4, 16, 64, 256)


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


def ours(K, structure, seed, **settings):
    def scores(train, test):
        model = HMM(K, covariance_type=structure, random_state=seed, **settings)
        return model.fit(train).score_samples(test)

    return scores


def theirs(K, structure, seed):
    from hmmlearn.hmm import GaussianHMM

    def scores(train, test):
        settings = {"n_iter": 100, "random_state": seed, "implementation": "scaling"}
        rows, lengths = np.concatenate(train), [len(x) for x in train]
        model = GaussianHMM(K, covariance_type=structure, **settings).fit(rows, lengths)
        return np.array([model.score(x) for x in test])

    return scores


def scaled(sequences, train):
    """All sequences, with the columns of those numbered `train` standardised."""
    rows = np.concatenate([sequences[i] for i in train])
    return split(standardised(rows, np.concatenate(sequences))[1], [len(x) for x in sequences])


def accuracy(method, sequences, digit, speaker, left_out):
    """Share of the digits of one speaker that models of the other speakers name."""
    train, test = np.flatnonzero(speaker != left_out), np.flatnonzero(speaker == left_out)
    X = scaled(sequences, train)
    scores = []
    for name in np.unique(digit):
        rows = train[digit[train] == name]
        scores.append(method([X[i] for i in rows], [X[i] for i in test]))
    named = np.unique(digit)[np.argmax(scores, axis=0)]
    return float((named == digit[test]).mean())


METHODS = {
    "hmmlearn": theirs,
    "sklvm": ours,
    "sklvm, n_init=1": partial(ours, n_init=1),
    "sklvm left-right": partial(ours, topology="left-right"),
    "sklvm left-right, n_mix=2": partial(
        ours, topology="left-right", emission=GaussianMixtureEmission(2)
    ),
}


def digit_rows(data, results, options):
    speakers = np.unique(data[2]).tolist()
    for structure, K, name in product(options.structures, STATES, options.methods):
        found = []
        for seed, left_out in product(range(options.seeds), speakers):
            compute = partial(accuracy, METHODS[name](K, structure, seed), *data, left_out)
            key = ("fsdd", name, structure, K, left_out, "seed", seed)
            found.append(results.get(key, compute))
        shares, seconds = np.reshape(found, (options.seeds, len(speakers), 2)).transpose(2, 0, 1)
        seeds, means = 100 * shares.mean(axis=1), 100 * shares.mean(axis=0)
        cells = [f"{means.mean():.1f}", f"{seeds.min():.1f} to {seeds.max():.1f}"]
        cells += [f"{mean:.1f}" for mean in means]
        yield [f"{structure}, {K}", name, *cells, f"{seconds.sum() / options.seeds:.0f}"]


def same_speakers(K, structure, multiple, sequences, digit, speaker):
    """log density of a step, of every other recording by models of those between them."""
    total = steps = 0
    order = np.lexsort((digit, speaker))
    X = scaled(sequences, order[::2])
    for name in np.unique(digit):
        train, test = (
            [X[i] for i in part if digit[i] == name] for part in (order[::2], order[1::2])
        )
        prior = multiple * AUTO[structure](train[0].shape[1])
        model = HMM(K, covariance_type=structure, covariance_prior=prior, random_state=0)
        total += model.fit(train).score_samples(test).sum()
        steps += sum(map(len, test))
    return float(total / steps)


def prior_rows(data, results, options):
    speakers, d = np.unique(data[2]).tolist(), data[0][0].shape[1]
    for structure, K, multiple in product(options.structures, STATES, MULTIPLES):
        method = ours(K, structure, 0, covariance_prior=multiple * AUTO[structure](d))
        shares = [
            results.get(
                ("fsdd prior", structure, K, multiple, left_out),
                partial(accuracy, method, *data, left_out),
            )[0]
            for left_out in speakers
        ]
        compute = partial(same_speakers, K, structure, multiple, *data)
        same = results.get(("fsdd same", structure, K, multiple), compute)[0]
        yield [f"{structure}, {K}", str(multiple), f"{100 * np.mean(shares):.1f}", f"{same:.3f}"]


def arguments():
    """The command line, with the files of chorales and of digits, or None."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("SKLVM_DATA"), help="the data folder")
    parser.add_argument("--states", nargs="*", type=int, default=[64], help="of the chorales")
    parser.add_argument("--cache", help="a JSON file that keeps the results of the digits")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), help="of the digits")
    parser.add_argument("--seeds", type=int, default=3, help="of the digits")
    parser.add_argument("--structures", nargs="*", choices=STRUCTURES, default=list(STRUCTURES))
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
        data, results = spoken(options.digits), Results(options.cache)
        rows = digit_rows(data, results, options)
        header = ["matrices, states", "method", "% right", "seeds", *"1234", "s"]
        table("Spoken digits of a speaker left out (1 to 4)", header, list(rows))
        rows = prior_rows(data, results, options)
        header = ["matrices, states", "times a mixture's", "% right", "log density, same speakers"]
        table("Covariance prior: a speaker left out, and the same speakers", header, list(rows))


if __name__ == "__main__":
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
