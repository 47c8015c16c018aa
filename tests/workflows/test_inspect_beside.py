"""Rows of models that tell part and background: what lies beside the part has a column."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from makellos.inspection.background import Background, Beside
from makellos.inspection.findings import Inspection
from makellos.inspection.regions import Region
from makellos.workflows.inspect import _columns, _csv_writer


def test_table_has_what_lies_beside_parts(tmp_path: Path) -> None:
    background = Background(choice="look_again", least=0.1, most=0.9)
    inspector: Any = SimpleNamespace(
        manifest=SimpleNamespace(classes=(), background=background),
        zones=None,
        acceptance=SimpleNamespace(rules=()),
    )
    pictures: Any = SimpleNamespace(columns=("notes",))
    fibre = Beside("fibre", Region(1, 2, 30, 4, 50, 0.7))
    found = Inspection("a.png", "look_again", beside=(fibre,))
    with _csv_writer(tmp_path / "rows.csv", _columns(inspector, pictures)) as write_row:
        write_row(found.row())
        write_row(Inspection("b.png", "unreadable").row())
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert json.loads(first["beside"])[0]["kind"] == "fibre"
    assert second["beside"] == ""
