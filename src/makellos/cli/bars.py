"""Progress bars on a terminal of any width: a line per step, and below it the step's figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import Progress, Task, TaskID
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

__all__ = ["Bars", "fitting"]

_BETWEEN = " · "
_INDENT = 2
_LONGEST_BAR = 40
_MOST_LINES = 2  # of figures


def fitting(pieces: Sequence[str], width: int, most: int = _MOST_LINES) -> list[str]:
    """Lay `pieces` out, joined, on at most so many lines of `width` characters; none is cut.

    A piece that is longer than a line is left out, and so are those for which no line is left.

    >>> fitting(["epoch 3/9", "reconstruction 0.52", "KL 0.1", "310 pictures/s"], 22, 2)
    ['epoch 3/9', 'reconstruction 0.52']
    """
    lines: list[str] = []
    for piece in pieces:
        longer = _BETWEEN.join([*lines[-1:], piece])
        if len(piece) > width:
            continue
        if lines and len(longer) <= width:
            lines[-1] = longer
        elif len(lines) < most:
            lines.append(piece)
        else:
            break
    return lines


class Bars:
    """Show steps with bar, count and time left; below a step its figures, as many as fit."""

    def __init__(self, console: Console | None = None) -> None:
        self._shown = _Shown(console=console or Console(stderr=True))
        self._tasks: dict[str, TaskID] = {}
        self._shown.start()

    def update(self, step: str, done: int, total: int | None, figures: str) -> None:
        """Show that `done` of `total` of a step is done, and its figures, joined by `` · ``."""
        if step not in self._tasks:
            self._tasks[step] = self._shown.add_task(step, total=total)
        self._shown.update(self._tasks[step], completed=done, total=total, figures=figures)

    def stop(self) -> None:
        """Leave the bars as they are."""
        self._shown.stop()


class _Shown(Progress):
    """Draw steps over the whole width, and the last ones where there are more than rows."""

    def get_renderables(self) -> Iterable[RenderableType]:
        lines = list(self._lines(self.tasks)) if self.tasks else []
        yield from lines if self.finished else lines[-max(1, self.console.height - 1) :]

    def _lines(self, tasks: Sequence[Task]) -> Iterator[RenderableType]:
        width = self.console.width
        rows = [(task.description, _count(task), _time(task)) for task in tasks]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        widths[0] = min(widths[0], max(8, width - widths[1] - widths[2] - 3))
        bar = min(_LONGEST_BAR, width - sum(widths) - 3)
        for task, row in zip(tasks, rows, strict=True):
            yield _line(task, row, widths, bar)
            figures = task.fields.get("figures")
            for text in fitting(figures.split(_BETWEEN), width - _INDENT) if figures else ():
                yield Text(" " * _INDENT + text, style="dim", no_wrap=True, overflow="crop")


def _line(task: Task, row: Sequence[str], widths: Sequence[int], bar: int) -> Table:
    columns = [Column(width=width, no_wrap=True, overflow="ellipsis") for width in widths]
    columns[1].justify = "right"
    drawn: list[RenderableType] = [Text(cell) for cell in row]
    if bar > 0:
        columns.insert(1, Column(width=bar))
        drawn.insert(1, _bar(task, bar))
    table = Table.grid(*columns, padding=(0, 1))
    table.add_row(*drawn)
    return table


def _bar(task: Task, width: int) -> ProgressBar:
    total = None if task.total is None else max(0.0, task.total)
    return ProgressBar(total, max(0.0, task.completed), width=max(1, width), pulse=not task.started)


def _count(task: Task) -> str:
    done = f"{task.completed:.0f}"
    return done if task.total is None else f"{done}/{task.total:.0f}"


def _time(task: Task) -> str:
    """Return the time left, and of a step that is done the time it took."""
    if task.finished:
        return _clock(task.finished_time)
    left = _clock(task.time_remaining)
    return f"{left} left" if left else ""


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=int(seconds)))
