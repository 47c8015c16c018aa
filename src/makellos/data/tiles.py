"""Tiles of parts: what a detector learns from where pictures are large."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part, group_names
from makellos.data.pictures import Picture, read_mask, read_picture

__all__ = ["TilePart", "cut_parts", "cut_tile", "mask_of", "tile_starts"]

_ADVICE = "Mend it, or leave the mask out."
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


class _Decoded:
    """Decode pictures, and keep the last ones; threads may ask side by side."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Path, Picture] = OrderedDict()
        self._mask: tuple[Path, Picture] | None = None

    def read(self, path: Path) -> Picture:
        with self._lock:
            if path not in self._kept:
                while len(self._kept) >= _KEPT:
                    self._kept.popitem(last=False)
                self._kept[path] = read_picture(path)
            self._kept.move_to_end(path)
            return self._kept[path]

    def read_mask(self, path: Path, size: tuple[int, ...]) -> Picture:
        """Return a mask H×W, 1 where damaged."""
        with self._lock:
            if self._mask is None or self._mask[0] != path:
                self._mask = path, read_mask(path, size, _ADVICE).astype(np.uint8)
            return self._mask[1]


@dataclass(frozen=True, kw_only=True)
class TilePart(Part):
    """Name one tile of a part's picture: `size` pixels square, from `top` and `left` on."""

    top: int
    left: int
    size: int
    decoded: _Decoded = field(repr=False, compare=False)

    def read(self) -> Picture:
        """Return the tile's pixels; raises `InputError` for a file that cannot be read."""
        return cut_tile(self.decoded.read(self.path), self.top, self.left, self.size)

    def cut_mask(self, mask: Path) -> NDArray[np.bool_]:
        """Return the tile's piece of the part's mask; raises as `read_mask` does."""
        size = self.decoded.read(self.path).shape[:2]
        whole = self.decoded.read_mask(mask, size)
        return cut_tile(whole, self.top, self.left, self.size) > 0


def cut_parts(
    parts: Sequence[Part], *, size: int, overlap: int, unit: int
) -> tuple[list[Part], list[int]]:
    """Return the tiles of parts, and for each the number of the part that it was cut from.

    The tiles of a part have its group, or are a group of their own, so that they stay together. Of
    a defective part those are kept whose piece of the mask shows damage; without a mask it is not
    known which do. Raises `InputError` for a picture or mask that cannot be read.
    """
    decoded = _Decoded()
    tiles: list[Part] = []
    owners: list[int] = []
    for number, (part, group) in enumerate(zip(parts, group_names(parts), strict=True)):
        mask = None if part.is_good else part.mask
        if not part.is_good and mask is None:
            continue
        height, width = decoded.read(part.path).shape[:2]
        for top in tile_starts(height, size=size, overlap=overlap, unit=unit):
            for left in tile_starts(width, size=size, overlap=overlap, unit=unit):
                tile = TilePart(
                    path=part.path,
                    name=f"{part.name} at {left},{top}",
                    label=part.label,
                    split=part.split,
                    group=group,
                    mask=part.mask,
                    top=top,
                    left=left,
                    size=size,
                    decoded=decoded,
                )
                if mask is None or tile.cut_mask(mask).any():
                    tiles.append(tile)
                    owners.append(number)
    return tiles, owners


def mask_of(part: Part, mask: Path, size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the `mask` of a part's picture of a `size` H, W, or the piece of it of a tile.

    Raises `InputError` where it has another size, or cannot be read.
    """
    if isinstance(part, TilePart):
        return part.cut_mask(mask)
    return read_mask(mask, size, _ADVICE)
