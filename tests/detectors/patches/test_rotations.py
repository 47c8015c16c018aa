"""Parts turned and mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_parts import MakeParts, draw

from makellos.data.parts import Part
from makellos.data.tiles import cut_parts
from makellos.detectors.patches.embeddings import choose_size, load_embedder
from makellos.detectors.patches.rotations import turned, turning_pays, views


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_quarter_turns_of_squares_are_exact(quarters: int, mirrored: bool) -> None:
    picture = draw(0, 0)
    first = picture[:, ::-1] if mirrored else picture
    expected = np.rot90(first, quarters)
    assert np.array_equal(turned(picture, 90 * quarters, mirrored=mirrored), expected)


def test_half_turns_are_exact_at_any_size() -> None:
    picture = draw(0, 0, 48, 80)
    assert np.array_equal(turned(picture, 180), picture[::-1, ::-1])


def test_other_turns_keep_the_size_and_repeat_the_border() -> None:
    picture = np.full((40, 64, 3), 200, np.uint8)
    picture[18:22, 30:34] = 0
    result = turned(picture, 90)
    assert result.shape == picture.shape
    assert result.dtype == np.uint8
    assert (result[:, :8] == 200).all()
    # The middle stays where it is.
    assert (result[19:21, 31:33] == 0).all()


def test_turns_go_against_the_clock() -> None:
    picture = np.zeros((41, 41), np.uint8)
    picture[2:5, 18:23] = 255  # above the middle
    result = turned(picture, 45)
    rows, columns = np.nonzero(result > 100)
    assert rows.mean() < 10
    assert columns.mean() < 10  # above and left of it


def test_turns_keep_deep_pictures_deep() -> None:
    picture = np.full((32, 32), 40_000, np.uint16)
    assert turned(picture, 30).dtype == np.uint16
    assert (turned(picture, 30) == 40_000).all()


def test_views_of_a_part_follow_each_other(make_parts: MakeParts) -> None:
    parts = make_parts(2)
    seen = views(parts, n_turns=4, mirror=True)
    assert len(seen) == 16
    assert seen[0] == parts[0]
    assert seen[8] == parts[1]
    picture = parts[1].read()
    for turn in range(4):
        assert np.array_equal(seen[8 + turn].read(), np.rot90(picture, turn))
        assert np.array_equal(seen[12 + turn].read(), np.rot90(picture[:, ::-1], turn))
    assert {part.name for part in seen[8:]} == {parts[1].name}
    assert views(parts) == parts


def bars(folder: Path, angles: Sequence[float]) -> list[Part]:
    """Return parts with one bright bar each, which lies at these angles."""
    parts = []
    for i, angle in enumerate(angles):
        picture = np.full((256, 256), 40, np.uint8)
        picture[112:144, 24:232] = 220
        picture[100:156, 24:64] = 160  # a head, so that half turns differ
        cv2.imwrite(str(folder / f"{i}.png"), turned(picture, angle))
        parts.append(Part(source=folder / f"{i}.png", name=f"{i}.png"))
    return parts


@pytest.mark.parametrize(
    ("angles", "pays"),
    [
        (range(0, 360, 45), True),
        ([0, 1, -1, 2, -2, 0, 1, -1], False),
        # Most lie alike by chance.
        ([0, 1, -1, 200, 0, 1, 90, 2], True),
    ],
)
def test_turning_pays_where_parts_lie_at_any_angle(
    angles: Sequence[float], pays: bool, tmp_path: Path
) -> None:
    parts = bars(tmp_path, angles)
    embedder = load_embedder(
        choose_size(parts, image_size=0, max_image_size=256),
        backbone="efficientnet_lite0",
        weights="",
        layers="blocks.3",
        patch_size=3,
    )
    assert turning_pays(embedder, parts, 8) is pays


def test_tiles_are_turned_each_by_itself(make_parts: MakeParts) -> None:
    tiles, _ = cut_parts(make_parts(1), size=32, overlap=0, unit=8)
    seen = views(tiles, n_turns=2)
    assert len(seen) == 2 * len(tiles)
    assert np.array_equal(seen[3].read(), np.rot90(tiles[1].read(), 2))
