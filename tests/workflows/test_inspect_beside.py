"""Rows of models that tell part and background: what lies beside the part has a column."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from makellos.inspection.background import Background, Beside
from makellos.inspection.findings import Inspection
from makellos.inspection.regions import Region
from makellos.workflows.rows import columns_of, csv_writer, parquet_writer


def _inspector() -> tuple[Any, Any]:
    """Return an inspector that tells part and background, and its subject."""
    background = Background(choice="look_again", least=0.1, most=0.9)
    inspector = SimpleNamespace(
        manifest=SimpleNamespace(
            classes=(), background=background, calibration=SimpleNamespace(by_class=False)
        ),
        zones=None,
        statistics=False,
        acceptance=SimpleNamespace(rules=()),
    )
    return inspector, SimpleNamespace(columns=("notes",))


FIBRE = Beside("fibre", Region(1, 2, 30, 4, 50, 0.7))


def test_table_has_what_lies_beside_parts(tmp_path: Path) -> None:
    inspector, pictures = _inspector()
    found = Inspection("a.png", "look_again", beside=(FIBRE,))
    with csv_writer(tmp_path / "rows.csv", columns_of(inspector, pictures)) as write_row:
        write_row(found.row())
        write_row(Inspection("b.png", "unreadable").row())
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert json.loads(first["beside"])[0]["kind"] == "fibre"
    assert second["beside"] == ""


def test_parquet_has_all_columns_where_the_first_part_is_unreadable(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    with parquet_writer(path, columns_of(*_inspector())) as write_row:
        write_row(Inspection("b.png", "unreadable").row())
        write_row(Inspection("a.png", "look_again", beside=(FIBRE,)).row())
    first, second = parquet.read_table(path).to_pylist()
    assert first["beside"] is None
    assert json.loads(second["beside"])[0]["kind"] == "fibre"
