"""Training steps of a VAE against pythae's trainer: `python benchmarks/vae_pythae.py`.

The first size of vae_speed.py: bits in 784 columns, hidden layers of 400, 20 latents, batches of
128, float32, one thread. pythae gets the plain networks of vae_speed.py and trains as its trainer
does, with what it keeps and saves besides. Times are process CPU milliseconds per step: medians of
five runs in turn.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import contextlib
import logging
import math
import tempfile

import torch
from _timing import race, table
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from vae_speed import SIZES, PlainVAE, ours, rows

NAME = "784-400-400-20, bits"


class Encoder(BaseEncoder):
    def __init__(self, d, hidden, q):
        super().__init__()
        self.latent_dim = q
        self.layers = PlainVAE.layers(d, hidden, 2 * q)

    def forward(self, x):
        mean, log_variance = self.layers(x).chunk(2, -1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    def __init__(self, d, hidden, q):
        super().__init__()
        self.layers = PlainVAE.layers(q, hidden[::-1], d)

    def forward(self, z):
        return ModelOutput(reconstruction=self.layers(z).sigmoid())


def theirs(X, hidden, q, batch, epochs):
    """What a user of pythae runs; it reports on both streams."""
    torch.manual_seed(0)
    d = X.shape[1]
    config = VAEConfig(input_dim=(d,), latent_dim=q, reconstruction_loss="bce")
    model = VAE(config, encoder=Encoder(d, hidden, q), decoder=Decoder(d, hidden, q))
    data = BaseDataset(torch.from_numpy(X), torch.zeros(len(X)))
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        training = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            per_device_train_batch_size=batch,
            learning_rate=1e-3,
            no_cuda=True,
        )
        with contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
            BaseTrainer(model, data, training_config=training).train()


def main():
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    n, d, hidden, q, batch, likelihood, epochs = SIZES[NAME]
    X = rows(n, d, likelihood)
    found = race(
        lambda: theirs(X, hidden, q, batch, epochs),
        lambda: ours(X, hidden, q, batch, likelihood, epochs),
    )
    steps = epochs * math.ceil(n / batch)
    cells = found._replace(theirs=found.theirs / steps, ours=found.ours / steps).cells()
    header = ["", "pythae ms", "ours ms", "ratio", "range"]
    table(f"One training step, torch {torch.__version__}", header, [[NAME, *cells]])


if __name__ == "__main__":
    main()
