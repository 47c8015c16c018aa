"""The verb that carries out many fits: queue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from makellos.cli.clustering import ClusterAddress, runners_of
from makellos.cli.console import (
    Json,
    answer,
    failures_text,
    figure_text,
    say,
    shown_table,
    table,
    telling,
)

if TYPE_CHECKING:
    from makellos.jobs.queue_results import RunRecord
    from makellos.jobs.queue_steps import QueueStep

EXIT_FAILED = 1
_TODO = {
    "fit": "fit",
    "resume": "fit, continuing where it stopped",
    "evaluate": "evaluate; the model exists",
    "nothing": "nothing; already done",
    "correct": "nothing; its entry has mistakes",
}


def queue(
    runs: Annotated[
        Path, typer.Argument(metavar="RUNS.yaml", help="YAML file that lists the runs.")
    ],
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="Record runs whose entries have mistakes as failed, and run the others.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file, show what would be done, and stop.")
    ] = False,
    cluster: ClusterAddress = None,
    json: Json = None,
) -> None:
    """Run many fits one after another, overnight, and compare them.

    The whole file is checked before the first run. A run that fails is recorded with the reason,
    and the others continue; starting again does what is left. Exits with 0 when all are done, 1
    when some failed, 2 when the file has mistakes.

    With --cluster, runs are fitted in parallel on its nodes. All nodes must see the data and the
    models under the same paths.

    Example: makellos queue runs.yaml --keep-going
    """
    quietly = str(json) == "-"
    if dry_run:
        _show_plan(runs, json, keep_going=keep_going)
        return
    from makellos.jobs.queue_plan import PAGE
    from makellos.workflows.queue import queue as run

    try:
        with telling(quietly=quietly) as tell, runners_of(cluster) as runners:
            results = run(runs, keep_going=keep_going, tell=tell, runners=runners)
    except KeyboardInterrupt:
        say(
            f"\nThe queue was stopped; what is done is kept. To continue: makellos queue {runs}",
            quietly=quietly,
        )
        raise
    page = runs.parent / results.output / PAGE
    text = f"\n{_results_text(results.runs)}\n\nPage: {page}"
    answer(text, json, results.model_dump(mode="json"))
    if results.count("failed"):
        raise typer.Exit(EXIT_FAILED)


def _show_plan(file: Path, json: Path | None, *, keep_going: bool) -> None:
    from makellos.workflows.queue import plan_queue

    plan, steps = plan_queue(file, keep_going=keep_going)
    rows = [
        [str(i), step.run.name, step.run.detector, step.run.data, _TODO[step.todo]]
        for i, step in enumerate(steps, start=1)
    ]
    reasons = [f"{mistake}" for step in steps for mistake in step.run.mistakes]
    shown = table(["", "run", "detector", "data", "to do"], rows)
    answer(
        "\n".join([shown, "", *reasons, f"Output: {plan.output}"]),
        json,
        {"output": str(plan.output), "runs": [_planned(step) for step in steps]},
    )


def _planned(step: QueueStep) -> dict[str, Any]:
    asked = step.record.model_dump(
        include={"name", "line", "data", "detector", "preset", "settings", "false_alarms"}
        | {"seed", "device"}
    )
    evaluates = step.run.job is not None and step.run.job.evaluate
    mistakes = [str(mistake) for mistake in step.run.mistakes]
    return {**asked, "evaluate": evaluates, "todo": step.todo, "mistakes": mistakes}


def _results_text(records: list[RunRecord]) -> str:
    header = ["run", "detector", "state", "missed", "AUROC (95 %)", "false alarms", "accuracy"]
    header += ["balanced", "fit s", "ms"]
    rows = [[record.name, record.detector, record.state, *_cells(record)] for record in records]
    return "\n".join([shown_table(header, rows, always=3), *failures_text(records)])


def _cells(record: RunRecord) -> list[str]:
    figures, fitted = record.figures or {}, record.fit or {}
    auroc, interval = figures.get("image_auroc"), (figures.get("intervals") or {})
    spread = interval.get("image_auroc")
    shown = figure_text(auroc)
    shown += f" ({spread[0]:.3f} to {spread[1]:.3f})" if auroc is not None and spread else ""
    names = ("miss_rate", "false_alarm_rate", "accuracy", "balanced_accuracy")
    rates = ["-" if figures.get(name) is None else f"{figures[name]:.1%}" for name in names]
    costs = fitted.get("fit_seconds"), figures.get("inspect_ms_per_part")
    return [rates[0], shown, *rates[1:], *(figure_text(cost, 1) for cost in costs)]
