"""A small model file for the tests of the inspection runtime, made without torch."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_models import write_small_model


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a valid small model file; tests that change it make a copy."""
    return write_small_model(tmp_path_factory.mktemp("model") / "cells.makellos")
