"""What a set of recordings holds and what is wrong with it, before anything is learned from it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from makellos.data.parts import GOOD, Part, PartSet
from makellos.data.progress import Progress, no_progress
from makellos.errors import InputError
from makellos.vibration.clock import RATE_TOLERANCE
from makellos.vibration.parts import piece_of, rpm_of
from makellos.vibration.recordings import Recording, check_recording, read_recording

__all__ = ["RecordingsCheck", "check_recordings"]


@dataclass(frozen=True, kw_only=True)
class RecordingsCheck:
    """Hold what a set of recordings contains and what is wrong with it.

    Parameters
    ----------
    layout : how the recordings lie.
    n_recordings, n_unreadable : how many there are, and how many cannot be read.
    labels : recordings by label.
    n_samples : of one channel, of all recordings together.
    seconds : of all recordings that state a rate, together; None where none does.
    rates, channels : recordings by rate in Hz (0: not stated) and by the names of their channels.
    problems : sentences about what should be put right before anything is learned.
    advice : sentences about what is good to know.
    """

    layout: str
    n_recordings: int
    n_unreadable: int
    labels: dict[str, int]
    n_samples: int
    seconds: float | None
    rates: dict[str, int]
    channels: dict[str, int]
    problems: list[str]
    advice: list[str]


def check_recordings(
    parts: PartSet, *, window: int = 2048, progress: Progress = no_progress
) -> RecordingsCheck:
    """Read every recording of a set, say what it holds and what is wrong with it.

    `window` is how many samples a verdict needs. Files that are wrong raise no error.
    """
    read: list[tuple[Part, Recording]] = []
    problems: list[str] = []
    for done, part in enumerate(parts, start=1):
        try:
            read.append((part, read_recording(part.path)))
        except InputError as error:
            problems.append(str(error))
        progress("reading", done, len(parts))
    n_unreadable = len(problems)
    for _, recording in read:
        problems += check_recording(recording, window=window)
    rates = Counter(f"{recording.rate or 0:g}" for _, recording in read)
    channels = Counter(", ".join(recording.channels) for _, recording in read)
    lengths = [each.seconds for _, each in read if each.seconds is not None]
    problems += [*_unlike(read), *_twice(read)]
    return RecordingsCheck(
        layout=parts.layout,
        n_recordings=len(parts),
        n_unreadable=n_unreadable,
        labels=dict(Counter(part.label for part in parts)),
        n_samples=sum(recording.n_samples for _, recording in read),
        seconds=round(math.fsum(lengths), 3) if lengths else None,
        rates=dict(rates),
        channels=dict(channels),
        problems=problems,
        advice=list(_advice(parts, read)),
    )


def _unlike(read: Sequence[tuple[Part, Recording]]) -> Iterator[str]:
    stated = sorted({recording.rate for _, recording in read if recording.rate})
    if stated and stated[-1] / stated[0] > 1 + RATE_TOLERANCE:
        yield (
            f"Recordings differ in their rate: {', '.join(f'{rate:g} Hz' for rate in stated)}. "
            "A model has a single rate: resample them, or fit a model for each."
        )
    names = {recording.channels for _, recording in read}
    if len(names) > 1:
        common = set.intersection(*(set(each) for each in names))
        there = f"All have {', '.join(sorted(common))}." if common else "They have none in common."
        yield f"Recordings differ in their channels. {there} Name those to use with --channel."


def _twice(read: Sequence[tuple[Part, Recording]]) -> Iterator[str]:
    seen: dict[bytes, list[Part]] = defaultdict(list)
    for part, recording in read:
        seen[hashlib.blake2b(recording.values.tobytes(), digest_size=16).digest()].append(part)
    for alike in seen.values():
        labels = sorted({part.label for part in alike})
        splits = sorted({part.split or "none" for part in alike})
        whole = [part.name for part in alike if piece_of(part) is None]
        if len(whole) > 1:
            more = f", with the labels {' and '.join(labels)}" if len(labels) > 1 else ""
            more += f", in the splits {' and '.join(splits)}" if len(splits) > 1 else ""
            yield f"{' and '.join(whole)} hold the same samples{more}. Keep one of them."


def _advice(parts: PartSet, read: Sequence[tuple[Part, Recording]]) -> Iterator[str]:
    yield from parts.remarks()
    n_without = sum(recording.rate is None for _, recording in read)
    if n_without:
        who = "No recording states its rate"
        if n_without < len(read):
            who = f"{n_without} of {len(read)} recordings do not state their rate"
        yield f"{who}: give it to fit with --rate HZ."
    n_good = sum(part.label == GOOD for part in parts)
    if not n_good:
        yield "No recording is labelled good, and detectors learn from good ones."
    elif n_good == 1:
        yield (
            "There is only one good recording. It cannot show how good ones differ between days, "
            "loads or machines; record more."
        )
    if read and all(rpm_of(part) is None and each.rpm is None for part, each in read):
        yield (
            "No speed is known. To have faults named, give --bearing and --rpm, or a column "
            "'speed' in a manifest."
        )
