"""Synthetic screws that all lie alike, for methods that reproduce a whole picture.

`write_screws` of makellos renders screws in any direction. Methods that learn whole pictures do
better when a fixture, or as here some image processing, lays every part the same way.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos import read_picture, sets, write_picture

ENLARGED = 3  # times the aligned size that screws are rendered at
ZOOM = 1.28  # screws fill a square best along its diagonal


def write_aligned_screws(
    folder: Path,
    *,
    size: int,
    n_train: int,
    n_calibration: int,
    n_test_good: int,
    n_per_defect: int,
    seed: int = 0,
) -> None:
    """Write aligned screws of `size`×`size` pixels into `folder`, in the MVTec AD layout.

    `n_train` good ones to learn from lie in train/good, `n_calibration` in val/good.
    """
    with TemporaryDirectory(prefix="screws-") as name:
        rendered = Path(name) / "rendered"
        sets.write_screws(
            rendered,
            n_train=n_train + n_calibration,
            n_test_good=n_test_good,
            n_per_defect=n_per_defect,
            size=max(64, ENLARGED * size),
            seed=seed,
        )
        for path in sorted(rendered.glob("t*/*/*.png")):
            place = path.relative_to(rendered)
            if place.parts[0] == "train" and int(path.stem) >= n_train:
                place = Path("val", *place.parts[1:])
            picture = read_picture(path)
            motion = along_the_diagonal(picture)
            write_picture(folder / place, align(picture, motion, size))
            marked = rendered / "ground_truth" / place.parts[1] / f"{path.stem}_mask.png"
            if marked.exists():
                mask = align(read_picture(marked), motion, size)
                target = folder / marked.relative_to(rendered)
                write_picture(target, np.where(mask > 64, 255, 0).astype(np.uint8))


def along_the_diagonal(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the motion (2×3) that lays a dark screw along the diagonal, its head upper left.

    The axis is the direction in which the dark pixels spread most; the head is the thicker end.
    """
    side = picture.shape[0]
    soft = cv2.GaussianBlur(picture, (0, 0), side / 160)
    _, dark = cv2.threshold(soft, 0, 255, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(dark)
    rows, columns = np.nonzero(labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax())
    points = np.stack([columns, rows], axis=1).astype(np.float64)
    axis = np.linalg.eigh(np.cov(points, rowvar=False))[1][:, 1]
    along = points @ axis
    start, end = np.quantile(along, [0.001, 0.999])
    if np.median(along) > (start + end) / 2:  # most of the metal is at the head
        axis, start, end = -axis, -end, -start
    across = np.array([-axis[1], axis[0]])
    middle = axis * (start + end) / 2 + across * np.median(points @ across)
    turn = ZOOM * cv2.Rodrigues(np.array([0, 0, np.pi / 4 - np.arctan2(axis[1], axis[0])]))[0]
    centre = np.full(2, (side - 1) / 2)
    return np.column_stack([turn[:2, :2], centre - turn[:2, :2] @ middle])


def align(picture: NDArray[np.uint8], motion: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """Move a picture, and shrink it to `size`×`size` pixels."""
    moved = cv2.warpAffine(
        picture,
        motion,
        picture.shape[::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cv2.resize(moved, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)
