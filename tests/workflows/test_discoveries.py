"""Which parts of a batch to take out: rows, summary, and runs that are broken off."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from makellos.calibration import q_values
from makellos.workflows.inspect import Outputs, inspect


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_rows_say_which_parts_to_take_out(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.png").write_text("no picture")
    told = cli(
        "inspect", toy_model, toy_parts / "test", tmp_path / "in", "-o", tmp_path / "out",
        "--false-discoveries", 0.2, "--json", tmp_path / "s.json",
    )  # fmt: skip
    assert told.code == 1  # of the broken one
    rows = rows_of(tmp_path / "out" / "inspections.csv")
    lines = (tmp_path / "out" / "inspections.jsonl").read_text().splitlines()
    assert len(rows) == len(lines) == 21
    known = [row for row in rows if row["p_value"]]
    expected = q_values([float(row["p_value"]) for row in known]).tolist()
    assert [float(row["q_value"]) for row in known] == pytest.approx(expected)
    assert [json.loads(line)["q_value"] for line in lines if '"unreadable"' not in line] == (
        pytest.approx(expected)
    )
    out = [row["input"] for row in known if row["discovery"] == "True"]
    assert len(out) >= 4
    (broken,) = (row for row in rows if row["verdict"] == "unreadable")
    assert (broken["q_value"], broken["discovery"]) == ("", "")
    summary = json.loads((tmp_path / "s.json").read_text())["discoveries"]
    assert (summary["inputs"], summary["n_parts"], summary["share"]) == (out, 20, 0.2)
    assert f"Take out {len(out)} of 20 parts; on average at most 20% of them are good" in told.out


@pytest.mark.parametrize(
    ("share", "said"),
    [
        # 30 good parts calibrate, 10 are inspected: 10 / 31 / 0.1 would have to be odder than all.
        (0.1, "at least 4 of 10 would have to be"),
        (0.01, "Calibrate it with at least 99"),
    ],
)
def test_a_batch_without_damage_says_what_it_would_take(
    toy_model: Path, toy_parts: Path, cli: Callable[..., Any], share: float, said: str
) -> None:
    told = cli("inspect", toy_model, toy_parts / "test" / "good", "--false-discoveries", share)
    assert told.code == 0
    assert said in told.out


def test_rows_of_a_run_that_is_broken_off_are_kept(
    toy_model: Path, toy_parts: Path, tmp_path: Path
) -> None:
    def stop(_inspection: object, done: int, _total: int | None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    target = tmp_path / "rows.csv"
    with pytest.raises(KeyboardInterrupt):
        inspect(
            toy_model,
            toy_parts / "test",
            outputs=Outputs(csv=target),
            false_discoveries=0.1,
            on_row=stop,
        )
    rows = rows_of(target)
    assert len(rows) == 3
    assert [row["q_value"] for row in rows] == ["", "", ""]


def test_rates_out_of_range_are_refused_before_anything_is_written(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("inspect", toy_model, toy_parts, "-o", tmp_path / "out", "--false-discoveries", 10)
    assert told.code == 2
    assert "such as 0.1" in told.err
    assert not (tmp_path / "out").exists()
