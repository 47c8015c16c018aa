"""PatchCore against a brute-force calculation on a backbone of known functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from drawn_parts import EXACT, MakeParts, draw, layers_of, layers_of_parts, map_of, rewrite
from known_backbone import patchcore_map

from makellos.data.pictures import read_picture
from makellos.detectors import patchcore
from makellos.detectors.patchcore import PatchCore
from makellos.detectors.patches.cells import Cells, balanced_cells
from makellos.errors import InputError
from makellos.inspection.engines import EngineChoice

pytestmark = pytest.mark.usefixtures("known")

QUERY = draw(1, 0)
# A bank of half precision rounds at 5e-4; a map's values are around 1.
CLOSE: dict[str, float] = {"rtol": 2e-3, "atol": 2e-3}


def everything(**changes: Any) -> PatchCore:
    """Return a detector whose memory bank holds every patch."""
    values = {
        "image_size": 64,
        "coreset_ratio": 1.0,
        "memory_bank_size": 10**6,
        "rotations": 1,
        **changes,
    }
    return PatchCore(**values)


@pytest.mark.parametrize("engine", EXACT, ids=str)
@pytest.mark.parametrize(("patch_size", "num_neighbors"), [(1, 5), (3, 5), (3, 0), (3, 1)])
def test_map_is_that_of_brute_force(
    patch_size: int, num_neighbors: int, engine: EngineChoice, make_parts: MakeParts
) -> None:
    parts = make_parts(5)
    detector = everything(patch_size=patch_size, num_neighbors=num_neighbors)
    graph = detector.fit(parts).graph()
    expected = patchcore_map(
        layers_of_parts(parts),
        layers_of(QUERY),
        patch_size=patch_size,
        groups=range(5),
        num_neighbors=num_neighbors,
    )
    np.testing.assert_allclose(map_of(graph, QUERY, engine), expected, **CLOSE)


def test_score_is_the_maximum_plus_twice_the_mean_of_the_coarsest_layer(
    make_parts: MakeParts,
) -> None:
    parts = make_parts(5)
    graph = everything().fit(parts).graph()
    learned, query = layers_of_parts(parts), layers_of(QUERY)
    both = patchcore_map(learned, query, patch_size=3, groups=range(5))
    coarsest = patchcore_map(
        [layers[-1:] for layers in learned], query[-1:], patch_size=3, groups=range(5)
    )
    found = graph.aggregation(map_of(graph, QUERY))
    assert found == pytest.approx(both.max() + 2 * coarsest.mean(), rel=2e-3)


def test_map_of_a_wide_part_keeps_rows_and_columns_apart(make_parts: MakeParts) -> None:
    parts = make_parts(3, 256, 320)
    query = draw(1, 0, 256, 320)
    graph = everything(image_size=0).fit(parts).graph()
    assert graph.preprocessing.shape == (3, 256, 320)
    expected = patchcore_map(
        layers_of_parts(parts), layers_of(query), patch_size=3, groups=range(3)
    )
    assert expected.shape == (32, 40)
    np.testing.assert_allclose(map_of(graph, query), expected, **CLOSE)


def test_usual_distance_leaves_the_own_group_out(make_parts: MakeParts) -> None:
    """Exposures of one part lie close together, which says nothing about other parts."""
    parts = make_parts(6)
    lots = [0, 0, 1, 1, 2, 2]
    grouped = [replace(p, group=f"lot {lot}") for p, lot in zip(parts, lots, strict=True)]
    found = map_of(everything().fit(grouped).graph(), QUERY)
    expected = patchcore_map(layers_of_parts(parts), layers_of(QUERY), patch_size=3, groups=lots)
    np.testing.assert_allclose(found, expected, **CLOSE)
    alone = patchcore_map(layers_of_parts(parts), layers_of(QUERY), patch_size=3, groups=range(6))
    assert not np.allclose(found, alone, **CLOSE)


def test_fold_graphs_search_the_bank_without_the_fold(make_parts: MakeParts) -> None:
    parts, folds = make_parts(6), [0, 1, 2, 0, 1, 2]
    detector = everything()
    graphs = detector.cross_fit(parts, folds)
    assert len(graphs) == 3
    for fold, graph in enumerate(graphs):
        left_out = [i for i, number in enumerate(folds) if number == fold]
        expected = patchcore_map(
            layers_of_parts(parts),
            layers_of(QUERY),
            patch_size=3,
            groups=range(6),
            left_out=left_out,
        )
        np.testing.assert_allclose(map_of(graph, QUERY), expected, **CLOSE)
    full = patchcore_map(layers_of_parts(parts), layers_of(QUERY), patch_size=3, groups=range(6))
    np.testing.assert_allclose(map_of(detector.graph(), QUERY), full, **CLOSE)


@pytest.mark.parametrize("num_neighbors", [0, 5])
def test_fold_graphs_that_search_by_cells_leave_the_fold_out(
    num_neighbors: int, make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All cells are looked into, so that the search is exact."""
    monkeypatch.setattr(
        patchcore,
        "learn_cells",
        lambda bank, *_: Cells(balanced_cells(bank, 8), bank[:5].astype(np.float32), 8),
    )
    parts, folds = make_parts(6), [0, 1, 2, 0, 1, 2]
    detector = everything(num_neighbors=num_neighbors)
    graphs = detector.cross_fit(parts, folds)
    for left_out, graph in (([2, 5], graphs[2]), ([], detector.graph())):
        expected = patchcore_map(
            layers_of_parts(parts),
            layers_of(QUERY),
            patch_size=3,
            groups=range(6),
            left_out=left_out,
            num_neighbors=num_neighbors,
        )
        np.testing.assert_allclose(map_of(graph, QUERY), expected, **CLOSE)


def test_a_part_of_the_bank_is_at_no_distance(make_parts: MakeParts) -> None:
    parts = make_parts(4)
    detector = everything()
    graphs = detector.cross_fit(parts, [0, 0, 1, 1])
    own = read_picture(parts[0].path)
    assert np.ptp(map_of(detector.graph(), own)) < 0.05
    assert np.ptp(map_of(graphs[1], own)) < 0.05
    assert np.ptp(map_of(graphs[0], own)) > 0.2


def test_turned_copies_are_learned(make_parts: MakeParts) -> None:
    parts = make_parts(3)
    turned_round = np.ascontiguousarray(np.rot90(read_picture(parts[0].path)))
    plain, turning = everything().fit(parts), everything(rotations=4).fit(parts)
    assert [len(bank) for bank in turning.memory_banks_] == [4 * 3 * 64, 4 * 3 * 16]
    assert np.ptp(map_of(turning.graph(), turned_round)) < 0.05
    assert np.ptp(map_of(plain.graph(), turned_round)) > 0.2


def test_turned_copies_leave_with_their_part(make_parts: MakeParts) -> None:
    parts = make_parts(4)
    detector = everything(rotations=4)
    graphs = detector.cross_fit(parts, [0, 1, 2, 3])
    turned_round = np.ascontiguousarray(np.rot90(read_picture(parts[0].path)))
    assert np.ptp(map_of(graphs[1], turned_round)) < 0.05
    assert np.ptp(map_of(graphs[0], turned_round)) > 0.2


def test_order_of_parts_makes_no_difference(make_parts: MakeParts) -> None:
    parts = make_parts(5)
    one = map_of(everything().fit(parts).graph(), QUERY)
    other = map_of(everything(seed=3).fit(parts[::-1]).graph(), QUERY)
    np.testing.assert_allclose(one, other, **CLOSE)


def test_bank_is_of_the_size_asked_for(make_parts: MakeParts) -> None:
    parts = make_parts(5)
    by_share = PatchCore(image_size=64, coreset_ratio=0.1, rotations=1).fit(parts)
    assert [len(bank) for bank in by_share.memory_banks_] == [
        round(0.1 * 5 * 64),
        round(0.1 * 5 * 16),
    ]
    by_number = everything(memory_bank_size=50).fit(parts)
    assert [len(bank) for bank in by_number.memory_banks_] == [50, 50]
    smallest = PatchCore(image_size=64, coreset_ratio=1e-6, rotations=1).fit(parts)
    assert [len(bank) for bank in smallest.memory_banks_] == [1, 1]


def test_bank_gives_every_fold_its_share(make_parts: MakeParts) -> None:
    parts, folds = make_parts(8), [0, 0, 0, 0, 0, 0, 1, 2]
    detector = everything(memory_bank_size=80)
    detector.cross_fit(parts, folds)
    for owners in detector.bank_folds_:
        assert np.bincount(owners).tolist() == [60, 10, 10]


def test_bank_is_drawn_from_all_parts_where_memory_is_short(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for ten patches of six channels per part."""
    parts = make_parts(4)
    monkeypatch.setattr(patchcore, "_CANDIDATE_BYTES", 4 * 6 * 4 * 10)
    detector = everything()
    detector.cross_fit(parts, [0, 1, 2, 3])
    assert [np.bincount(owners).tolist() for owners in detector.bank_folds_] == [[10] * 4, [15] * 4]
    again = everything()
    again.cross_fit(parts, [0, 1, 2, 3])
    np.testing.assert_array_equal(detector.memory_banks_[0], again.memory_banks_[0])
    other = everything(seed=1)
    other.cross_fit(parts, [0, 1, 2, 3])
    assert not np.array_equal(detector.memory_banks_[0], other.memory_banks_[0])


def test_channel_that_never_changes_is_not_divided_by_nothing(make_parts: MakeParts) -> None:
    parts = make_parts(5)
    for part in parts:
        picture = read_picture(part.path)
        picture[..., 2] = 40
        rewrite(part, picture)
    found = map_of(everything().fit(parts).graph(), QUERY)
    expected = patchcore_map(
        layers_of_parts(parts), layers_of(QUERY), patch_size=3, groups=range(5)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=2)


def test_identical_parts_do_not_break_the_scale(make_parts: MakeParts) -> None:
    parts = make_parts(1) * 4
    graph = everything().fit(parts).graph()
    assert np.isfinite(map_of(graph, QUERY)).all()
    assert map_of(graph, QUERY).max() > 10 * map_of(graph, read_picture(parts[0].path)).max()


def test_without_folds_it_fits(make_parts: MakeParts) -> None:
    parts, detector = make_parts(3), everything()
    assert detector.cross_fit(parts, []) == []
    assert detector.graph() == everything().fit(parts).graph()


@pytest.mark.parametrize("folds", [[0, 0, 0], [0, 1], [0, 1, -1]])
def test_folds_that_leave_nothing_to_learn_from_are_refused(
    folds: list[int], make_parts: MakeParts
) -> None:
    with pytest.raises(InputError, match="fold"):
        everything().cross_fit(make_parts(3), folds)
