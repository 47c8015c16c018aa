"""What evaluate writes of each part: the rows of inspect, and the truth beside the verdict."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import makellos
from makellos.data.parts import Part
from makellos.sets.synthetic_bearings import synthetic_recording
from makellos.vibration.bearings import find_bearing
from makellos.workflows.labelled_rows import labelled_columns, labelled_row

TRUTH = ["label", "defect"]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_rows_are_those_of_inspect_with_the_truth(
    screw_model: Path, screws: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    rows, report = tmp_path / "rows.csv", tmp_path / "report"
    told = cli("evaluate", screw_model, screws, "--csv", rows, "-o", report, "--json", "-")
    figures = json.loads(told.out)
    found = table(rows)
    told = cli("inspect", screw_model, screws / "test", "--csv", tmp_path / "inspected.csv")
    inspected = table(tmp_path / "inspected.csv")
    columns = list(inspected[0])
    assert list(found[0]) == [columns[0], *TRUTH, *columns[1:]]
    assert not (report / "tested.csv").exists()  # they went to the file that was named
    for row, same in zip(found, inspected, strict=True):
        kind = Path(same["input"]).parent.name
        assert row["input"] == Path(same["input"]).relative_to(screws).as_posix()
        assert (row["label"], row["defect"]) == (kind, "" if kind == "good" else kind)
        for name in ("verdict", "score", "p_value", "threshold", "regions", "error"):
            assert row[name] == same[name], name
    missed = [row["verdict"] != "reject" for row in found if row["defect"]]
    assert figures["miss_rate"] == pytest.approx(sum(missed) / len(missed))


def test_the_folder_of_the_report_has_them_and_parquet_too(
    toy_model: Path, toy_parts: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (toy_parts / "test" / "good" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    try:
        told = cli(
            "evaluate", toy_model, toy_parts, "-o", tmp_path, "--parquet", tmp_path / "rows.parquet"
        )
    finally:
        (toy_parts / "test" / "good" / "broken.png").unlink()
    assert told.code == 0
    rows = table(tmp_path / "tested.csv")
    stored = parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["input"] for row in stored] == [row["input"] for row in rows]
    assert [row["label"] for row in stored] == [row["label"] for row in rows]
    (broken,) = (row for row in rows if row["verdict"] == "unreadable")
    assert (broken["label"], broken["score"]) == ("good", "")
    # They are no parts, and are replaced by the same verb alone.
    assert cli("evaluate", toy_model, toy_parts, "--csv", tmp_path / "tested.csv").code == 0
    told = cli("inspect", toy_model, toy_parts / "test", "--csv", tmp_path / "tested.csv")
    assert told.code == 2
    assert "makellos inspect" in told.err
    foreign = tmp_path / "mine.csv"
    foreign.write_text("path,label\n", encoding="utf-8")
    told = cli("evaluate", toy_model, toy_parts, "--csv", foreign)
    assert (told.code, foreign.read_text(encoding="utf-8")) == (2, "path,label\n")


def test_rows_may_go_to_standard_output(
    toy_model: Path, toy_parts: Path, cli: Callable[..., Any]
) -> None:
    told = cli("evaluate", toy_model, toy_parts, "--csv", "-")
    lines = told.out.splitlines()
    assert lines[0].startswith("input,label,defect,verdict,")
    assert len(lines) == 21
    told = cli("evaluate", toy_model, toy_parts, "--csv", "-", "--json", "-")
    assert told.code == 2


def test_windows_are_for_recordings(
    toy_model: Path, toy_parts: Path, cli: Callable[..., Any], tmp_path: Path
) -> None:
    told = cli("evaluate", toy_model, toy_parts, "--windows", tmp_path / "windows.csv")
    assert told.code == 2
    assert "--windows is for recordings" in told.err


def test_a_classifier_says_true_and_predicted_class() -> None:
    classes = ["good", "scratch", "spot"]
    part = Part(source=Path("a.png"), name="a.png", label="spot")
    shares = {"good": 0.2, "scratch": 0.4, "spot": 0.4}
    row = labelled_row(part, {"input": "a.png", "probabilities": shares}, classes)
    assert (row["true_class"], row["predicted_class"]) == ("spot", "spot")  # the later, of equal
    assert labelled_columns(("input", "verdict"), classes) == (
        *("input", "label", "defect", "true_class", "predicted_class", "verdict"),
    )
    verdicts = labelled_row(
        part, {"probabilities": {"good": 0.9, "defective": 0.1}}, ["good", "defective"]
    )
    assert (verdicts["true_class"], verdicts["predicted_class"]) == ("defective", "good")
    unreadable = labelled_row(part, {"input": "a.png"}, classes)
    assert (unreadable["predicted_class"], unreadable["probabilities"]) == ("", {})


def test_recordings_have_a_row_each_and_windows_theirs(tmp_path: Path) -> None:
    import numpy as np

    def record(path: Path, kind: str, seed: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        signal = synthetic_recording(
            kind,
            rate=12000.0,
            seconds=1.0,
            shaft_hz=30.0,
            bearing=find_bearing("6205"),
            severity=2.0,
            seed=seed,
            machine=1,
        )
        np.savez(path, DE=signal, rate=np.float64(12000))

    folder, model = tmp_path / "set", tmp_path / "m.makellos"
    for i in range(3):
        record(folder / "train" / "good" / f"{i}.npz", "good", i)
    record(folder / "test" / "good" / "9.npz", "good", 9)
    record(folder / "test" / "outer" / "8.npz", "outer", 8)
    makellos.fit(folder, model, detector="pyod", false_alarms=0.2)
    files = makellos.RowFiles(csv=tmp_path / "rows.csv", windows=tmp_path / "windows.csv")
    figures = makellos.evaluate(model, folder, rows=files)
    rows, windows = table(tmp_path / "rows.csv"), table(tmp_path / "windows.csv")
    assert [(row["input"], row["label"]) for row in rows] == [
        ("test/good/9.npz", "good"),
        ("test/outer/8.npz", "outer"),
    ]
    assert figures.recordings is not None
    assert rows[1]["verdict"] == figures.recordings["test/outer/8.npz"]["verdict"]
    assert len(windows) == figures.n_good + figures.n_defective
    assert {(row["input"], row["label"], row["defect"]) for row in windows} == {
        ("test/good/9.npz", "good", ""),
        ("test/outer/8.npz", "outer", "outer"),
    }
