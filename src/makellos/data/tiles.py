"""Tiles of parts: what a detector learns from where pictures are large."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Change, Part, group_names
from makellos.data.pictures import Picture

__all__ = ["Tile", "cut_parts", "cut_tile", "tile_starts"]

_KEPT = 2  # decoded pictures, for the tiles of one follow each other


def tile_starts(side: int, *, size: int, overlap: int, unit: int) -> list[int]:
    """Return where tiles of `size` pixels begin along a side, at multiples of `unit`.

    Neighbours share at least `overlap` pixels where `unit` allows it. The last tile reaches the
    end, or up to `unit` - 1 pixels past it.

    >>> tile_starts(300, size=128, overlap=32, unit=32)
    [0, 96, 192]
    """
    if side <= size:
        return [0]
    step = max(unit, (size - overlap) // unit * unit)
    last = -(-(side - size) // unit) * unit
    return [*range(0, last, step), last]


def cut_tile(picture: Picture, top: int, left: int, size: int) -> Picture:
    """Return a square of a picture; what lies past its end mirrors what lies before."""
    crop: Picture = picture[top : top + size, left : left + size]
    below, beside = size - crop.shape[0], size - crop.shape[1]
    if below or beside:
        mirrored = cv2.BORDER_REFLECT if min(crop.shape[:2]) == 1 else cv2.BORDER_REFLECT_101
        crop = cv2.copyMakeBorder(crop, 0, below, 0, beside, mirrored)
    return crop


class _Kept:
    """Read parts, and keep the last ones, for tiles of one follow each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._picture = lru_cache(_KEPT)(Part.read)
        self._mask = lru_cache(1)(Part.mask_in)

    def read(self, part: Part) -> Picture:
        with self._lock:
            return self._picture(part)

    def read_mask(self, part: Part, mask: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
        with self._lock:
            return self._mask(part, mask, size)


@dataclass(frozen=True)
class _KeptPart:
    """Read a part, or what was kept of it."""

    of: Part
    kept: _Kept = field(repr=False, compare=False)

    @property
    def path(self) -> Path:
        return self.of.path

    @property
    def is_whole(self) -> bool:
        return self.of.is_whole

    def read(self) -> Picture:
        return self.kept.read(self.of)

    def read_mask(self, mask: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
        return self.kept.read_mask(self.of, mask, size)


@dataclass(frozen=True)
class Tile(Change):
    """Cut a tile, `size` pixels square from `top` and `left` on, out of a picture of H×W `of`."""

    top: int
    left: int
    size: int
    of: tuple[int, int]
    keeps_all: ClassVar[bool] = False

    def __call__(self, picture: Picture) -> Picture:
        """Return the tile's pixels."""
        return cut_tile(picture, self.top, self.left, self.size)

    def on_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the tile's piece of a mask."""
        return cut_tile(mask.astype(np.uint8), self.top, self.left, self.size) > 0

    def size_before(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the whole picture."""
        del size
        return self.of


def cut_parts(
    parts: Sequence[Part], *, size: int, overlap: int, unit: int
) -> tuple[list[Part], list[int]]:
    """Return the tiles of parts, and for each the number of the part that it was cut from.

    The tiles of a part have its group, or are a group of their own, so that they stay together. Of
    a defective part those are kept whose piece of the mask shows damage; without a mask it is not
    known which do. Raises `InputError` for a picture or mask that cannot be read.
    """
    kept = _Kept()
    tiles: list[Part] = []
    owners: list[int] = []
    for number, (part, group) in enumerate(zip(parts, group_names(parts), strict=True)):
        if not part.is_good and part.mask is None:
            continue
        whole = replace(part, source=_KeptPart(part, kept), group=group)
        height, width = whole.read().shape[:2]
        for top in tile_starts(height, size=size, overlap=overlap, unit=unit):
            for left in tile_starts(width, size=size, overlap=overlap, unit=unit):
                cut = Tile(top, left, size, (height, width))
                tile = whole.changed(cut, name=f"{part.name} at {left},{top}")
                mask = None if part.is_good else tile.read_mask((size, size))
                if mask is None or mask.any():
                    tiles.append(tile)
                    owners.append(number)
    return tiles, owners
