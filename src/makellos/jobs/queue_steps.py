"""The steps of a queue: what a start has to do about each run, from what earlier ones left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from makellos.jobs.queue_plan import Job, Plan, QueuedRun
from makellos.jobs.queue_results import RunRecord
from makellos.jobs.steps import LOG, Step, Todo
from makellos.training import run_folder

__all__ = ["FITTED", "QueueStep", "fit_arguments", "model_of", "queue_steps"]

QueueStep: TypeAlias = Step[QueuedRun, RunRecord]
FITTED = "fit.json"
_CHECKPOINT = "last.safetensors"
_KEPT = {"started", "seconds", "model", "report", "log", "fit", "figures"}


def queue_steps(plan: Plan, before: Sequence[RunRecord]) -> list[QueueStep]:
    """Return what there is to do, in the order of the plan, given the records of earlier starts."""
    known = {record.name.casefold(): record for record in before}
    steps = []
    for run in plan.runs:
        earlier = known.get(run.name.casefold())
        todo, record = _todo(plan.output, run, earlier), _fresh(run)
        if earlier is not None:
            record = record.but(digest=earlier.digest, resumable=earlier.resumable)
            if todo in ("nothing", "evaluate", "resume"):
                record = record.but(**earlier.model_dump(include=_KEPT))
        if todo == "nothing":
            record = record.but(state="done")
        steps.append(Step(run, todo, record))
    return steps


def model_of(output: Path, run: QueuedRun) -> Path:
    """Return where the model of a run is."""
    return output / run.name / f"{run.name}.makellos"


def _fresh(run: QueuedRun) -> RunRecord:
    """Return the record of a run that nothing has been done about."""
    record = RunRecord(name=run.name, line=run.line, data=run.data, detector=run.detector)
    if run.job is None:
        reason = "; ".join(str(mistake) for mistake in run.mistakes)
        return record.but(state="failed", reason=reason)
    return record.but(
        preset=run.job.preset,
        settings=dict(run.job.settings),
        false_alarms=run.job.false_alarms,
        seed=run.job.seed,
        device=run.job.device,
        log=f"{run.name}/{LOG}",
    )


def _todo(output: Path, run: QueuedRun, earlier: RunRecord | None) -> Todo:
    job, model = run.job, model_of(output, run)
    if job is None:
        return "correct"
    if earlier is None or earlier.digest != job.digest:
        return "fit"
    if model.is_file():
        if earlier.state == "done" and (earlier.figures is not None or not job.evaluate):
            return "nothing"
        if model.with_name(FITTED).is_file():
            return "evaluate"
    if job.trains and earlier.resumable and any(run_folder(model).rglob(_CHECKPOINT)):
        return "resume"
    return "fit"


def fit_arguments(run: QueuedRun, job: Job, model: Path) -> list[str]:
    """Return the arguments of `makellos` that fit the model of a run."""
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
    return [*arguments, "--json", str(model.with_name(FITTED))]
