"""Bars and stripes, exact log-likelihood: scikit-learn's BernoulliRBM and RBM at their defaults.

All 30 pictures of 4 x 4 pixels with equal rows or equal columns are equally probable: the best mean
log-likelihood is -log 30 = -3.40, that of uniform bits -11.09. The pseudo-likelihood that
scikit-learn calls `score_samples` is shown beside the truth.
"""

import numpy as np
from _timing import table
from sklearn.neural_network import BernoulliRBM

from sklvm import RBM


def bars_and_stripes(size=4):
    lines = (np.arange(2**size)[:, None] >> np.arange(size) & 1).astype(float)
    return np.unique(np.r_[np.repeat(lines, size, axis=1), np.tile(lines, (1, size))], axis=0)


def counted(peer):
    """A fitted BernoulliRBM whose states are counted."""
    return RBM.from_parameters(
        components=peer.components_,
        intercept_visible=peer.intercept_visible_,
        intercept_hidden=peer.intercept_hidden_,
    )


def main(seeds=3):
    X = bars_and_stripes()
    rows = []
    for rate, n_iter in ((0.1, 10), (0.1, 500), (0.02, 500)):
        fits = [
            BernoulliRBM(16, learning_rate=rate, n_iter=n_iter, random_state=s).fit(X)
            for s in range(seeds)
        ]
        exact = [counted(fit).score(X) for fit in fits]
        pseudo = [fit.score_samples(X).mean() for fit in fits]
        rows.append([f"scikit-learn, rate {rate}, {n_iter} epochs", exact, pseudo])
    for settings in ({}, {"solver": "contrastive"}):
        fits = [RBM(16, random_state=s, **settings).fit(X) for s in range(seeds)]
        exact = [fit.score(X) for fit in fits]
        pseudo = [fit.pseudo_likelihood(X).mean() for fit in fits]
        rows.append([f"sklvm, {settings.get('solver', 'defaults')}", exact, pseudo])
    table(
        "bars and stripes 4 x 4, 16 hidden bits, nats per row (range over seeds)",
        ["model", "log-likelihood", "pseudo-likelihood"],
        [[name, *(f"{min(v):.2f} to {max(v):.2f}" for v in values)] for name, *values in rows],
    )


if __name__ == "__main__":
    main()
