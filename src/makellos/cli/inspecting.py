"""The verbs that use a model: inspect, evaluate, info."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from makellos.cli.clustering import ClusterAddress, inspect_on_cluster, refuse_with_cluster
from makellos.cli.console import (
    Good,
    Json,
    Keys,
    MmPerPixel,
    Rules,
    answer,
    bars,
    say,
    table,
    write_json,
)

if TYPE_CHECKING:
    from makellos.data.progress import Progress
    from makellos.inspection import Inspection
    from makellos.inspection.engines import EngineChoice
    from makellos.workflows.inspect import InspectSummary, Outputs

EXIT_UNREADABLE, EXIT_REJECTED = 1, 3


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file.")]
Inputs = Annotated[
    list[str],  # and no paths, which would not keep the slashes of an address
    typer.Argument(
        metavar="INPUT",
        help="Pictures, videos, recordings, folders or manifests of them; a camera as camera:0.",
    ),
]
Rows = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR",
        help="Folder for inspections.csv, inspections.jsonl, overlays and reconstructions.",
    ),
]
Csv = Annotated[
    Path | None, typer.Option(metavar="FILE|-", help="Write rows as CSV; - for standard output.")
]
Jsonl = Annotated[
    Path | None,
    typer.Option(metavar="FILE|-", help="Write rows as JSON Lines; - for standard output."),
]
Parquet = Annotated[Path | None, typer.Option(metavar="FILE", help="Write rows as Parquet.")]
Windows = Annotated[
    Path | None,
    typer.Option(metavar="FILE|-", help="Write a row for each window of a recording, as CSV."),
]
TrendPage = Annotated[
    Path | None,
    typer.Option(
        "--trend",
        metavar="FILE",
        help="HTML page of a machine's recordings over time: since when an alarm has persisted.",
    ),
]
Every = Annotated[
    int, typer.Option(metavar="N", help="Inspect every N-th frame of videos and cameras.")
]
MostFrames = Annotated[
    int | None,
    typer.Option("--frames", metavar="N", help="Inspect at most N frames per video or camera."),
]
Overlays = Annotated[
    bool,
    typer.Option(
        "--overlays",
        help="Draw a heat map and outlines on every part, in DIR/overlays, or in "
        "inspections/overlays without -o.",
    ),
]
Reconstructions = Annotated[
    bool,
    typer.Option(
        "--reconstructions",
        help="Save the nearest good part that the detector can make, at the part's own size, in "
        "DIR/reconstructions, or in inspections/reconstructions without -o.",
    ),
]
Rpm = Annotated[
    float | None,
    typer.Option(metavar="N", help="Speed in the recordings in rpm, if not the one at fit."),
]


class PagesTaken(StrEnum):
    """Name what is taken of a TIFF of several pages."""

    FIRST = "first"
    ALL = "all"


Pages = Annotated[
    PagesTaken, typer.Option(help="Pages of a TIFF to inspect; with all, each page is a part.")
]
Reference = Annotated[
    Path | None,
    typer.Option(
        metavar="PICTURE|FOLDER",
        help="What parts should look like, for models that compare them with references: one "
        "picture, or a folder of pictures named like the parts.",
    ),
]
FalseDiscoveries = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Also say which parts to take out of this batch so that on average at most this "
        "share of them are good; rows get q_value and discovery, and are written at the end.",
    ),
]
StatisticsWanted = Annotated[
    bool,
    typer.Option(
        "--statistics", help="Add statistics of the pictures to rows, for 'makellos drift'."
    ),
]
FailOnReject = Annotated[
    bool, typer.Option("--fail-on-reject", help="Exit with 3 when any part is rejected.")
]
EngineName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Use another runtime and precision, such as 'onnxruntime f32'; see 'makellos "
        "devices'.",
    ),
]


def inspect(
    model: Model,
    inputs: Inputs,
    output: Rows = None,
    csv: Csv = None,
    jsonl: Jsonl = None,
    parquet: Parquet = None,
    windows: Windows = None,
    trend: TrendPage = None,
    overlays: Overlays = False,
    reconstructions: Reconstructions = False,
    statistics: StatisticsWanted = False,
    fail_on_reject: FailOnReject = False,
    engine: EngineName = None,
    rpm: Rpm = None,
    rules: Rules = None,
    mm_per_pixel: MmPerPixel = None,
    every: Every = 1,
    frames: MostFrames = None,
    pages: Pages = PagesTaken.FIRST,
    reference: Reference = None,
    false_discoveries: FalseDiscoveries = None,
    cluster: ClusterAddress = None,
    json: Json = None,
) -> None:
    """Give a verdict, a score and outlined damage for every picture or recording.

    Every file gets one row, a film or a camera one for each frame. Exits with 0 when all were
    inspected, 1 when some could not be, 2 for wrong usage or a damaged model, and, with
    --fail-on-reject, 3 when any part was rejected.

    With --cluster, rows are written as Parquet files into DIR. Inputs and DIR may be addresses such
    as s3://bucket/parts. After an interruption, the same command continues where it stopped.

    Example: makellos inspect screws.makellos new/ -o result --overlays
    """
    from makellos.workflows import inspect as work

    rows = work.Outputs(csv=csv, jsonl=jsonl, parquet=parquet, windows=windows, trend=trend)
    taken = work.Frames(every=every, most=frames, pages=pages is PagesTaken.ALL)
    held_to = work.RuleOverrides(rules=rules, mm_per_pixel=mm_per_pixel)
    how: dict[str, Any] = {"engine": _engine(engine), "rpm": rpm, "held_to": held_to}
    drawn = {"overlays": overlays, "reconstructions": reconstructions}
    if cluster is None:
        how |= {"references": reference, "false_discoveries": false_discoveries, "frames": taken}
        outputs = _outputs(replace(rows, statistics=statistics), output, **drawn)
        summary = _inspect_here(model, inputs, outputs, json, how, listed=output is None)
    else:
        drawn |= {"reference": bool(reference), "false-discoveries": bool(false_discoveries)}
        refuse_with_cluster(rows, taken, **drawn)
        how |= {"statistics": statistics}
        summary = inspect_on_cluster(model, inputs, output, cluster, str(json) == "-", how)
    _end(summary, json, fail_on_reject)


def _inspect_here(
    model: Path,
    inputs: list[str],
    outputs: Outputs,
    json: Path | None,
    how: dict[str, Any],
    *,
    listed: bool,
) -> InspectSummary:
    """Inspect, and say what was found: each part if `listed`, unless its row goes elsewhere."""
    from makellos.cli.inspection_texts import inspect_text
    from makellos.workflows.inspect import inspect as run

    files = {"--csv": outputs.csv, "--jsonl": outputs.jsonl, "--windows": outputs.windows}
    streams = _streams({**files, "--json": json})
    listed = listed and not any((*files.values(), outputs.parquet, json))
    with bars() as progress:
        on_row = _telling(progress, listed, vital=listed and outputs.overlays is None)
        summary = run(model, inputs, outputs=outputs, on_row=on_row, **how)
    say(inspect_text(summary, outputs), quietly=streams)
    return summary


def _telling(
    progress: Progress, listed: bool, *, vital: bool
) -> Callable[[Inspection, int, int | None], None]:
    """Return what shows how far an inspection is, and rows: all if `listed`, else the broken."""
    from makellos.cli.inspection_texts import row_text

    def on_row(inspection: Inspection, done: int, total: int | None) -> None:
        progress("inspecting", done, total)
        if listed or inspection.error is not None:
            say(row_text(inspection), quietly=not listed, vital=vital)

    return on_row


def _outputs(
    rows: Outputs, output: str | None, *, overlays: bool, reconstructions: bool
) -> Outputs:
    """Return the outputs in a folder: tables if it is named, and pictures that are wanted."""
    folder = Path("inspections" if output is None else output)
    drawn = folder / "overlays" if overlays else None
    made = folder / "reconstructions" if reconstructions else None
    tables = rows if output is None else rows.in_folder(folder)
    return replace(tables, overlays=drawn, reconstructions=made)


def _end(summary: InspectSummary, json: Path | None, fail_on_reject: bool) -> None:
    """Write the summary where asked, and exit with what tells of rejected or unreadable parts."""
    from dataclasses import asdict

    if json is not None:
        write_json(json, asdict(summary))
    if fail_on_reject and summary.verdicts["reject"]:
        raise typer.Exit(EXIT_REJECTED)
    if summary.verdicts["unreadable"]:
        raise typer.Exit(EXIT_UNREADABLE)


def evaluate(
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
            help="Folder for report.html, figures.json and tested.csv.",
        ),
    ] = None,
    csv: Csv = None,
    parquet: Parquet = None,
    windows: Windows = None,
    good: Good = None,
    keys: Keys = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed of the intervals.")] = 0,
    json: Json = None,
) -> None:
    """Measure how well a model does on labelled parts, and write the HTML report.

    With -o, --csv or --parquet every part also gets a row, with its true label beside verdict and
    score.

    Example: makellos evaluate screws.makellos screws -o report
    """
    from makellos.cli.summaries import evaluation_text
    from makellos.workflows.evaluate import REPORT, RowFiles
    from makellos.workflows.evaluate import evaluate as run

    rows = RowFiles(csv=csv, parquet=parquet, windows=windows)
    streams = _streams({"--csv": csv, "--windows": windows, "--json": json})
    with bars() as progress:
        figures = run(
            model,
            data,
            output=output,
            rows=rows,
            good=good,
            keys=keys,
            seed=seed,
            progress=progress,
        )
    page = "" if output is None else f"\n\nReport: {output / REPORT}"
    say(evaluation_text(figures) + page, quietly=streams)
    if json is not None:
        write_json(json, figures)


def info(model: Model, json: Json = None) -> None:
    """Show what a model file holds: detector, calibration, provenance, versions.

    Example: makellos info screws.makellos
    """
    from makellos.cli.summaries import info_rows
    from makellos.inspection.model_file import read_model

    read = read_model(model)
    read.check()
    answer(
        table(["", ""], info_rows(read)).lstrip("\n"), json, read.manifest.model_dump(mode="json")
    )


def _streams(targets: Mapping[str, Path | None]) -> bool:
    """Tell whether data goes to standard output; raise where two kinds of it would."""
    streams = [f"{name} -" for name, target in targets.items() if str(target) == "-"]
    if len(streams) > 1:
        from makellos.errors import ConfigurationError

        raise ConfigurationError(
            f"{' and '.join(streams)} cannot share standard output. Give all but one a file."
        )
    return bool(streams)


def _engine(text: str | None) -> EngineChoice | None:
    if text is None:
        return None
    from makellos.errors import ConfigurationError
    from makellos.inspection.engines import EngineChoice

    pieces = text.split()
    if len(pieces) != 2:
        raise ConfigurationError(
            f"--engine takes runtime and precision, such as 'onnxruntime f32'; received {text!r}."
        )
    return EngineChoice(*pieces)
