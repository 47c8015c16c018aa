"""Queue: many fits one after another, each a process of its own; what failed costs only itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from makellos.jobs.processes import Execute, ProcessRunner, alone_in, failure
from makellos.jobs.queue_plan import Job, Plan, QueuedRun, read_plan
from makellos.jobs.queue_results import QueueResults, RunRecord, read_records, write_results
from makellos.training import run_folder
from makellos.workflows.evaluate import FIGURES, REPORT

__all__ = ["QueueResults", "RunRecord", "Step", "plan_queue", "queue"]

Todo = Literal["fit", "resume", "evaluate", "nothing", "correct"]
LOG, FITTED = "log.txt", "fit.json"
_CHECKPOINT = "last.safetensors"
_FIGURES = (
    *("n_good", "n_defective", "image_auroc", "image_ap", "f1_max", "pixel_auroc", "aupro"),
    *("aupro_5", "seg_f1"),
    *("miss_rate", "false_alarm_rate", "look_again_rate", "accuracy", "balanced_accuracy"),
    *("macro_f1", "threshold", "false_alarms", "false_alarms_asked", "inspect_ms_per_part"),
    *("intervals", "notes"),
)


@dataclass(frozen=True)
class Step:
    """Hold what a start of the queue does about a run: `todo` of an earlier `record`."""

    run: QueuedRun
    todo: Todo
    record: RunRecord


def plan_queue(file: Path | str, *, keep_going: bool = False) -> tuple[Plan, list[Step]]:
    """Return what `queue` would do, and do nothing; raises as `queue` does before it starts."""
    plan = read_plan(file, keep_going=keep_going)
    return plan, _steps(plan, read_records(plan.output))


def queue(
    file: Path | str,
    *,
    keep_going: bool = False,
    tell: Callable[[str], None] | None = None,
    execute: Execute | None = None,
    clock: Callable[[], datetime] | None = None,
) -> QueueResults:
    """Carry out the runs of a YAML file one after another, and return what became of them.

    The file is checked whole before the first run; with `keep_going` runs with mistakes of their
    own are recorded as failed and the others start. What an earlier start finished is left as it
    is, what failed is tried again, a training that was broken off goes on. ``results.json`` and
    ``queue.html`` in the output folder are written after every run. `tell` gets sentences on the
    way; `execute` runs ``makellos`` with arguments and a log file and returns its exit code.

    Raises `ConfigurationError` that names every mistake of the file, `InputError` where it cannot
    be read, `StorageError` where results cannot be written or another queue is at work there.
    """
    said, now = tell or (lambda _: None), clock or (lambda: datetime.now(UTC))
    plan = read_plan(file, keep_going=keep_going)
    read_records(plan.output)  # before the folder is claimed: it may be another's
    with alone_in(plan.output, said) as held:
        before = read_records(plan.output)
        steps = _steps(plan, before)
        names = {step.run.name.casefold() for step in steps}
        results = QueueResults(
            file=plan.file.name,
            output=plan.output.name,
            updated=_stamp(now()),
            runs=[_at_start(step) for step in steps],
            others=[record for record in before if record.name.casefold() not in names],
        )
        work = _Work(plan, results, execute or ProcessRunner(held), said, now)
        work.save()
        for i, step in enumerate(steps):
            work.carry_out(i, step)
    return results


class _Work:
    """Carry out steps and keep the results."""

    def __init__(
        self,
        plan: Plan,
        results: QueueResults,
        execute: Execute,
        tell: Callable[[str], None],
        now: Callable[[], datetime],
    ) -> None:
        self.plan, self.results, self.execute = plan, results, execute
        self.tell, self.now = tell, now

    def carry_out(self, i: int, step: Step) -> None:
        run, label = step.run, f"[{i + 1}/{len(self.results.runs)}] {step.run.name}"
        if run.job is None:
            self.tell(f"{label}: left out, {self.results.runs[i].reason}")
            return
        if step.todo == "nothing":
            self.tell(f"{label}: done before")
            return
        self.tell(f"{label}: {_DOING[step.todo]}")
        started = self.now()
        try:
            self._run(i, run, run.job, step.todo)
        except KeyboardInterrupt:
            self._put(i, state="waiting", **self._spent(i, started))
            self.save()
            raise
        except _RunError as error:
            resumable = error.code < 0 or "go on with --resume" in error.reason
            changes = {"state": "failed", "reason": error.reason, "resumable": resumable}
        else:
            changes = {"state": "done", "reason": None, "resumable": False}
        self._put(i, **changes, **self._spent(i, started))
        self.save()
        self.tell(f"{label}: {_outcome(self.results.runs[i])}")

    def save(self) -> None:
        """Write results and page, each as a whole."""
        self.results.updated = _stamp(self.now())
        write_results(self.results, self.plan.output)

    def _run(self, i: int, run: QueuedRun, job: Job, todo: Todo) -> None:
        folder = self.plan.output / run.name
        model = folder / f"{run.name}.makellos"
        try:
            folder.mkdir(exist_ok=True)
            # What lies here from another entry must not pass for this one's.
            stale = (FIGURES, REPORT) if todo == "evaluate" else (FITTED, FIGURES, REPORT)
            for name in stale:
                (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise _RunError(f"{folder} cannot be used: {error.strerror}.") from error
        stamp = _stamp(self.now())
        changes = {"state": "running", "reason": None, "figures": None, "report": None}
        self._put(i, **changes, started=stamp, digest=job.digest, resumable=True)
        self.save()
        if todo != "evaluate":
            arguments = _fit_arguments(run, job, model)
            self._fit(arguments, folder, resume=todo == "resume")
        fitted = _read_json(folder / FITTED)
        self._put(i, fit=fitted, model=f"{run.name}/{model.name}")
        if job.evaluate:
            figures = folder / FIGURES
            arguments = ["evaluate", str(model), str(job.data)]
            self._start([*arguments, "-o", str(folder), "--json", str(figures)], folder)
            found = _read_json(figures)
            kept = {name: found[name] for name in _FIGURES if name in found}
            self._put(i, figures=kept, report=f"{run.name}/{REPORT}")

    def _fit(self, arguments: Sequence[str], folder: Path, *, resume: bool) -> None:
        if resume:
            try:
                self._start([*arguments, "--resume"], folder)
            except _RunError as error:
                # The checkpoint cannot be used any more: other pictures, another version.
                if "without --resume" not in error.reason:
                    raise
                self.tell(f"  {error.reason}\n  The fit begins anew.")
            else:
                return
        self._start(arguments, folder)

    def _start(self, arguments: Sequence[str], folder: Path) -> None:
        """Run a verb; raise what it says when it fails."""
        log = folder / LOG
        words = " ".join(f'"{word}"' if " " in word else word for word in arguments)
        try:
            with log.open("a", encoding="utf-8") as stream:
                stream.write(f"# {_stamp(self.now())}\n$ makellos {words}\n")
            begin = log.stat().st_size
            code = self.execute(arguments, log)
            with log.open("rb") as written:
                written.seek(begin)
                told = written.read().decode("utf-8", "replace")
        except OSError as error:
            raise _RunError(f"{folder} cannot be used: {error.strerror}.") from error
        if code != 0:
            raise _RunError(f"{arguments[0]}: {failure(code, told)}", code)

    def _put(self, i: int, **changes: Any) -> None:
        self.results.runs[i] = self.results.runs[i].but(**changes)

    def _spent(self, i: int, started: datetime) -> dict[str, float]:
        seconds = (self.now() - started).total_seconds()
        return {"seconds": round(self.results.runs[i].seconds + seconds, 2)}


_DOING: dict[Todo, str] = {
    "fit": "fit",
    "resume": "fit, going on where it was broken off",
    "evaluate": "evaluate, the model is there",
}


class _RunError(Exception):
    """Say why a run failed."""

    def __init__(self, reason: str, code: int = 1) -> None:
        super().__init__(reason)
        self.reason, self.code = reason, code


def _steps(plan: Plan, before: Sequence[RunRecord]) -> list[Step]:
    known = {record.name.casefold(): record for record in before}
    steps = []
    for run in plan.runs:
        earlier = known.get(run.name.casefold())
        fresh = _fresh(run)
        if earlier is not None:
            fresh = fresh.but(digest=earlier.digest, resumable=earlier.resumable)
        todo = _todo(plan.output, run, earlier)
        if earlier is not None and todo in ("nothing", "evaluate", "resume"):
            kept = {"started", "seconds", "model", "report", "log", "fit", "figures"}
            fresh = fresh.but(**earlier.model_dump(include=kept))
        steps.append(Step(run, todo, fresh))
    return steps


def _fresh(run: QueuedRun) -> RunRecord:
    common: dict[str, Any] = {
        "name": run.name,
        "line": run.line,
        "data": run.data,
        "detector": run.detector,
    }
    if run.job is None:
        return RunRecord(**common)
    return RunRecord(
        **common,
        preset=run.job.preset,
        settings=dict(run.job.settings),
        false_alarms=run.job.false_alarms,
        seed=run.job.seed,
        device=run.job.device,
        log=f"{run.name}/{LOG}",
    )


def _todo(output: Path, run: QueuedRun, earlier: RunRecord | None) -> Todo:
    job, folder = run.job, output / run.name
    if job is None:
        return "correct"
    if earlier is None or earlier.digest != job.digest:
        return "fit"
    model = folder / f"{run.name}.makellos"
    if model.is_file():
        if earlier.state == "done" and (earlier.figures is not None or not job.evaluate):
            return "nothing"
        if (folder / FITTED).is_file():
            return "evaluate"
    if job.trains and earlier.resumable and any(run_folder(model).rglob(_CHECKPOINT)):
        return "resume"
    return "fit"


def _at_start(step: Step) -> RunRecord:
    if step.todo == "correct":
        reason = "; ".join(str(mistake) for mistake in step.run.mistakes)
        return step.record.but(state="failed", reason=reason)
    return step.record.but(state="done" if step.todo == "nothing" else "waiting")


def _fit_arguments(run: QueuedRun, job: Job, model: Path) -> list[str]:
    arguments = ["fit", str(job.data), "-o", str(model), "--detector", run.detector]
    arguments += ["--preset", job.preset, "--false-alarms", repr(job.false_alarms)]
    arguments += ["--seed", str(job.seed), "--device", job.device]
    if job.config is not None:
        arguments += ["--config", str(job.config)]
    for key, value in job.settings.items():
        arguments += ["--set", f"{key}={value}"]
    if job.white_level is not None:
        arguments += ["--white-level", str(job.white_level)]
    if job.skip_unreadable:
        arguments.append("--skip-unreadable")
    return [*arguments, "--json", str(model.parent / FITTED)]


def _outcome(record: RunRecord) -> str:
    if record.state == "failed":
        return f"failed, {record.reason}"
    found = (record.figures or {}).get("image_auroc")
    shown = "" if found is None else f", image AUROC {found:.3f}"
    return f"done in {record.seconds:.0f} s{shown}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _RunError(f"{path.name} is missing or damaged: {error}") from error
    return found if isinstance(found, dict) else {}


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
