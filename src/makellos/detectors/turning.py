"""Turned copies of good parts: more to learn from where parts are few and lie at any angle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import Picture
from makellos.data.progress import Progress, no_progress
from makellos.detectors.embeddings import PatchEmbedder, Readable

__all__ = ["Turned", "turn", "turning_pays"]

_N_PROBES = 6
_BANK = 4000
_WORTH = 0.97  # of the distance to parts as they lie; below it turned parts are nearer


@dataclass(frozen=True)
class Turned:
    """Read a part turned by `angle` degrees, counterclockwise."""

    part: Readable
    angle: float

    def read(self) -> Picture:
        """Return the turned picture, of the size it had."""
        return turn(self.part.read(), self.angle)


def turn(picture: Picture, angle: float) -> Picture:
    """Return a picture turned about its centre; what comes in at the corners repeats the border."""
    if angle % 360 == 0:
        return picture
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    turned: Picture = cv2.warpAffine(
        picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return turned


def turning_pays(
    embedder: PatchEmbedder,
    parts: Sequence[Readable],
    angles: Sequence[float],
    seed: int,
    progress: Progress = no_progress,
) -> bool:
    """Tell whether parts are nearer to turned copies of other parts than to those as they lie.

    Each of some parts is compared, in the coarsest layer, with as many patches of all others as
    they lie and of all others at any of `angles`. Parts that lie at any angle gain by turning,
    those that always lie alike lose, for fewer of the patches are then like theirs.
    """
    what = "looking how parts lie"
    looks: list[Readable] = [Turned(part, angle) for part in parts for angle in angles]
    patches = [found[-1] for found in embedder.stream(looks, progress, what)]
    n = len(angles)
    plain, turned = patches[::n], patches
    scale = np.concatenate(plain).std(0) + 1e-6
    rng = np.random.default_rng([seed, 4])
    distances: list[tuple[float, float]] = []
    for i in np.unique(np.linspace(0, len(parts) - 1, _N_PROBES).astype(int)):
        as_they_lie = [found for j, found in enumerate(plain) if j != i]
        at_angles = [found for j, found in enumerate(turned) if j // n != i]
        size = min(_BANK, sum(map(len, as_they_lie)))
        banks = [_some(found, size, rng) / scale for found in (as_they_lie, at_angles)]
        probe = plain[i] / scale
        distances.append((_nearest(probe, banks[0]), _nearest(probe, banks[1])))
    lying, turning = np.mean(distances, axis=0)
    return bool(turning < _WORTH * lying)


def _some(
    found: Sequence[NDArray[np.float32]], size: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    patches = np.concatenate(found)
    return patches[rng.choice(len(patches), size, replace=False)]


def _nearest(probe: NDArray[np.float32], bank: NDArray[np.float32]) -> float:
    """Return the mean distance of patches (n, d) to the nearest of a bank (m, d)."""
    squares = np.einsum("ij,ij->i", bank, bank) - 2 * probe @ bank.T
    nearest = squares.min(1) + np.einsum("ij,ij->i", probe, probe)
    return float(np.sqrt(np.maximum(nearest, 0)).mean())
