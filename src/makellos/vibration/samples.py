"""What is known of the samples of a channel, whether they are held or read block by block."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLIPPED_RUN", "Samples", "Slices"]

CLIPPED_RUN = 3  # samples; a sine touches its peak once or twice


class Slices(ABC):
    """Be a signal (N,) of which slices are read, for it is too long to be held."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    @abstractmethod
    def __getitem__(self, part: slice) -> NDArray[np.float32]:
        """Return the samples of a slice without steps."""


class Samples(NamedTuple):
    """Hold what is known of the `n` samples of a channel: those that are no numbers, and extremes.

    `first_broken` is the place of the first of `n_broken`; `n_extreme` are the samples at `low` and
    `high`, the extremes of the others, in runs of at least `CLIPPED_RUN`.
    """

    n: int
    n_broken: int
    first_broken: int
    low: float
    high: float
    n_extreme: int

    @classmethod
    def of(cls, blocks: Callable[[], Iterator[NDArray[np.float32]]]) -> Samples:
        """Return that of a channel whose samples come in `blocks`, twice."""
        n, n_broken, first, low, high = 0, 0, -1, math.inf, -math.inf
        for block in blocks():
            is_finite = np.isfinite(block)
            finite = block
            if not is_finite.all():
                wrong = np.flatnonzero(~is_finite)
                first = n + int(wrong[0]) if first < 0 else first
                n_broken += len(wrong)
                finite = block[is_finite]
            n += len(block)
            if len(finite):
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        n_extreme = 0
        for extreme in (low, high) if low < high else ():
            runs = _Runs()
            for block in blocks():
                runs.add((block if not n_broken else block[np.isfinite(block)]) == extreme)
            n_extreme += runs.count()
        return cls(n, n_broken, first, low, high, n_extreme)


class _Runs:
    """Count the true values that stand in runs of at least `CLIPPED_RUN`, block by block."""

    def __init__(self) -> None:
        self._total, self._open = 0, 0

    def add(self, is_extreme: NDArray[np.bool_]) -> None:
        if not len(is_extreme):
            return
        padded = np.concatenate(([False], is_extreme, [False]))
        edges = np.flatnonzero(padded[1:] != padded[:-1])
        lengths = edges[1::2] - edges[::2]
        if is_extreme[0]:
            lengths[0] += self._open
        else:
            self._close()
        self._open = 0
        if is_extreme[-1]:
            self._open, lengths = int(lengths[-1]), lengths[:-1]
        self._total += int(lengths[lengths >= CLIPPED_RUN].sum())

    def count(self) -> int:
        self._close()
        return self._total

    def _close(self) -> None:
        self._total += self._open if self._open >= CLIPPED_RUN else 0
        self._open = 0
