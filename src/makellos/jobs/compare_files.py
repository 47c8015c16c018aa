"""The files of a comparison: page, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from makellos.errors import StorageError
from makellos.jobs.compare_results import Compared, CompareResults, Rows
from makellos.reports.comparison import (
    ComparedDetector,
    ComparisonReport,
    Disputed,
    Judged,
    render_comparison,
)
from makellos.reports.queue import ComparedRun
from makellos.storage import storage_errors, write_text

__all__ = ["CSV", "PAGE", "RESULTS", "check_output", "write_results"]

PAGE, CSV, RESULTS = "compare.html", "compare.csv", "compare.json"
_MAX_DISPUTED = 24


def check_output(folder: Path) -> Path:
    """Return the folder; raise `StorageError` where its results are of another verb."""
    path = folder / RESULTS
    try:
        with storage_errors(f"{path} cannot be read", "Name another folder."):
            if path.exists():
                CompareResults.model_validate_json(path.read_bytes())
    except ValidationError:
        raise StorageError(
            f"{path} is not of this version of 'makellos compare', or damaged; it is left alone. "
            "Move it away, or name another folder."
        ) from None
    return folder


def write_results(results: CompareResults, found: Mapping[str, Rows], folder: Path) -> None:
    """Write page, CSV and JSON to the folder, each as a whole; raises `StorageError`."""
    write_text(folder / RESULTS, results.model_dump_json(indent=1) + "\n")
    write_text(folder / CSV, csv_text(results))
    write_text(folder / PAGE, render_comparison(_page(results, found)))


def csv_text(results: CompareResults) -> str:
    """Return one line per detector: figures, intervals, costs, and what failed."""
    figures = [
        *("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro", "aupro_5", "seg_f1"),
        *("pixel_f1_max", "miss_rate", "false_alarm_rate", "fit_seconds"),
    ]
    differences = {each.name: each for each in results.differences}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ["name", "detector", "preset", "state", *figures, "image_auroc_low", "image_auroc_high"]
    head += ["inspect_ms_per_part", "fit_peak_mb", "inspect_peak_mb", "first_verdict_seconds"]
    head += ["model_mb", "auroc_difference", "auroc_difference_low", "auroc_difference_high"]
    writer.writerow([*head, "reason"])
    for entry in results.entries:
        span = (entry.figure("intervals") or {}).get("image_auroc") or (None, None)
        inspection = entry.inspection or {}
        paired = differences.get(entry.name)
        change = (paired.image_auroc if paired else None) or {"value": None, "interval": [None] * 2}
        writer.writerow(
            [
                *(entry.name, entry.detector, entry.preset, entry.state),
                *(entry.figure(name) for name in figures),
                *span,
                entry.figure("inspect_ms_per_part"),
                (entry.fit or {}).get("peak_mb"),
                inspection.get("peak_mb"),
                inspection.get("first_verdict_seconds"),
                entry.model_mb,
                change["value"],
                *change["interval"],
                entry.reason,
            ]
        )
    return stream.getvalue()


def _page(results: CompareResults, found: Mapping[str, Rows]) -> ComparisonReport:
    moment = datetime.fromisoformat(results.updated)
    return ComparisonReport(
        title=results.data,
        created=f"{moment.day} {moment:%B %Y, %H:%M} UTC",
        against=results.against,
        detectors=[_detector(entry) for entry in results.entries],
        differences=[each.model_dump() for each in results.differences],
        disputed=_disputed(found),
        notes=results.notes,
    )


def _detector(entry: Compared) -> ComparedDetector:
    shown = [] if entry.preset in ("", "balanced") else [entry.preset]
    shown += [f"{key}={value}" for key, value in entry.parameters.items()]
    run = ComparedRun(
        name=entry.name,
        data="",
        detector=entry.detector,
        settings="given as a model file" if entry.given else ", ".join(shown),
        state=entry.state,
        reason=entry.reason,
        report=entry.report if entry.state == "done" else None,
        log=entry.log,
        fit_seconds=entry.figure("fit_seconds"),
        figures=entry.figures or {},
    )
    inspection = entry.inspection or {}
    return ComparedDetector(
        run=run,
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
    common = [key for key in first if all(key in other for other in others)]
    split = []
    for key in common:
        rows = {name: found[name].parts[places[name][key]] for name in found}
        n_found = sum(row["verdict"] == "reject" for row in rows.values())
        if next(iter(rows.values()))["label"] != "good" and 0 < n_found < len(rows):
            split.append((key, rows))
    # One of each kind of damage first, so that a common kind does not fill the page.
    turn: Counter[str] = Counter()
    ranked = []
    for key, rows in split:
        label = next(iter(rows.values()))["label"]
        ranked.append((turn[label], key, rows))
        turn[label] += 1
    ranked.sort(key=lambda item: item[0])
    return _with_pictures(found, places, [item[1:] for item in ranked[:_MAX_DISPUTED]], len(split))


def _with_pictures(
    found: Mapping[str, Rows],
    places: Mapping[str, Mapping[tuple[str, int], int]],
    chosen: Sequence[tuple[tuple[str, int], Mapping[str, Any]]],
    n_all: int,
) -> list[Disputed]:
    opened = {
        name: np.load(rows.pictures, allow_pickle=False)
        for name, rows in found.items()
        if rows.pictures is not None
    }
    try:

        def picture(name: str, kind: str, key: tuple[str, int]) -> bytes:
            return opened[name][f"{kind}{places[name][key]}"].tobytes() if name in opened else b""

        return [
            Disputed(
                input=key[0],
                label=next(iter(rows.values()))["label"],
                picture=picture(next(iter(found)), "part", key),
                judged=[
                    Judged(name, row["verdict"], row["score"], picture(name, "overlay", key))
                    for name, row in rows.items()
                ],
                n_all=n_all,
            )
            for key, rows in chosen
        ]
    finally:
        for archive in opened.values():
            archive.close()
