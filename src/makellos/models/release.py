"""Release: which engine and precision a model is calibrated with, and its golden parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat

import numpy as np

from makellos.calibration import Calibration, calibrate_zones
from makellos.data.parts import Part, group_names
from makellos.data.pictures import Picture
from makellos.data.progress import Progress
from makellos.data.tiles import cut_tile
from makellos.errors import InputError, ModelFileError
from makellos.inspection.engines import EngineChoice
from makellos.inspection.manifest import ClassScoresRecord, GoldenRecord, ZoneScoresRecord
from makellos.inspection.recipe import Recipe
from makellos.inspection.scorer import Scored
from makellos.inspection.tiling import STRIDE
from makellos.inspection.zones import MOST_ZONES, ZonedMap, Zones
from makellos.models.parity import Parity, choose_golden, compare_engines
from makellos.models.partition import Partition
from makellos.models.scoring import score_parts
from makellos.models.writing import golden_names

__all__ = ["Folds", "Release", "groups_of", "plain", "release"]

Folds = Sequence[tuple[Recipe, list[int]]]
_N_JUDGED = 4  # calibration parts near the threshold that engines must agree about


@dataclass(frozen=True)
class Release:
    """The engine that a model is released with, and what was measured with it.

    `zones` are the scores of each zone, `classes` of each kind of damage that a classifier knows,
    `golden_zones` those of golden parts by name.
    """

    choice: EngineChoice
    calibration: Calibration
    map_maxima: list[float] | None
    parity: Parity
    golden: dict[str, Picture]
    zones: list[ZoneScoresRecord] = field(default_factory=list)
    golden_zones: dict[str, list[float | None]] = field(default_factory=dict)
    beside_maxima: list[float] | None = None
    classes: list[ClassScoresRecord] = field(default_factory=list)

    def golden_records(self) -> list[GoldenRecord]:
        """Return the golden parts with the scores and verdicts that they are released with."""
        scores = self.parity.scores[self.choice]
        return [
            GoldenRecord(
                file=name,
                score=score,
                verdict=self.calibration.verdict(score),
                zone_scores=self.golden_zones.get(name, []),
            )
            for name, score in zip(self.golden, scores, strict=True)
        ]

    def parity_figures(self) -> dict[str, dict[str, float]]:
        """Return for each engine how far its scores are from those of the release."""
        reference = np.array(self.parity.scores[self.choice])
        return {
            str(engine): {"max_score_difference": float(np.abs(np.array(found) - reference).max())}
            for engine, found in self.parity.scores.items()
        }


@dataclass(frozen=True)
class _Brief:
    """What calibration keeps of a part's map: where it is highest, in shares of height and width.

    `zones` is what zones say of it, in the detector's own unit, without the map, and `kinds` are
    the probabilities of kinds of damage.
    """

    score: float
    maximum: float | None
    peak: tuple[float, float]
    zones: ZonedMap | None
    beside: float | None = None
    kinds: tuple[float, ...] = ()

    @classmethod
    def of(cls, scored: Scored) -> _Brief:
        found, shares = scored.anomaly_map, scored.probabilities
        kinds = () if shares is None else tuple(shares[1:].tolist())
        if found is None:
            return cls(scored.score, None, (0.5, 0.5), scored.zones, kinds=kinds)
        height, width = found.shape
        row, column = divmod(int(found.argmax()), width)
        peak = (row + 0.5) / height, (column + 0.5) / width
        beside = None if scored.beside is None else float(scored.beside.max())
        zones = scored.zones
        if zones is not None:
            zones = zones._replace(anomaly_map=np.empty((0, 0), np.float32))
        return cls(scored.score, float(found.max()), peak, zones, beside, kinds)


@dataclass(frozen=True)
class _Shown:
    """A part as it is kept in a model; of one that is cut a tile, which lies in one `zone`."""

    picture: Picture
    zone: int = 0


def release(
    recipe: Recipe,
    folds: Folds,
    partition: Partition,
    false_alarms: float,
    progress: Progress,
    look_again: float | None = None,
    on: EngineChoice | None = None,
    shares: Sequence[float] = (),
) -> Release:
    """Take the fastest engine whose verdicts near the threshold all others share, or that named.

    `false_alarms` and `look_again` are those of `Calibration`; `shares` of the budget are those of
    a classifier's kinds of damage, where each has its own.
    """
    engines, calibrate = recipe.engines(), partition.calibrate
    exact = [engine for engine in engines if engine.precision == "f32"]
    for choice in dict.fromkeys((engines[0], *exact)) if on is None else (on,):
        found = _calibration_scores(recipe, folds, partition, choice, progress)
        groups = groups_of(calibrate)
        classes = _class_records(found, shares)
        zones, calibration, counted = _calibrated(found, classes, recipe, false_alarms, groups)
        chosen = choose_golden(calibration.scores.tolist(), calibration.threshold)
        final = counted(recipe)
        shown = {i: _show(final, calibrate[i], found[i].peak) for i in chosen}
        unseeing = [(counted(fold), inside) for fold, inside in folds]
        judging = {i: shown[i] for i in chosen[:_N_JUDGED]}
        judged = _judge(unseeing or [(final, list(range(len(calibrate))))], judging)
        parity = _compare(final, list(shown.values()))
        # A tile shows places that its zone leaves out, and the final graph may find them near it.
        both = {engine: scores + judged[engine] for engine, scores in parity.scores.items()}
        tolerance = Parity(both).settle(choice, calibration.threshold)
        if tolerance is not None:
            maxima = [each.maximum for each in found if each.maximum is not None]
            beside = [each.beside for each in found if each.beside is not None]
            names = golden_names([each.picture for each in shown.values()])
            golden = dict(zip(names, shown.values(), strict=True))
            return Release(
                choice,
                replace(calibration, tolerance=tolerance, look_again=look_again),
                maxima or None,
                parity,
                {name: each.picture for name, each in golden.items()},
                zones,
                _golden_zones(final, choice, golden) if zones or classes else {},
                beside or None,
                classes,
            )
    raise ModelFileError(
        "The runtimes of this machine disagree about the golden parts even in f32, so the model "
        "was not released. Update openvino and onnxruntime, then fit again."
    )


def _class_records(found: Sequence[_Brief], shares: Sequence[float]) -> list[ClassScoresRecord]:
    """Return the probabilities of each kind of damage on calibration parts; none of too many."""
    rows = list(zip(*(each.kinds for each in found), strict=True))
    if len(rows) > MOST_ZONES:
        return []
    if shares and len(shares) != len(rows):
        raise InputError(
            f"There are budgets for {len(shares)} kinds of defects, but the detector tells "
            f"{len(rows)} apart. Look for files of a kind that cannot be read, and leave it out."
        )
    return [
        ClassScoresRecord(share=share, scores=list(row))
        for row, share in zip(rows, shares or repeat(None, len(rows)), strict=True)
    ]


def _calibrated(
    found: Sequence[_Brief],
    classes: Sequence[ClassScoresRecord],
    recipe: Recipe,
    false_alarms: float,
    groups: list[str] | None,
) -> tuple[list[ZoneScoresRecord], Calibration, Callable[[Recipe], Recipe]]:
    """Return the zones' scores, the calibration, and what counts a recipe's scores in its units."""
    zones = recipe.zones
    shares = [kind.share for kind in classes if kind.share is not None]
    if shares:
        own = [share * false_alarms for share in shares]
        by_class = calibrate_zones([kind.scores for kind in classes], own, groups)
        return [], by_class, lambda recipe: replace(recipe, class_scales=by_class.scales)
    if zones is None:
        scores = np.array([each.score for each in found])
        return [], Calibration(scores, false_alarms, groups), lambda recipe: recipe
    records = _zone_records(found, zones)
    budgets = zones.record.budgets(false_alarms)
    calibration = calibrate_zones([record.scores for record in records], budgets, groups)
    maxima = calibrate_zones([record.map_maxima for record in records], budgets, groups)
    scaled = zones.scaled(calibration.scales, maxima.scales)
    return records, calibration, lambda recipe: replace(recipe, zones=scaled)


def _zone_records(found: Sequence[_Brief], zones: Zones) -> list[ZoneScoresRecord]:
    """Return the scores of each zone; raise `InputError` where a part does not show one."""
    maps = [each.zones for each in found if each.zones is not None]
    records = []
    for i, zone in enumerate(zones.record.zones):
        scores = [score for each in maps if (score := each.scores[i]) is not None]
        maxima = [value for each in maps if (value := each.maxima[i]) is not None]
        if len(scores) < len(found):
            raise InputError(
                f"Zone {zone.name!r} does not cover a whole cell of the map of a calibration part. "
                "Draw it larger, or leave it out."
            )
        records.append(ZoneScoresRecord(share=zone.share, scores=scores, map_maxima=maxima))
    return records


def _calibration_scores(
    recipe: Recipe,
    folds: Folds,
    partition: Partition,
    choice: EngineChoice,
    progress: Progress,
) -> list[_Brief]:
    """Return what calibration keeps of each part, scored by a recipe that has not seen it."""
    found: dict[int, _Brief] = {}
    parts = partition.calibrate
    for unseeing, inside in folds or [(recipe, list(range(len(parts))))]:
        those = [parts[i] for i in inside]
        scores = score_parts(unseeing, choice, those, workers=partition.workers)
        for i, scored in zip(inside, scores, strict=True):
            found[i] = _Brief.of(scored)
            progress("scoring calibration parts", len(found), len(parts))
    return [found[i] for i in range(len(parts))]


def _judge(folds: Folds, shown: Mapping[int, _Shown]) -> dict[EngineChoice, list[float]]:
    """Return calibration parts' scores by engine, each by a recipe that has not seen it.

    The final one of a cross-fit has learned from all of them and finds none near the threshold.
    """
    scores: dict[EngineChoice, list[float]] = {engine: [] for engine in folds[0][0].engines()}
    for unseeing, inside in folds:
        those = [each for i, each in shown.items() if i in inside]
        if those:
            for engine, found in _compare(unseeing, those).scores.items():
                scores[engine] += found
    return scores


def _show(recipe: Recipe, part: Part, peak: tuple[float, float]) -> _Shown:
    """Return a part at the graph's size; of one that is cut, a tile around its highest cell."""
    picture = recipe.preprocessing.read(part)
    posed = recipe.preprocessing.pose(picture)
    if posed is not None:
        picture, peak = posed.picture, posed.place(*peak)
    if recipe.tiling is None:
        return _Shown(recipe.preprocessing.resize(picture))
    size = recipe.tiling.size
    top, left = (
        max(0, min(round(share * side) - size // 2, side - size)) // STRIDE * STRIDE
        for share, side in zip(peak, picture.shape[:2], strict=True)
    )
    zone = 0 if recipe.zones is None else max(1, recipe.zones.at(*peak))
    return _Shown(cut_tile(picture, top, left, size), zone)


def _compare(recipe: Recipe, shown: Sequence[_Shown]) -> Parity:
    """Return the scores of parts on every engine; a tile's are counted as in its zone."""
    pictures = [each.picture for each in shown]
    recipe = replace(recipe, preprocessing=recipe.preprocessing.posed)
    if recipe.tiling is None or recipe.zones is None:
        return compare_engines(recipe, pictures)
    scales = [recipe.zones.scales[each.zone - 1] for each in shown]
    plain = compare_engines(replace(recipe, zones=None), pictures)
    return Parity(
        {
            engine: [score / scale for score, scale in zip(scores, scales, strict=True)]
            for engine, scores in plain.scores.items()
        }
    )


def _golden_zones(
    recipe: Recipe, choice: EngineChoice, golden: Mapping[str, _Shown]
) -> dict[str, list[float | None]]:
    """Return the zones' scores of golden parts, in the detector's own unit, or those of classes."""
    zones, recipe = recipe.zones, replace(recipe, preprocessing=recipe.preprocessing.posed)
    found: dict[str, list[float | None]] = {}
    if zones is None:
        scorer = recipe.open(choice)
        for name, each in golden.items():
            shares = scorer(each.picture).probabilities
            found[name] = [] if shares is None else shares[1:].tolist()
        return found
    for name, each in golden.items():
        here = zones.only(each.zone) if each.zone else zones
        zoned = replace(recipe, zones=here).open(choice)(each.picture).zones
        found[name] = [] if zoned is None else list(zoned.scores)
    return found


def groups_of(parts: Sequence[Part], *, neutral: bool = False) -> list[str] | None:
    """Return the group of each part, or None without groups; `neutral` gives them numbers."""
    if not any(part.group for part in parts):
        return None
    names = [plain(name) for name in group_names(parts)]
    if not neutral:
        return names
    numbers = {name: str(number) for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] for name in names]


def plain(name: str) -> str:
    """Return a file name as valid text, whatever bytes the file system keeps it in."""
    return name.encode("utf-8", "backslashreplace").decode()
