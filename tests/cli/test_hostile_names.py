"""Names that command a terminal, a page or a spreadsheet are shown, not obeyed."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from makellos.errors import InputError, legible
from makellos.storage import cell

# Clears the screen, sets the title of a window, rings, reads from right to left, begins a line.
NAMES = {
    "\x1b[2Jclear.png": "\\x1b[2Jclear.png",
    "\x1b]0;title\x07.png": "\\x1b]0;title\\x07.png",
    "\x9b31mred.png": "\\x9b31mred.png",
    "a\u202egnp.exe.png": "a\\u202egnp.exe.png",
    "a\rb\nError: c.png": "a\\x0db\\x0aError: c.png",
    "\u2066x\u200b\ufeff.png": "\\u2066x\\u200b\\ufeff.png",
}
FORMULAS = ["=1+1.png", "+1.png", "-1.png", "@a.png", "\t=1.png", "\uff1d1.png"]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs such names to be allowed")


def commands(text: str) -> set[str]:
    """Return the characters of a text that command a terminal or turn what is read."""
    kept = {"\n", "\t", "\u202f"}
    return {c for c in text if legible(c) != c} - kept


@on_linux
def test_names_command_no_terminal(
    toy: ModuleType, toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    whole = (toy_parts / "train" / "good" / "000.png").read_bytes()
    for i, name in enumerate(NAMES):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"no picture" if i == 1 else whole)
    told = cli("inspect", toy_model, tmp_path / "in")
    assert told.code == 1
    assert commands(told.everything) == set()
    assert len(told.out.splitlines()) == len(NAMES) + 1
    for shown in NAMES.values():
        assert shown in told.out
    told = cli("inspect", toy_model, tmp_path / "in", "-o", tmp_path / "out")
    assert commands(told.everything) == set()
    table = (tmp_path / "out" / "inspections.csv").read_text(encoding="utf-8")
    assert commands(table) == set()
    assert len(table.splitlines()) == len(NAMES) + 1
    rows = (tmp_path / "out" / "inspections.jsonl").read_text().splitlines()
    assert {Path(json.loads(row)["input"]).name for row in rows} == set(NAMES)
    model = tmp_path / "m.makellos"
    for words in (["data", "check", tmp_path / "in"], ["fit", tmp_path / "in", "-o", model]):
        assert commands(cli(*words).everything) == set()
    for words in (["inspect", "\x1b[2J", "\x1b[2J"], ["fit", "\x1b[2J", "--no-\x1b[2J"]):
        told = cli(*words)
        assert told.code in (1, 2)
        assert commands(told.everything) == set()


@on_linux
def test_labels_command_no_terminal_and_no_page(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    spotted = sorted((toy_parts / "test" / "spotted").iterdir())
    good = sorted((toy_parts / "test" / "good").iterdir())
    for i, label in enumerate(("\x1b[31m<b>scratch", "\u202ehctarcs")):
        folder = tmp_path / "parts" / "test" / label
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(spotted[i].read_bytes())
    (tmp_path / "parts" / "test" / "good").mkdir()
    (tmp_path / "parts" / "test" / "good" / "\x1b.png").write_bytes(good[0].read_bytes())
    told = cli("evaluate", toy_model, tmp_path / "parts", "-o", tmp_path / "report")
    assert told.code == 0, told.err
    assert commands(told.everything) == set()
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert commands(page) == set()
    assert "\\x1b[31m&lt;b&gt;scratch" in page


@on_linux
def test_no_cell_of_a_table_is_a_formula(
    toy_model: Path,
    toy_parts: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = (toy_parts / "train" / "good" / "000.png").read_bytes()
    for name in FORMULAS:
        (tmp_path / name).write_bytes(whole)
    told = cli("inspect", "--csv", "rows.csv", "--", toy_model, *FORMULAS, "=2.png")
    assert told.code == 1
    table = list(csv.reader(io.StringIO((tmp_path / "rows.csv").read_text(encoding="utf-8"))))
    assert [row[0] for row in table[1:]] == [cell(name) for name in [*FORMULAS, "=2.png"]]
    assert all(value[:1] not in ("=", "+", "@", "\t", "\uff1d") for row in table for value in row)
    assert all(float(row[2]) is not None for row in table[1:-1])


def test_a_message_has_a_length() -> None:
    told = str(InputError("\x1b" + "x " * 500_000))
    assert told.startswith("\\x1bx x")
    assert told.endswith("… (996,004 more characters)")
    assert len(told) < 4100


def test_a_long_name_leaves_room_for_what_is_said_of_it() -> None:
    assert str(InputError(f"{'x' * 5000} does not exist.")).endswith("x does not exist.")
    assert str(InputError("a\nb")) == "a\nb"
