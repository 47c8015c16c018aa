"""Vibration recordings: reading them from files, and what is wrong with them."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from makellos.data.numpy_files import DAMAGE
from makellos.errors import ConfigurationError, InputError, suggest
from makellos.vibration._columns import MAX_BYTES, Column, Columns, check_size
from makellos.vibration._recording_files import read_mat, read_numpy, read_parquet, read_wav
from makellos.vibration._text_files import read_text
from makellos.vibration._text_layout import holds_rows
from makellos.vibration.clock import RATE_TOLERANCE, check_stated, rate_and_gaps, without_time
from makellos.vibration.samples import Samples
from makellos.vibration.windows import require_window

__all__ = [
    "SIGNAL_SUFFIXES",
    "Recorded",
    "Recording",
    "channel_names",
    "check_recording",
    "is_recording",
    "own_rate",
    "read_recording",
    "refuse",
    "require_file",
]

_READERS: Mapping[str, Callable[[Path], Columns]] = {
    ".npz": read_numpy,
    ".npy": read_numpy,
    ".mat": read_mat,
    ".csv": read_text,
    ".txt": read_text,
    ".tsv": read_text,
    ".lvm": read_text,
    ".parquet": read_parquet,
    ".wav": read_wav,
}
SIGNAL_SUFFIXES = frozenset(_READERS)

CLIPPED_SHARE = 0.001
COARSE_STEPS = 16  # float32 steps; a signal that spans fewer is mostly rounding
_SNIFFED = 4096  # bytes
_STARTS: Mapping[bytes, Callable[[Path], Columns]] = {
    b"PK\x03\x04": read_numpy,
    b"\x93NUMPY": read_numpy,
    b"MATLAB ": read_mat,
    b"\x89HDF\r\n": read_mat,
    b"PAR1": read_parquet,
    b"RIFF": read_wav,
    b"LabVIEW Measurement": read_text,
}


# What parsers raise on bytes that are not what the suffix says.
_DAMAGE = (*DAMAGE, AttributeError, csv.Error)


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
    rpm : turns per minute of the shaft that the file states; None where it does not.
    notes : sentences on what in the file may not be as it was meant.
    gaps : for each jump of the time column, the first sample after it, and the jump in sampling
        periods (1 would be none; below that time stands still or goes back).
    """

    values: NDArray[np.float32]
    channels: tuple[str, ...]
    rate: float | None
    unit: str | None
    path: Path
    gaps: tuple[tuple[int, float], ...] = ()
    rpm: float | None = None
    notes: tuple[str, ...] = ()

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

    def channel_samples(self, name: str) -> Samples:
        """Return what is known of a channel's samples."""
        values = self.values[self.channels.index(name)]
        return Samples.of(lambda: iter((values,)))


class Recorded(Protocol):
    """Be a recording whose samples are held, or one whose samples are read as they are needed."""

    @property
    def path(self) -> Path: ...
    @property
    def channels(self) -> tuple[str, ...]: ...
    @property
    def rate(self) -> float | None: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def gaps(self) -> tuple[tuple[int, float], ...]: ...

    def channel_samples(self, name: str) -> Samples:
        """Return what is known of a channel's samples."""
        ...


def is_recording(path: Path) -> bool:
    """Tell whether a file in a folder is a recording, by its suffix, or without one by its start.

    A number is no suffix, as in ``2004.02.12.10.32.39``; such files begin with rows of numbers.
    """
    suffix = path.suffix.lower()
    if suffix in SIGNAL_SUFFIXES:
        return True
    return (not suffix or suffix[1:].isdigit()) and _sniffed(path) is not None


def read_recording(
    path: Path | str, *, rate: float | None = None, usual: float | None = None
) -> Recording:
    """Read a recording of one or more channels from a file of `SIGNAL_SUFFIXES`.

    A file of another suffix, or without one, is read as what it begins like. In ``.npz`` and
    ``.mat`` the numeric arrays of the greatest length are the channels, in structures and cells
    too; a number named ``rate``, ``fs`` or ``sr`` is the rate, one named ``rpm`` or ``X097RPM`` the
    speed; 2-D arrays hold channels along their shorter axis. In text and Parquet a column that is
    named as a time, or a first one that rises evenly, gives the rate and is no channel; times may
    be stamps. WAV samples of whole numbers are scaled to [-1, 1].

    `rate`, in Hz, is used where it is given; it must agree with that of the file within 1 %. One
    that is `usual` is believed where the file states it, however odd, and gives times without a
    unit theirs.

    Raises `InputError` when the file is missing, empty, damaged, without samples, too large, leads
    to another file, or has another rate, or one that vibration is not recorded at;
    `ConfigurationError` for a rate that is not above 0; `MissingRuntimeError` where the format
    needs a package that is not installed. Nothing is unpickled.
    """
    path = Path(path)
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise ConfigurationError(f"The rate is {rate:g} Hz; expected a number above 0.")
    found = _read_columns(path)
    columns, time = without_time(found)
    own, gaps, notes = own_rate(found, time, path, rate, usual)
    names, unit = channel_names(columns)
    values = np.empty((len(columns), len(columns[0].values)), np.float32)
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # becomes infinite, which `check_recording` reports
        for row, column in zip(values, columns, strict=True):
            row[:] = column.values
    rpm = found.rpm if found.rpm is not None and 0 < found.rpm < np.inf else None
    return Recording(values, names, _agreed(own, rate, path), unit, path, gaps, rpm, notes)


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
    recording: Recorded,
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
    suffix = path.suffix.lower()
    if suffix not in _READERS and not path.exists():
        raise InputError(f"{path} does not exist. Check the path.")
    reader = _READERS.get(suffix) or _sniffed(path)
    if reader is None and not path.is_dir():
        raise InputError(
            f"{path} is not a recording that can be read; expected one of "
            f"{', '.join(sorted(SIGNAL_SUFFIXES))}. Export it as one of them."
        )
    require_file(path)
    found = _parsed(path, reader or read_text)
    if not found.columns:
        raise InputError(
            f"{path} holds no signal: no numeric array of two or more samples, 1-D or 2-D. Export "
            "the samples of each channel as one array or column of numbers."
        )
    check_size(path, sum(each.values.size for each in found.columns), len(found.columns))
    return found


def _sniffed(path: Path) -> Callable[[Path], Columns] | None:
    """Return the reader of a file that its first bytes tell, None for no recording."""
    try:
        if not path.is_file():  # reading a pipe could wait for ever
            return None
        with path.open("rb") as stream:
            head = stream.read(_SNIFFED)
    except (OSError, ValueError):
        return None
    for start, reader in _STARTS.items():
        if head.startswith(start):
            return reader
    return read_text if holds_rows(head) else None


def _parsed(path: Path, reader: Callable[[Path], Columns]) -> Columns:
    try:
        return reader(path)
    except MemoryError:
        raise InputError(
            f"{path} does not fit into the free memory. Cut it into shorter recordings."
        ) from None
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        what = path.suffix.lower() if path.suffix.lower() in _READERS else "a recording"
        raise InputError(
            f"{path} cannot be read as {what}: {reason.rstrip('.')}. Copy it again "
            "(a broken copy?) or export it again."
        ) from error


def require_file(path: Path) -> None:
    """Raise `InputError` for what is no file of samples, and for one that is too large."""
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
    if size > MAX_BYTES:
        raise InputError(
            f"{path} has {size:,} bytes; recordings of at most {MAX_BYTES:,} are read. Cut it into "
            "shorter recordings."
        )


def own_rate(
    found: Columns, time: Column | None, path: Path, given: float | None, usual: float | None
) -> tuple[float | None, tuple[tuple[int, float], ...], tuple[str, ...]]:
    """Return the rate that a file states, in words or by its times, its gaps, and notes."""
    stated = found.rate
    if stated is not None and not (math.isfinite(stated) and stated > 0):
        stated = None
    notes = found.notes
    if stated is not None and not any(_alike(stated, each) for each in (given, usual)):
        odd = check_stated(stated, path)
        notes += () if odd is None else (odd,)
    if time is None:
        return stated, (), notes
    measured, gaps = rate_and_gaps(time, path, (given, stated, usual))
    if stated is not None and measured is not None and not _alike(stated, measured):
        raise InputError(
            f"{path} states a sampling rate of {stated:,.6g} Hz, but its times give "
            f"{measured:,.6g} Hz. Correct the one that is wrong."
        )
    if stated is None and measured is not None and not _alike(measured, given or usual):
        odd = check_stated(measured, path)
        notes += () if odd is None else (odd,)
    return measured if stated is None else stated, gaps, notes


def _alike(rate: float, other: float | None) -> bool:
    return other is not None and abs(rate / other - 1) <= RATE_TOLERANCE


def _agreed(own: float | None, given: float | None, path: Path) -> float | None:
    if own is None or given is None:
        return own if given is None else given
    if not _alike(own, given):
        raise InputError(
            f"{path} states that it was recorded at {own:,.6g} Hz, but {given:,.6g} Hz was given; "
            "they may differ by at most 1 %. Leave the rate out, or correct it."
        )
    return given


def channel_names(columns: Sequence[Column]) -> tuple[tuple[str, ...], str | None]:
    """Return the names of channels, each once, and the unit that all of them have."""
    units = {column.unit for column in columns}
    unit = units.pop() if len(units) == 1 else None
    taken: dict[str, None] = {}
    for number, column in enumerate(columns, start=1):
        name = column.name or f"ch{number}"
        if column.unit and unit is None:
            name = f"{name} [{column.unit}]"
        while name in taken:
            name = f"{name}_{number}"
        taken[name] = None
    return tuple(taken), unit


# Findings


class _Finding(NamedTuple):
    text: str
    is_fatal: bool = True


def _findings(
    recording: Recorded,
    window: int,
    rate: float | None,
    channels: Sequence[str] | None,
    n_channels: int | None,
) -> Iterator[_Finding]:
    require_window(window)
    path = recording.path
    yield from (_Finding(note, is_fatal=False) for note in recording.notes)
    yield from _other_channels(recording, channels, n_channels)
    if rate is not None and recording.rate and abs(recording.rate / rate - 1) > RATE_TOLERANCE:
        yield _Finding(
            f"{path} was recorded at {recording.rate:,.6g} Hz, but the model was fitted at "
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
            "record again without dropouts."
        )
    for name in recording.channels:
        if channels is None or name in channels:
            yield from _in_channel(recording, name, recording.channel_samples(name))


def _other_channels(
    recording: Recorded, channels: Sequence[str] | None, n_channels: int | None
) -> Iterator[_Finding]:
    names = recording.channels
    if n_channels is not None and len(names) != n_channels:
        yield _Finding(
            f"{recording.path} has {_n_of(len(names), 'channel')} ({', '.join(names)}), but the "
            f"model was fitted on {n_channels}. Give recordings with the same channels."
        )
    for name in channels or ():
        if name not in names:
            yield _Finding(
                f"{recording.path} has no channel {name!r}, which the model was fitted on. "
                f"{suggest(name, names)} Name the channels as they were when it was fitted."
            )


def _in_channel(recording: Recorded, name: str, samples: Samples) -> Iterator[_Finding]:
    at = f"{recording.path}, channel {name}:"
    if samples.n_broken:
        yield _Finding(
            f"{at} {_n_of(samples.n_broken, 'sample')} of {samples.n:,} "
            f"{'is' if samples.n_broken == 1 else 'are'} NaN, infinite or too large for float32, "
            f"first {_where(recording, samples.first_broken)}. Cut them out, or record again."
        )
    n_finite, low, high = samples.n - samples.n_broken, samples.low, samples.high
    if not n_finite:
        return
    if low == high:
        yield _Finding(
            f"{at} constant at {low:g} throughout. Check the sensor and its cable, and record "
            "again."
        )
        return
    if high - low < COARSE_STEPS * float(np.spacing(np.float32(max(abs(low), abs(high))))):
        yield _Finding(
            f"{at} the values vary by {high - low:.3g} around {low:g}, too little for float32. "
            "Subtract the constant part before saving.",
            is_fatal=False,
        )
        return
    share = samples.n_extreme / n_finite
    if share > CLIPPED_SHARE:
        yield _Finding(
            f"{at} {share:.2%} of the samples sit at the extremes {low:g} and {high:g} in runs "
            "(clipping). Lower the gain, or use a sensor with a wider range.",
            is_fatal=False,
        )


def _where(recording: Recorded, sample: int) -> str:
    if recording.rate is None:
        return f"at sample {sample:,}"
    return f"at {sample / recording.rate:.6g} s"


def _n_of(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
