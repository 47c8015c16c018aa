"""The parts that a detector is trained on: size and channels chosen, pictures read."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.pictures import Picture
from makellos.data.progress import Progress
from makellos.detectors.parameters import AUTO, MAP_MAXIMUM
from makellos.errors import MissingRuntimeError, adding
from makellos.inspection.preprocessing import Preprocessing

if TYPE_CHECKING:
    from makellos.training.pictures import Pictures

__all__ = [
    "are_small",
    "choose_preprocessing",
    "extras_with",
    "load_masks",
    "load_pictures",
    "missing_packages",
    "require_packages",
    "scores_by_map",
]

SMALL_SIDE = 64  # pictures up to this side are taken as they are, where they are all alike
_EXTRAS = {"pyod": "signals"}  # what packages come with; all others with `train`
_N_LOOKED_AT = 32  # parts whose colour and size decide for all, where pictures are large
_LONGEST = 4.0  # times the other side, at most


def missing_packages(names: Sequence[str]) -> str:
    """Return which packages are missing and what adds them; empty where all are installed."""
    missing = [name for name in dict.fromkeys(names) if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return f"{', '.join(missing)}: {adding(extras_with(missing))}"


def extras_with(names: Iterable[str]) -> str:
    """Return the extras of makellos that packages come with, as pip takes them; may be empty.

    >>> extras_with(["torch", "pyod", "timm"])
    'signals,train'
    """
    return ",".join(sorted({_EXTRAS.get(name, "train") for name in names}))


def require_packages(*names: str) -> None:
    """Raise `MissingRuntimeError` that says what to install where a package is missing."""
    missing = missing_packages(names)
    if missing:
        packages, _, command = missing.partition(": ")
        raise MissingRuntimeError(
            f"This needs {packages}, which the base install leaves out. Add it: {command}. "
            "Inspecting needs none of it."
        )


def load_pictures(
    parts: Sequence[Part], preprocessing: Preprocessing, progress: Progress
) -> Pictures:
    """Read parts at the size and with the channels of a preprocessing.

    Raises `InputError` for a picture that cannot be read.
    """
    from makellos.training.pictures import Pictures, empty_values

    values: NDArray[Any] | None = None
    for i, part in enumerate(parts):
        picture = part.read()
        pixels = preprocessing(picture)[0]
        if values is None:
            values = empty_values((len(parts), *pixels.shape), deep=picture.dtype != np.uint8)
        elif values.dtype == np.uint8 and picture.dtype != np.uint8:
            values = _deepen(values, i)
        values[i] = np.rint(255 * pixels) if values.dtype == np.uint8 else pixels
        progress("reading pictures", i + 1, len(parts))
    if values is None:
        values = empty_values((0, *preprocessing.shape), deep=False)
    return Pictures(values)


def load_masks(parts: Sequence[Part], preprocessing: Preprocessing) -> NDArray[np.uint8] | None:
    """Read the masks of parts N×1×H×W, 255 where damaged; None where no part has one.

    Parts without a mask have an empty one. Raises `InputError` for one that cannot be read.
    """
    if all(part.mask is None for part in parts):
        return None
    height, width = preprocessing.height, preprocessing.width
    masks = np.zeros((len(parts), 1, height, width), np.uint8)
    for i, part in enumerate(parts):
        if part.mask is not None and not part.is_good:
            rows, columns = part.read().shape[:2]
            marked = part.mask_in(part.mask, (rows, columns))
            white = marked.astype(np.uint8) * np.uint8(255)
            masks[i, 0] = cv2.resize(white, (width, height), interpolation=cv2.INTER_AREA)
    return masks


def choose_preprocessing(
    parts: Sequence[Part],
    *,
    image_size: int,
    channels: int,
    default_size: int,
    default_channels: int = 0,
    in_proportion: bool = False,
) -> Preprocessing:
    """Return the size and channels that a network is trained with.

    `image_size` 0 follows the pictures where all have one size of at most 64 pixels a side, and is
    the square of `default_size` else; with `in_proportion` about as many pixels in the proportions
    of the parts, where these are of one size. `channels` 0 follows such small pictures as well (1
    where all are gray, though their files may have three channels), and is `default_channels` else;
    where that is 0 the colour of the pictures decides.
    """
    uniform = _uniform_size(parts)
    height, width = uniform or (
        _in_proportion(parts, default_size) if in_proportion else (default_size, default_size)
    )
    if image_size:
        height = width = image_size
    n_channels = channels or (0 if uniform else default_channels)
    if not n_channels:
        step = 1 if uniform else max(1, len(parts) // _N_LOOKED_AT)
        n_channels = 1 if all(_is_gray(part.read()) for part in parts[::step]) else 3
    kind: Literal[1, 3] = 1 if n_channels == 1 else 3
    return Preprocessing(height=height, width=width, channels=kind)


def scores_by_map(score: str, parts: Sequence[Part]) -> bool:
    """Tell whether parts are scored by the maximum of a map: ``auto`` does so but for small ones.

    Pictures that are taken as small as they are, such as digits, differ as a whole; damage is small
    on a part, and a mean over the picture drowns it.
    """
    return score == MAP_MAXIMUM or (score == AUTO and not are_small(parts))


def are_small(parts: Sequence[Part]) -> bool:
    """Tell whether all parts have one size of at most 64 pixels a side, and are taken as such."""
    return _uniform_size(parts) is not None


def _uniform_size(parts: Sequence[Part]) -> tuple[int, int] | None:
    """Return height and width where all pictures share them and are small, else None."""
    size: tuple[int, int] | None = None
    for part in parts:
        height, width = part.read().shape[:2]
        if max(height, width) > SMALL_SIDE or min(height, width) < 16:
            return None
        if size not in (None, (height, width)):
            return None
        size = (height, width)
    return size


def _in_proportion(parts: Sequence[Part], side: int) -> tuple[int, int]:
    """Return sides for about side² pixels in the parts' proportions; equal where sizes differ."""
    looked_at = parts[:: max(1, len(parts) // _N_LOOKED_AT)]
    sizes = {part.read().shape[:2] for part in looked_at}
    if len(sizes) > 1:
        return side, side
    height, width = sizes.pop()
    ratio = min(max(height / width, 1 / _LONGEST), _LONGEST)
    # Multiples of 8 halve without a rest.
    tall, wide = (max(16, 8 * round(side * share / 8)) for share in (ratio**0.5, ratio**-0.5))
    return tall, wide


def _is_gray(picture: Picture) -> bool:
    if picture.ndim == 2:
        return True
    first, second, third = (picture[..., channel] for channel in range(3))
    return bool(np.array_equal(first, second) and np.array_equal(first, third))


def _deepen(values: NDArray[Any], n_done: int) -> NDArray[Any]:
    from makellos.training.pictures import empty_values

    deeper = empty_values(values.shape, deep=True)
    np.divide(values[:n_done], 255, out=deeper[:n_done], dtype=np.float32)
    return deeper
