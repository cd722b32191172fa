"""Where features and masks of columns lie in what a network sees: in a row, or in an image."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad

PAINTER = "encoder.nonlinear.painter"


@dataclass(frozen=True)
class Canvas:
    """Cells that hold a feature, in units of its spread from its centre, or 1 for what is missing.

    A column that is missing says 0 where its features are. The other cells are always `blank`.
    """

    blank: np.ndarray  # (n_cells,) 0, or 1 where a column is missing for good
    features: np.ndarray  # (n_features,) cell of each
    masks: np.ndarray  # (d,) cell of each column's mask
    owners: np.ndarray  # (n_features,) column of each
    image_shape: tuple | None = None  # (channels, height, width)

    @classmethod
    def row(cls, likelihood, d):
        """Features of d columns, then masks."""
        owners, _ = owned(likelihood.features, d)
        n = len(owners)
        return cls(np.zeros(n + d), np.arange(n), n + np.arange(d), owners)

    @classmethod
    def image(cls, likelihood, columns, shape):
        """Planes of an image for first features, second features, ..., and masks of pixels.

        columns (d,) are positions of pixels among channels x height x width; the others are blank.
        """
        owners, rank = owned(likelihood.features, len(columns))
        n_pixels, n_planes = np.prod(shape), rank.max() + 1
        features = rank * n_pixels + columns[owners]
        masks = n_planes * n_pixels + columns
        return cls(np.zeros((n_planes + 1) * n_pixels), features, masks, owners, shape)

    @property
    def n_cells(self):
        return len(self.blank)

    def take(self, columns, features):
        """What is left of it where the other columns are missing for good."""
        blank = self.blank.copy()
        blank[np.delete(self.masks, columns)] = 1.0
        new = np.empty(len(self.masks), int)
        new[columns] = np.arange(len(columns))
        owners = new[self.owners[features]]
        return replace(
            self,
            blank=blank,
            features=self.features[features],
            masks=self.masks[columns],
            owners=owners,
        )

    @staticmethod
    def facing(centre, spread):
        """Arrays of an encoder's `Painter` that shows features in units of spread from centre."""
        return {f"{PAINTER}.centre": centre, f"{PAINTER}.unit": 1 / spread}

    @staticmethod
    def slices(features):
        """What some features own of these."""
        return {f"{PAINTER}.centre": features, f"{PAINTER}.unit": features}

    def sources(self):
        """Where each cell finds its number in (features, masks, 0, 1): -> (n_cells,)."""
        n, d = len(self.features), len(self.masks)
        found = n + d + self.blank.astype(int)
        found[self.features], found[self.masks] = np.arange(n), n + np.arange(d)
        return found


class Painter(nn.Module):
    """Fills a canvas: features, what else there is, and masks (..., n_in) -> cells, what else."""

    def __init__(self, canvas):
        super().__init__()
        self.n_features, self.d = len(canvas.features), len(canvas.masks)
        self.centre = nn.Parameter(torch.empty(self.n_features))
        self.unit = nn.Parameter(torch.empty(self.n_features))
        self.sources = torch.tensor(canvas.sources(), device="cpu")
        self.owners = torch.tensor(canvas.owners, device="cpu")

    def forward(self, x):
        features, other, seen = x.tensor_split((self.n_features, x.shape[-1] - self.d), -1)
        shown = seen.index_select(-1, self.owners.to(x.device))
        told = torch.cat([(features - self.centre) * self.unit * shown, 1 - seen], -1)
        told = pad(pad(told, (0, 1)), (0, 1), value=1.0)
        return told.index_select(-1, self.sources.to(x.device)), other

    def of_complete(self, x):
        """The same inputs with masks behind, that nothing is missing."""
        return torch.cat([x, x.new_ones(*x.shape[:-1], self.d)], -1)

    def fresh(self):
        return {"centre": np.zeros(self.n_features), "unit": np.ones(self.n_features)}


def owned(positions, d):
    """The column of each number that d columns own, and which of the column's numbers it is.

    `positions` maps columns to their numbers: one of `features` and `outputs` of a likelihood.
    """
    each = [positions(np.array([j]), d) for j in range(d)]
    owners, rank = np.zeros((2, sum(map(len, each))), int)
    for j, own in enumerate(each):
        owners[own], rank[own] = j, np.arange(len(own))
    return owners, rank
