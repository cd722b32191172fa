"""What a second layer and fine-tuning add: held-out nats, and features for a classifier.

Digits: logistic regression on pixels and on hidden bits of Gaussian machines, by GridSearchCV on
one half of the rows, the other half scored (range over splits). With `--mnist`, a file of packed
bits with the arrays train and valid (binarised MNIST): of 200 random validation rows the negative
variational bound and the negative log-likelihood, estimated, of a network beside that of the
machine which is its first layer.

    python benchmarks/rbm_dbn.py [--mnist PATH] [--hidden 500 500] [--updates N] [--tuning up_down]
"""

import argparse
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from _timing import table
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from sklvm import RBM, DeepBeliefNetwork

TUNINGS = {"none": None, "up_down": "up_down", "reweighted": "reweighted"}


def digits(splits=3):
    """Accuracy on held-out halves."""
    X, y = load_digits(return_X_y=True)
    settings = {"visible": "gaussian", "n_steps": 1, "n_updates": 3000, "random_state": 0}
    settings |= {"learning_rate_init": 0.1, "n_annealing_steps": 10}
    features = {
        "pixels": [],
        "RBM(300)": [RBM(300, **settings)],
        "DeepBeliefNetwork((300, 200))": [
            DeepBeliefNetwork((300, 200), fine_tuning=None, **settings, n_importance_samples=20)
        ],
    }
    rows = []
    for name, steps in features.items():
        accuracy, began = [], time.process_time()
        for split in range(splits):
            halves = train_test_split(X, y, test_size=0.5, random_state=split, stratify=y)
            with TemporaryDirectory() as memory:
                model = make_pipeline(
                    MinMaxScaler(), *steps, LogisticRegression(max_iter=1000), memory=memory
                )
                search = GridSearchCV(model, {"logisticregression__C": [0.1, 1, 10]}, cv=3)
                accuracy.append(search.fit(halves[0], halves[2]).score(halves[1], halves[3]))
        seconds = (time.process_time() - began) / splits
        rows.append([name, f"{min(accuracy):.3f} to {max(accuracy):.3f}", f"{seconds:.0f}"])
    table(
        f"digits, logistic regression, accuracy over {splits} halves",
        ["features", "accuracy", "CPU s per search"],
        rows,
    )


def mnist(path, hidden, n_updates, tunings):
    """Bounds and estimates of held-out rows."""
    packed = np.load(path)
    X, V = (np.unpackbits(packed[k], axis=1).astype(np.float32) for k in ("train", "valid"))
    V = V[np.random.default_rng(0).choice(len(V), 200, replace=False)]
    settings = {"n_steps": 1, "n_updates": n_updates, "random_state": 0}
    models = {f"RBM({hidden[0]})": RBM(hidden[0], **settings)}
    for tuning in tunings:
        model = DeepBeliefNetwork(tuple(hidden), fine_tuning=TUNINGS[tuning], **settings)
        models[f"DeepBeliefNetwork({tuple(hidden)}), fine_tuning={tuning}"] = model
    rows = []
    for name, model in models.items():
        began = time.process_time()
        model.fit(X)
        seconds = time.process_time() - began
        bound = model.elbo(V) if isinstance(model, DeepBeliefNetwork) else [model.score_samples(V)]
        error = model.log_partition_stderr_
        figures = [-np.mean(sum(bound[:3])), -model.score(V), error, seconds]
        rows.append([name, *(f"{value:.2f}" for value in figures)])
    table(
        f"binarised MNIST, {n_updates} steps for each machine and for fine-tuning",
        ["model", "NLL bound", "NLL, estimated", "standard error of log Z", "CPU s"],
        rows,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    there = Path(os.environ.get("SKLVM_DATA", "")) / "binarized_mnist"
    found = sorted(there.glob("*.npz")) if "SKLVM_DATA" in os.environ else []
    parser.add_argument("--mnist", default=found[0] if found else None)
    parser.add_argument("--hidden", type=int, nargs="+", default=[500, 500])
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--tuning", nargs="+", choices=list(TUNINGS), default=list(TUNINGS))
    options = parser.parse_args()
    digits()
    if options.mnist is not None:
        mnist(options.mnist, options.hidden, options.updates, options.tuning)


if __name__ == "__main__":
    main()
