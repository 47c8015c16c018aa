"""Folds: parts held out to judge a detector by, with damage planted in the good ones.

No defective part need be known; labelled ones judge as well, where there are some. Test parts are
never touched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from makellos.data.parts import Part, PartSet, group_names
from makellos.data.planting import KINDS, Damage
from makellos.data.splits import aside
from makellos.detectors import Detector
from makellos.errors import InputError

__all__ = ["ASIDE", "Bench", "Fold", "lay_out", "learns_labels"]

ASIDE = 0.2  # share of the groups that is held out where the data name no parts for it
_FEW = 40  # good parts, below which each is held out in turn
_N_FOLDS = 3
_MOST_GOOD = 100  # held-out good parts that are judged by
_MOST_PLANTED = 40  # of them, in which damage is planted
_PER_KIND, _MOST_EACH = 24, 8  # damaged pictures of a kind at least; in one part at most
_MOST_PIXELS = 1e9  # of planted pictures together, for each is planted when it is read
_MOST_DEFECTIVE = 100
_SHARED = 10  # labelled defects, from which on some of them may be learned from

Divided = list[tuple[list[Part], list[Part]]]


def learns_labels(detector: Detector | type[Detector]) -> bool:
    """Tell whether a detector learns from labelled defects where there are some."""
    return detector.learns != "good"


@dataclass(frozen=True)
class Fold:
    """Hold parts to learn from, and what is judged by a detector that learned from them.

    `labelled` are defective parts that a detector which takes labels learns from.
    """

    learn: list[Part]
    labelled: list[Part]
    good: list[Part]
    planted: list[Part]
    defective: list[Part]

    def first(self, n_learn: int, n_good: int | None = None) -> Fold:
        """Return a smaller fold: with fewer parts to learn from and to judge by."""
        kept = {part.name for part in self.good[:n_good]}
        return replace(
            self,
            learn=self.learn[:n_learn],
            good=self.good[:n_good],
            planted=[part for part in self.planted if part.group in kept],
        )

    def learned_by(self, detector: Detector) -> list[Part]:
        """Return the parts that a detector learns from here."""
        return [*self.learn, *(self.labelled if learns_labels(detector) else [])]

    @property
    def n_pictures(self) -> int:
        """Return how many pictures a judgement reads."""
        return sum(map(len, (self.learn, self.good, self.planted, self.defective)))


@dataclass(frozen=True)
class Bench:
    """Hold the folds that detectors are judged on, and a phrase about them."""

    folds: list[Fold]
    described: str

    @property
    def has_labels(self) -> bool:
        """Tell whether a detector that needs labels can learn here."""
        return all(fold.labelled for fold in self.folds)


def lay_out(parts: PartSet, seed: int, *, shares_labels: bool = False) -> Bench:
    """Hold good parts out and plant damage in them.

    Held out are the good ones of split val, else a fifth of the groups; below 40 good parts each
    third in turn. Labelled defects judge, or half of them where `shares_labels` says that some
    detector learns from the other half. Raises `InputError` where there are too few good parts.
    """
    divided = _divided(parts, seed)
    known = [part for part in parts if not part.is_good and part.split != "test"]
    defective = _defects(_shuffled(known, seed, 12)[:_MOST_DEFECTIVE], divided, shares_labels)
    n_most = math.ceil(_MOST_GOOD / len(divided))
    judging = [_shuffled(apart, seed, 10)[:n_most] for _, apart in divided]
    n_good = sum(map(len, judging))
    n_each = max(1, min(math.ceil(_PER_KIND / n_good), _MOST_EACH))
    n_in = math.ceil(_MOST_PLANTED / len(divided))
    folds = [
        Fold(
            _shuffled(learn, seed, 11),
            labelled,
            good,
            _planted(good[:n_in], n_each, seed),
            judges,
        )
        for (learn, _), good, (labelled, judges) in zip(divided, judging, defective, strict=True)
    ]
    n_planted = sum(len(fold.planted) for fold in folds)
    n_defective = sum(len(fold.defective) for fold in folds)
    labelled = f", and {n_defective} labelled defective parts" if n_defective else ""
    return Bench(
        folds,
        f"{n_good} held-out good parts, {n_planted} pictures of them with planted damage of "
        f"{len(KINDS)} kinds{labelled}",
    )


def _divided(parts: PartSet, seed: int) -> Divided:
    """Return good parts to learn from and those held out, for each fold."""
    good, held = list(parts.good()), list(parts.calibration())
    names = group_names(good)
    groups = sorted(set(names))
    if len(good) < 2 or (not held and (len(good) < 3 or len(groups) < 2)):
        raise InputError(
            f"{parts.root} has {len(good)} good parts to learn from, in {len(groups)} groups; a "
            "search needs at least 3 in 2 groups, preferably 100. Add pictures of good parts to "
            "train/good."
        )
    if held:
        return [(good, held)]
    if len(good) >= _FEW:
        return [aside(good, ASIDE, seed=seed)]
    drawn = np.random.default_rng([seed, 13]).permutation(groups)
    fold_of = {str(group): i % _N_FOLDS for i, group in enumerate(drawn)}
    turns = [fold_of[name] for name in names]
    divided = []
    for fold in range(max(turns) + 1):
        learn, apart = (
            [part for part, turn in zip(good, turns, strict=True) if (turn == fold) is is_out]
            for is_out in (False, True)
        )
        if len(learn) > 1:
            divided.append((learn, apart))
    return divided


def _defects(defective: Sequence[Part], divided: Divided, shares_labels: bool) -> Divided:
    """Return the defective parts to learn from and those that judge, for each fold."""
    is_only = len(divided) == 1
    n_turns = 2 if is_only and shares_labels and len(defective) >= _SHARED else len(divided)
    _, turns = np.unique(group_names(defective), return_inverse=True)
    found = []
    for fold, (_, apart) in enumerate(divided):
        held = {part.group for part in apart} - {None}
        labelled, judges = [], []
        for part, turn in zip(defective, turns, strict=True):
            # With one fold the data may name parts to judge by: split val. No fold learns from it.
            if turn % n_turns == fold or (is_only and part.split == "val"):
                judges.append(part)
            elif part.split != "val" and part.group not in held:
                labelled.append(part)
        found.append((labelled, judges))
    return found


def _shuffled(parts: Sequence[Part], seed: int, stream: int) -> list[Part]:
    order = np.random.default_rng([seed, stream]).permutation(len(parts))
    return [parts[i] for i in order]


def _planted(parts: Sequence[Part], n_each: int, seed: int) -> list[Part]:
    """Return `n_each` parts with damage of each kind per part; its name is their group."""
    planted: list[Part] = []
    n_pixels = 0
    for i, part in enumerate(parts):
        height, width = part.read().shape[:2]
        n_pixels += height * width * n_each * len(KINDS)
        if i and n_pixels > _MOST_PIXELS:
            break
        for k, kind in enumerate(KINDS):
            for n in range(n_each):
                damaged = part.changed(Damage(kind, (seed, 3, i, k, n)))
                name = f"{part.name} with {kind} {n + 1}"
                planted.append(replace(damaged, name=name, label=kind, group=part.name))
    return planted
