"""Golden against distances by brute force, on a backbone of known functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_parts import EXACT, MakeParts, draw, layers_of, layers_of_parts, map_of
from known_backbone import Floats, local_mean

import makellos
from makellos.data.tiles import cut_parts
from makellos.detectors.golden import Golden
from makellos.drawing import write_picture
from makellos.errors import ConfigurationError, InputError
from makellos.sets import render_board

QUERY = draw(1, 0)


def golden(**changes: Any) -> Golden:
    return Golden(**{"image_size": 64, "registration": False, "patch_size": 1, **changes})


def distance(layer: Floats, references: list[Floats], window: int) -> Floats:
    """Return how far each patch lies from the nearest within the window, one by one."""
    _, height, width = layer.shape
    found = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            found[y, x] = min(
                float(np.linalg.norm(layer[:, y, x] - each[:, v, u]))
                for each in references
                for v in range(max(0, y - window), min(height, y + window + 1))
                for u in range(max(0, x - window), min(width, x + window + 1))
            )
    return found


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("window", [0, 1, 2])
def test_map_of_one_reference_is_that_of_distances_at_the_same_place(
    window: int, make_parts: MakeParts
) -> None:
    (part,) = make_parts(1)
    graph = golden(search_window=window).fit([part]).graph()
    total = np.zeros((8, 8))
    for ours, layer in zip(layers_of_parts([part])[0], layers_of(QUERY), strict=True):
        mean, scale = ours.mean((1, 2)), ours.std((1, 2))
        scale = (scale + 1e-3 * scale.mean())[:, np.newaxis, np.newaxis]
        reference, asked = ((x - mean[:, np.newaxis, np.newaxis]) / scale for x in (ours, layer))
        found = distance(asked, [reference], window) / (0.5 * np.sqrt(2 * len(ours)))
        factor = 8 // len(found)
        total += found.repeat(factor, 0).repeat(factor, 1)
    expected = local_mean(total[np.newaxis], 3)[0]
    for engine in EXACT:
        np.testing.assert_allclose(map_of(graph, QUERY, engine), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.usefixtures("known")
def test_distances_count_in_the_spread_of_good_parts(make_parts: MakeParts) -> None:
    """At the places of many good parts the map has mean 0 and about the spread 1 per layer."""
    parts = make_parts(24)
    detector = golden(n_references=1, search_window=0).fit(parts)
    maps = np.array([map_of(detector.graph(), draw(0, i)) for i in range(24)])
    assert abs(np.median(maps)) < 1
    assert 0.3 < maps.std() < 2.5
    odd = map_of(detector.graph(), np.full((64, 64, 3), 255, np.uint8))
    assert odd.max() > maps.mean() + 2 * maps.std()


@pytest.mark.usefixtures("known")
def test_the_nearest_of_several_references_counts(make_parts: MakeParts) -> None:
    parts = make_parts(6)
    known = golden(n_references=6).fit(parts).known_
    assert [layer.references.shape[0] for layer in known] == [6, 6]
    alone = golden(n_references=1).fit(parts).known_
    assert [layer.references.shape[0] for layer in alone] == [1, 1]
    assert known[0].level.mean() < alone[0].level.mean()


@pytest.mark.usefixtures("known")
def test_no_fold_sees_its_own_reference(make_parts: MakeParts) -> None:
    parts = make_parts(6)
    graphs = golden(n_references=1).cross_fit(parts, [0, 1, 2, 3, 4, 5])
    assert len(graphs) == 6
    final = golden(n_references=1).fit(parts)
    by_own = [map_of(final.graph(), draw(0, i)).max() for i in range(6)]
    reference = int(np.argmin(by_own))
    unseen = map_of(graphs[reference], draw(0, reference)).max()
    assert unseen > by_own[reference] + 0.5


def test_tiles_are_refused(make_parts: MakeParts) -> None:
    tiles, _ = cut_parts(make_parts(2, 256, 256), size=128, overlap=32, unit=32)
    with pytest.raises(ConfigurationError, match="Leave --tile out"):
        golden().fit(tiles)
    with pytest.raises(InputError, match="at least 1 good part to learn"):
        golden().fit([])


def write_boards(folder: Path, seeds: range, split: str) -> list[str]:
    rows = []
    for seed in seeds:
        write_picture(folder / f"{split}_{seed}.png", render_board(seed=seed, size=192).picture)
        rows.append(f"{split}_{seed}.png,good,{split}")
    return rows


@pytest.fixture(scope="module")
def board_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of one reference board, calibrated with five further ones."""
    folder = tmp_path_factory.mktemp("boards")
    rows = [*write_boards(folder, range(1), "train"), *write_boards(folder, range(1, 6), "val")]
    manifest = folder / "parts.csv"
    manifest.write_text("\n".join(["path,label,split", *rows]), encoding="utf-8")
    model = folder / "boards.makellos"
    summary = makellos.fit(manifest, model, detector="golden")
    assert (summary.n_learned, summary.n_calibration) == (1, 5)
    assert summary.false_alarms == pytest.approx(1 / 6)
    return model


def test_a_board_is_laid_onto_the_reference_and_its_damage_outlined(board_model: Path) -> None:
    inspector = makellos.Inspector(board_model)
    board = render_board(seed=7, size=192, defect="missing_pad")
    turn = np.rot90(board.picture, 0).copy()
    found = inspector.inspect(turn)
    assert found.verdict == "reject"
    rows, columns = np.nonzero(board.mask)
    best = found.regions[0]
    assert best.x - 8 <= columns.mean() <= best.x + best.width + 8
    assert best.y - 8 <= rows.mean() <= best.y + best.height + 8


def test_another_board_gets_a_verdict_and_the_reason(board_model: Path) -> None:
    inspector = makellos.Inspector(board_model)
    other = render_board(seed=7, size=192, layout=3).picture
    found = inspector.inspect(other)
    assert found.verdict == "reject"
    assert "could not be laid onto the reference" in found.row()["notes"][0]
    assert inspector.inspect(np.zeros_like(other)).verdict in ("ok", "look_again", "reject")


def test_two_good_parts_are_enough_and_promise_little(tmp_path: Path) -> None:
    write_boards(tmp_path / "parts", range(2), "good")
    summary = makellos.fit(tmp_path / "parts", tmp_path / "two.makellos", detector="golden")
    assert (summary.n_learned, summary.method) == (2, "cross-fitted")
    assert summary.false_alarms == pytest.approx(1 / 3)
    write_boards(tmp_path / "one", range(1), "good")
    with pytest.raises(InputError, match="There is 1 good part; at least 2"):
        makellos.fit(tmp_path / "one", tmp_path / "one.makellos", detector="golden")
