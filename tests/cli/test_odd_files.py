"""Files that are none, lie nowhere or break readers end in a message, never as a bug."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such paths")

PLACES = ("pipe", "folder", "device", "too long", "below a file", "loop", "loop below", "missing")


def place(kind: str, folder: Path) -> Path:
    """Return a path that is no file."""
    match kind:
        case "pipe":
            os.mkfifo(folder / "pipe")
        case "folder":
            (folder / "folder").mkdir()
        case "device":
            return Path("/dev/zero")
        case "too long":
            return folder / ("x" * 300)
        case "below a file":
            (folder / "file").write_bytes(b"x")
            return folder / "file" / "below"
        case "loop" | "loop below":
            (folder / "loop").symlink_to(folder / "loop")
            return folder / "loop" / ("below" if kind.endswith("below") else "")
    return folder / kind


def verbs(given: Path, model: Path, parts: Path, out: Path) -> dict[str, list[object]]:
    new = out / "new.makellos"
    return {
        "zones": ["fit", parts, "-o", new, "--zones", given],
        "config": ["fit", parts, "-o", new, "--config", given],
        "rules": ["inspect", model, parts / "test", "--rules", given],
        "inspected model": ["inspect", given, parts / "test"],
        "info": ["info", given],
        "evaluated model": ["evaluate", given, parts],
        "calibrated model": ["calibrate", given, "--false-alarms", "0.1", "-o", new],
        "queue": ["queue", given],
        "data": ["fit", given, "-o", new],
        "checked data": ["data", "check", given],
    }


@pytest.mark.parametrize("kind", PLACES)
def test_a_path_that_is_no_file_is_told(
    kind: str, toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Cli
) -> None:
    given = place(kind, tmp_path)
    for name, command in verbs(given, toy_model, toy_parts, tmp_path / "out").items():
        started = time.perf_counter()
        told = cli(*command)
        assert time.perf_counter() - started < 10, name
        assert told.code == 2, name
        assert told.err.startswith("Error: "), name
        assert len(told.err) < 2000, name


@pytest.mark.parametrize("kind", [k for k in PLACES if k not in {"folder"}])
def test_an_input_that_is_no_file_is_a_row(
    kind: str, toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Cli
) -> None:
    whole = next((toy_parts / "test" / "good").iterdir())
    rows = tmp_path / "rows.jsonl"
    told = cli("inspect", toy_model, place(kind, tmp_path), whole, "--jsonl", rows)
    assert told.code == 1
    first, second = rows.read_text(encoding="utf-8").splitlines()
    assert '"unreadable"' in first
    assert '"unreadable"' not in second


BROKEN = {
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "a deep value": b'{"zones": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "nothing": b"",
    "zero bytes": b"\0" * 100,
    "no UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "half a character": b'{"a": "\\ud800"}',
    "half a character as a key": b'{"\\udfff": 1}',
    "no number": b'{"mm_per_pixel": NaN}',
    "endless": b'{"mm_per_pixel": 1e999}',
    "a number of 5000 digits": b'{"mm_per_pixel": ' + b"9" * 5000 + b"}",
    "a number of 4000 digits": b'{"size": [' + b"9" * 4000 + b', 1], "rules": []}',
    "twice": b'{"rules": [], "rules": []}',
    "no object": b"7",
    "a list": b"[1, 2]",
    "a long list": b'{"rules": [' + b"1," * 500_000 + b"1]}",
    "a long text": b'{"' + b"x" * 1_000_000 + b'": 1}',
    "much": b'{"a": "' + b" " * (33 << 20) + b'"}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_json_that_breaks_readers_is_told(
    name: str, toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Cli
) -> None:
    given = tmp_path / "given.json"
    given.write_bytes(BROKEN[name])
    commands = verbs(given, toy_model, toy_parts, tmp_path / "out")
    for option in ("zones", "config", "rules"):
        told = cli(*commands[option])
        assert told.code == 2, option
        assert "given.json" in told.err or "no parameter" in told.err, option
        assert len(told.err) < 4000, option


def test_json_may_begin_with_a_byte_order_mark(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Cli
) -> None:
    rules = tmp_path / "rules.json"
    rules.write_bytes(b'\xef\xbb\xbf{"rules": [{"more_than": 1000}]}')
    part = next((toy_parts / "test" / "good").iterdir())
    assert cli("inspect", toy_model, part, "--rules", rules).code == 0


QUEUES = {
    "aliases": b"a: &a [x,x,x,x]\n"
    + b"".join(
        b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 120)
    ),
    "an alias of itself": b"runs: &a\n  - *a\n",
    "deep": b"runs: " + b"[" * 20_000,
    "deep maps": b"{a: " * 20_000,
    "an escape beyond characters": b'runs: "\\UFFFFFFFF"\n',
    "a directive": b"%YAML 9999999999999999999999.1\n---\nruns: []\n",
    "a tag": b"runs: !!python/object/apply:os.system [ls]\n",
    "binary": b"runs: !!binary [\xc3\xbf]\n",
    "many": b"runs:\n" + b"- x\n" * 50_000,
    "much": b"#" * (1 << 20),
    "half a character": b"runs: \xed\xa0\x80\n",
    "merged": b"defaults: &d {seed: 1}\nruns:\n  - <<: *d\n    data: x\n",
    "a number of 5000 digits": b"runs:\n  - {data: x, detector: padim, seed: "
    + b"9" * 5000
    + b"}\n",
    "no numbers": b"runs:\n  - {data: x, detector: padim, false_alarms: .nan, seed: 0x}\n",
    "two documents": b"runs: []\n---\nruns: []\n",
}


@pytest.mark.parametrize("name", QUEUES)
def test_queue_that_breaks_readers_is_told(name: str, tmp_path: Path, cli: Cli) -> None:
    given = tmp_path / "runs.yaml"
    given.write_bytes(QUEUES[name])
    started = time.perf_counter()
    told = cli("queue", given)
    assert told.code == 2
    assert time.perf_counter() - started < 20
    assert len(told.err) < 20_000


TABLES = {
    "a header of a megabyte": b"path," + b"x" * (1 << 20) + b"\na.png,\n",
    "a cell of a megabyte": b'path,label\n"' + b"x" * (1 << 20) + b'",good\n',
    "zero bytes": b"path\na\0.png\n",
    "a name too long": b"path\n" + b"x" * 300 + b".png\n",
    "UTF-16": "path\na.png\n".encode("utf-16"),
    "no UTF-8": b"path\n\xff.png\n",
    "an open quote": b'path\n"a.png\n',
    "nothing": b"",
    "many columns": b"path" + b"," * 100_000 + b"\na.png\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_table_that_breaks_readers_is_told(name: str, tmp_path: Path, cli: Cli) -> None:
    given = tmp_path / "parts.csv"
    given.write_bytes(TABLES[name])
    for command in (["data", "check", given], ["fit", given, "-o", tmp_path / "m.makellos"]):
        told = cli(*command)
        assert told.code == 2
        assert "parts.csv" in told.err
        assert len(told.err) < 4000


def test_what_the_system_refuses_is_no_bug(
    toy_model: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, told in (
        (PermissionError(13, "Permission denied", "/secret"), "/secret: Permission denied."),
        (MemoryError(), "not enough memory"),
    ):
        monkeypatch.setattr("makellos.inspection.model_file.check_file", raising(error))
        found = cli("info", toy_model)
        assert found.code == 2
        assert told in found.err


def raising(error: Exception) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise error

    return fail
