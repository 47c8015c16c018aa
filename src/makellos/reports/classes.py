"""The classes of an evaluation report: who was taken for what, and how far confidence holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from makellos.drawing.scales import Scale
from makellos.reports.formats import count, finite, interval_of, rounded, whole
from makellos.reports.frames import ACROSS, UP, Frame, share_frame

__all__ = ["Cell", "ClassRow", "ClassSection", "MatrixRow", "Reliability", "class_section"]

RIGHT, OTHER_DEFECT, WRONG = "right", "again", "wrong"
FEW = 10  # parts of a bin: too few for its height to say much
NARROW = 5  # more classes have column heads that stand upright
STACKED = 8  # more need the whole width for the matrix


@dataclass(frozen=True)
class Cell:
    """Hold one field of the matrix; `share` is that of the row, `outcome` its colour.

    The outcome is `right` for the class itself, `again` for another defect and `wrong` for a good
    part named a defect or a defect named good.
    """

    column: str
    n: int
    share: float
    outcome: str


@dataclass(frozen=True)
class MatrixRow:
    """Hold the parts of one true class by the class they were named."""

    name: str
    n: int
    cells: tuple[Cell, ...]
    known: bool


@dataclass(frozen=True)
class ClassRow:
    """Hold one class with its figures, None where undefined."""

    name: str
    n: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class BinBar:
    """Hold one bar of the reliability diagram and the number of parts above it."""

    x: float
    y: float
    width: float
    height: float
    text: str
    few: bool
    title: str


@dataclass(frozen=True)
class Reliability:
    """Hold the reliability diagram: share named rightly over confidence, in SVG user units."""

    frame: Frame
    bars: tuple[BinBar, ...]
    diagonal: tuple[float, float, float, float]


@dataclass(frozen=True)
class ClassSection:
    """Hold all that the report shows of the classes.

    `rows` is the matrix with the columns `names`, `table` the figures by class, `average` their
    means. `sentences` say how far the confidence holds.
    """

    names: tuple[str, ...]
    rows: tuple[MatrixRow, ...]
    upright: bool
    stacked: bool
    lead: str
    unknown: int
    table: tuple[ClassRow, ...]
    average: ClassRow
    reliability: Reliability | None
    sentences: tuple[str, ...]


class _Filled(NamedTuple):
    """Hold a bin that has parts; the rest are shares."""

    n: int
    low: float
    high: float
    confidence: float
    accuracy: float


def class_section(figures: Mapping[str, Any]) -> ClassSection | None:
    """Return the section of the classes, or None for figures without a confusion matrix.

    The figures are those of `ClassFigures` as plain data; any but the matrix and the names of its
    rows and columns may be missing.
    """
    matrix = figures.get("confusion_matrix")
    names = tuple(str(name) for name in figures.get("classes") or ())
    if not matrix or not names or any(len(row) != len(names) for row in matrix):
        return None
    given = [str(name) for name in figures.get("matrix_rows") or ()]
    titles = given if len(given) == len(matrix) else [*names][: len(matrix)]
    rows = tuple(
        _matrix_row(title, i, row, names)
        for i, (title, row) in enumerate(zip(titles, matrix, strict=False))
    )
    bins = figures.get("reliability") or ()
    return ClassSection(
        names=names,
        rows=rows,
        upright=len(names) > NARROW,
        stacked=len(names) > STACKED,
        lead=_lead(rows),
        unknown=sum(row.n for row in rows if not row.known),
        table=_table(figures, names),
        average=ClassRow(
            "All classes",
            sum(row.n for row in rows if row.known),
            None,
            finite(figures.get("balanced_accuracy_of_classes")),
            finite(figures.get("macro_f1")),
        ),
        reliability=_reliability(_filled(bins), len(names)),
        sentences=_sentences(figures, _filled(bins)),
    )


def _matrix_row(title: str, index: int, row: Sequence[Any], names: Sequence[str]) -> MatrixRow:
    counts = [whole(n) or 0 for n in row]
    total = sum(counts)
    cells = tuple(
        Cell(name, n, n / total if total else 0.0, _outcome(index, column))
        for column, (name, n) in enumerate(zip(names, counts, strict=True))
    )
    return MatrixRow(title, total, cells, known=index < len(names))


def _outcome(row: int, column: int) -> str:
    if row == column:
        return RIGHT
    return WRONG if 0 in {row, column} else OTHER_DEFECT


def _lead(rows: Sequence[MatrixRow]) -> str:
    """Say how many parts were named rightly, and what was confused most."""
    cells = [(row, cell) for row in rows if row.known for cell in row.cells]
    total = sum(cell.n for _, cell in cells)
    right = sum(cell.n for _, cell in cells if cell.outcome == RIGHT)
    confused = [(row, cell) for row, cell in cells if cell.outcome != RIGHT and cell.n]
    if not total:
        return "No part of a class that the classifier knows was tested."
    if not confused:
        return f"All {count(total)} parts were named correctly."
    row, cell = max(confused, key=lambda pair: (pair[1].n, pair[1].share))
    return (
        f"{count(right)} of {count(total)} parts were named correctly. Most often confused: "
        f"{row.name} taken for {cell.column}, {count(cell.n)} of {count(row.n)}."
    )


def _table(figures: Mapping[str, Any], names: Sequence[str]) -> tuple[ClassRow, ...]:
    found = figures.get("per_class") or {}
    return tuple(
        ClassRow(
            name,
            whole(found[name].get("n")) or 0,
            finite(found[name].get("precision")),
            finite(found[name].get("recall")),
            finite(found[name].get("f1")),
        )
        for name in names
        if name in found
    )


def _filled(bins: Sequence[Mapping[str, Any]]) -> list[_Filled]:
    """Return the bins that hold parts."""
    found = []
    for entry in bins:
        n = whole(entry.get("n")) or 0
        values = [finite(entry.get(key)) for key in ("low", "high", "confidence", "accuracy")]
        given = [value for value in values if value is not None]
        if n and len(given) == len(values):
            found.append(_Filled(n, *given))
    return found


def _sentences(figures: Mapping[str, Any], filled: Sequence[_Filled]) -> tuple[str, ...]:
    """Say in words what the calibration error measures, from the bins at hand."""
    total = sum(one.n for one in filled)
    if not total:
        return (
            "No part of a known class was tested, so nothing can be said about the confidence.",
        )
    most = max(filled, key=lambda one: one.n)
    confidence = sum(one.n * one.confidence for one in filled) / total
    accuracy = sum(one.n * one.accuracy for one in filled) / total
    sentences = [
        f"When it says about {rounded(most.confidence)}, it is right {rounded(most.accuracy)} of "
        f"the time ({count(most.n * most.accuracy)} of {count(most.n)} parts).",
        f"Over all parts it says {rounded(confidence)} on average and is right "
        f"{rounded(accuracy)} of the time.",
    ]
    error = finite(figures.get("ece"))
    if error is not None:
        sentences.append(
            f"Bar by bar, what it says and how often it is right differ by {_points(error)} on "
            "average: the expected calibration error (ECE)."
        )
        sentences.append(_judgement(figures, too_sure=confidence > accuracy))
    return tuple(filter(None, sentences))


def _judgement(figures: Mapping[str, Any], *, too_sure: bool) -> str:
    """Say what chance alone would show and, with an interval, whether the error is more."""
    by_chance = finite(figures.get("ece_by_chance"))
    interval = interval_of(figures, "ece")
    verdict = ""
    if interval is not None and interval[0] > 0:
        side = "too sure" if too_sure else "not sure enough"
        verdict = f"That is more than chance would explain: overall it is {side}."
    elif interval is not None:
        verdict = "The difference may be chance: its confidence may be right."
    if by_chance is None:
        return verdict
    expected = f"Chance alone would show about {_points(by_chance)} with this many parts."
    return f"{expected} {verdict}".rstrip()


def _points(share: float) -> str:
    text = f"{100 * share:.1f}"
    return f"{text} percentage {'point' if text == '1.0' else 'points'}"


def _reliability(filled: Sequence[_Filled], n_classes: int) -> Reliability | None:
    """Return the diagram, or None without parts.

    Its axis starts where bins can hold parts: the likeliest of K classes has at least 1 / K.
    """
    if not filled:
        return None
    step = min(one.high - one.low for one in filled)
    start = min(math.floor(1 / n_classes / step) * step, *(one.low for one in filled), 1 - step)
    across, up = Scale((start, 1.0), ACROSS), Scale((0.0, 1.0), UP)
    bars = tuple(
        BinBar(
            x=across.at(one.low) + 1,
            y=up.at(one.accuracy),
            width=across.at(one.high) - across.at(one.low) - 2,
            height=up.at(0.0) - up.at(one.accuracy),
            text=_short(one.n),
            few=one.n < FEW,
            title=_bar_title(one),
        )
        for one in filled
    )
    diagonal = (across.at(start), up.at(start), across.at(1.0), up.at(1.0))
    return Reliability(share_frame(across.ticks(7)), bars, diagonal)


def _bar_title(one: _Filled) -> str:
    parts = "1 part" if one.n == 1 else f"{count(one.n)} parts"
    return f"{parts}: says {rounded(one.confidence)}, right {rounded(one.accuracy)} of the time"


def _short(n: int) -> str:
    """Return a count that fits over a narrow bar."""
    return str(n) if n < 1000 else f"{n / 1000:.0f}k"
