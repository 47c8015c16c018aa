"""The verbs that test a model on runtimes and take it elsewhere: verify."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from makellos.cli.console import Json, answer, bars

EXIT_FLIPPED = 1

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file.")]


class Formats(StrEnum):
    """Name what a model is exported as."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    FOLDER = "folder"


class Precisions(StrEnum):
    """Name what an exported graph computes in."""

    F32 = "f32"
    INT8 = "int8"


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
        typer.Option(
            "--keep/--no-keep", help="Keep the table in the model file, for 'makellos info'."
        ),
    ] = True,
    json: Json = None,
) -> None:
    """Test that every runtime of this machine gives the verdicts that the model was released with.

    Every byte is checked. Then the golden parts (calibration parts kept in the model file), and the
    parts of DATA, go through OpenVINO in f32 and bf16 and through ONNX Runtime (or the runtime that
    the model needs). A verdict flips if only one of two runtimes rejects a part, or can judge it.
    Exits with 0 if no verdict flips, 1 if one does, a runtime fails or a part cannot be read, 2 for
    wrong usage, a damaged model or a missing runtime.

    Example: makellos verify screws.makellos
    """
    from makellos.cli.release_texts import verify_text
    from makellos.workflows.verify import verify as run

    with bars() as progress:
        summary = run(model, data, keep=keep, progress=progress)
    answer(verify_text(summary), json, asdict(summary))
    if not summary.released or summary.unreadable:
        raise typer.Exit(EXIT_FLIPPED)


def export(
    model: Model,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="TARGET", help="NAME.onnx, NAME.xml or a folder to write."
        ),
    ],
    format: Annotated[  # noqa: A002 -- as the option is called
        Formats | None,
        typer.Option(
            help="onnx, openvino (IR) or folder; by default told by the ending of TARGET."
        ),
    ] = None,
    precision: Annotated[
        Precisions, typer.Option(help="f32, or int8, which needs good parts (--data).")
    ] = Precisions.F32,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="GOOD",
            help="Good parts for int8: some set the ranges of values, others test it.",
        ),
    ] = None,
    json: Json = None,
) -> None:
    """Write a model for programs that do not use makellos.

    An ONNX file or OpenVINO's format (IR) is the graph alone, from pictures to anomaly maps; a
    folder also has the calibration and a short program that gives verdicts with only NumPy and ONNX
    Runtime. In what is exported the golden parts (calibration parts kept in the model file) must
    keep their verdicts, and in int8 other good parts too; otherwise nothing is written.

    Example: makellos export screws.makellos -o screws.onnx
    """
    from makellos.cli.release_texts import export_text
    from makellos.workflows.export import export as run

    with bars() as progress:
        summary = run(
            model,
            output,
            format=None if format is None else format.value,
            precision=precision.value,
            data=data,
            progress=progress,
        )
    answer(export_text(summary), json, asdict(summary))
