"""Pictures as screens show them: small, in 8 bits, and heat that is transparent where usual."""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import Response
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from makellos.data.pictures import decode_picture
from makellos.drawing.overlays import as_rgb, heat_colors
from makellos.inspection.regions import resize_map
from makellos.service.pages.page import Number, Page, Viewer
from makellos.service.pages.parts import model_facts
from makellos.service.pages.rendering import HEADERS
from makellos.service.recordings import chart_png
from makellos.service.sights import drawn
from makellos.store import NotFoundError, StoredInspection

__all__ = ["heat_picture", "router", "small_picture"]

router = APIRouter(prefix="/parts", include_in_schema=False)
_SIDES = (240, 480, 1600)  # pixels of the longer side that pages ask for
_HEAT_SIDE = 640
_MOST_USUAL = 0.9  # of the threshold, as in overlays
_QUALITY = 88
_HEADERS = HEADERS | {
    "Content-Security-Policy": "default-src 'none'",
    # What a part shows never changes, but who may see it does: browsers keep it for an hour.
    "Cache-Control": "private, max-age=3600",
}


@router.get("/{number}/view.jpg")
async def view_picture(
    number: Number, page: Viewer, side: Annotated[int, Query(ge=1)] = 480
) -> Response:
    """Return the picture of a part, shrunk, as JPEG."""
    encoded = await drawn(_view, page, number, side)
    return Response(encoded, media_type="image/jpeg", headers=_HEADERS)


def _view(page: Page, number: int, side: int) -> bytes:
    part = page.store.inspection(number)
    path = page.store.picture(part.picture) if part.picture else None
    if path is None:
        raise NotFoundError(f"Part {number} no longer has a picture.")
    facts = model_facts(page.store, part.model_hash)
    longest = min((each for each in _SIDES if each >= side), default=_SIDES[-1])
    white = None if facts is None else facts.white_level
    return small_picture(path.read_bytes(), longest, white_level=white)


@router.get("/{number}/heat.png")
async def view_heat(number: Number, page: Viewer) -> Response:
    """Return the heat map of a part as PNG, to be laid over its picture."""
    encoded = await drawn(_heat, page, number)
    return Response(encoded, media_type="image/png", headers=_HEADERS)


def _heat(page: Page, number: int) -> bytes:
    part = page.store.inspection(number)
    found = page.store.map(part.map) if part.map else None
    if found is None:
        raise NotFoundError(f"Part {number} has no map.")
    return heat_picture(found, _map_threshold(page, part))


def small_picture(encoded: bytes, longest: int, *, white_level: int | None = None) -> bytes:
    """Return the bytes of a picture as JPEG with a longer side of at most so many pixels.

    Raises `InputError` for what is no picture.
    """
    picture = decode_picture(encoded, "the picture")
    factor = longest / max(picture.shape[:2])
    if factor < 1:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    shown = cv2.cvtColor(as_rgb(picture, white_level), cv2.COLOR_RGB2BGR)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    raw: bytes = cv2.imencode(".jpg", shown, quality)[1].tobytes()
    return raw


def heat_picture(anomaly_map: NDArray[np.float32], map_threshold: float) -> bytes:
    """Return a map h×w as PNG in the colours of overlays, transparent where nothing is unusual."""
    height, width = anomaly_map.shape
    factor = max(1.0, _HEAT_SIDE / max(height, width))
    full = resize_map(anomaly_map, round(height * factor), round(width * factor))
    median = float(np.median(anomaly_map))
    usual = median if 0 < median < _MOST_USUAL * map_threshold else 0.0
    heat = np.clip((full - usual) / max(map_threshold - usual, 1e-12) - 0.5, 0.0, 1.0)
    colors = heat_colors((85 + 170 * heat).astype(np.uint8))
    opacity = (255 * np.minimum(1.0, 1.6 * heat)).astype(np.uint8)
    drawn = np.dstack([colors[..., ::-1], opacity])
    raw: bytes = cv2.imencode(".png", drawn)[1].tobytes()
    return raw


@router.get("/{number}/chart.png")
async def view_chart(number: Number, page: Viewer) -> Response:
    """Return the chart of a recording as PNG."""
    part = await run_in_threadpool(page.store.inspection, number)
    encoded = await drawn(chart_png, page.station, part)
    return Response(encoded, media_type="image/png", headers=_HEADERS)


def _map_threshold(page: Page, part: StoredInspection) -> float:
    facts = model_facts(page.store, part.model_hash)
    return facts.map_threshold if facts is not None else (part.threshold or 1.0)
