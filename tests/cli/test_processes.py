"""The command line as a process: interrupts, closed pipes, python -m, and no torch."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import makellos
from makellos.cli import main

MAIN = (sys.executable, "-m", "makellos")
not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT")
endings = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
# On a slow machine some lines say how far the work is.
FAR = r"(.+ \(\d+:\d\d:\d\d\)\n)*"
INTERRUPTED = FAR + r"\nInterrupted\.\n"


def test_module_runs_the_command_line() -> None:
    done = subprocess.run([*MAIN, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"makellos {makellos.__version__}\n"
    done = subprocess.run([*MAIN, "info", "nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nowhere does not exist" in done.stderr
    assert "Traceback" not in done.stderr


@not_on_windows
@endings
@pytest.mark.usefixtures("hears_interrupts")
def test_interrupt_keeps_the_rows_so_far(
    toy_model: Path, toy_parts: Path, tmp_path: Path, number: int
) -> None:
    # Far more rows than a machine works off before it is told to stop.
    many = [str(toy_parts / "train")] * 2000
    rows, table = tmp_path / "rows.jsonl", tmp_path / "rows.csv"
    table.write_text("input,verdict,score,p_value,threshold,regions,milliseconds,error\nold\n")
    command = [*MAIN, "inspect", str(toy_model), *many, "--jsonl", str(rows), "--csv", str(table)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for_rows(tmp_path, ".rows.jsonl.*.partial")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert re.fullmatch(INTERRUPTED, err)
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    assert 1 <= len(lines) < 60_000
    assert abs(len(table.read_text().splitlines()) - 1 - len(lines)) <= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "rows.jsonl"]


@not_on_windows
@endings
@pytest.mark.usefixtures("hears_interrupts")
def test_interrupted_fit_leaves_nothing(screws: Path, tmp_path: Path, number: int) -> None:
    command = [*MAIN, "fit", str(screws), "-o", str(tmp_path / "m.makellos")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(1)  # within the imports or the work on the backbone
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    # Python itself exits by the signal where it struck within generated code; a shell says 130.
    assert process.returncode in (130, -signal.SIGINT)
    assert re.fullmatch(INTERRUPTED, err)
    assert list(tmp_path.iterdir()) == []


@not_on_windows
@endings
@pytest.mark.usefixtures("hears_interrupts")
def test_an_interrupt_that_became_another_error_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def run(_: list[str]) -> int:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt as interrupt:
            raise ImportError("initialization failed") from interrupt
        return 0

    monkeypatch.setattr("makellos.cli.app.run", run)
    assert main(["devices"]) == 130
    assert capsys.readouterr().err == "\nInterrupted.\n"


@not_on_windows
def test_reader_of_a_pipe_may_leave(toy_model: Path, toy_parts: Path) -> None:
    many = [str(toy_parts / "train")] * 100
    command = [*MAIN, "inspect", str(toy_model), *many]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert b"score" in process.stdout.readline()
        process.stdout.close()
        assert re.fullmatch(FAR, process.stderr.read().decode())
        assert process.wait(timeout=60) == 0


INSPECTS = """
import sys
from makellos.cli import main
code = main(sys.argv[1:])
heavy = sorted({"torch", "torchvision", "timm", "onnxscript", "sklearn"} & set(sys.modules))
print(code, *heavy)
"""


def test_inspecting_needs_no_torch(screw_model: Path, screws: Path, tmp_path: Path) -> None:
    arguments = ["inspect", str(screw_model), str(screws / "test"), "-o", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", INSPECTS, *arguments, "--overlays"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0"


# An inspection starts every time a cell of a plant asks, so it loads what it needs and no more.
MODULES = """
import sys
from makellos.cli import main
code = main(sys.argv[1:])
print(code, *sys.modules)
"""
ROOMS_OF_AN_INSPECTION = {
    *("calibration", "cli", "data", "errors", "inspection", "storage", "subjects", "workflows"),
    *("jobs", "training"),  # of which it takes how processes end, and which of several it is
}
NOT_FOR_PICTURES = {
    *("jinja2", "matplotlib", "pandas", "PIL", "pyarrow", "rich", "safetensors", "scipy"),
    *("sklearn", "sqlalchemy", "torch"),
}
FILES_OF_OTHERS = {"jobs.processes", "training.settings"}
FOR_OTHER_WORK = {  # in rooms that it does need
    *("cli.summaries", "data.checks", "data.copies", "data.splits", "inspection.drift"),
    *("inspection.recordings", "subjects.learned_pictures", "subjects.vibration"),
    *("workflows.labelled_rows", "workflows.trend"),
}


def modules_after(*arguments: str) -> set[str]:
    """Return the names of all modules that a process of the command line has loaded."""
    command = [sys.executable, "-c", MODULES, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    code, *names = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stderr
    return set(names)


def test_inspecting_a_picture_loads_what_it_needs_and_no_more(
    screw_model: Path, screws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAKELLOS_CACHE", str(tmp_path))
    picture = next((screws / "test" / "good").iterdir())
    modules_after("inspect", str(screw_model), str(picture))
    # From here on what OpenVINO compiled is there, and the graph itself need not be read.
    loaded = modules_after("inspect", str(screw_model), str(picture))
    own = {name.removeprefix("makellos.") for name in loaded if name.startswith("makellos.")}
    assert {name.partition(".")[0] for name in own} <= ROOMS_OF_AN_INSPECTION
    foreign = {name for name in own if name.startswith(("jobs.", "training."))}
    assert foreign <= FILES_OF_OTHERS
    assert sorted(own & FOR_OTHER_WORK) == []
    packages = {name.partition(".")[0] for name in loaded}
    assert sorted(packages & NOT_FOR_PICTURES) == []
    if "openvino" in packages:
        assert "openvino.tools.ovc" not in loaded
        assert sorted(packages & {"google", "ml_dtypes", "onnx"}) == []


def wait_for_rows(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        # A row that is still being written when the signal comes may be left out.
        if any(path.read_bytes().count(b"\n") > 2 for path in folder.glob(pattern)):
            return
        time.sleep(0.005)
    pytest.fail(f"no rows in {folder} within a minute")
