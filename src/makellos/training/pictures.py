"""Pictures in memory, at the size and with the channels that a network takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Pictures", "empty_values"]

_MAX_BYTES = 1 << 30  # more than this goes to a temporary file, mapped into memory


class Pictures:
    """Hold pictures N×C×H×W, uint8, or float32 in [0, 1] where they have more than 8 bits."""

    def __init__(
        self,
        values: NDArray[np.uint8] | NDArray[np.float32],
        chosen: NDArray[np.intp] | None = None,
    ) -> None:
        """Hold `values`, or those rows of them that are `chosen`, which are not copied."""
        self._values: NDArray[Any] = values
        self._chosen = np.arange(len(values)) if chosen is None else chosen

    @property
    def n(self) -> int:
        """Return how many there are."""
        return len(self._chosen)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return channels, height and width."""
        channels, height, width = self._values.shape[1:]
        return channels, height, width

    def batch(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return pictures by number as N×C×H×W float32 in [0, 1]."""
        chosen = np.asarray(self._values[self._chosen[np.asarray(indices, np.intp)]])
        if chosen.dtype == np.uint8:
            return torch.from_numpy(chosen).float().div_(255)
        return torch.from_numpy(chosen)

    def subset(self, indices: Sequence[int] | NDArray[np.intp]) -> Pictures:
        """Return some of the pictures, by number, sharing their memory."""
        return Pictures(self._values, self._chosen[np.asarray(indices, np.intp)])

    def split(self, share: float, *, at_least: int, seed: int) -> tuple[Pictures, Pictures | None]:
        """Return pictures to learn from and a `share` drawn at random to validate with.

        None to validate with where that would be fewer than `at_least`.
        """
        n_aside = round(share * self.n)
        if n_aside < at_least:
            return self, None
        order = np.random.default_rng([seed, 3]).permutation(self.n)
        return self.subset(np.sort(order[n_aside:])), self.subset(np.sort(order[:n_aside]))

    def fingerprint(self) -> str:
        """Return the SHA-256 over shape and values."""
        digest = hashlib.sha256(repr((self._values.dtype.str, self.n, *self.shape)).encode())
        for number in self._chosen:
            digest.update(np.ascontiguousarray(self._values[number]).tobytes())
        return digest.hexdigest()


def empty_values(shape: tuple[int, ...], *, deep: bool) -> NDArray[Any]:
    """Return room for values, uint8 or (`deep`) float32, in a temporary file where it is much."""
    kind: type[Any] = np.float32 if deep else np.uint8
    if int(np.prod(shape)) * np.dtype(kind).itemsize <= _MAX_BYTES:
        return np.empty(shape, kind)
    with TemporaryFile(prefix="makellos-") as file:
        # The mapping keeps the file's space after the handle is closed.
        mapped: NDArray[Any] = np.memmap(file, kind, "w+", shape=shape)
        return mapped
