"""Groups by name: what a pattern marks, which column is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from makellos.errors import ConfigurationError, InputError
from makellos.subjects import find_parts


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.zeros((8, 8), np.uint8))
    return folder


def test_a_pattern_marks_the_group_in_the_file_name(tmp_path: Path) -> None:
    data = folder_of(tmp_path, "LotA_7_001.png", "lotA_7_002.PNG", "lotB_001.png")
    found = find_parts(data, "lot{}_*.png")
    assert [part.group for part in found] == ["A", "A", "B"]  # up to the first underscore
    assert found.grouping == "the pattern 'lot{}_*.png'"
    assert found.notes[-1] == (
        "2 groups of 1 to 2 good parts by the pattern 'lot{}_*.png', such as 'A' of LotA_7_001.png."
    )


def test_a_pattern_reaches_into_folders(tmp_path: Path) -> None:
    data = folder_of(tmp_path, "shift 1/a.png", "shift 1/b.png", "shift 2/[a].png")
    assert [p.group for p in find_parts(data, "shift {}/*")] == ["1", "1", "2"]


@pytest.mark.parametrize("pattern", ["x{}?.png", "?{}_1.png"])
def test_a_question_mark_is_one_character(tmp_path: Path, pattern: str) -> None:
    data = folder_of(tmp_path, "xab_1.png", "xcb_1.png")
    groups = [part.group for part in find_parts(data, pattern)]
    assert groups == (["ab_", "cb_"] if pattern.startswith("x") else ["ab", "cb"])


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("lot*_*.png", "marks no group. Mark"),
        ("{}_{}.png", "marks 2 groups"),
        ("lot{lot}_*", "marks the group as '{lot}' instead of '{}'"),
        ("lot{_*", "marks no group"),
    ],
)
def test_a_pattern_without_one_mark_is_refused(tmp_path: Path, pattern: str, said: str) -> None:
    data = folder_of(tmp_path, "lot1_1.png", "lot2_2.png")
    with pytest.raises(ConfigurationError) as caught:
        find_parts(data, pattern)
    assert said in str(caught.value)


def test_good_parts_that_do_not_match_are_named(tmp_path: Path) -> None:
    data = folder_of(
        tmp_path, "train/good/lot1_1.png", "train/good/lot2_1.png", "train/good/other.png"
    )
    folder_of(tmp_path, "test/good/x.png", "test/bent/y.png")
    with pytest.raises(InputError, match=r"2 of 3 good .* Without one: train/good/other"):
        find_parts(data, "lot{}_*")
    with pytest.raises(InputError, match=r"none of 3 good parts have a group"):
        find_parts(data, "charge{}_*")
    (data / "train/good/other.png").unlink()
    assert {part.group for part in find_parts(data, "lot{}_*")} == {"1", "2", None}


def test_one_group_of_all_is_refused_and_a_group_each_is_said(tmp_path: Path) -> None:
    data = folder_of(tmp_path, "lot1_1.png", "lot1_2.png")
    with pytest.raises(InputError, match=r"all 2 good parts belong to one group, '1'"):
        find_parts(data, "lot{}_*")
    assert "groups change nothing" in find_parts(data, "lot1_{}.png").notes[-1]


def manifest_of(folder: Path, header: str, *rows: str) -> Path:
    folder_of(folder, "a.png", "b.png", "c.png")
    path = folder / "parts.csv"
    path.write_text("\n".join([header, *rows]))
    return path


def test_a_column_is_read_in_place_of_group(tmp_path: Path) -> None:
    data = manifest_of(tmp_path, "path,Lot,group", "a.png,1,x", "b.png,1,y", "c.png,2,y")
    found = find_parts(data, "lot")
    assert [part.group for part in found] == ["1", "1", "2"]
    assert found.grouping == "the column 'lot'"
    assert not any("not read: lot" in note for note in found.notes)
    assert [part.group for part in find_parts(data, "group")] == ["x", "y", "y"]


def test_a_column_that_is_not_there_or_not_filled_is_refused(tmp_path: Path) -> None:
    data = manifest_of(tmp_path, "path,label,charge", "a.png,good,1", "b.png,good,", "c.png,good,2")
    with pytest.raises(InputError, match=r"no column 'charges'.*Did you mean 'charge'"):
        find_parts(data, "charges")
    with pytest.raises(InputError, match=r"no column of groups 'label'"):
        find_parts(data, "label")
    with pytest.raises(InputError, match=r"2 of 3 good parts have .* Without one: b\.png"):
        find_parts(data, "charge")
    with pytest.raises(InputError, match=r"names a column 'charge', but .* is a folder"):
        find_parts(tmp_path, "charge")
