"""Reader of recordings that are text: a header of any length, then rows of numbers.

Columns may hold numbers, times of day or words; fields may stand in quotes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from makellos.errors import InputError
from makellos.vibration._columns import Columns, check_size, named
from makellos.vibration._text_layout import (
    ABSENT,
    STAMP,
    Kind,
    Layout,
    Rows,
    bad_cell,
    find_layout,
    is_readable,
    stated_rate,
)

__all__ = ["read_text"]

_UNIVERSAL = re.compile(r"(?:[ \t]*\n)* {4}-1[ \t]*\n {1,5}(\d{1,4}b?)\b")
_BLOCK = 32768  # rows that are parsed at once where a column holds no plain numbers


def read_text(path: Path) -> Columns:
    """Read columns of numbers, whatever separates them, with or without a header."""
    text = _decoded(path)
    if text.startswith("LabVIEW Measurement"):
        text = _plain_lvm(path, text)
    universal = _UNIVERSAL.match(text)
    if universal is not None:
        raise InputError(
            f"{path} is a universal file (UFF, dataset {universal[1]}), which is not read. Export "
            "it as CSV, MAT or WAV."
        )
    layout = find_layout(path, text)
    n_columns, n_rows = len(layout.kinds), text.count("\n", layout.start) + 1
    check_size(path, n_rows * n_columns, n_columns if n_rows > 1 else 1)
    table = _table(path, text, layout)
    if n_columns > len(table) and len(table) < 16:
        raise InputError(
            f"{path} has {n_columns:,} columns and {len(table):,} "
            f"{'row' if len(table) == 1 else 'rows'}. Columns are channels and rows are samples, "
            "so they are probably the wrong way round: transpose it, so that each sample is a row."
        )
    columns = [
        named(name, values)
        for name, kind, values in zip(layout.names(), layout.kinds, table.T, strict=True)
        if kind != "words"
    ]
    if len(columns) > 1 and not columns[-1].name and np.isnan(columns[-1].values).all():
        columns.pop()  # every row ends with a separator
    return Columns(
        columns=columns if len(table) > 1 else [],
        rate=stated_rate(layout.header),
        ordered=True,
        notes=_left_out(path, layout),
    )


def _left_out(path: Path, layout: Layout) -> tuple[str, ...]:
    """Name the columns of words that are no dates, of which one may have been meant as a signal."""
    names = [
        name or f"number {i}"
        for i, (name, kind) in enumerate(zip(layout.names(), layout.kinds, strict=True), start=1)
        if kind == "words" and name.casefold() not in ("date", "datum", "day", "comment")
    ]
    if not names:
        return ()
    many = len(names) > 1
    return (
        f"{path}: the {'columns' if many else 'column'} {', '.join(names)} "
        f"{'hold' if many else 'holds'} words and {'are' if many else 'is'} left out.",
    )


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16")
    elif b"\0" in content:
        raise ValueError("it is binary, not text")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.startswith('"') and re.match(r'(?:"[^"\n]*[;,\t][^"\n]*"\n){3}', text):
        text = text.replace('"', "")  # whole rows stand in quotes
    return text


def _plain_lvm(path: Path, text: str) -> str:
    """Return a LabVIEW measurement file as a table with names and units, and the period above it.

    Raises `InputError` where it has several segments: they need not follow on each other.
    """
    pieces = re.split(r"\*\*\*End_of_Header\*\*\*[^\n]*\n", text)
    if len(pieces) > 3:
        raise InputError(
            f"{path} holds {len(pieces) - 2} segments, each with a header, and time may have "
            "passed between them. Write it with a single header, or each segment to its own file."
        )
    head, _, body = pieces[-1].lstrip("\n").partition("\n")
    separator = "," if re.search(r"(?m)^Separator\WComma", pieces[0]) else "\t"
    lines = [line.split(separator) for piece in pieces[:-1] for line in piece.split("\n")]
    facts = {fields[0]: [each.strip() for each in fields[1:]] for fields in lines}
    names = [name.strip() for name in head.split(separator)]
    if "Comment" in names:
        names = names[: names.index("Comment")]
        rows = (line.split(separator)[: len(names)] for line in body.split("\n"))
        body = "\n".join(map(separator.join, rows))
    units = iter(facts.get("Y_Unit_Label", []))
    shown = [
        f"{name} [{unit}]" if name != "X_Value" and (unit := next(units, "")) else name
        for name in names
    ]
    periods = facts.get("Delta_X", []) if facts.get("X_Dimension", ["Time"])[0] == "Time" else []
    period = f"dt: {periods[0].replace(',', '.')} s\n" if periods and periods[0] else ""
    return f"{period}{separator.join(shown)}\n{body}"


def _table(path: Path, text: str, layout: Layout) -> NDArray[np.float64]:
    """Return the numbers of all rows; times are in s, words are nan."""
    rows, body = layout.rows, text[layout.start :]
    if not rows.quoted and set(layout.kinds) == {"numbers"}:
        if rows.decimal != ".":
            body = body.replace(rows.decimal, ".")
        for each in (body, _filled(body, rows)):
            try:
                return _parsed(each, rows, len(layout.kinds))
            except ValueError:
                continue
    return _in_blocks(path, text, layout)


def _parsed(body: str, rows: Rows, n_columns: int) -> NDArray[np.float64]:
    table = np.loadtxt(io.StringIO(body), comments=None, delimiter=rows.separator, ndmin=2)
    if table.shape[1] != n_columns:
        raise ValueError("rows differ in length")
    return table


def _filled(body: str, rows: Rows) -> str:
    """Write nan into empty fields."""
    if rows.separator is None:
        return body
    sign = re.escape(rows.separator)
    return re.sub(rf"(?m)^ *(?={sign})|(?<={sign}) *(?={sign}|$)", "nan", body)


def _in_blocks(path: Path, text: str, layout: Layout) -> NDArray[np.float64]:
    """Parse rows that `numpy.loadtxt` does not; raises `InputError` that names a wrong cell."""
    body, n_columns = text[layout.start :], len(layout.kinds)
    lines, at, blocks = io.StringIO(body), layout.line, list[NDArray[np.float64]]()
    days = [_Days() for _ in layout.kinds]
    while block := list(islice(layout.rows.parsed(lines), _BLOCK)):
        for number, fields in enumerate(block, start=at):
            if fields and len(fields) != n_columns and any(fields):
                raise bad_cell(path, layout, number, fields)
        filled = [fields for fields in block if len(fields) == n_columns]
        try:
            columns = [
                _column(cells, kind, layout.rows, day)
                for cells, kind, day in zip(
                    zip(*filled, strict=True), layout.kinds, days, strict=True
                )
            ]
        except ValueError as error:
            for number, fields in enumerate(block, start=at):
                if fields and not all(
                    is_readable(field, kind, layout.rows)
                    for field, kind in zip(fields, layout.kinds, strict=False)
                ):
                    raise bad_cell(path, layout, number, fields) from None
            raise ValueError(str(error)) from error
        blocks.append(np.stack(columns, axis=1))
        at += len(block)
    return np.concatenate(blocks)


class _Days:
    """Count the days that pass between times of day."""

    def __init__(self) -> None:
        self.n, self.date, self.seconds = 0, "", 0.0

    def elapsed(self, cell: str) -> float:
        """Return seconds from the midnight before the first time; raises `ValueError`."""
        found = STAMP.match(cell)
        if found is None:
            if cell.casefold() in ABSENT:
                return float("nan")
            raise ValueError(f"{cell[:40]!r} is not a time")
        seconds = float((found["s"] or "0").replace(",", "."))
        hour = int(found["h"])
        if found["half"]:
            hour = hour % 12 + (12 if found["half"][0] in "Pp" else 0)
        seconds += 3600 * hour + 60 * int(found["m"])
        date = found["date"] or ""
        if self.date != date if date else seconds < self.seconds - 43200:
            self.n += bool(self.date) if date else 1
        self.date, self.seconds = date, seconds
        return 86400.0 * self.n + seconds


def _column(cells: Sequence[str], kind: Kind, rows: Rows, days: _Days) -> NDArray[np.float64]:
    if kind == "words":
        return np.full(len(cells), np.nan)
    if kind == "times":
        return np.array([days.elapsed(cell) for cell in cells])
    return np.array(
        [np.nan if cell.casefold() in ABSENT else rows.number(cell) for cell in cells], np.float64
    )
