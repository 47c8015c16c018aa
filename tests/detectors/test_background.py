"""What is part and what is background, learned from good pictures without labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from makellos.data.parts import Part
from makellos.data.progress import no_progress
from makellos.detectors.graph import Graph
from makellos.detectors.graphs import GraphBuilder, empty_graph
from makellos.detectors.patches.background import PartRule, learn_part
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.background import part_in
from makellos.inspection.engines import available_engines, open_engine
from makellos.inspection.preprocessing import Preprocessing

SIDE, CHANNELS, N = 24, 12, 20


@dataclass
class _Embedder:
    """Give made-up patches in place of a network's."""

    pictures: list[np.ndarray]
    shapes: tuple[tuple[int, int, int], ...] = ((CHANNELS, SIDE, SIDE),)
    seen: list[str] = field(default_factory=list)

    def stream(self, parts: Sequence[Part], *rest: Any) -> Iterator[list[np.ndarray]]:
        for part in parts:
            self.seen.append(part.name)
            yield [self.pictures[int(part.name)].reshape(-1, CHANNELS)]


def _parts(n: int = N) -> list[Part]:
    return [Part(source=Path(f"{i}.png"), name=str(i)) for i in range(n)]


def _pictures(spread: float, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return patches of pictures, and where the part is: a block of patches that differ more."""
    rng = np.random.default_rng(seed)
    looks = rng.normal(0, spread, (4, CHANNELS)) + 2.0
    found, masks = [], []
    for _ in range(N):
        mask = np.zeros((SIDE, SIDE), bool)
        y, x = rng.integers(4, 10, 2)
        mask[y : y + 9, x : x + 10] = True
        patches = rng.normal(0, 0.3, (SIDE, SIDE, CHANNELS))
        inside = looks[rng.integers(4, size=mask.sum())]
        patches[mask] = inside + rng.normal(0, spread, (mask.sum(), CHANNELS))
        found.append(patches.astype(np.float32))
        masks.append(mask)
    return found, masks


def _learned(pictures: list[np.ndarray], parts: list[Part] | None = None) -> PartRule | None:
    embedder: Any = _Embedder(pictures)
    return learn_part(embedder, parts or _parts(), no_progress)


def test_a_part_with_structure_is_told_from_a_plain_background() -> None:
    pictures, masks = _pictures(2.0)
    rule = _learned(pictures)
    assert rule is not None
    for patches, mask in zip(pictures, masks, strict=True):
        told = part_in(patches @ rule.weights + rule.bias > 0)
        assert np.mean(told == mask) > 0.98
    low, high = rule.usual
    assert low < 90 / SIDE**2 < high < 3 * low


def test_a_surface_that_is_alike_everywhere_has_no_background() -> None:
    rng = np.random.default_rng(1)
    pictures = [rng.normal(0, 1, (SIDE, SIDE, CHANNELS)).astype(np.float32) for _ in range(N)]
    assert _learned(pictures) is None
    pictures, _ = _pictures(0.3)
    assert _learned(pictures) is None


def test_a_part_along_the_whole_border_is_no_background() -> None:
    pictures, masks = _pictures(2.0)
    rng = np.random.default_rng(2)
    for patches, mask in zip(pictures, masks, strict=True):
        patches[mask] = rng.normal(0, 0.3, patches[mask].shape)
        patches[~mask] = rng.normal(0, 2.0, patches[~mask].shape)
    assert _learned(pictures) is None


def test_tiles_have_no_border_to_learn_from() -> None:
    from makellos.data.tiles import Tile

    pictures, _ = _pictures(2.0)
    tiles = [part.changed(Tile(0, 0, 8, (16, 16)), name=part.name) for part in _parts()]
    assert _learned(pictures, tiles) is None


def test_at_most_64_pictures_are_looked_at() -> None:
    pictures, _ = _pictures(2.0)
    embedder: Any = _Embedder(pictures * 10)
    assert learn_part(embedder, _parts(10 * N), no_progress) is not None
    assert len(embedder.seen) == len(set(embedder.seen)) == 64


def test_the_graph_says_of_each_place_how_surely_it_is_part() -> None:
    weights = np.linspace(-1, 1, CHANNELS).astype(np.float32)
    rule = PartRule(0, weights, 0.25, (0.1, 0.2))
    builder = GraphBuilder(empty_graph("test", {"picture": ["n", CHANNELS, SIDE, SIDE]}))
    map_ = builder.add("ReduceSum", "picture", builder.shape(1), attributes={"keepdims": 1})
    plain = Graph(
        builder.finish(map_, SIDE, SIDE), Preprocessing(height=SIDE, width=SIDE), Aggregation()
    )

    class Embedder(_Embedder):
        names = ("picture",)

    embedder: Any = Embedder([])
    graph = rule.on(plain, embedder, "ignore")
    assert graph.background is not None and graph.background.choice == "ignore"
    picture = np.random.default_rng(0).random((2, CHANNELS, SIDE, SIDE), np.float32)
    engine = open_engine(graph.onnx, available_engines()[-1], shape=(CHANNELS, SIDE, SIDE))
    found = engine.run(picture)
    logits = np.einsum("nchw,c->nhw", picture, weights) + 0.25
    assert found["part"] == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-5)
    assert found["anomaly_map"] == pytest.approx(picture.sum(1), abs=1e-4)
