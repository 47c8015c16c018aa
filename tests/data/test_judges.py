"""Manifests with a column judge: several judgements of the same parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from makellos import InputError, find_parts


def manifest(folder: Path, rows: str) -> Path:
    for name in "abcd":
        (folder / f"{name}.png").write_bytes(b"")
    path = folder / "parts.csv"
    path.write_text(rows, encoding="utf-8")
    return path


def test_rows_of_judges_are_one_part_with_the_truth_of_the_row_without(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        "path,judge,label,group\na.png,Ann,good,\na.png,,scratch,lot 1\na.png,Ben,NOK,\n"
        "a.png,Ann,OK,\nb.png,,good,lot 2\n",
    )
    found = find_parts(path)
    first, second = found.parts
    assert (first.name, first.label, first.group) == ("a.png", "scratch", "lot 1")
    assert first.judgements == {"Ann": ("good", "good"), "Ben": ("NOK",)}
    assert not first.by_majority
    assert (second.label, dict(second.judgements)) == ("good", {})
    assert not any("not read" in note for note in found.notes)


def test_most_judges_tell_the_truth_where_no_row_does(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        "path,judge,label\na.png,Ann,good\na.png,Ben,good\na.png,Cem,dent\n"
        "b.png,Ann,good\nb.png,Ben,dent\nc.png,Ann,dent\nc.png,Ben,scratch\nc.png,Cem,scratch\n",
    )
    found = find_parts(path)
    assert [part.label for part in found] == ["good", "dent", "scratch"]
    assert all(part.by_majority for part in found)
    assert any("3 parts have no row without a judge" in note for note in found.notes)


def test_labels_that_mean_good_count_before_the_majority_does(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,judge,label\na.png,Ann,0\na.png,Ben,0\na.png,Cem,1\n")
    assert [part.label for part in find_parts(path)] == ["0"]
    (part,) = find_parts(path, good="0").parts
    assert part.label == "good"
    assert part.judgements == {"Ann": ("good",), "Ben": ("good",), "Cem": ("1",)}


def test_two_truths_of_a_part_are_a_mistake(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,judge,label\na.png,,good\na.png,Ann,good\na.png,,dent\n")
    with pytest.raises(InputError, match=r"line 4: a\.png is listed in line 2 already"):
        find_parts(path)


def test_column_that_means_judge_is_pointed_out(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,appraiser,label\na.png,Ann,good\n")
    with pytest.raises(InputError, match="is it 'judge'"):
        find_parts(path)
