"""Cutting of signals into windows, and of recordings into pieces that share no window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from makellos.errors import ConfigurationError, InputError

__all__ = [
    "MIN_WINDOW",
    "Piece",
    "cut",
    "parse_piece",
    "parse_rpm",
    "require_window",
    "split_in_time",
    "window_starts",
]

MIN_WINDOW = 16  # below it neither a spectrum nor a kurtosis means anything

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Piece:
    """Name a piece of a recording, from `start` up to `end`, in s or, with `shares`, of the whole.

    An `end` of None is that of the recording.
    """

    start: float = 0.0
    end: float | None = None
    shares: bool = False

    def __str__(self) -> str:
        """Return the piece as a manifest would have it, such as ``0%-50%``."""
        start, end = (self._text(edge) for edge in (self.start, self.end))
        return f"{start}-{end}"

    def samples(self, n_samples: int, rate: float) -> slice:
        """Return the samples of a recording of `n_samples` at `rate` Hz that lie in the piece."""
        factor = n_samples if self.shares else rate
        end = n_samples if self.end is None else round(self.end * factor)
        return slice(min(n_samples, round(self.start * factor)), min(n_samples, end))

    def overlaps(self, other: Piece) -> bool:
        """Tell whether two pieces of one recording share samples; s and shares are not compared."""
        if self.shares != other.shares:
            return False
        ends = (math.inf if piece.end is None else piece.end for piece in (self, other))
        mine, theirs = ends
        return self.start < theirs and other.start < mine

    def _text(self, edge: float | None) -> str:
        if edge is None:
            return "end"
        return f"{100 * edge:g}%" if self.shares else f"{edge:g}s"


def parse_piece(start: str, end: str) -> Piece | None:
    """Read where a piece of a recording starts and ends: seconds, or per cent as in ``50%``.

    Empty texts are the ends of the recording; None for two of them. Raises `ValueError` that says
    what is wrong.

    >>> str(parse_piece("50%", "75%"))
    '50%-75%'
    """
    if not start and not end:
        return None
    shares = {text.endswith("%") for text in (start, end) if text}
    if len(shares) > 1:
        raise ValueError(f"start {start!r} and end {end!r} mix seconds and per cent; use one")
    first, last = (_edge(text) if text else None for text in (start, end))
    piece = Piece(first or 0.0, last, shares.pop())
    limit = 1.0 if piece.shares else math.inf
    if not 0 <= piece.start < min(limit, math.inf if last is None else last) or (last or 0) > limit:
        raise ValueError(f"start {start!r} and end {end!r} leave nothing of the recording")
    return piece


def parse_rpm(text: str) -> float | None:
    """Read a speed in turns per minute, None for an empty text.

    Raises `ValueError` that says what is wrong.
    """
    if not text:
        return None
    try:
        rpm = float(text)
    except ValueError:
        rpm = 0.0
    if not 0 < rpm < math.inf:
        raise ValueError(f"speed {text!r} is not a number of rpm above 0")
    return rpm


def _edge(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        raise ValueError(f"{text!r} is neither seconds nor per cent, such as 12.5 or 50%") from None
    return value / 100 if text.endswith("%") else value


def window_starts(n_samples: int, window: int, hop: int) -> NDArray[np.intp]:
    """Return the first sample of every whole window; none where the signal is shorter than one.

    `window` and `hop` are in samples; a rest at the end that fills no window is left out. Raises
    `ConfigurationError` for a window below `MIN_WINDOW` or a hop below 1.

    >>> window_starts(100, window=32, hop=16).tolist()
    [0, 16, 32, 48, 64]
    """
    require_window(window, hop)
    return np.arange(0, max(0, n_samples - window + 1), hop, dtype=np.intp)


def cut(signal: NDArray[Scalar], window: int, hop: int) -> NDArray[Scalar]:
    """Return the windows of a 1-D signal, n×window, as a read-only view of it.

    Row i starts at ``window_starts(len(signal), window, hop)[i]``; a signal shorter than one
    window has none. Raises `ConfigurationError` for a window below `MIN_WINDOW` or a hop below 1,
    and `InputError` for a signal that is not 1-D.

    >>> cut(np.arange(40.0), window=16, hop=12)[:, 0].tolist()
    [0.0, 12.0, 24.0]
    """
    require_window(window, hop)
    if signal.ndim != 1:
        raise InputError(
            f"The signal has the shape {signal.shape}; windows are cut from one channel. Take it "
            "with Recording.channel(name)."
        )
    if len(signal) < window:
        return np.empty((0, window), signal.dtype)
    return sliding_window_view(signal, window)[::hop]


def split_in_time(n_samples: int, shares: Sequence[float], window: int) -> list[slice]:
    """Divide a recording into consecutive pieces, one per share, that hold all of its samples.

    Windows are cut within each piece, so that none lies in two and no sample is in two of them.
    `shares` are above 0 and sum to 1.

    Raises `ConfigurationError` for other shares or a window below `MIN_WINDOW`, and `InputError`
    where a piece would be shorter than one window.

    >>> split_in_time(1000, [0.5, 0.25, 0.25], window=64)
    [slice(0, 500, None), slice(500, 750, None), slice(750, 1000, None)]
    """
    require_window(window)
    given = ", ".join(f"{share:g}" for share in shares) or "none"
    if not all(share > 0 for share in shares) or abs(math.fsum(shares) - 1) > 1e-6:
        raise ConfigurationError(
            f"The shares are {given} (sum {math.fsum(shares):g}); expected shares above 0 that "
            "sum to 1, such as 0.5, 0.25, 0.25."
        )
    ends = [round(n_samples * share) for share in accumulate(shares)]
    pieces = [slice(start, end) for start, end in pairwise([0, *ends[:-1], n_samples])]
    shortest = min(piece.stop - piece.start for piece in pieces)
    if shortest < window:
        needed = math.ceil(window / min(shares))
        raise InputError(
            f"{n_samples:,} samples divided into the shares {given} leave a piece of "
            f"{shortest:,}, less than one window of {window:,}. Use a recording of at least "
            f"about {needed:,} samples, or a shorter window."
        )
    return pieces


def require_window(window: int, hop: int = 1) -> None:
    """Raise `ConfigurationError` for a window below `MIN_WINDOW` samples, or a hop below 1."""
    if window < MIN_WINDOW:
        raise ConfigurationError(
            f"The window is {window} samples; expected {MIN_WINDOW} or more. 2048 is usual."
        )
    if hop < 1:
        raise ConfigurationError(
            f"The hop is {hop} samples; expected 1 or more. The length of the window gives "
            "windows without overlap, half of it an overlap of 50 %."
        )
