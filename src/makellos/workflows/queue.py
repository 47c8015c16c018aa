"""Queue: many fits one after another, each a process of its own; what failed costs only itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from makellos.jobs.processes import INTERRUPTED, Execute, ProcessRunner, Runners
from makellos.jobs.queue_plan import Job, Plan, QueuedRun, read_plan
from makellos.jobs.queue_results import QueueResults, RunRecord, read_records, write_results
from makellos.jobs.queue_steps import FITTED, QueueStep, fit_arguments, model_of, queue_steps
from makellos.jobs.steps import LOG, StepError, Work, cleared, left, stamp
from makellos.workflows.evaluate import FIGURES, REPORT

__all__ = ["QueueResults", "RunRecord", "plan_queue", "queue"]

_FIGURES = (
    *("n_good", "n_defective", "image_auroc", "image_ap", "f1_max", "pixel_auroc", "aupro"),
    *("aupro_5", "seg_f1"),
    *("miss_rate", "false_alarm_rate", "look_again_rate", "accuracy", "balanced_accuracy"),
    *("macro_f1", "threshold", "false_alarms", "false_alarms_asked", "inspect_ms_per_part"),
    *("intervals", "notes"),
)


def plan_queue(file: Path | str, *, keep_going: bool = False) -> tuple[Plan, list[QueueStep]]:
    """Return what `queue` would do, and do nothing; raises as `queue` does before it starts."""
    plan = read_plan(file, keep_going=keep_going)
    return plan, queue_steps(plan, read_records(plan.folder))


def queue(
    file: Path | str,
    *,
    keep_going: bool = False,
    tell: Callable[[str], None] | None = None,
    execute: Execute | None = None,
    runners: Runners | None = None,
    clock: Callable[[], datetime] | None = None,
) -> QueueResults:
    """Run the fits listed in a YAML file one after another, and return what became of them.

    The whole file is checked before the first run; with `keep_going`, runs whose entries have
    mistakes are recorded as failed and the others start. What an earlier start finished is left as
    it is, what failed is tried again, and an interrupted training is continued. ``results.json``
    and ``queue.html`` in the output folder are written after every run. `tell` receives progress
    messages; `execute` runs ``makellos`` with arguments and a log file and returns its exit code,
    and `runners` do so elsewhere, several at once, where all files have to be seen.

    Raises `ConfigurationError` that names every mistake of the file, `InputError` if it cannot be
    read, `StorageError` if results cannot be written or another queue is running there.
    """
    said, now = tell or (lambda _: None), clock or (lambda: datetime.now(UTC))
    plan = read_plan(file, keep_going=keep_going)
    read_records(plan.folder)  # before the folder is claimed: it may be another's
    with plan.folder.alone(said) as held:
        before = read_records(plan.folder)
        steps = queue_steps(plan, before)
        names = {step.run.name.casefold() for step in steps}
        results = QueueResults(
            file=plan.file.name,
            output=plan.output.name,
            updated=stamp(now()),
            runs=[step.record for step in steps],
            others=[record for record in before if record.name.casefold() not in names],
        )
        running = runners or Runners(execute or ProcessRunner(held))
        work = _Queue(results.runs, running, said, now, plan, results)
        work.save()
        work.carry_out(steps)
    return results


@dataclass(frozen=True)
class _Queue(Work[QueuedRun, RunRecord]):
    plan: Plan
    results: QueueResults

    def save(self) -> None:
        self.results.updated = stamp(self.now())
        write_results(self.results, self.plan.output)

    def act(self, i: int, step: QueueStep) -> None:
        if step.run.job is None:
            return  # its entry has mistakes
        try:
            self._run(i, step, step.run.job)
        except StepError as error:
            broken_off = error.code < 0 or error.code == INTERRUPTED
            self.put(i, resumable=broken_off or "continue with --resume" in str(error))
            raise
        self.put(i, resumable=False)

    def _run(self, i: int, step: QueueStep, job: Job) -> None:
        model, name = model_of(self.plan.output, step.run), step.run.name
        # What lies here from another entry must not pass for this one's.
        stale = (FIGURES, REPORT) if step.todo == "evaluate" else (FITTED, FIGURES, REPORT)
        folder = cleared(model.parent, stale)
        changes = {"state": "running", "reason": None, "figures": None, "report": None}
        self.put(i, **changes, started=stamp(self.now()), digest=job.digest, resumable=True)
        self.keep()
        if step.todo != "evaluate":
            self._fit(fit_arguments(step.run, job, model), folder, resume=step.todo == "resume")
        self.put(i, fit=left(folder / FITTED), model=f"{name}/{model.name}")
        if job.evaluate:
            arguments = ["evaluate", str(model), str(job.data), "-o", str(folder)]
            self._verb([*arguments, "--json", str(folder / FIGURES)], folder)
            found = left(folder / FIGURES)
            kept = {key: found[key] for key in _FIGURES if key in found}
            self.put(i, figures=kept, report=f"{name}/{REPORT}")

    def _fit(self, arguments: Sequence[str], folder: Path, *, resume: bool) -> None:
        if resume:
            try:
                self._verb([*arguments, "--resume"], folder)
            except StepError as error:
                # The checkpoint cannot be used any more: other pictures, another version.
                if "without --resume" not in str(error):
                    raise
                self.tell(f"  {error}\n  The fit starts over.")
            else:
                return
        self._verb(arguments, folder)

    def _verb(self, arguments: Sequence[str], folder: Path) -> None:
        words = " ".join(f'"{word}"' if " " in word else word for word in arguments)
        self.log_process(arguments[0], arguments, folder / LOG, f"$ makellos {words}")
