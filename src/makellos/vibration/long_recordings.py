"""Recordings too long to be held in memory: WAV files whose samples are read as they are needed."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from makellos.errors import InputError
from makellos.vibration._columns import MAX_CHANNELS, Column, Columns
from makellos.vibration._recording_files import WavForm, read_wav_form, wav_samples
from makellos.vibration.recordings import (
    channel_names,
    own_rate,
    refuse,
    require_file,
)
from makellos.vibration.samples import Samples, Slices
from makellos.vibration.views import SignalView
from makellos.vibration.windows import Piece

__all__ = ["LongRecording", "LongSignal", "LongWindows", "cut_long", "open_long"]

_LONG = 1 << 24  # samples of all channels together, of which more are not held
_BLOCK = 1 << 20  # samples of one channel that are read at once
_AT_ONCE = 1 << 22  # samples of all channels that are decoded at once, however many there are

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LongRecording:
    """Stand for a recording whose samples are read when they are asked for.

    What it says of itself is what `Recording` does; `first` is where it begins in its file, which
    holds `n_samples` of each channel from there on.
    """

    path: Path
    form: WavForm
    channels: tuple[str, ...]
    rate: float
    n_samples: int
    first: int = 0
    notes: tuple[str, ...] = ()
    unit: str | None = None
    rpm: float | None = None
    gaps: tuple[tuple[int, float], ...] = ()

    def read(self, start: int, stop: int, rows: Sequence[int]) -> Floats:
        """Return samples from `start` up to `stop` of the channels at `rows`, C×n."""
        wanted, some = np.empty((len(rows), max(0, stop - start)), np.float32), list(rows)
        step = max(1, _AT_ONCE // self.form.n_channels)
        with self.path.open("rb") as stream:
            stream.seek(self.form.start + (self.first + start) * self.form.frame_bytes)
            for begin in range(0, wanted.shape[1], step):
                n_samples = min(step, wanted.shape[1] - begin)
                table = _table(stream, self.form, n_samples, self.path)
                with np.errstate(over="ignore", invalid="ignore"):  # what is no number is told of
                    wanted[:, begin : begin + n_samples] = table[:, some].T
        return wanted

    def channel_samples(self, name: str) -> Samples:
        """Return what is known of a channel's samples, from two passes over them."""
        signal = LongSignal(self, self.channels.index(name))
        return Samples.of(signal.blocks)


@dataclass(frozen=True, eq=False)
class LongSignal(Slices):
    """Stand for the samples (N,) of one channel; slices of it are read."""

    recording: LongRecording
    row: int

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.recording.n_samples

    def __getitem__(self, part: slice) -> Floats:
        """Return the samples of a slice without steps."""
        start, stop, _ = part.indices(len(self))
        return np.asarray(self.recording.read(start, stop, (self.row,))[0])

    def blocks(self) -> Iterator[Floats]:
        """Yield the samples, a block at a time."""
        for start in range(0, len(self), _BLOCK):
            yield self[start : start + _BLOCK]


@dataclass(frozen=True, eq=False)
class LongWindows:
    """Stand for windows n×C×window of a recording; slices of them are read."""

    recording: LongRecording
    rows: tuple[int, ...]
    window: int
    hop: int

    def __len__(self) -> int:
        """Return the number of windows."""
        return max(0, (self.recording.n_samples - self.window) // self.hop + 1)

    def __getitem__(self, part: slice) -> Floats:
        """Return the windows of a slice without steps."""
        start, stop, _ = part.indices(len(self))
        last = (stop - 1) * self.hop + self.window
        signal = self.recording.read(start * self.hop, last, self.rows)
        seen: Floats = sliding_window_view(signal, self.window, axis=1)[:, :: self.hop]
        return np.asarray(seen.swapaxes(0, 1))


@dataclass(frozen=True, eq=False)
class CutLong:
    """Hold what `Windows` does of a recording that is not held."""

    values: LongWindows
    starts: NDArray[np.intp]
    signal: Sequence[LongSignal]
    notes: Sequence[str] = field(default_factory=list)


def open_long(path: Path, usual: float | None) -> LongRecording | None:
    """Open a WAV file that is too long to be held; None for a shorter one, and any other file.

    Raises as `read_recording` does.
    """
    if path.suffix.lower() != ".wav" or not path.is_file():
        return None
    try:
        with path.open("rb") as stream:
            form = read_wav_form(stream)
    except (OSError, ValueError, struct.error):
        return None  # whoever reads it as a whole says what is wrong
    n_samples = form.n_bytes // form.frame_bytes if form.frame_bytes else 0
    if n_samples * form.n_channels <= _LONG or form.n_channels > MAX_CHANNELS:
        return None  # too many channels are refused where they are read
    try:
        wav_samples(memoryview(bytes(form.frame_bytes)), form.tag, form.bits)
    except ValueError:
        return None
    require_file(path)
    found = Columns(
        columns=[Column(name="", values=np.empty(0, np.float32))] * form.n_channels,
        rate=float(form.rate),
    )
    rate, _, notes = own_rate(found, None, path, None, usual)
    if rate is None:
        return None
    names, _ = channel_names(found.columns)
    return LongRecording(path, form, names, rate, n_samples, notes=notes)


def cut_long(recording: LongRecording, view: SignalView, piece: Piece | None = None) -> CutLong:
    """Cut a recording, or a piece of it, into windows as `cut_windows` does; raises as it does."""
    if piece is not None:
        wanted = piece.samples(recording.n_samples, view.rate)
        recording = LongRecording(
            recording.path,
            recording.form,
            recording.channels,
            recording.rate,
            max(0, wanted.stop - wanted.start),
            recording.first + wanted.start,
            recording.notes,
        )
    notes = refuse(recording, window=view.window, rate=view.rate, channels=view.channels)
    rows = tuple(recording.channels.index(name) for name in view.channels)
    values = LongWindows(recording, rows, view.window, view.hop)
    starts = recording.first + view.hop * np.arange(len(values))
    return CutLong(values, starts, [LongSignal(recording, row) for row in rows], notes)


def _table(stream: IO[bytes], form: WavForm, n_samples: int, path: Path) -> NDArray[Any]:
    raw = stream.read(n_samples * form.frame_bytes)
    if len(raw) < n_samples * form.frame_bytes:
        raise InputError(f"{path} became shorter while it was read. Copy it again.")
    return wav_samples(memoryview(raw), form.tag, form.bits).reshape(-1, form.n_channels)
