"""Synthetic boards: one layout, the same every time, damaged only where the mask says."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from makellos.data.layouts import list_parts
from makellos.errors import InputError
from makellos.inspection.registration import Registration
from makellos.sets import render_board, write_boards
from makellos.sets.synthetic_boards import BOARD_DEFECTS
from makellos.sets.synthetic_layout import NODES, draw_layout
from makellos.subjects import find_parts

SIZE = 192


def test_defects_are_those_that_boards_are_inspected_for():
    assert set(BOARD_DEFECTS) == {"open", "short", "mouse_bite", "spur", "missing_pad"}


@pytest.mark.parametrize("defect", [None, "short"])
def test_same_arguments_give_same_pixels(defect):
    first, again = (render_board(seed=11, size=SIZE, defect=defect) for _ in range(2))
    assert np.array_equal(first.picture, again.picture)
    assert np.array_equal(first.mask, again.mask)
    assert first.picture.shape == (SIZE, SIZE, 3)
    assert first.mask.any() == (defect is not None)


@pytest.mark.parametrize("defect", BOARD_DEFECTS)
def test_a_defect_changes_the_picture_in_and_beside_its_mask_alone(defect):
    for seed in range(3):
        good = render_board(seed=seed, size=SIZE).picture.astype(int)
        bad = render_board(seed=seed, size=SIZE, defect=defect)
        assert 3 < bad.mask.sum() < 0.05 * SIZE**2
        change = np.abs(bad.picture - good).max(2)
        near = cv2.dilate(bad.mask.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
        assert change[~near].max() <= 1
        assert change[bad.mask].mean() > 6


def test_an_open_breaks_copper_and_a_short_joins_it():
    """Tracks under solder mask are brighter than what lies beside them."""
    for seed in range(4):
        good = render_board(seed=seed, size=SIZE).picture.astype(int)
        brighter = {}
        for defect in ("open", "mouse_bite", "short", "spur"):
            bad = render_board(seed=seed, size=SIZE, defect=defect)
            brighter[defect] = (bad.picture - good)[bad.mask].mean()
        assert max(brighter["open"], brighter["mouse_bite"]) < 0
        assert min(brighter["short"], brighter["spur"]) > 0


def test_boards_of_a_set_share_a_layout_and_differ_in_pose_and_light():
    boards = [render_board(seed=seed, size=SIZE).picture.astype(np.float32) for seed in range(8)]
    means = [board.mean() for board in boards]
    assert np.ptp(means) > 3
    gray = [cv2.cvtColor(board, cv2.COLOR_RGB2GRAY) for board in boards]
    shifts = [cv2.phaseCorrelate(gray[0], each)[0] for each in gray[1:]]
    assert np.abs(shifts).max() < 0.06 * SIZE
    assert np.ptp(np.array(shifts), axis=0).min() > 0.005 * SIZE
    other = cv2.cvtColor(render_board(seed=1, size=SIZE, layout=1).picture, cv2.COLOR_RGB2GRAY)
    same = [cv2.phaseCorrelate(gray[0], each)[1] for each in gray[1:]]
    assert cv2.phaseCorrelate(gray[0], other.astype(np.float32))[1] < min(same)


def test_tracks_touch_no_other_net():
    for seed in range(3):
        layout = draw_layout(seed)
        assert len(layout.tracks) > 20
        assert len({pad.node for pad in layout.pads}) == len(layout.pads)
        seen: dict[tuple[int, int], int] = {}
        ends = {pad.node for pad in layout.pads}
        for number, track in enumerate(layout.tracks):
            for (x, y), (u, v) in zip(track.points, track.points[1:], strict=False):
                steps = max(abs(u - x), abs(v - y))
                for i in range(steps + 1):
                    node = (x + (u - x) * i // steps, y + (v - y) * i // steps)
                    assert 0 <= min(node) <= max(node) < NODES
                    near_pad = any(abs(node[0] - a) + abs(node[1] - b) <= 4 for a, b in ends)
                    assert near_pad or seen.setdefault(node, number) == number


def test_a_set_is_written_in_the_known_layout(tmp_path: Path):
    write_boards(tmp_path / "a", n_train=2, n_test_good=1, n_per_defect=1, size=192, seed=3)
    write_boards(tmp_path / "b", n_train=2, n_test_good=1, n_per_defect=1, size=192, seed=3)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )
    parts = find_parts(tmp_path / "a")
    assert {part.label for part in parts} == {"good", *BOARD_DEFECTS}
    assert all((part.mask is None) == part.is_good for part in parts)
    assert "Synthetic boards" in (tmp_path / "a" / "README.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"size": 64}, "from 192 to 2048"), ({"seed": -1}, "seed is -1"), ({"layout": -1}, "layout")],
)
def test_what_cannot_be_rendered_is_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        render_board(**{"seed": 0, **arguments})
    with pytest.raises(InputError, match="mouse_bite"):
        render_board(seed=0, defect="mouse_bit")


def test_boards_of_several_layouts_have_references_that_a_manifest_names(tmp_path):
    write_boards(
        tmp_path / "set", n_train=4, n_test_good=1, n_per_defect=1, size=192, seed=3, n_layouts=3
    )
    found = list_parts(tmp_path / "set" / "parts.csv")
    assert [part.split for part in found] == ["train"] * 4 + ["test"] * 6
    assert len({part.reference for part in found}) > 1
    for part in found:
        placed = Registration.laid(part.read(), part.read_reference())
        assert placed.correlation > 0.8
    with pytest.raises(InputError, match="number of layouts is 0"):
        write_boards(tmp_path / "none", n_layouts=0)
