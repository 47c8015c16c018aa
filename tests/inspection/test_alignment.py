"""Parts at any angle: found, turned to one pose, and what is found on them turned back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.calibration import Calibration
from makellos.data.parts import Part, Values
from makellos.data.pictures import Picture, read_picture
from makellos.inspection import Inspector
from makellos.inspection.acceptance import Acceptance
from makellos.inspection.alignment import Alignment, in_one_pose
from makellos.inspection.judge import Judge
from makellos.inspection.model_file import read_model
from makellos.inspection.scorer import Scored
from makellos.inspection.silhouette import find_silhouette
from makellos.models.alignment import learn_alignment

SIZE = 200


def club(degrees: float, x: float = 100, y: float = 100, *, ground: int = 200) -> Picture:
    """Return a dark handle with a wide head and a bright mark near its thin end."""
    drawn = np.full((SIZE, SIZE, 3), ground, np.uint8)
    cv2.rectangle(drawn, (40, 92), (150, 108), (60, 50, 40), -1)
    cv2.circle(drawn, (150, 100), 22, (40, 40, 60), -1)
    cv2.rectangle(drawn, (50, 97), (60, 103), (230, 230, 230), -1)
    turn = cv2.getRotationMatrix2D((100, 100), degrees, 1.0)
    turn[:, 2] += (x - 100, y - 100)
    return np.asarray(
        cv2.warpAffine(drawn, turn, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def parts_at(rng: np.random.Generator, n: int) -> list[Part]:
    return [
        Part(source=Values(club(*rng.uniform((0, 85, 85), (360, 115, 115)))), name=f"{i}.png")
        for i in range(n)
    ]


@pytest.fixture(scope="module", params=["rotate", "register", "outline alone"])
def alignment(request: pytest.FixtureRequest) -> Alignment:
    alone = request.param == "outline alone"
    way = "rotate" if alone else request.param
    parts = parts_at(np.random.default_rng(0), 12)
    found = learn_alignment(parts, way, refined=not alone)
    assert found is not None
    assert (found.way, found.refined) == (way, not alone)
    return found


def test_parts_at_any_angle_come_to_one_pose(alignment: Alignment) -> None:
    rng = np.random.default_rng(1)
    seen = [alignment(part.read()) for part in parts_at(rng, 8)]
    assert all(each.is_sure and not each.notes for each in seen)
    first = seen[0].picture.astype(float)
    for each in seen[1:]:
        assert each.picture.shape == first.shape
        # A wrong end or an angle off by a few degrees differs by far more.
        assert np.abs(each.picture - first).mean() < 4


def test_the_crop_loses_nothing_of_a_part(alignment: Alignment) -> None:
    for part in parts_at(np.random.default_rng(2), 6):
        picture = part.read()
        dark = picture.mean(2) < 120
        kept = alignment(picture).on_mask(dark)
        assert kept.sum() == pytest.approx(dark.sum(), rel=0.03)
        assert not kept[0].any()
        assert not kept[-1].any()
        assert not kept[:, [0, -1]].any()


def test_a_map_goes_back_to_the_place_it_is_of(alignment: Alignment) -> None:
    for part in parts_at(np.random.default_rng(3), 6):
        picture = part.read()
        bright = picture.min(2) > 215
        found = alignment(picture)
        there = found.on_mask(bright)
        cells = cv2.resize(there.astype(np.float32), (40, 20), interpolation=cv2.INTER_AREA)
        back = found.back(cells)
        assert back.max() == cells.max()
        row, column = np.unravel_index(int(back.argmax()), back.shape)
        peak = (row + 0.5) / back.shape[0] * SIZE, (column + 0.5) / back.shape[1] * SIZE
        middle = np.argwhere(bright).mean(0)
        assert np.hypot(*(np.array(peak) - middle)) < 9
        share = found.place(*(np.argwhere(bright).mean(0) + 0.5) / SIZE)
        expected = (np.argwhere(there).mean(0) + 0.5) / there.shape
        assert share == pytest.approx(tuple(expected), abs=0.02)


def test_what_the_picture_does_not_show_decides_nothing(alignment: Alignment) -> None:
    found = alignment(club(0, x=60))  # its thin end leaves the picture
    cells = np.zeros((20, 40), np.float32)
    hidden = ~found.shown(20, 40)
    assert hidden.any()
    cells[hidden] = 9
    assert found.back(cells).max() == 0
    # Of the ground not even what lies next to it does.
    beside = np.zeros((20, 40), np.float32)
    beside[found.shown(20, 40) & ~found.shown(20, 40, 1 / 16)] = 9
    assert beside.any()
    assert found.back(beside).max() == 9
    assert found.back_ground(beside).max() == 0
    assert not found.back_mask(beside > 0).any()
    assert found.back_mask(np.ones((20, 40), bool)).any()


def test_masks_of_parts_that_are_turned_go_with_them(alignment: Alignment, tmp_path: Path) -> None:
    picture = club(77, 96, 108)
    cv2.imwrite(str(tmp_path / "m.png"), (picture.min(2) > 215).astype(np.uint8) * 255)
    part = Part(source=Values(picture), name="a", label="spot", mask=tmp_path / "m.png")
    (turned,) = in_one_pose([part], alignment)
    seen = turned.read()
    mask = turned.read_mask((seen.shape[0], seen.shape[1]))
    assert mask is not None
    assert mask.shape == seen.shape[:2]
    assert seen[mask].min(1).mean() > 200
    assert turned.is_whole


@pytest.mark.parametrize("other", ["empty", "noise", "disc"])
def test_another_part_is_in_doubt(alignment: Alignment, other: str) -> None:
    picture = np.full((SIZE, SIZE, 3), 200, np.uint8)
    if other == "noise":
        picture = np.random.default_rng(0).integers(0, 255, picture.shape).astype(np.uint8)
    if other == "disc":
        cv2.circle(picture, (100, 100), 50, (40, 40, 40), -1)
    found = alignment(picture)
    assert not found.is_sure
    assert "could not be turned" in found.notes[0]


def test_resolution_and_depth_do_not_matter(alignment: Alignment) -> None:
    small = club(200)
    large = cv2.resize(small, (600, 600), interpolation=cv2.INTER_CUBIC)
    deep = large.astype(np.uint16) * 257
    one, two = alignment(small), alignment(np.asarray(deep, np.uint16))
    assert two.picture.dtype == np.uint16
    assert np.allclose(two.picture.shape[:2], np.array(one.picture.shape[:2]) * 3, atol=3)
    shrunk = cv2.resize(two.picture, one.picture.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk / 257 - one.picture).mean() < 3
    twelve = alignment(np.asarray(small.astype(np.uint16) * 16, np.uint16))  # of 16 bits
    dark = alignment(np.asarray(small // 8, np.uint8))
    for other in (twelve, dark):
        assert other.is_sure
        assert np.allclose(other.motion, one.motion, atol=0.3)
    gray = alignment(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
    assert gray.picture.ndim == 2


def test_parts_that_have_no_outline_are_not_turned_by_it() -> None:
    rng = np.random.default_rng(0)
    texture = [rng.integers(0, 255, (64, 64)).astype(np.uint8) for _ in range(8)]
    parts = [Part(source=Values(each), name=str(i)) for i, each in enumerate(texture)]
    assert learn_alignment(parts, "rotate") is None
    assert learn_alignment(parts, None) is None


def test_a_silhouette_is_found_in_uneven_light() -> None:
    columns = np.linspace(0, 60, SIZE, dtype=np.float32)
    for degrees in (0.0, 30.0, 100.0):
        lit = np.clip(club(degrees).astype(np.float32) + columns[None, :, None] - 40, 0, 255)
        found = find_silhouette(lit / np.float32(255))
        assert found is not None
        off = (found.degrees + degrees) % 180
        assert min(off, 180 - off) < 4
        assert found.elongation > 2


def test_a_picture_of_texture_has_no_silhouette() -> None:
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(size=(128, 128)).astype(np.float32), (0, 0), 3)
    texture = np.repeat(0.5 + noise[..., None], 3, 2)
    assert find_silhouette(texture.astype(np.float32)) is None


def test_a_model_turns_parts_and_tells_what_it_cannot_turn(
    toy: Any, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    good = tmp_path / "set" / "train" / "good"
    good.mkdir(parents=True)
    for i, part in enumerate(parts_at(np.random.default_rng(4), 20)):
        cv2.imwrite(str(good / f"{i:02}.png"), part.read())
    stranger = tmp_path / "stranger.png"
    cv2.imwrite(str(stranger), np.full((SIZE, SIZE, 3), 200, np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy.install(patch), "needs_one_pose", True)
        model = tmp_path / "m.makellos"
        told = cli("fit", tmp_path / "set", "-o", model, "--false-alarms", "0.1")
        assert told.code == 0, told.err
        assert "turned to one pose by the outline" in told.err
        assert "turned to one pose" in cli("info", model).out
        rows = tmp_path / "rows.jsonl"
        told = cli("inspect", model, good / "00.png", stranger, "--jsonl", rows)
        assert told.code == 0, told.err
    one, two = (_row(line) for line in rows.read_text().splitlines())
    assert one["verdict"] == "ok"
    assert two["verdict"] in ("look_again", "reject")
    assert any("could not be turned" in note for note in two["notes"])


def test_a_part_in_doubt_is_looked_at_again_whatever_its_score() -> None:
    calibration = Calibration(np.arange(1.0, 101.0), 0.05)
    judge = Judge(calibration, 100.0, None, Acceptance(), ())
    for score, in_doubt, verdict in (
        (1.0, False, "ok"),
        (1.0, True, "look_again"),
        (200.0, True, "reject"),
    ):
        found = judge("a", club(0), Scored(score, None, in_doubt=in_doubt), 0.0)
        assert found.verdict == verdict


def test_golden_parts_are_kept_in_their_pose_and_turned_once(
    toy: Any, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    good = tmp_path / "set" / "train" / "good"
    good.mkdir(parents=True)
    rng = np.random.default_rng(5)
    for i, part in enumerate(parts_at(rng, 20)):
        picture = np.asarray(part.read() * rng.uniform(0.7, 1.0), np.uint8)
        cv2.imwrite(str(good / f"{i:02}.png"), picture)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy.install(patch), "needs_one_pose", True)
        model = tmp_path / "m.makellos"
        told = cli("fit", tmp_path / "set", "-o", model, "--false-alarms", "0.1")
        assert told.code == 0, told.err
    read = read_model(model)
    prepare = read.manifest.preprocessing
    assert prepare.alignment is not None
    inspector = Inspector(model)
    seen = {path: inspector.inspect(path).score for path in sorted(good.iterdir())}
    for record in read.manifest.golden:
        shown = read.golden_picture(record.file)
        assert shown.shape[:2] == (prepare.height, prepare.width)
        posed = [prepare.resize(prepare.alignment(read_picture(path)).picture) for path in seen]
        nearest = min(seen, key=lambda path: _apart(shown, posed[list(seen).index(path)]))
        assert record.score == pytest.approx(seen[nearest], rel=0.02)


def _apart(one: Picture, two: Picture) -> float:
    return float(np.abs(one.astype(float) - two).mean())


def _row(line: str) -> dict[str, Any]:
    import json

    row: dict[str, Any] = json.loads(line)
    return row


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--align", "rotat"], "Did you mean 'rotate'"),
        (["--align", "rotate"], "no outline"),
        (["--align", "rotate", "--zones", "z.json"], "makellos data align"),
    ],
)
def test_what_cannot_be_turned_is_refused(
    options: list[str], said: str, toy: Any, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    good = tmp_path / "set" / "train" / "good"
    good.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(12):
        texture: NDArray[np.uint8] = rng.integers(0, 255, (64, 64)).astype(np.uint8)
        cv2.imwrite(str(good / f"{i}.png"), texture)
    with pytest.MonkeyPatch.context() as patch:
        toy.install(patch)
        told = cli("fit", tmp_path / "set", "-o", tmp_path / "m.makellos", *options)
    assert told.code == 2
    assert said in " ".join(told.err.split())
    assert not (tmp_path / "m.makellos").exists()
