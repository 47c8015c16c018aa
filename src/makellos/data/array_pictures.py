"""Pictures in arrays: which axis is which, what value is white, and parts that read one of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from makellos.data.given import GivenPicture
from makellos.data.numpy_files import NUMPY_SUFFIXES, StoredArray, stored_arrays
from makellos.data.parts import Element, Mask, Part
from makellos.data.pictures import Picture, read_mask
from makellos.errors import InputError

__all__ = [
    "ArrayPicture",
    "array_picture",
    "has_pictures",
    "is_numpy_file",
    "picture_axes",
    "pictures_in",
    "pictures_of",
    "shape_advice",
]

_CHANNELS = (1, 3, 4)
_LEAST_SIDE = 2  # pixels
_SAMPLED = 256  # pictures, of which the values say what is white
_SLACK = 1e-6
_MASK_ADVICE = "Correct it, or leave the mask out."

Axes = Literal["NHW", "NHWC", "NCHW", "HWC"]


@dataclass(frozen=True)
class ArrayPicture(Element):
    """Read one picture of an array in a NumPy file, counted from 0."""

    array: StoredArray
    axes: Axes
    index: int
    is_whole: ClassVar[bool] = True

    @property
    def path(self) -> Path:
        """Return the file that holds the array."""
        return self.array.path

    def read(self) -> Picture:
        """Return the picture H×W or H×W×3, uint8 or uint16; raises `InputError` as files do."""
        values, white = self._values(), _white(self.array, self.axes)
        name = f"Picture {self.index} of {self.array}"
        if self.axes == "NCHW":
            values = values.transpose(1, 2, 0)
        if values.dtype.kind == "b":
            values = values.astype(np.uint8) * np.uint8(255)
        elif values.dtype.kind == "f" and white > 1:
            values = values / np.float32(white)
        elif values.dtype.kind == "i" or (values.dtype.itemsize > 2 and values.dtype.kind == "u"):
            values = _whole(values, white, name)
        try:
            return GivenPicture(np.ascontiguousarray(values), name).read()
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    def read_mask(self, mask: Path, size: tuple[int, int]) -> Mask:
        """Return the mask in a file; raises `InputError` where it has another size."""
        return read_mask(mask, size, _MASK_ADVICE)

    def content(self) -> bytes:
        """Return the values of the picture, with their shape and type."""
        values = self._values()
        return f"{values.shape} {values.dtype.str} ".encode() + values.tobytes()

    def _values(self) -> NDArray[Any]:
        values = self.array.values()
        return np.asarray(values if self.axes == "HWC" else values[self.index])


def is_numpy_file(path: Path) -> bool:
    """Tell whether a file is named as NumPy names its files."""
    return path.suffix.lower() in NUMPY_SUFFIXES


def picture_axes(array: StoredArray) -> Axes | None:
    """Return which axis of an array is which; None where it cannot hold pictures.

    N pictures, H rows, W columns, C colours: 1, 3 or 4 of them. Three axes of which the last is 3
    or 4 are one picture.

    >>> of = lambda *shape: StoredArray(Path("a"), "a", shape, np.dtype("u1"), False, None, (0, 0))
    >>> [picture_axes(of(*s)) for s in ((9, 28, 28), (9, 8, 8, 3), (9, 3, 8, 8), (9, 784))]
    ['NHW', 'NHWC', 'NCHW', None]
    """
    shape = array.shape
    if array.dtype.kind not in "biuf" or min(shape, default=0) < 1:
        return None
    if len(shape) == 3:
        one = shape[2] in _CHANNELS[1:] and min(shape[:2]) > max(_CHANNELS)
        return "HWC" if one else "NHW" if min(shape[1:]) >= _LEAST_SIDE else None
    if len(shape) == 4:
        if shape[3] in _CHANNELS and min(shape[1:3]) >= _LEAST_SIDE:
            return "NHWC"
        if shape[1] in _CHANNELS and min(shape[2:]) >= _LEAST_SIDE:
            return "NCHW"
    return None


def shape_advice(array: StoredArray) -> str:
    """Say how an array that cannot hold pictures would; empty where that is unknown."""
    shape = array.shape
    side = round((shape[1] if len(shape) == 2 else 0) ** 0.5)
    third = round((shape[1] / 3 if len(shape) == 2 else 0) ** 0.5)
    if len(shape) == 2 and side >= 4 and side * side == shape[1]:
        return f"{array} holds flat rows: save it as array.reshape(-1, {side}, {side})."
    if len(shape) == 2 and third >= 4 and 3 * third * third == shape[1]:
        return (
            f"{array} holds flat rows: save it as array.reshape(-1, 3, {third}, {third}), or "
            f"array.reshape(-1, {third}, {third}, 3) if the colours of a pixel are side by side."
        )
    if len(shape) == 4 and shape[2] in _CHANNELS:
        return f"In {array} the pictures come last: save it as array.transpose(3, 0, 1, 2)."
    if len(shape) in (4, 5):
        return f"{array} is {'x'.join(map(str, shape))}: no axis holds 1, 3 or 4 colours."
    return ""


def has_pictures(path: Path) -> bool:
    """Tell whether a NumPy file holds pictures, and no recording, by its headers alone."""
    try:
        arrays = stored_arrays(path).values()
    except InputError:
        return False
    return any(
        picture_axes(array) is not None and sum(length > 1 for length in array.shape) > 2
        for array in arrays
    )


def array_picture(root: Path, name: str) -> ArrayPicture | None:
    """Return the picture that ``FILE.npz#KEY/7`` or ``FILE#7`` names; None for another name.

    The file lies relative to `root`. Without a key it holds one array of pictures. Raises
    `InputError` where the file has no such array or picture, or is damaged.
    """
    for place, character in enumerate(name):
        path = root / name[:place]
        if character == "#" and is_numpy_file(path) and path.is_file():
            key, _, number = name[place + 1 :].rpartition("/")
            holding = {
                array.key: (array, axes)
                for array in stored_arrays(path).values()
                if (axes := picture_axes(array)) is not None
            }
            if not key and len(holding) == 1:
                (key,) = holding
            if key not in holding or not (number.isascii() and number.isdigit()):
                return None
            array, axes = holding[key]
            n = 1 if axes == "HWC" else array.shape[0]
            if int(number) >= n:
                raise InputError(
                    f"{array} has {n:,} pictures, counted from 0; there is no number {number}."
                )
            return ArrayPicture(array, axes, int(number))
    return None


def pictures_of(path: Path, name: str, arrays: Mapping[str, StoredArray]) -> list[Part]:
    """Return the pictures in the given arrays of a file as parts ``NAME#KEY/7``, or ``NAME#7``.

    The key is left out where the file has no other array of pictures.
    """
    among = [array for array in stored_arrays(path).values() if picture_axes(array) is not None]
    parts = []
    for array in arrays.values():
        axes = picture_axes(array)
        if axes is None:
            continue
        begin = f"{name}#" if len(among) == 1 else f"{name}#{array.key}/"
        n = 1 if axes == "HWC" else array.shape[0]
        parts += [Part(source=ArrayPicture(array, axes, i), name=f"{begin}{i}") for i in range(n)]
    return parts


def pictures_in(path: Path) -> list[Part]:
    """Return all pictures of a NumPy file as parts, the file itself where none can be read.

    Masks and other arrays of that shape are pictures like all others.
    """
    try:
        return pictures_of(path, str(path), stored_arrays(path)) or [_none_of(path)]
    except InputError:
        return [_none_of(path)]


def _none_of(path: Path) -> Part:
    return Part(source=_NoPicture(path), name=str(path))


@dataclass(frozen=True)
class _NoPicture:
    """Stand for a NumPy file without pictures, and say so when it is read."""

    path: Path
    is_whole: ClassVar[bool] = True

    def read(self) -> Picture:
        held = "; ".join(array.described for array in stored_arrays(self.path).values())
        raise InputError(
            f"{self.path} holds no pictures: {held}. Expected pictures x rows x columns, with 1, 3 "
            "or 4 colours as the last or second axis."
        )

    def read_mask(self, mask: Path, size: tuple[int, int]) -> Mask:
        del mask, size
        return self.read() > 0


@lru_cache(maxsize=16)
def _white(array: StoredArray, axes: Axes) -> float:
    """Return the value of white: 1, 255 or 65535; raises `InputError` where it is none of them."""
    if array.dtype.kind == "b" or (array.dtype.kind == "u" and array.dtype.itemsize <= 2):
        return 255.0 if array.dtype.itemsize == 1 else 65535.0
    values = array.values()
    if axes != "HWC" and len(values) > _SAMPLED:
        values = values[np.linspace(0, len(values) - 1, _SAMPLED).astype(int)]
    found = np.asarray(values, np.float64)
    found = found[np.isfinite(found)]
    low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 0.0)
    for white in (1.0, 255.0, 65535.0):
        is_whole = array.dtype.kind in "iu" and white == 1
        if low >= -_SLACK and high <= white * (1 + _SLACK) and not is_whole:
            return white
    hint = ""
    if low >= -1 - _SLACK and high <= 1 + _SLACK:
        hint = " Save (pictures + 1) / 2 if they were scaled to [-1, 1]."
    raise InputError(
        f"{array} has values from {low:g} to {high:g}; expected 0 to 1, 0 to 255 or 0 to "
        f"65535.{hint}"
    )


def _whole(values: NDArray[Any], white: float, name: str) -> NDArray[Any]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > white:
        raise InputError(
            f"{name} has values from {low} to {high}, where others have 0 to {white:g}."
        )
    return values.astype(np.uint8 if white == 255 else np.uint16)
