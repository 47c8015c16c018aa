"""The verbs that test a model on runtimes and take it elsewhere: verify."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from makellos.cli.console import Json, answer, bars

EXIT_FLIPPED = 1

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file.")]


def verify(
    model: Model,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Further parts to compare all runtimes on: a folder or a CSV manifest.",
        ),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep/--no-keep", help="Keep the table in the model file."),
    ] = True,
    json: Json = None,
) -> None:
    """Test that every runtime of this machine gives the verdicts that the model was released with.

    Every byte is checked, then the golden parts in the model file, and the parts of DATA, go
    through OpenVINO in f32 and bf16 and through ONNX Runtime (or the runtime that the model needs).
    Exits with 0 when no verdict flips, 1 when one does, a runtime fails or a part cannot be read,
    2 for wrong usage or a damaged model.

    Example: makellos verify screws.makellos
    """
    from makellos.cli.release_texts import verify_text
    from makellos.workflows.verify import verify as run

    with bars() as progress:
        summary = run(model, data, keep=keep, progress=progress)
    answer(verify_text(summary), json, asdict(summary))
    if not summary.released or summary.unreadable:
        raise typer.Exit(EXIT_FLIPPED)
