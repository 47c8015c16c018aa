"""Zones of a part: which cells of an anomaly map decide, and for which zone.

Zones lie on the map, after tiles were joined and before it becomes a score, so that they work for
every detector with maps. A cell that an ignored place touches decides nothing.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from makellos.data.limits import Name, Side
from makellos.errors import InputError, ModelFileError
from makellos.inspection.aggregation import Aggregation

__all__ = [
    "IGNORED",
    "LARGEST_RASTER",
    "MOST_ZONES",
    "ZONES",
    "ZoneRecord",
    "ZonedMap",
    "Zones",
    "ZonesRecord",
    "decode_zones",
    "encode_zones",
]

ZONES = "zones.png"  # the member of a model file that holds the zones' numbers
IGNORED = 0
MOST_ZONES = 254  # the number of each is a byte
LARGEST_RASTER = 4096  # side: cells of maps are larger than a raster's pixels

Labels = NDArray[np.uint8]


class ZoneRecord(BaseModel):
    """Name a zone and the share of the model's false-alarm budget that is its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(min_length=1)
    share: float = Field(gt=0, le=1)


class ZonesRecord(BaseModel):
    """List a model's zones; the first has the number 1 in `ZONES`.

    `size` is width and height of the pictures that they hold for; None: for every picture, scaled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    zones: list[ZoneRecord] = Field(min_length=1, max_length=MOST_ZONES, fail_fast=True)
    size: tuple[Side, Side] | None = None

    @property
    def names(self) -> list[str]:
        """Return the names of the zones."""
        return [zone.name for zone in self.zones]

    def budgets(self, asked: float) -> list[float]:
        """Return each zone's part of the budget `asked`."""
        return [zone.share * asked for zone in self.zones]

    def check_size(self, name: str, size: tuple[int, int]) -> None:
        """Raise `InputError` for a picture of height and width that the zones do not hold for."""
        if self.size is not None and self.size != (size[1], size[0]):
            raise InputError(
                f"{name} has {size[1]} x {size[0]} pixels, but the zones were drawn on pictures of "
                f"{self.size[0]} x {self.size[1]}. Use pictures of that size, or fit with zones in "
                "relative coordinates."
            )


class ZonedMap(NamedTuple):
    """Hold what zones make of a map: the part's score, its map, and each zone's score and maximum.

    Score and map are in units of the zones' thresholds; what decides nothing is 0 in the map.
    Those of zones are the detector's own; None for one without a cell.
    """

    score: float
    anomaly_map: NDArray[np.float32]
    scores: tuple[float | None, ...]
    maxima: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class Zones:
    """Look at a map by zones. `raster` H×W holds the number of each place's zone, 0 for none.

    `scales` and `map_scales` are the thresholds of the zones' scores and maxima, once known.
    """

    record: ZonesRecord
    raster: Labels
    scales: tuple[float, ...] = ()
    map_scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "_kept", threading.local())

    def scaled(self, scales: Sequence[float], map_scales: Sequence[float]) -> Zones:
        """Return the same zones with the thresholds that scores and maps are counted in."""
        return replace(self, scales=tuple(scales), map_scales=tuple(map_scales))

    def only(self, number: int) -> Zones:
        """Return zones of which this one is everywhere, for a piece of a picture in it."""
        return replace(self, raster=np.full((1, 1), number, np.uint8))

    def at(self, row: float, column: float) -> int:
        """Return the number of the zone at a place, given in shares of height and width."""
        height, width = self.raster.shape
        return int(self.raster[int(row * height), int(column * width)])

    def labels(self, shape: tuple[int, int]) -> Labels:
        """Return the number of the zone of each cell of a map h×w."""
        kept = self._kept  # type: ignore[attr-defined]
        if getattr(kept, "shape", None) != shape:
            kept.shape, kept.labels = shape, _on_cells(self.raster, *shape)
        labels: Labels = kept.labels
        return labels

    def look(self, anomaly_map: NDArray[np.float32], aggregation: Aggregation) -> ZonedMap:
        """Return score and map of a part, and what each zone says."""
        shape = (anomaly_map.shape[0], anomaly_map.shape[1])
        labels, ones = self.labels(shape), (1.0,) * len(self.record.zones)
        scales, map_scales = self.scales or ones, self.map_scales or ones
        scores: list[float | None] = []
        maxima: list[float | None] = []
        relative = np.full(anomaly_map.shape, np.inf, np.float32)
        for number, map_scale in enumerate(map_scales, start=1):
            inside = labels == number
            values = anomaly_map[inside]
            scores.append(aggregation(values) if values.size else None)
            maxima.append(float(values.max()) if values.size else None)
            relative[inside] = values / np.float32(map_scale)
        decided = labels != IGNORED
        if not decided.any():
            raise InputError("No cell of the map lies inside a zone. Draw the zones larger.")
        relative[~decided] = min(0.0, float(relative[decided].min()))
        return ZonedMap(self.score(scores, scales), relative, tuple(scores), tuple(maxima))

    @staticmethod
    def score(scores: Sequence[float | None], scales: Sequence[float]) -> float:
        """Return a part's score from its zones' scores: the highest in units of its threshold."""
        relative = [
            score / scale for score, scale in zip(scores, scales, strict=True) if score is not None
        ]
        return float(np.max(relative))  # which keeps what is no number


def encode_zones(raster: Labels) -> bytes:
    """Return the zones' numbers as PNG."""
    raw: bytes = cv2.imencode(".png", raster)[1].tobytes()
    return raw


def decode_zones(raw: bytes, record: ZonesRecord) -> Zones:
    """Return the zones of a model file; raises `ModelFileError` for a raster that is none."""
    raster = None
    if _is_raster(raw):
        raster = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    if raster is None or raster.ndim != 2 or raster.dtype != np.uint8:
        raise ModelFileError(f"{ZONES} of the model holds no zones. Copy it again, or fit again.")
    if int(raster.max()) > len(record.zones):
        raise ModelFileError(
            f"{ZONES} of the model names zone {int(raster.max())} of {len(record.zones)}. Copy it "
            "again, or fit again."
        )
    return Zones(record, raster)


def _is_raster(raw: bytes) -> bool:
    """Tell whether PNG's header says gray of 8 bits and sides within the limit."""
    begin, rest = raw[:16], raw[16:26]
    if not begin.startswith(b"\x89PNG\r\n\x1a\n") or not begin.endswith(b"IHDR") or len(rest) < 10:
        return False
    width, height, depth, colour = struct.unpack(">IIBB", rest)
    return max(width, height) <= LARGEST_RASTER and (depth, colour) == (8, 0)


def _on_cells(raster: Labels, height: int, width: int) -> Labels:
    """Return the zone of each cell: that at its centre, none where an ignored place touches it."""
    lowest = _lowest(_lowest(raster, height).T, width).T
    rows = (2 * np.arange(height) + 1) * raster.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * raster.shape[1] // (2 * width)
    labels: Labels = np.where(lowest == IGNORED, IGNORED, raster[rows][:, columns])
    return labels


def _lowest(raster: Labels, n_cells: int) -> Labels:
    """Return the lowest number in each of `n_cells` equal bands of rows, which may share a row."""
    starts = np.arange(n_cells) * len(raster) // n_cells
    last = -(-(np.arange(n_cells) + 1) * len(raster) // n_cells) - 1
    lowest: Labels = np.minimum(np.minimum.reduceat(raster, starts, axis=0), raster[last])
    return lowest
