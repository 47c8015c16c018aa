"""The level detector, which commutes with shifts, for tests of tiles and zones."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def level() -> ModuleType:
    """Return the module with the level detector and its pictures."""
    spec = importlib.util.spec_from_file_location(
        "level_detector", Path(__file__).with_name("level_detector.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def level_detector(level: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the level detector's class, which every fit of the test uses."""
    return level.install(monkeypatch)
