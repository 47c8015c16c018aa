"""Vibration recordings: reading them from files, and what is wrong with them."""

from __future__ import annotations

import math
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from makellos.errors import ConfigurationError, InputError, suggest
from makellos.vibration._recording_files import (
    Column,
    Columns,
    read_mat,
    read_numpy,
    read_parquet,
    read_text,
    read_wav,
)
from makellos.vibration.windows import require_window

__all__ = ["SIGNAL_SUFFIXES", "Recording", "check_recording", "read_recording", "refuse"]

_READERS: Mapping[str, Callable[[Path], Columns]] = {
    ".npz": read_numpy,
    ".npy": read_numpy,
    ".mat": read_mat,
    ".csv": read_text,
    ".txt": read_text,
    ".tsv": read_text,
    ".parquet": read_parquet,
    ".wav": read_wav,
}
SIGNAL_SUFFIXES = frozenset(_READERS)

RATE_TOLERANCE = 0.01  # relative; clocks of one kind of recorder differ by far less
CLIPPED_SHARE = 0.001
CLIPPED_RUN = 3  # samples; a sine touches its peak once or twice
COARSE_STEPS = 16  # float32 steps; a signal that spans fewer is mostly rounding

_TIME_NAME = re.compile(
    r"^(?:time|t|s|sec|seconds?|timestamp|elapsed|zeit)(?:[ _]?(?P<unit>s|ms|us|µs|μs|ns))?$",
    re.IGNORECASE,
)
_SECONDS = {
    "s": 1.0,
    "sec": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,  # the Greek letter beside the sign
    "ns": 1e-9,
    "min": 60.0,
    "h": 3600.0,
}


# What parsers raise on bytes that are not what the suffix says.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,  # of the header of .npy
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, eq=False)
class Recording:
    """Hold the samples of one recording.

    Parameters
    ----------
    values : C×N float32, one row per channel, in `unit`.
    channels : names of the rows; ``ch1``, ``ch2`` and so on where the file has none.
    rate : samples per second in Hz; None where neither the file nor the caller states it.
    unit : such as ``g`` or ``m/s2``; None where the file has none. Where channels differ in it,
        it is None and stands in their names instead.
    path : file that it was read from.
    gaps : for each jump of the time column, the first sample after it, and the jump in sampling
        periods (1 would be none; below that time stands still or goes back).
    """

    values: NDArray[np.float32]
    channels: tuple[str, ...]
    rate: float | None
    unit: str | None
    path: Path
    gaps: tuple[tuple[int, float], ...] = ()

    @property
    def n_samples(self) -> int:
        """Return the number of samples of each channel."""
        return int(self.values.shape[1])

    @property
    def seconds(self) -> float | None:
        """Return the duration in s; None where the rate is unknown."""
        return None if self.rate is None else self.n_samples / self.rate

    def channel(self, name: str | int | None = None) -> NDArray[np.float32]:
        """Return one channel, N samples, by its name or its position from 0; None is the first.

        Raises `InputError` where there is no such channel.
        """
        position = 0 if name is None else name
        if isinstance(position, str):
            if position not in self.channels:
                raise InputError(
                    f"{self.path} has no channel {name!r}. {suggest(position, self.channels)}"
                )
            position = self.channels.index(position)
        if not 0 <= position < len(self.channels):
            raise InputError(
                f"{self.path} has no channel at position {name}; expected 0 to "
                f"{len(self.channels) - 1}, or a name: {', '.join(self.channels)}."
            )
        return np.asarray(self.values[position])


def read_recording(path: Path | str, *, rate: float | None = None) -> Recording:
    """Read a recording of one or more channels from a file of `SIGNAL_SUFFIXES`.

    In ``.npz`` and ``.mat`` the numeric arrays of the greatest length are the channels, and a
    number named ``rate`` or ``fs`` is the rate; 2-D arrays hold channels along their shorter
    axis. In text and Parquet a first column that is named as a time, or that rises evenly, gives
    the rate and is no channel. WAV samples of whole numbers are scaled to [-1, 1].

    `rate`, in Hz, is used where it is given; it must agree with that of the file within 1 %.

    Raises `InputError` when the file is missing, empty, damaged, without samples, or has another
    rate; `ConfigurationError` for a rate that is not above 0; `MissingRuntimeError` where the
    format needs a package that is not installed. Nothing is unpickled.
    """
    path = Path(path)
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise ConfigurationError(f"The rate is {rate:g} Hz; expected a number above 0.")
    found = _read_columns(path)
    columns, time = _without_time(found)
    measured, gaps = (None, ()) if time is None else _clock(time, path)
    own = measured if found.rate is None else found.rate
    names, unit = _names(columns)
    with np.errstate(over="ignore"):  # becomes infinite, which `check_recording` reports
        values = np.stack([column.values.astype(np.float32) for column in columns])
    return Recording(values, names, _agreed(own, rate, path), unit, path, gaps)


def check_recording(
    recording: Recording,
    *,
    window: int,
    rate: float | None = None,
    channels: Sequence[str] | None = None,
    n_channels: int | None = None,
) -> list[str]:
    """Return sentences on what is wrong with a recording; none where all is well.

    `window` is in samples. `rate` (Hz), `channels` and `n_channels` are those at fit. A recording
    that states no rate is taken to have that at fit. Where `channels` are given, they alone are
    looked into, and others may lie beside them.

    Raises `ConfigurationError` for a window below 16 samples.
    """
    return [text for text, _ in _findings(recording, window, rate, channels, n_channels)]


def refuse(
    recording: Recording,
    *,
    window: int,
    rate: float | None = None,
    channels: Sequence[str] | None = None,
    n_channels: int | None = None,
) -> list[str]:
    """Raise `InputError` where no verdict on a recording is possible; return the other findings.

    A verdict is impossible with samples that are no numbers, gaps, a constant channel, less than
    one window, another rate or other channels than at fit. Clipping and coarse steps are returned
    as sentences to warn with. The parameters are those of `check_recording`.
    """
    found = list(_findings(recording, window, rate, channels, n_channels))
    fatal = [text for text, is_fatal in found if is_fatal]
    if fatal:
        raise InputError(" ".join(fatal))
    return [text for text, _ in found]


# Reading


def _read_columns(path: Path) -> Columns:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path} is not a recording that can be read; accepted formats are "
            f"{', '.join(sorted(SIGNAL_SUFFIXES))}. Export it as one of them."
        )
    _require_file(path)
    try:
        found = reader(path)
    except MemoryError:
        raise InputError(
            f"{path} does not fit into the free memory. Cut it into shorter recordings."
        ) from None
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{path} cannot be read as {path.suffix.lower()}: {reason.rstrip('.')}. Copy it again "
            "(a broken copy?) or export it anew."
        ) from error
    if not found.columns:
        raise InputError(
            f"{path} holds no signal: no numeric array of two or more samples, 1-D or 2-D. Export "
            "the samples of each channel as one array or column of numbers."
        )
    return found


def _require_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a recording. Name the files in it.")
        if path.exists() and not path.is_file():  # reading a pipe could wait for ever
            raise InputError(f"{path} is a device or a pipe, not a file. Remove it.")
        size = path.stat().st_size
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Check the path.") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read: {error}. Check its permissions and its drive."
        ) from error
    if not size:
        raise InputError(f"{path} is empty (0 bytes). Copy it again or remove it.")


def _without_time(found: Columns) -> tuple[list[Column], Column | None]:
    columns = found.columns
    if len(columns) < 2:
        return columns, None
    named = [column for column in columns if _TIME_NAME.match(column.name)]
    if found.ordered:
        first = columns[0]
        named = [first] if first in named[:1] or _rises_evenly(first.values) else []
    if not named:
        return columns, None
    return [column for column in columns if column is not named[0]], named[0]


def _rises_evenly(values: NDArray[Any]) -> bool:
    """Say whether a column without a telling name is a time: steps of one size, hardly a jump."""
    if len(values) < 3 or not np.isfinite(values).all():
        return False
    steps = np.diff(values.astype(np.float64))
    jumps, base = _jumps(steps)
    even = steps[~jumps]
    return bool(
        base > 0
        and jumps.mean() <= 0.01
        and len(even) > 1
        and even.min() >= 0
        and np.ptp(even) <= 1.01 * base
    )


def _jumps(steps: NDArray[np.float64]) -> tuple[NDArray[np.bool_], float]:
    """Return where the steps of a time column are out of line, and the usual step.

    Times that were written with few digits have steps of two sizes, or repeat; that is no jump.
    """
    positive = steps[steps > 0]
    if not len(positive):
        return np.ones(len(steps), np.bool_), 0.0
    base = float(np.median(positive))
    low, high = np.nanpercentile(steps, (5, 95))
    low, high = min(low, base), max(high, base)
    if high - low > 1.01 * base:  # not a matter of digits
        low = high = base
    slack = max(0.5 * base, high - low) * (1 + 1e-6)
    regular = (steps >= max(0.0, low - slack)) & (steps <= high + slack)
    return ~regular, base


def _clock(time: Column, path: Path) -> tuple[float | None, tuple[tuple[int, float], ...]]:
    """Return the rate in Hz that a time column states, and its gaps."""
    steps = np.diff(time.values.astype(np.float64))
    jumps, base = _jumps(steps)
    if not base or jumps.all():
        raise InputError(
            f"{path}: the column {time.name!r} does not rise, so it is no time. Rename it where "
            "it is a channel, or remove it and give the sampling rate."
        )
    step = float(steps[~jumps].mean())
    places = np.flatnonzero(jumps)
    gaps = tuple((int(i) + 1, float(steps[i]) / step) for i in places)
    stated = time.unit or (_TIME_NAME.match(time.name) or {"unit": None})["unit"]
    is_index = stated is None and base == 1 and bool((steps[~jumps] == 1).all())
    factor = _SECONDS.get((stated or "s").lower())
    if is_index or factor is None:
        return None, gaps
    return _rounded(1 / (step * factor)), gaps


def _rounded(rate: float) -> float:
    """Return the whole number of Hz that times of few digits have blurred, where one is near."""
    whole = float(round(rate))
    return whole if abs(rate - whole) <= 1e-4 * rate else rate


def _agreed(own: float | None, given: float | None, path: Path) -> float | None:
    if own is not None and not (math.isfinite(own) and own > 0):
        own = None
    if own is None or given is None:
        return own if given is None else given
    if abs(own / given - 1) > RATE_TOLERANCE:
        raise InputError(
            f"{path} was recorded at {own:,.6g} Hz by its own account; {given:,.6g} Hz was given, "
            "and 1 % of difference is accepted. Leave the rate out, or correct it."
        )
    return given


def _names(columns: Sequence[Column]) -> tuple[tuple[str, ...], str | None]:
    units = {column.unit for column in columns}
    unit = units.pop() if len(units) == 1 else None
    taken: list[str] = []
    for number, column in enumerate(columns, start=1):
        name = column.name or f"ch{number}"
        if column.unit and unit is None:
            name = f"{name} [{column.unit}]"
        taken.append(f"{name}_{number}" if name in taken else name)
    return tuple(taken), unit


# Findings


class _Finding(NamedTuple):
    text: str
    is_fatal: bool = True


def _findings(
    recording: Recording,
    window: int,
    rate: float | None,
    channels: Sequence[str] | None,
    n_channels: int | None,
) -> Iterator[_Finding]:
    require_window(window)
    path = recording.path
    yield from _other_channels(recording, channels, n_channels)
    if rate is not None and recording.rate and abs(recording.rate / rate - 1) > RATE_TOLERANCE:
        yield _Finding(
            f"{path} was recorded at {recording.rate:,.6g} Hz, the model was fitted at "
            f"{rate:,.6g} Hz. Record at that rate, resample it, or fit a model for this one."
        )
    if recording.n_samples < window:
        yield _Finding(
            f"{path} has {recording.n_samples:,} samples, fewer than one window of {window:,}. "
            "Record longer, or fit with a shorter window."
        )
    if recording.gaps:
        place, jump = recording.gaps[0]
        yield _Finding(
            f"{path} has {_n_of(len(recording.gaps), 'gap')}: its time jumps by {jump:.4g} "
            f"sampling periods, first {_where(recording, place)}. Cut the recording there, or "
            "record again without losses."
        )
    for name, values in zip(recording.channels, recording.values, strict=True):
        if channels is None or name in channels:
            yield from _in_channel(recording, name, values)


def _other_channels(
    recording: Recording, channels: Sequence[str] | None, n_channels: int | None
) -> Iterator[_Finding]:
    names = recording.channels
    if n_channels is not None and len(names) != n_channels:
        yield _Finding(
            f"{recording.path} has {_n_of(len(names), 'channel')} ({', '.join(names)}), the model "
            f"was fitted on {n_channels}. Give recordings with the same channels."
        )
    for name in channels or ():
        if name not in names:
            yield _Finding(
                f"{recording.path} has no channel {name!r}, which the model was fitted on. "
                f"{suggest(name, names)} Name the channels as they were at fit."
            )


def _in_channel(recording: Recording, name: str, values: NDArray[np.float32]) -> Iterator[_Finding]:
    at = f"{recording.path}, channel {name}:"
    is_finite = np.isfinite(values)
    finite = values
    if not is_finite.all():
        wrong = np.flatnonzero(~is_finite)
        yield _Finding(
            f"{at} {_n_of(len(wrong), 'sample')} of {len(values):,} "
            f"{'is' if len(wrong) == 1 else 'are'} NaN, infinite or too large for float32, first "
            f"{_where(recording, int(wrong[0]))}. Cut them out, or record again."
        )
        finite = values[is_finite]
    if not len(finite):
        return
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        yield _Finding(
            f"{at} constant at {low:g} throughout. Check the sensor and its cable, and record "
            "again."
        )
        return
    if high - low < COARSE_STEPS * float(np.spacing(np.float32(max(abs(low), abs(high))))):
        yield _Finding(
            f"{at} the values vary by {high - low:.3g} around {low:g}, too little for float32. "
            "Take the constant part off before saving.",
            is_fatal=False,
        )
        return
    share = (_n_in_runs(finite == low) + _n_in_runs(finite == high)) / len(finite)
    if share > CLIPPED_SHARE:
        yield _Finding(
            f"{at} {share:.2%} of the samples stand at the extremes {low:g} and {high:g} in runs "
            "(clipping). Lower the gain, or take a sensor of a wider range.",
            is_fatal=False,
        )


def _n_in_runs(is_extreme: NDArray[np.bool_]) -> int:
    """Count the true values that stand in runs of at least `CLIPPED_RUN`."""
    padded = np.concatenate(([False], is_extreme, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= CLIPPED_RUN].sum())


def _where(recording: Recording, sample: int) -> str:
    if recording.rate is None:
        return f"at sample {sample:,}"
    return f"at {sample / recording.rate:.6g} s"


def _n_of(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
