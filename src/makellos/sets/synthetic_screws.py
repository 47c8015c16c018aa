"""Synthetic screws: gray pictures of good and damaged wood screws, with masks of the damage.

They exist so that everything can be tried and tested with nothing but the package. The screw is
ray traced as a solid; damage changes the solid, so that light, edges and shadow follow from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.progress import Progress, no_progress
from makellos.data.threads import in_order
from makellos.errors import InputError, suggest
from makellos.sets.synthetic_camera import Layers, develop, observe
from makellos.sets.synthetic_defects import DEFECTS, draw_damage
from makellos.sets.synthetic_geometry import Floats, Screw, draw_screw
from makellos.sets.synthetic_shading import Scene, draw_scene
from makellos.storage import storage_errors

__all__ = ["DEFECTS", "RenderedScrew", "render_screw", "write_screws"]

_SIZES = (64, 2048)
_VISIBLE = 5.0  # gray levels that a person tells from the same place without damage
_SMALLEST = 0.0004  # share of the picture: smaller damage is drawn again
_ATTEMPTS = 12
_MAX_THREADS = 8  # each takes some 100 MB for pictures of 512 pixels


@dataclass(frozen=True, eq=False)
class RenderedScrew:
    """Hold one picture (H x W, uint8, gray), its mask (H x W, True on damage) and the defect."""

    picture: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    defect: str | None


def render_screw(
    *, seed: int, size: int = 320, defect: str | None = None, aligned: bool = False
) -> RenderedScrew:
    """Render one screw, `size` x `size` pixels; the same arguments give the same pixels.

    It lies in any direction; `aligned`, level at one place, as in a fixture.

    With a `defect` (one of `DEFECTS`) the screw, pose, light and noise of the same `seed` stay,
    and the picture differs only in the mask, within 6 pixels (of 320) around it and, where metal
    is gone or bent, in the soft shadow beside it. Raises `InputError` for a size outside 64 to
    2048, a negative seed or an unknown defect.
    """
    _check(seed, size)
    if defect is not None and defect not in DEFECTS:
        raise InputError(f"There is no defect {defect!r}. {suggest(defect, DEFECTS)}")
    screw = draw_screw(np.random.default_rng([seed, 1]))
    scene = draw_scene(np.random.default_rng([seed, 2]), size, aligned=aligned)
    layers = observe(screw, scene, size)
    if defect is None:
        untouched = np.zeros((size, size), dtype=np.bool_)
        return RenderedScrew(_digitise(develop(layers, scene), scene), untouched, None)
    rng = np.random.default_rng([seed, 3, DEFECTS.index(defect)])
    gray, mask = _damage(rng, defect, screw, scene, layers)
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
    progress: Progress = no_progress,
) -> None:
    """Write a set of synthetic screws into `folder` in the MVTec AD layout.

    They lie in any direction; `aligned`, all alike, as in a fixture.

    Pictures are `train/good/000.png`, `test/good/000.png` and `test/<defect>/000.png`, masks
    `ground_truth/<defect>/000_mask.png` (0 and 255); `README.txt` is written last. Raises
    `InputError` for a folder that is not empty, a size outside 64 to 2048, a negative seed or
    count, and `StorageError` where the files cannot be written.
    """
    _check(seed, size)
    counts = {"n_train": n_train, "n_test_good": n_test_good, "n_per_defect": n_per_defect}
    for name, count in counts.items():
        if count < 0:
            raise InputError(f"{name} is {count}. It must be 0 or a positive integer.")
    folder = Path(folder)
    _check_empty(folder)
    jobs = list(_jobs(n_train, n_test_good, n_per_defect))

    def render(index: int) -> None:
        place, name, defect = jobs[index]
        picture_seed = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]
        screw = render_screw(seed=int(picture_seed), size=size, defect=defect, aligned=aligned)
        _write_png(folder / place / f"{name}.png", screw.picture)
        if defect is not None:
            mask = screw.mask.astype(np.uint8) * np.uint8(255)
            _write_png(folder / "ground_truth" / defect / f"{name}_mask.png", mask)

    advice = "Check that the disk has room and the folder may be written, or choose another one."
    with storage_errors(f"The screws could not be written to {folder}", advice):
        # Array arithmetic releases the GIL; processes would need a main guard in the caller.
        threads = min(_MAX_THREADS, os.cpu_count() or 1)
        with closing(in_order(render, range(len(jobs)), threads=threads)) as rendered:
            for done, _ in enumerate(rendered, start=1):
                progress("rendering screws", done, len(jobs))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.txt").write_text(
            _readme(counts, size, seed, aligned=aligned), encoding="utf-8"
        )


def _jobs(
    n_train: int, n_test_good: int, n_per_defect: int
) -> Iterator[tuple[str, str, str | None]]:
    for index in range(n_train):
        yield "train/good", f"{index:03d}", None
    for index in range(n_test_good):
        yield "test/good", f"{index:03d}", None
    for defect in DEFECTS:
        for index in range(n_per_defect):
            yield f"test/{defect}", f"{index:03d}", defect


def _check_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        kind = "is not empty" if folder.is_dir() else "is a file"
        raise InputError(
            f"{folder} {kind}. Screws are written into a new or empty folder: "
            "choose another one with -o, or remove it first."
        )


def _write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def _readme(counts: dict[str, int], size: int, seed: int, *, aligned: bool) -> str:
    return (
        "Synthetic screws, rendered by makellos. No photograph is among them, and results on them\n"
        "say nothing about real parts.\n\n"
        "Layout (as in MVTec AD): train/good, test/good, test/<defect>, and for each defective\n"
        "picture its mask in ground_truth/<defect> (255 where the damage shows).\n\n"
        f"Defects: {', '.join(DEFECTS)}\n"
        f"Pictures: {counts['n_train']} good to train, {counts['n_test_good']} good to test, "
        f"{counts['n_per_defect']} of each defect\n"
        f"Size: {size} x {size}\n"
        f"Seed: {seed}\n"
        f"Pose: {'level, all the same' if aligned else 'any direction'}\n"
    )


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


def _check(seed: int, size: int) -> None:
    if seed < 0:
        raise InputError(f"The seed is {seed}. It must be 0 or a positive integer.")
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise InputError(
            f"The size is {size} pixels. Sizes from {_SIZES[0]} to {_SIZES[1]} can be rendered."
        )


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
