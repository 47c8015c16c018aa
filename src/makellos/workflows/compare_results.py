"""What a comparison found: records, paired differences, and the files that it writes."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from makellos.errors import StorageError
from makellos.evaluation import PairedDifferences, paired_differences
from makellos.reports.comparison import (
    ComparedDetector,
    ComparisonReport,
    Disputed,
    Judged,
    difference_sentence,
    render_comparison,
)
from makellos.reports.queue import ComparedRun, write_page

__all__ = [
    "CSV",
    "PAGE",
    "RESULTS",
    "CompareResults",
    "Compared",
    "PairedDifference",
    "Rows",
    "add_differences",
    "check_output",
    "write_results",
]

PAGE, CSV, RESULTS = "compare.html", "compare.csv", "compare.json"
_MAX_DISPUTED = 24
_FEW_GROUPS = 10


class Compared(BaseModel):
    """Hold what became of one; `given` says that it came as a model file and was not fitted.

    `fit` is what `fit --json` writes and `figures` what `evaluate --json` writes; `fit` and
    `inspection` hold the peak memory of their processes as ``peak_mb``, None where it is unknown.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    detector: str
    preset: str = ""
    parameters: dict[str, Any] = {}
    given: bool = False
    state: Literal["waiting", "done", "failed"] = "waiting"
    reason: str | None = None
    seconds: float = 0.0
    model: str | None = None
    model_mb: float | None = None
    report: str | None = None
    log: str | None = None
    fit: dict[str, Any] | None = None
    figures: dict[str, Any] | None = None
    inspection: dict[str, Any] | None = None

    def figure(self, name: str) -> Any:
        """Return a figure of the evaluation, None where there is none."""
        return (self.figures or {}).get(name)


class PairedDifference(BaseModel):
    """Hold by how much one differs from another on the parts that both could judge.

    A difference has ``value``, ``interval`` (95 %) and ``within_chance``; None where a class is
    missing. `n_groups` is None where parts belong to no groups.
    """

    name: str
    against: str
    n_good: int
    n_defective: int
    n_groups: int | None
    image_auroc: dict[str, Any] | None
    miss_rate: dict[str, Any] | None
    false_alarm_rate: dict[str, Any] | None
    n_found_alone: int
    n_missed_alone: int
    sentence: str


class CompareResults(BaseModel):
    """Hold what a comparison found; `against` is the one that differences are taken from."""

    made_by: Literal["makellos compare"] = "makellos compare"
    format_version: Literal[1] = 1
    data: str
    output: str | None
    updated: str
    false_alarms: float
    seed: int
    entries: list[Compared]
    against: str | None = None
    differences: list[PairedDifference] = []
    notes: list[str] = []

    def count(self, state: str) -> int:
        """Return how many are in a state."""
        return sum(entry.state == state for entry in self.entries)


@dataclass(frozen=True)
class Rows:
    """Hold how each test part was judged, and the file of thumbnails in the same order."""

    parts: Sequence[Mapping[str, Any]]
    pictures: Path | None

    def by_part(self) -> dict[tuple[str, int], int]:
        """Return the place of each part that got a score, by name and how often it came before."""
        seen: Counter[str] = Counter()
        found = {}
        for place, row in enumerate(self.parts):
            if row["score"] is not None:
                found[row["input"], seen[row["input"]]] = place
            seen[row["input"]] += 1
        return found


def add_differences(
    results: CompareResults, found: Mapping[str, Rows], *, against: str | None
) -> None:
    """Put paired differences, the one that they are taken from, and notes into the results."""
    done = [entry for entry in results.entries if entry.name in found]
    results.differences, results.notes = [], _notes(done)
    if not done:
        return
    names = [entry.name for entry in done]
    best = max(done, key=lambda entry: _or_lowest(entry.figure("image_auroc"))).name
    results.against = against if against in names else best
    results.differences = [
        _difference(name, results.against, found, results.seed)
        for name in names
        if name != results.against
    ]
    if results.differences:
        results.notes += _few_groups(found[results.against])


def _few_groups(rows: Rows) -> list[str]:
    """Say when parts of one kind come from so few groups that resampling them says little."""
    if all(row["group"] is None for row in rows.parts):
        return []
    damaged: dict[str | int, bool] = {}
    for place, row in enumerate(rows.parts):
        group = place if row["group"] is None else row["group"]  # a part without is by itself
        damaged[group] = damaged.get(group, False) or row["label"] != "good"
    n_damaged = sum(damaged.values())
    if min(n_damaged, len(damaged) - n_damaged) >= _FEW_GROUPS:
        return []
    return [
        f"The test parts belong to few groups ({n_damaged} with damage, "
        f"{len(damaged) - n_damaged} without): intervals drawn from fewer than {_FEW_GROUPS} of "
        "one kind are too narrow. Test parts of more groups."
    ]


def _or_lowest(value: float | None) -> float:
    return -math.inf if value is None else value


def _difference(name: str, against: str, found: Mapping[str, Rows], seed: int) -> PairedDifference:
    ours, theirs = found[name].by_part(), found[against].by_part()
    common = [key for key in ours if key in theirs]
    rows = [found[name].parts[ours[key]] for key in common]
    others = [found[against].parts[theirs[key]] for key in common]
    groups = [row["group"] for row in rows]
    defective = np.array([row["label"] != "good" for row in rows], dtype=np.bool_)
    paired = paired_differences(
        [row["score"] for row in rows],
        [row["verdict"] == "reject" for row in rows],
        [row["score"] for row in others],
        [row["verdict"] == "reject" for row in others],
        defective,
        rng=np.random.default_rng(seed),
        groups=groups,
    )
    grouped = any(group is not None for group in groups)
    alone = sum(group is None for group in groups)
    n_groups = len({group for group in groups if group is not None}) + alone if grouped else None
    n_defective = int(defective.sum())
    return PairedDifference(
        name=name,
        against=against,
        n_good=len(rows) - n_defective,
        n_defective=n_defective,
        n_groups=n_groups,
        **_as_data(paired),
        sentence=difference_sentence(name, against, paired, n_defective),
    )


def _as_data(paired: PairedDifferences) -> dict[str, Any]:
    data = asdict(paired)
    for key in ("image_auroc", "miss_rate", "false_alarm_rate"):
        found = getattr(paired, key)
        if found is not None:
            data[key]["within_chance"] = found.within_chance
    return data


def _notes(done: Sequence[Compared]) -> list[str]:
    """Say what the evaluations noted, and when not all models promise the same."""
    told: dict[str, list[str]] = {}
    for entry in done:
        for note in [*(entry.figure("notes") or ()), *(entry.fit or {}).get("notes", ())]:
            told.setdefault(note, []).append(entry.name)
    notes = [
        note if len(names) == len(done) else f"{', '.join(names)}: {note}"
        for note, names in told.items()
    ]
    budgets = {entry.figure("false_alarms") for entry in done}
    if len(budgets) > 1:
        each = ", ".join(f"{entry.name} {entry.figure('false_alarms'):.3g}" for entry in done)
        notes.append(
            f"The false-alarm budgets differ ({each}), and with them misses and false alarms. "
            "Image AUROC does not depend on the budget."
        )
    return notes


def check_output(folder: Path) -> Path:
    """Return the folder; raise `StorageError` where it cannot be written or is of another verb."""
    path = folder / RESULTS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        CompareResults.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return folder
    except ValidationError:
        raise StorageError(
            f"{path} is not of this version of 'makellos compare', or damaged; it is left alone. "
            "Move it away, or name another folder."
        ) from None
    except OSError as error:
        raise StorageError(
            f"Nothing can be written to {folder}: {error.strerror}. Name another folder."
        ) from error
    return folder


def write_results(results: CompareResults, found: Mapping[str, Rows], folder: Path) -> None:
    """Write page, CSV and JSON to the folder, each as a whole; raises `StorageError`."""
    _write(folder / RESULTS, results.model_dump_json(indent=1) + "\n")
    _write(folder / CSV, csv_text(results))
    write_page(render_comparison(_page(results, found)), folder / PAGE)


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


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="")
        partial.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}. Make room there."
        ) from error


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
