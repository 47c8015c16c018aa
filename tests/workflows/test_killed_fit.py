"""A fit that is killed leaves the model that was there, or a whole new one, never a part of one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from makellos.inspection.model_file import read_model

# Fits a toy detector and stops for good at a moment of the writing, having said so.
STOPS = """
import importlib.util, os, sys, time, zipfile
from pathlib import Path
import pytest
moment, data, model = sys.argv[1:4]
spec = importlib.util.spec_from_file_location("toy_detector", sys.argv[4])
toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)

def stop():
    print("now", flush=True)
    time.sleep(600)

def stopping(real, when):
    count = 0
    def call(*arguments, **options):
        nonlocal count
        count += 1
        if moment == f"before {when} {count}":
            stop()
        result = real(*arguments, **options)
        if moment == f"after {when} {count}":
            stop()
        return result
    return call

zipfile.ZipFile.writestr = stopping(zipfile.ZipFile.writestr, "member")
os.fsync = stopping(os.fsync, "sync")
Path.replace = stopping(Path.replace, "rename")
with pytest.MonkeyPatch.context() as patch:
    toy.install(patch)
    from makellos import fit
    fit(Path(data), Path(model), seed=1)
"""


def is_whole(path: Path) -> bool:
    with read_model(path).unpacked():
        return True


@pytest.fixture
def start_writing(toy_parts: Path) -> Callable[[str, Path], None]:
    def start(moment: str, model: Path) -> None:
        toy = Path(__file__).parents[1] / "toy_detector.py"
        process = subprocess.Popen(
            [sys.executable, "-c", STOPS, moment, str(toy_parts), str(model), str(toy)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        with process, process.stdout:
            try:
                assert process.stdout.readline() == "now\n"
            finally:
                process.kill()

    return start


@pytest.mark.parametrize(
    ("moment", "is_new"),
    [
        ("after member 1", False),
        ("before member 3", False),
        ("before sync 1", False),
        ("before rename 1", False),
        ("after rename 1", True),
    ],
)
def test_kill_while_the_model_is_written(
    start_writing: Callable[[str, Path], None],
    toy_model: Path,
    tmp_path: Path,
    moment: str,
    is_new: bool,
) -> None:
    model = tmp_path / "m.makellos"
    old = toy_model.read_bytes()
    model.write_bytes(old)
    start_writing(moment, model)
    assert is_whole(model)
    assert (model.read_bytes() != old) == is_new


def test_kill_while_the_first_model_is_written(
    start_writing: Callable[[str, Path], None], toy_parts: Path, tmp_path: Path
) -> None:
    model = tmp_path / "m.makellos"
    start_writing("before rename 1", model)
    assert not model.exists()


@pytest.mark.parametrize("seconds", [0.4, 1.6, 3.2])
def test_kill_while_a_detector_learns(
    screws: Path, toy_model: Path, tmp_path: Path, seconds: float
) -> None:
    model = tmp_path / "m.makellos"
    old = toy_model.read_bytes()
    model.write_bytes(old)
    command = [sys.executable, "-m", "makellos", "fit", str(screws), "-o", str(model)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(seconds)
        process.kill()
    assert is_whole(model)
    assert model.read_bytes() == old or process.returncode == 0
