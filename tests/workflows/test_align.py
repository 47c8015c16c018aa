"""`data align`: a set written anew in one pose, readable as the old one was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from makellos.data.layouts import list_parts
from makellos.data.pictures import read_picture


def wedge(degrees: float, *, spot: bool) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return a dark wedge on a bright ground, with a bright spot near its tip, and the spot."""
    picture, mask = np.full((160, 160, 3), 210, np.uint8), np.zeros((160, 160), np.uint8)
    cv2.fillPoly(picture, [np.array([[35, 80], [125, 55], [125, 105]])], (60, 50, 40))
    if spot:
        cv2.circle(mask, (75, 80), 5, 255, -1)
        picture[mask > 0] = (250, 250, 250)
    turn = cv2.getRotationMatrix2D((80, 80), degrees, 1.0)
    turned = cv2.warpAffine(picture, turn, (160, 160), borderMode=cv2.BORDER_REPLICATE)
    return turned, cv2.warpAffine(mask, turn, (160, 160), flags=cv2.INTER_NEAREST)


@pytest.fixture(scope="module")
def wedges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wedges")
    for folder in ("train/good", "test/good", "test/spot", "ground_truth/spot"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(14):
        picture, _ = wedge(rng.uniform(0, 360), spot=False)
        cv2.imwrite(str(root / f"train/good/{i:03}.png"), picture)
    for i in range(3):
        cv2.imwrite(str(root / f"test/good/{i:03}.jpg"), wedge(100.0 * i, spot=False)[0])
        picture, mask = wedge(70.0 + 100 * i, spot=True)
        cv2.imwrite(str(root / f"test/spot/{i:03}.png"), picture)
        cv2.imwrite(str(root / f"ground_truth/spot/{i:03}_mask.png"), mask)
    return root


def test_a_set_is_written_in_one_pose_with_its_masks(
    wedges: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("data", "align", wedges, "-o", tmp_path / "t", "--json", tmp_path / "a.json")
    assert told.code == 0, told.err
    assert "Turned 20 parts by the outline" in told.out
    said = json.loads((tmp_path / "a.json").read_text())
    assert (said["way"], said["n_parts"], said["in_doubt"]) == ("rotate", 20, [])
    before, after = list_parts(wedges), list_parts(tmp_path / "t")
    assert [(p.label, p.split) for p in after] == [(p.label, p.split) for p in before]
    places = []
    for part in after:
        picture = part.read()
        assert picture.shape[:2] == (said["height"], said["width"])
        mask = part.read_mask((said["height"], said["width"]))
        if mask is not None:
            assert picture[mask].mean() > 200
            places.append(np.argwhere(mask).mean(0))
    assert len(places) == 3
    # The same damage lies at the same place of every part now.
    assert np.ptp(np.array(places), axis=0).max() < 2.5


def test_a_manifest_is_written_where_one_was_read(
    wedges: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    table = tmp_path / "parts.csv"
    told = cli("data", "split", wedges, "-o", table, "--val", "0.3", "--test", "0.2")
    assert told.code == 0, told.err
    told = cli("data", "align", table, "-o", tmp_path / "t", "--way", "register")
    assert told.code == 0, told.err
    assert f"makellos fit {tmp_path / 't' / 'parts.csv'}" in told.out
    before, after = list_parts(table), list_parts(tmp_path / "t" / "parts.csv")
    assert [(p.label, p.split) for p in after] == [(p.label, p.split) for p in before]
    assert sum(p.mask is not None for p in after) == 3


def test_a_picture_that_cannot_be_read_costs_itself_alone(
    wedges: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    root = tmp_path / "set" / "train" / "good"
    root.mkdir(parents=True)
    for path in sorted((wedges / "train/good").iterdir()):
        (root / path.name).write_bytes(path.read_bytes())
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    told = cli("data", "align", tmp_path / "set", "-o", tmp_path / "t")
    assert told.code == 1
    assert "Not readable: train/good/broken.png" in told.out
    assert len(list((tmp_path / "t").rglob("*.png"))) == 14


@pytest.mark.parametrize(
    ("way", "code", "said"),
    [("turn", 2, "'turn' is not a way to align"), ("rotate", 2, "no outline")],
)
def test_what_cannot_be_aligned_is_refused(
    way: str, code: int, said: str, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    root = tmp_path / "set" / "train" / "good"
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        cv2.imwrite(str(root / f"{i}.png"), rng.integers(0, 255, (64, 64), np.uint8))
    told = cli("data", "align", tmp_path / "set", "-o", tmp_path / "t", "--way", way)
    assert told.code == code
    assert said in " ".join(told.err.split())
    assert not (tmp_path / "t").exists()


def test_a_folder_that_is_not_empty_is_left_alone(
    wedges: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    told = cli("data", "align", wedges, "-o", tmp_path)
    assert told.code == 2
    assert "is not empty" in told.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path, cli: Callable[..., Any]) -> None:
    root = tmp_path / "set" / "train" / "good"
    root.mkdir(parents=True)
    for i in range(8):
        deep = wedge(47.0 * i, spot=False)[0][..., 0].astype(np.uint16) * 200
        cv2.imwrite(str(root / f"{i}.png"), deep)
    assert cli("data", "align", tmp_path / "set", "-o", tmp_path / "t").code == 0
    picture = read_picture(tmp_path / "t/train/good/3.png")
    assert picture.dtype == np.uint16
    assert picture.max() > 255


@pytest.mark.parametrize(("detector", "turned"), [("padim", True), ("patchcore", False)])
def test_a_search_looks_at_parts_in_the_pose_that_a_fit_would_turn_them_to(
    detector: str, turned: bool, wedges: Path
) -> None:
    from makellos.data.progress import no_progress
    from makellos.search.trials import Wanted, make_trials

    wanted = Wanted(detector, "balanced", {}, {}, 0, "auto")
    trials = make_trials(wanted, list_parts(wedges), no_progress)
    shapes = {part.read().shape for part in trials.parts}
    assert (shapes != {(160, 160, 3)}) is turned
