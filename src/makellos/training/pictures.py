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

__all__ = ["Pictures", "empty_values", "room_for"]

_MAX_BYTES = 1 << 30  # more than this goes to a temporary file, mapped into memory


class Pictures:
    """Hold pictures N×C×H×W, uint8, or float32 in [0, 1] where they have more than 8 bits.

    Features take the place of pictures, float32 or float16 and in any range, where a network is
    trained on those; a batch of them has their kind. Of each there may be `n_copies` rows beside
    each other, of which an epoch draws one.

    `targets` (N,) are the numbers of their classes, where they have such; `chances` (N,) say how
    often each is drawn in an epoch, in proportion: without them, each is drawn once.
    """

    def __init__(
        self,
        values: NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float16],
        chosen: NDArray[np.intp] | None = None,
        *,
        targets: NDArray[np.intp] | None = None,
        chances: NDArray[np.float64] | None = None,
        known_as: str | None = None,
        n_copies: int = 1,
    ) -> None:
        """Hold `values`, or those rows of them that are `chosen`, which are not copied.

        `known_as` is the fingerprint of what they were computed from: the same features differ in
        their last digit from one machine to another.
        """
        self._values: NDArray[Any] = values
        self._chosen = np.arange(len(values)) if chosen is None else chosen
        self._targets, self._chances, self._known_as = targets, chances, known_as
        self._n_copies = n_copies

    @property
    def n(self) -> int:
        """Return how many there are, copies left out."""
        return len(self._chosen) // self._n_copies

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

    def labelled(
        self,
        targets: NDArray[np.intp],
        *,
        chances: NDArray[np.float64] | None = None,
        masks: NDArray[np.uint8] | None = None,
    ) -> Pictures:
        """Return the same pictures with classes, and masks N×1×H×W as a last channel."""
        if masks is None:
            placed = np.zeros(len(self._values), np.intp)
            placed[self._chosen] = targets
            drawn = None if chances is None else np.zeros(len(self._values))
            if drawn is not None:
                drawn[self._chosen] = chances
            return Pictures(self._values, self._chosen, targets=placed, chances=drawn)
        deep = self._values.dtype != np.uint8
        joined = empty_values((self.n, self.shape[0] + 1, *self.shape[1:]), deep=deep)
        for place, number in enumerate(self._chosen):
            joined[place, :-1] = self._values[number]
            joined[place, -1:] = masks[place] / np.float32(255) if deep else masks[place]
        return Pictures(joined, targets=targets, chances=chances)

    def targets(self, indices: Sequence[int] | Tensor) -> Tensor | None:
        """Return the classes N of pictures by number, int64; None where they have none."""
        if self._targets is None:
            return None
        chosen = self._targets[self._chosen[np.asarray(indices, np.intp)]]
        return torch.from_numpy(chosen.astype(np.int64))

    def order(self) -> Tensor:
        """Draw the numbers N of an epoch's pictures, by torch's global generator."""
        if self._chances is None:
            order = torch.randperm(self.n)
            if self._n_copies == 1:
                return order
            return order * self._n_copies + torch.randint(self._n_copies, (self.n,))
        chances = torch.from_numpy(self._chances[self._chosen].astype(np.float64))
        return torch.multinomial(chances, self.n, replacement=True)

    def shown_as(
        self, rows: NDArray[np.float16], numbers: NDArray[np.intp], *, n_copies: int, known_as: str
    ) -> Pictures:
        """Return features of some pictures, by number, with their classes.

        `rows` ((n·n_copies)×C×H×W) are those of all pictures, copies of one beside each other.
        """
        chosen = (numbers[:, None] * n_copies + np.arange(n_copies)).ravel()
        owners = np.repeat(self._chosen, n_copies)
        return Pictures(
            rows,
            chosen,
            targets=None if self._targets is None else self._targets[owners],
            chances=None if self._chances is None else self._chances[owners],
            known_as=known_as,
            n_copies=n_copies,
        )

    def subset(self, indices: Sequence[int] | NDArray[np.intp]) -> Pictures:
        """Return some of the pictures, by number, sharing their memory."""
        chosen = self._chosen[np.asarray(indices, np.intp)]
        return Pictures(self._values, chosen, targets=self._targets, chances=self._chances)

    def split(self, share: float, *, at_least: int, seed: int) -> tuple[Pictures, Pictures | None]:
        """Return pictures to learn from and a `share` drawn at random to validate with.

        None to validate with where that would be fewer than `at_least`.
        """
        n_aside = round(share * self.n)
        if n_aside < at_least:
            return self, None
        order = np.random.default_rng([seed, 3]).permutation(self.n)
        return self.subset(np.sort(order[n_aside:])), self.subset(np.sort(order[:n_aside]))

    def brightness(self) -> tuple[float, float]:
        """Return the mean of the pictures, and the standard deviation within one, in [0, 1].

        A mask, the last of two or four channels, does not count.
        """
        n_channels = 3 if self.shape[0] > 2 else 1
        means, variances = [], []
        for number in range(self.n):
            picture = self.batch([number])[:, :n_channels]
            means.append(float(picture.mean()))
            variances.append(float(picture.var(correction=0)))
        return float(np.mean(means)), float(np.mean(variances)) ** 0.5

    def fingerprint(self) -> str:
        """Return the SHA-256 over shape, values and classes."""
        if self._known_as is not None:
            return self._known_as
        digest = hashlib.sha256(repr((self._values.dtype.str, self.n, *self.shape)).encode())
        for number in self._chosen:
            digest.update(np.ascontiguousarray(self._values[number]).tobytes())
        for labels in (self._targets, self._chances):
            if labels is not None:
                digest.update(labels[self._chosen].tobytes())
        return digest.hexdigest()


def empty_values(shape: tuple[int, ...], *, deep: bool) -> NDArray[Any]:
    """Return room for values, uint8 or (`deep`) float32, in a temporary file where it is much."""
    return room_for(shape, np.float32 if deep else np.uint8)


def room_for(shape: tuple[int, ...], kind: type[Any]) -> NDArray[Any]:
    """Return room for values of a kind, in a temporary file where it is much."""
    if int(np.prod(shape)) * np.dtype(kind).itemsize <= _MAX_BYTES:
        return np.empty(shape, kind)
    with TemporaryFile(prefix="makellos-") as file:
        # The mapping keeps the file's space after the handle is closed.
        return np.memmap(file, kind, "w+", shape=shape)
