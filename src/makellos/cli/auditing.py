"""The verb audit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from makellos.cli.console import Good, Json, Keys, answer, bars
from makellos.cli.learning import Budget, Data, DetectorName, Seed


def audit(
    data: Data,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Folder for audit.html and cleaned.csv."
        ),
    ] = None,
    detector: DetectorName = "patchcore",
    false_alarms: Budget = 0.01,
    seed: Seed = 0,
    good: Good = None,
    keys: Keys = None,
    json: Json = None,
) -> None:
    """Rank what may be wrong among the good parts, and say what keeping each costs.

    Finds hidden defects, pictures that also appear in the test split or under another label, and
    those that differ in light, focus or size. Nothing is removed: the page shows each suspect, and
    the manifest beside it proposes a set without them.

    Example: makellos audit screws -o audit
    """
    from makellos.cli.summaries import audit_text
    from makellos.workflows.audit import audit as run

    with bars() as progress:
        summary = run(
            data,
            output=output,
            detector=detector,
            false_alarms=false_alarms,
            seed=seed,
            good=good,
            keys=keys,
            progress=progress,
        )
    answer(audit_text(summary), json, asdict(summary))
