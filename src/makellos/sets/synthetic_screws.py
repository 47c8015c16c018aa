"""Synthetic screws: gray pictures of good and damaged wood screws, with masks of the damage.

They exist so that everything can be tried and tested with nothing but the package. The screw is
ray traced as a solid; damage changes the solid, so that light, edges and shadow follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.progress import Progress, no_progress
from makellos.errors import InputError, suggest
from makellos.sets.synthetic_camera import Layers, develop, observe
from makellos.sets.synthetic_defects import DEFECTS, draw_damage
from makellos.sets.synthetic_dirt import lay_dirt
from makellos.sets.synthetic_geometry import Floats, Screw, draw_screw
from makellos.sets.synthetic_sets import SetPlan, check_rendering, write_set
from makellos.sets.synthetic_shading import Scene, draw_scene

__all__ = ["DEFECTS", "RenderedScrew", "render_screw", "write_screws"]

_VISIBLE = 5.0  # gray levels that a person tells from the same place without damage
_SMALLEST = 0.0004  # share of the picture: smaller damage is drawn again
_ATTEMPTS = 12


@dataclass(frozen=True, eq=False)
class RenderedScrew:
    """Hold one picture (H x W, uint8, gray), its mask (H x W, True on damage) and the defect."""

    picture: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    defect: str | None


def render_screw(
    *,
    seed: int,
    size: int = 320,
    defect: str | None = None,
    aligned: bool = False,
    dirty: bool = False,
) -> RenderedScrew:
    """Render one screw, `size` x `size` pixels; the same arguments give the same pixels.

    It lies in any direction; `aligned`, level at one place, as in a fixture. `dirty`, there are
    fibres, dust or stains on the table beside it, which the mask does not show.

    With a `defect` (one of `DEFECTS`) the screw, pose, light and noise of the same `seed` stay,
    and the picture differs only in the mask, within 6 pixels (of 320) around it and, where metal
    is gone or bent, in the soft shadow beside it. Raises `InputError` for a size outside 64 to
    2048, a negative seed or an unknown defect.
    """
    check_rendering(size, seed=seed)
    if defect is not None and defect not in DEFECTS:
        raise InputError(f"There is no defect {defect!r}. {suggest(defect, DEFECTS)}")
    screw = draw_screw(np.random.default_rng([seed, 1]))
    scene = draw_scene(np.random.default_rng([seed, 2]), size, aligned=aligned)
    layers = observe(screw, scene, size)
    if defect is None:
        gray, mask = develop(layers, scene), np.zeros((size, size), dtype=np.bool_)
    else:
        rng = np.random.default_rng([seed, 3, DEFECTS.index(defect)])
        gray, mask = _damage(rng, defect, screw, scene, layers)
    if dirty:
        damage = cv2.resize(mask.astype(np.float32), layers.cover.shape[::-1])
        cover = np.maximum(layers.cover, damage)
        gray = lay_dirt(np.random.default_rng([seed, 4]), gray, cover)
    return RenderedScrew(_digitise(gray, scene), mask, defect)


def write_screws(
    folder: Path | str,
    *,
    n_train: int = 120,
    n_test_good: int = 20,
    n_per_defect: int = 8,
    size: int = 320,
    seed: int = 0,
    aligned: bool = False,
    dirt: float = 0.0,
    progress: Progress = no_progress,
) -> None:
    """Write a set of synthetic screws into `folder` in the MVTec AD layout.

    They lie in any direction; `aligned`, all alike, as in a fixture. A share `dirt` of the good
    ones, to train and to test, has fibres, dust or stains beside the screw.

    Pictures are `train/good/000.png`, `test/good/000.png` and `test/<defect>/000.png`, masks
    `ground_truth/<defect>/000_mask.png` (0 and 255); `README.txt` is written last. Raises
    `InputError` for a folder that is not empty, a size outside 64 to 2048, a negative seed or
    count, a share outside 0 to 1, and `StorageError` where the files cannot be written.
    """
    if not 0 <= dirt <= 1:
        raise InputError(f"The share of dirty pictures is {dirt:g}. It must be from 0 to 1.")
    pose = "level, all the same" if aligned else "any direction"
    pose += f"\nDirt beside the screw: about {dirt:.0%} of the good ones" if dirt else ""
    plan = SetPlan("screws", DEFECTS, n_train, n_test_good, n_per_defect, size, seed, pose)

    def render(seed: int, defect: str | None) -> RenderedScrew:
        dirty = defect is None and float(np.random.default_rng([seed, 5]).random()) < dirt
        return render_screw(seed=seed, size=size, defect=defect, aligned=aligned, dirty=dirty)

    write_set(Path(folder), plan, render, progress)


def _damage(
    rng: np.random.Generator, defect: str, screw: Screw, scene: Scene, layers: Layers
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return gray levels and mask of the damaged screw; draw again what nobody would see."""
    size = len(scene.table)
    best = (develop(layers, scene), np.zeros((size, size), dtype=np.bool_))
    for attempt in range(_ATTEMPTS):
        strength = min(1.0, float(rng.uniform(0, 1)) ** 0.6 + 0.1 * attempt)
        damaged = replace(screw, damage=draw_damage(rng, defect, screw, strength))
        after = observe(damaged, scene, size, layers)
        gray = develop(after, scene)
        # with the shadow of the damaged screw, as a missing tip throws none
        good = develop(layers, scene, shadow_of=after)
        mask = _changed(good, gray, np.maximum(layers.cover, after.cover))
        if mask.sum() > best[1].sum():
            best = (_inlay(good, gray, mask), mask)
        if best[1].sum() >= max(4, _SMALLEST * size * size):
            break
    return best


def _changed(good: Floats, gray: Floats, screw: Floats) -> NDArray[np.bool_]:
    """Return the mask of visible change: closed, without holes, without crumbs."""
    scale = good.shape[0] / 320
    change = (np.abs(gray - good) > _VISIBLE).astype(np.uint8)
    width = max(1, round(2 * scale)) * 2 + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    # the shadow changes too, but nobody would call the table damaged
    place = cv2.resize(screw, good.shape[::-1], interpolation=cv2.INTER_AREA) > 0
    change &= cv2.dilate(place.astype(np.uint8), np.ones((3, 3), dtype=np.uint8))
    change = cv2.morphologyEx(change, cv2.MORPH_CLOSE, kernel)
    outlines, _ = cv2.findContours(change, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(change, outlines, -1, 1, cv2.FILLED)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(change, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = areas >= max(2.0, 9 * scale**2, 0.04 * float(areas[1:].max(initial=0)))
    kept[0] = False
    result: NDArray[np.bool_] = kept[labels]
    return result


def _inlay(good: Floats, gray: Floats, mask: NDArray[np.bool_]) -> Floats:
    """Take `gray` in and just around the mask and `good`, exactly, everywhere else."""
    reach = max(1, round(3 * good.shape[0] / 320))
    width = 2 * reach + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    share = cv2.dilate(mask.astype(np.float32), kernel)
    share = cv2.blur(share, (width, width))
    share = np.maximum(share, mask)
    result: Floats = good + share * (gray - good)
    return result


def _digitise(gray: Floats, scene: Scene) -> NDArray[np.uint8]:
    """Add photon-like noise and round to gray levels."""
    shot = np.sqrt(np.maximum(gray, 1) * np.float32(1 / 200))
    noisy = gray + scene.noise * shot * np.float32(scene.noise_strength)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
