"""The record of an acceptance: what was judged by what, what it showed, and what it did not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from makellos.evaluation.acceptance import AcceptanceFigures, Promise
from makellos.evaluation.intervals import Interval
from makellos.evaluation.result import UnreadablePart

__all__ = [
    "About",
    "AcceptanceRecord",
    "EarlierModel",
    "History",
    "JudgedModel",
    "KnownParts",
    "Machine",
    "Reservation",
    "TestSet",
    "Verified",
]

About = Literal[
    "known parts", "history", "promise", "budget", "sample", "truth", "unreadable", "parity"
]


@dataclass(frozen=True)
class JudgedModel:
    """Hold which model was judged.

    `identity` is the SHA-256 of what decides its verdicts, whatever its file is called and when it
    was written; `versions` are those of the libraries that it was fitted with.
    """

    file: str
    identity: str
    fitted: str
    detector: str
    parameters: dict[str, str]
    learned_from: str
    calibrated_on: str
    promise: str
    threshold: float
    versions: dict[str, str]


@dataclass(frozen=True)
class TestSet:
    """Hold which parts it was judged on.

    `fingerprint` is the SHA-256 of contents and labels, whatever files are called and in which
    order they come. `n_groups` is None where no groups are named.
    """

    __test__ = False  # no test of pytest

    name: str
    layout: str
    unit: Literal["parts", "recordings"]
    fingerprint: str
    n_parts: int
    n_good: int
    n_defective: int
    n_groups: int | None


@dataclass(frozen=True)
class EarlierModel:
    """Hold that another model was judged on `n_shared` of these parts, first and last when."""

    file: str
    identity: str
    first: str
    last: str
    n_shared: int


@dataclass(frozen=True)
class History:
    """Hold what the ledger says of these parts: models judged on them before.

    `n_times_before` is how often this very model was judged on this very set before.
    """

    ledger: str
    n_times_before: int
    others: tuple[EarlierModel, ...]


@dataclass(frozen=True)
class KnownParts:
    """Name tested parts that the model learned from, and those that set its threshold."""

    learned: tuple[str, ...]
    calibrated: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """Hold what the parts were judged with: runtime and precision, system, libraries."""

    engine: str
    system: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Verified:
    """Hold when and where ``makellos verify`` last compared the runtimes, and what it found.

    `n_golden` golden parts and `n_parts` others went through each; `not_run` says why some were
    left out, `failed` why some cannot compute the model. `released` tells that no verdict differed,
    and that none failed.
    """

    at: str
    machine: str
    released: bool
    n_golden: int
    n_parts: int
    not_run: dict[str, str]
    failed: dict[str, str]


@dataclass(frozen=True)
class Reservation:
    """Hold one thing that speaks against relying upon the figures, in words."""

    about: About
    text: str


@dataclass(frozen=True, kw_only=True)
class AcceptanceRecord:
    """Hold an acceptance; `dataclasses.asdict` is the JSON of ``makellos accept --json``.

    `created` is the time in UTC, after ISO 8601. `promise` is None without good parts. `parity` has
    what the model keeps of its golden parts on each runtime, `verified` when that was last looked
    at, None where it was at its release alone. `not_tested` says in sentences what
    the parts cannot show, `reservations` what speaks against the figures.
    """

    format: Literal["makellos acceptance"] = "makellos acceptance"
    format_version: Literal[1] = 1
    created: str
    model: JudgedModel
    data: TestSet
    history: History
    known: KnownParts
    figures: AcceptanceFigures
    promise: Promise | None
    image_auroc: float | None
    image_auroc_interval: Interval | None
    parity: dict[str, dict[str, float]]
    verified: Verified | None
    machine: Machine
    not_tested: tuple[str, ...]
    reservations: tuple[Reservation, ...]
    notes: tuple[str, ...]
    unreadable: tuple[UnreadablePart, ...]
