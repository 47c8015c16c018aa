"""The verb drift."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from makellos.cli.console import Json, answer, bars

EXIT_ALARM = 3


def drift(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model file.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="ROWS|FOLDER",
            help="Rows of 'makellos inspect' (CSV, JSON Lines or Parquet), or a folder of parts in "
            "the order of their names.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder for drift.html.")
    ] = None,
    false_alarms: Annotated[
        float,
        typer.Option(
            "--false-alarms", metavar="N", help="False alarms allowed in 10,000 parts, on average."
        ),
    ] = 1.0,
    fail_on_alarm: Annotated[
        bool, typer.Option("--fail-on-alarm", help="Exit with 3 if there was an alarm.")
    ] = False,
    json: Json = None,
) -> None:
    """Tell whether a stream of parts has left the good state, since when and why.

    Light, colour, focus, pose, noise and dirt on the lens are watched by statistics of pictures,
    and the parts by their scores. A folder is inspected first. Rows hold the statistics if
    'inspect' wrote them with --statistics; without them only the scores are watched.

    Example: makellos drift screws.makellos screws/train/good -o drift
    """
    from makellos.cli.summaries import drift_text
    from makellos.workflows.drift import PAGE
    from makellos.workflows.drift import drift as run

    with bars() as progress:
        summary = run(model, source, output=output, false_alarms=false_alarms, progress=progress)
    page = "" if output is None else f"\n\nReport: {output / PAGE}"
    answer(drift_text(summary) + page, json, asdict(summary))
    if fail_on_alarm and summary.alarms:
        raise typer.Exit(EXIT_ALARM)
