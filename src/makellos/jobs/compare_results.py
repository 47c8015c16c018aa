"""What a comparison found: records, paired differences and notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from makellos.evaluation import PairedDifferences, Resampling, paired_differences
from makellos.jobs.records import Record, State
from makellos.reports.comparison import difference_sentence
from makellos.reports.ranked import measure_of, place_by

__all__ = [
    "CompareResults",
    "Compared",
    "FewGood",
    "PairedDifference",
    "Rows",
    "Spread",
    "add_differences",
]

_FEW_GROUPS = 10


class Compared(Record):
    """Hold what became of one; `given` says that it came as a model file and was not fitted.

    `fit` and `inspection` hold the peak memory of their processes as ``peak_mb``, None where it is
    unknown. `n_good` good parts were drawn for the fit, for the `draw`-th time from 0; None where
    all were learned from.
    """

    n_good: int | None = None
    draw: int = 0
    preset: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    given: bool = False
    model_mb: float | None = None
    inspection: dict[str, Any] | None = None


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


class Spread(BaseModel):
    """Hold the mean, the lowest and the highest of a figure over draws."""

    mean: float
    lowest: float
    highest: float


class FewGood(BaseModel):
    """Hold what a detector is worth that learned from `n_good` good parts, over `n_draws` draws.

    `false_alarms` is the budget that so many can promise, the largest of the draws; None where they
    are too few to be calibrated, and promise nothing. Figures are None there but AUROC, and where
    the test parts lack a class.
    """

    detector: str
    n_good: int
    n_draws: int
    false_alarms: float | None
    miss_rate: Spread | None
    false_alarm_rate: Spread | None
    image_auroc: Spread | None


class CompareResults(BaseModel):
    """Hold what a comparison found; `against` is the one that differences are taken from.

    `few_good` says what fits from few good parts are worth, where these were asked for; there are
    no differences then, since each number of parts promises another budget.
    """

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
    few_good: list[FewGood] = []
    notes: list[str] = []

    def count(self, state: State) -> int:
        """Return how many are in a state."""
        return sum(entry.state == state for entry in self.entries)


@dataclass(frozen=True)
class Rows:
    """Hold how each test part was judged, and the file of thumbnails in the same order."""

    parts: Sequence[Mapping[str, Any]]
    pictures: Path

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
    results.differences, results.notes, results.few_good = [], [], _few_good(done)
    if not done or results.few_good:
        return  # of few parts each fit has notes of its own: how many, and what they can promise
    results.notes = _notes(done)
    names = [entry.name for entry in done]
    measure = measure_of(entry.figures or {} for entry in done)
    best = min(done, key=lambda entry: place_by(measure, entry.figures or {})).name
    results.against = against if against in names else best
    results.differences = [
        _difference(name, results.against, found, results.seed)
        for name in names
        if name != results.against
    ]
    if results.differences:
        results.notes += _few_groups(found[results.against])


def _few_good(done: Sequence[Compared]) -> list[FewGood]:
    """Return what draws of each number of good parts have in common."""
    groups: dict[tuple[str, int], list[Compared]] = {}
    for entry in done:
        if entry.n_good is not None:
            groups.setdefault((entry.name.partition(",")[0], entry.n_good), []).append(entry)
    return [
        FewGood(
            detector=detector,
            n_good=n_good,
            n_draws=len(entries),
            false_alarms=max(budgets) if (budgets := _known(entries, "false_alarms")) else None,
            miss_rate=_spread(entries, "miss_rate"),
            false_alarm_rate=_spread(entries, "false_alarm_rate"),
            image_auroc=_spread(entries, "image_auroc"),
        )
        for (detector, n_good), entries in groups.items()
    ]


def _known(entries: Sequence[Compared], key: str) -> list[float]:
    return [float(value) for entry in entries if (value := entry.figure(key)) is not None]


def _spread(entries: Sequence[Compared], key: str) -> Spread | None:
    values = _known(entries, key)
    if not values:
        return None
    return Spread(mean=round(fmean(values), 4), lowest=min(values), highest=max(values))


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
        f"{len(damaged) - n_damaged} without): intervals from fewer than {_FEW_GROUPS} groups of "
        "one kind are too narrow. Test parts from more groups."
    ]


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
        Resampling(np.random.default_rng(seed), groups=groups),
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
            f"The false-alarm budgets differ ({each}), so misses and false alarms are not "
            "comparable; image AUROC, which does not depend on the budget, ranks them."
        )
    return notes
