"""Calibrating a model anew: by new parts, by a lot's first ones, by earlier ones of less weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from makellos.calibration import lots_larger_than, scores_in_lot
from makellos.data.parts import Part
from makellos.errors import ConfigurationError, InputError, MissingRuntimeError
from makellos.inspection.manifest import (
    CalibrationRecord,
    ClassScoresRecord,
    GoldenRecord,
    Manifest,
)
from makellos.inspection.model_file import ModelFile
from makellos.inspection.opening import recipe_of
from makellos.inspection.zones import Zones
from makellos.models.coverage import check_enough, class_shares
from makellos.models.parity import Parity
from makellos.models.partition import Partition
from makellos.models.release import Release, groups_of
from makellos.models.verification import score_golden

__all__ = [
    "by_new_parts",
    "first_of_lot",
    "in_lot",
    "judged_again",
    "settled",
    "settled_anew",
    "shares_of",
    "sharing",
    "with_class_budgets",
    "with_earlier",
]

_FEW_OF_LOT = 5  # parts that say little of a lot's level and spread


def by_new_parts(
    record: CalibrationRecord, released: Release, partition: Partition
) -> CalibrationRecord:
    """Return the record of a calibration by new parts alone."""
    return record.model_copy(
        update={
            "zones": released.zones,
            "classes": released.classes,
            "scores": released.calibration.scores.tolist(),
            "map_maxima": released.map_maxima,
            "beside_maxima": released.beside_maxima,
            "groups": groups_of(partition.calibrate, neutral=partition.numbers_groups),
            "tolerance": released.calibration.tolerance,
            "weights": None,
            "method": "new good parts",
            "lot": "",
            "n_first": 0,
            "earlier": None,
        }
    )


def with_earlier(
    new: CalibrationRecord, earlier: CalibrationRecord, weight: float
) -> CalibrationRecord:
    """Return the calibration by new parts and by earlier ones, which count as `weight` parts each.

    So do those that had a weight before: theirs falls with every calibration.
    """

    def joined(name: str) -> list[float] | None:
        old, own = getattr(earlier, name), getattr(new, name)
        return None if old is None or own is None else [*old, *own]

    n_old, n_new = len(earlier.scores), len(new.scores)
    weights = [weight * each for each in earlier.weights or [1.0] * n_old] + [1.0] * n_new
    groups = None
    if earlier.groups or new.groups:
        # Names of both may be plain numbers that have nothing to do with each other.
        old_names = earlier.groups or [str(i) for i in range(n_old)]
        numbers = {name: f"earlier {i}" for i, name in enumerate(dict.fromkeys(old_names))}
        own_names = new.groups or [f"new {i}" for i in range(n_new)]
        groups = [*(numbers[name] for name in old_names), *own_names]
    zones = [
        own.model_copy(
            update={
                "scores": [*old.scores, *own.scores],
                "map_maxima": [*old.map_maxima, *own.map_maxima],
            }
        )
        for old, own in zip(earlier.zones, new.zones, strict=True)
    ]
    classes = [
        own.model_copy(update={"scores": [*old.scores, *own.scores]})
        for old, own in _both(earlier, new)
    ]
    return new.model_copy(
        update={
            "zones": zones,
            "classes": classes,
            "scores": [*earlier.scores, *new.scores],
            "map_maxima": joined("map_maxima"),
            "beside_maxima": joined("beside_maxima"),
            "groups": groups,
            "weights": weights,
            "method": "new and earlier good parts",
        }
    )


def with_class_budgets(
    record: CalibrationRecord,
    budgets: Mapping[str, float],
    manifest: Manifest,
    *,
    has_data: bool,
) -> CalibrationRecord:
    """Return a calibration with budgets of a classifier's kinds of damage, all of one sum.

    Where parts calibrate it anew, it may lack what they bring. Raises `ConfigurationError` as
    `class_shares` and `sharing` do.
    """
    if manifest.signal is not None:
        raise ConfigurationError("--class-budget is for pictures; this model is of recordings.")
    whole, shares = class_shares(budgets, manifest.classes, record.asked)
    record = record.model_copy(update={"asked": whole})
    if has_data and not record.classes:
        kinds = [ClassScoresRecord(scores=[0.0] * len(record.scores)) for _ in shares]
        record = record.model_copy(update={"classes": kinds})
    return sharing(record, shares)


def _both(
    before: CalibrationRecord, new: CalibrationRecord
) -> list[tuple[ClassScoresRecord, ClassScoresRecord]]:
    """Return the probabilities of each kind of damage before and now; none that are not known.

    Raises `ConfigurationError` where kinds have budgets now, and earlier parts no probabilities.
    """
    if new.by_class and not before.classes:
        raise ConfigurationError(
            "The model does not hold its earlier parts' probabilities of each class, without which "
            "they cannot count towards budgets per class. Give new good parts of several lots or "
            "of none, and leave --earlier-weight out."
        )
    return list(zip(before.classes, new.classes, strict=True)) if before.classes else []


def shares_of(record: CalibrationRecord) -> list[float]:
    """Return the share of the budget that each kind of damage has; empty where they have none."""
    return [kind.share for kind in record.classes if kind.share is not None]


def sharing(record: CalibrationRecord, shares: Sequence[float]) -> CalibrationRecord:
    """Return a calibration whose kinds of damage have shares of its budget, if any are given.

    Raises `ConfigurationError` where it does not hold probabilities of each kind.
    """
    if not shares:
        return record
    if len(record.classes) != len(shares):
        raise ConfigurationError(
            "The model does not hold its calibration parts' probabilities of each class. Give new "
            "good parts as well: makellos calibrate MODEL DATA --class-budget NAME=SHARE."
        )
    check_enough(len(shares), "classes", record.calibration().n_groups)
    pairs = zip(record.classes, shares, strict=True)
    update: dict[str, Any] = {
        "classes": [kind.model_copy(update={"share": share}) for kind, share in pairs],
    }
    if not record.by_class:
        update["tolerance"] = 0.0  # that of other units
    return record.model_copy(update=update)


def first_of_lot(
    parts: Sequence[Part], groups: Sequence[str] | None, before: CalibrationRecord
) -> tuple[list[int], list[str]]:
    """Return which parts are the first of a lot, one of each set of copies, and what to say of it.

    None where the parts are of several groups, or fewer than two earlier lots hold more parts.
    """
    if len({part.group for part in parts}) > 1:
        return [], []
    copies = groups if parts[0].group is None else None
    one_of: dict[object, int] = {}
    for i, name in enumerate(copies or range(len(parts))):
        one_of.setdefault(name, i)
    first = list(one_of.values())
    n, sizes = len(first), sorted(Counter(before.groups or ()).values())
    if n > 1 and lots_larger_than(n, before.groups) > 1:
        return first, []
    if n < _FEW_OF_LOT or len(sizes) < 2 or sizes[-2] <= _FEW_OF_LOT:
        return [], []
    return [], [
        f"These {n} parts calibrate by themselves: no two lots that the model knows hold more. "
        f"With {sizes[-2] - 1} of them, those lots count as well."
    ]


def in_lot(
    measured: CalibrationRecord, first: Sequence[int], before: CalibrationRecord
) -> CalibrationRecord:
    """Return the calibration of a lot from its first parts and from what lots have in common."""

    def moved(old: Sequence[float], new: Sequence[float]) -> list[float]:
        found = scores_in_lot(old, before.groups or [], [new[i] for i in first])
        return [float(score) for score in found]

    zones = [
        new.model_copy(
            update={
                "scores": moved(old.scores, new.scores),
                "map_maxima": moved(old.map_maxima, new.map_maxima),
            }
        )
        for old, new in zip(before.zones, measured.zones, strict=True)
    ]
    classes = [
        new.model_copy(update={"scores": moved(old.scores, new.scores)})
        for old, new in _both(before, measured)
    ]
    maxima = None
    if before.map_maxima is not None and measured.map_maxima is not None:
        maxima = moved(before.map_maxima, measured.map_maxima)
    beside = None
    if before.beside_maxima is not None and measured.beside_maxima is not None:
        beside = moved(before.beside_maxima, measured.beside_maxima)
    return measured.model_copy(
        update={
            "zones": zones,
            "classes": classes,
            "scores": moved(before.scores, measured.scores),
            "map_maxima": maxima,
            "beside_maxima": beside,
            "groups": None,
            "method": "first parts of a lot",
            "n_first": len(first),
            "earlier": before,
        }
    )


def judged_again(part: GoldenRecord, record: CalibrationRecord) -> GoldenRecord:
    """Return a golden part with its verdict, and its score in new units of zones or classes."""
    score = part.score
    if scales := record.score_scales():
        score = Zones.score(part.zone_scores, scales)
    verdict = record.calibration().verdict(score)
    return part.model_copy(update={"score": score, "verdict": verdict})


def settled(record: CalibrationRecord, parity: Parity, released: Release) -> CalibrationRecord:
    """Return a calibration with the tolerance by which engines agree about its golden parts.

    Of zones and classes it is that of the release, which was settled in their units. Raises
    `InputError` where none is small enough.
    """
    if record.score_scales():
        return record
    plain = record.model_copy(update={"tolerance": 0.0})
    return _tolerant(plain, parity.settle(released.choice, plain.calibration().threshold))


def settled_anew(model: ModelFile, manifest: Manifest) -> CalibrationRecord:
    """Return the calibration of a manifest, by whose verdicts the engines of this machine agree.

    They compute the golden parts of the model, whose threshold may have moved. Raises `InputError`
    where they differ by more than what raising the threshold could bridge.
    """
    record = manifest.calibration
    if record.zones or not manifest.golden:
        return record
    released = manifest.engine.choice()
    try:
        with recipe_of(model) as recipe:
            anew = replace(recipe, class_scales=record.score_scales())
            found = {choice: score_golden(model, anew, choice) for choice in recipe.engines()}
    except MissingRuntimeError:
        return record  # nothing on this machine can compute it
    stored = [judged_again(part, record).score for part in manifest.golden]
    more = Parity({**found, released: stored}).settle(released, record.calibration().threshold)
    return _tolerant(record, more)


def _tolerant(record: CalibrationRecord, more: float | None) -> CalibrationRecord:
    if more is None:
        raise InputError(
            "The runtimes of this machine disagree about golden parts at this budget, so that a "
            "verdict would depend on the runtime. Give new good parts to calibrate with, or take "
            "another budget."
        )
    return record.model_copy(update={"tolerance": record.tolerance + more})
