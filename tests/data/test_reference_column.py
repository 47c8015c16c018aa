"""The column `reference` of a manifest: read, checked, and kept by all who write manifests."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from makellos.data.checks import check_parts
from makellos.data.layouts import list_parts
from makellos.data.splits import write_split
from makellos.drawing import write_picture
from makellos.errors import InputError

ROWS = ["a.png,good,gold/a.png", "b.png,good,gold/b.png", "c.png,bent,", "d.png,bent,gold/d.png"]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Write a manifest of four parts; the third has no reference, the fourth's is not there."""
    (tmp_path / "gold").mkdir()
    names = ["a.png", "b.png", "c.png", "d.png", "gold/a.png", "gold/b.png"]
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).integers(0, 255, (64, 64), np.uint8)
        write_picture(tmp_path / name, noise)
    path = tmp_path / "parts.csv"
    path.write_text("\n".join(["path,label,reference", *ROWS]), encoding="utf-8")
    return path


def test_each_part_has_its_own(manifest: Path) -> None:
    found = list_parts(manifest)
    root = manifest.parent
    assert [part.reference for part in found] == [
        root / "gold/a.png",
        root / "gold/b.png",
        None,
        root / "gold/d.png",
    ]
    assert found.notes == ()
    with pytest.raises(InputError, match=r"reference of d\.png cannot be used"):
        found.parts[3].read_reference()


def test_a_check_names_parts_without(manifest: Path) -> None:
    found = check_parts(list_parts(manifest))
    assert found.without_reference == ["c.png"]
    assert [name for name, _ in found.unreadable_references] == ["d.png"]
    problems = "\n".join(found.problems)
    assert "1 reference cannot be decoded: those of d.png" in problems
    assert "1 part without a reference, where others have one: c.png" in problems


def test_a_split_keeps_the_column(manifest: Path) -> None:
    (manifest.parent / "splits").mkdir()
    output = manifest.parent / "splits" / "split.csv"
    write_split(list_parts(manifest), output, val=0, test=0.5)
    with output.open(encoding="utf-8") as stream:
        rows = {row["path"]: row["reference"] for row in csv.DictReader(stream)}
    assert rows == {
        "../a.png": "../gold/a.png",
        "../b.png": "../gold/b.png",
        "../c.png": "",
        "../d.png": "../gold/d.png",
    }
    write_split(list_parts(manifest), output, val=0, test=0.5)  # replaces its own


def test_a_manifest_without_it_is_written_without(manifest: Path) -> None:
    manifest.write_text("path,label\na.png,good\nb.png,good\nc.png,bent\nd.png,bent", "utf-8")
    output = manifest.parent / "split.csv"
    write_split(list_parts(manifest), output, val=0, test=0.5)
    assert output.read_text("utf-8").splitlines()[0] == "path,label,split,mask,group"
