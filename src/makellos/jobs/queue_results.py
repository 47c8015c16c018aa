"""What became of a queue: the records of its runs, as results.json and as a page."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from makellos.errors import StorageError
from makellos.jobs.queue_plan import PAGE, RESULTS
from makellos.reports.queue import ComparedRun, QueueReport, write_queue
from makellos.storage import write_text

__all__ = ["QueueResults", "RunRecord", "State", "read_records", "write_results"]

State = Literal["waiting", "running", "done", "failed"]


class RunRecord(BaseModel):
    """Hold what became of one run, as `results.json` has it.

    `digest` names the entry that the files in the run's folder are of; `resumable` says that a
    training broken off there may go on. Paths are relative to the output folder.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    line: int
    data: str
    detector: str
    preset: str = "balanced"
    settings: dict[str, str] = {}
    false_alarms: float | None = None
    seed: int = 0
    device: str = "auto"
    state: State = "waiting"
    reason: str | None = None
    started: str | None = None
    seconds: float = 0.0
    model: str | None = None
    report: str | None = None
    log: str | None = None
    fit: dict[str, Any] | None = None
    figures: dict[str, Any] | None = None
    digest: str = ""
    resumable: bool = False

    def but(self, **changes: Any) -> RunRecord:
        """Return the record with some entries changed."""
        return self.model_copy(update=changes)


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


def read_records(output: Path) -> list[RunRecord]:
    """Return the records of an earlier start; none without one.

    Raises `StorageError` where the file is not of a queue, or cannot be read.
    """
    path = output / RESULTS
    try:
        found = QueueResults.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    except ValidationError:
        raise StorageError(
            f"{path} is not of this version of 'makellos queue', or damaged; it is left alone. "
            "Move it away, or name another 'output'."
        ) from None
    return [*found.runs, *found.others]


def write_results(results: QueueResults, output: Path) -> None:
    """Write results and page to the output folder, each as a whole.

    Raises `StorageError` where that is not possible.
    """
    advice = "Make room there; the same command goes on with what is not done."
    write_text(output / RESULTS, results.model_dump_json(indent=1) + "\n", advice)
    write_queue(_page(results), output / PAGE)


def _page(results: QueueResults) -> QueueReport:
    moment = datetime.fromisoformat(results.updated)
    return QueueReport(
        title=results.output,
        file=results.file,
        created=f"{moment.day} {moment:%B %Y, %H:%M} UTC",
        runs=[
            ComparedRun(
                name=record.name,
                data=record.data,
                detector=record.detector,
                settings=_settings_text(record),
                state=record.state,
                reason=record.reason,
                report=record.report,
                log=record.log if record.started else None,
                fit_seconds=(record.fit or {}).get("fit_seconds"),
                figures=record.figures or {},
            )
            for record in results.runs
        ],
    )


def _settings_text(record: RunRecord) -> str:
    shown = [] if record.preset == "balanced" else [record.preset]
    shown += [f"{key}={value}" for key, value in record.settings.items()]
    return ", ".join([*shown, *([f"seed {record.seed}"] if record.seed else [])])
