"""Compare: detectors side by side on the same parts, each step a process of its own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from makellos.errors import ConfigurationError
from makellos.jobs.compare_files import check_output, write_results
from makellos.jobs.compare_plan import Entry, Plan, Settings, make_plan
from makellos.jobs.compare_results import Compared, CompareResults, Rows, add_differences
from makellos.jobs.compare_steps import PICTURES
from makellos.jobs.processes import Execute, ProcessRunner, failure
from makellos.storage import locked, storage_errors
from makellos.workflows.evaluate import FIGURES, REPORT

__all__ = ["CompareResults", "compare"]

LOG, LOCK = "log.txt", ".compare.lock"
_STEPS_MODULE = "makellos.jobs.compare_steps"


def compare(
    data: Path | str,
    detectors: Sequence[str] = (),
    *,
    models: Sequence[Path | str] = (),
    preset: str = "balanced",
    parameters: Settings | None = None,
    false_alarms: float = 0.01,
    seed: int = 0,
    against: str | None = None,
    output: Path | str | None = None,
    tell: Callable[[str], None] | None = None,
    execute: Execute | None = None,
    clock: Callable[[], datetime] | None = None,
) -> CompareResults:
    """Fit detectors on the same parts of `data`, evaluate each on the same test parts, and compare.

    `detectors` are names, ``NAME:PRESET`` or model files, `models` further model files, which are
    taken as they are; `parameters` maps a detector's name to its parameters. Every fit, evaluation
    and inspection is a process of its own. What fails costs itself alone, and says why. Differences
    are taken from `against`, or from the one with the highest image AUROC. With `output` that
    folder gets ``compare.html``, ``compare.csv``, ``compare.json``, the models and their reports;
    it is written anew after each one. `tell` gets sentences on the way; `execute` runs a step with
    its arguments and a log file and returns its exit code.

    Raises `ConfigurationError` for names and values that are not accepted, `InputError` for data
    that cannot be used, `StorageError` where the output cannot be written or another works there.
    """
    plan = make_plan(
        data,
        detectors,
        models=models,
        preset=preset,
        parameters=parameters,
        false_alarms=false_alarms,
        seed=seed,
        against=against,
    )
    said, now = tell or (lambda _: None), clock or (lambda: datetime.now(UTC))
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="makellos-")))
        folder = None if output is None else check_output(Path(output))
        if folder is not None:
            _check_kept(plan, folder)
            busy = f"Another comparison works in {folder}. Wait for it, or name another folder."
            stack.enter_context(locked(folder / LOCK, busy))
        work = _Work(plan, folder, scratch, execute or ProcessRunner(module=_STEPS_MODULE), said)
        return work.carry_out(now)


@dataclass(frozen=True)
class _Work:
    """Carry a comparison out."""

    plan: Plan
    output: Path | None
    scratch: Path
    execute: Execute
    tell: Callable[[str], None]

    def carry_out(self, now: Callable[[], datetime]) -> CompareResults:
        plan, entries = self.plan, self.plan.entries
        results = CompareResults(
            data=plan.data.stem if plan.data.is_file() else plan.data.resolve().name,
            output=None if self.output is None else str(self.output),
            updated=now().isoformat(timespec="seconds"),
            false_alarms=plan.false_alarms,
            seed=plan.seed,
            entries=[_at_start(entry) for entry in entries],
        )
        found: dict[str, Rows] = {}
        for i, entry in enumerate(entries):
            label = f"[{i + 1}/{len(entries)}] {entry.name}"
            results.entries[i], rows = self._one(entry, results.entries[i], label)
            if rows is not None:
                found[entry.name] = rows
            add_differences(results, found, against=plan.against)
            results.updated = now().isoformat(timespec="seconds")
            if self.output is not None:
                write_results(results, found, self.output)
            self.tell(f"{label}: {_outcome(results.entries[i])}")
        return results

    def _one(self, entry: Entry, record: Compared, label: str) -> tuple[Compared, Rows | None]:
        """Carry out the steps of one; return what became of it and how it judged each part."""
        scratch = self.scratch / entry.folder
        folder = scratch if self.output is None else self.output / entry.folder
        with storage_errors(f"{folder} cannot be used", "Name another folder."):
            for made in (scratch, folder):
                made.mkdir(parents=True, exist_ok=True)
            for stale in (LOG, FIGURES, REPORT):
                (folder / stale).unlink(missing_ok=True)
        started = time.perf_counter()
        try:
            changes, rows = self._steps(entry, folder, scratch, label)
        except _StepError as error:
            changes, rows = {"state": "failed", "reason": str(error)}, None
        if self.output is not None:
            changes["log"] = f"{entry.folder}/{LOG}"
        seconds = round(time.perf_counter() - started, 2)
        return record.model_copy(update={**changes, "seconds": seconds}), rows

    def _steps(
        self, entry: Entry, folder: Path, scratch: Path, label: str
    ) -> tuple[dict[str, Any], Rows]:
        plan, model, fitted = self.plan, entry.model, None
        shown = self.output is not None
        common = {"data": os.fspath(plan.data.resolve()), "seed": plan.seed}
        if model is None:
            model = _target(folder.parent, entry)
            asked = {
                "detector": entry.detector,
                "preset": entry.preset,
                "parameters": dict(entry.parameters),
                "false_alarms": plan.false_alarms,
            }
            self.tell(f"{label}: fit")
            fitted = self._step("fit", {**common, **asked}, model, folder, scratch)
        self.tell(f"{label}: evaluate")
        output = {"output": os.fspath(folder.resolve()) if shown else None}
        evaluated = self._step("evaluate", {**common, **output}, model, folder, scratch)
        inspected = self._step("inspect", common, model, folder, scratch)
        changes = {
            "state": "done",
            "detector": evaluated["figures"]["detector"],
            "fit": fitted,
            "figures": evaluated["figures"],
            "inspection": inspected,
            "model_mb": round(model.stat().st_size / 1e6, 3),
            "model": None if entry.model is None and not shown else str(model),
            "report": f"{entry.folder}/{REPORT}" if shown else None,
        }
        return changes, Rows(evaluated["parts"], scratch / PICTURES if shown else None)

    def _step(
        self, step: str, task: Mapping[str, Any], model: Path, folder: Path, scratch: Path
    ) -> dict[str, Any]:
        """Run one step as a process and return its result; raise what it says when it fails."""
        target, order = scratch / f"{step}.json", scratch / f"{step}-task.json"
        named = {"model": os.fspath(model.resolve()), "result": os.fspath(target)}
        order.write_text(
            json.dumps({**task, **named, "step": step, "started": time.time()}), encoding="utf-8"
        )
        log = folder / LOG
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"# {step} {model.name}\n")
        begin = log.stat().st_size
        code = self.execute([os.fspath(order)], log)
        told = log.read_bytes()[begin:].decode("utf-8", "replace")
        if code != 0:
            raise _StepError(f"{step}: {failure(code, told)}")
        try:
            found: dict[str, Any] = json.loads(target.read_bytes())
        except (OSError, ValueError) as error:
            raise _StepError(f"{step}: it left no result ({error}).") from error
        return found


def _target(output: Path, entry: Entry) -> Path:
    """Return where the model of a detector that is fitted is written."""
    return output / entry.folder / f"{entry.folder}.makellos"


def _check_kept(plan: Plan, output: Path) -> None:
    """Raise `ConfigurationError` where a fit would write over a model that is compared."""
    targets = {_target(output, each).resolve(): each for each in plan.entries if not each.model}
    for entry in plan.entries:
        if entry.model is not None and entry.model.resolve() in targets:
            raise ConfigurationError(
                f"The model {entry.model} would be replaced by the fit of "
                f"{targets[entry.model.resolve()].name}. Choose another folder with -o."
            )


class _StepError(Exception):
    """Say why a step failed."""


def _at_start(entry: Entry) -> Compared:
    return Compared(
        name=entry.name,
        detector=entry.detector,
        preset=entry.preset,
        parameters=dict(entry.parameters),
        given=entry.model is not None,
    )


def _outcome(record: Compared) -> str:
    if record.state == "failed":
        return f"failed, {record.reason}"
    found = (record.figures or {}).get("image_auroc")
    shown = "" if found is None else f", image AUROC {found:.3f}"
    return f"done in {record.seconds:.0f} s{shown}"
