"""Which parts a fit learns from, and which calibrate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from makellos.calibration import parts_needed
from makellos.data.parts import Part, group_names
from makellos.data.shapes import Shapes
from makellos.data.splits import aside
from makellos.detectors import Detector
from makellos.errors import InputError
from makellos.vibration.signal_record import SignalRecord
from makellos.vibration.signals import SignalSettings

__all__ = ["Method", "Partition", "PartitionRequest", "split_parts"]

Method = Literal["held out", "cross-fitted", "split val", "new good parts"]

_PLENTY = 5  # times the parts that the budget needs at least


@dataclass(frozen=True)
class PartitionRequest:
    """Hold what decides which parts are learned from; `signal` is for recordings.

    With `finds_groups` good pictures are grouped by what is found of their structure. `workers`
    parts are worked on at once, None: as many as suit the machine.
    """

    detector: Detector
    false_alarms: float
    seed: int
    skip_unreadable: bool = False
    signal: SignalSettings | None = None
    finds_groups: bool = False
    workers: int | None = None


@dataclass(frozen=True)
class Partition:
    """Hold which parts are learned from, which good ones calibrate, and how.

    `used` are the files they come from, `skipped` the names of those that cannot be used. `signal`
    says how recordings are seen, and `members` are what a model keeps of them, by name. Groups are
    kept by number where `numbers_groups`, for each window has a name that says nothing. `shapes`
    say what the pictures are like, `grouping` what named the groups of parts, `workers` how many
    parts are worked on at once, None: as many as suit the machine.
    """

    learn: list[Part]
    calibrate: list[Part]
    method: Method
    used: list[Part] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    signal: SignalRecord | None = None
    members: Mapping[str, bytes] = field(default_factory=dict)
    numbers_groups: bool = False
    shapes: Shapes | None = None
    grouping: str = ""
    workers: int | None = None


def split_parts(
    learnable: list[Part],
    calibration: list[Part],
    detector: Detector,
    false_alarms: float,
    seed: int,
) -> Partition:
    """Return which parts are learned from and which calibrate.

    Those given for calibration do so, but for a detector that learns from labels and cross-fits:
    where they are not plenty, it learns from them as well. Else a fifth of the groups is set aside
    where that is plenty, and parts are cross-fitted where it is not: with few calibration parts
    the threshold is that of the one or two oddest good parts, while cross-fitting calibrates on all
    good parts and learns from all of them. A detector that trains would do so once per fold: unless
    it cross-fits on these parts, a fifth of them is set aside, or what the budget needs, up to a
    third. Where labels are needed, defective parts that are set aside validate.
    """
    cross_fits = detector.cross_fits_on(learnable)
    needed = parts_needed(false_alarms)
    joins = detector.learns == "labels" and cross_fits
    if joins and 0 < len(set(group_names(calibration))) < _PLENTY * needed:
        joined = [*learnable, *calibration]
        learnable, calibration = [replace(part, split="train") for part in joined], []
    if calibration:
        return Partition(learnable, calibration, "split val")
    names = group_names(learnable)
    is_good = [part.is_good for part in learnable]
    groups = sorted({name for name, good in zip(names, is_good, strict=True) if good})
    n_good = sum(is_good)
    n_aside = len(groups) // 5
    if not cross_fits:
        n_aside = max(1, n_aside, min(len(groups) // 3, needed))
    too_few = len(groups) < 2 or n_good <= detector.least_parts
    if too_few or n_aside < _PLENTY * needed:
        if too_few:
            raise _too_few(n_good, len(groups), detector.least_parts + 1)
        if cross_fits:
            good = [part for part in learnable if part.is_good]
            defective = [part for part in learnable if not part.is_good]
            return Partition([*good, *defective], good, "cross-fitted")
    if detector.learns == "labels":
        return _split_labelled(learnable, n_aside, seed)
    chosen = set(np.random.default_rng([seed, 1]).permutation(groups)[:n_aside])
    known = list(zip(learnable, names, strict=True))
    return Partition(
        [part for part, name in known if name not in chosen],
        [part for part, name in known if name in chosen and part.is_good],
        "held out",
    )


def _split_labelled(learnable: list[Part], n_aside: int, seed: int) -> Partition:
    """Hold good parts out to calibrate, and defective ones to validate; no label goes missing."""
    learn, apart = aside(learnable, 1 / 5, seed=seed, at_least_good=n_aside)
    validate = [replace(part, split="val") for part in apart if not part.is_good]
    return Partition([*learn, *validate], [part for part in apart if part.is_good], "held out")


def _too_few(n_good: int, n_groups: int, least: int) -> InputError:
    count = f"{n_good} good part{'' if n_good == 1 else 's'}"
    if n_groups != n_good:
        count += f" in {n_groups} group{'' if n_groups == 1 else 's'}"
    return InputError(
        f"There {'is' if n_good == 1 else 'are'} {count}; at least {least} in 2 groups are needed "
        "to learn and calibrate, and 99 for a false-alarm budget of 0.01. Add pictures of good "
        "parts."
    )
