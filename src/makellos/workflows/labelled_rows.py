"""Rows of parts whose true label is known, as `evaluate` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from makellos.data.parts import Part
from makellos.errors import ConfigurationError
from makellos.evaluation.classes import class_of
from makellos.inspection import Inspector
from makellos.subjects import WINDOW, Gathered, Subject
from makellos.workflows.rows import (
    PROBABILITIES,
    Writer,
    check_row_files,
    columns_of,
    csv_writer,
    parquet_writer,
)

__all__ = ["RowFiles", "labelled_columns", "labelled_row"]

TRUTH = ("label", "defect")  # what was known of a part that was tested
CLASS_COLUMNS = ("true_class", "predicted_class")


@dataclass(frozen=True, kw_only=True)
class RowFiles:
    """Say where rows of labelled parts go; None for those not wanted. ``-`` is standard output.

    `windows` gets a row for each window of a recording, as CSV.
    """

    csv: Path | None = None
    parquet: Path | None = None
    windows: Path | None = None

    def check(self, subject: Subject) -> None:
        """Raise where a file cannot be written, or windows are asked for of pictures."""
        if self.windows is not None and not subject.has_windows:
            raise ConfigurationError(
                f"--windows is for recordings; these parts are {subject.kind.name}. Leave it out."
            )
        text = f"input,{','.join(TRUTH)}"
        begins = (text.encode(), b"PAR1", text.encode())
        files = (self.csv, self.parquet, self.windows)
        check_row_files(list(zip(files, begins, strict=True)), self.parquet, "evaluate")

    def write(self, gathered: Gathered, inspector: Inspector, subject: Subject) -> None:
        """Write what was gathered of files and windows, each with its true label."""
        classes = inspector.manifest.classes
        columns = labelled_columns(columns_of(inspector, subject), classes)
        writers: list[tuple[AbstractContextManager[Writer], Any]] = []
        if self.csv is not None:
            writers.append((csv_writer(self.csv, columns), gathered.rows))
        if self.parquet is not None:
            writers.append((parquet_writer(self.parquet, columns), gathered.rows))
        if self.windows is not None:
            columns = labelled_columns(WINDOW, ())
            writers.append((csv_writer(self.windows, columns), gathered.windows))
        for writer, rows in writers:
            with writer as write:
                for part, row in rows or ():
                    write(labelled_row(part, row, classes))


def labelled_columns(columns: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of rows of labelled parts: the truth after the name."""
    return (columns[0], *TRUTH, *(CLASS_COLUMNS if classes else ()), *columns[1:])


def labelled_row(part: Part, row: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return the row of a part with what was known of it, and its classes for a classifier.

    The predicted class is the likeliest, whatever the threshold.
    """
    known: dict[str, Any] = {"label": part.label, "defect": "" if part.is_good else part.label}
    if classes:
        shares = row.get(PROBABILITIES) or {}
        known["true_class"] = class_of(part.label, classes)
        # Of equal ones the later, as in the figures.
        known["predicted_class"] = max(reversed(classes), key=shares.__getitem__) if shares else ""
        known[PROBABILITIES] = shares
    return {**row, **known}
