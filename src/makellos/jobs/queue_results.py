"""What became of a queue: the records of its runs, as results.json and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from makellos.jobs.queue_plan import PAGE, RESULTS
from makellos.jobs.records import Record, ResultsFolder, State, day_of, settings_text
from makellos.reports.pages import write_page
from makellos.reports.queue import QueueReport, render_queue
from makellos.storage import write_text

__all__ = ["QueueResults", "RunRecord", "read_records", "write_results"]

_ADVICE = "Make room there, then run the same command to continue."


class RunRecord(Record):
    """Hold what became of one run, as `results.json` has it.

    `digest` names the entry that the files in the run's folder are of; `resumable` says that a
    training broken off there may go on.
    """

    line: int
    data: str
    settings: dict[str, str] = Field(default_factory=dict)
    false_alarms: float | None = None
    seed: int = 0
    device: str = "auto"
    started: str | None = None
    digest: str = ""
    resumable: bool = False


class QueueResults(BaseModel):
    """Hold what became of a queue; `others` are runs that its file no longer lists."""

    made_by: Literal["makellos queue"] = "makellos queue"
    format_version: Literal[1] = 1
    file: str
    output: str
    updated: str
    runs: list[RunRecord]
    others: list[RunRecord] = []

    def count(self, state: State) -> int:
        """Return how many runs are in a state."""
        return sum(record.state == state for record in self.runs)


def read_records(folder: ResultsFolder) -> list[RunRecord]:
    """Return the records of an earlier start, none without one; raises `StorageError`."""
    found = folder.read(RESULTS, QueueResults)
    return [] if found is None else [*found.runs, *found.others]


def write_results(results: QueueResults, output: Path) -> None:
    """Write results and page to the output folder, each as a whole; raises `StorageError`."""
    write_text(output / RESULTS, results.model_dump_json(indent=1) + "\n", _ADVICE)
    page = QueueReport(
        title=results.output,
        file=results.file,
        created=day_of(results.updated),
        runs=[
            (record if record.started else record.but(log=None)).on_page(
                _settings_text(record), record.data
            )
            for record in results.runs
        ],
    )
    write_page(output / PAGE, render_queue(page), _ADVICE)


def _settings_text(record: RunRecord) -> str:
    shown = settings_text(record.preset, record.settings)
    return ", ".join(filter(None, [shown, f"seed {record.seed}" if record.seed else ""]))
