"""The verb accept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from makellos.cli.console import Good, Json, Keys, answer, bars, table
from makellos.cli.inspecting import Model

if TYPE_CHECKING:
    from makellos.evaluation.acceptance_record import AcceptanceRecord
    from makellos.evaluation.exact import Share


def accept(
    model: Model,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Labelled parts: a folder or a CSV manifest.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Folder for acceptance.html, acceptance.json and tested.csv.",
        ),
    ] = None,
    mm_per_pixel: Annotated[
        float | None,
        typer.Option(metavar="MM", help="Size of a pixel, for sizes of damage in mm."),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File that records which models were judged on which parts; by default the one "
            "that MAKELLOS_LEDGER names, otherwise a file of your own.",
        ),
    ] = None,
    good: Good = None,
    keys: Keys = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Random seed of the interval of the AUROC.")
    ] = 0,
    json: Json = None,
) -> None:
    """Judge a model on a locked test set, and write the report that an auditor reads and signs.

    Exact bounds, misses by kind and size of damage, the smallest damage that is found, agreement
    with judges (column judge of a manifest), and what was not tested. A ledger records which
    models were judged on these parts: the report says if others were judged before this one.

    Example: makellos accept screws.makellos screws -o acceptance
    """
    from dataclasses import asdict

    from makellos.workflows.accept import PAGE
    from makellos.workflows.accept import accept as run

    with bars() as progress:
        record = run(
            model,
            data,
            output=output,
            mm_per_pixel=mm_per_pixel,
            ledger=ledger,
            good=good,
            keys=keys,
            seed=seed,
            progress=progress,
        )
    page = "" if output is None else f"\n\nReport: {output / PAGE}"
    answer(_text(record) + page, json, asdict(record))


def _text(record: AcceptanceRecord) -> str:
    figures = record.figures
    rows = [
        ["missed", *_cells(figures.miss_rate)],
        ["false alarms", *_cells(figures.false_alarm_rate)],
        *([f"  missed: {kind}", *_cells(share)] for kind, share in figures.by_defect.items()),
    ]
    return "\n".join(
        [
            table(["", "number", "of", "rate", "exact 95 % bounds"], rows),
            "",
            _detection(record),
            *(f"Reservation: {each.text}" for each in record.reservations),
            f"Entered in {record.history.ledger}",
        ]
    )


def _cells(share: Share) -> list[str]:
    if share.share is None or share.low is None or share.high is None:
        return ["-", "0", "-", "-"]
    bounds = f"{share.low:.2%} to {share.high:.2%}"
    return [str(share.n_hit), str(share.n), f"{share.share:.2%}", bounds]


def _detection(record: AcceptanceRecord) -> str:
    from makellos.reports.acceptance import detection_sentence

    return detection_sentence(record.figures.detection)
