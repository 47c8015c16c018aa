"""The demo: the main job from nothing, in a folder of its own."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from makellos.cli.summaries import demo_text
from makellos.errors import StorageError
from makellos.workflows.demo import demo

FEW = partial(demo, n_train=24, n_test_good=3, n_per_defect=1)


@pytest.fixture
def small(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo fit a toy detector."""
    toy.install(monkeypatch)


def test_demo_does_the_main_job(tmp_path: Path) -> None:
    told: list[str] = []
    folder = tmp_path / "demo"
    result = FEW(folder, size=128, progress=lambda what, _, __: told.append(what))
    assert {"rendering screws", "embedding good parts", "inspecting"} <= set(told)
    names = {path.name for path in folder.iterdir()}
    assert {"screws", "screws.makellos", "inspections.csv", "overlays", "report.html"} <= names
    assert result.fitted.n_learned == 24
    assert json.loads((folder / "figures.json").read_text()) == json.loads(
        json.dumps(result.figures)
    )
    rows = (folder / "inspections.csv").read_text().splitlines()
    n_tested = result.figures["n_good"] + result.figures["n_defective"]
    assert len(rows) == n_tested + 1
    assert len(list((folder / "overlays").rglob("*.png"))) == n_tested
    text = demo_text(result)
    assert str(folder / "report.html") in text
    assert "Image AUROC" in text
    assert text.splitlines()[-2] == "  makellos fit FOLDER -o parts.makellos --false-alarms 0.05"


@pytest.mark.usefixtures("small")
def test_demo_replaces_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "demo"
    FEW(folder, size=64)
    (folder / "overlays" / "left over.png").write_bytes(b"of an older run")
    (folder / "note.txt").write_text("of an older run")
    first = (folder / "screws.makellos").stat().st_mtime_ns
    # From within, as a user may who looks at it.
    monkeypatch.chdir(folder)
    FEW(Path(), size=64)
    assert not (folder / "note.txt").exists()
    assert not (folder / "overlays" / "left over.png").exists()
    assert (folder / "screws.makellos").stat().st_mtime_ns > first


@pytest.mark.usefixtures("small")
def test_demo_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert FEW(tmp_path / "new", size=64).report.is_file()


def test_demo_refuses_a_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"sea")
    (tmp_path / "file").write_bytes(b"text")
    for place in ("photos", "file"):
        with pytest.raises(StorageError, match="left alone") as caught:
            demo(tmp_path / place)
        assert "Choose another folder with -o" in str(caught.value)
    with pytest.raises(StorageError, match="cannot be used"):
        demo(tmp_path / "file" / "demo")
    assert (tmp_path / "photos" / "holiday.jpg").read_bytes() == b"sea"
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["holiday.jpg"]
