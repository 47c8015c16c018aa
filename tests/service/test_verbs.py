"""Verbs as processes beside a station: heard, stopped, ended in time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import makellos
from makellos.service.processes import Processes
from makellos.service.recalibrating import recalibrated
from makellos.service.station import Station
from makellos.service.verbs import Ended, StoppedError, VerbRunner

SLOW = "import time; print('begun', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLOW}"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what lets another program stand for makellos."""

    def stand(source: str) -> None:
        folder = tmp_path / "instead" / "makellos"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "__main__.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(folder.parent))
        monkeypatch.chdir(folder.parent)

    return stand


def wait_for(event: threading.Event) -> None:
    assert event.wait(20)


def test_a_verb_is_heard_and_says_how_it_ended(program: Callable[[str], None]) -> None:
    program("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    heard: list[str] = []
    assert VerbRunner(heard.append).run(["x"]) == Ended(3, ("err",))
    both = VerbRunner(output=True).run(["x"])
    assert (both.code, sorted(both.said)) == (3, ["err", "out"])
    assert heard == ["err"]


@pytest.mark.skipif(sys.platform == "win32", reason="priorities of Unix")
def test_a_verb_has_low_priority(program: Callable[[str], None]) -> None:
    program("import os, time; time.sleep(0.3); print(os.getpriority(os.PRIO_PROCESS, 0))")
    assert int(VerbRunner(output=True).run(["x"]).said[0]) > os.getpriority(os.PRIO_PROCESS, 0)


BEATING = """
import pathlib, time
for n in range(600):
    pathlib.Path("beat").write_text(str(n))
    time.sleep(0.1)
"""
DEAF = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN){BEATING}"


@pytest.mark.parametrize("source", [BEATING, DEAF], ids=["kind", "deaf"])
def test_a_verb_ends_when_its_station_is_killed(
    program: Callable[[str], None], source: str
) -> None:
    root = str(Path(makellos.__file__).parents[1])
    program(source)
    station = (
        f"import sys; sys.path.insert(0, {root!r})\nfrom makellos.service import verbs\n"
        "verbs._PATIENCE = 0.5\nverbs.VerbRunner().run(['x'])"
    )
    parent = subprocess.Popen([sys.executable, "-c", station])
    beat = Path("beat")
    until = time.monotonic() + 30
    while not beat.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    last = ""
    while (now := beat.read_text()) != last or not now:
        assert time.monotonic() < until
        last = now
        time.sleep(1)


@pytest.mark.parametrize("source", [SLOW, STUBBORN], ids=["kind", "stubborn"])
def test_a_stop_ends_what_runs_and_lets_nothing_begin(
    program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setattr("makellos.service.verbs._PATIENCE", 0.2)
    program(source)
    runner: VerbRunner
    begun = time.monotonic()
    runner = VerbRunner(lambda _: runner.stop(), output=True)
    with pytest.raises(StoppedError):
        runner.run(["x"])
    with pytest.raises(StoppedError):
        runner.run(["x"])
    assert time.monotonic() - begun < 20


def test_a_verb_that_takes_too_long_is_ended(program: Callable[[str], None]) -> None:
    program(SLOW)
    with pytest.raises(TimeoutError, match="makellos x took longer"):
        VerbRunner(seconds=0.5).run(["x"])


def test_a_stop_between_two_verbs_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, ran, then = Processes(), list[str](), list[str]()

    def run(self: VerbRunner, arguments: Sequence[str]) -> Ended:
        self.check()
        ran.append(arguments[0])
        runs.stop()  # as a person may: no process is there now
        return Ended(0, ())

    monkeypatch.setattr(VerbRunner, "run", run)
    for verbs in ([["one"], ["two"]], [["last"]]):
        process = runs.start("fit", verbs, person="Ada", then=lambda: then.append("then"))
        until = time.monotonic() + 20
        while process.status == "running":
            assert time.monotonic() < until
            time.sleep(0.01)
        assert (process.status, process.error) == ("failed", "It was stopped before it was done.")
    assert (ran, then) == (["one", "last"], [])


def test_a_recipe_is_calibrated_once_at_a_time_and_not_beyond_the_station(
    station: Station, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, stopped, said = threading.Event(), threading.Event(), list[str]()

    def run(self: VerbRunner, arguments: Sequence[str]) -> Ended:
        assert arguments[0] == "calibrate"
        begun.set()
        wait_for(stopped)
        self.check()
        return Ended(0, ())

    monkeypatch.setattr(VerbRunner, "run", run)

    def first() -> None:
        try:
            recalibrated(station, "toy", 0.2, person="Ada")
        except Exception as error:  # noqa: BLE001 -- what it says is looked at below
            said.append(str(error))

    thread = threading.Thread(target=first)
    thread.start()
    wait_for(begun)
    answer = client.post("/api/recipes/toy/budget", json={"false_alarms": 0.3})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "busy")
    assert "being calibrated already" in answer.json()["error"]["message"]
    station.stop()
    stopped.set()
    thread.join(20)
    assert said == ["The station was stopped before the calibration was done."]
    answer = client.post("/api/recipes/toy/budget", json={"false_alarms": 0.3})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


def test_a_budget_changes_beside_the_page_and_says_how_far_it_is(
    station: Station, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, finish = threading.Event(), threading.Event()

    def run(self: VerbRunner, arguments: Sequence[str]) -> Ended:
        self._hear("checking golden parts: 1/4")
        begun.set()
        wait_for(finish)
        return Ended(2, ("Error: There is nothing to calibrate with.",))

    monkeypatch.setattr(VerbRunner, "run", run)
    client.headers["Accept-Language"] = "en"
    answer = client.post("/models/toy/budget", data={"false_alarms": "0.3"})
    assert answer.headers["Location"] == "/models/toy"
    wait_for(begun)
    for path in ("/models/toy", "/models/toy/budget/progress"):
        page = client.get(path).text
        assert "Calibrating for a budget of 30" in page and "checking golden parts: 1/4" in page
        assert 'value="0.25"' in page
    assert client.post("/models/toy/budget", data={"false_alarms": "0.3"}).status_code == 422
    finish.set()
    until = time.monotonic() + 20
    while client.get("/models/toy/budget/progress").status_code == 200:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert client.get("/models/toy/budget/progress").headers["HX-Refresh"] == "true"
    page = client.get("/models/toy").text
    assert "The budget was not changed." in page
    assert "There is nothing to calibrate with." in page
    assert client.get("/models/none/budget/progress").status_code == 404
