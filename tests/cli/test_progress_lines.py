"""What long work says where its output is no terminal: lines that are few, and never data."""

from __future__ import annotations

import io
import json
import queue
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from makellos.cli import console
from makellos.cli.console import Lines, bars, telling


class Clock:
    """Be a clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of all lines, which no thread looks at by itself."""
    monkeypatch.setattr(Lines, "_watch", lambda self: None)
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> Iterator[Lines]:
    shown = Lines(clock)
    yield shown
    shown.close()


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """Return what gives the new lines on standard error; nothing may stand on standard output."""

    def new() -> list[str]:
        out, err = capsys.readouterr()
        assert out == ""
        return err.splitlines()

    return new


def hear(monkeypatch: pytest.MonkeyPatch) -> queue.SimpleQueue[str]:
    """Return what any thread will write to standard error, of which `capsys` loses some.

    Tests call it: pytest puts back the streams between a fixture and its test.
    """
    found: queue.SimpleQueue[str] = queue.SimpleQueue()

    class Heard(io.StringIO):
        def write(self, text: str) -> int:
            found.put(text)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Heard())
    return found


def test_short_work_says_nothing(lines: Lines, clock: Clock, told: Callable[[], Any]) -> None:
    for i in range(10):
        clock.now = i / 10
        lines("reading", i, 10)
        lines.remind()
    lines.close()
    assert told() == []


def test_each_step_has_a_line_and_then_one_every_half_minute(
    lines: Lines, clock: Clock, told: Callable[[], Any]
) -> None:
    for second in range(75):
        clock.now = second + 0.5
        lines("reading" if second < 5 else "embedding", second, 75)
    assert told() == [
        "reading: 1/75 (0:00:01)",
        "embedding: 5/75 (0:00:05)",
        "embedding: 35/75 (0:00:35, 0:00:40 left)",
        "embedding: 65/75 (0:01:05, 0:00:10 left)",
    ]
    lines("reading", 1, 2)  # by turns, steps would fill a log
    assert told() == []


def test_what_reports_nothing_is_reminded_of(
    lines: Lines, clock: Clock, told: Callable[[], Any]
) -> None:
    clock.now = 29.0
    lines.remind()
    assert told() == []
    clock.now = 30.0
    lines.remind()
    assert told() == ["still: at work (0:00:30)"]
    clock.now = 31.0
    lines("growing", 3, 4)
    clock.now = 60.9
    lines.remind()
    assert told() == ["growing: 3/4 (0:00:31)"]
    clock.now = 3661.0
    lines.remind()
    assert told() == ["still: growing: 3/4 (1:01:01)"]


def test_step_that_began_at_once_is_told_of_when_work_turns_out_long(
    lines: Lines, clock: Clock, told: Callable[[], Any]
) -> None:
    lines("fitting", 0, 1)
    clock.now = 1.0
    lines.remind()
    lines.remind()
    assert told() == ["fitting (0:00:01)"]


def test_figures_and_totals_that_nobody_knows(
    lines: Lines, clock: Clock, told: Callable[[], Any]
) -> None:
    clock.now = 2.0
    lines("training · loss 0.5 · 3 s left", 3, 9)
    lines("training · loss 0.4", 4, 9)  # the same step
    lines("download set.zip", 4096, None)
    assert told() == [
        "training: 3/9 · loss 0.5 · 3 s left (0:00:02)",
        "download set.zip: 4096 (0:00:02)",
    ]


def test_training_is_told_of_every_ten_seconds_and_when_it_is_done(
    lines: Lines, clock: Clock, told: Callable[[], Any]
) -> None:
    for second in range(2, 25):
        clock.now = float(second)
        lines(f"training · epoch {second} · KL 0.1", second, 24)
    assert told() == [
        "training: 2/24 · epoch 2 · KL 0.1 (0:00:02)",
        "training: 12/24 · epoch 12 · KL 0.1 (0:00:12, 0:00:12 left)",
        "training: 22/24 · epoch 22 · KL 0.1 (0:00:22, 0:00:02 left)",
        "training: 24/24 · epoch 24 · KL 0.1 (0:00:24)",
    ]


def test_time_left_of_a_resumed_step_counts_what_is_done_now(
    lines: Lines, clock: Clock, told: Callable[[], Any]
) -> None:
    clock.now = 2.0
    lines("training · loss 1", 900, 1000)
    clock.now = 12.0
    lines("training · loss 1", 910, 1000)
    assert told()[-1].endswith("(0:00:12, 0:01:30 left)")


def test_a_thread_reminds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_PATIENCE", 0.01)
    heard, clock = hear(monkeypatch), Clock()
    shown = Lines(clock)
    clock.now = 40.0
    assert heard.get(timeout=30) == "still: at work (0:00:40)\n"
    shown.close()
    clock.now = 80.0
    assert not shown._thread.is_alive()
    assert heard.empty()


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("closed file")])
def test_log_that_is_gone_does_not_end_the_work(
    lines: Lines, clock: Clock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise error

    monkeypatch.setattr(sys, "stderr", Gone())
    clock.now = 2.0
    lines("reading", 1, 2)


def test_other_processes_of_a_training_say_nothing(
    monkeypatch: pytest.MonkeyPatch, told: Callable[[], Any]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(console, "_PATIENCE", 0.0)
    with bars() as progress:
        progress("reading", 1, 2)
    assert told() == []


@pytest.mark.parametrize("quietly", [False, True])
def test_told_steps_are_reminded_of(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    quietly: bool,
) -> None:
    monkeypatch.setattr(console, "_PATIENCE", 0.01)
    heard, clock = hear(monkeypatch), Clock()
    step = "  No checkpoint.\n  The fit starts over.\n"
    with telling(quietly=quietly, clock=clock) as tell:
        clock.now = 20.0
        tell(step.rstrip())
        clock.now = 49.0
        assert (heard.get(timeout=30) if quietly else capsys.readouterr().out) == step
        assert heard.empty()
        clock.now = 50.0
        assert heard.get(timeout=30) == "still: The fit starts over. (0:00:50)\n"
    assert heard.empty()
    assert capsys.readouterr().out == ""


def test_lines_stay_out_of_json(
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    toy: Any,
    toy_parts: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(console, "_PATIENCE", 0.0)
    toy.install(monkeypatch)
    model = tmp_path / "m.makellos"
    fitted = cli("fit", toy_parts, "-o", model, "--json", "-")
    assert json.loads(fitted.out)["n_calibration"] == 30
    assert re.search(r"^reading: 1/30 \(0:00:\d\d\)$", fitted.err, re.M)
    rows = cli("inspect", model, toy_parts / "test", "--jsonl", "-")
    assert len([json.loads(line) for line in rows.out.splitlines()]) == 20
    assert re.search(r"^inspecting: 1/20 \(0:00:\d\d\)$", rows.err, re.M)
