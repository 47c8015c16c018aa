"""A part joined with its own reference, how it should look: one picture of both, H×W×6."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture, full_scale
from makellos.inspection.registration import Placed, Registration

__all__ = ["JOINED", "apart", "joined", "laid_onto_its_own", "stacked", "unstacked"]

JOINED = 6  # channels of a part and its reference together


def joined(picture: Picture, reference: Picture, white_level: int | None = None) -> Picture:
    """Return a picture H×W or H×W×3 with its reference behind it, in the size and depth of it.

    `white_level` is the value of white in 16 bit pictures of fewer bits.
    """
    height, width = picture.shape[:2]
    if reference.dtype != picture.dtype:
        white = full_scale(picture, white_level) / full_scale(reference, white_level)
        top = np.iinfo(picture.dtype).max
        reference = np.clip(np.rint(reference * white), 0, top).astype(picture.dtype)
    if reference.shape[:2] != (height, width):
        grows = reference.shape[0] < height or reference.shape[1] < width
        way = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
        reference = cv2.resize(reference, (width, height), interpolation=way)
    return np.concatenate([_coloured(picture), _coloured(reference)], axis=2)


def apart(picture: Picture) -> tuple[Picture, Picture]:
    """Return what was joined: the part and its reference, each H×W×3."""
    return picture[..., : JOINED // 2].copy(), picture[..., JOINED // 2 :].copy()


def laid_onto_its_own(picture: Picture) -> Placed:
    """Return a joined picture with the part laid onto the reference."""
    part, reference = apart(picture)
    placed = Registration.laid(part, reference)
    both = np.concatenate([placed.picture, reference], axis=2)
    return Placed(both, placed.motion, placed.correlation)


def stacked(picture: Picture) -> Picture:
    """Return a joined picture as a file of pictures holds it: the reference below, 2H×W×3."""
    both: NDArray[Any] = np.concatenate(apart(picture))
    return both


def unstacked(picture: Picture) -> Picture:
    """Return the joined picture that was `stacked`; raises `ValueError` for another picture."""
    if picture.ndim != 3 or picture.shape[0] % 2:
        raise ValueError("it holds no part and reference of one size")
    half = picture.shape[0] // 2
    return np.concatenate([picture[:half], picture[half:]], axis=2)


def _coloured(picture: Picture) -> Picture:
    if picture.ndim == 3:
        return picture
    coloured: NDArray[Any] = np.repeat(picture[..., np.newaxis], 3, axis=2)
    return coloured
