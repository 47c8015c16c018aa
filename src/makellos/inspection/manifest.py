"""The manifest of a model file: everything a verdict needs beside the graph, as checked data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from makellos.calibration import Calibration, Verdict, ZonedCalibration, calibrate_zones
from makellos.data.limits import Count, Name, Names, Numbers, Text, Values, Whole
from makellos.data.pictures import MAX_PIXELS
from makellos.data.shapes import Shape, Shapes
from makellos.inspection.acceptance import Acceptance
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.background import Background
from makellos.inspection.engines import EngineChoice
from makellos.inspection.good_state import GoodState
from makellos.inspection.preprocessing import Preprocessing, Vectors
from makellos.inspection.tiling import Tiling
from makellos.inspection.zones import MOST_ZONES, ZonesRecord

if TYPE_CHECKING:
    from makellos.vibration.signal_record import SignalRecord
else:
    SignalRecord = Any  # `Manifest` validates it, and loads that room for a model of recordings

__all__ = ["FORMAT_VERSION", "Manifest"]

FORMAT_VERSION = 1
Side = Annotated[int, Field(ge=1, le=MAX_PIXELS)]
_STORED = 100  # pictures, whose names have two digits
_SOME = 10_000
_Figures = Annotated[dict[Name, float], Field(max_length=_STORED)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DetectorRecord(_Record):
    """Name the detector and the parameters it was fitted with."""

    name: Name
    parameters: Values
    runtime: Literal["graph", "torch", "pyod"] = "graph"


class EngineRecord(_Record):
    """Name the engine whose scores the calibration holds.

    An `exact` model computes in f32 alone; None where a file is older than this is recorded.
    """

    runtime: Name
    precision: Name
    exact: bool | None = None

    def choice(self) -> EngineChoice:
        """Return the record as an engine's name."""
        return EngineChoice(self.runtime, self.precision)


class ZoneScoresRecord(_Record):
    """Hold the scores and map maxima of good calibration parts in one zone, and its budget."""

    share: float = Field(gt=0, le=1)
    scores: Numbers = Field(min_length=1)
    map_maxima: Numbers = Field(min_length=1)


class ClassScoresRecord(_Record):
    """Hold the probabilities of a kind of damage on good calibration parts, and its budget.

    `share` is that of the model's budget; None where kinds have no budgets of their own.
    """

    share: float | None = Field(default=None, gt=0, le=1)
    scores: Numbers = Field(min_length=1)


class CalibrationRecord(_Record):
    """Hold the scores of good calibration parts, and how they came to be.

    With `zones` each has its own; those of parts, the highest in units of the zones' thresholds,
    follow from them, and `tolerance` is in these units. So it is with the kinds of damage of a
    classifier, `classes`, where they have budgets of their own. `beside_maxima` are the highest
    values of the map beside the parts, where a background is known. `look_again` and `weights` are
    those of `Calibration`.

    Of a lot of which `n_first` parts are known, they are those parts and the parts of earlier lots
    at its level and spread, in ascending order. `earlier` is what the model promised before, of a
    lot to come, from which the calibration of the next lot follows.
    """

    scores: Numbers = Field(min_length=1)
    map_maxima: Numbers | None = None
    beside_maxima: Numbers | None = None
    groups: Names | None = None
    weights: Numbers | None = None
    asked: float = Field(gt=0, le=0.5)
    look_again: float | None = Field(default=None, ge=0, le=0.5)
    tolerance: float = Field(default=0.0, ge=0)
    zones: list[ZoneScoresRecord] = Field(default=[], max_length=MOST_ZONES, fail_fast=True)
    classes: list[ClassScoresRecord] = Field(default=[], max_length=MOST_ZONES, fail_fast=True)
    method: Literal[
        "held out",
        "cross-fitted",
        "split val",
        "new good parts",
        "new and earlier good parts",
        "first parts of a lot",
    ]
    lot: Name = ""
    n_first: Count = 0
    earlier: CalibrationRecord | None = None

    @model_validator(mode="after")
    def _one_entry_per_part(self) -> Self:
        lists = ("map_maxima", "beside_maxima", "groups", "weights")
        for name, values in ((name, getattr(self, name)) for name in lists):
            if values is not None and len(values) != len(self.scores):
                raise ValueError(f"{len(self.scores)} scores have {len(values)} {name}")
        if any(
            not len(zone.scores) == len(zone.map_maxima) == len(self.scores) for zone in self.zones
        ):
            raise ValueError(f"a zone does not have the scores of {len(self.scores)} parts")
        if any(len(kind.scores) != len(self.scores) for kind in self.classes):
            raise ValueError(f"a class does not have the scores of {len(self.scores)} parts")
        if self.by_class and (self.zones or any(kind.share is None for kind in self.classes)):
            raise ValueError("only some classes have a budget, or zones have one as well")
        if self.weights is not None and not all(0 < weight <= 1 for weight in self.weights):
            raise ValueError("a weight is not above 0 and up to 1")
        if (self.earlier is None) != (self.n_first == 0):
            raise ValueError("a lot has no earlier lots, or these no lot")
        if self.earlier is not None and self.earlier.earlier is not None:
            raise ValueError("the calibration before that of a lot is one of a lot itself")
        return self

    @property
    def n_lots(self) -> int:
        """Return how many earlier lots count for a lot of which the first parts are known."""
        return (len(self.scores) + 1) // (self.n_first + 1) - 1 if self.n_first else 0

    @property
    def by_class(self) -> bool:
        """Tell whether a classifier's kinds of damage have budgets of their own."""
        return any(kind.share is not None for kind in self.classes)

    def calibration(self) -> Calibration:
        """Return the calibration of scores."""
        return self.zoned() or self._of(self.scores)

    def map_calibration(self) -> Calibration | None:
        """Return the calibration of per-part map maxima; None where there are no maps."""
        if self.zones:
            return self._zoned([zone.map_maxima for zone in self.zones])
        return None if self.map_maxima is None else self._of(self.map_maxima)

    def beside_calibration(self) -> Calibration | None:
        """Return the calibration of what lies beside parts; None where no background is known."""
        return None if self.beside_maxima is None else self._of(self.beside_maxima)

    def zoned(self) -> ZonedCalibration | None:
        """Return the calibration of the scores of zones or classes; None without their budgets."""
        rows = [each.scores for each in (self.classes if self.by_class else self.zones)]
        return self._zoned(rows) if rows else None

    def scales(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the zones' thresholds of scores and of map maxima, in which they are counted."""
        maxima = self._zoned([zone.map_maxima for zone in self.zones])
        return self.score_scales(), maxima.scales

    def score_scales(self) -> tuple[float, ...]:
        """Return the thresholds of zones or classes, in units of which parts are scored, or ()."""
        zoned = self.zoned()
        return () if zoned is None else zoned.scales

    def _zoned(self, rows: list[list[float]]) -> ZonedCalibration:
        of = self.classes if self.by_class else self.zones
        budgets = [(each.share or 0.0) * self.asked for each in of]
        return calibrate_zones(
            rows,
            budgets,
            self.groups,
            self.tolerance,
            look_again=self.look_again,
            weights=self.weights,
        )

    def _of(self, values: list[float]) -> Calibration:
        return Calibration(
            np.array(values),
            self.asked,
            self.groups,
            self.tolerance,
            self.look_again,
            None if self.weights is None else np.array(self.weights),
        )


class TrialRecord(_Record):
    """Say how `auto` judged a detector with `parameters` beside its defaults.

    `misses` is the share of damaged parts that it missed, `auroc` says how well they rank above
    good ones, `missed_by_kind` and `by_kind` the same of each kind of damage; None and empty where
    it was not judged, for a `reason`, and misses where a model is older.
    """

    detector: Name
    parameters: Values = {}
    result: Literal["chosen", "judged", "dropped", "failed", "left out"]
    reason: Text = ""
    n_learned: Count = 0
    misses: float | None = None
    auroc: float | None = None
    by_kind: dict[Name, float] = Field(default={}, max_length=_SOME)
    missed_by_kind: dict[Name, float] = Field(default={}, max_length=_SOME)
    seconds: float = 0.0


class AutoRecord(_Record):
    """Say what `auto` tried, how it judged and why it chose, the best trial first."""

    judged: Text
    reason: Text
    trials: list[TrialRecord] = Field(max_length=_SOME, fail_fast=True)
    time_budget: float
    seconds: float


_SLACK = 1.02  # between sizes that are told apart


class PicturesRecord(_Record):
    """Say what the pictures were like that a model was learned from: sides in pixels, and modes.

    A side is the least and the greatest. A mode is colour and depth in words.
    """

    heights: tuple[Side, Side]
    widths: tuple[Side, Side]
    modes: Annotated[list[Annotated[str, Field(max_length=40)]], Field(min_length=1, max_length=9)]

    @classmethod
    def of(cls, shapes: Shapes) -> PicturesRecord:
        """Return the record of the pictures that were seen."""
        heights, widths = shapes.heights, shapes.widths
        return cls(
            heights=(min(heights), max(heights)),
            widths=(min(widths), max(widths)),
            modes=sorted(shapes.modes),
        )

    def oddities(self, shape: Shape) -> list[str]:
        """Return what a verdict on a picture suffers from that is not like those."""
        sides = [(shape.width, self.widths), (shape.height, self.heights)]
        found, learned = [], []
        if any(not low / _SLACK <= side <= high * _SLACK for side, (low, high) in sides):
            found.append(f"{shape.width} x {shape.height} pixels")
            learned.append(" x ".join(f"{a}" if a == b else f"{a} to {b}" for _, (a, b) in sides))
        if shape.mode not in self.modes:
            found.append(shape.mode)
            learned.append(" or ".join(self.modes))
        if not found:
            return []
        return [
            f"The picture is {', '.join(found)}, but the model learned from pictures of "
            f"{', '.join(learned)}, so its verdict may mean nothing. Take pictures the way those "
            "were taken, or fit on pictures like this one."
        ]


class TrainingRecord(_Record):
    """Say what the detector learned from, without holding it.

    `contents` are the beginnings of the SHA-256 sums of its files, one text; `set_aside` those of
    files that the data set aside for calibration. `grouping` says what named the groups of parts,
    `good` which labels meant good.
    """

    data: Name
    layout: Name
    n_good: Count
    n_defective: Count = 0
    n_learned: Count
    fingerprint: Name
    contents: str = Field(default="", pattern="^([0-9a-f]{12})*$")
    set_aside: str = Field(default="", pattern="^([0-9a-f]{12})*$")
    skipped: Names = []
    seed: Whole
    fit_seconds: float
    notes: list[Text] = Field(default=[], max_length=_SOME, fail_fast=True)
    auto: AutoRecord | None = None
    grouping: Text = ""
    good: Names = []
    pictures: PicturesRecord | None = None


class GoldenRecord(_Record):
    """Hold one golden part's file in the model and the score and verdict it had at release.

    `zone_scores` are the detector's own in each zone, None in one that the part does not show; of
    a classifier, the probabilities of each kind of damage.
    """

    file: Name
    score: float
    verdict: Verdict
    zone_scores: list[float | None] = Field(default=[], max_length=MOST_ZONES, fail_fast=True)


class VerificationRecord(_Record):
    """Say when, where and on how many parts `verify` last compared the runtimes of a machine.

    `not_run` says of runtimes why they were left out, `failed` why they cannot compute the model.
    """

    at: Name
    machine: Name
    released: bool
    n_golden: Count
    n_parts: Count = 0
    not_run: dict[Name, Text] = Field(default={}, max_length=_STORED)
    failed: dict[Name, Text] = Field(default={}, max_length=_STORED)
    versions: dict[Name, Name] = Field(default={}, max_length=_SOME)


class MemberRecord(_Record):
    """Hold the SHA-256 and the size in bytes of one member of the model file."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: Count


class Manifest(_Record):
    """Describe a model file of `format_version` 1; `classes` are a classifier's, good first.

    `signal` says how a model of recordings sees them; None in one of pictures. `tiling` says how
    pictures are cut; None where they are seen whole. `zones` and `acceptance` say which places
    decide, and which rules regions are held to. `background` says how oddities beside the part
    count; None where no background is known. `map_name` says what the map shows, "" where there is
    no name for it. `good_state` are limits of the statistics of good parts' pictures. `parity`
    holds figures of each runtime: the largest difference to the scores that the model was released
    with and, once it was verified, how many verdicts flip.
    """

    format: Literal["makellos"] = "makellos"
    format_version: Literal[1] = 1
    created: Name
    detector: DetectorRecord
    preprocessing: Preprocessing | Vectors
    aggregation: Aggregation
    engine: EngineRecord
    calibration: CalibrationRecord
    training: TrainingRecord
    golden: list[GoldenRecord] = Field(max_length=_STORED, fail_fast=True)
    examples: list[Name] = Field(default=[], max_length=_STORED, fail_fast=True)
    classes: list[Name] = Field(default=[], max_length=_SOME, fail_fast=True)
    signal: SignalRecord | None = None
    tiling: Tiling | None = None
    zones: ZonesRecord | None = None
    acceptance: Acceptance | None = None
    background: Background | None = None
    map_name: Name = ""
    good_state: GoodState | None = None
    parity: dict[Name, _Figures] = Field(default={}, max_length=_STORED)
    verification: VerificationRecord | None = None
    versions: dict[Name, Name] = Field(max_length=_SOME)
    members: dict[Name, MemberRecord] = Field(max_length=_SOME)

    @field_validator("signal", mode="plain")
    @classmethod
    def _of_recordings(cls, value: object) -> SignalRecord | None:
        if value is None:
            return None
        from makellos.vibration.signal_record import SignalRecord

        return SignalRecord.model_validate(value)

    def without_verification(self) -> str:
        """Return as JSON what tells a model from others: all but what `verify` keeps in it."""
        return self.model_dump_json(exclude={"parity", "verification"})

    def is_exact(self) -> bool:
        """Tell whether the model computes in f32 alone, by which runtimes it passed at release."""
        if self.engine.exact is not None:
            return self.engine.exact
        passed = [name.endswith("f32") for name in self.parity]
        return bool(passed) and all(passed) and self.engine.precision == "f32"

    def covered(self) -> list[tuple[str, str]]:
        """Return what of a picture is looked at and how, as pairs of name and words."""
        pairs = [] if self.tiling is None else [("tiles", str(self.tiling))]
        if self.zones is not None:
            shares = self.zones.budgets(self.calibration.asked)
            named = zip(self.zones.names, shares, strict=True)
            pairs.append(("zones", ", ".join(f"{name} ({share:.2%})" for name, share in named)))
        if self.calibration.by_class:
            named = zip(self.classes[1:], self.class_budgets(), strict=True)
            pairs.append(("classes", ", ".join(f"{name} ({share:.2%})" for name, share in named)))
        alignment = getattr(self.preprocessing, "alignment", None)
        if alignment is not None:
            pairs.append(("pose", str(alignment)))
        if self.background is not None and self.zones is None:
            pairs.append(("background", str(self.background)))
        if self.acceptance is not None:
            scale, rules = self.acceptance.mm_per_pixel, self.acceptance.rules
            pairs += [] if scale is None else [("scale", f"{scale:g} mm per pixel")]
            pairs += [("rule", f"reject for {rule}") for rule in rules]
            pairs += [("rules decide", self.acceptance.how)] if rules else []
        return pairs

    def class_budgets(self) -> list[float]:
        """Return the budget of each kind of damage; empty where they have none of their own."""
        record = self.calibration
        return [(kind.share or 0.0) * record.asked for kind in record.classes if record.by_class]

    def promise(self) -> str:
        """Say what is promised of which good parts, without a capital letter and a full stop."""
        calibration = self.calibration.calibration()
        budget = f"at most {calibration.false_alarms:.2%} will be rejected"
        if self.signal is not None:
            return f"of the good recordings to come, {budget}"
        if self.calibration.n_first:
            return f"of the good parts of this lot to come, {budget}"
        # Where a few pictures show one part, parts hardly come in groups.
        if 2 * calibration.n_groups <= calibration.scores.size:
            return f"of the good parts of groups to come, on average over groups, {budget}"
        return f"of the good parts to come, {budget}"

    @model_validator(mode="after")
    def _zones_are_calibrated(self) -> Self:
        n_zones = 0 if self.zones is None else len(self.zones.zones)
        if n_zones != len(self.calibration.zones):
            raise ValueError(f"{n_zones} zones have {len(self.calibration.zones)} calibrations")
        n_kinds = len(self.calibration.classes)
        if n_kinds and n_kinds != len(self.classes) - 1:
            raise ValueError(f"{len(self.classes)} classes have {n_kinds} calibrations")
        return self
