"""What became of runs: the record of each, and the folder that results are written to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from makellos.errors import StorageError
from makellos.reports.ranked import ComparedRun
from makellos.storage import locked

__all__ = ["Record", "ResultsFolder", "State", "day_of", "settings_text"]

State = Literal["waiting", "running", "done", "failed"]
Results = TypeVar("Results", bound=BaseModel)


class Record(BaseModel):
    """Hold what became of one run; report and log are relative to the folder of results.

    `fit` is what `fit --json` writes, `figures` are of what `evaluate --json` writes.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    detector: str
    preset: str = "balanced"
    state: State = "waiting"
    reason: str | None = None
    seconds: float = 0.0
    model: str | None = None
    report: str | None = None
    log: str | None = None
    fit: dict[str, Any] | None = None
    figures: dict[str, Any] | None = None

    def but(self, **changes: Any) -> Self:
        """Return the record with some entries changed."""
        return self.model_copy(update=changes)

    def figure(self, name: str) -> Any:
        """Return a figure of the evaluation, None where there is none."""
        return (self.figures or {}).get(name)

    @property
    def outcome(self) -> str:
        """Return what became of a run that ended, in a few words."""
        if self.state == "failed":
            return f"failed, {self.reason}"
        missed, found = self.figure("miss_rate"), self.figure("image_auroc")
        shown = "" if missed is None else f", missed {missed:.1%}"
        shown += "" if found is None else f", image AUROC {found:.3f}"
        return f"done in {self.seconds:.0f} s{shown}"

    def on_page(self, settings: str, data: str = "") -> ComparedRun:
        """Return the run as pages show it."""
        return ComparedRun(
            name=self.name,
            data=data,
            detector=self.detector,
            settings=settings,
            state=self.state,
            reason=self.reason,
            report=self.report if self.state == "done" else None,
            log=self.log,
            fit_seconds=self.figure("fit_seconds") or (self.fit or {}).get("fit_seconds"),
            figures=self.figures or {},
        )


def settings_text(preset: str, settings: Mapping[str, Any]) -> str:
    """Return what was asked of a detector beside its name; nothing for its defaults."""
    shown = [] if preset in ("", "balanced") else [preset]
    return ", ".join([*shown, *(f"{key}={value}" for key, value in settings.items())])


def day_of(stamp: str) -> str:
    """Return a moment as pages show it.

    >>> day_of("2026-01-02T03:04:05+00:00")
    '2 January 2026, 03:04 UTC'
    """
    moment = datetime.fromisoformat(stamp)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


@dataclass(frozen=True)
class ResultsFolder:
    """The folder that a queue or a comparison, which `who` says, writes its results to.

    `other` is how a user names another one.
    """

    path: Path
    who: str
    other: str

    def read(self, name: str, kind: type[Results]) -> Results | None:
        """Return what an earlier start wrote, None without one.

        Raises `StorageError` where the file is of another verb, or cannot be read.
        """
        path = self.path / name
        try:
            return kind.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
        except ValidationError:
            verb = kind.model_fields["made_by"].default
            raise StorageError(
                f"{path} was not written by this version of '{verb}', or is damaged; it is left "
                f"alone. Move it away, or choose {self.other}."
            ) from None

    @contextmanager
    def alone(self, tell: Callable[[str], None]) -> Iterator[BinaryIO]:
        """Keep others out of the folder; give the file that the processes of runs keep locked.

        What a killed start left at work is waited for. Raises `StorageError` where another is at
        work, or nothing can be written.
        """
        busy = f"Another {self.who} is running in {self.path}. Wait for it, or choose {self.other}."
        left = f"A run that a killed {self.who} left in {self.path} is still going; waiting for it."
        with (
            locked(self.path / ".lock", busy),
            locked(self.path / ".run.lock", left, wait=tell) as held,
        ):
            yield held
