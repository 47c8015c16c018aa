"""The verb queue: five runs of which two are wrong, the plan, interrupts of real processes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

MAIN = (sys.executable, "-m", "makellos")
SMALL = "detector: padim, set: {image_size: 32, n_features: 9}"
TRAINED = "detector: vae, set: {image_size: 16, epochs: 1, batch_size: 4}"
FIVE = f"""\
output: night
defaults: {{false_alarms: 0.2, data: parts}}
runs:
  - {{name: one, {SMALL}}}
  - {{name: nowhere, data: nowhere, {SMALL}}}
  - {{name: two, {SMALL}, evaluate: false, seed: 1}}
  - {{name: out-of-range, detector: padim, set: {{n_features: -1}}}}
  - {{name: three, {SMALL}, evaluate: false, seed: 2}}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with gray parts of which some have a spot."""
    rng = np.random.default_rng(0)
    for kind, count in (("train/good", 12), ("test/good", 3), ("test/spot", 3)):
        folder = tmp_path / "parts" / kind
        folder.mkdir(parents=True)
        for i in range(count):
            picture = rng.normal(128, 6, (32, 32))
            if kind.endswith("spot"):
                picture[8:16, 8:16] += 60
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_five_runs_of_which_two_are_wrong(cli: Callable[..., Any], place: Path) -> None:
    Path("runs.yaml").write_text(FIVE)
    told = cli("queue", "runs.yaml")
    assert told.code == 2
    assert "runs.yaml has 2 mistakes. Correct the lines:\n  line 5: " in told.err
    assert "nowhere does not exist" in told.err
    assert "line 7: padim: n_features is '-1'; expected a whole number, at least 1" in told.err
    assert not Path("night").exists()

    told = cli("queue", "runs.yaml", "--keep-going", "--json", "queue.json")
    assert told.code == 1, told.everything
    runs = {run["name"]: run for run in json.loads(Path("queue.json").read_text())["runs"]}
    assert [run["state"] for run in runs.values()] == ["done", "failed", "done", "failed", "done"]
    assert "nowhere does not exist" in runs["nowhere"]["reason"]
    assert "n_features is '-1'" in runs["out-of-range"]["reason"]
    assert runs["one"]["figures"]["image_auroc"] is not None
    for name in ("one", "two", "three"):
        assert Path("night", name, f"{name}.makellos").is_file()
        assert runs[name]["fit"]["fit_seconds"] > 0
    assert Path("night/one/report.html").is_file()
    assert 'href="one/report.html"' in Path("night/queue.html").read_text(encoding="utf-8")
    rows = [line.split()[:3] for line in told.out.splitlines()]
    assert ["one", "padim", "done"] in rows
    assert ["nowhere", "padim", "failed"] in rows

    told = cli("queue", "runs.yaml", "--keep-going", "--json", "-")
    assert told.code == 1
    assert [run["state"] for run in json.loads(told.out)["runs"]] == [
        run["state"] for run in runs.values()
    ]
    assert "[1/5] one: already done" in told.err


def test_plan_is_shown_and_nothing_done(cli: Callable[..., Any], place: Path) -> None:
    Path("runs.yaml").write_text(FIVE)
    assert cli("queue", "runs.yaml", "--dry-run").code == 2
    told = cli("queue", "runs.yaml", "--dry-run", "--keep-going", "--json", "plan.json")
    assert told.code == 0
    assert "nothing; its entry has mistakes" in told.out
    assert "line 7: padim: n_features" in told.out
    plan = json.loads(Path("plan.json").read_text())
    assert [run["todo"] for run in plan["runs"]] == ["fit", "correct", "fit", "correct", "fit"]
    assert [run["evaluate"] for run in plan["runs"]] == [True, False, False, False, False]
    assert not Path("night").exists()


@pytest.mark.needs_torch
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT")
@pytest.mark.parametrize(
    ("number", "background"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)],
)
@pytest.mark.usefixtures("hears_interrupts")
def test_interrupt_stops_the_run_and_keeps_the_results(
    place: Path, number: int, background: bool
) -> None:
    """Stop a queue, also one that a shell without job control has put into the background."""
    if background:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    Path("runs.yaml").write_text(
        "output: night\nruns:\n  - {name: long, data: parts, detector: vae, false_alarms: 0.2,\n"
        "     set: {image_size: 16, epochs: 100000, batch_size: 4}}\n"
    )
    command = [*MAIN, "queue", "runs.yaml"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: "training" in read("night/long/log.txt"))
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "To continue: makellos queue runs.yaml" in out
    assert re.fullmatch(r"(still: .+\n)*\nInterrupted\.\n", err)
    (run,) = json.loads(read("night/results.json"))["runs"]
    assert (run["state"], run["resumable"]) == ("waiting", True)
    # The run was not killed: it cleaned up and said so.
    assert read("night/long/log.txt").endswith("\nInterrupted.\n")
    # The process of the run held this lock as long as it lived.
    from makellos.jobs.records import ResultsFolder

    told: list[str] = []
    with ResultsFolder(Path("night"), "queue", "another 'output'").alone(told.append):
        assert told == []


@pytest.mark.needs_torch
@pytest.mark.skipif(sys.platform == "win32", reason="Windows kills such processes otherwise")
def test_run_of_a_killed_queue_is_waited_for(place: Path) -> None:
    """Kill a queue alone; the next start waits for its run, and takes what it made."""
    Path("runs.yaml").write_text(
        f"output: night\nruns:\n  - {{name: one, data: parts, false_alarms: 0.2, {TRAINED}}}\n"
    )
    with subprocess.Popen([*MAIN, "queue", "runs.yaml"], stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: "$ makellos fit" in read("night/one/log.txt"))
        time.sleep(0.5)  # the process of the run is there
        process.kill()
    done = subprocess.run(
        [*MAIN, "queue", "runs.yaml"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "is still going; waiting for it." in done.stdout
    assert "one: evaluate; the model exists" in done.stdout
    assert read("night/one/log.txt").count("$ makellos fit") == 1


def read(path: str) -> str:
    """Return a file's text, nothing where there is none yet."""
    return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else ""


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
