"""A stored inspection as pages show it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

from makellos.data._headers import UnsuitableError, kind_of, read_header
from makellos.data.pictures import decode_picture, read_encoded
from makellos.errors import MakellosError
from makellos.inspection.findings import UNREADABLE
from makellos.inspection.manifest import Manifest
from makellos.inspection.model_file import GRAPH, WEIGHTS, read_model
from makellos.inspection.zones import ZONES
from makellos.service.language import Words
from makellos.service.recordings import is_recording
from makellos.service.sights import drawn_now
from makellos.store import Store, StoredInspection

__all__ = ["DASH", "Gauge", "ModelFacts", "PartView", "model_facts", "picture_size", "view"]

_GAUGE = 320.0  # width in SVG units
_LIMIT = 0.62  # of it, where the threshold stands
_SIDE = 1600  # pixels of the longer side of pictures on the page of one part
_MOST_MODELS = 64
_FITTED = (GRAPH, WEIGHTS, ZONES)
_MOST_SIZES = 4096  # pictures whose size is remembered
_BEGIN = 65_536  # bytes that tell the kind of a picture
_TURNS = (b"Exif\0", b"eXIf", b"EXIF")  # in JPEG, PNG and WebP
DASH = "\u2013"  # where there is no figure


@dataclass(frozen=True)
class ModelFacts:
    """Hold what pages need of a model: its promise and its limits.

    `auroc` is that on defects planted by the search that chose the detector, None without it.
    Models of one `family` differ by their budget alone, so that their p-values mean the same.
    """

    detector: str
    created: str
    budget: float
    look_again_limit: float
    smallest_budget: float
    threshold: float
    again_threshold: float
    map_threshold: float
    n_calibration: int
    covered: tuple[tuple[str, str], ...]
    zones: tuple[str, ...]
    white_level: int | None
    takes_pictures: bool
    family: str
    auroc: float | None


@dataclass(frozen=True)
class Gauge:
    """Hold where score and limits stand on the gauge, in SVG units."""

    at: float
    again: float
    limit: float


@dataclass(frozen=True)
class PartView:
    """Hold a part as the templates show it; texts are in the reader's language."""

    id: int
    name: str
    moment: str
    short: str
    clock: str
    input: str
    verdict: str
    decision: str | None
    score_text: str
    threshold_text: str
    p_text: str
    regions: tuple[Mapping[str, Any], ...]
    zones: tuple[str, ...]
    serial: str | None
    lot: str | None
    source: str
    recipe: str
    recipe_version: int
    model_hash: str
    milliseconds: str
    error: str | None
    notes: tuple[str, ...]
    finding: str | None
    fields: Mapping[str, Any]
    has_picture: bool
    has_map: bool
    has_chart: bool
    kept: bool
    width: int
    height: int
    small: str
    large: str
    heat: str
    chart: str
    gauge: Gauge | None


_facts: OrderedDict[str, ModelFacts | None] = OrderedDict()
_facts_lock = Lock()


def model_facts(store: Store, model_hash: str) -> ModelFacts | None:
    """Return what pages need of a stored model; None where the file is gone or unreadable."""
    with _facts_lock:
        if model_hash in _facts:
            return _facts[model_hash]
    try:
        facts = _read_facts(store.recipes.model(model_hash).path)
    except (MakellosError, OSError):
        return None
    with _facts_lock:
        _facts[model_hash] = facts
        while len(_facts) > _MOST_MODELS:
            _facts.popitem(last=False)
    return facts


def _read_facts(path: Path) -> ModelFacts:
    manifest = read_model(path).manifest
    calibration = manifest.calibration.calibration()
    maps = manifest.calibration.map_calibration()
    return ModelFacts(
        detector=manifest.detector.name,
        created=manifest.created,
        budget=calibration.false_alarms,
        look_again_limit=calibration.look_again_limit,
        smallest_budget=calibration.smallest_budget,
        threshold=calibration.threshold,
        again_threshold=calibration.look_again_threshold,
        map_threshold=calibration.threshold if maps is None else maps.threshold,
        n_calibration=calibration.n_groups,
        covered=tuple(manifest.covered()),
        zones=() if manifest.zones is None else tuple(manifest.zones.names),
        white_level=manifest.preprocessing.white_level,
        takes_pictures=manifest.signal is None,
        family=_family(manifest),
        auroc=_auroc(manifest),
    )


def _auroc(manifest: Manifest) -> float | None:
    """Return the AUROC of the trial that the detector was chosen by; None without a search."""
    auto = manifest.training.auto
    chosen = [each.auroc for each in (auto.trials if auto else []) if each.result == "chosen"]
    return chosen[0] if chosen else None


def _family(manifest: Manifest) -> str:
    """Return a digest of all that p-values follow from: the fit and the scores calibrated with."""
    members = {name: manifest.members[name] for name in _FITTED if name in manifest.members}
    parts = (
        manifest.detector.model_dump_json(),
        manifest.preprocessing.model_dump_json(),
        *(f"{name} {member.model_dump_json()}" for name, member in members.items()),
        manifest.calibration.model_dump_json(exclude={"asked", "look_again"}),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def picture_size(path: Path) -> tuple[int, int] | None:
    """Return height and width of a stored picture in pixels; None where it is none.

    The header says it; only where that may tell of a turn the picture is decoded, once.
    """
    try:
        return _size(path)
    except (MakellosError, UnsuitableError):
        return None


@lru_cache(_MOST_SIZES)  # what lies under a path is named by its hash, so never changes
def _size(path: Path) -> tuple[int, int]:
    encoded = read_encoded(path)
    if kind_of(encoded[:_BEGIN]) != "TIFF" and not any(mark in encoded for mark in _TURNS):
        header = read_header(encoded)
        return header.height, header.width
    height, width = drawn_now(decode_picture, encoded, path.name).shape[:2]
    return height, width


def view(store: Store, part: StoredInspection, spoken: Words, *, whole: bool = False) -> PartView:
    """Return a part for the templates; only with `whole` is its picture's size read."""
    path = store.picture(part.picture) if part.picture else None
    is_picture = path is not None and part.verdict != UNREADABLE and not is_recording(part)
    size = picture_size(path) if whole and is_picture and path is not None else None
    height, width = size or (0, 0)
    result, address = part.result, f"/parts/{part.id}"
    return PartView(
        id=part.id,
        name=part.serial or PurePosixPath(part.input.replace("\\", "/")).name or f"#{part.id}",
        moment=spoken.moment(part.time),
        short=spoken.short(part.time, store.clock()),
        clock=spoken.clock(part.time),
        input=part.input,
        verdict=part.verdict,
        decision=part.decision,
        score_text=_figure(spoken, part.score),
        threshold_text=_figure(spoken, part.threshold),
        p_text=_figure(spoken, part.p_value),
        regions=tuple(result.get("regions") or ()),
        zones=_zones(result),
        serial=part.serial,
        lot=part.lot,
        source=part.source,
        recipe=part.recipe,
        recipe_version=part.recipe_version,
        model_hash=part.model_hash,
        milliseconds=spoken.number(part.milliseconds, 1),
        error=part.error,
        notes=tuple(map(str, result.get("notes") or ())),
        finding=result.get("finding"),
        fields=part.fields,
        has_picture=is_picture and (not whole or size is not None),
        has_map=part.map is not None,
        has_chart=path is not None and is_recording(part),
        kept=part.kept,
        width=width,
        height=height,
        small=f"{address}/view.jpg?side=240",
        large=f"{address}/view.jpg?side={_SIDE}",
        heat=f"{address}/heat.png",
        chart=f"{address}/chart.png",
        gauge=_gauge(part, model_facts(store, part.model_hash)) if whole else None,
    )


def _zones(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the zones in which something was found to judge."""
    return tuple(
        str(zone["name"])
        for zone in result.get("zones") or ()
        if zone["score"] is not None and zone["score"] > zone["threshold"]
    )


def _figure(spoken: Words, value: float | None) -> str:
    """Return a figure with four digits that count; a dash where there is none."""
    if value is None:
        return DASH
    if value == 0 or 0.001 <= abs(value) < 10_000:
        return spoken.number(float(f"{value:.4g}"), 6)
    return f"{value:.3g}"


def _gauge(part: StoredInspection, facts: ModelFacts | None) -> Gauge | None:
    if part.score is None or not part.threshold or part.threshold <= 0:
        return None
    limit = _LIMIT * _GAUGE
    at = max(0.02, min(0.98, _LIMIT * part.score / part.threshold)) * _GAUGE
    again = limit
    if facts is not None and facts.again_threshold > 0:
        again = max(0.0, min(limit, limit * facts.again_threshold / part.threshold))
    return Gauge(round(at, 1), round(again, 1), round(limit, 1))
