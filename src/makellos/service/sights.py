"""Pictures of stored parts: heat map and overlay, drawn when they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import decode_picture, read_encoded
from makellos.drawing.overlays import draw_overlay
from makellos.errors import MakellosError
from makellos.inspection.findings import Inspection
from makellos.inspection.model_file import read_model
from makellos.inspection.regions import Region
from makellos.service.failures import Refusal
from makellos.service.station import Station
from makellos.store import StoredInspection

__all__ = ["drawn", "drawn_now", "map_png", "media_type", "overlay_png"]

P = ParamSpec("P")
R = TypeVar("R")
_AT_ONCE = 2  # pictures that are decoded and drawn for screens: the rest is for inspecting

_HALF = 32768  # gray of the threshold of regions
_KINDS = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"RIFF": "image/webp",
    b"BM": "image/bmp",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
}
_drawing = ThreadPoolExecutor(_AT_ONCE, "drawing")


async def drawn(draw: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    """Decode and draw something for a screen, two at once at most; who waits holds no thread."""
    work = partial(draw, *given, **named)
    return await asyncio.get_running_loop().run_in_executor(_drawing, work)


def drawn_now(draw: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    """Do as `drawn` does, and wait; not for what is drawn itself."""
    return _drawing.submit(draw, *given, **named).result()


def media_type(path: Path) -> str:
    """Return the type of a stored file by how it begins."""
    with path.open("rb") as stream:
        begin = stream.read(12)
    if begin[:4] == b"RIFF" and begin[8:] != b"WEBP":
        return "audio/wav" if begin[8:] == b"WAVE" else "application/octet-stream"
    found = (kind for mark, kind in _KINDS.items() if begin.startswith(mark))
    return next(found, "application/octet-stream")


def map_png(station: Station, stored: StoredInspection) -> bytes:
    """Return the map of a part as 16 bit PNG; raises `Refusal` where there is none."""
    values = _map(station, stored) / max(_limits(station, stored)[0], 1e-12)
    return _png(np.clip(values * _HALF, 0, 65535).astype(np.uint16))


def overlay_png(station: Station, stored: StoredInspection) -> bytes:
    """Return the picture of a part with what was found drawn on it; raises `Refusal` without."""
    path = None if stored.picture is None else station.store.picture(stored.picture)
    if path is None:
        raise Refusal("not_found", f"The picture of inspection {stored.id} is no longer kept.")
    threshold, white = _limits(station, stored)
    found = Inspection(
        stored.input,
        stored.verdict,
        score=stored.score,
        p_value=stored.p_value,
        threshold=stored.threshold,
        regions=tuple(_region(row) for row in stored.result.get("regions", ())),
        anomaly_map=_map(station, stored),
    )
    picture = decode_picture(read_encoded(path), stored.input)
    drawn = draw_overlay(picture, found, map_threshold=threshold, white_level=white)
    return _png(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))


def _map(station: Station, stored: StoredInspection) -> NDArray[np.float32]:
    found = None if stored.map is None else station.store.map(stored.map)
    if found is None:
        raise Refusal("not_found", f"Inspection {stored.id} has no heat map.")
    return found


def _limits(station: Station, stored: StoredInspection) -> tuple[float, int | None]:
    """Return the threshold of regions and the white level of the model that judged a part."""
    for loaded in station.pool.all():
        if loaded.recipe.model_hash == stored.model_hash:
            manifest, threshold = loaded.inspector.manifest, loaded.inspector.map_threshold
            return threshold, manifest.preprocessing.white_level
    try:
        manifest = read_model(station.store.recipes.model(stored.model_hash).path).manifest
    except MakellosError:
        raise Refusal("not_found", "The model of this part is no longer kept.") from None
    record = manifest.calibration
    limits = record.map_calibration() or record.calibration()
    return limits.threshold, manifest.preprocessing.white_level


def _region(row: dict[str, Any]) -> Region:
    known = Region.__dataclass_fields__
    return Region(**{name: value for name, value in row.items() if name in known})


def _png(picture: NDArray[Any]) -> bytes:
    done, encoded = cv2.imencode(".png", picture)
    if not done:
        raise Refusal("internal", "The picture could not be drawn.")
    return bytes(encoded)
