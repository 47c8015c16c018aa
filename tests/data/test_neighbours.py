"""Neighbours of many vectors, with and without cells, and what is joined two by two."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.data import neighbours
from makellos.data.neighbours import Joined, nearest


def unit(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    found = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def found_by(vectors: NDArray[np.float32], k: int) -> list[set[int]]:
    rows: dict[int, set[int]] = {}
    for numbers, found, alike in nearest(vectors, k):
        for number, those, values in zip(numbers, found, alike, strict=True):
            rows[int(number)] = set(those[np.isfinite(values)].tolist())
    return [rows[i] for i in range(len(vectors))]


def test_the_nearest_are_those_of_a_full_search() -> None:
    vectors = unit(700, 12)
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -np.inf)
    assert found_by(vectors, 5) == [set(row.tolist()) for row in np.argsort(-alike)[:, :5]]


def test_copies_are_found_through_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(2000, 60)
    rng = np.random.default_rng(1)
    copies = vectors[:200] + rng.normal(0, 0.02, (200, 60)).astype(np.float32)
    monkeypatch.setattr(neighbours, "_EXACT", 100)
    found = found_by(np.concatenate([vectors, copies]), 8)
    assert sum(2000 + i in found[i] for i in range(200)) >= 198
    assert all(i not in each for i, each in enumerate(found))


def test_cells_of_one_vector_again_and_again_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_EXACT", 100)
    monkeypatch.setattr(neighbours, "_LARGEST", 64)
    found = found_by(np.zeros((1000, 5), np.float32), 3)
    assert all(len(each) <= 3 for each in found)


def test_what_is_joined_has_the_first_one_as_its_own() -> None:
    joined = Joined(6)
    joined.join(4, 1)
    joined.join(0, 4)
    joined.join(2, 3)
    assert [joined.of(i) for i in range(6)] == [0, 0, 2, 2, 0, 5]
