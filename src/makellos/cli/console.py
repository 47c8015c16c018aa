"""Progress bars, tables and JSON for the verbs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from makellos.errors import ConfigurationError, StorageError
from makellos.training import is_first_process

__all__ = [
    "Bars",
    "Json",
    "MmPerPixel",
    "Rules",
    "bars",
    "parse_settings",
    "say",
    "table",
    "write_json",
]

_PATIENCE = 1.0  # seconds of work before a bar appears


class Bars:
    """Show one progress bar per step on a terminal, once work takes longer than a second."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Show that `done` of `total` of a step is done; what follows `` · `` are its figures."""
        if not sys.stderr.isatty() or not is_first_process():
            return
        if self._progress is None:
            if time.monotonic() - self._started < _PATIENCE:
                return
            self._progress = _new_progress()
        step, _, figures = what.partition(" · ")
        if step not in self._tasks:
            self._tasks[step] = self._progress.add_task(step, total=total, figures="")
        self._progress.update(self._tasks[step], completed=done, total=total, figures=figures)

    def close(self) -> None:
        """Leave the bars as they are."""
        if self._progress is not None:
            self._progress.stop()


@contextmanager
def bars() -> Iterator[Bars]:
    """Give progress bars that are closed whatever happens."""
    shown = Bars()
    try:
        yield shown
    finally:
        shown.close()


def say(text: str = "", *, quietly: bool = False) -> None:
    """Print a line; `quietly` on standard error, where JSON takes standard output."""
    stream = sys.stderr if quietly else sys.stdout
    stream.write(text + "\n")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns of plain text; cells that are numbers are set to the right.

    >>> print(table(["kind", "n"], [["scratch", "3"], ["dent", "12"]]))
    kind      n
    scratch   3
    dent     12
    """
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    right = [bool(rows) and all(_is_figure(row[i]) for row in rows) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            str(cell).rjust(width) if flush else str(cell).ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def write_json(target: Path, data: Any) -> None:
    """Write data as JSON to a file, or to standard output for ``-``."""
    text = json.dumps(data, indent=1, allow_nan=False, default=str) + "\n"
    if str(target) == "-":
        sys.stdout.write(text)
        return
    # A device or a pipe is written to as it is.
    direct = target.exists() and not target.is_file()
    partial = target if direct else target.with_name(f".{target.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        if not direct:
            partial.replace(target)
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}.") from error


def check_json_target(target: Path | None) -> Path | None:
    """Return the target of ``--json``; raise before any work where nothing can be written to it.

    A file that holds something else than JSON is left alone.
    """
    if target is None or str(target) == "-":
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise StorageError(f"{target} is a folder. Give the name of a file.")
        if target.is_file() and target.stat().st_size:
            json.loads(target.read_bytes())
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}.") from error
    except ValueError:
        raise StorageError(
            f"{target} exists and holds no JSON; it is left alone. Choose another name, or "
            "remove it."
        ) from None
    return target


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
    typer.Option(metavar="FILE", help="JSON of rules that regions of damage are held to."),
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
        help="Write the result as JSON to this file; - is standard output.",
    ),
]


def _is_figure(cell: str) -> bool:
    return bool(cell) and (cell[0].isdigit() or cell == "-" or cell[:2] in {"-0", "≤ ", "< "})


def _new_progress() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}", style="dim"),
        console=Console(stderr=True),
    )
    progress.start()
    return progress
