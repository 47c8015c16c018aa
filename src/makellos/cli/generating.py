"""The verb that makes pictures: generate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from makellos.cli.console import Json, answer, bars


def generate(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Model file of anogan, fanogan or vae.")
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Picture: .png, .jpg or .webp."),
    ],
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            metavar="N",
            help="How many pictures to generate (64 by default); with --traverse, how many latent "
            "dimensions to show (10 by default).",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the latent vectors.")] = 0,
    traverse: Annotated[
        bool,
        typer.Option(
            "--traverse",
            help="Show what each latent dimension changes, from -3 to 3, starting with those that "
            "change most.",
        ),
    ] = False,
    json: Json = None,
) -> None:
    """Generate pictures with a generative detector, beside real parts.

    Example: makellos generate screws.makellos -n 64 -o grid.png
    """
    from makellos.cli.summaries import generate_text
    from makellos.workflows.generate import generate as run

    with bars() as progress:
        summary = run(model, output, n=n, seed=seed, traverse=traverse, progress=progress)
    answer(generate_text(summary), json, asdict(summary))
