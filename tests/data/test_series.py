"""Series in file names."""

from __future__ import annotations

import numpy as np
import pytest

from makellos.data.series import series_in_names


def ways(names: list[str]) -> dict[str, int]:
    return {what: len(set(labels)) for what, labels in series_in_names(names)}


@pytest.mark.parametrize(
    ("names", "what", "n"),
    [
        ([f"{lot}/{i}.png" for lot in "abc" for i in range(9)], "folders", 3),
        ([f"lot{lot}_{i}.png" for lot in "abc" for i in range(9)], "the beginning of the", 3),
        ([f"l{lot}-{i}.png" for lot in range(4) for i in range(9)], "number 1 in the file", 4),
        ([f"p_{i}_{lot}.png" for lot in range(4) for i in range(9)], "number 2 in the file", 4),
        (
            [f"cam_2026-05-{day:02}_{i}.png" for day in (3, 4, 9) for i in range(9)],
            "the date in the file name",
            3,
        ),
        ([f"{start + i}.png" for start in (0, 400, 900) for i in range(9)], "gaps in the", 3),
    ],
)
def test_series_are_found(names: list[str], what: str, n: int) -> None:
    found = ways(names)
    assert [count for name, count in found.items() if name.startswith(what)] == [n]


def test_names_without_series_have_none() -> None:
    rng = np.random.default_rng(0)
    assert series_in_names([f"{i:03}.png" for i in range(60)]) == []
    assert series_in_names([f"{rng.integers(2**40):x}.png" for _ in range(60)]) == []
    assert series_in_names([f"{i}.png" for i in rng.permutation(5000)[:60]]) == []
    assert series_in_names([]) == []


def test_the_same_division_comes_once() -> None:
    names = [f"lot{lot}_{i}.png" for lot in "ab" for i in range(10, 20)]
    divisions = [
        tuple(np.unique(labels, return_inverse=True)[1]) for _, labels in series_in_names(names)
    ]
    assert len(divisions) == len(set(divisions))
