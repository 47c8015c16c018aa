"""Help texts: as agreed in golden/, with an example each that the parser accepts.

MAKELLOS_RENEW_GOLDEN=1 pytest tests/cli/test_help.py writes them anew.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from makellos.cli.app import application

GOLDEN = Path(__file__).with_name("golden")
RENEW = "MAKELLOS_RENEW_GOLDEN"


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command below `command`, itself first."""
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from verbs(below, (*path, name))


VERBS = list(verbs(typer.main.get_command(application())))
NAMES = ["-".join(words) or "makellos" for words in VERBS]
every_verb = pytest.mark.parametrize("words", VERBS, ids=NAMES)


@pytest.fixture
def help_of(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that gives a verb's help at a fixed width."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    monkeypatch.setenv("NO_COLOR", "1")

    def read(*words: str) -> str:
        told = cli(*words, "--help")
        assert told.code == 0
        assert told.err == ""
        text: str = told.out
        return text

    return read


@every_verb
def test_help_is_as_agreed(help_of: Callable[..., str], words: tuple[str, ...]) -> None:
    golden = GOLDEN / f"{'-'.join(words) or 'makellos'}.txt"
    found = help_of(*words)
    if os.environ.get(RENEW):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found, encoding="utf-8", newline="\n")
    assert golden.is_file(), f"{golden.name} is missing; write it with {RENEW}=1"
    assert found == golden.read_text(encoding="utf-8"), f"where this is meant, renew with {RENEW}=1"


def test_every_golden_text_has_its_verb() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(NAMES)


@every_verb
def test_help_fits_a_terminal_and_is_not_cut_short(
    help_of: Callable[..., str], words: tuple[str, ...]
) -> None:
    for line in help_of(*words).splitlines():
        assert len(line) <= 80
        assert not line.endswith("...") or line.startswith("Usage: ")


@every_verb
def test_help_has_an_example_that_is_right(
    help_of: Callable[..., str], words: tuple[str, ...]
) -> None:
    (line,) = [line for line in help_of(*words).splitlines() if line.strip().startswith("Example")]
    program, *arguments = shlex.split(line.partition(":")[2])
    assert program == "makellos"
    assert arguments[: len(words)] == list(words)
    # Parsing alone: the names of verbs and options, and what they take.
    command: Any = typer.main.get_command(application())
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    command.make_context("example", arguments)


def test_no_arguments_show_the_help(cli: Callable[..., Any]) -> None:
    told = cli()
    assert told.code == 2
    assert "Usage: makellos" in told.everything


@pytest.mark.parametrize("arguments", [["--version"], ["--version", "fit"]])
def test_version(cli: Callable[..., Any], arguments: list[str]) -> None:
    import makellos

    told = cli(*arguments)
    assert told.code == 0
    assert told.out == f"makellos {makellos.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["fti"], "Did you mean 'fit'?"),
        (["fit"], "Missing argument"),
        (["inspect", "m.makellos"], "Missing argument"),
        (["fit", "screws"], "Missing option"),
        (["fit", "screws", "-o", "m.makellos", "--false-alarm", "0.1"], "--false-alarms"),
        (["fit", "screws", "-o", "m.makellos", "--false-alarms", "many"], "--false-alarms"),
        (["data", "gte"], "Did you mean 'get'?"),
    ],
)
def test_wrong_usage_says_what_to_do(
    cli: Callable[..., Any], arguments: list[str], advice: str
) -> None:
    told = cli(*arguments)
    assert told.code == 2
    assert "Usage: makellos" in told.err
    assert advice in told.err
    assert told.out == ""
