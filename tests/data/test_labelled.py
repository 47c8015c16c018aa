"""What is refused and what is warned of before a detector learns from labels."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from makellos.data.labelled import check_labelled, misplaced
from makellos.data.parts import Part
from makellos.errors import InputError


def picture(root: Path, name: str, label: str, seed: int, group: str | None = None) -> Part:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8)).astype(np.uint8)
    path.write_bytes(cv2.imencode(".bmp", pixels)[1].tobytes())
    return Part(source=path, name=name, label=label, group=group)


def some(root: Path, label: str, n: int, first: int = 0, split: str = "train") -> list[Part]:
    """Return pictures that are alike in size and differ in content."""
    seeds = range(first, first + n)
    return [picture(root, f"{split}/{label}/{i}.bmp", label, hash_of(label, i)) for i in seeds]


def hash_of(label: str, number: int) -> int:
    return sum(label.encode()) * 10_000 + number


def test_sound_parts_are_not_warned_of(tmp_path: Path) -> None:
    learn = [*some(tmp_path, "good", 30), *some(tmp_path, "dent", 12)]
    held_out = [*some(tmp_path, "good", 3, 40, "val"), *some(tmp_path, "dent", 2, 40, "val")]
    test = [*some(tmp_path, "good", 3, 50, "test"), *some(tmp_path, "dent", 2, 50, "test")]
    assert check_labelled(learn, held_out, test) == []
    assert check_labelled(learn, held_out, test, classes=["good", "dent"]) == []


def test_no_parts_are_refused() -> None:
    with pytest.raises(InputError, match=r"no labelled parts .* folders ok and defective"):
        check_labelled([])


@pytest.mark.parametrize(
    ("labels", "named"), [(["good"], "good"), (["dent", "crack"], r"defective \(crack, dent\)")]
)
def test_one_class_is_refused_with_the_way_to_give_the_other(
    tmp_path: Path, labels: list[str], named: str
) -> None:
    learn = [part for label in labels for part in some(tmp_path, label, 2)]
    with pytest.raises(InputError) as told:
        check_labelled(learn)
    said = str(told.value)
    assert re.search(f"All {len(learn)} parts to learn from are of one class, {named};", said)
    assert "folders ok and defective" in said
    assert "CSV manifest with the columns path and label" in said
    assert "makellos data split DATA -o parts.csv" in said


def test_one_class_whose_other_is_tested_is_told_to_split_anew(tmp_path: Path) -> None:
    learn, test = some(tmp_path, "good", 3), some(tmp_path, "dent", 2, 0, "test")
    for classes in (None, ["good", "dent"]):
        with pytest.raises(InputError) as told:
            check_labelled(learn, (), test, classes=classes)
        assert "The others are among those tested or held out: split" in str(told.value)
        assert "makellos data split DATA" in str(told.value)


def test_a_class_of_one_picture_is_refused_where_classes_are_told_apart(tmp_path: Path) -> None:
    learn = [*some(tmp_path, "good", 12), *some(tmp_path, "dent", 12), *some(tmp_path, "spot", 1)]
    classes = ["good", "dent", "spot"]
    with pytest.raises(InputError, match=r"class 'spot' has only one picture .* Add pictures"):
        check_labelled(learn, classes=classes)
    with pytest.raises(InputError, match="class 'burr' has no picture"):
        check_labelled(learn, some(tmp_path, "spot", 1, 5), classes=[*classes, "burr"])
    assert check_labelled(learn) == []


def test_a_label_that_is_no_class_is_refused(tmp_path: Path) -> None:
    learn = [*some(tmp_path, "good", 2), *some(tmp_path, "dant", 2)]
    with pytest.raises(InputError, match=r"'dant' is not one of .* Did you mean 'dent'"):
        check_labelled(learn, classes=["good", "dent"])


def test_small_and_uneven_classes(tmp_path: Path) -> None:
    learn = [*some(tmp_path, "good", 40), *some(tmp_path, "dent", 4), *some(tmp_path, "spot", 3)]
    (said,) = check_labelled(learn)
    assert "fewer than 10 pictures to learn from: defective (7)" in said
    small, uneven = check_labelled(learn, classes=["good", "dent", "spot"])
    assert "dent (4), spot (3)" in small
    assert "40 pictures of good, 3 of spot" in uneven


def test_labels_that_are_not_learned_from(tmp_path: Path) -> None:
    learn = [*some(tmp_path, "good", 12), *some(tmp_path, "dent", 12)]
    test = [*some(tmp_path, "burr", 1, 0, "test"), *some(tmp_path, "spot", 2, 0, "test")]
    held_out, tested, leak = check_labelled(learn, test[:1], test)
    assert "1 label held out for validation but not learned from: burr" in held_out
    assert "2 labels tested but not learned from: burr, spot" in tested
    assert "Leak: 1 picture both tested and, byte for byte the same" in leak


def test_identical_pictures_on_both_sides(tmp_path: Path) -> None:
    learn = [*some(tmp_path, "good", 12), *some(tmp_path, "dent", 12)]
    test = [picture(tmp_path, f"test/{i}.bmp", "good", hash_of("good", i)) for i in range(5)]
    held_out = [picture(tmp_path, "val/x.bmp", "dent", hash_of("dent", 7))]
    said = check_labelled(learn, held_out, test)
    assert len(said) == 2
    assert "1 picture both held out for validation and, byte for byte the same" in said[0]
    assert "train/dent/7.bmp = val/x.bmp" in said[0]
    assert "Leak: 5 pictures both tested and, byte for byte the same, learned from" in said[1]
    assert "train/good/0.bmp = test/0.bmp, train/good/1.bmp = test/1.bmp" in said[1]
    assert said[1].count(" = ") == 3
    assert "and 2 more" in said[1]


def test_the_same_part_on_both_sides(tmp_path: Path) -> None:
    learn = [*some(tmp_path, "good", 12), *some(tmp_path, "dent", 12)]
    (said,) = check_labelled(learn, (), learn[:1])
    assert "Leak: 1 picture both tested" in said


def test_identical_pictures_with_different_labels(tmp_path: Path) -> None:
    learn = [*some(tmp_path, "good", 12), *some(tmp_path, "dent", 12)]
    learn.append(picture(tmp_path, "train/x.bmp", "dent", hash_of("good", 3)))
    (said,) = check_labelled(learn)
    assert "1 set of identical pictures with different labels, which cannot all be right" in said
    assert "train/good/3.bmp (good) = train/x.bmp (dent)" in said


def test_identical_pictures_of_one_label_on_one_side_are_no_leak(tmp_path: Path) -> None:
    learn = [*some(tmp_path, "good", 12), *some(tmp_path, "dent", 12)]
    learn.append(picture(tmp_path, "train/x.bmp", "good", hash_of("good", 3)))
    assert check_labelled(learn) == []


def test_groups_on_both_sides(tmp_path: Path) -> None:
    sound = [*some(tmp_path, "good", 12), *some(tmp_path, "dent", 12)]
    learn = [replace(part, group=f"tile {i // 4}") for i, part in enumerate(sound)]
    test = [picture(tmp_path, f"test/{i}.bmp", "good", i, f"tile {i}") for i in (1, 5, 9)]
    alone = [picture(tmp_path, "val/1.bmp", "good", 77)]
    (said,) = check_labelled(learn, alone, test)
    assert "Leak: 2 groups both learned from and tested (tile 1, tile 5)" in said
    assert check_labelled(sound, alone, test) == []


def test_labels_that_disagree_with_folders(tmp_path: Path) -> None:
    learn = [*some(tmp_path, "good", 12), *some(tmp_path, "dent", 12)]
    learn.append(picture(tmp_path, "defective/003.bmp", "good", 99))
    (said,) = check_labelled(learn)
    assert "1 part in a folder named after another class: defective/003.bmp" in said


def test_folders_far_above_a_part_from_elsewhere_say_nothing(tmp_path: Path) -> None:
    near, far = (tmp_path / "good" / "0.png", tmp_path / "good" / "lot" / "0.png")
    parts = [Part(source=path, name=path.as_posix(), label="dent") for path in (near, far)]
    assert misplaced(parts) == [(near.as_posix(), "dent")]


def test_files_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    learn = [*some(tmp_path, "good", 12), *some(tmp_path, "dent", 12)]
    learn[0].path.unlink()
    learn[1].path.write_bytes(b"")
    learn[13].path.write_bytes(b"")
    assert check_labelled(learn) == []
