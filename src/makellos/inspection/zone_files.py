"""Zones and rules as a user draws and writes them: a mask picture, or JSON with polygons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from makellos.calibration import divided_budget
from makellos.data.files import read_json
from makellos.data.limits import Name, Side
from makellos.data.pictures import PICTURE_SUFFIXES, read_marks
from makellos.errors import ConfigurationError
from makellos.inspection.acceptance import MOST_RULES, Acceptance, Rule
from makellos.inspection.zones import (
    IGNORED,
    LARGEST_RASTER,
    MOST_ZONES,
    ZoneRecord,
    Zones,
    ZonesRecord,
)

__all__ = ["Drawn", "read_acceptance", "read_zones"]

ELSEWHERE = "elsewhere"
_RELATIVE_SIDE = 2048  # of the raster of relative coordinates
_SHIFT = 4  # binary digits of a pixel that polygons are drawn with
_MOST_LISTED = 1000  # zones, ignored ones among them
_HAIR = 1 / 8  # of a pixel


class _Zone(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(default="", max_length=80)
    polygon: list[tuple[float, float]] | None = Field(
        default=None, min_length=3, max_length=100_000, fail_fast=True
    )
    mask: Name | None = Field(default=None, min_length=1)
    ignore: bool = False
    false_alarms: float | None = Field(default=None, gt=0, le=0.5)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    size: tuple[Side, Side] | None = None
    zones: list[_Zone] = Field(default=[], max_length=_MOST_LISTED, fail_fast=True)
    elsewhere: Literal["ignore", "inspect"] | None = None
    mm_per_pixel: float | None = Field(default=None, gt=0)
    combine: Literal["replace", "tighten"] = "replace"
    rules: list[Rule] = Field(default=[], max_length=MOST_RULES, fail_fast=True)


@dataclass(frozen=True)
class Drawn:
    """Hold zones as they were drawn, the budget that each was given, and the rules beside them."""

    names: list[str]
    raster: NDArray[np.uint8] | None
    size: tuple[int, int] | None
    false_alarms: list[float | None]
    acceptance: Acceptance | None

    def zones(self, asked: float) -> Zones | None:
        """Return the zones under a budget for all of them; what is not given is shared equally.

        Raises `ConfigurationError` where the zones' own budgets are more than that.
        """
        if self.raster is None:
            return None
        budgets = divided_budget(self.false_alarms, asked, "zones")
        records = [
            ZoneRecord(name=name, share=min(1.0, budget / asked))
            for name, budget in zip(self.names, budgets, strict=True)
        ]
        return Zones(ZonesRecord(zones=records, size=self.size), self.raster)


def read_zones(path: Path) -> Drawn:
    """Read a mask picture (white is inspected, black ignored) or JSON.

    Raises `InputError` for a file that cannot be read, `ConfigurationError` for what it says.
    """
    if path.suffix.lower() in PICTURE_SUFFIXES:
        file = _File(zones=[_Zone(name="inspected", mask=path.name)])
    else:
        file = _read(path)
    if not file.zones:
        return Drawn([], None, None, [], _acceptance(file))
    _check_names(file.zones, path)
    masks = {zone.mask: read_marks(path.parent / zone.mask) for zone in file.zones if zone.mask}
    size = _size(file, masks, path)
    inspected = [zone for zone in file.zones if not zone.ignore]
    rest = file.elsewhere or ("ignore" if inspected else "inspect")
    names = [zone.name for zone in inspected] + ([ELSEWHERE] if rest == "inspect" else [])
    budgets = [zone.false_alarms for zone in inspected] + [None] * (rest == "inspect")
    if not names:
        raise ConfigurationError(f"{path} ignores the whole picture. Name a zone to inspect.")
    if len(names) > MOST_ZONES:
        raise ConfigurationError(
            f"{path} has {len(names)} zones to inspect; at most {MOST_ZONES} are allowed. With a "
            "mask picture, several places can be one zone."
        )
    drawing = _Drawing(size, file.size, masks)
    raster = drawing.raster(file.zones, names, elsewhere=rest == "inspect")
    for number, name in enumerate(names, start=1):
        if not (raster == number).any():
            raise ConfigurationError(
                f"{path}: nothing is left of zone {name!r}: it lies outside the picture or under "
                "other zones. Draw it elsewhere, or leave it out."
            )
    return Drawn(names, raster, size, budgets, _acceptance(file))


def read_acceptance(
    rules: Path | None, mm_per_pixel: float | None, own: Acceptance | None
) -> Acceptance | None:
    """Return what regions are held to: a file of rules, or the model's `own`, at a scale.

    `mm_per_pixel` goes before the file's, the file's before the model's. Raises as `read_zones`.
    """
    if mm_per_pixel is not None and not 0 < mm_per_pixel < float("inf"):
        raise ConfigurationError(
            f"A pixel is {mm_per_pixel:g} mm wide; expected a number above 0, such as 0.02."
        )
    found = own
    if rules is not None:
        file = _read(rules)
        if file.zones:
            raise ConfigurationError(
                f"{rules} draws zones, which only 'makellos fit --zones' can learn. Leave only "
                "rules in the file."
            )
        found = _acceptance(file) or Acceptance()
        if found.mm_per_pixel is None and own is not None:
            found = found.model_copy(update={"mm_per_pixel": own.mm_per_pixel})
    if mm_per_pixel is not None:
        found = (found or Acceptance()).model_copy(update={"mm_per_pixel": mm_per_pixel})
    return found


def _acceptance(file: _File) -> Acceptance | None:
    if not file.rules and file.mm_per_pixel is None:
        return None
    return Acceptance(mm_per_pixel=file.mm_per_pixel, combine=file.combine, rules=file.rules)


def _read(path: Path) -> _File:
    advice = "Give a JSON file, or for zones a picture; see docs/large-pictures.md."
    data = read_json(path, ConfigurationError, advice)
    try:
        return _File.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(piece)[:80] for piece in first["loc"])
        raise ConfigurationError(
            f"{path} is not valid at {where or 'the top level'}: {first['msg']}. A zone has a name "
            "and a polygon or a mask, a rule has one limit; see docs/large-pictures.md."
        ) from error


def _check_names(zones: list[_Zone], path: Path) -> None:
    names = [zone.name for zone in zones if not zone.ignore]
    for zone in zones:
        what = f"{path}: zone {zone.name!r}"
        if (zone.polygon is None) == (zone.mask is None):
            raise ConfigurationError(f"{what} needs either a polygon or a mask.")
        if zone.ignore and zone.false_alarms is not None:
            raise ConfigurationError(
                f"{what} is ignored, so it cannot have a budget. Leave one out."
            )
        if not zone.ignore and (not zone.name or zone.name == ELSEWHERE):
            raise ConfigurationError(
                f"{what} needs another name: {ELSEWHERE!r} is what rows call the area outside all "
                "zones."
            )
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{path}: two zones share a name ({', '.join(names)}).")


def _size(file: _File, masks: dict[str, NDArray[np.bool_]], path: Path) -> tuple[int, int] | None:
    sizes = {(mask.shape[1], mask.shape[0]) for mask in masks.values()}
    sizes |= {file.size} if file.size is not None else set()
    if len(sizes) > 1:
        named = ", ".join(f"{width} x {height}" for width, height in sorted(sizes))
        raise ConfigurationError(f"{path}: size and masks differ ({named}). Use one size.")
    points = [point for zone in file.zones for point in zone.polygon or ()]
    size = next(iter(sizes), None)
    far = (1.0, 1.0) if file.size is None else file.size
    for x, y in points:
        if not (0 <= x <= far[0] and 0 <= y <= far[1]):
            raise ConfigurationError(
                f"{path}: the point {x:g}, {y:g} lies outside the picture, which ends at "
                f"{far[0]:g}, {far[1]:g}. Coordinates are relative, 0 to 1, or pixels where "
                '"size": [width, height] is given.'
            )
    return size


@dataclass(frozen=True)
class _Drawing:
    """Draw zones on pictures of `size` (width, height), None where all is relative.

    Polygons are in pixels of `unit`, None where they are relative, and `masks` go by file name.
    """

    size: tuple[int, int] | None
    unit: tuple[int, int] | None
    masks: dict[str, NDArray[np.bool_]]

    def raster(self, zones: list[_Zone], names: list[str], *, elsewhere: bool) -> NDArray[np.uint8]:
        """Return the number of each place's zone; the first of several has it, ignored before."""
        width, height = self.size or (_RELATIVE_SIDE, _RELATIVE_SIDE)
        shrink = min(1.0, LARGEST_RASTER / max(width, height))
        shape = (max(1, round(height * shrink)), max(1, round(width * shrink)))
        raster = np.full(shape, len(names) if elsewhere else IGNORED, np.uint8)
        drawn_first = [zone for zone in zones[::-1] if not zone.ignore]
        for zone in [*drawn_first, *(zone for zone in zones if zone.ignore)]:
            number = IGNORED if zone.ignore else names.index(zone.name) + 1
            raster[self._places(zone, shape)] = number
        return raster

    def _places(self, zone: _Zone, shape: tuple[int, int]) -> NDArray[np.bool_]:
        if zone.polygon is not None:
            return _fill(zone.polygon, shape, self.unit)
        drawn = self.masks[zone.mask or ""].astype(np.float32)
        # What is ignored grows when the mask shrinks, what is inspected does not.
        shrunk = cv2.resize(drawn, shape[::-1], interpolation=cv2.INTER_AREA)
        places: NDArray[np.bool_] = shrunk > (0.0 if zone.ignore else 1 - 1e-6)
        return places


def _fill(
    polygon: list[tuple[float, float]], shape: tuple[int, int], size: tuple[int, int] | None
) -> NDArray[np.bool_]:
    """Return the pixels that a polygon covers or touches; corners of pixels are whole numbers."""
    scale = np.array([shape[1], shape[0]]) / np.array(size or (1, 1))
    points = np.array(polygon) * scale - 0.5
    # A side along the border of pixels shall not touch those beyond it.
    points -= _HAIR * np.sign(points - (points.min(0) + points.max(0)) / 2)
    canvas = np.zeros(shape, np.uint8)
    fixed = np.round(points * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], 1, shift=_SHIFT)
    return canvas > 0
