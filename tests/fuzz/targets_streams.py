"""What is kept from run to run, and may be damaged: ledgers, rows, states of monitors."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial

import numpy as np
from target import Target, written
from targets_models import small_members
from targets_texts import JSON_WORDS

from makellos.errors import InputError
from makellos.inspection import read_model
from makellos.inspection.drift import DriftMonitor
from makellos.inspection.good_state import GoodState
from makellos.inspection.model_file import ModelFile
from makellos.inspection.statistics import Statistics, statistics_of
from makellos.models.provenance import Contents
from makellos.models.writing import write_model
from makellos.workflows.drift import read_rows
from makellos.workflows.ledger import enter, history

from small_models import manifest  # isort: skip -- found by targets_models

TESTED = Contents("a" * 64, ("0" * 12, "1" * 12))
WHEN = datetime(2026, 1, 31, tzinfo=UTC)
N_GOOD = 24


@cache
def seen() -> list[Statistics]:
    """Return the statistics of some good parts."""
    rng = np.random.default_rng(0)
    return [
        statistics_of(rng.normal(120, 9, (64, 64)).clip(0, 255).astype(np.uint8))
        for _ in range(N_GOOD)
    ]


@cache
def model(*, knows_good: bool) -> ModelFile:
    path = written(b"", f"watched-{knows_good}.makellos")
    state = GoodState.learned(seen()) if knows_good else None
    write_model(path, manifest().model_copy(update={"good_state": state}), small_members())
    return read_model(path)


def ledger(data: bytes) -> None:
    path = written(data, "test-sets.jsonl")
    found = model(knows_good=False).manifest
    history(path, TESTED, found)
    enter(path, TESTED, found, file="m.makellos", at=WHEN)
    history(path, TESTED, found)


def ledgers() -> list[bytes]:
    path = written(b"", "first.jsonl")
    found = model(knows_good=False).manifest
    for verb in ("accept", "evaluate"):
        enter(path, TESTED, found, file="m.makellos", at=WHEN, verb=verb)
    return [b"", path.read_bytes()]


def rows(data: bytes, suffix: str) -> None:
    monitor = DriftMonitor(model(knows_good=True))
    for row in read_rows(written(data, f"rows{suffix}")):
        monitor.update(row)
    monitor.finish()


def rows_jsonl() -> list[bytes]:
    lines = [
        {"input": f"{i}.png", "p_value": None if i == 2 else 0.5, "statistics": each.row()}
        for i, each in enumerate(seen()[:4])
    ]
    alone = {"input": "a.png", "p_value": 0.25}
    return ["\n".join(map(json.dumps, each)).encode() for each in (lines, [alone, alone])]


def rows_csv() -> list[bytes]:
    of_first = json.dumps(seen()[0].row()).replace('"', '""')
    return [
        b"input,verdict,p_value\na.png,ok,0.5\nb.png,unreadable,\n",
        f'input,p_value,statistics\na.png,0.5,"{of_first}"\nb.png,,\n'.encode(),
    ]


def monitor_state(data: bytes, *, knows_good: bool) -> None:
    try:
        state = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError("no JSON") from None
    monitor = DriftMonitor.from_state(model(knows_good=knows_good), state)
    monitor.update({"input": "a", "p_value": 0.01, "statistics": seen()[0].row()})
    monitor.finish()
    json.dumps(monitor.state())


def states(*, knows_good: bool) -> list[bytes]:
    found = []
    for n in (0, 5):
        monitor = DriftMonitor(model(knows_good=knows_good))
        for each in seen()[:n]:
            monitor.update({"input": "a", "p_value": 0.005, "statistics": each.row()})
        found.append(json.dumps(monitor.state()).encode())
    return found


def _states(*, knows_good: bool) -> tuple[Callable[[bytes], None], Callable[[], list[bytes]]]:
    return partial(monitor_state, knows_good=knows_good), partial(states, knows_good=knows_good)


STATE_WORDS = (*JSON_WORDS, b"-1", b"1e300", b'"learning": [["a", 0.5, null]]', b'"good": {}')

TARGETS = [
    Target("ledger", ledger, ledgers, (*JSON_WORDS, b'"at":"0001-01-01"', b"9" * 20, b"\x85")),
    Target("drift-jsonl", partial(rows, suffix=".jsonl"), rows_jsonl, JSON_WORDS),
    Target("drift-csv", partial(rows, suffix=".csv"), rows_csv, (*JSON_WORDS, b'"', b"\0", b"nan")),
    Target("monitor", *_states(knows_good=True), STATE_WORDS, max_bytes=1 << 20),
    Target("monitor-scores", *_states(knows_good=False), STATE_WORDS),
]
