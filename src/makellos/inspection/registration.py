"""Registration: lay the picture of a part onto a reference picture, and its map back.

Gray pictures of a few hundred pixels, freed of slow changes of light, are compared. Where they lie
is refined to a fraction of a pixel by ECC (Evangelidis and Psarakis, Parametric Image Alignment
Using Enhanced Correlation Coefficient Maximization, PAMI 2008), from where they are, from a shift
that phase correlation finds, or from turn and shift of features. What a picture does not show of
the reference is taken from there, so that a network meets no edge that no part has.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from makellos.data.parts import Change
from makellos.data.pictures import Picture, decode_picture
from makellos.errors import InputError

__all__ = ["Placed", "Registered", "Registration"]

_KEPT = 1024  # pixels of the longer side of the reference that is kept
_SIDE = 224  # pixels of the longer side of what is compared
_SMALL = 64  # of what a shift is first looked for in
_LEAST = 0.35  # correlation of two pictures of one layout; unrelated ones stay below 0.2
_SURE = 0.6  # from which on a shift alone is taken for a good beginning
_MOST_SHIFT, _MOST_TURN, _MOST_SCALE = 0.25, 20.0, 0.12  # shares of a side; degrees; share
_MOST_SHEAR = 0.03
_STILL = 0.05  # pixels of what is compared that are no motion
_STEPS, _FINE = 40, 1e-4
_LIT = 32  # cells per side in which light is compared
_MOST_BYTES = 8 << 20
_RIM = 1 / 64  # share of a side beside what a picture does not show that is not judged
_CELL = 1.0  # cells along the rim of what a picture shows that are not judged

Floats = NDArray[np.float32]
Motion = NDArray[np.float64]  # 2×3, from places of the reference to places of the picture

_STAYS: Motion = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True, eq=False)
class Placed:
    """Hold a picture laid onto the reference, and how: `motion` leads from there to the picture.

    `motion` 2×3 is in shares of width and height, from the middle; `correlation` says how well the
    two agree. None for `motion`: it could not be laid, and is as it was.
    """

    picture: Picture
    motion: Motion | None
    correlation: float

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is to be said of a part that could not be laid onto the reference."""
        if self.motion is not None:
            return ()
        return (
            "The part could not be laid onto the reference picture (correlation "
            f"{self.correlation:.2f}; {_LEAST:g} is needed), so it was compared as it lies. "
            "Is it a different part, turned, or partly out of the picture?",
        )

    def shown(self, height: int, width: int) -> NDArray[np.bool_]:
        """Return which cells of a map h×w of the reference the picture shows, but for a rim.

        What lies within the rim of what it does not show looks odd to a network.
        """
        if self.motion is None:
            return np.ones((height, width), np.bool_)
        seen = _seen(self.motion, height, width).astype(np.uint8)
        rim = np.ones([2 * round(side * _RIM) + 1 for side in (height, width)], np.uint8)
        seen = cv2.erode(seen, rim, borderType=cv2.BORDER_CONSTANT, borderValue=1)
        return np.asarray(seen > 0)

    def back(self, anomaly_map: Floats) -> Floats:
        """Return a map h×w as it lies on the picture itself; what was not compared is least.

        A cell keeps its value: the highest of the map is that of the result.
        """
        if self.motion is None:
            return anomaly_map
        height, width = anomaly_map.shape
        kept = anomaly_map.copy()
        seen = self.shown(height, width)
        lowest = float(anomaly_map[seen].min()) if seen.any() else 0.0
        kept[~seen] = min(0.0, lowest)
        motion = _scaled(self.motion, width, height)
        found: Floats = cv2.warpAffine(
            kept,
            motion,
            (width, height),
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=min(0.0, lowest),
        )
        rows, columns = np.nonzero(seen)
        there = motion @ np.stack([columns, rows, np.ones_like(rows)])
        to = np.rint(there).astype(np.intp)
        inside = (to >= 0).all(0) & (to[0] < width) & (to[1] < height)
        np.maximum.at(found, (to[1, inside], to[0, inside]), kept[rows[inside], columns[inside]])
        return found


class Registration(BaseModel):
    """Lay pictures onto a reference: a picture of 8 bits as PNG in base64.

    A part may lie shifted by a quarter of the picture, turned by 20 degrees and an eighth larger or
    smaller than the reference.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: str = Field(max_length=_MOST_BYTES, repr=False)

    @model_validator(mode="after")
    def _reference_is_a_picture(self) -> Self:
        _template(self.reference)
        return self

    @classmethod
    def onto(cls, picture: Picture) -> Self:
        """Return the registration onto a picture H×W or H×W×3."""
        pixels = _kept(picture)
        stored = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        raw = cv2.imencode(".png", stored)[1].tobytes()
        return cls(reference=base64.b64encode(raw).decode("ascii"))

    def __call__(self, picture: Picture) -> Placed:
        """Return a picture H×W or H×W×3 laid onto the reference, in its own size and depth."""
        return _laid(picture, *_template(self.reference))

    @staticmethod
    def laid(picture: Picture, onto: Picture) -> Placed:
        """Return a picture laid onto another as `Registration.onto` that one does."""
        pixels = _kept(onto)
        return _laid(picture, pixels, _compared(pixels))


def _laid(picture: Picture, reference: NDArray[np.uint8], template: Floats) -> Placed:
    size = template.shape[::-1]
    seen = _details(cv2.resize(_gray(picture), size, interpolation=cv2.INTER_AREA))
    motion, correlation = _find(template, seen)
    if motion is None:
        return Placed(picture, None, correlation)
    if _shift_of(motion - _STAYS, size) < _STILL:
        return Placed(picture, _STAYS, correlation)
    shares = _scaled(motion, 1 / size[0], 1 / size[1])
    height, width = picture.shape[:2]
    laid: Any = cv2.warpAffine(
        picture,
        _scaled(shares, width, height),
        (width, height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return Placed(_completed(laid, reference, shares), shares, correlation)


@dataclass(frozen=True)
class Registered(Change):
    """Lay a picture onto the reference; for good parts, since masks are not laid."""

    registration: Registration

    def __call__(self, picture: Picture) -> Picture:
        """Return the picture laid onto the reference, or as it is where it cannot be laid."""
        return self.registration(picture).picture


@lru_cache(maxsize=8)
def _template(reference: str) -> tuple[NDArray[np.uint8], Floats]:
    """Return a reference and its details; raises `ValueError` for one that is no picture."""
    try:
        picture = decode_picture(base64.b64decode(reference, validate=True), "the reference")
    except InputError as error:
        raise ValueError(str(error)) from error
    if picture.dtype != np.uint8 or max(picture.shape[:2]) > _KEPT or min(picture.shape[:2]) < 16:
        raise ValueError(f"the reference is no 8 bit picture of 16 to {_KEPT} pixels per side")
    return np.asarray(picture, np.uint8), _compared(picture)


def _kept(picture: Picture) -> NDArray[np.uint8]:
    """Return a reference as it is kept, in 8 bits and not too large."""
    scale = min(1.0, _KEPT / max(picture.shape[:2]))
    size = [max(16, round(side * scale)) for side in picture.shape[1::-1]]
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)
    return np.asarray(np.rint(small * (255 / max(float(small.max()), 1e-6))), np.uint8)


def _compared(picture: Picture) -> Floats:
    """Return the details of a reference in the size in which pictures are compared."""
    gray = _gray(picture)
    scale = min(1.0, _SIDE / max(gray.shape))
    size = [max(16, round(side * scale)) for side in gray.shape[::-1]]
    return _details(cv2.resize(gray, size, interpolation=cv2.INTER_AREA))


def _completed(laid: Picture, reference: NDArray[np.uint8], motion: Motion) -> Picture:
    """Return a laid picture with what it does not show taken from the reference, in its light."""
    height, width = laid.shape[:2]
    missing = ~_seen(motion, height, width)
    if not missing.any() or missing.all():
        return laid
    theirs: Any = reference
    if theirs.ndim > laid.ndim:
        theirs = cv2.cvtColor(theirs, cv2.COLOR_RGB2GRAY)
    elif theirs.ndim < laid.ndim:
        theirs = cv2.cvtColor(theirs, cv2.COLOR_GRAY2RGB)
    theirs = cv2.resize(theirs, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    # Light changes slowly: what it does to the places that are seen is continued beyond them.
    shown = (~missing).astype(np.float32).reshape(height, width, *(1,) * (laid.ndim - 2))
    ours, same = (
        cv2.GaussianBlur(
            cv2.resize(each * shown, (_LIT, _LIT), interpolation=cv2.INTER_AREA), (0, 0), _LIT / 8
        )
        for each in (laid.astype(np.float32), theirs)
    )
    light = cv2.resize((ours + 1e-2) / (same + 1e-2), (width, height))
    top = np.iinfo(laid.dtype).max if laid.dtype.kind == "u" else 1
    result = laid.copy()
    result[missing] = np.clip(theirs * light, 0, top)[missing].astype(laid.dtype)
    return result


def _gray(picture: Picture) -> Floats:
    """Return a picture in [0, 1], whatever its depth and colours."""
    gray = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    white = 1.0 if gray.dtype.kind == "f" else float(np.iinfo(gray.dtype).max)
    return np.asarray(gray, np.float32) / np.float32(white)


def _details(gray: Floats) -> Floats:
    """Return what is left of a picture without noise and slow changes of light, of unit size."""
    fine = cv2.GaussianBlur(gray, (0, 0), 0.8)
    fine -= cv2.GaussianBlur(gray, (0, 0), max(gray.shape) / 16)
    size = float(np.sqrt(np.mean(np.square(fine))))
    return np.asarray(np.clip(fine / max(size, 1e-4), -4, 4), np.float32)


def _find(template: Floats, seen: Floats) -> tuple[Motion | None, float]:
    """Return the motion from the template to a picture of its size, and how well they agree."""
    best, correlation = _refined(template, seen, _STAYS)
    if correlation < _SURE:
        for begin in (_shifted(template, seen), _turned(template, seen)):
            if begin is not None:
                motion, found = _refined(template, seen, begin)
                if found > correlation:
                    best, correlation = motion, found
            if correlation >= _SURE:
                break
    return (best if correlation >= _LEAST else None), correlation


def _shifted(template: Floats, seen: Floats) -> Motion:
    """Return the shift that phase correlation finds."""
    window = cv2.createHanningWindow(template.shape[::-1], cv2.CV_32F)
    # OpenCV applies the window to pictures of some sizes in place.
    (x, y), _ = cv2.phaseCorrelate(template.copy(), seen.copy(), window)
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])


def _turned(template: Floats, seen: Floats) -> Motion | None:
    """Return turn, scale and shift that most features agree about; None where few are found."""
    finder = cv2.ORB.create(400, 1.15, 6, edgeThreshold=12, patchSize=24, fastThreshold=8)
    found = [
        finder.detectAndCompute(np.clip(each * 32 + 128, 0, 255).astype(np.uint8), None)
        for each in (template, seen)
    ]
    (ours, first), (theirs, second) = found
    if first is None or second is None:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(first, second)
    if len(pairs) < 8:
        return None
    a = np.array([ours[pair.queryIdx].pt for pair in pairs])
    b = np.array([theirs[pair.trainIdx].pt for pair in pairs])
    motion, inliers = cv2.estimateAffinePartial2D(a, b, ransacReprojThreshold=2.5, maxIters=2000)
    return None if motion is None or int(inliers.sum()) < 8 else np.asarray(motion, np.float64)


def _refined(template: Floats, seen: Floats, begin: Motion) -> tuple[Motion | None, float]:
    """Return a motion that ECC has refined from coarse to fine, and the correlation it reaches."""
    motion = begin
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, _FINE)
    correlation = 0.0
    for factor, kind in ((0.5, cv2.MOTION_EUCLIDEAN), (1.0, cv2.MOTION_AFFINE)):
        small = [_resized(each, factor) for each in (template, seen)]
        moved = _scaled(motion, factor, factor).astype(np.float32)
        if kind == cv2.MOTION_EUCLIDEAN:
            moved = _without_scale(moved, small[0].shape)
        try:
            correlation, moved = cv2.findTransformECC(
                small[0], small[1], moved, kind, criteria, None, 1
            )
        except cv2.error:  # what it says of pictures without details, and of no overlap
            return None, 0.0
        motion = _scaled(moved.astype(np.float64), 1 / factor, 1 / factor)
    if not _is_plausible(motion, template.shape[::-1]):
        return None, 0.0
    return motion, float(correlation)


def _resized(picture: Floats, factor: float) -> Floats:
    if factor == 1:
        return picture
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


def _without_scale(motion: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a turn and a shift that leave the middle where the motion puts it."""
    angle = math.atan2(motion[1, 0], motion[0, 0])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = np.array([shape[1] / 2, shape[0] / 2])
    shift = motion[:, :2] @ middle + motion[:, 2] - turn @ middle
    return np.column_stack([turn, shift]).astype(np.float32)


def _is_plausible(motion: Motion, size: tuple[int, ...]) -> bool:
    """Tell whether a motion is one that a part may lie by."""
    if not np.isfinite(motion).all():
        return False
    linear = motion[:, :2]
    scale = math.sqrt(max(float(np.linalg.det(linear)), 1e-9))
    angle = math.atan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = np.array([size[0] / 2, size[1] / 2])
    shift = (linear @ middle + motion[:, 2] - middle) / np.array(size)
    return bool(
        abs(scale - 1) <= _MOST_SCALE
        and abs(math.degrees(angle)) <= _MOST_TURN
        and np.abs(shift).max() <= _MOST_SHIFT
        and np.abs(linear / scale - turn).max() <= _MOST_SHEAR
    )


def _scaled(motion: NDArray[Any], x: float, y: float) -> Motion:
    """Return a motion between grids `x` times as wide and `y` times as high, of pixels or cells.

    Pixels have their middle at whole numbers, and grids of all sizes share their outer edges.
    """
    here, there = np.diag([x, y]), np.array([(x - 1) / 2, (y - 1) / 2])
    linear = here @ motion[:, :2] @ np.linalg.inv(here)
    return np.column_stack([linear, here @ motion[:, 2] + there - linear @ there])


def _shift_of(change: Motion, size: tuple[int, ...]) -> float:
    """Return how far a change of the motion moves the corner that it moves most."""
    corners = np.array([[x, y, 1.0] for x in (0, size[0]) for y in (0, size[1])])
    return float(np.abs(change @ corners.T).max())


def _seen(motion: Motion, height: int, width: int) -> NDArray[np.bool_]:
    """Return which cells of a map h×w of the reference the picture shows, but for its rim."""
    rows, columns = np.mgrid[:height, :width]
    places = np.stack([columns.ravel(), rows.ravel(), np.ones(rows.size)])
    x, y = _scaled(motion, width, height) @ places
    rim = -0.5 + _CELL / 2 if np.array_equal(motion, _STAYS) else -0.5 + _CELL
    inside = (x >= rim) & (x <= width - 1 - rim) & (y >= rim) & (y <= height - 1 - rim)
    seen: NDArray[np.bool_] = inside.reshape(height, width)
    return seen
