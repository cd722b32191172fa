"""Bits of MNIST: `vae_mnist.py --mnist FILE [--epochs N] [--objective iwae] [--device cuda]`.

FILE holds packed bits, the arrays train and valid. Printed are the time of the fit and the negative
log-likelihood of 1000 random validation rows by 5000 importance samples from the encoder, which is
an upper bound in the mean. Threads are as OMP_NUM_THREADS says.
"""

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch

from sklvm import VAE
from sklvm.networks.autoencoder import Autoencoder

SAMPLES, AT_ONCE, ROWS = 5000, 250, 20


def bits(path, names=("train", "valid")):
    """The rows as float32 zeros and ones: (n, 784) each."""
    packed = np.load(path)
    return [np.unpackbits(packed[name], axis=1).astype(np.float32) for name in names]


@torch.no_grad()
def importance_bound(model, X, device):
    """Mean over rows of the log of the mean weight of samples from the encoder."""
    state = model.run_.state
    known = state.parameters, state.likelihood, state.architecture
    module = Autoencoder.of(*known, torch.float32, device)
    generator = torch.Generator(device).manual_seed(0)
    size, values = (AT_ONCE, 1, state.n_latents), []
    for rows in torch.from_numpy(X[:, ~model.constant_]).to(device).split(ROWS):
        bounds = [
            module.bound(rows, torch.randn(size, generator=generator, device=device))
            for _ in range(SAMPLES // AT_ONCE)
        ]
        values.append(torch.stack(bounds).logsumexp(0) - math.log(len(bounds)))
    return float(torch.cat(values).mean())


def main():
    there = Path(os.environ.get("SKLVM_DATA", "")) / "binarized_mnist"
    found = sorted(there.glob("*.npz")) if "SKLVM_DATA" in os.environ else []
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", default=found[0] if found else None)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--objective", default="elbo")
    parser.add_argument("--draws", type=int, default=50, help="of objective iwae")
    parser.add_argument("--latents", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.mnist is None:
        print("nothing was measured: name the file by --mnist, or its folder's by SKLVM_DATA")
        return
    X, V = bits(options.mnist)
    V = V[np.random.default_rng(0).choice(len(V), 1000, replace=False)]
    model = VAE(
        options.latents,
        likelihood="bernoulli",
        hidden_layer_sizes=(400, 400),
        objective=options.objective,
        n_draws=options.draws if options.objective == "iwae" else "auto",
        batch_size=128,
        weight_average=0.999,
        max_iter=options.epochs,
        device=options.device,
        random_state=0,
    )
    began = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - began
    print(f"{options}\n{model.n_iter_} epochs, {seconds:.0f} s with baselines and diagnostics")
    print(f"NLL of 1000 validation rows: {-importance_bound(model, V, options.device):.2f}")


if __name__ == "__main__":
    main()
