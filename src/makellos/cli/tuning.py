"""The verb that searches parameters: tune."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from makellos.cli.console import Good, Json, Keys, answer, bars, parse_settings, say, table
from makellos.cli.learning import Data, DetectorName, Device, Preset, Seed, Settings

if TYPE_CHECKING:
    from makellos.workflows.tune import TuneSummary


Folder = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        metavar="FOLDER",
        help="Folder for the study, the best parameters and the page; a search already there is "
        "continued.",
    ),
]
Search = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=RANGE",
        help="Range to search for a parameter: LOW..HIGH, LOW..HIGH:log or A,B,C; repeatable. "
        "By default, the ranges that the detector declares.",
    ),
]
NTrials = Annotated[int, typer.Option(metavar="N", help="Number of trials.")]
Timeout = Annotated[
    float | None, typer.Option(metavar="MINUTES", help="Start no trial after this many minutes.")
]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Database instead of FOLDER/study.db, such as postgresql://NAME@HOST/DATABASE.",
    ),
]


def tune(
    data: Data,
    output: Folder,
    detector: DetectorName = "patchcore",
    preset: Preset = "balanced",
    settings: Settings = None,
    search: Search = None,
    n_trials: NTrials = 20,
    timeout_minutes: Timeout = None,
    storage: Storage = None,
    seed: Seed = 0,
    device: Device = "auto",
    good: Good = None,
    keys: Keys = None,
    json: Json = None,
) -> None:
    """Search for a detector's best parameters with Hyperband; poor trials end early.

    Example: makellos tune tiles -o search --detector vae --n-trials 20
    """
    from makellos.workflows.tune import tune as run

    with bars() as progress, _goes_on(output):
        summary = run(
            data,
            output,
            detector=detector,
            preset=preset,
            parameters=parse_settings(settings or []),
            search=parse_searches(search or []),
            n_trials=n_trials,
            timeout_minutes=timeout_minutes,
            storage=storage,
            seed=seed,
            device=device,
            good=good,
            keys=keys,
            progress=progress,
        )
    answer(tune_text(summary, data), json, asdict(summary))


def parse_searches(searches: Sequence[str]) -> dict[str, str]:
    """Return the ranges that ``--search KEY=RANGE`` options name, still as text."""
    from makellos.errors import ConfigurationError

    parsed: dict[str, str] = {}
    for search in searches:
        key, equals, text = (piece.strip() for piece in search.partition("="))
        if not equals or not key or not text:
            raise ConfigurationError(
                "--search takes KEY=LOW..HIGH, KEY=LOW..HIGH:log or KEY=A,B,C, such as --search "
                f"learning_rate=1e-4..1e-2:log; received {search!r}."
            )
        if key in parsed:
            raise ConfigurationError(f"--search names {key} twice. Name it once.")
        parsed[key] = text
    return parsed


def tune_text(summary: TuneSummary, data: Path) -> str:
    """Say what was found, what it took and what to do with it."""
    default = summary.default_value
    against = "" if default is None else f", {default:.4g} with the defaults"
    if summary.best_auroc is not None:
        against += f" (AUROC {summary.best_auroc:.3f}"
        before = summary.default_auroc
        against += ")" if before is None else f", {before:.3f} with the defaults)"
    saved = 1 - summary.epochs_used / summary.epochs_unpruned if summary.epochs_unpruned else 0.0
    killed = f", {summary.n_killed} interrupted and run again" if summary.n_killed else ""
    rows = [
        [key, f"{value:.4g}" if isinstance(value, float) else str(value)]
        for key, value in summary.best_parameters.items()
    ]
    lines = [
        f"{summary.n_trials} trials of {summary.detector}: {summary.n_complete} complete, "
        f"{summary.n_pruned} pruned, {summary.n_failed} failed{killed}.",
        f"Best {summary.value} {summary.best_value:.4g}{against}, on {summary.judged}.",
        f"Took {summary.epochs_used:.4g} {summary.resource}; without pruning it would have taken "
        f"{summary.epochs_unpruned:.4g} ({max(saved, 0.0):.0%} saved).",
        *(f"Failed: {reason}" for reason in dict.fromkeys(summary.failures)),
        "",
        table(["parameter", "best"], rows),
        "",
        f"Page: {summary.page}",
        f"Fit with them: makellos fit {data} -o MODEL --detector {summary.detector} --config "
        f"{summary.best}",
    ]
    return "\n".join(lines)


@contextmanager
def _goes_on(folder: Path) -> Iterator[None]:
    """Say how to go on when a search is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"\nThe search is kept in {folder}; run the same command to continue.", quietly=True)
        raise
