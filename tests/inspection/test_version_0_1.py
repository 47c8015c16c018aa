"""Model files of version 0.1 open and give the verdicts that they gave."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from makellos import Inspector
from makellos.inspection.engines import EngineChoice

FOLDER = Path(__file__).with_name("version_0_1")
EXPECTED: dict[str, list[dict[str, Any]]] = json.loads((FOLDER / "expected.json").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_old_model_gives_the_same_rows(name: str) -> None:
    if name == "features" and importlib.util.find_spec("pyod") is None:
        pytest.skip("this model's runtime is PyOD, which is not installed")
    # The rows were written in f32; bf16 rounds differently from processor to processor.
    engine = None if name == "features" else EngineChoice("openvino", "f32")
    inspector = Inspector(FOLDER / f"{name}.makellos", engine=engine)
    for expected in EXPECTED[name]:
        row = inspector.inspect(FOLDER / "inputs" / expected["input"], name=expected["input"]).row()
        assert_close({key: row[key] for key in expected}, expected)


def assert_close(found: Any, expected: Any) -> None:
    """Assert that plain data is equal, numbers to a thousandth."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_close(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert_close(ours, theirs)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)
    else:
        assert found == expected
