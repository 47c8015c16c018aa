"""Writing a rendered set: pictures of good and damaged parts and masks, in the MVTec AD layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.progress import Progress
from makellos.data.threads import in_order
from makellos.errors import InputError
from makellos.storage import storage_errors, write_bytes

__all__ = ["SetPlan", "check_rendering", "write_png", "write_set"]

_LARGEST = 2048  # side of a picture, in pixels
_MAX_THREADS = 8  # each takes some 100 MB for pictures of 512 pixels


class _Rendered(Protocol):
    @property
    def picture(self) -> NDArray[np.uint8]: ...

    @property
    def mask(self) -> NDArray[np.bool_]: ...


@dataclass(frozen=True)
class SetPlan:
    """Say what a set holds: `parts` in words, the names of the defects, how many of each, size."""

    parts: str
    defects: tuple[str, ...]
    n_train: int
    n_test_good: int
    n_per_defect: int
    size: int
    seed: int
    pose: str = ""
    smallest: int = 64

    def jobs(self) -> Iterator[tuple[str, str, str | None]]:
        """Yield folder, name and defect of each picture."""
        for index in range(self.n_train):
            yield "train/good", f"{index:03d}", None
        for index in range(self.n_test_good):
            yield "test/good", f"{index:03d}", None
        for defect in self.defects:
            for index in range(self.n_per_defect):
                yield f"test/{defect}", f"{index:03d}", defect

    def seed_of(self, index: int) -> int:
        """Return the seed of a picture by its place among the jobs."""
        return int(np.random.SeedSequence([self.seed, index]).generate_state(1, np.uint64)[0])

    def readme(self) -> str:
        """Return what the set says of itself."""
        return (
            f"Synthetic {self.parts}, rendered by makellos. No photograph is among them, and "
            "results on them\nsay nothing about real parts.\n\n"
            "Layout (as in MVTec AD): train/good, test/good, test/<defect>, and for each defective"
            "\npicture its mask in ground_truth/<defect> (255 where the damage shows).\n\n"
            f"Defects: {', '.join(self.defects)}\n"
            f"Pictures: {self.n_train} good to train, {self.n_test_good} good to test, "
            f"{self.n_per_defect} of each defect\n"
            f"Size: {self.size} x {self.size}\n"
            f"Seed: {self.seed}\n" + (f"Pose: {self.pose}\n" if self.pose else "")
        )


def check_rendering(size: int, *, least: int = 64, **numbers: int) -> None:
    """Raise `InputError` for a size that cannot be rendered, and for a negative seed."""
    for name, value in numbers.items():
        if value < 0:
            raise InputError(f"The {name} is {value}. It must be 0 or a positive integer.")
    if not least <= size <= _LARGEST:
        raise InputError(
            f"The size is {size} pixels. Sizes from {least} to {_LARGEST} can be rendered."
        )


def write_set(
    folder: Path,
    plan: SetPlan,
    render: Callable[[int, str | None], _Rendered],
    progress: Progress,
) -> None:
    """Write what `render` makes of a seed and a defect; `README.txt` is written last.

    Raises `InputError` for a folder that is not empty, a size that cannot be rendered, a negative
    seed or count, and `StorageError` where the files cannot be written.
    """
    check_rendering(plan.size, least=plan.smallest, seed=plan.seed)
    for name in ("n_train", "n_test_good", "n_per_defect"):
        if getattr(plan, name) < 0:
            raise InputError(
                f"{name} is {getattr(plan, name)}. It must be 0 or a positive integer."
            )
    _check_empty(folder, plan.parts)
    jobs = list(plan.jobs())

    def write(index: int) -> None:
        place, name, defect = jobs[index]
        rendered = render(plan.seed_of(index), defect)
        write_png(folder / place / f"{name}.png", rendered.picture)
        if defect is not None:
            mask = rendered.mask.astype(np.uint8) * np.uint8(255)
            write_png(folder / "ground_truth" / defect / f"{name}_mask.png", mask)

    advice = "Check that the disk has room and the folder may be written, or choose another one."
    with storage_errors(f"The {plan.parts} could not be written to {folder}", advice):
        # Array arithmetic releases the GIL; processes would need a main guard in the caller.
        threads = min(_MAX_THREADS, os.cpu_count() or 1)
        with closing(in_order(write, range(len(jobs)), threads=threads)) as written:
            for done, _ in enumerate(written, start=1):
                progress(f"rendering {plan.parts}", done, len(jobs))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.txt").write_text(plan.readme(), encoding="utf-8")


def _check_empty(folder: Path, parts: str) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        kind = "is not empty" if folder.is_dir() else "is a file"
        raise InputError(
            f"{folder} {kind}. {parts.capitalize()} are written into a new or empty folder: "
            "choose another one with -o, or remove it first."
        )


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture H×W or H×W×3, RGB, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    write_bytes(path, cv2.imencode(".png", pixels)[1].tobytes())
