"""Small pictures for the contract checks: brushed plates, and plates with a planted square."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import GOOD, Part
from makellos.data.pictures import Picture
from makellos.drawing import write_picture

__all__ = [
    "SIDE",
    "SQUARE",
    "Planted",
    "extreme_pictures",
    "good_pictures",
    "other_pictures",
    "planted",
    "write_parts",
]

SIDE = 128  # height and width of every picture, in pixels
SQUARE = 28  # side of a planted defect, in pixels

_CORNERS = ((14, 16), (18, 82), (84, 20), (76, 80))


@dataclass(frozen=True)
class Planted:
    """Hold a picture with a defect, and the rows and columns where its square begins."""

    picture: Picture
    top: int
    left: int


def good_pictures(n_parts: int, seed: int) -> list[Picture]:
    """Return good parts 128×128×3 uint8: brushed plates with a ring, all alike but for noise."""
    return [_plate(np.random.default_rng([seed, i]), ring=True) for i in range(n_parts)]


def other_pictures(n_parts: int, seed: int) -> list[Picture]:
    """Return parts of another kind, to learn from before the good ones: plates brushed across."""
    plates = [_plate(np.random.default_rng([seed, i]), ring=False) for i in range(n_parts)]
    return [np.ascontiguousarray(plate.transpose(1, 0, 2)) for plate in plates]


def planted(seed: int) -> list[Planted]:
    """Return good parts with a bright or a dark square each, every one at another place."""
    found = []
    for i, (top, left) in enumerate(_CORNERS):
        rng = np.random.default_rng([seed, i])
        picture = _plate(rng, ring=True)
        value = 250 if i % 2 else 5
        noise = rng.integers(-5, 6, (SQUARE, SQUARE, 3))
        picture[top : top + SQUARE, left : left + SQUARE] = np.clip(value + noise, 0, 255)
        found.append(Planted(picture, top, left))
    return found


def extreme_pictures(seed: int) -> list[Picture]:
    """Return black, white and noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return [*(np.full((SIDE, SIDE, 3), value, np.uint8) for value in (0, 255)), noise]


def write_parts(folder: Path, pictures: list[Picture], label: str = GOOD) -> list[Part]:
    """Write pictures as PNG into a new folder and return them as parts."""
    parts = []
    for i, picture in enumerate(pictures):
        path = folder / f"{i:02d}.png"
        write_picture(path, picture.astype(np.uint8, copy=False))
        parts.append(Part(source=path, name=f"{folder.name}/{path.name}", label=label))
    return parts


def _plate(rng: np.random.Generator, *, ring: bool) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    noise = rng.normal(size=(SIDE, SIDE)).astype(np.float32)
    brushed = cv2.GaussianBlur(noise, (0, 0), sigmaX=6.0, sigmaY=0.8)
    plate = 125 + 14 * brushed / brushed.std() + 12 * np.sin(rows / 7)
    if ring:
        middle = SIDE / 2 + rng.uniform(-1.5, 1.5, 2)
        radius = np.hypot(rows - middle[0], columns - middle[1])
        plate += 30 * np.exp(-(((radius - 34) / 4) ** 2))
    gains = np.array([1.0, 0.95, 0.85]) * rng.uniform(0.97, 1.03)
    colored = plate[:, :, np.newaxis] * gains + rng.normal(0, 2, (SIDE, SIDE, 3))
    pixels: NDArray[np.uint8] = np.clip(colored, 0, 255).astype(np.uint8)
    return pixels
