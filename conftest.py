"""Which tests run where: all in an environment with everything, the rest in one without PyTorch."""

from __future__ import annotations

import atexit
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

# Threads of small networks wait for each other, for long where a machine does other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Compiled graphs are kept as they are for users, but not among those of this user; the processes
# that pytest starts use the same folder.
if "MAKELLOS_CACHE" not in os.environ:
    os.environ["MAKELLOS_CACHE"] = tempfile.mkdtemp(prefix="makellos-cache-")
    atexit.register(shutil.rmtree, os.environ["MAKELLOS_CACHE"], ignore_errors=True)

# Alembic loads these by itself, when it has set the scene.
collect_ignore_glob = ["src/makellos/store/migrations/*"]

# A file that imports one of these at its top needs PyTorch as a whole; single tests are marked.
IMPORTS_TORCH = re.compile(
    r"^(?:from|import) (?:torch|torchvision|timm|lightning_fabric|onnxscript|tensorboard"
    r"|pytorch_\w+|small_tasks|killing|makellos\.detectors\.networks"
    r"|makellos\.training\.(?!settings|temperature)\w+)\b",
    re.MULTILINE,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-torch", action="store_true", help="leave out the tests that need PyTorch"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to begin where PyTorch is missing and nobody said so: no test is left out unseen."""
    if not config.getoption("without_torch") and importlib.util.find_spec("torch") is None:
        raise pytest.UsageError(
            "PyTorch is not installed. Add --without-torch to leave out the tests that need it."
        )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files that import PyTorch, where that was asked for."""
    if not config.getoption("without_torch") or collection_path.suffix != ".py":
        return None
    return bool(IMPORTS_TORCH.search(collection_path.read_text(encoding="utf-8"))) or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests on real data, saying so, where nobody named the data; leave PyTorch's out."""
    if not os.environ.get("MAKELLOS_DATA"):
        for item in items:
            if item.get_closest_marker("real"):
                reason = "MAKELLOS_DATA names no folder of real data"
                item.add_marker(pytest.mark.skip(reason=reason))
    if config.getoption("without_torch"):
        left_out = [item for item in items if item.get_closest_marker("needs_torch")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("needs_torch")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that skips itself for want of a package: all but PyTorch is installed."""
    report = yield
    if report.skipped and "could not import" in str(report.longrepr):
        report.outcome = "failed"
    return report
