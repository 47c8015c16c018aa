"""Windows of vibration signals as detectors see them: pictures of time and frequency, or features.

Of the three pictures, `stft` has a frequency axis as fine at the top as at the bottom, `logmel` one
that is finer at the bottom, and `scalogram` one that is even by octaves, with times the finer the
higher the frequency.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from makellos.data.limits import Name
from makellos.errors import ConfigurationError, InputError, NotFittedError
from makellos.vibration.bearings import parse_bearing
from makellos.vibration.features import (
    FAULT_RATES,
    decibels,
    feature_names,
    require_fault_rates,
    squares,
    window_features,
)
from makellos.vibration.windows import MIN_WINDOW

__all__ = ["VIEWS", "SignalView", "ViewName"]

ViewName = Literal["stft", "logmel", "scalogram", "features"]
VIEWS: tuple[ViewName, ...] = ("stft", "logmel", "scalogram", "features")

Floats = NDArray[np.float32]
Signals = NDArray[np.floating[Any]]
Axis = NDArray[np.float64]

_WHITE = 65535
_MOST_CHANNELS, _LONGEST_WINDOW = 1024, 1 << 24
_MOST_LEVELS = _MOST_CHANNELS * 1024
_LOUDEST = 1e12  # of a sample; squares of spectra are still float32
_AT_ONCE = 1 << 21  # bytes that are worked on at once: what a processor keeps at hand
_FRAMES_PER_WINDOW = 8
_FEWEST_IN_FRAME = 16
_BELOW_GOOD, _ABOVE_GOOD = 4.0, 8.0  # standard deviations of good windows; faults are louder
_LEAST_DEVIATION = 1.0  # dB
_LOWEST_CYCLES = 4.0  # per window, of the lowest row of a scalogram
_HIGHEST_SHARE = 0.45  # of the rate, of its highest row
_BANDWIDTH = 1.5  # of the Morlet wavelet, as in cmor1.5-1.0
_FAINTEST = 1e-4  # where a wavelet's spectrum is cut off, of its height


class SignalView(BaseModel):
    """Say how windows of signals are turned into what a detector takes; stored with its model.

    Parameters
    ----------
    rate : samples per second.
    channels : names of the channels that are seen, each once.
    window, hop : length of a window, and from one to the next, in samples.
    view : one of `VIEWS`.
    height, width : of one channel's picture, in pixels, 16 to 1024.
    low, high : levels in dB that are black and white, per row of a picture, all channels one after
        the other; none before `learned`.
    bearing : as `parse_bearing` takes it, or none; `shaft_hz`: turns of the inner race per second.
        With both, the features hold the bearing's fault rates.

    Raises `ConfigurationError` for a bearing that cannot be read or whose faults strike too fast
    for the rate, and pydantic's `ValidationError` for other values out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rate: float = Field(gt=0)
    channels: tuple[Name, ...] = Field(min_length=1, max_length=_MOST_CHANNELS, fail_fast=True)
    window: int = Field(default=2048, ge=MIN_WINDOW, le=_LONGEST_WINDOW)
    hop: int = Field(default=2048, ge=1, le=_LONGEST_WINDOW)
    view: ViewName = "stft"
    height: int = Field(default=64, ge=16, le=1024)
    width: int = Field(default=64, ge=16, le=1024)
    low: tuple[float, ...] = Field(default=(), max_length=_MOST_LEVELS, fail_fast=True)
    high: tuple[float, ...] = Field(default=(), max_length=_MOST_LEVELS, fail_fast=True)
    bearing: Name = ""
    shaft_hz: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(set(self.channels)) < len(self.channels):
            raise ValueError(f"a channel is named twice in {', '.join(self.channels)}")
        n_rows = len(self.channels) * self.height
        if len(self.low) != len(self.high) or len(self.low) not in {0, n_rows}:
            raise ValueError(
                f"{len(self.low)} low and {len(self.high)} high levels for {n_rows} rows; one of "
                "each is needed per row, or none"
            )
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError("a level of black is not below that of white")
        require_fault_rates(self.rate, self._fault_rates())
        return self

    def learned(self, windows: Signals) -> SignalView:
        """Return this view with black and white taken from good windows, n×C×window.

        Each row, that is each frequency, has its own: its mean on good windows less 4 and plus 8
        standard deviations (of 1 dB at least). So the good state is an even gray, whatever its
        spectrum, and a fault is bright where it is louder than that. Features have no such levels:
        their view is returned as it is. Raises `InputError` as `levels`, and where n is 0.
        """
        self._require_windows(windows)
        if self.view == "features":
            return self
        if not len(windows):
            raise InputError("There are 0 windows; levels are learned from one good one or more.")
        sums = np.zeros((2, len(self.channels) * self.height))
        for _, levels in self._level_parts(windows):
            rows = levels.reshape(len(levels), -1, self.width).astype(np.float64)
            sums += [rows.sum((0, 2)), (rows**2).sum((0, 2))]
        mean, squared = sums / (len(windows) * self.width)
        deviation = np.sqrt(np.maximum(squared - mean**2, _LEAST_DEVIATION**2))
        black, white = mean - _BELOW_GOOD * deviation, mean + _ABOVE_GOOD * deviation
        return self.model_copy(update={"low": tuple(black.tolist()), "high": tuple(white.tolist())})

    def see(self, windows: Signals) -> NDArray[Any]:
        """Return the `pictures` or the `features` of windows n×C×window, as `view` says."""
        return self.features(windows) if self.view == "features" else self.pictures(windows)

    def pictures(self, windows: Signals) -> NDArray[np.uint16]:
        """Draw windows n×C×window as gray pictures, n×(C·height)×width, 0 to 65535.

        Channels stand one below the other, the highest frequency of each in its first row. Gray is
        linear in dB from `low` to `high` of the row and clipped there. Raises `NotFittedError`
        before `learned`, and what `levels` raises.
        """
        self._require_picture()
        self._require_windows(windows)
        if not self.low:
            raise NotFittedError(
                "This view has no levels for black and white yet. Call learned(windows) with good "
                "windows first, and use the view that it returns."
            )
        black, white = (
            np.array(level, np.float32).reshape(len(self.channels), self.height, 1)
            for level in (self.low, self.high)
        )
        scale = _WHITE / (white - black)
        out = np.empty((len(windows), len(self.channels) * self.height, self.width), np.uint16)
        for part, levels in self._level_parts(windows):
            gray = np.clip((levels - black) * scale + np.float32(0.5), 0, _WHITE)
            out[part] = gray.reshape(len(gray), -1, self.width)
        return out

    def deviations(self, windows: Signals) -> Floats:
        """Return pictures in standard deviations from the mean of good windows, -4 to 8, float32.

        Raises what `pictures` raises.
        """
        step = np.float32((_BELOW_GOOD + _ABOVE_GOOD) / _WHITE)
        return self.pictures(windows) * step - np.float32(_BELOW_GOOD)

    def levels(self, windows: Signals) -> Floats:
        """Compute the levels of windows n×C×window in dB: n×(C·height)×width, float32.

        A level is that of the mean square (0 dB: 1 in the signal's unit) which a sine of this
        frequency would have, averaged over the pixel; -240 dB at least. Means of windows are taken
        away. Raises `InputError` for windows of another shape or type and for samples that are not
        finite, and `ConfigurationError` where `view` is `features`.
        """
        self._require_picture()
        self._require_windows(windows)
        out = np.empty((len(windows), len(self.channels) * self.height, self.width), np.float32)
        for part, levels in self._level_parts(windows):
            out[part] = levels.reshape(len(levels), -1, self.width)
        return out

    def features(self, windows: Signals) -> Floats:
        """Compute the features of windows n×C×window: n×F float32, as `feature_names` lists them.

        `data.features.window_features` says what each is. Raises `InputError` for windows of
        another shape or type and for samples that are not finite.
        """
        self._require_windows(windows)
        rates = self._fault_rates()
        out = np.empty((len(windows), len(self.feature_names)), np.float32)
        for part, values in self._parts(windows, 32 * self.window):
            found = window_features(values.reshape(-1, self.window), self.rate, rates)
            out[part] = found.reshape(len(values), -1)
        return out

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Return the names of the features, such as `RMS`, or `DE: RMS` with several channels."""
        names = feature_names(self.window, self.rate, self._fault_rates())
        if len(self.channels) == 1:
            return names
        return tuple(f"{channel}: {name}" for channel in self.channels for name in names)

    def frequencies(self) -> Axis:
        """Return the frequencies in Hz at the centres of a picture's rows, the highest first.

        Raises `ConfigurationError` where `view` is `features`.
        """
        self._require_picture()
        return self._frequency_nodes()[-2:0:-1]

    def times(self) -> Axis:
        """Return the times in s, from the window's first sample, at the centres of the columns.

        Those of `stft` and `logmel` leave half a frame (1/16 of a window or so) at either end.
        Raises `ConfigurationError` where `view` is `features`.
        """
        self._require_picture()
        if self.view == "scalogram":
            columns = np.arange(self.width, dtype=np.float64)
            middles: Axis = (columns + 0.5) * (self.window / self.width) - 0.5
        else:
            middles = self._frame_starts().astype(np.float64) + self._frame / 2
        return middles / self.rate

    def _fault_rates(self) -> dict[str, float]:
        bearing = parse_bearing(self.bearing) if self.bearing else None
        if bearing is None or self.shaft_hz is None:
            return {}
        rates = bearing.frequencies(self.shaft_hz)
        return {name: rates[name] for name in FAULT_RATES}

    def _require_picture(self) -> None:
        if self.view == "features":
            raise ConfigurationError(
                "The view is 'features', which has no pictures. Expected "
                f"{', '.join(VIEWS[:-1])}; or call features(windows)."
            )

    def _require_windows(self, windows: Signals) -> None:
        wanted = f"n×{len(self.channels)}×{self.window}"
        names = ", ".join(self.channels)
        if windows.ndim != 3 or windows.shape[1:] != (len(self.channels), self.window):
            got = "×".join(str(size) for size in windows.shape) or "a single number"
            raise InputError(
                f"The windows have the shape {got}; expected {wanted}: {self.window} samples of "
                f"each of the channels {names}. Cut them with data.windows.cut."
            )
        if not np.issubdtype(windows.dtype, np.floating):
            raise InputError(
                f"The samples are of type {windows.dtype}; expected float32 or float64. "
                "Convert them, in the unit that the view was learned in."
            )

    def _parts(self, windows: Signals, n_bytes: int) -> Iterator[tuple[slice, Floats]]:
        """Yield a few windows at a time, without their means; each takes `n_bytes` per channel."""
        n_at_once = max(1, _AT_ONCE // (n_bytes * len(self.channels)))
        for start in range(0, len(windows), n_at_once):
            part = slice(start, start + n_at_once)
            taken = windows[part]
            if not np.abs(taken).max() <= _LOUDEST:  # not a number compares false
                raise InputError(
                    f"Windows {start} to {start + len(taken) - 1} hold samples that are not finite "
                    f"or beyond {_LOUDEST:g}. Leave out the stretch where the recording has gaps."
                )
            mean = taken.mean(axis=-1, dtype=np.float64, keepdims=True)
            yield part, (taken - mean).astype(np.float32)

    def _level_parts(self, windows: Signals) -> Iterator[tuple[slice, Floats]]:
        """Yield levels in dB, a few windows at a time: m×C×height×width."""
        seen = self._wavelets() if self.view == "scalogram" else self._frames()
        shape = (-1, len(self.channels), self.height, self.width)
        for part, values in self._parts(windows, seen.n_bytes):
            yield part, decibels(seen.power(values.reshape(-1, self.window))).reshape(shape)

    # Axes

    @property
    def _frame(self) -> int:
        """Samples of a frame: a power of two near an eighth of the window."""
        near = round(math.log2(self.window / _FRAMES_PER_WINDOW))
        return max(_FEWEST_IN_FRAME, 1 << max(near, 0))

    def _frame_starts(self) -> NDArray[np.intp]:
        return np.round(np.linspace(0, self.window - self._frame, self.width)).astype(np.intp)

    def _frequency_nodes(self) -> Axis:
        """Centres of the rows in Hz, the lowest first, between the ends of the outermost two."""
        half, n_nodes = self.rate / 2, self.height + 2
        if self.view == "logmel":
            return _hz(np.linspace(0.0, _mel(half), n_nodes))
        if self.view == "scalogram":
            low, high = _LOWEST_CYCLES * self.rate / self.window, _HIGHEST_SHARE * self.rate
            centres = np.geomspace(low, high, self.height)
            return np.concatenate([[0.0], centres, [half]])
        return (np.arange(n_nodes, dtype=np.float64) - 0.5) * (half / self.height)

    def _frames(self) -> _Frames:
        frame = self._frame
        taper = np.hanning(frame + 1)[:frame]
        taper *= math.sqrt(2) / taper.sum()
        nodes = self._frequency_nodes()
        lines: Axis = np.arange(frame // 2 + 1, dtype=np.float64) * (self.rate / frame)
        weights = _triangles(nodes, lines)
        return _Frames(self._frame_starts(), taper.astype(np.float32), weights[::-1].copy())

    def _wavelets(self) -> _Wavelets:
        cycles = self.frequencies() / self.rate
        rows = tuple(_wavelet(each, self.window, self.width) for each in cycles)
        return _Wavelets(rows, self.width)


@dataclass(frozen=True, eq=False)
class _Frames:
    """What a short-time spectrum is made of: where frames start, their taper, lines by row."""

    starts: NDArray[np.intp]
    taper: Floats
    weights: Floats

    @property
    def n_bytes(self) -> int:
        return 16 * len(self.starts) * len(self.taper)

    def power(self, values: Floats) -> Floats:
        """n×window to n×height×width."""
        frames = sliding_window_view(values, len(self.taper), axis=1)[:, self.starts]
        power = squares(np.fft.rfft(frames * self.taper))
        # One product for all: many small ones would each wake every core.
        mixed: Floats = power.reshape(-1, power.shape[2]) @ self.weights.T
        return mixed.reshape(len(power), len(self.starts), -1).transpose(0, 2, 1)


@dataclass(frozen=True, eq=False)
class _Wavelet:
    """One row of a scalogram: the lines of the spectrum it takes, from `first` on.

    They are so few that `n_points` values hold all of the row's course.
    """

    first: int
    shape: NDArray[np.complex64]
    n_points: int


@dataclass(frozen=True, eq=False)
class _Wavelets:
    """The rows of a scalogram, the highest frequency first."""

    rows: tuple[_Wavelet, ...]
    width: int

    @property
    def n_bytes(self) -> int:
        return 24 * max(row.n_points for row in self.rows)

    def power(self, values: Floats) -> Floats:
        """n×window to n×height×width."""
        # Mirrored at its ends, the window has no jump there that every scale would see.
        spectrum = np.fft.rfft(np.concatenate([values, values[:, ::-1]], axis=1))
        out = np.empty((len(values), len(self.rows), self.width), np.float32)
        for index, row in enumerate(self.rows):
            lines = spectrum[:, row.first : row.first + len(row.shape)] * row.shape
            course = np.fft.ifft(lines, n=row.n_points)[:, : row.n_points // 2]
            out[:, index] = squares(course).reshape(len(values), self.width, -1).mean(axis=2)
        return out


def _wavelet(cycles: float, window: int, width: int) -> _Wavelet:
    """The complex Morlet wavelet of `cycles` per sample, on the lines of a mirrored window.

    As PyWavelets defines `cmor1.5-1.0`, but for its height: a sine is as loud at every scale.
    """
    reach = math.sqrt(-math.log(_FAINTEST) / (math.pi**2 * _BANDWIDTH)) * cycles
    length = 2 * window
    first = max(1, math.ceil((cycles - reach) * length))
    last = min(window, math.floor((cycles + reach) * length))
    lines = np.arange(first, last + 1)
    n_points = 2 * width
    while n_points < len(lines):
        n_points *= 2
    if n_points * 3 // 4 >= len(lines) and n_points % (8 * width) == 0:
        n_points = n_points * 3 // 4  # three times a power of two is as quick
    shape = np.exp(-(math.pi**2) * _BANDWIDTH * (lines / (length * cycles) - 1) ** 2)
    height = math.sqrt(2) * n_points / length
    # Values stand in the middle of their stretch, so that columns hold whole numbers of them.
    shift = np.exp(2j * math.pi * lines / length * (window / n_points - 0.5))
    return _Wavelet(first, (height * shape * shift).astype(np.complex64), n_points)


def _triangles(nodes: Axis, lines: Axis) -> Floats:
    """Weights of spectral lines (Hz) for each inner node: a triangle from neighbour to neighbour.

    It is no narrower than to the next line, so that every row has lines; its weights sum to 1.
    """
    away = lines - nodes[1:-1, None]
    below, above = np.diff(nodes)[:-1, None], np.diff(nodes)[1:, None]
    reach = np.maximum(np.where(away < 0, below, above), lines[1])
    weights = np.clip(1 - np.abs(away) / reach, 0.0, None)
    scaled: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return scaled


def _mel(hz: float) -> float:
    """The mel of the HTK toolkit: even with Hz up to 700, even with octaves far above."""
    return 2595.0 * math.log10(1 + hz / 700.0)


def _hz(mel: Axis) -> Axis:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1)
