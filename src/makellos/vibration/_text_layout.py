"""How the rows of a text are written: separator, decimals, quotes, names and units above them."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from makellos.errors import InputError
from makellos.vibration.clock import is_time_name

__all__ = [
    "ABSENT",
    "HEAD",
    "STAMP",
    "Kind",
    "Layout",
    "Rows",
    "bad_cell",
    "find_layout",
    "holds_rows",
    "is_readable",
    "stated_rate",
]

HEAD = 65536  # characters that are looked at to find the layout
_LAST = 100  # lines of these that say what the columns hold
_STATED_RATE = re.compile(
    r"\b(?:sampl\w*[ _-]*(?:rate|freq\w*)|sample_?rate|fs|rate)(?:\s*[\[(](?P<before>k?)Hz[\])])?"
    r"\s*[=:;,\t ]\s*(?P<number>\d+(?:\.\d+)?)(?![.,]?\d)\s*(?P<after>k?)(?:Hz)?",
    re.IGNORECASE,
)
_STATED_PERIOD = re.compile(
    r"\b(?:delta_?x|dt|sampl\w*[ _-]*(?:interval|period|time))\s*(?:[\[(](?P<before>\w*)[\])])?"
    r"\s*[=:;,\t ]\s*(?P<number>\d+(?:[.,]\d+)?(?:e[+-]?\d+)?)\s*(?P<after>[mµμun]?s\b)?",
    re.IGNORECASE,
)
_PERIOD_UNITS = {"": 1.0, "s": 1.0, "ms": 1e3, "us": 1e6, "µs": 1e6, "μs": 1e6, "ns": 1e9}
# A time of day, with or without a date before it and a zone behind it.
STAMP = re.compile(
    r"^(?P<date>\d{1,4}[-./]\d{1,2}[-./]\d{1,4})?[T ]*(?P<h>\d{1,2}):(?P<m>\d{2})"
    r"(?::(?P<s>\d{2}(?:[.,]\d+)?))?\s*(?P<half>[AaPp]\.?[Mm]\.?)?\s*(?:Z|UTC|[+-]\d{2}:?\d{2})?$"
)
_UNITS = frozenset(
    {
        *("s", "sec", "second", "seconds", "ms", "msec", "milliseconds", "us", "usec", "µs", "μs"),
        *("microseconds", "ns", "min", "h", "hz", "khz", "rpm", "1/min", "min-1", "u/min"),
        *("g", "mg", "gn", "m/s2", "m/s^2", "m/s²", "m/s**2", "mm/s2", "m/s", "mm/s", "um/s"),
        *("in/s", "ips", "in/s2", "m", "mm", "um", "µm", "μm", "mil", "mils"),
        *("v", "volt", "volts", "mv", "uv", "µv", "μv", "a", "ma", "pa", "kpa", "bar", "psi"),
        *("n", "kn", "nm", "db", "°c", "c", "degc", "°f", "k", "deg", "°", "%", "-"),
        *("counts", "count", "raw"),
    }
)
ABSENT = frozenset({"", "na", "n/a", "#n/a", "null", "none", "-", "--"})

Kind = Literal["numbers", "times", "words"]


@dataclass(frozen=True)
class Rows:
    """How a row is written; a separator of None is white space."""

    separator: str | None
    decimal: str
    quoted: bool = False

    def fields(self, line: str) -> list[str]:
        if self.quoted:
            return next(self.parsed([line]), [])
        if self.separator is None:
            return line.split()
        return [field.strip() for field in line.split(self.separator)]

    def parsed(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Yield the fields of many lines."""
        if self.quoted and self.separator is not None:
            for row in csv.reader(lines, delimiter=self.separator, skipinitialspace=True):
                yield [field.strip() for field in row]
        elif self.quoted:
            yield from (line.replace('"', "").split() for line in lines)
        else:
            yield from map(self.fields, lines)

    def number(self, field: str) -> float:
        """Return the number of a field; raises `ValueError`."""
        if "_" in field:  # a matter of Python
            raise ValueError(field)
        if self.decimal == ",":
            field = field.replace(".", "") if "," in field and "." in field else field
            return float(field.replace(",", "."))
        return float(field.replace(",", "") if self.quoted and "." in field else field)

    def is_number(self, field: str) -> bool:
        try:
            self.number(field)
        except ValueError:
            return False
        return True


@dataclass(frozen=True)
class Layout:
    """How the rows of a file are written, what their columns hold, and where they begin.

    `header` are the lines above that say something, `start` is in characters, `line` counts from 1.
    """

    rows: Rows
    kinds: tuple[Kind, ...]
    header: Sequence[str]
    start: int
    line: int

    def names(self) -> list[str]:
        return _names(self.header, self.rows, len(self.kinds))


def find_layout(path: Path, text: str) -> Layout:
    """Find how rows are written and where they begin; raises `InputError` where there are none."""
    lines = text[:HEAD].split("\n")
    if len(text) > HEAD:
        lines.pop()  # cut off in the middle
    rows = replace(_rows(lines), quoted='"' in text)
    last = [rows.fields(line) for line in [line for line in lines if line.strip()][-_LAST:]]
    n_columns = Counter(map(len, last[-20:])).most_common(1)[0][0] if last else 0
    last = [fields for fields in last if len(fields) == n_columns]
    _refuse_commas(path, last, rows)
    kinds = tuple(_kind(cells, rows) for cells in zip(*last, strict=True))
    first = next((i for i, line in enumerate(lines) if _is_row(rows.fields(line), rows, kinds)), -1)
    if first < 0:
        raise InputError(
            f"{path} holds no rows of numbers. Expected columns of numbers, separated by "
            "commas, semicolons, tabs or spaces, with or without a header line. Export it again."
        )
    if first + 1 < len(lines) and _is_numbered(
        rows.fields(lines[first]), rows.fields(lines[first + 1]), rows.decimal
    ):
        first += 1
    start = sum(len(line) + 1 for line in lines[:first])
    rows = replace(rows, quoted=text.find('"', start) >= 0)
    layout = Layout(
        rows=rows,
        kinds=kinds,
        header=[line.strip().lstrip("#%/ ") for line in lines[:first] if line.strip()],
        start=start,
        line=first + 1,
    )
    above = rows.fields(lines[first - 1]) if first else []
    if _is_spoilt(above, rows, kinds):
        raise bad_cell(path, replace(layout, header=layout.header[:-1]), first, above)
    return layout


def _rows(lines: Sequence[str]) -> Rows:
    """Find the separator in the last lines, which are rows, and the sign of decimals."""
    last = [line.strip() for line in lines if line.strip()][-20:]
    if any('"' in line for line in last):
        return _quoted_rows(last)
    for separator in (";", "\t"):
        if all(separator in line for line in last):
            return Rows(separator, "," if any("," in line for line in last) else ".")
    comma = Rows(None, ",")
    if any("," in line for line in last):
        spaced = all(_are_numbers(line.split(), comma) for line in last)
        if spaced and all(len(line.split()) > 1 for line in last):
            return comma
        return comma if spaced and _is_one_column(lines, last) else Rows(",", ".")
    return Rows(None, ".")


def _quoted_rows(last: Sequence[str]) -> Rows:
    """Find the separator outside of quotes; commas within them are those of decimals."""
    bare = [re.sub(r'"[^"]*"', "q", line) for line in last]
    separator = next(
        (each for each in (";", "\t", ",") if all(each in line for line in bare)), None
    )
    cells = [cell for line in last for cell in re.findall(r'"([^"]*)"', line)]
    decimals = [cell for cell in cells if re.fullmatch(r"[-+]?[\d.]*,\d+(?:[eE][-+]?\d+)?", cell)]
    if separator in (";", "\t"):
        decimals += [line for line in bare if "," in line]
    return Rows(separator, "," if decimals else ".", quoted=True)


def _are_numbers(fields: Sequence[str], rows: Rows) -> bool:
    return bool(fields) and all(map(rows.is_number, fields))


def _is_one_column(lines: Sequence[str], last: Sequence[str]) -> bool:
    """Tell a column of decimal commas from two columns of whole numbers.

    Names without a comma above, a minus before a zero, or a fraction that begins with a zero
    give it away.
    """
    if any(line.count(",") > 1 or "." in line for line in last):
        return False
    comma = Rows(None, ",")
    names = [line for line in lines if line.strip() and not comma.is_number(line.strip())]
    if names:
        return not any("," in name for name in names)
    return any(re.search(r"^-0,|,0\d", line) for line in last)


def _refuse_commas(path: Path, last: Sequence[Sequence[str]], rows: Rows) -> None:
    """Raise `InputError` where commas separate columns and decimals as well.

    A minus before a zero gives it away, and so do every second fields that begin with a zero.
    """
    if rows != Rows(",", ".") or not all(re.fullmatch(r"[-+]?\d+", f) for row in last for f in row):
        return
    wholes, decimals = ([field for row in last for field in row[i::2]] for i in (0, 1))
    halves = len(last[0]) % 2 == 0 and not any(re.match(r"[-+]?0\d", field) for field in wholes)
    if "-0" in (*wholes, *decimals) or (halves and any(re.match(r"0\d", f) for f in decimals)):
        raise InputError(
            f"{path}: commas seem to separate the columns and the decimals as well "
            f"({','.join(last[0])!r}), so the columns cannot be told apart. Export it with "
            "semicolons or tabs between the columns, or with decimal points."
        )


def _kind(cells: Sequence[str], rows: Rows) -> Kind:
    """Tell what most of the cells of a column hold."""
    filled = [cell for cell in cells if cell.casefold() not in ABSENT]
    if 2 * sum(map(rows.is_number, filled)) >= len(filled):
        return "numbers"
    return (
        "times" if 2 * sum(bool(STAMP.match(cell)) for cell in filled) >= len(filled) else "words"
    )


def _is_row(fields: Sequence[str], rows: Rows, kinds: Sequence[Kind]) -> bool:
    if len(fields) != len(kinds):
        return False
    pairs = list(zip(fields, kinds, strict=True))
    return all(is_readable(field, kind, rows) for field, kind in pairs) and any(
        field for field, kind in pairs if kind == "numbers"
    )


def is_readable(field: str, kind: Kind, rows: Rows) -> bool:
    if kind == "words" or field.casefold() in ABSENT:
        return True
    return rows.is_number(field) if kind == "numbers" else bool(STAMP.match(field))


def _is_spoilt(fields: Sequence[str], rows: Rows, kinds: Sequence[Kind]) -> bool:
    """Say whether the line above the rows is no header, but a row with a cell that is wrong."""
    if len(fields) != len(kinds):
        return False
    numbers = [each for each, kind in zip(fields, kinds, strict=True) if kind == "numbers" and each]
    return any(rows.decimal in each and rows.is_number(each) for each in numbers)


def _is_numbered(names: Sequence[str], row: Sequence[str], decimal: str) -> bool:
    """Say whether a row is a header that counts its columns, such as ``0,1,2`` or ``,0,1``."""
    counted = [name for name in names if name]
    return (
        len(names) > 1
        and counted == [str(i) for i in range(len(counted))]
        and all(decimal in field for field in row[-len(counted) :])
    )


def _names(header: Sequence[str], rows: Rows, n_columns: int) -> list[str]:
    """Return the names above the columns; a line of units below them is joined to them."""
    units, below = [""] * n_columns, list[str]()
    for line in reversed(header):
        if '"' in line:
            rows = replace(rows, quoted=True)
        close = re.sub(r"\s+(?=[\[(])", "", line) if rows.separator is None else line
        fields = [close] if n_columns == 1 and rows.separator is None else rows.fields(close)
        if len(fields) != n_columns:
            continue
        if not any(units) and all(map(_is_unit, filter(None, fields))):
            units = fields
            continue
        if below and is_time_name(fields[0]):  # a time above one of its units
            units, below = below, []
        if not any(units) and _is_unit(fields[0]) and not below:
            below = fields
            continue
        names = below or fields
        return [_with_unit(name, unit) for name, unit in zip(names, units, strict=True)]
    return below or units


def _is_unit(field: str) -> bool:
    return field[:1] in ("[", "(") or field.casefold() in _UNITS


def _with_unit(name: str, unit: str) -> str:
    if not unit or unit == "-":
        return name
    return f"{name} {unit}" if unit[:1] in ("[", "(") else f"{name} [{unit}]"


def stated_rate(header: Sequence[str]) -> float | None:
    for line in header:
        found = _STATED_RATE.search(line)
        if found:
            is_kilo = bool(found["before"] or found["after"])
            return float(found["number"]) * (1000 if is_kilo else 1)
        found = _STATED_PERIOD.search(line)
        if found and (period := float(found["number"].replace(",", "."))) > 0:
            per_second = _PERIOD_UNITS.get((found["before"] or found["after"] or "").lower())
            return None if per_second is None else per_second / period
    return None


def holds_rows(head: bytes) -> bool:
    """Tell whether the first bytes of a file are rows of two columns of numbers, or more."""
    if b"\0" in head or head.count(b"\n") < 2:
        return False
    lines = head.decode("latin-1").splitlines()[:-1]
    rows = _rows(lines)
    fields = [found for line in lines if (found := rows.fields(line))]
    return (
        bool(fields)
        and len({len(each) for each in fields}) == 1
        and all(rows.is_number(field) for each in fields for field in each)
    )


def bad_cell(path: Path, layout: Layout, number: int, fields: Sequence[str]) -> InputError:
    """Name the first cell of a row that cannot be read, or how many there are."""
    at, n_columns = f"{path}, line {number:,}", len(layout.kinds)
    if len(fields) != n_columns:
        return InputError(
            f"{at}: {' | '.join(fields)[:60]!r} has {len(fields)} "
            f"{'field' if len(fields) == 1 else 'fields'}, but the other rows have {n_columns}. "
            "Correct or remove the line."
        )
    wrong = (
        i
        for i, (field, kind) in enumerate(zip(fields, layout.kinds, strict=True))
        if not is_readable(field, kind, layout.rows)
    )
    i = next(wrong, 0)
    name = layout.names()[i]
    what = "a time" if layout.kinds[i] == "times" else "a number"
    return InputError(
        f"{at}, column {i + 1}{f' ({name})' if name else ''}: {fields[i][:60]!r} is not {what}. "
        "Correct or remove the line."
    )
