"""Part and background of a picture: what counts for the verdict, and what lies beside the part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from makellos.data.pictures import Picture, full_scale
from makellos.inspection.loose import SEEN, Loose, filled, find_loose
from makellos.inspection.regions import Region, find_regions

__all__ = [
    "Background",
    "Beside",
    "Choice",
    "Kind",
    "kind_of",
    "name_beside",
    "name_removed",
    "notes_on",
    "part_in",
]

Choice = Literal["ignore", "look_again", "count"]
Kind = Literal["fibre", "dust", "stain", "oddity"]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_PIECE = 0.2  # of the largest piece: smaller ones are no part
_NEAR = 3  # cells, around one of the part, that count in full
_DOUBTFUL = 0.3  # from here to its complement a cell is part by degrees
_WORDS = {
    "ignore": "is ignored",
    "look_again": "gives look_again if it is odder than what lies beside good parts",
    "count": "counts in full",
}

# How an oddity beside the part is told: contrast in deviations of its surroundings.
_CONTRAST, _LEAST_CONTRAST = 5.0, 0.015
_SLENDER = 5.0  # times as long as wide: a fibre
_SPECK = 0.02  # of the shorter side: dust


class Background(BaseModel):
    """Say how oddities beside the part count, and how much of a picture is part.

    `least` and `most` are shares: where the part takes less or more of a picture, nothing is
    believed to be background.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    choice: Choice
    least: float = Field(ge=0, le=1)
    most: float = Field(ge=0, le=1)

    def __str__(self) -> str:
        """Return in words what is done with what lies beside the part."""
        return f"what lies beside the part {_WORDS[self.choice]}"

    def counted(self, part: Floats, removed: Loose | None = None) -> Floats:
        """Return in [0, 1] how much cells h×w count: the part and what is near to it in full.

        `part` (h, w) tells in [0, 1] how surely a cell is part. Where something was `removed` the
        part alone counts. There is no step, at which rounding would decide.
        """
        if not self._believed(part_in(part > 0.5)):
            return np.ones(part.shape, np.float32)
        surely = np.clip((part - _DOUBTFUL) / (1 - 2 * _DOUBTFUL), 0, 1)
        surely = np.where(part_in(part > _DOUBTFUL), surely, 0).astype(np.float32)
        near = np.asarray(cv2.dilate(surely, np.ones((_NEAR, _NEAR), np.uint8)), np.float32)
        if removed is None:
            return near
        return np.where(_on_cells(removed.loose, part.shape), surely, near)

    def apart(
        self, anomaly_map: Floats, part: Floats, removed: Loose | None = None
    ) -> tuple[Floats, Floats]:
        """Return the map h×w that decides, and that of what lies beside the part.

        What does not decide is at most the median of the map. Beside the part nothing is changed;
        elsewhere that map has its lowest value.
        """
        counted = self.counted(part, removed)
        beside = np.where(counted > 0.5, anomaly_map.min(), anomaly_map)
        if self.choice == "count":
            return anomaly_map, beside
        usual = np.minimum(anomaly_map, np.median(anomaly_map).astype(np.float32))
        return usual + counted * (anomaly_map - usual), beside

    def loose(self, counted: Floats, part: Floats, picture: Floats) -> Loose | None:
        """Return which pixels of C×H×W lie loose near the highest cell of the map that counts.

        None where none do, and where everything counts.
        """
        inside = part_in(part > 0.5)
        if self.choice == "count" or not self._believed(inside):
            return None
        found = find_loose(picture, inside)
        if found is None:
            return None
        row, column = np.unravel_index(int(counted.argmax()), counted.shape)
        cells = _on_cells(found.loose, counted.shape)
        near = cells[max(0, row - SEEN) : row + SEEN + 1, max(0, column - SEEN) : column + SEEN + 1]
        return found if near.any() else None

    def with_loose(self, beside: Floats, anomaly_map: Floats, found: Loose) -> Floats:
        """Return the map of what lies beside the part, with what lies loose close to it."""
        return np.where(_on_cells(found.loose, beside.shape), anomaly_map, beside)

    def _believed(self, inside: Mask) -> bool:
        return self.least <= float(inside.mean()) <= self.most


@dataclass(frozen=True)
class Beside:
    """Name an oddity beside the part, and place it."""

    kind: Kind
    region: Region

    @property
    def name(self) -> str:
        """Return what it is in words, such as ``fibre beside the part``."""
        return f"{self.kind} beside the part"

    def touches(self, other: Beside) -> bool:
        """Tell whether the boxes of both overlap."""
        one, two = self.region, other.region
        return (
            one.x < two.x + two.width
            and two.x < one.x + one.width
            and one.y < two.y + two.height
            and two.y < one.y + one.height
        )

    def row(self) -> dict[str, Any]:
        """Return kind, box, area and peak as plain data."""
        return {"kind": self.kind, **self.region.row()}


def part_in(found: Mask) -> Mask:
    """Return the part in a mask h×w: its large pieces without holes, and no small ones."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    if count < 2:
        return np.zeros(found.shape, bool)
    large = areas >= _PIECE * areas[1:].max()
    large[0] = False
    return filled(large[labels])


def _on_cells(pixels: Mask, shape: tuple[int, ...]) -> Mask:
    """Return which cells h×w of a map hold one of these pixels."""
    height, width = shape
    share = cv2.resize(pixels.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(share > 0, bool)


def name_beside(picture: Picture, beside: Floats, threshold: float) -> tuple[Beside, ...]:
    """Return what lies beside the part above `threshold` in a map h×w, the oddest first."""
    height, width = picture.shape[:2]
    regions = find_regions(beside, height, width, threshold)
    return tuple(Beside(kind_of(picture, region), region) for region in regions)


def name_removed(picture: Picture, beside: Floats, removed: Mask) -> tuple[Beside, ...]:
    """Return what was taken out of a picture: pieces H×W of it as the network sees it.

    Their peaks are those of the map h×w of what lies beside the part.
    """
    lowest = float(beside.min()) - 1
    wide = cv2.resize(beside, removed.shape[::-1], interpolation=cv2.INTER_NEAREST)
    pieces = np.where(removed, wide, lowest).astype(np.float32)
    return name_beside(picture, pieces, lowest + 0.5)


def notes_on(beside: Sequence[Beside]) -> tuple[str, ...]:
    """Return what lies beside the part in words, each once."""
    return tuple(dict.fromkeys(each.name for each in beside))


def kind_of(picture: Picture, region: Region) -> Kind:
    """Return what a region of the background shows, by the shape of what stands out there.

    A fibre is at least five times as long as wide, dust smaller than a fiftieth of the picture's
    shorter side, a stain neither; where nothing stands out it is an oddity.
    """
    pad = 4 + max(region.width, region.height) // 4
    rows = slice(max(0, region.y - pad), region.y + region.height + pad)
    columns = slice(max(0, region.x - pad), region.x + region.width + pad)
    crop = picture[rows, columns].astype(np.float32)
    gray = crop if crop.ndim == 2 else crop.mean(axis=2)
    surface = cv2.medianBlur(cv2.resize(gray, (9, 9), interpolation=cv2.INTER_AREA), 5)
    change = np.abs(gray - cv2.resize(surface, gray.shape[::-1], interpolation=cv2.INTER_LINEAR))
    usual = 1.4826 * float(np.median(change))
    mask = (change > max(_CONTRAST * usual, _LEAST_CONTRAST * full_scale(picture))).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return "oddity"
    largest = max(outlines, key=lambda outline: cv2.arcLength(outline, closed=True))
    drawn = np.zeros_like(mask)
    cv2.drawContours(drawn, [largest], -1, 1, cv2.FILLED)
    area = float(np.count_nonzero(drawn))  # a ring is the rim of a stain
    length = cv2.arcLength(largest, closed=True) / 2 + 1
    if length**2 >= _SLENDER * area and length > _SPECK * min(picture.shape[:2]):
        return "fibre"
    return "dust" if length <= 2 * _SPECK * min(picture.shape[:2]) else "stain"
