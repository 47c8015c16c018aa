"""From a decoded picture to what a graph takes: one shared way, for fitting and inspecting."""

from __future__ import annotations

from typing import Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from makellos.data.parts import Part
from makellos.data.pictures import Picture, full_scale
from makellos.errors import InputError
from makellos.inspection.alignment import Aligned, Alignment
from makellos.inspection.references import JOINED, joined, laid_onto_its_own
from makellos.inspection.registration import Placed, Registration

__all__ = ["LARGEST_SIDE", "Compares", "Preprocessing", "Vectors"]

Compares = Literal["laid", "as it lies"]  # a part onto its reference, or not

LARGEST_SIDE = 16384  # of what a network takes
LARGEST_AREA = 8192 * 8192


class Preprocessing(BaseModel):
    """Say how a picture becomes a graph's input: channels × height × width, float32 in [0, 1].

    Pictures are stretched to the size, by area averaging along the axes that shrink and bilinearly
    along those that grow. `white_level` is the value of white in 16 bit pictures of fewer bits.
    With an `alignment`, `pose` turns them to one pose before, and with a `registration`, `place`
    then lays them onto its reference. Where `compares`, pictures come joined with the reference of
    the part itself, H×W×6, and are laid onto that unless it is ``as it lies``; the graph takes
    both, twice the channels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    height: int = Field(ge=16, le=LARGEST_SIDE)
    width: int = Field(ge=16, le=LARGEST_SIDE)
    channels: Literal[1, 3] = 3
    white_level: int | None = Field(default=None, ge=1, le=65535)
    registration: Registration | None = None
    alignment: Alignment | None = None
    compares: Compares | None = None

    @model_validator(mode="after")
    def _area_is_limited(self) -> Self:
        if self.height * self.width > LARGEST_AREA:
            raise ValueError(f"{self.height} x {self.width} pixels are more than a network takes")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return channels, height and width."""
        return self.channels * (1 if self.compares is None else 2), self.height, self.width

    def __str__(self) -> str:
        """Return the size in words."""
        return f"{self.height} x {self.width} pixels"

    @property
    def posed(self) -> Preprocessing:
        """Return what is left to do with a picture in its pose."""
        return self.model_copy(update={"alignment": None})

    def pose(self, picture: Picture) -> Aligned | None:
        """Return the picture turned to one pose and cropped; None without an alignment."""
        return None if self.alignment is None else self.alignment(picture)

    def place(self, picture: Picture) -> Placed | None:
        """Return the picture laid onto the reference of the registration; None without one."""
        if self.compares == "laid":
            return laid_onto_its_own(picture)
        return None if self.registration is None else self.registration(picture)

    def read(self, part: Part) -> Picture:
        """Return the picture of a part, joined with its reference where it is compared."""
        return self.joined(part.read(), part)

    def joined(self, picture: Picture, part: Part) -> Picture:
        """Return the picture of a part joined with its reference where it is compared, H×W×6.

        One that is joined stays. Raises `InputError` for a reference that cannot be read.
        """
        if self.compares is None or (picture.ndim == 3 and picture.shape[2] == JOINED):
            return picture
        return joined(picture, part.read_reference(), self.white_level)

    def resize(self, picture: Picture) -> Picture:
        """Return the picture, H×W or H×W×3, at the graph's size, in the depth it came in."""
        height, width = picture.shape[:2]
        # INTER_AREA averages only where neither axis grows; with one that does, it picks pixels.
        shrunk = (min(width, self.width), min(height, self.height))
        resized: Picture = picture
        if shrunk != (width, height):
            resized = cv2.resize(resized, shrunk, interpolation=cv2.INTER_AREA)
        if shrunk != (self.width, self.height):
            size = (self.width, self.height)
            resized = cv2.resize(resized, size, interpolation=cv2.INTER_LINEAR)
        return resized

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        """Return the batch 1×C×H×W of one picture."""
        resized = self.resize(picture)
        white = full_scale(resized, self.white_level)
        if self.shape[0] == 1 and resized.ndim == 3:
            resized = cv2.cvtColor(resized, cv2.COLOR_RGB2GRAY)
        planes = [resized] if resized.ndim == 2 else list(cv2.split(resized))
        batch = np.empty((1, *self.shape), np.float32)
        for channel in range(self.shape[0]):
            plane = planes[min(channel, len(planes) - 1)]
            np.multiply(plane, np.float32(1.0 / white), out=batch[0, channel], casting="unsafe")
        np.minimum(batch, 1.0, out=batch)
        return batch


class Vectors(BaseModel):
    """Say that a graph's input are `n_features` numbers, as windows of a signal give them.

    It takes the place of `Preprocessing` in detectors that take features: float32 (F,), as is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_features: int = Field(ge=1, le=100_000)

    @property
    def shape(self) -> tuple[int]:
        """Return the number of features."""
        return (self.n_features,)

    @property
    def white_level(self) -> None:
        """Return None: numbers have no white."""
        return None

    def __str__(self) -> str:
        """Return the size in words."""
        return f"{self.n_features} features"

    @property
    def posed(self) -> Vectors:
        """Return itself: numbers have no pose."""
        return self

    def pose(self, features: Picture) -> Aligned | None:
        """Return None: numbers have no pose."""
        del features
        return None

    @property
    def compares(self) -> None:
        """Return None: numbers have no reference."""
        return None

    def read(self, part: Part) -> Picture:
        """Return the features (F,) of a part."""
        return part.read()

    def joined(self, features: Picture, part: Part) -> Picture:
        """Return the features (F,) as they are."""
        del part
        return features

    def place(self, features: Picture) -> Placed | None:
        """Return None: numbers lie nowhere."""
        del features
        return None

    def resize(self, features: Picture) -> Picture:
        """Return the features (F,) as they are."""
        return features

    def __call__(self, features: Picture) -> NDArray[np.float32]:
        """Return the batch 1×F of one part; raises `InputError` for another number of features."""
        if features.shape != self.shape:
            raise InputError(
                f"A part has features of shape {features.shape}; the detector takes "
                f"{self.n_features} numbers. Use the view that it was fitted with."
            )
        return np.ascontiguousarray(features[np.newaxis], dtype=np.float32)
