"""What pictures are like before anything is learned from them: size, depth, colour, frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from makellos.data.pictures import Picture

__all__ = ["Shape", "Shapes", "framed_text"]

_MAX_NAMED = 3


@dataclass(frozen=True)
class Shape:
    """Hold height and width of a picture, its mode in words, and how many frames its file has."""

    height: int
    width: int
    mode: str
    n_frames: int = 1

    @classmethod
    def of(cls, picture: Picture, n_frames: int = 1) -> Shape:
        """Return the shape of a picture.

        >>> import numpy as np
        >>> Shape.of(np.zeros((2, 3, 3), np.uint16)).mode
        'RGB 16 bit'
        """
        colour = "grey" if picture.ndim == 2 else "RGB"
        mode = f"{colour} {picture.dtype.itemsize * 8} bit"
        return cls(picture.shape[0], picture.shape[1], mode, n_frames)


@dataclass
class Shapes:
    """Gather the shapes of pictures, and the names of files of several frames."""

    heights: set[int] = field(default_factory=set)
    widths: set[int] = field(default_factory=set)
    modes: set[str] = field(default_factory=set)
    framed: list[str] = field(default_factory=list)

    def add(self, name: str, shape: Shape) -> None:
        """Take one picture into account."""
        self.heights.add(shape.height)
        self.widths.add(shape.width)
        self.modes.add(shape.mode)
        if shape.n_frames > 1:
            self.framed.append(name)


def framed_text(names: Sequence[str]) -> str:
    """Return the sentence about files of which the first frame alone is used."""
    shown = ", ".join(names[:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")
    files = "1 file holds" if len(names) == 1 else f"{len(names)} files hold"
    return f"{files} several pages or frames, of which the first is used: {shown}."
