"""The magnetic tiles: gray pictures of many sizes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from makellos.inspection import Inspector

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no peak of memory"),
]


def test_damage_is_found(real_data: Path, run_makellos: Callable[..., Any], tmp_path: Path) -> None:
    data, model = real_data / "magnetic_tile", tmp_path / "m.makellos"
    ran = run_makellos("fit", data, "-o", model)
    assert "learned from 761 good parts" in ran.out
    assert Inspector(model).manifest.background is None
    assert ran.peak_bytes <= 2 << 30
    figures = json.loads(run_makellos("evaluate", model, data, "--json", "-").out)
    assert (figures["n_good"], figures["n_defective"]) == (191, 392)
    assert figures["image_auroc"] >= 0.95
    assert sorted(figures["by_defect"]) == ["blowhole", "break", "crack", "fray", "uneven"]


def test_damage_is_found_on_new_tiles(
    real_data: Path, run_makellos: Callable[..., Any], tmp_path: Path
) -> None:
    data, model = real_data / "magnetic_tile" / "by_tile.csv", tmp_path / "m.makellos"
    run_makellos("fit", data, "-o", model)
    figures = json.loads(run_makellos("evaluate", model, data, "--json", "-").out)
    assert (figures["n_good"], figures["n_defective"]) == (193, 68)
    assert figures["image_auroc"] >= 0.91
