"""What every test needs: the switch for tests on real data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# These run in an environment of their own: `make test-base`.
collect_ignore = ["base_install"]

# A busy machine is slow at times; a test that is right must not fail for it.
settings.register_profile("makellos", settings(), deadline=None)
settings.load_profile("makellos")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests on real data, saying so, where nobody named the data."""
    if os.environ.get("MAKELLOS_DATA"):
        return
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.skip(reason="MAKELLOS_DATA names no folder of real data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data that MAKELLOS_DATA names."""
    folder = Path(os.environ["MAKELLOS_DATA"])
    assert folder.is_dir(), f"MAKELLOS_DATA names {folder}, which is no folder"
    return folder
