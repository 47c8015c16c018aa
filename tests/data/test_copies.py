"""Copies of pictures: found however they were saved, and parts that merely look alike are not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.data.copies import as_groups, copies, sketch
from makellos.data.parts import Part
from makellos.data.pictures import read_picture

Gray = NDArray[np.uint8]


def photo(seed: int, *, size: int = 160) -> Gray:
    """A part with an outline that all have, in a place of its own, a texture and noise."""
    rng = np.random.default_rng(seed)
    shown = cv2.GaussianBlur(rng.normal(0, 1, (size, size)), (0, 0), 3) * 60 + 110
    cv2.circle(shown, (80 + seed % 7, 80 + seed % 5), 40, (190.0,), 3)
    return np.clip(shown + rng.normal(0, 3, shown.shape), 0, 255).astype(np.uint8)


def saved(kind: str, quality: int) -> Callable[[Gray], Any]:
    def change(picture: Gray) -> Any:
        _, encoded = cv2.imencode(kind, picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)

    return change


CHANGES: dict[str, Callable[[Gray], Any]] = {
    "the same": np.copy,
    "in colour": lambda p: np.dstack([p, p, p]),
    "jpeg 95": saved(".jpg", 95),
    "jpeg 60": saved(".jpg", 60),
    "brighter": lambda p: cv2.convertScaleAbs(p, alpha=1, beta=25),
    "exposed longer": lambda p: cv2.convertScaleAbs(p, alpha=1.3, beta=0),
    "gamma": lambda p: np.rint(255 * (p / 255) ** 0.8).astype(np.uint8),
    "half": lambda p: cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "larger": lambda p: cv2.resize(p, None, fx=1.5, fy=1.5),
    "mirrored": lambda p: p[:, ::-1],
    "upside down": lambda p: p[::-1],
    "turned": np.rot90,
    "16 bit": lambda p: p.astype(np.uint16) * 257,
    "noise": lambda p: np.clip(p + np.random.default_rng(9).normal(0, 2, p.shape), 0, 255).astype(
        np.uint8
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_copy_is_found_however_it_was_changed(name: str) -> None:
    pictures = [photo(seed) for seed in range(10)]
    pictures += [np.ascontiguousarray(CHANGES[name](pictures[i])) for i in (2, 7)]
    assert copies([sketch(each) for each in pictures]) == [[2, 10], [7, 11]]


def test_each_picture_copied_in_several_ways() -> None:
    ways = ("jpeg 95", "mirrored", "brighter")
    pictures = [photo(seed) for seed in range(8)]
    pictures += [
        np.ascontiguousarray(CHANGES[way](photo(seed))) for way in ways for seed in range(8)
    ]
    found = copies([sketch(each) for each in pictures])
    assert found == [[i, i + 8, i + 16, i + 24] for i in range(8)]


@pytest.mark.parametrize("noise", [1.0, 4.0])
@pytest.mark.parametrize("n_variants", [1, 2, 5])
@pytest.mark.parametrize(("jitter", "flat"), [(0, 0), (0.5, 0), (0, 0.6), (0.5, 0.6), (3, 0.6)])
def test_parts_of_a_tidy_series_are_no_copies(
    noise: float, jitter: float, n_variants: int, flat: float
) -> None:
    rng = np.random.default_rng(3)
    masters = [photo(seed).astype(np.float32) for seed in range(n_variants)]
    for master in masters:
        master[: int(flat * len(master))] = 120
    pictures = []
    for i in range(40):
        dx, dy = rng.normal(0, 1, 2) * jitter
        moved = cv2.warpAffine(
            masters[i % n_variants], np.array([[1, 0, dx], [0, 1, dy]]), (160, 160)
        )
        seen = moved + rng.normal(0, noise, moved.shape)
        pictures.append(np.clip(seen, 0, 255).astype(np.uint8))
    assert copies([sketch(each) for each in pictures]) == []
    # and equal ones are, even so
    assert copies([sketch(each) for each in [*pictures, pictures[5]]]) == [[5, 40]]


def test_a_few_parts_that_lie_elsewhere_are_no_copies() -> None:
    rng = np.random.default_rng(0)
    master = photo(0).astype(np.float32)
    lots = [master] * 30 + [np.roll(master, 6, axis=1)] * 4
    pictures = [np.clip(lot + rng.normal(0, 2, lot.shape), 0, 255).astype(np.uint8) for lot in lots]
    assert copies([sketch(each) for each in pictures]) == []


def test_small_pictures_are_copies_where_they_are_equal() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (8, 8), np.uint8) for _ in range(6)]
    assert copies([sketch(each) for each in [*pictures, pictures[1], pictures[1]]]) == [[1, 6, 7]]
    assert copies([]) == []


def test_copies_join_the_groups_that_they_had() -> None:
    groups = {"a": "lot 1", "b": None, "c": "lot 2", "d": "lot 2", "e": None}
    parts = [Part(source=Path(name), name=name, group=group) for name, group in groups.items()]
    joined = [part.group for part in as_groups(parts, [[0, 3]])]
    assert joined[0] == joined[2] == joined[3] is not None
    assert [joined[1], joined[4]] == [None, None]
    assert [part.group for part in as_groups(parts, [])] == list(groups.values())


@pytest.mark.real
@pytest.mark.skipif("MAKELLOS_DATA" not in os.environ, reason="needs real data")
def test_real_series_keep_their_counts() -> None:
    """Sets found: one screw taken twice, and exposures of one tile (looked at, one by one)."""
    data = Path(os.environ["MAKELLOS_DATA"])
    for folder, n_parts, n_copies in (
        ("mvtec_screw/train/good", 320, 1),
        ("mvtec_screw/test/good", 41, 0),
        ("magnetic_tile/train/good", 761, 28),
    ):
        sketches = [sketch(read_picture(path)) for path in sorted((data / folder).iterdir())]
        assert len(sketches) == n_parts
        assert sum(len(found) - 1 for found in copies(sketches)) == n_copies
