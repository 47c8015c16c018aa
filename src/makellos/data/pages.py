"""The pages of a TIFF, each of which is a part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from makellos.data._tiff_header import tiff_page
from makellos.data.parts import Part
from makellos.data.pictures import (
    Picture,
    begins_as_tiff,
    count_pages,
    decode_picture,
    read_encoded,
    read_mask,
)
from makellos.errors import InputError

__all__ = ["Page", "pages_of"]

_MASK_ADVICE = "Correct it, or leave the mask out."


@dataclass(frozen=True)
class Page:
    """Read one page of a TIFF, counted from 1."""

    path: Path
    number: int
    is_whole: ClassVar[bool] = True

    def read(self) -> Picture:
        """Return the page; raises `InputError` as `read_picture` does."""
        name = f"{self.path} page {self.number}"
        try:
            page = tiff_page(_kept(self.path, self.path.stat().st_mtime_ns), self.number)
        except (OSError, IndexError):
            raise InputError(f"{name} no longer exists. Check the file.") from None
        return decode_picture(page, name)

    def read_mask(self, mask: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask in a file; raises `InputError` where it has another size."""
        return read_mask(mask, size, _MASK_ADVICE)


def pages_of(path: Path) -> list[Part]:
    """Return the pages of a TIFF as parts, the file itself where it has one page or is none."""
    try:
        count = count_pages(read_encoded(path)) if begins_as_tiff(path) else 1
    except InputError:
        count = 1
    if count == 1:
        return [Part(source=path, name=str(path))]
    return [
        Part(source=Page(path, number), name=f"{path} page {number}")
        for number in range(1, count + 1)
    ]


@lru_cache(maxsize=2)  # the pages of a file come one after another
def _kept(path: Path, _changed_ns: int) -> bytes:
    return read_encoded(path)
