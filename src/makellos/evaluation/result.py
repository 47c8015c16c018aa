"""The result of an evaluation: typed for people who program, plain data for all others."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from makellos.evaluation.classes import ClassFigures, OneClass, ReliabilityBin
from makellos.evaluation.intervals import Interval
from makellos.evaluation.localisation import LocalisationFigures
from makellos.evaluation.promise import PromiseCheck
from makellos.evaluation.rates import DefectFigures

__all__ = ["Evaluation", "LocalisationByDefect", "SizeGroup", "UnreadablePart"]

_OF_CLASSES = frozenset(field.name for field in fields(ClassFigures))


@dataclass(frozen=True)
class SizeGroup:
    """Hold what was missed among parts with damage of `low` to `high` pixels.

    `percent` is the same range in percent of the picture.
    """

    name: str
    low: int
    high: int
    n: int
    n_missed: int
    n_look_again: int
    percent: tuple[float, float]


@dataclass(frozen=True)
class LocalisationByDefect(LocalisationFigures):
    """Hold how maps lie on the masks of damage, over all rejected parts and by kind of defect."""

    by_defect: dict[str, LocalisationFigures]


@dataclass(frozen=True)
class UnreadablePart:
    """Name a part that could not be read, and why."""

    input: str
    error: str | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation(dict[str, Any]):
    """Hold the figures of a model on labelled parts; metrics and rates are in [0, 1].

    It is a dict as well, of the plain data that ``makellos evaluate --json`` writes, which has the
    same names: ``result["image_auroc"]`` is ``result.image_auroc``, and ``json.dumps(result)`` the
    same JSON.

    Metrics are None if there are no parts or masks to define them. The rates are those at the
    calibrated threshold, and count only `reject`; `optimistic_accuracy` is what the best threshold
    on these very parts would reach. `by_defect` has an entry for each kind, `intervals` the 95 %
    interval of each metric by its name. `promise` says whether the good parts, groups or recordings
    that were rejected agree with `false_alarms`. `recordings`, by name, is None for pictures. The
    figures from `classes` to `f1` are those of `ClassFigures`, and None for a detector without
    classes: the dict then lacks them. `unreadable` parts count nowhere else.
    """

    detector: str
    n_good: int
    n_defective: int
    image_auroc: float | None
    image_ap: float | None
    f1_max: float | None
    pixel_auroc: float | None
    pixel_ap: float | None
    aupro: float | None
    aupro_5: float | None
    pixel_f1_max: float | None
    seg_f1: float | None
    map_threshold: float | None
    threshold: float
    look_again_threshold: float | None
    false_alarm_rate: float | None
    miss_rate: float | None
    accuracy: float | None
    optimistic_accuracy: float | None
    look_again_rate: float | None
    n_look_again_good: int
    n_look_again_defective: int
    by_defect: dict[str, DefectFigures]
    by_size: list[SizeGroup]
    localisation: LocalisationByDefect | None
    intervals: dict[str, Interval | None]
    false_alarms: float
    false_alarms_asked: float
    promise: PromiseCheck | None = None
    fit_seconds: float
    inspect_ms_per_part: float
    classes: list[str] | None = None
    accuracy_of_classes: float | None = None
    balanced_accuracy_of_classes: float | None = None
    macro_f1: float | None = None
    per_class: dict[str, OneClass] | None = None
    confusion_matrix: list[list[int]] | None = None
    matrix_rows: list[str] | None = None
    unknown: dict[str, int] | None = None
    ece: float | None = None
    ece_by_chance: float | None = None
    reliability: list[ReliabilityBin] | None = None
    balanced_accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    unreadable: list[UnreadablePart]
    recordings: dict[str, dict[str, Any]] | None = None
    notes: list[str]

    def __post_init__(self) -> None:
        left_out = set() if self.classes is not None else set(_OF_CLASSES)
        if self.recordings is None:
            left_out.add("recordings")
        self.update((name, each) for name, each in asdict(self).items() if name not in left_out)
