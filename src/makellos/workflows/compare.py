"""Compare: detectors side by side on the same parts, each step a process of its own."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from makellos.data.array_sets import ArrayKeys, parse_keys
from makellos.data.given import several
from makellos.data.good_labels import GoodLabels, parse_good
from makellos.errors import ConfigurationError
from makellos.jobs.compare_files import RESULTS, write_results
from makellos.jobs.compare_plan import Asked, Entry, Plan, Settings, make_plan
from makellos.jobs.compare_results import Compared, CompareResults, Rows, add_differences
from makellos.jobs.processes import Execute, ProcessRunner, Runners
from makellos.jobs.records import ResultsFolder
from makellos.jobs.steps import LOG, Step, Work, cleared, left, stamp
from makellos.storage import scratch_folder
from makellos.workflows.compare_steps import PICTURES
from makellos.workflows.evaluate import FIGURES, REPORT

__all__ = ["STEPS_MODULE", "CompareResults", "compare"]

CompareStep: TypeAlias = Step[Entry, Compared]
STEPS_MODULE = "makellos.workflows.compare_steps"


def compare(
    data: Path | str,
    detectors: str | Iterable[str] = (),
    *,
    models: Path | str | Iterable[Path | str] = (),
    preset: str = "balanced",
    parameters: Settings | None = None,
    false_alarms: float = 0.01,
    seed: int = 0,
    against: str | None = None,
    n_good: Iterable[int] = (),
    draws: int = 3,
    good: GoodLabels = None,
    keys: ArrayKeys = None,
    output: Path | str | None = None,
    tell: Callable[[str], None] | None = None,
    execute: Execute | None = None,
    runners: Runners | None = None,
    clock: Callable[[], datetime] | None = None,
) -> CompareResults:
    """Fit detectors on the same parts of `data`, evaluate each on the same test parts, and compare.

    `detectors` are names, ``NAME:PRESET`` or model files, `models` further model files, which are
    used as they are; `parameters` maps a detector's name to its parameters. Every fit, evaluation
    and inspection is a process of its own. One that fails stops no other, and is reported with the
    reason. All others are compared with `against`, or with the one that misses the fewest; of equal
    ones, and of those that promise different budgets, with the one of the highest image AUROC.
    With `n_good`, each detector is fitted from so many good parts instead, drawn `draws` times for
    each number, and ``few_good`` of the result says what so many are worth and can promise.
    With `output`, that folder gets ``compare.html``, ``compare.csv``, ``compare.json``, the models
    and their reports; it is updated after each one. `tell` receives progress messages; `execute`
    runs a step with its arguments and a log file and returns its exit code; `runners` do so
    elsewhere, several at once, and need `output`, in a place that they all see. `good` and `keys`
    are those of `find_parts`. Raises `ConfigurationError` for names and values that are not
    accepted, `InputError` for data that cannot be used, `StorageError` if the output cannot be
    written.
    """
    asked = Asked(preset=preset, parameters=parameters or {}, false_alarms=false_alarms, seed=seed)
    asked = replace(asked, n_good=tuple(n_good), draws=draws)
    asked = replace(asked, good=parse_good(good), keys=parse_keys(keys))
    plan = make_plan(data, list(several(detectors)), list(several(models)), asked, against)
    said, now = tell or (lambda _: None), clock or (lambda: datetime.now(UTC))
    with ExitStack() as stack:
        held, folder = None, None if output is None else Path(output)
        if folder is not None:
            place = ResultsFolder(folder, "comparison", "another folder")
            place.read(RESULTS, CompareResults)  # before it is claimed: it may be another's
            _check_kept(plan, folder)
            held = stack.enter_context(place.alone(said))
        scratch = stack.enter_context(_scratch(folder, shared=runners is not None))
        steps = [_step(entry) for entry in plan.entries]
        results = _begun(plan, folder, steps, now())
        run = runners or Runners(execute or ProcessRunner(held, module=STEPS_MODULE))
        work = _Comparison(results.entries, run, said, now, plan, results, folder, scratch)
        work.carry_out(steps)
    return results


def _begun(
    plan: Plan, folder: Path | None, steps: Sequence[CompareStep], now: datetime
) -> CompareResults:
    return CompareResults(
        data=plan.data.stem if plan.data.is_file() else plan.data.resolve().name,
        output=None if folder is None else str(folder),
        updated=stamp(now),
        false_alarms=plan.asked.false_alarms,
        seed=plan.asked.seed,
        entries=[step.record for step in steps],
    )


@contextmanager
def _scratch(folder: Path | None, *, shared: bool) -> Iterator[Path]:
    """Give a folder for temporary files, in the output folder where others have to see it."""
    if not shared:
        with scratch_folder() as found:
            yield found
        return
    if folder is None:
        raise ConfigurationError(
            "With --cluster, a comparison needs a folder that all nodes see. Name it with -o."
        )
    with tempfile.TemporaryDirectory(prefix=".steps-", dir=folder) as made:
        yield Path(made)


def _step(entry: Entry) -> CompareStep:
    record = Compared(
        name=entry.name,
        detector=entry.detector,
        preset=entry.preset,
        parameters=dict(entry.parameters),
        given=entry.model is not None,
        n_good=entry.n_good,
        draw=entry.draw,
    )
    return Step(entry, "fit" if entry.model is None else "evaluate", record)


@dataclass(frozen=True)
class _Comparison(Work[Entry, Compared]):
    plan: Plan
    results: CompareResults
    output: Path | None
    scratch: Path
    found: dict[str, Rows] = field(default_factory=dict)

    def save(self) -> None:
        add_differences(self.results, self.found, against=self.plan.against)
        self.results.updated = stamp(self.now())
        if self.output is not None:
            write_results(self.results, self.found, self.output)

    def act(self, i: int, step: CompareStep) -> None:
        entry, kept = step.run, self.output is not None
        scratch = cleared(self.scratch / entry.folder)
        folder = cleared((self.output or self.scratch) / entry.folder, (LOG, FIGURES, REPORT))
        if kept:
            self.put(i, log=f"{entry.folder}/{LOG}")
        model = entry.model or _target(folder.parent, entry)
        task = {
            "data": os.fspath(self.plan.data.resolve()),
            "model": os.fspath(model.resolve()),
            "detector": entry.detector,
            "preset": entry.preset,
            "parameters": dict(entry.parameters),
            "false_alarms": self.plan.asked.false_alarms,
            "seed": self.plan.asked.seed + entry.draw,
            "n_good": entry.n_good,
            "good": list(self.plan.asked.good) or None,
            "keys": list(self.plan.asked.keys) or None,
            "output": os.fspath(folder.resolve()) if kept else None,
        }
        if entry.ranks_only:
            ranked = self._process("rank", task, folder, scratch)
            self.put(i, detector=ranked["detector"], figures=ranked)
            self.found[entry.name] = Rows([], scratch / PICTURES)
            return
        if entry.model is None:
            self.put(i, fit=self._process("fit", task, folder, scratch))
            self.say(i, "evaluate")
        evaluated = self._process("evaluate", task, folder, scratch)
        # What an inspection costs does not hang on the number of good parts.
        costs = entry.n_good is None
        inspection = self._process("inspect", task, folder, scratch) if costs else None
        self.put(
            i,
            detector=evaluated["figures"]["detector"],
            figures=evaluated["figures"],
            inspection=inspection,
            model_mb=round(model.stat().st_size / 1e6, 3),
            model=None if entry.model is None and not kept else str(model),
            report=f"{entry.folder}/{REPORT}" if kept else None,
        )
        self.found[entry.name] = Rows(evaluated["parts"], scratch / PICTURES)

    def _process(
        self, step: str, task: Mapping[str, Any], folder: Path, scratch: Path
    ) -> dict[str, Any]:
        """Run a step as a process and return its result; raise `StepError` where it fails."""
        target, order = scratch / f"{step}.json", scratch / f"{step}-task.json"
        named = {"step": step, "result": os.fspath(target), "started": time.time()}
        order.write_text(json.dumps({**task, **named}), encoding="utf-8")
        self.log_process(step, [os.fspath(order)], folder / LOG, f"{step} {task['model']}")
        return left(target)


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
