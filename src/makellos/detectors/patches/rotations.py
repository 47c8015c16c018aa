"""Good parts turned and mirrored, for detectors that learn from more poses than there are.

Also whether that pays: few parts that lie at any angle gain much by it, those in a fixture little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Change, Part
from makellos.data.pictures import Picture
from makellos.data.progress import Progress, no_progress
from makellos.detectors.patches.embeddings import PatchEmbedder, load_embedder
from makellos.inspection.preprocessing import Preprocessing

__all__ = ["Turn", "lie_at_any_angle", "turned", "turning_pays", "views"]

_N_PROBES = 12
_ODDEST = 0.98  # quantile of a part's distances: most of a part is plain at any angle
_GAINING = 0.25  # of the parts looked at, those that gain most by turning, tell
_WORTH = 0.85  # screws that lie anyhow have 0.6, tiles in one pose 0.94
_ROWS = 8192
_BACKBONE, _LAYERS = "efficientnet_lite0", ""  # the packaged one
_FEW = 6  # parts, of which nothing is told
_N_LOOKED_AT, _N_ANGLES, _SMALL = 12, 8, 160  # parts, turns of each, pixels per side


@dataclass(frozen=True)
class Turn(Change):
    """Turn a picture by `degrees` against the clock, or mirror it first.

    It keeps its size: what a turn uncovers repeats the border.
    """

    degrees: float = 0.0
    mirrored: bool = False

    def __call__(self, picture: Picture) -> Picture:
        """Return the turned picture."""
        return turned(picture, self.degrees, mirrored=self.mirrored)

    def on_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the turned mask."""
        return turned(mask.astype(np.uint8), self.degrees, mirrored=self.mirrored) > 0


def turned(picture: Picture, degrees: float, *, mirrored: bool = False) -> Picture:
    """Return a picture H×W or H×W×3 mirrored left to right, then turned against the clock.

    Half turns are exact, and quarter turns where the picture is square.
    """
    if mirrored:
        picture = picture[:, ::-1]
    height, width = picture.shape[:2]
    quarters = degrees / 90
    if quarters.is_integer() and (height == width or quarters % 2 == 0):
        exact: Any = np.rot90(picture, int(quarters) % 4)
        return np.ascontiguousarray(exact)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    result: Picture = cv2.warpAffine(
        np.ascontiguousarray(picture),
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return result


def views(parts: Sequence[Part], *, n_turns: int = 1, mirror: bool = False) -> list[Part]:
    """Return each part at `n_turns` even turns from its own pose on, and those mirrored as well.

    The views of a part follow each other, its own first.
    """
    found: list[Part] = []
    for part in parts:
        for mirrored in (False, True)[: 1 + mirror]:
            for turn in range(n_turns):
                plain = not turn and not mirrored
                degrees = 360.0 * turn / n_turns
                found.append(part if plain else part.changed(Turn(degrees, mirrored)))
    return found


def turning_pays(
    embedder: PatchEmbedder,
    parts: Sequence[Part],
    n_turns: int,
    progress: Progress = no_progress,
) -> bool:
    """Tell whether the oddest patches of parts come nearer to other parts once those are turned.

    In the coarsest layer, each of some parts is compared with all others as they lie, and with all
    others at `n_turns` even angles. Some patches come nearer in any case, for there are more to
    choose from; of parts that lie at any angle the oddest come much nearer. Of few such parts some
    lie alike by chance, so that those which gain most are asked.
    """
    found = embedder.stream(views(parts, n_turns=n_turns), progress, "checking how parts lie")
    patches = [layers[-1] for layers in found]
    scale = np.concatenate(patches[::n_turns]).std(0) + 1e-6
    ratios: list[float] = []
    for i in np.unique(np.linspace(0, len(parts) - 1, _N_PROBES).astype(int)):
        probe = patches[i * n_turns] / scale
        others = [found for j, found in enumerate(patches) if j // n_turns != i]
        lying = _oddest(probe, np.concatenate(others[::n_turns]) / scale)
        turned_too = _oddest(probe, np.concatenate(others) / scale)
        ratios.append(turned_too / lying if lying > 0 else 1.0)
    n_asked = max(1, int(_GAINING * len(ratios)))
    return float(np.mean(sorted(ratios)[:n_asked])) < _WORTH


def lie_at_any_angle(parts: Sequence[Part], progress: Progress = no_progress) -> bool:
    """Tell whether parts lie at any angle, by a look at a dozen of them, small; about a second."""
    if len(parts) < _FEW:
        return False
    step = -(-len(parts) // _N_LOOKED_AT)
    embedder = load_embedder(
        Preprocessing(height=_SMALL, width=_SMALL),
        backbone=_BACKBONE,
        weights="",
        layers=_LAYERS,
        patch_size=3,
    )
    return turning_pays(embedder, parts[::step], _N_ANGLES, progress)


def _oddest(probe: NDArray[np.float32], bank: NDArray[np.float32]) -> float:
    """Return a high quantile of the distances of patches (n, d) to the nearest of a bank (m, d)."""
    nearest = np.full(len(probe), np.inf, np.float32)
    for start in range(0, len(bank), _ROWS):
        rows = bank[start : start + _ROWS]
        squares = probe @ (-2 * rows.T) + np.einsum("ij,ij->i", rows, rows)
        np.minimum(nearest, squares.min(1), out=nearest)
    nearest += np.einsum("ij,ij->i", probe, probe)
    return float(np.quantile(np.sqrt(np.maximum(nearest, 0)), _ODDEST))
