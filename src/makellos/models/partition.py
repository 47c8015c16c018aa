"""The parts that a fit learns from, and those that calibrate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from makellos.calibration import parts_needed
from makellos.data.checks import readable
from makellos.data.labelled import check_labelled
from makellos.data.parts import Part, PartSet, group_names
from makellos.data.progress import Progress
from makellos.data.splits import aside
from makellos.detectors import Detector
from makellos.errors import ConfigurationError, InputError
from makellos.inspection.recordings import SignalRecord
from makellos.models.release import Split
from makellos.vibration.envelopes import BandSpectra
from makellos.vibration.signals import SignalSettings

__all__ = ["Seen", "see_pictures", "split_parts"]

_PLENTY = 5  # times the parts that the budget needs at least


@dataclass(frozen=True)
class Seen:
    """Hold parts to learn from and to calibrate with: pictures, or windows seen as `record` says.

    `used` are the files they come from, `skipped` the names of those that cannot be used.
    """

    split: Split
    record: SignalRecord | None
    used: list[Part]
    skipped: list[str]
    notes: list[str]
    good_spectra: Mapping[str, BandSpectra] = field(default_factory=dict)


def see_pictures(
    parts: PartSet,
    signal: SignalSettings | None,
    detector: Detector,
    false_alarms: float,
    seed: int,
    skip_unreadable: bool,
    *,
    progress: Progress,
) -> Seen:
    """Return the pictures of a set that are learned from, and those that calibrate.

    Raises `InputError` for pictures that cannot be used, `ConfigurationError` for options and
    detectors of signals.
    """
    if signal not in (None, SignalSettings()) or detector.takes != "pictures":
        raise ConfigurationError(
            f"{parts.root} holds pictures. {detector.name} and options of signals (--rate, "
            "--channel, --window, --hop, --view, --bearing, --rpm) are for recordings of vibration."
            if detector.takes != "pictures"
            else f"{parts.root} holds pictures; --rate, --channel, --window, --hop, --view, "
            "--bearing and --rpm are for recordings of vibration. Leave them out."
        )
    found = _usable(parts, skip_unreadable, progress, detector)
    split = split_parts(found.learnable, found.calibration, detector, false_alarms, seed)
    from_labels = detector.needs_labels or not all(part.is_good for part in split.learn)
    notes = _label_notes(parts, split, few=not detector.needs_labels) if from_labels else []
    return Seen(split, None, [*found.learnable, *found.calibration], found.skipped, notes)


class _Usable(NamedTuple):
    """Hold parts to learn from, parts that calibrate, and the names of those left out."""

    learnable: list[Part]
    calibration: list[Part]
    skipped: list[str]


def _usable(
    parts: PartSet, skip_unreadable: bool, progress: Progress, detector: Detector
) -> _Usable:
    """Return the parts that can be decoded, with defective ones where `detector` learns from them.

    One that only uses labels validates with none: good parts come first, then defective ones.
    """
    good, calibration = parts.good(), parts.calibration()
    learnable = parts.labelled() if detector.needs_labels else good
    if detector.uses_labels:
        learnable += tuple(p for p in parts if not p.is_good and p.split in (None, "train"))
    if not good:
        raise InputError(
            f"{parts.root} has no good parts to learn from ({parts.layout}). Put them into "
            "train/good, or label them 'good' with split 'train' or none in the manifest."
        )
    found, broken = readable(
        [*learnable, *calibration], progress=lambda done, total: progress("reading", done, total)
    )
    if broken and not skip_unreadable:
        listed = "\n  ".join(reason for _, reason in broken)
        raise InputError(
            f"{len(broken)} of {len(learnable) + len(calibration)} files cannot be used:\n  "
            f"{listed}\nMend or remove them, or leave them out with --skip-unreadable."
        )
    names = {part.name for part in found}
    return _Usable(
        [part for part in learnable if part.name in names],
        [part for part in calibration if part.name in names],
        [part.name for part, _ in broken],
    )


def split_parts(
    learnable: list[Part],
    calibration: list[Part],
    detector: Detector,
    false_alarms: float,
    seed: int,
) -> Split:
    """Return which parts are learned from and which calibrate.

    Those given for calibration do so. Else a fifth of the groups is set aside where that is
    plenty, and parts are cross-fitted where it is not: with few calibration parts the threshold is
    that of the one or two oddest good parts, while cross-fitting calibrates on all good parts and
    learns from all of them. A detector that trains would do so once per fold: unless it
    `cross_fits`, a fifth of its parts is set aside, or what the budget needs, up to a third. Where
    labels are needed, defective parts that are set aside validate.
    """
    if calibration:
        return Split(learnable, calibration, "split val")
    names = group_names(learnable)
    is_good = [part.is_good for part in learnable]
    groups = sorted({name for name, good in zip(names, is_good, strict=True) if good})
    n_good = sum(is_good)
    n_aside = len(groups) // 5
    cross_fits = detector.cross_fits or not detector.trains
    if not cross_fits:
        n_aside = max(1, n_aside, min(len(groups) // 3, parts_needed(false_alarms)))
    if len(groups) < 2 or n_good < 3 or n_aside < _PLENTY * parts_needed(false_alarms):
        if len(groups) < 2 or n_good < 3:
            raise _too_few(n_good, len(groups))
        if cross_fits:
            return Split(learnable, [p for p in learnable if p.is_good], "cross-fitted")
    if detector.needs_labels:
        return _split_labelled(learnable, n_aside, seed)
    chosen = set(np.random.default_rng([seed, 1]).permutation(groups)[:n_aside])
    known = list(zip(learnable, names, strict=True))
    return Split(
        [part for part, name in known if name not in chosen],
        [part for part, name in known if name in chosen and part.is_good],
        "held out",
    )


def _split_labelled(learnable: list[Part], n_aside: int, seed: int) -> Split:
    """Hold good parts out to calibrate, and defective ones to validate; no label goes missing."""
    learn, apart = aside(learnable, 1 / 5, seed=seed, at_least_good=n_aside)
    validate = [replace(part, split="val") for part in apart if not part.is_good]
    return Split([*learn, *validate], [part for part in apart if part.is_good], "held out")


def _too_few(n_good: int, n_groups: int) -> InputError:
    count = f"{n_good} good part{'' if n_good == 1 else 's'}"
    if n_groups != n_good:
        count += f" in {n_groups} group{'' if n_groups == 1 else 's'}"
    return InputError(
        f"There {'is' if n_good == 1 else 'are'} {count}; at least 3 in 2 groups are needed to "
        "learn and calibrate, and 99 for a false-alarm budget of 0.01. Add pictures of good parts."
    )


def _label_notes(parts: PartSet, split: Split, *, few: bool) -> list[str]:
    """Return what spoils learning from labels, or a test of it; raise where nothing is learned.

    `few` defective parts are nothing to remark on.
    """
    learn = [part for part in split.learn if part.split != "val"]
    # Cross-fitted parts calibrate by fits that have not seen them.
    apart = [] if split.method == "cross-fitted" else split.calibrate
    held_out = [*apart, *(part for part in split.learn if part.split == "val")]
    if any(part.split == "test" for part in parts):
        return check_labelled(learn, held_out, parts.test(), few=few)
    return [
        *check_labelled(learn, held_out, few=few),
        "No parts are kept for a test: those that were learned from flatter. 'makellos data split' "
        "divides a set, by group where parts have groups.",
    ]
