"""Copies count as one part, sets of nothing are refused, and what was learned is known again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import cv2
import numpy as np
import pytest

from makellos import calibrate, evaluate, fit
from makellos.data.parts import Part
from makellos.data.pictures import read_picture
from makellos.errors import InputError
from makellos.models.coverage import Frame
from makellos.models.partition import Partition
from makellos.models.provenance import known
from makellos.models.release import Release
from makellos.models.released_model import ReleasedModel
from makellos.reports.provenance import learned_from


@pytest.fixture(autouse=True)
def toys(toy: ModuleType) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        toy.install(patch)
        yield


@pytest.fixture
def thrice(toy_parts: Path, tmp_path: Path) -> Path:
    """Return eight parts, each saved three times: as it is, as JPEG, and brighter."""
    folder = tmp_path / "thrice"
    folder.mkdir()
    for path in sorted((toy_parts / "train" / "good").iterdir())[:8]:
        picture = read_picture(path)
        shutil.copy(path, folder)
        cv2.imwrite(str(folder / f"{path.stem} again.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
        cv2.imwrite(
            str(folder / f"{path.stem} bright.png"), cv2.convertScaleAbs(picture, alpha=1, beta=9)
        )
    return folder


def test_copies_count_as_one_part(thrice: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    summary = fit(thrice, tmp_path / "m.makellos", false_alarms=0.05)
    assert (summary.n_calibration, summary.n_groups, summary.counted) == (24, 8, "groups")
    assert summary.false_alarms == pytest.approx(1 / 9)
    assert summary.notes[0].startswith("8 sets of identical or nearly identical pictures; each")
    assert "000 again.jpg = 000 bright.png = 000.png" in summary.notes[0]
    told = cli("info", tmp_path / "m.makellos")
    assert "8 groups of good parts" in told.out
    told = cli("data", "check", thrice)
    assert "With 8 groups of good parts for calibration" in told.out
    assert "8 sets of identical or nearly identical pictures" in told.out


def test_copies_count_as_one_part_in_calibrate(
    thrice: Path, toy_model: Path, tmp_path: Path
) -> None:
    for path in thrice.iterdir():  # of other parts than the model's
        cv2.imwrite(str(path), cv2.flip(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), 1))
    summary = calibrate(toy_model, thrice, output=tmp_path / "m.makellos")
    assert (summary.n_calibration, summary.n_groups) == (24, 8)
    assert "8 sets of identical" in summary.notes[0]
    assert summary.promise.startswith("of the good parts of groups to come")
    for path in [*thrice.glob("* again.jpg"), *sorted(thrice.glob("* bright.png"))[1:]]:
        path.unlink()
    few = calibrate(toy_model, thrice, output=tmp_path / "few.makellos")
    assert (few.n_calibration, few.n_groups) == (9, 8)
    assert few.promise.startswith("of the good parts to come")


def test_a_series_without_copies_keeps_its_count(toy_parts: Path, tmp_path: Path) -> None:
    summary = fit(toy_parts, tmp_path / "m.makellos", false_alarms=0.1)
    assert (summary.n_groups, summary.counted) == (30, "parts")


def test_copies_of_what_is_learned_do_not_calibrate(toy_parts: Path, tmp_path: Path) -> None:
    rows = [
        f"{toy_parts}/train/good/{i:03d}.png,{'val' if i % 3 == 0 else 'train'}" for i in range(30)
    ]
    for i, split in ((1, "val"), (2, "val")):
        shutil.copy(toy_parts / f"train/good/{i:03d}.png", tmp_path / f"again {i}.png")
        rows.append(f"again {i}.png,{split}")
    path = tmp_path / "parts.csv"
    path.write_text("\n".join(["path,split", *rows]), encoding="utf-8")
    summary = fit(path, tmp_path / "m.makellos", false_alarms=0.1)
    assert summary.n_groups == 10
    told = "2 parts of split val whose copies are learned from: again 1.png, again 2.png."
    assert f"Left out: {told}" in summary.notes
    path.write_text("\n".join(["path,split", *rows[1:3], *rows[-2:]]), encoding="utf-8")
    with pytest.raises(InputError, match="Nothing is left to calibrate with: 2 parts of split val"):
        fit(path, tmp_path / "m.makellos")


@pytest.mark.parametrize("level", [0, 255, 117])
def test_parts_without_anything_on_them_are_refused(level: int, tmp_path: Path) -> None:
    (tmp_path / "dark").mkdir()
    for i in range(12):
        shown = np.full((64, 64, 3), level if level != 117 else 100 + i, np.uint8)
        cv2.imwrite(str(tmp_path / f"dark/{i}.png"), shown)
    with pytest.raises(InputError, match=r"All 12 good parts are pictures of a single value"):
        fit(tmp_path / "dark", tmp_path / "m.makellos")
    assert not (tmp_path / "m.makellos").exists()


def test_the_same_picture_again_and_again_is_refused(toy_parts: Path, tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    for i in range(12):
        shutil.copy(toy_parts / "train/good/000.png", tmp_path / f"same/{i}.png")
    picture = read_picture(tmp_path / "same/0.png")
    cv2.imwrite(str(tmp_path / "same/12.bmp"), picture)
    with pytest.raises(InputError, match="All 13 good parts are the same picture"):
        fit(tmp_path / "same", tmp_path / "m.makellos")


def test_a_blank_picture_among_others_is_named(toy_parts: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_parts / "train/good", tmp_path / "parts")
    cv2.imwrite(str(tmp_path / "parts/dark.png"), np.zeros((64, 96), np.uint8))
    summary = fit(tmp_path / "parts", tmp_path / "m.makellos", false_alarms=0.1)
    assert any(
        "1 picture of a single value" in note and "dark.png" in note for note in summary.notes
    )


def test_evaluate_knows_the_parts_that_were_learned(
    toy_parts: Path, toy_model: Path, tmp_path: Path
) -> None:
    good = toy_parts / "train" / "good"
    (note,) = [each for each in evaluate(toy_model, good)["notes"] if "fitted" in each]
    assert note.startswith("The model was fitted on these very parts, so the figures look better")
    (tmp_path / "some" / "good").mkdir(parents=True)
    for i, path in enumerate(sorted(good.iterdir())[:4]):  # under other names
        shutil.copy(path, tmp_path / f"some/good/part {i}.png")
    shutil.copytree(toy_parts / "test" / "spotted", tmp_path / "some" / "spotted")
    (note,) = [each for each in evaluate(toy_model, tmp_path / "some")["notes"] if "fitted" in each]
    assert note.startswith("The model was fitted on 4 of these parts, so the figures")
    assert not [each for each in evaluate(toy_model, toy_parts)["notes"] if "fitted" in each]


def test_parts_that_calibrated_are_known_as_well(toy_parts: Path, tmp_path: Path) -> None:
    rows = [f"{toy_parts}/train/good/{i:03d}.png,{'val' if i < 15 else 'train'}" for i in range(30)]
    path = tmp_path / "parts.csv"
    path.write_text("\n".join(["path,split", *rows]), encoding="utf-8")
    fit(path, tmp_path / "m.makellos", false_alarms=0.1)
    path.write_text("\n".join(["path,split", *rows[:15]]).replace("val", "test"), encoding="utf-8")
    notes = evaluate(tmp_path / "m.makellos", path)["notes"]
    assert any("fitted on these very parts" in note for note in notes)


def test_calibrate_leaves_out_the_parts_that_were_learned(
    toy_parts: Path, toy_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(toy_parts / "test" / "good", tmp_path / "parts")
    for path in sorted((toy_parts / "train" / "good").iterdir())[:3]:
        shutil.copy(path, tmp_path / f"parts/old {path.name}")
    summary = calibrate(toy_model, tmp_path / "parts", output=tmp_path / "m.makellos")
    assert summary.n_calibration == 10
    assert "3 of 13 parts were left out: the model was fitted on them." in summary.notes


def test_defective_parts_that_validate_are_not_counted_as_learned(
    toy: ModuleType, toy_parts: Path
) -> None:
    good = [Part(source=path, name=path.name) for path in (toy_parts / "train/good").iterdir()]
    spotted = [
        Part(source=path, name=f"s/{path.name}", label="spotted", split="val" if i < 3 else "train")
        for i, path in enumerate(sorted((toy_parts / "test/spotted").iterdir()))
    ]
    partition = Partition([*good[:20], *spotted], good[20:], "held out", used=[*good, *spotted])
    made = ReleasedModel(toy.ToyDetector(), Frame(0.1), partition, released=cast(Release, None))
    record = made.training("parts", "class folders", 0, None)
    assert (record.n_learned, record.n_defective, record.n_good) == (27, 7, 30)
    assert learned_from(record.n_learned, record.n_defective) == "20 good and 7 defective parts"


def test_damage_beside_its_mask_is_not_learned_as_good(toy_parts: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_parts / "train/good", tmp_path / "parts")
    for path in sorted((toy_parts / "test/spotted").iterdir())[:2]:
        shutil.copy(path, tmp_path / "parts" / f"s{path.name}")
        mask = toy_parts / "ground_truth/spotted" / f"{path.stem}_mask.png"
        shutil.copy(mask, tmp_path / "parts" / f"s{path.stem}_mask.png")
    with pytest.raises(InputError, match=r"2 parts labelled good .*: s000\.png, s001\.png\. Put"):
        fit(tmp_path / "parts", tmp_path / "m.makellos")
    for path in (tmp_path / "parts").glob("*_mask.png"):
        cv2.imwrite(str(path), np.zeros((64, 96), np.uint8))
    assert fit(tmp_path / "parts", tmp_path / "m.makellos", false_alarms=0.1).n_groups == 32


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with a name")
def test_a_pipe_among_the_parts_is_no_part_of_the_fit(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert known([Part(source=tmp_path / "pipe.png", name="pipe.png")], "0" * 64) == []
