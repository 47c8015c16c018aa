"""Progress, tables and JSON for the verbs."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from makellos.cli.streams import raise_if_reader_left
from makellos.data.progress import Progress, no_progress
from makellos.errors import ConfigurationError, legible
from makellos.storage import claim_file, write_out, write_text
from makellos.training import is_first_process

if TYPE_CHECKING:
    from makellos.cli.bars import Bars
    from makellos.jobs.records import Record

__all__ = [
    "Json",
    "Lines",
    "MmPerPixel",
    "Rules",
    "answer",
    "bars",
    "failures_text",
    "figure_text",
    "parse_settings",
    "say",
    "shown_table",
    "table",
    "telling",
    "write_json",
]

_PATIENCE = 1.0  # seconds of work before a bar or a line appears
_SILENCE = 30.0  # seconds between two lines,
_PAUSE = 10.0  # and between two that have figures
_FORESIGHT = 5.0  # seconds of a step from which the time left is told


class _Bars:
    """Show one progress bar per step on a terminal, once work takes longer than a second."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._shown: Bars | None = None

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Show that `done` of `total` of a step is done; what follows `` · `` are its figures."""
        if self._shown is None:
            if time.monotonic() - self._started < _PATIENCE:
                return
            from makellos.cli.bars import Bars

            self._shown = Bars()
        step, _, figures = what.partition(" · ")
        self._shown.update(step, done, total, figures)

    def close(self) -> None:
        """Leave the bars as they are."""
        if self._shown is not None:
            self._shown.stop()


class Lines:
    """Tell on standard error where long work is: at each new step, and every half minute.

    What has figures, as training does, is told of every ten seconds, and when it is done.

    The lines begin once work takes longer than a second; a thread brings those that come while
    nothing is reported. `clock` returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._told_at = clock()
        self._what, self._count = "at work", ""
        self._step, self._since, self._first = "", self._began, 0
        self._told = {self._what}
        self._left = ""
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Take in that `done` of `total` of a step is done; figures follow it as in the bars."""
        count = f": {done}" if total is None else f": {done}/{total}"
        step, _, figures = what.partition(" · ")
        with self._lock:
            now = self._clock()
            if step != self._step:
                self._step, self._since, self._first = step, now, done
            self._left = self._time_left(now, done, total)
            self._what, self._count = what, "" if total == 1 else count
            pause = (0.0 if done == total else _PAUSE) if figures else _SILENCE
            self._tell(pause=pause)

    def begin(self, step: str) -> None:
        """Take in a step that the user was told of already."""
        with self._lock:
            self._what, self._count, self._told_at = step, "", self._clock()
            self._left = ""
            self._told.add(step)

    def remind(self) -> None:
        """Say what is still being done, where nothing was said for half a minute."""
        with self._lock:
            self._tell("still: ")

    def close(self) -> None:
        """Say no more."""
        self._closed.set()
        self._thread.join()

    def _time_left(self, now: float, done: int, total: int | None) -> str:
        """Return how long the rest of a step takes at its pace; nothing where that is unknown."""
        passed, n_done = now - self._since, done - self._first
        if total is None or passed < _FORESIGHT or n_done <= 0 or done >= total:
            return ""
        rest = passed / n_done * (total - done)
        return f", {_clock_text(rest)} left" if rest >= 1 else ""

    def _tell(self, before: str = "", *, pause: float = _SILENCE) -> None:
        now = self._clock()
        step, dot, figures = self._what.partition(" · ")
        if step not in self._told:
            before = ""
        elif now - self._told_at < pause:
            return
        if now - self._began < _PATIENCE:
            return
        self._told.add(step)
        self._told_at = now
        times = f"{_clock_text(now - self._began)}{self._left}"
        # A log that can no longer be written to must not end the work.
        with suppress(OSError, ValueError):
            sys.stderr.write(legible(f"{before}{step}{self._count}{dot}{figures} ({times})") + "\n")
            sys.stderr.flush()

    def _watch(self) -> None:
        while not self._closed.wait(_PATIENCE):
            self.remind()


def _clock_text(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


@contextmanager
def bars(clock: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """Give what shows progress, as bars on a terminal and as lines elsewhere, until the end."""
    if not is_first_process():
        yield no_progress
        return
    shown = _Bars() if sys.stderr.isatty() else Lines(clock)
    try:
        yield shown
    finally:
        shown.close()


@contextmanager
def telling(
    *, quietly: bool, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[str], None]]:
    """Give what says each step as `say` does, at once, and where there are lines reminds of it."""
    with bars(clock) as shown:

        def tell(text: str) -> None:
            say(text, quietly=quietly)
            (sys.stderr if quietly else sys.stdout).flush()
            if isinstance(shown, Lines):
                shown.begin(text.splitlines()[-1].strip())

        yield tell


def say(text: str = "", *, quietly: bool = False, vital: bool = False) -> None:
    """Print a line; `quietly` on standard error, where JSON takes standard output.

    With `vital` the work ends when nobody reads any more.
    """
    stream = sys.stderr if quietly else sys.stdout
    stream.write(legible(text, lines=True) + "\n")
    if vital:
        raise_if_reader_left()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns of plain text; cells that are numbers are set to the right.

    >>> print(table(["kind", "n"], [["scratch", "3"], ["dent", "12"]]))
    kind      n
    scratch   3
    dent     12
    """
    right = [bool(rows) and all(_is_figure(row[i]) for row in rows) for i in range(len(header))]
    shown = [[legible(str(cell)) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = []
    for row in shown:
        cells = [
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def shown_table(header: Sequence[str], rows: Sequence[Sequence[str]], always: int = 1) -> str:
    """Return a table without the columns that nobody has; the first `always` stay."""
    kept = [i for i in range(len(header)) if i < always or any(row[i] != "-" for row in rows)]
    return table([header[i] for i in kept], [[row[i] for i in kept] for row in rows])


def figure_text(value: float | None, digits: int = 3) -> str:
    """Return a figure with so many decimals, a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def failures_text(records: Iterable[Record]) -> list[str]:
    """Return the lines that say which runs failed and why."""
    failed = [f"{each.name}: {each.reason}" for each in records if each.state == "failed"]
    return (
        ["", "Failed:", *("  " + said.replace("\n", "\n    ") for said in failed)] if failed else []
    )


Good = Annotated[
    str | None,
    typer.Option(
        metavar="LABEL,…",
        help="Labels that mean good, where the data does not say so, such as 0 for a digit.",
    ),
]
Keys = Annotated[
    str | None,
    typer.Option(
        metavar="ROLE=ARRAY,…",
        help="What arrays of a NumPy file are, where names do not tell: images=a,labels=b.",
    ),
]


def answer(text: str, json: Path | None, data: Any) -> None:
    """Print a verb's text, and write its data where ``--json`` asks for them."""
    say(text, quietly=str(json) == "-")
    if json is not None:
        write_json(json, data)


def write_json(target: Path, data: Any) -> None:
    """Write data as JSON to a file, or to standard output for ``-``."""
    text = json.dumps(data, indent=1, allow_nan=False, default=str) + "\n"
    if str(target) == "-":
        write_out(text)
    else:
        write_text(target, text)


def check_json_target(target: Path | None) -> Path | None:
    """Return the target of ``--json``; raise before any work where nothing can be written to it.

    A file that holds anything but JSON is left alone.
    """
    if target is not None and str(target) != "-":
        claim_file(target, _is_json, "is not JSON")
    return target


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes() or b"null")
    except ValueError:
        return False
    return True


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return the parameters that ``--set KEY=VALUE`` options name, values still as text."""
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigurationError(
                f"--set takes KEY=VALUE, such as --set image_size=512; received {setting!r}."
            )
        parsed[key.strip()] = value.strip()
    return parsed


Rules = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="JSON file of rules for regions of damage."),
]
MmPerPixel = Annotated[
    float | None, typer.Option(metavar="MM", help="Size of a pixel, for areas in mm2.")
]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE|-",
        callback=check_json_target,
        help="Write the result as JSON to this file; - for standard output.",
    ),
]


def _is_figure(cell: str) -> bool:
    return bool(cell) and (cell[0].isdigit() or cell == "-" or cell[:2] in {"-0", "≤ ", "< "})
