"""The files of a comparison: page, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from makellos.jobs.compare_results import Compared, CompareResults, Rows
from makellos.jobs.records import day_of, settings_text
from makellos.reports.comparison import (
    ComparedDetector,
    ComparisonReport,
    Disputed,
    Judged,
    render_comparison,
)
from makellos.reports.pages import write_page
from makellos.storage import cell, write_text

__all__ = ["CSV", "PAGE", "RESULTS", "write_results"]

PAGE, CSV, RESULTS = "compare.html", "compare.csv", "compare.json"
_MAX_DISPUTED = 24
_ENDS = ("", "_low", "_high")  # of a difference: its value and its interval


def write_results(results: CompareResults, found: Mapping[str, Rows], folder: Path) -> None:
    """Write page, CSV and JSON to the folder, each as a whole; raises `StorageError`."""
    write_text(folder / RESULTS, results.model_dump_json(indent=1) + "\n")
    write_text(folder / CSV, csv_text(results))
    write_page(folder / PAGE, render_comparison(_page(results, found)))


def csv_text(results: CompareResults) -> str:
    """Return one line per detector: figures, intervals, costs, and what failed."""
    figures = [
        *("miss_rate", "image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro", "aupro_5"),
        *("seg_f1", "pixel_f1_max", "false_alarm_rate", "false_alarms", "fit_seconds"),
    ]
    differences = {each.name: each for each in results.differences}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ["name", "detector", "preset", "state", *figures, "image_auroc_low", "image_auroc_high"]
    head += ["inspect_ms_per_part", "fit_peak_mb", "inspect_peak_mb", "first_verdict_seconds"]
    head += [
        "model_mb",
        *(f"{name}_difference{end}" for name in ("miss", "auroc") for end in _ENDS),
    ]
    writer.writerow([*head, "reason"])
    for entry in results.entries:
        span = (entry.figure("intervals") or {}).get("image_auroc") or (None, None)
        inspection = entry.inspection or {}
        paired = differences.get(entry.name)
        writer.writerow(
            [
                *map(cell, (entry.name, entry.detector, entry.preset, entry.state)),
                *(entry.figure(name) for name in figures),
                *span,
                entry.figure("inspect_ms_per_part"),
                (entry.fit or {}).get("peak_mb"),
                inspection.get("peak_mb"),
                inspection.get("first_verdict_seconds"),
                entry.model_mb,
                *_change(paired.miss_rate if paired else None),
                *_change(paired.image_auroc if paired else None),
                cell(entry.reason),
            ]
        )
    return stream.getvalue()


def _change(found: Mapping[str, Any] | None) -> Sequence[float | None]:
    return [None] * len(_ENDS) if found is None else [found["value"], *found["interval"]]


def _page(results: CompareResults, found: Mapping[str, Rows]) -> ComparisonReport:
    return ComparisonReport(
        title=results.data,
        created=day_of(results.updated),
        against=results.against,
        detectors=[_detector(entry) for entry in results.entries],
        differences=[each.model_dump() for each in results.differences],
        disputed=[] if results.few_good else _disputed(found),
        few_good=[each.model_dump() for each in results.few_good],
        notes=results.notes,
    )


def _detector(entry: Compared) -> ComparedDetector:
    asked = settings_text(entry.preset, entry.parameters)
    inspection = entry.inspection or {}
    return ComparedDetector(
        run=entry.on_page("given as a model file" if entry.given else asked),
        fit_peak_mb=(entry.fit or {}).get("peak_mb"),
        inspect_peak_mb=inspection.get("peak_mb"),
        first_verdict_seconds=inspection.get("first_verdict_seconds"),
        loads_torch=inspection.get("loads_torch"),
        model_mb=entry.model_mb,
    )


def _disputed(found: Mapping[str, Rows]) -> list[Disputed]:
    """Return defective parts that some reject and others do not, with what each saw."""
    if len(found) < 2:
        return []
    places = {name: rows.by_part() for name, rows in found.items()}
    first, *others = places.values()
    turn: Counter[str] = Counter()
    split = []
    for key in (key for key in first if all(key in other for other in others)):
        rows = {name: each.parts[places[name][key]] for name, each in found.items()}
        label = next(iter(rows.values()))["label"]
        n_found = sum(row["verdict"] == "reject" for row in rows.values())
        if label != "good" and 0 < n_found < len(rows):
            split.append((turn[label], key, label, rows))
            turn[label] += 1
    # One of each kind of damage first, so that a common kind does not fill the page.
    split.sort(key=lambda item: item[0])
    with ExitStack() as stack:
        opened = {n: stack.enter_context(np.load(rows.pictures)) for n, rows in found.items()}

        def picture(name: str, kind: str, key: tuple[str, int]) -> bytes:
            return bytes(opened[name][f"{kind}{places[name][key]}"])

        return [
            Disputed(
                input=key[0],
                label=label,
                picture=picture(next(iter(found)), "part", key),
                judged=[
                    Judged(name, row["verdict"], row["score"], picture(name, "overlay", key))
                    for name, row in rows.items()
                ],
                n_all=len(split),
            )
            for _, key, label, rows in split[:_MAX_DISPUTED]
        ]
