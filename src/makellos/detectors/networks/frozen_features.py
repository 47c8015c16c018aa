"""What a frozen network shows of pictures and of changed copies, computed once, to train heads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from makellos.data.progress import Progress
from makellos.detectors.networks.dense_classifier import DenseNetwork, mask_cover
from makellos.detectors.networks.exporting import export_graph
from makellos.inspection.engines import available_engines, open_engine
from makellos.training.pictures import Pictures, room_for

__all__ = ["Change", "FrozenFeatures", "Layout"]

_MOST_COPIES = 4
_MOST_BYTES = 8 << 30  # of a temporary file
_LARGEST = 60_000.0  # that float16 holds
_N_MEASURED = 256  # pictures whose features tell mean and spread
_BATCH = 16

# Makes the copy of a number, from 1, of pictures and masks 1×C×H×W.
Change = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Layout:
    """Say where the maps C×h×w, and what masks cover, 1×h×w, stand in a row of numbers."""

    shapes: tuple[tuple[int, ...], ...]
    cover: tuple[int, ...] | None

    @property
    def n_features(self) -> int:
        """Return how many numbers are the maps'."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def n_numbers(self) -> int:
        """Return how many numbers a row has."""
        return self.n_features + (math.prod(self.cover) if self.cover else 0)

    def maps(self, rows: Tensor) -> list[Tensor]:
        """Return the maps N×C×h×w of rows N×F×1×1."""
        sizes = [math.prod(shape) for shape in self.shapes]
        found = rows[:, : self.n_features, 0, 0].float().split(sizes, 1)
        return [each.reshape(-1, *shape) for each, shape in zip(found, self.shapes, strict=True)]

    def covered(self, rows: Tensor) -> Tensor | None:
        """Return the shares N×1×h×w of places that masks cover; None without masks."""
        if self.cover is None:
            return None
        return rows[:, self.n_features :, 0, 0].float().reshape(-1, *self.cover)


class FrozenFeatures:
    """Compute what the neck of a network reads of pictures, whose body is frozen.

    The first `n_channels` channels of pictures are no mask. `change` makes up to three copies of
    each beside the picture as it is; None makes none. The engine that inspects does the work in a
    small part of PyTorch's time, in f32, so that what is learned depends on no precision.
    """

    def __init__(
        self,
        network: DenseNetwork,
        pictures: Pictures,
        n_channels: int,
        change: Change | None,
        progress: Progress,
    ) -> None:
        self.network, self.pictures, self.change = network.eval(), pictures, change
        self.shape = (n_channels, *pictures.shape[1:])
        with torch.no_grad():
            maps = network.shown(torch.zeros(1, *self.shape))
        masked = pictures.shape[0] > n_channels
        cover = (1, *maps[network.neck.target].shape[2:]) if masked else None
        self.layout = Layout(tuple(tuple(each.shape[1:]) for each in maps), cover)
        room = _MOST_BYTES // (2 * self.layout.n_numbers * max(1, pictures.n))
        self.n_copies = 1 if change is None else max(1, min(_MOST_COPIES, room))
        self._rows = self._computed(progress)

    def measure(self, network: DenseNetwork, numbers: NDArray[np.intp]) -> None:
        """Give a network's neck mean and spread of the features of some pictures."""
        chosen = np.linspace(0, len(numbers) - 1, min(len(numbers), _N_MEASURED)).astype(np.intp)
        network.measure(self._maps(numbers[chosen]))

    def logits(self, network: DenseNetwork, numbers: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the logits N×K that a network, of this body, gives pictures as they are."""
        found = [np.zeros((0, network.head.out_features))]
        with torch.no_grad():
            found += [
                network.logits(network.neck.joined(maps)).double().numpy()
                for maps in self._maps(numbers)
            ]
        return np.concatenate(found)

    def of(self, numbers: NDArray[np.intp]) -> Pictures:
        """Return features N×F×1×1 of some pictures, of which an epoch draws one copy each."""
        known_as = self.pictures.subset(numbers).fingerprint()
        rows = self._rows[:, :, None, None]
        return self.pictures.shown_as(rows, numbers, n_copies=self.n_copies, known_as=known_as)

    def _maps(self, numbers: NDArray[np.intp]) -> Iterator[list[Tensor]]:
        for start in range(0, len(numbers), _BATCH):
            rows = self._rows[numbers[start : start + _BATCH] * self.n_copies]
            yield self.layout.maps(torch.from_numpy(rows)[:, :, None, None])

    def _computed(self, progress: Progress) -> NDArray[np.float16]:
        n, layout = self.pictures.n, self.layout
        rows: NDArray[np.float16] = room_for((n * self.n_copies, layout.n_numbers), np.float16)
        choice = next(each for each in available_engines() if each.precision == "f32")
        names = [f"shown_{i}" for i in range(len(layout.shapes))]
        graph = export_graph(_Shown(self.network), self.shape, names)
        engine = open_engine(graph, choice, shape=self.shape)
        for i in range(n):
            picture = self.pictures.batch([i]).float()
            for number in range(self.n_copies):
                copy = self.change(picture, number) if self.change and number else picture
                pixels = np.ascontiguousarray(copy[:, : self.shape[0]].numpy())
                row = rows[i * self.n_copies + number]
                shown = engine.run(pixels)
                features = np.concatenate([shown[name].ravel() for name in names])
                row[: layout.n_features] = features.clip(-_LARGEST, _LARGEST)
                if layout.cover is not None:
                    covered = mask_cover(copy[:, self.shape[0] :], layout.cover[1:])
                    row[layout.n_features :] = covered.numpy().ravel()
            progress("computing features", i + 1, n)
        return rows


class _Shown(nn.Module):  # type: ignore[misc]
    """Return what a network's neck reads."""

    def __init__(self, network: DenseNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network.shown(pictures))
