"""What a program hands over: pictures in memory of many kinds, one input or many."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Mask, Part, Values
from makellos.data.pictures import MAX_PIXELS, Picture, decode_picture
from makellos.errors import InputError

__all__ = ["GivenPicture", "part_of", "several"]

_ENCODED = bytes | bytearray | memoryview
_OPEN = io.RawIOBase | io.BufferedIOBase
_MAX_BYTES = 1 << 30  # of an open file
_ACCEPTED = (
    "A picture is H×W, H×W×1, H×W×3 (RGB) or H×W×4 (RGBA) of uint8, uint16 or floats in [0, 1]"
)
_SLACK = 1e-6  # beyond [0, 1], as rounding leaves it


def several(given: Any) -> Iterable[Any]:
    """Return what can be gone through: one text, path, picture or part alone is one input.

    >>> list(several("folder")), list(several(["a", "b"]))
    (['folder'], ['a', 'b'])
    """
    one = isinstance(given, str | os.PathLike | Part | _ENCODED | io.IOBase) or (
        isinstance(given, np.ndarray) and given.ndim < 4
    )
    if one or not isinstance(given, Iterable):
        return (given,)
    return given


@dataclass(frozen=True, eq=False)
class GivenPicture:
    """Hold a picture as a program has it; what it is is looked at when it is read.

    `value` is an array, the bytes of a picture file, such a file open for reading bytes or a
    picture of PIL. `white` is the value of white in 16 bit pictures of fewer bits.
    """

    value: Any
    name: str
    white: int | None = None
    is_whole: ClassVar[bool] = True

    @property
    def path(self) -> Path:
        """Raise `InputError`: no file holds it."""
        return Values(np.empty(0)).path

    def read(self) -> Picture:
        """Return the picture H×W or H×W×3, uint8 or uint16; raises `InputError` for no picture.

        The fourth channel, transparency, is dropped. Floats in [0, 1] become 8 bit where these hold
        them exactly, else 16 bit.
        """
        if isinstance(self.value, _ENCODED):
            return decode_picture(bytes(self.value), self.name)
        if isinstance(self.value, _OPEN):
            return decode_picture(_content(self.value, self.name), self.name)
        if isinstance(self.value, io.IOBase):
            raise InputError(f"{self.name} is open as text. Open it with mode 'rb'.")
        array = np.asarray(_of_pil(self.value, self.name))
        height, width, *channels = array.shape if array.ndim in (2, 3) else (0, 0, 0)
        if not array.size or channels not in ([], [1], [3], [4]):
            hint = " Its channels come first; transpose it: array.transpose(1, 2, 0)."
            first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
            received = f"{array.dtype} of shape {array.shape}"
            if array.dtype == object and not array.ndim:
                received = f"an object of type {type(self.value).__name__}"
            raise InputError(f"{_ACCEPTED}; received {received}.{hint if first else ''}")
        if height * width > MAX_PIXELS:
            raise InputError(
                f"{self.name} has {width:,} x {height:,} pixels; expected at most "
                f"{MAX_PIXELS:,}. Cut it into smaller pictures."
            )
        if channels:
            array = array[..., 0] if channels == [1] else array[..., :3]
        whole = self._whole_numbers(array)
        return whole if whole.flags.c_contiguous else whole.copy()

    def read_mask(self, mask: Path, size: tuple[int, int]) -> Mask:
        """Return the mask in a file; raises `InputError` where it has another size."""
        return Values(np.empty(0)).read_mask(mask, size)

    def _whole_numbers(self, array: NDArray[Any]) -> Picture:
        if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
            return array.astype(array.dtype.newbyteorder("="), copy=False)
        if array.dtype.kind != "f":
            raise InputError(f"{_ACCEPTED}; received {array.dtype} of shape {array.shape}.")
        if not np.isfinite(array).all():
            raise InputError(
                f"{_ACCEPTED}; received {array.dtype} with values that are not finite (NaN or "
                "infinite). Replace them."
            )
        low, high = float(array.min()), float(array.max())
        if not (low >= -_SLACK and high <= 1 + _SLACK):
            raise InputError(
                f"{_ACCEPTED}; received {array.dtype} from {low:g} to {high:g}. Divide it by the "
                "value of white, or pass integers."
            )
        unit = np.clip(array.astype(np.float32, copy=False), 0, 1)
        eight = np.rint(unit * 255)
        if np.abs(unit * 255 - eight).max() < 1e-3:
            return eight.astype(np.uint8)
        return np.rint(unit * (self.white or 65535)).astype(np.uint16)


def part_of(
    given: object, name: str | None = None, *, unnamed: str = "array", white: int | None = None
) -> Part:
    """Return a part of what was given: a part itself, a path, or a picture in memory.

    `unnamed` is what a picture without a `name` is called, `white` as in `GivenPicture`.
    """
    if isinstance(given, Part):
        return given
    if isinstance(given, str | os.PathLike):
        return Part(source=Path(given), name=name or str(given))
    label = name or unnamed
    return Part(source=GivenPicture(given, label, white), name=label)


def _content(file: io.RawIOBase | io.BufferedIOBase, name: str) -> bytes:
    """Return what is in memory as a file, wherever it stands, or what is left in an open file."""
    try:
        content = file.getvalue() if isinstance(file, io.BytesIO) else file.read(_MAX_BYTES)
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be read: {error}. Open the file again.") from error
    return content or b""


def _of_pil(value: Any, name: str) -> Any:
    """Return what NumPy takes as it is shown: a picture of PIL upright, in gray or in colour."""
    pil = sys.modules.get("PIL.Image")  # who has such a picture has imported it
    if pil is None or not isinstance(value, pil.Image):
        return value
    from PIL import ImageOps

    if value.width * value.height > MAX_PIXELS:  # before it is decoded
        raise InputError(
            f"{name} has {value.width:,} x {value.height:,} pixels; expected at most "
            f"{MAX_PIXELS:,}. Cut it into smaller pictures."
        )
    try:
        upright = ImageOps.exif_transpose(value)
        if upright.mode.startswith("I"):
            array = np.asarray(upright)
            fits = array.dtype.kind in "ui" and array.min() >= 0 and array.max() <= 65535
            return array.astype(np.uint16) if fits else array
        if upright.mode in ("L", "RGB", "F"):
            return upright
        return upright.convert("L" if upright.mode in ("1", "LA") else "RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{name} cannot be decoded: {error}. Copy it again.") from error
