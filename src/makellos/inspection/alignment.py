"""Alignment: turn the part on a picture to one pose, crop it, and turn its map back.

The part is found by its silhouette and turned by its longer axis, or by what agrees best with a
mean part at any angle. Where it lies is refined to a fraction of a pixel by ECC (Evangelidis and
Psarakis, Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization, PAMI
2008). It is moved and turned, never stretched.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from makellos.data.parts import Part
from makellos.data.pictures import Picture, decode_picture
from makellos.errors import InputError
from makellos.inspection.silhouette import Silhouette, find_silhouette

__all__ = [
    "SIDE",
    "Aligned",
    "Alignment",
    "InOnePose",
    "Motion",
    "Way",
    "centred",
    "in_one_pose",
    "looked_at",
    "mean_part",
    "pose_of",
    "share_beyond",
]

SIDE = 256  # pixels of the longer side of a picture that poses are found on
_COARSE = 64  # of that on which all angles are tried
_N_ANGLES = 48
_N_BEST = 3  # angles that are refined
_BRIGHTEST = 0.999
_STEPS, _FINE, _BLUR = 50, 2e-5, 5
_REACH = 0.06  # share of the longer side that a pose is refined by
_MOST_CELLS = 512  # per side of a map that is turned back
_MOST_BYTES = 1 << 20
_RIM = 1 / 64  # share of a side beside what a picture does not show that is not judged
_WIDE = 1 / 16  # the same of the ground, where the border continued beyond looks odd

Floats = NDArray[np.float32]
Motion = NDArray[np.float64]  # 2×3, from places of the aligned picture to places of the other
Way = Literal["rotate", "register"]


@dataclass(frozen=True, eq=False)
class Aligned:
    """Hold a picture in one pose, and how it came there.

    `motion` 2×3 leads from its pixels to those of the picture of `size` H, W that it was cut from.
    `correlation` says how well it agrees with the mean part; `least` is what it has to reach.
    `beyond` is the share of the outline that lies outside, of `most_beyond` at most.
    """

    picture: Picture
    motion: Motion
    size: tuple[int, int]
    correlation: float
    least: float
    beyond: float = 0.0
    most_beyond: float = 1.0

    @property
    def is_sure(self) -> bool:
        """Tell whether the part agrees with the mean part as good ones do, and is all inside."""
        return self.correlation >= self.least and self.beyond <= self.most_beyond

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what is to be said of a part whose pose is in doubt."""
        if self.is_sure:
            return ()
        if self.correlation >= self.least:
            return (
                f"{self.beyond:.0%} of what stands out from the background lies outside the crop "
                "and was not inspected. Are there several parts, or is the part longer than good "
                "ones?",
            )
        return (
            "The part could not be turned to the pose of the good parts (correlation "
            f"{self.correlation:.2f}; {self.least:.2f} is needed). Is it another part, hidden, "
            "or partly out of the picture?",
        )

    def shown(self, height: int, width: int, rim: float = _RIM) -> NDArray[np.bool_]:
        """Return which cells of a map h×w the picture shows, but for a rim, as a share of sides."""
        rows, columns = np.mgrid[:height, :width]
        places = np.stack([columns.ravel(), rows.ravel(), np.ones(rows.size)])
        x, y = self._from_cells(height, width) @ places
        seen = (x >= 0) & (x <= self.size[1] - 1) & (y >= 0) & (y <= self.size[0] - 1)
        grid = seen.reshape(height, width).astype(np.uint8)
        kernel = np.ones([2 * round(side * rim) + 1 for side in (height, width)], np.uint8)
        return np.asarray(
            cv2.erode(grid, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0, bool
        )

    def kept(self, anomaly_map: Floats, rim: float = _RIM) -> Floats:
        """Return a map h×w whose cells that the picture does not show have its lowest value."""
        seen = self.shown(anomaly_map.shape[0], anomaly_map.shape[1], rim)
        lowest = float(anomaly_map[seen].min()) if seen.any() else 0.0
        return np.where(seen, anomaly_map, np.float32(lowest))

    def place(self, row: float, column: float) -> tuple[float, float]:
        """Return where a place in shares of the picture itself lies, in shares of the aligned."""
        height, width = self.picture.shape[:2]
        there = np.array([column * self.size[1] - 0.5, row * self.size[0] - 0.5])
        x, y = np.linalg.inv(self.motion[:, :2]) @ (there - self.motion[:, 2]) + 0.5
        return float(np.clip(y / height, 0, 1)), float(np.clip(x / width, 0, 1))

    def back_ground(self, anomaly_map: Floats) -> Floats:
        """Return the map h×w of the ground as `back` does, but for a wide rim."""
        return self.back(self.kept(anomaly_map, _WIDE))

    def back(self, anomaly_map: Floats) -> Floats:
        """Return a map h×w as it lies on the picture itself; what was not compared is least.

        Its cells are as fine as those of the map. A cell keeps its value: the highest of the map
        is that of the result.
        """
        height, width = anomaly_map.shape
        kept, seen = self.kept(anomaly_map), self.shown(height, width)
        lowest = float(kept.min())
        motion, size = self._to_grid(height, width)
        found: Floats = cv2.warpAffine(
            kept,
            motion,
            size,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=lowest,
        )
        rows, columns = np.nonzero(seen)
        to = np.rint(motion @ np.stack([columns, rows, np.ones_like(rows)])).astype(np.intp)
        inside = (to >= 0).all(0) & (to[0] < size[0]) & (to[1] < size[1])
        np.maximum.at(found, (to[1, inside], to[0, inside]), kept[rows[inside], columns[inside]])
        return found

    def back_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask h×w of the ground as it lies on the picture itself, but for a wide rim."""
        mask = mask & self.shown(mask.shape[0], mask.shape[1], _WIDE)
        motion, size = self._to_grid(*mask.shape)
        return np.asarray(
            cv2.warpAffine(mask.astype(np.uint8), motion, size, flags=cv2.INTER_NEAREST) > 0, bool
        )

    def back_picture(self, pixels: Floats, around: Picture, white: float) -> Floats:
        """Return pixels C×H×W in [0, 1] as they lie on the picture `around`, which surrounds them.

        `white` is its value of white.
        """
        height, width = pixels.shape[1:]
        motion, size = self._to_grid(height, width)
        inside = cv2.warpAffine(np.ones((height, width), np.float32), motion, size) > 0.999
        whole = cv2.resize(around, size, interpolation=cv2.INTER_AREA).astype(np.float32) / white
        if whole.ndim == 3 and len(pixels) == 1:
            whole = cv2.cvtColor(whole, cv2.COLOR_RGB2GRAY)
        result = np.empty((len(pixels), size[1], size[0]), np.float32)
        for channel, plane in enumerate(pixels):
            beside = whole if whole.ndim == 2 else whole[..., channel]
            turned = cv2.warpAffine(plane, motion, size, flags=cv2.INTER_LINEAR)
            result[channel] = np.where(inside, turned, np.minimum(beside, 1))
        return result

    def on_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask H×W of the picture itself as it lies on the aligned one."""
        height, width = self.picture.shape[:2]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        white = mask.astype(np.uint8) * np.uint8(255)
        return np.asarray(cv2.warpAffine(white, self.motion, (width, height), flags=flags) > 127)

    def _from_cells(self, height: int, width: int) -> Motion:
        """Return the motion from cells of a map h×w to pixels of the picture itself."""
        own = self.picture.shape
        return self.motion @ _square(_grid(own[1] / width, own[0] / height))

    def _to_grid(self, height: int, width: int) -> tuple[Motion, tuple[int, int]]:
        """Return the motion of a map's cells to those of the whole picture, and these W, H."""
        own, (rows, columns) = self.picture.shape, self.size
        cell = min(own[0] / height, own[1] / width)
        cell = max(cell, max(rows, columns) / _MOST_CELLS)
        size = max(1, round(columns / cell)), max(1, round(rows / cell))
        onto = _grid(size[0] / columns, size[1] / rows)
        return onto @ _square(self._from_cells(height, width)), size


class Alignment(BaseModel):
    """Turn pictures to the pose of a mean part, and crop them.

    `way` says how the part is found, `reference` is the mean part as PNG of 8 bits in base64, at
    the scale at which the longer side of a picture has `SIDE` pixels. `least` is the correlation
    with it that a part has to reach. What compares parts place by place needs them `refined` to a
    fraction of a pixel; others do with the pose of the outline, which takes a third of the time.
    A part of whose outline more than the share `beyond` lies outside the crop is not trusted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    way: Way
    reference: str = Field(max_length=_MOST_BYTES, repr=False)
    least: float = Field(ge=-1, le=1)
    refined: bool = True
    beyond: float = Field(default=1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _reference_is_a_picture(self) -> Self:
        _template(self.reference)
        return self

    def __str__(self) -> str:
        """Return in words what is done with a part."""
        how = "by the outline" if self.way == "rotate" else "by the best match"
        return f"turned to one pose {how}, and cropped"

    @classmethod
    def onto(
        cls, way: Way, mean: Floats, least: float, *, refined: bool = True, beyond: float = 1.0
    ) -> Self:
        """Return the alignment onto a mean part h×w in [0, 1]."""
        pixels = np.rint(np.clip(mean, 0, 1) * 255).astype(np.uint8)
        raw = cv2.imencode(".png", pixels)[1].tobytes()
        encoded = base64.b64encode(raw).decode("ascii")
        return cls(way=way, reference=encoded, least=least, refined=refined, beyond=beyond)

    def __call__(self, picture: Picture) -> Aligned:
        """Return a picture H×W or H×W×3 turned and cropped, in its own depth and resolution."""
        template = _template(self.reference)
        small, scale = looked_at(picture)
        outline = find_silhouette(small) if self.way == "rotate" else None
        motion, correlation = pose_of(small, template, outline, self.least, refined=self.refined)
        height, width = (max(1, round(side / scale)) for side in template.shape)
        # The crop's edges are those of the template, but for the rounding of its size.
        whole = _grid(1 / scale, 1 / scale) @ _square(motion) @ _square(_grid(scale, scale))
        laid: Any = cv2.warpAffine(
            picture,
            whole,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        rows, columns = picture.shape[:2]
        beyond = 0.0
        if outline is not None and self.beyond < 1:
            beyond = share_beyond(outline, motion, template.shape)
        return Aligned(laid, whole, (rows, columns), correlation, self.least, beyond, self.beyond)


@dataclass(frozen=True)
class InOnePose:
    """Read a part in the pose of good ones."""

    of: Part
    alignment: Alignment

    @property
    def path(self) -> Path:
        """Return the file of the part."""
        return self.of.path

    @property
    def is_whole(self) -> bool:
        """Tell whether all of the part is seen."""
        return self.of.is_whole

    def read(self) -> Picture:
        """Return the turned and cropped picture."""
        return self.alignment(self.of.read()).picture

    def read_mask(self, mask: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask of the part, turned and cropped as its picture is."""
        aligned = self.alignment(self.of.read())
        del size  # is that of the aligned picture
        return aligned.on_mask(self.of.mask_in(mask, aligned.size))


def in_one_pose(parts: Sequence[Part], alignment: Alignment | None) -> list[Part]:
    """Return parts as they are seen in one pose; as they are without an alignment."""
    if alignment is None:
        return list(parts)
    return [replace(part, source=InOnePose(part, alignment)) for part in parts]


def looked_at(picture: Picture) -> tuple[Floats, float]:
    """Return a picture at the size on which poses are found, in shares of its white, and its scale.

    Its white is that of its brightest thousandth: a pose depends neither on exposure nor depth.
    """
    scale = SIDE / max(picture.shape[:2])
    small: Any = picture
    small = cv2.resize(small, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    pixels = np.asarray(small, np.float32)
    white = max(float(np.quantile(pixels[::2, ::2], _BRIGHTEST)), 1e-6)
    return np.minimum(pixels / np.float32(white), 1), scale


def pose_of(
    picture: Floats,
    template: Floats,
    outline: Silhouette | None,
    enough: float,
    *,
    refined: bool = True,
) -> tuple[Motion, float]:
    """Return how a mean part h×w lies on a picture h×w×C, and their correlation.

    Where the two poses of its `outline` do not reach `enough`, all angles are tried. The pose is
    that of the outline itself unless it is to be `refined`.
    """
    gray = _gray(picture)
    found = None
    if outline is not None:
        poses = _lying_along(outline, template.shape)
        found = _best(gray, template, poses) if refined else _agreeing(gray, template, poses)
        if found[1] >= enough:
            return found
    tried = _best(gray, template, _at_any_angle(gray, template))
    return tried if found is None or tried[1] > found[1] else found


def mean_part(
    pictures: Sequence[Floats], motions: Sequence[Motion], size: tuple[int, int]
) -> Floats:
    """Return the mean in gray of parts of a size H, W, each at its pose."""
    pairs = zip(pictures, motions, strict=True)
    laid = [_laid(_gray(each), motion, size) for each, motion in pairs]
    return np.asarray(np.mean(laid, axis=0), np.float32)


def share_beyond(outline: Silhouette, motion: Motion, shape: tuple[int, ...]) -> float:
    """Return the share of an outline that lies outside a template h×w at a pose."""
    mask = outline.mask.astype(np.uint8)
    inside = cv2.warpAffine(np.ones(shape, np.uint8), motion, mask.shape[::-1], flags=0)
    return 1 - int((mask & inside).sum()) / max(1, int(mask.sum()))


def _best(gray: Floats, template: Floats, poses: Sequence[Motion]) -> tuple[Motion, float]:
    """Return the pose that agrees best once it is refined, and its correlation."""
    coarse = [_refined(gray, template, pose, 0.5) for pose in poses]
    best, _ = max(coarse, key=lambda each: each[1])
    return _refined(gray, template, best, 1.0)


def _agreeing(gray: Floats, template: Floats, poses: Sequence[Motion]) -> tuple[Motion, float]:
    """Return the pose that agrees best as it is, and its correlation."""
    found = [_agreement(gray, template, pose) for pose in poses]
    best = int(np.argmax(found))
    return poses[best], found[best]


def _lying_along(silhouette: Silhouette, shape: tuple[int, ...]) -> list[Motion]:
    """Return the two poses of a part whose longer axis lies along that of a template h×w."""
    own = 0.0 if shape[1] >= shape[0] else 90.0
    middle = silhouette.x, silhouette.y
    return [centred(silhouette.degrees - own + half, middle, shape) for half in (0.0, 180.0)]


def centred(degrees: float, middle: tuple[float, float], shape: tuple[int, ...]) -> Motion:
    """Return the motion of a template h×w, turned by an angle, to a middle in pixels."""
    turn = math.radians(degrees)
    linear = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    own = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    return np.column_stack([linear, np.array(middle) - linear @ own])


def _at_any_angle(gray: Floats, template: Floats) -> list[Motion]:
    """Return the poses at which a template agrees best with a picture, roughly."""
    scale = _COARSE / SIDE
    size = [max(8, round(side * scale)) for side in gray.shape[::-1]]
    small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    own = cv2.resize(
        template,
        [max(4, round(side * scale)) for side in template.shape[::-1]],
        interpolation=cv2.INTER_AREA,
    )
    reach = math.ceil(math.hypot(*own.shape) / 2)
    padded = cv2.copyMakeBorder(small, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    found: list[tuple[float, Motion]] = []
    for number in range(_N_ANGLES):
        degrees = 360.0 * number / _N_ANGLES
        side = 2 * reach + 1
        pose = centred(degrees, (reach, reach), own.shape)
        turned = cv2.warpAffine(own, pose, (side, side), borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.warpAffine(np.ones_like(own), pose, (side, side))
        agreed = cv2.matchTemplate(padded, turned, cv2.TM_CCOEFF_NORMED, mask=mask)
        agreed = np.where(np.isfinite(agreed), agreed, -1)
        row, column = np.unravel_index(int(agreed.argmax()), agreed.shape)
        x, y = ((place + 0.5) / scale - 0.5 for place in (column, row))
        found.append((float(agreed.max()), centred(degrees, (x, y), template.shape)))
    found.sort(key=lambda each: -each[0])
    return [pose for _, pose in found[:_N_BEST]]


def _refined(gray: Floats, template: Floats, begin: Motion, factor: float) -> tuple[Motion, float]:
    """Return a pose that ECC has refined at `factor` times the size, and the correlation there.

    It is as it was if it cannot be refined. OpenCV's ECC takes turns of less than a quarter alone,
    so that it is given what the picture shows at the pose so far.
    """
    pad = round(_REACH * max(template.shape))
    height, width = (side + 2 * pad for side in template.shape)
    around = begin @ _square(np.array([[1.0, 0.0, -pad], [0.0, 1.0, -pad]]))
    own, seen = (
        cv2.resize(each, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        for each in (template, _laid(gray, around, (height, width)))
    )
    small = np.array([[1.0, 0.0, pad * factor], [0.0, 1.0, pad * factor]], np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, _FINE)
    correlation = _agreement(gray, template, begin)
    try:
        _, small = cv2.findTransformECC(
            own, seen, small, cv2.MOTION_EUCLIDEAN, criteria, None, _BLUR
        )
    except cv2.error:  # what it says of pictures without details, and of no overlap
        return begin, correlation
    moved = _grid(1 / factor, 1 / factor) @ _square(small.astype(np.float64))
    motion = around @ _square(moved @ _square(_grid(factor, factor)))
    found = _agreement(gray, template, motion)
    return (motion, found) if found > correlation else (begin, correlation)


def _agreement(gray: Floats, template: Floats, motion: Motion) -> float:
    laid = _laid(gray, motion, template.shape)
    one, two = laid - laid.mean(), template - template.mean()
    size = float(np.sqrt(np.mean(one * one) * np.mean(two * two)))
    return float(np.mean(one * two)) / size if size > 1e-9 else 0.0


def _laid(gray: Floats, motion: Motion, size: tuple[int, ...]) -> Floats:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(
            gray, motion, (size[1], size[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
    )


def _gray(picture: Floats) -> Floats:
    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def _grid(x: float, y: float) -> Motion:
    """Return the motion to a grid `x` times as wide and `y` times as high, with the same edges."""
    return np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2]])


def _square(motion: Motion) -> NDArray[np.float64]:
    return np.vstack([motion, [0.0, 0.0, 1.0]])


@lru_cache(maxsize=8)
def _template(reference: str) -> Floats:
    """Return a mean part in [0, 1]; raises `ValueError` for one that is no picture."""
    try:
        picture = decode_picture(base64.b64decode(reference, validate=True), "the mean part")
    except InputError as error:
        raise ValueError(str(error)) from error
    if picture.dtype != np.uint8 or picture.ndim != 2 or not min(picture.shape) >= 8:
        raise ValueError("the mean part is not an 8-bit grey picture")
    if max(picture.shape) > 2 * SIDE:
        raise ValueError(f"the mean part has more than {2 * SIDE} pixels per side")
    return picture.astype(np.float32) / np.float32(255)
