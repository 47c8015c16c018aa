"""The search of a large memory bank by cells, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.detectors.graphs import GraphBuilder, empty_graph
from makellos.detectors.patches import cells as cells_module
from makellos.detectors.patches.cell_graph import distance_by_cells
from makellos.detectors.patches.cells import Cells, balanced_cells, learn_cells, near_spacings
from makellos.inspection.engines import EngineChoice, available_engines, open_engine
from makellos.inspection.graph_check import check_graph

EXACT = [choice for choice in available_engines() if choice.precision == "f32"]


def clusters(n: int, n_channels: int, seed: int) -> NDArray[np.float32]:
    """Return points (n, n_channels) around centres that all seeds share."""
    centres = 3 * np.random.default_rng(0).normal(size=(30, n_channels))
    rng = np.random.default_rng([1, seed])
    spread = rng.normal(size=(n, n_channels))
    return (centres[rng.integers(30, size=n)] + spread).astype(np.float32)


def brute_force(
    points: NDArray[np.float32], bank: NDArray[np.float16], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    squares = np.square(points[:, np.newaxis].astype(np.float64) - bank.astype(np.float64)).sum(2)
    counted: NDArray[np.float64] = (squares[:, weights > 0] * weights[weights > 0]).min(1)
    return np.sqrt(counted)


def found_by(
    cells: Cells,
    x: NDArray[np.float32],
    bank: NDArray[np.float16],
    weights: NDArray[np.float32],
    engine: EngineChoice,
) -> NDArray[np.float32]:
    """Return the distances N×P that a graph gives for patches N×P×C."""
    _, n_patches, n_channels = x.shape
    builder = GraphBuilder(empty_graph("search", {"x": ["n", n_patches, n_channels]}))
    name = distance_by_cells(builder, "x", n_patches, bank, weights, cells)
    graph = builder.with_outputs({name: ["n", n_patches, 1]})
    opened = open_engine(graph, engine, shape=(n_patches, n_channels))
    return opened.run(x)[name][:, :, 0]


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small banks be searched by cells, at any cost."""
    monkeypatch.setattr(cells_module, "LARGEST_PLAIN", 10)
    monkeypatch.setattr(cells_module, "_COST_OF_LOOK", 0.0)
    monkeypatch.setattr(cells_module, "_COST_OF_CELL", 0.0)


@pytest.mark.parametrize(("n_points", "n_cells"), [(100, 8), (101, 16), (64, 64), (5, 1)])
def test_cells_share_all_points_evenly(n_points: int, n_cells: int) -> None:
    members = balanced_cells(clusters(n_points, 5, 0), n_cells)
    assert members.shape == (n_cells, -(-n_points // n_cells))
    assert sorted(set(members.ravel())) == list(range(n_points))
    owners = [set(row) for row in members]
    assert sum(map(len, owners)) == n_points


def test_cells_of_points_that_are_all_alike_are_even_too() -> None:
    members = balanced_cells(np.ones((40, 3), np.float32), 8)
    assert sorted(members.ravel()) == list(range(40))


def test_points_of_a_cell_lie_together() -> None:
    points = clusters(2000, 6, 0)
    members = balanced_cells(points, 32)
    inside = np.mean([points[rows].var(0).sum() for rows in members])
    assert inside < 0.35 * points.var(0).sum()


@pytest.mark.parametrize("engine", EXACT, ids=str)
@pytest.mark.parametrize("n_patches", [20, 48, 100])
def test_a_search_of_every_cell_is_brute_force(n_patches: int, engine: EngineChoice) -> None:
    bank = clusters(500, 7, 0).astype(np.float16)
    weights = np.random.default_rng(2).uniform(0.2, 3, 500).astype(np.float32)
    x = clusters(2 * n_patches, 7, 1).reshape(2, n_patches, 7)
    members = balanced_cells(bank, 16)
    found = found_by(Cells(members, bank[:9].astype(np.float32), 16), x, bank, weights, engine)
    for i in range(2):
        # The bank times its weights is kept in half precision.
        expected = brute_force(x[i], bank, weights)
        np.testing.assert_allclose(found[i], expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("engine", EXACT, ids=str)
def test_what_has_no_weight_is_left_out(engine: EngineChoice) -> None:
    bank = clusters(300, 5, 0).astype(np.float16)
    members = balanced_cells(bank, 8)
    weights = np.ones(300, np.float32)
    weights[members[2]] = 0  # a whole cell, and single ones of others
    weights[::7] = 0
    x = bank[members[2]].astype(np.float32)[np.newaxis]
    found = found_by(Cells(members, x[0, :3], 8), x, bank, weights, engine)
    expected = brute_force(x[0], bank, weights)
    assert expected.min() > 0.1
    np.testing.assert_allclose(found[0], expected, rtol=2e-3, atol=2e-3)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("spaced", [True, False])
def test_a_learned_search_finds_the_nearest(spaced: bool) -> None:
    bank = clusters(4000, 6, 0).astype(np.float16)
    rng = np.random.default_rng(2)
    units = rng.uniform(0.5, 2, 4000).astype(np.float32) if spaced else None
    weights = np.ones(4000, np.float32) if units is None else units**-2.0
    others = np.ones(4000, np.bool_)
    cells = learn_cells(bank, units, [(clusters(480, 6, seed), others) for seed in (1, 2)])
    assert cells is not None
    assert cells.n_near < len(cells.members) / 2
    x = clusters(480, 6, 3)
    found = found_by(cells, x[np.newaxis], bank, weights, EXACT[0])[0]
    expected = brute_force(x, bank, weights)
    assert (found >= expected * 0.997).all()
    assert (found <= expected * 1.003).mean() >= 0.98


@pytest.mark.usefixtures("eager")
def test_a_part_does_not_find_itself_when_looks_are_counted() -> None:
    """Its own patches lie in the bank, at no distance: what they need says nothing of others."""
    bank = clusters(2000, 6, 0).astype(np.float16)
    own = np.arange(2000) < 100
    probe = bank[own].astype(np.float32)
    blind = learn_cells(bank, None, [(probe, ~own)])
    seeing = learn_cells(bank, None, [(probe, np.ones(2000, np.bool_))])
    assert blind is not None
    assert seeing is not None
    assert blind.n_near > seeing.n_near


def test_small_banks_and_banks_without_structure_are_searched_in_one_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    bank = rng.normal(size=(3000, 40)).astype(np.float16)
    probes = [(rng.normal(size=(480, 40)).astype(np.float32), np.ones(3000, np.bool_))]
    assert learn_cells(bank, None, probes) is None
    monkeypatch.setattr(cells_module, "LARGEST_PLAIN", 10)
    assert learn_cells(bank, None, probes) is None


def test_a_graph_that_searches_by_cells_may_be_opened() -> None:
    bank = clusters(500, 7, 0).astype(np.float16)
    builder = GraphBuilder(empty_graph("search", {"picture": ["n", 3, 8, 7]}))
    flat = builder.add("Reshape", "picture", builder.shape(0, 24, 7))
    cells = Cells(balanced_cells(bank, 16), bank[:4].astype(np.float32), 3)
    distances = distance_by_cells(builder, flat, 24, bank, np.ones(500, np.float32), cells)
    flat_map = builder.as_map(distances, 4, 6, 1.0)
    check_graph(builder.finish(flat_map, 4, 6), (3, 8, 7))


def test_spacings_of_near_cells_are_those_of_all() -> None:
    points = clusters(6000, 4, 0)
    found = near_spacings(points, 5)
    asked = np.arange(0, 6000, 50)
    away = np.sqrt(np.square(points[asked, np.newaxis] - points).sum(2))
    expected = np.sort(away, 1)[:, 1:6].mean(1)
    assert (found[asked] >= expected * 0.999).all()
    assert np.mean(found[asked] / expected) < 1.02
