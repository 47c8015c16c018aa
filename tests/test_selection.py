"""Which tests run where: none is left out unseen."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
WITHOUT = """
import sys, pytest
sys.modules["torch"] = None
sys.exit(pytest.main(sys.argv[1:]))
"""
MARKED = """
import pytest

def test_for_all():
    pass

@pytest.mark.needs_torch
def test_marked():
    raise AssertionError
"""


def run(folder: Path, files: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tests in `folder` by the project's rules, where PyTorch cannot be imported."""
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(PROJECT / name, folder)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", WITHOUT, "-p", "no:cacheprovider", "-rs", ".", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_without_pytorch_nothing_begins_unless_that_is_said(tmp_path: Path) -> None:
    done = run(tmp_path, {"test_a.py": MARKED})
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "Add --without-torch" in done.stderr


def test_what_needs_pytorch_is_left_out_where_that_is_said(tmp_path: Path) -> None:
    files = {
        "test_a.py": MARKED,
        "test_b.py": "import torch\n\ndef test_whole_file():\n    raise AssertionError\n",
        "test_c.py": "import numpy\nfrom makellos.training import Training\n",
    }
    done = run(tmp_path, files, "--without-torch")
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 deselected" in done.stdout


def test_a_package_that_is_missing_skips_nothing(tmp_path: Path) -> None:
    text = "import pytest\n\ndef test_a():\n    pytest.importorskip('not_installed_anywhere')\n"
    done = run(tmp_path, {"test_a.py": text}, "--without-torch")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 failed" in done.stdout


def test_real_data_that_nobody_named_are_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import pytest\n\n@pytest.mark.real\ndef test_a():\n    raise AssertionError\n"
    monkeypatch.delenv("MAKELLOS_DATA", raising=False)
    done = run(tmp_path, {"test_a.py": text}, "--without-torch")
    assert done.returncode == 0
    assert "MAKELLOS_DATA names no folder of real data" in done.stdout


LEFT_OUT = """
import importlib.util, pathlib, sys
sys.path[:0] = {folders}
sys.modules.update(dict.fromkeys(["torch", "timm"]))
for path in {files}:
    spec = importlib.util.spec_from_file_location("left_out", path)
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except ImportError:
        continue
    print(path)
"""


def test_files_left_out_are_those_that_pytorch_is_needed_to_import() -> None:
    spec = importlib.util.spec_from_file_location("selection", PROJECT / "conftest.py")
    assert spec is not None and spec.loader is not None
    selection = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(selection)
    tests = PROJECT / "tests"
    files = [
        str(path)
        for path in sorted(tests.rglob("test_*.py"))
        if selection.IMPORTS_TORCH.search(path.read_text(encoding="utf-8"))
    ]
    assert len(files) > 10
    folders = [str(tests / name) for name in ("data", "detectors", "inspection", "training")]
    command = LEFT_OUT.format(folders=folders, files=files)
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
