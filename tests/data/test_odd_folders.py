"""What users bring: other words, slips in headers, masks in odd places, linked folders."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from makellos import find_parts
from makellos.data.layouts import walk_parts
from makellos.data.own_outputs import is_own_output
from makellos.data.parts import PartSet
from makellos.errors import InputError

RNG = np.random.default_rng(0)


def photo(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), RNG.integers(0, 256, (16, 16), np.uint8))


def mask(*paths: Path, marked: bool = True) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = np.zeros((16, 16), np.uint8)
        drawn[4:8, 4:8] = 255 * marked
        cv2.imwrite(str(path), drawn)


def labels(parts: PartSet) -> dict[str, str]:
    return {part.name: part.label for part in parts}


def masks(parts: PartSet) -> dict[str, str]:
    root = parts.root
    return {p.name: p.mask.relative_to(root).as_posix() for p in parts if p.mask is not None}


def manifest(root: Path, text: str) -> Path:
    photo(root / "a.png", root / "b.png")
    path = root / "parts.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("column", "right"),
    [
        *((name, "label") for name in ("class", "lable", "labels", "target", "Class_ID", "Klasse")),
        *((name, "label") for name in ("is_defective", "defect type", "label\u200b", "category")),
        *((name, "split") for name in ("splits", "spilt", "split_name", "subset")),
        *((name, "mask") for name in ("masks", "mask_path", "maks", "ground truth mask")),
        *((name, "group") for name in ("groups", "gruop", "group-id")),
    ],
)
def test_a_column_named_almost_right_is_refused(column: str, right: str, tmp_path: Path) -> None:
    path = manifest(tmp_path, f"path,{column}\na.png,x\nb.png,y\n")
    with pytest.raises(InputError, match=f"look as if they should be: '.*' \\(is it '{right}'\\?"):
        find_parts(path)


@pytest.mark.parametrize("header", ["Label ", " LABEL", '"label "', "label\u00a0"])
def test_a_column_that_differs_in_case_and_blanks_is_read(header: str, tmp_path: Path) -> None:
    found = find_parts(manifest(tmp_path, f"path,{header}\na.png,good\nb.png,scratch\n"))
    assert labels(found) == {"a.png": "good", "b.png": "scratch"}


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("path,befund\na.png,i.O.\nb.png,scratch\n", "label"),
        ("path,judged\na.png,pass\nb.png,fail\n", "label"),
        ("path,use\na.png,train\nb.png,testing\n", "split"),
    ],
)
def test_a_column_is_known_by_what_it_holds(text: str, right: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"is it '{right}'"):
        find_parts(manifest(tmp_path, text))


def test_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    text = "path,label,remark,lot,mass,labels,,empty\na.png,good,ok,7,1.2,x,9,\nb.png,good,,7,,,,\n"
    found = find_parts(manifest(tmp_path, text))
    (note,) = found.notes
    assert "not read: remark, lot, mass, labels, (without a name)." in note
    assert "'group'" in note


@pytest.mark.parametrize(
    "good", ["normal", "ok", "OK", "pass", "Normal", "anomaly-free", "i.O.", "gut"]
)
@pytest.mark.parametrize(
    "bad", ["abnormal", "anomaly", "ng", "NG", "bad", "nok", "defect", "Not OK", "KO", "Ausschuss"]
)
def test_words_of_other_toolkits(good: str, bad: str, tmp_path: Path) -> None:
    photo(tmp_path / good / "0.png", tmp_path / bad / "1.png")
    found = find_parts(tmp_path)
    assert labels(found) == {f"{good}/0.png": "good", f"{bad}/1.png": bad}
    assert set(found.notes) == {f"Read as good: {good}.", f"Read as defective: {bad}."}
    path = manifest(tmp_path, f"path,label\na.png,{good}\nb.png,{bad}\n")
    assert labels(find_parts(path)) == {"a.png": "good", "b.png": bad}
    assert set(find_parts(path).notes) == set(found.notes)


@pytest.mark.parametrize("val", ["valid", "validation", "Valid"])
def test_names_of_splits(val: str, tmp_path: Path) -> None:
    photo(tmp_path / "training/normal/0.png", tmp_path / f"{val}/normal/1.png")
    photo(tmp_path / "testing/normal/2.png", tmp_path / "testing/scratch/3.png")
    found = find_parts(tmp_path)
    assert [part.split for part in found] == (
        ["val", "test", "test", "train"] if val == "Valid" else ["test", "test", "train", "val"]
    )
    assert f"The folder {val} is read as split val." in found.notes
    assert "The folder training is read as split train." in found.notes
    path = manifest(tmp_path, f"path,label,split\na.png,good,{val}\nb.png,good,Training\n")
    assert [part.split for part in find_parts(path)] == ["val", "train"]


def test_words_of_this_house_need_no_note(tmp_path: Path) -> None:
    photo(tmp_path / "train/good/0.png", tmp_path / "test/defective/1.png")
    assert find_parts(tmp_path).notes == ()


@pytest.mark.parametrize("folder", ["mask", "masks", "Masks", "gt", "ground_truth", "label"])
@pytest.mark.parametrize("inner", ["scratch/000_mask.png", "scratch/000.png", "000.png"])
def test_folders_of_masks(folder: str, inner: str, tmp_path: Path) -> None:
    photo(tmp_path / "good/000.png", tmp_path / "scratch/000.png")
    mask(tmp_path / folder / inner)
    found = find_parts(tmp_path)
    assert labels(found) == {"good/000.png": "good", "scratch/000.png": "scratch"}
    assert masks(found) == {"scratch/000.png": f"{folder}/{inner}"}
    assert found.left_out == ()


@pytest.mark.parametrize(
    "where",
    ["test/masks/scratch/0.png", "test/scratch/mask/0_mask.png", "masks/test/scratch/0.png"],
)
def test_masks_inside_the_folders_of_a_split(where: str, tmp_path: Path) -> None:
    photo(tmp_path / "train/good/0.png", tmp_path / "test/scratch/0.png")
    mask(tmp_path / where)
    found = find_parts(tmp_path)
    assert labels(found) == {"train/good/0.png": "good", "test/scratch/0.png": "scratch"}
    assert masks(found) == {"test/scratch/0.png": where}


@pytest.mark.parametrize(
    "name", ["0_mask.png", "0_gt.bmp", "0-Mask.png", "mask_0.png", "0.mask.png", "0_label.bmp"]
)
def test_masks_beside_their_pictures(name: str, tmp_path: Path) -> None:
    photo(tmp_path / "good/0.png", tmp_path / "scratch/0.png")
    mask(tmp_path / "scratch" / name)
    found = find_parts(tmp_path)
    assert labels(found) == {"good/0.png": "good", "scratch/0.png": "scratch"}
    assert masks(found) == {"scratch/0.png": f"scratch/{name}"}


def test_a_mask_that_has_the_name_of_its_jpeg(tmp_path: Path) -> None:
    photo(tmp_path / "good/0.jpg", tmp_path / "scratch/1.jpg")
    mask(tmp_path / "good/0.png", marked=False)
    mask(tmp_path / "scratch/1.png")
    found = find_parts(tmp_path)
    assert labels(found) == {"good/0.jpg": "good", "scratch/1.jpg": "scratch"}
    assert masks(found) == {"good/0.jpg": "good/0.png", "scratch/1.jpg": "scratch/1.png"}


def test_photographs_of_two_formats_are_parts(tmp_path: Path) -> None:
    photo(tmp_path / "0.jpg", tmp_path / "0.png", tmp_path / "bottle.png")
    photo(tmp_path / "bottle_label.png")
    assert len(find_parts(tmp_path)) == 4


def test_a_name_like_a_mask_without_its_picture_is_a_part(tmp_path: Path) -> None:
    photo(tmp_path / "good/0.png", tmp_path / "good/face_mask.png")
    assert len(find_parts(tmp_path)) == 2


def test_photographs_in_a_folder_named_mask_are_parts_and_it_is_said(tmp_path: Path) -> None:
    photo(tmp_path / "good/0.png", tmp_path / "mask/0.png", tmp_path / "label/0.png")
    found = find_parts(tmp_path)
    assert labels(found)["mask/0.png"] == "mask"
    assert labels(found)["label/0.png"] == "label"
    assert found.notes == (
        "The pictures in mask do not look like masks, so they were read as parts. If they are "
        "masks, name the folder ground_truth.",
    )


@pytest.mark.parametrize("folder", ["mask_dir", "GT masks", "Mask-images", "Maske", "Ground Truth"])
def test_folders_of_masks_by_one_of_their_words(folder: str, tmp_path: Path) -> None:
    photo(tmp_path / "good/0.png", tmp_path / "cut/1.png")
    mask(tmp_path / folder / "cut/1.png")
    assert masks(find_parts(tmp_path)) == {"cut/1.png": f"{folder}/cut/1.png"}


def test_masks_of_any_ending_beside_their_pictures(tmp_path: Path) -> None:
    photo(*(tmp_path / name for name in ("good/0.png", "good/0_left.png", "cut/1.png")))
    mask(tmp_path / "cut/1_m.png")
    found = find_parts(tmp_path)
    assert masks(found) == {"cut/1.png": "cut/1_m.png"}
    assert set(labels(found)) == {"good/0.png", "good/0_left.png", "cut/1.png"}


@pytest.mark.parametrize(
    ("parts", "marks"),
    [
        ("Data/Images", "Data/Masks"),
        ("Images", "Masks"),
        ("screw/test", "screw/ground_truth"),
        ("test/images", "ground_truth"),
    ],
)
def test_folders_around_those_of_the_classes(parts: str, marks: str, tmp_path: Path) -> None:
    photo(tmp_path / parts / "Normal/0.png", tmp_path / parts / "Anomaly/1.png")
    mask(tmp_path / marks / "Anomaly/1.png")
    found = find_parts(tmp_path)
    assert labels(found) == {f"{parts}/Normal/0.png": "good", f"{parts}/Anomaly/1.png": "Anomaly"}
    assert masks(found) == {f"{parts}/Anomaly/1.png": f"{marks}/Anomaly/1.png"}
    top = parts.removesuffix("/test")
    said = f"Parts were read from the folder {top}." in found.notes
    assert said == (not parts.startswith("test"))


def test_folders_of_good_parts_by_day_stay_flat(tmp_path: Path) -> None:
    photo(tmp_path / "2024/01/0.png", tmp_path / "2024/02/1.png")
    found = find_parts(tmp_path)
    assert (found.layout, set(labels(found).values())) == ("flat folder", {"good"})


def test_damage_deep_inside_a_flat_folder_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "loose.png", tmp_path / "line/ok/0.png", tmp_path / "line/NOK/1.png")
    with pytest.raises(InputError, match=r"1\.png is in a folder NOK, but .* as good\. Give"):
        find_parts(tmp_path)


def test_a_name_that_begins_as_good_is_named(tmp_path: Path) -> None:
    photo(tmp_path / "good/0.png", tmp_path / "ok_front/1.png", tmp_path / "okra/2.png")
    notes = find_parts(tmp_path).notes
    assert notes == ("Read as kinds of damage: ok_front. Good parts need the label good.",)


def test_masks_of_no_picture_are_left_out_and_named(tmp_path: Path) -> None:
    photo(tmp_path / "good/0.png", tmp_path / "dent/1.png", tmp_path / "scratch/1.png")
    mask(tmp_path / "masks/7.png", tmp_path / "masks/1.png")
    found = find_parts(tmp_path)
    assert masks(found) == {}
    assert found.left_out == ("masks/1.png", "masks/7.png")


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    photo(tmp_path / "elsewhere/1.png", tmp_path / "set/0.png", tmp_path / "set/deep/2.png")
    (tmp_path / "set/lot").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "set/deep/again").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    found = [path.relative_to(tmp_path / "set").as_posix() for path in walk_parts(tmp_path / "set")]
    assert found == ["0.png", "deep/2.png", "deep/again/1.png", "lot/1.png"]
    assert len(find_parts(tmp_path / "set")) == 4


def test_links_that_lead_round_end(tmp_path: Path) -> None:
    photo(tmp_path / "a/0.png", tmp_path / "b/1.png")
    for link, target in (("a/self", "a"), ("a/up", "."), ("a/b", "b"), ("b/a", "a")):
        (tmp_path / link).symlink_to(tmp_path / target, target_is_directory=True)
    found = [path.relative_to(tmp_path).as_posix() for path in walk_parts(tmp_path)]
    assert found == ["a/0.png", "a/b/1.png", "b/1.png", "b/a/0.png"]


def test_a_linked_split_is_one_of_its_own(tmp_path: Path) -> None:
    photo(tmp_path / "train/good/0.png", tmp_path / "test/dent/1.png")
    (tmp_path / "test/good").symlink_to(tmp_path / "train/good", target_is_directory=True)
    assert labels(find_parts(tmp_path)) == {
        "test/dent/1.png": "dent",
        "test/good/0.png": "good",
        "train/good/0.png": "good",
    }


@pytest.mark.parametrize("folder", ["good", "OK", "train/good"])
def test_pictures_beside_an_empty_folder(folder: str, tmp_path: Path) -> None:
    photo(tmp_path / "0.png", tmp_path / "1.png")
    (tmp_path / folder).mkdir(parents=True)
    place = "train/good" if "train" in folder else "good"
    with pytest.raises(InputError, match=rf"are 0\.png, 1\.png\. Move .* into {place}"):
        find_parts(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with a name")
def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert not is_own_output(tmp_path / "pipe.png")
    assert [path.name for path in walk_parts(tmp_path)] == ["pipe.png"]
