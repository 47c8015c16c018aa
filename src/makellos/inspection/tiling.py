"""Tiles: a large picture is cut, each tile goes through the graph, and their maps become one.

Tiles begin at multiples of a unit that is whole in pixels of the picture, in cells of the map and
in the stride of the network. So a cell is the same patch in every tile that holds it: for a method
that commutes with shifts, the map of the tiles is that of the whole picture. Of two neighbours
each decides its half of what they share, where its context was there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from makellos.data.tiles import tile_starts
from makellos.errors import ConfigurationError

__all__ = ["STRIDE", "Mosaic", "Tiling"]

STRIDE = 32  # pixels of its input that the deepest cell of a network stands for


class Tiling(BaseModel):
    """Say how pictures are cut: square tiles of `size` pixels, of which neighbours share `overlap`.

    Both are in pixels of the picture as it is stored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=64, le=8192, multiple_of=STRIDE)
    overlap: int = Field(ge=0)

    @model_validator(mode="after")
    def _overlap_is_no_more_than_half(self) -> Self:
        if self.overlap > self.size // 2:
            raise ValueError(f"tiles of {self.size} pixels cannot share {self.overlap}")
        return self

    @classmethod
    def of(cls, size: int, overlap: int | None = None) -> Self:
        """Return the tiling that a user asked for; a quarter of a tile is shared unless told.

        Raises `ConfigurationError` for sizes that are not accepted.
        """
        if size % STRIDE or not 64 <= size <= 8192:
            nearest = min(8192, max(64, round(size / STRIDE) * STRIDE))
            raise ConfigurationError(
                f"The tile size is {size} pixels; expected a multiple of {STRIDE} from 64 to "
                f"8192. Use {nearest}."
            )
        shared = size // 4 if overlap is None else overlap
        if not 0 <= shared <= size // 2:
            raise ConfigurationError(
                f"Tiles of {size} pixels share {shared} with their neighbours; expected 0 to "
                f"{size // 2}, half a tile."
            )
        return cls(size=size, overlap=shared)

    def __str__(self) -> str:
        """Return the tiling in words."""
        return f"{self.size} x {self.size} pixels, {self.overlap} shared with each neighbour"


@dataclass(frozen=True)
class _Place:
    """Place a tile along one side: its first pixel, its first cell, the cells that it decides."""

    start: int
    origin: int
    first: int
    end: int


class Mosaic:
    """Join the maps of tiles into the map of a picture.

    `picture` is its height and width, `tile` those of the graph's input, `cells` those of the
    graph's map. The whole map has as many cells as it takes to cover the picture: the last ones
    may reach past its end. Raises `ConfigurationError` where a tile cannot be laid onto its cells.
    """

    def __init__(
        self,
        tiling: Tiling,
        picture: tuple[int, int],
        tile: tuple[int, int],
        cells: tuple[int, int],
    ) -> None:
        axes = [_places(tiling, *axis) for axis in zip(picture, tile, cells, strict=True)]
        self._rows, self._columns = axes
        self.map: NDArray[np.float32] = np.zeros(
            (self._rows[-1].end, self._columns[-1].end), np.float32
        )

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Return the first row and column of each tile, in pixels."""
        return [(row.start, column.start) for row in self._rows for column in self._columns]

    def put(self, number: int, anomaly_map: NDArray[np.float32]) -> None:
        """Lay the map h×w of the tile of this number onto the cells that it decides."""
        row = self._rows[number // len(self._columns)]
        column = self._columns[number % len(self._columns)]
        self.map[row.first : row.end, column.first : column.end] = anomaly_map[
            row.first - row.origin : row.end - row.origin,
            column.first - column.origin : column.end - column.origin,
        ]


def _places(tiling: Tiling, side: int, tile: int, cells: int) -> list[_Place]:
    unit = _unit(tiling, tile, cells)
    starts = tile_starts(side, size=tiling.size, overlap=tiling.overlap, unit=unit)
    origins = [start * cells // tiling.size for start in starts]
    # Half of what two tiles share belongs to each; the first and the last reach the border.
    seams = [(before + cells + after) // 2 for before, after in pairwise(origins)]
    whole = -(-side * cells // tiling.size)
    return [
        _Place(start, origin, first, end)
        for start, origin, first, end in zip(
            starts, origins, [0, *seams], [*seams, whole], strict=True
        )
    ]


def _unit(tiling: Tiling, tile: int, cells: int) -> int:
    """Return the smallest shift that is whole in pixels, in cells and in strides of the network."""
    size = tiling.size
    of_cells = size // math.gcd(size, cells)
    of_strides = size * STRIDE // math.gcd(size * STRIDE, tile)
    both = math.lcm(of_cells, of_strides)
    room = size - tiling.overlap
    for unit in (both, of_cells):
        if unit <= room:
            return unit
    raise ConfigurationError(
        f"Tiles of {size} pixels become maps of {cells} cells, and cells meet only every "
        f"{of_cells} pixels. Use tiles of a multiple of {cells} pixels, such as "
        f"--tile {math.lcm(cells, STRIDE)}, or another image_size."
    )
