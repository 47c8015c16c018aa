"""Release: which engine and precision a model is calibrated with, and its golden parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from makellos.calibration import Calibration, calibrate_zones
from makellos.data.parts import Part, group_names
from makellos.data.pictures import Picture
from makellos.data.progress import Progress
from makellos.data.tiles import cut_tile
from makellos.detectors import Graph
from makellos.errors import InputError, ModelFileError
from makellos.inspection.engines import EngineChoice, default_workers
from makellos.inspection.inspector import Scored, Scorer
from makellos.inspection.manifest import ZoneScoresRecord
from makellos.inspection.tiling import STRIDE
from makellos.inspection.zones import Looked, Zones
from makellos.models.parity import (
    Parity,
    choose_golden,
    compare_engines,
    engines_of,
    open_scorer,
)
from makellos.models.writing import golden_names

__all__ = ["Method", "Release", "Split", "groups_of", "plain", "release"]

Method = Literal["held out", "cross-fitted", "split val", "new good parts"]
Folds = list[tuple[Graph, list[int]]]
_N_JUDGED = 4  # calibration parts near the threshold that engines must agree about


@dataclass(frozen=True)
class Calibrated:
    """Scores and map maxima of calibration parts, by the engine of a release.

    `peaks` say where each map is highest, as shares of height and width; `zones` is what zones say
    of each part, in the detector's own unit.
    """

    scores: list[float]
    map_maxima: list[float] | None
    peaks: list[tuple[float, float]]
    zones: list[Looked]

    def zone_records(self, zones: Zones | None) -> list[ZoneScoresRecord]:
        """Return the scores of each zone; raise `InputError` where a part does not show one."""
        records = []
        for i, zone in enumerate([] if zones is None else zones.record.zones):
            scores = [score for looked in self.zones if (score := looked.scores[i]) is not None]
            maxima = [value for looked in self.zones if (value := looked.maxima[i]) is not None]
            if len(scores) < len(self.scores):
                raise InputError(
                    f"Zone {zone.name!r} covers no whole cell of the map of a calibration part. "
                    "Draw it larger, or leave it out."
                )
            records.append(ZoneScoresRecord(share=zone.share, scores=scores, map_maxima=maxima))
        return records


@dataclass(frozen=True)
class Release:
    """The engine that a model is released with, and what was measured with it.

    `zones` are the scores of each zone, `golden_zones` those of golden parts by name.
    """

    choice: EngineChoice
    calibration: Calibration
    map_maxima: list[float] | None
    parity: Parity
    golden: dict[str, Picture]
    zones: list[ZoneScoresRecord] = field(default_factory=list)
    golden_zones: dict[str, list[float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """Which good parts are learned from, which calibrate, and how."""

    learn: list[Part]
    calibrate: list[Part]
    method: Method


def release(
    graph: Graph,
    folds: Folds,
    split: Split,
    false_alarms: float,
    progress: Progress,
) -> Release:
    """Take the fastest engine whose verdicts near the threshold all others share."""
    engines = engines_of(graph)
    exact = [engine for engine in engines if engine.precision == "f32"]
    for choice in dict.fromkeys((engines[0], *exact)):
        scored = _calibration_scores(graph, folds, split, choice, progress)
        groups = groups_of(split.calibrate)
        zones, calibration, counted = _calibrated(scored, graph, false_alarms, groups)
        chosen = choose_golden(calibration.scores.tolist(), calibration.threshold)
        shown = {i: _show(counted(graph), split.calibrate[i], scored.peaks[i]) for i in chosen}
        unseeing = [(counted(fold), inside) for fold, inside in folds]
        judged = _judge(counted(graph), unseeing, shown, len(split.calibrate), chosen[:_N_JUDGED])
        parity = _compare(counted(graph), list(shown.values()))
        # A tile shows places that its zone leaves out, and the final graph may find them near it.
        both = {engine: found + parity.scores[engine] for engine, found in judged.scores.items()}
        tolerance = Parity(both).settle(choice, calibration.threshold)
        if tolerance is not None:
            settled = replace(calibration, tolerance=tolerance)
            pictures = [each.picture for each in shown.values()]
            golden = dict(zip(golden_names(pictures), shown.values(), strict=True))
            return Release(
                choice,
                settled,
                scored.map_maxima,
                parity,
                {name: each.picture for name, each in golden.items()},
                zones,
                _golden_zones(counted(graph), choice, golden),
            )
    raise ModelFileError(
        "The runtimes of this machine disagree about the golden parts even in f32, so the model "
        "was not released. Update openvino and onnxruntime, then fit again."
    )


def _calibrated(
    scored: Calibrated, graph: Graph, false_alarms: float, groups: list[str] | None
) -> tuple[list[ZoneScoresRecord], Calibration, Callable[[Graph], Graph]]:
    """Return the zones' scores, the calibration, and what counts a graph's scores in its units."""
    zones = graph.zones
    if zones is None:
        return [], Calibration(np.array(scored.scores), false_alarms, groups), lambda graph: graph
    records = scored.zone_records(zones)
    budgets = zones.record.budgets(false_alarms)
    calibration = calibrate_zones([record.scores for record in records], budgets, groups)
    maxima = calibrate_zones([record.map_maxima for record in records], budgets, groups)
    scaled = zones.scaled(calibration.scales, maxima.scales)
    return records, calibration, lambda graph: replace(graph, zones=scaled)


def _judge(
    graph: Graph, folds: Folds, shown: Mapping[int, _Shown], n_parts: int, chosen: Sequence[int]
) -> Parity:
    """Return calibration parts' scores on every engine, each by a graph that has not seen it.

    The final graph of a cross-fit has learned from all of them and finds none near the threshold.
    """
    scores: dict[EngineChoice, list[float]] = {engine: [] for engine in engines_of(graph)}
    for unseeing, inside in folds or [(graph, list(range(n_parts)))]:
        those = [shown[i] for i in chosen if i in inside]
        if those:
            for engine, found in _compare(unseeing, those).scores.items():
                scores[engine] += found
    return Parity(scores)


@dataclass(frozen=True)
class _Shown:
    """A part as it is kept in a model; of one that is cut a tile, which lies in one `zone`."""

    picture: Picture
    zone: int = 0


def _show(graph: Graph, part: Part, peak: tuple[float, float]) -> _Shown:
    """Return a part at the graph's size; of one that is cut, a tile around its highest cell."""
    picture = part.read()
    if graph.tiling is None:
        return _Shown(graph.preprocessing.resize(picture))
    size = graph.tiling.size
    top, left = (
        max(0, min(round(share * side) - size // 2, side - size)) // STRIDE * STRIDE
        for share, side in zip(peak, picture.shape[:2], strict=True)
    )
    zone = 0 if graph.zones is None else max(1, graph.zones.at(*peak))
    return _Shown(cut_tile(picture, top, left, size), zone)


def _compare(graph: Graph, shown: Sequence[_Shown]) -> Parity:
    """Return the scores of parts on every engine; a tile's are counted as in its zone."""
    pictures = [each.picture for each in shown]
    if graph.tiling is None or graph.zones is None:
        return compare_engines(graph, pictures)
    scales = [graph.zones.scales[each.zone - 1] for each in shown]
    plain = compare_engines(replace(graph, zones=None), pictures)
    return Parity(
        {
            engine: [score / scale for score, scale in zip(scores, scales, strict=True)]
            for engine, scores in plain.scores.items()
        }
    )


def _golden_zones(
    graph: Graph, choice: EngineChoice, golden: Mapping[str, _Shown]
) -> dict[str, list[float | None]]:
    """Return the zones' scores of golden parts, in the detector's own unit; none without zones."""
    zones = graph.zones
    if zones is None:
        return {}
    found = {}
    for name, each in golden.items():
        here = zones.only(each.zone) if each.zone else zones
        looked = open_scorer(replace(graph, zones=here), choice)(each.picture).zones
        found[name] = [] if looked is None else list(looked.scores)
    return found


def _calibration_scores(
    graph: Graph,
    folds: Folds,
    split: Split,
    choice: EngineChoice,
    progress: Progress,
) -> Calibrated:
    if not folds:
        return score_parts(graph, choice, split.calibrate, progress)
    scores = [0.0] * len(split.calibrate)
    maxima: list[float] | None = [0.0] * len(split.calibrate)
    peaks = [(0.5, 0.5)] * len(split.calibrate)
    zones: dict[int, Looked] = {}
    n_done = 0
    for fold_graph, inside in folds:

        def report(what: str, done: int, _total: int, before: int = n_done) -> None:
            progress(what, before + done, len(scores))

        found = score_parts(fold_graph, choice, [split.calibrate[i] for i in inside], report)
        n_done += len(inside)
        for place, i in enumerate(inside):
            scores[i], peaks[i] = found.scores[place], found.peaks[place]
            zones |= {i: found.zones[place]} if found.zones else {}
            if maxima is not None and found.map_maxima is not None:
                maxima[i] = found.map_maxima[place]
        if found.map_maxima is None:
            maxima = None
    return Calibrated(scores, maxima, peaks, [zones[i] for i in sorted(zones)])


def score_parts(
    graph: Graph, choice: EngineChoice, parts: Sequence[Part], progress: Progress
) -> Calibrated:
    """Return the scores of parts as the inspector computes them, on one engine."""
    workers = default_workers()
    scorer = open_scorer(graph, choice, workers=workers)
    scores: list[float] = []
    maxima: list[float] = []
    peaks: list[tuple[float, float]] = []
    zones: list[Looked] = []
    with ThreadPoolExecutor(workers + 1) as pool:
        results: Iterable[Scored]
        if scorer.tiling is not None:
            results = (scorer(part.read()) for part in parts)  # its tiles keep all workers busy
        elif scorer.engine.batch_size > 1:
            results = _in_batches(scorer, parts)
        else:
            results = pool.map(lambda part: scorer(part.read()), parts)
        for scored in results:
            scores.append(scored.score)
            if scored.anomaly_map is not None:
                maxima.append(float(scored.anomaly_map.max()))
            peaks.append(_peak(scored))
            zones += [] if scored.zones is None else [scored.zones]
            progress("scoring calibration parts", len(scores), len(parts))
    return Calibrated(scores, maxima or None, peaks, zones)


def _peak(scored: Scored) -> tuple[float, float]:
    if scored.anomaly_map is None:
        return 0.5, 0.5
    height, width = scored.anomaly_map.shape
    row, column = divmod(int(scored.anomaly_map.argmax()), width)
    return (row + 0.5) / height, (column + 0.5) / width


def _in_batches(scorer: Scorer, parts: Sequence[Part]) -> Iterator[Scored]:
    size = scorer.engine.batch_size
    for start in range(0, len(parts), size):
        yield from scorer.many([part.read() for part in parts[start : start + size]])


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
