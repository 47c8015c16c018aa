"""The chart of a stored recording: it is inspected again, as the history keeps no windows."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePath

import cv2

from makellos.drawing import draw_recording
from makellos.errors import MakellosError
from makellos.inspection import Inspector
from makellos.service.failures import Refusal
from makellos.service.station import Station
from makellos.storage import scratch_folder
from makellos.store import StoredInspection
from makellos.vibration.signals import at_speed

__all__ = ["chart_png", "is_recording"]


def is_recording(stored: StoredInspection) -> bool:
    """Tell whether a part is a recording that could be read."""
    return "n_windows" in stored.result


def chart_png(station: Station, stored: StoredInspection) -> bytes:
    """Return spectrograms, scores of windows and envelope spectrum of a recording as PNG.

    They are drawn with the model that judged it. Raises `Refusal` where recording or model are no
    longer kept.
    """
    path = None if stored.picture is None else station.store.picture(stored.picture)
    if path is None or not is_recording(stored):
        raise Refusal("not_found", f"Part {stored.id} has no recording that is still kept.")
    inspector = _inspector(station, stored)
    with scratch_folder() as folder:
        file = (folder / "recording").with_suffix(PurePath(stored.input).suffix[:16])
        file.write_bytes(path.read_bytes())
        found = inspector.inspect(file, name=stored.input, keep=True)
    record, finding = inspector.manifest.signal, found.recording
    if record is None or finding is None or finding.samples is None:
        raise Refusal("not_found", found.error or "The chart could not be drawn.")
    page = draw_recording(
        finding.samples,
        at_speed(record.view, finding.rpm),
        replace(found, verdict=stored.verdict),
        threshold=inspector.threshold,
        rpm=finding.rpm,
        map_threshold=inspector.map_threshold,
    )
    done, encoded = cv2.imencode(".png", cv2.cvtColor(page, cv2.COLOR_RGB2BGR))
    if not done:
        raise Refusal("internal", "The chart could not be drawn.")
    return bytes(encoded)


def _inspector(station: Station, stored: StoredInspection) -> Inspector:
    for loaded in station.pool.all():
        if loaded.recipe.model_hash == stored.model_hash:
            return loaded.inspector
    try:
        return _opened(station.store.recipes.model(stored.model_hash).path)
    except MakellosError:
        raise Refusal("not_found", "The model of this part is no longer kept.") from None


@lru_cache(maxsize=2)  # former models, whose parts are looked at one after another
def _opened(path: Path) -> Inspector:
    return Inspector(path, workers=1)
