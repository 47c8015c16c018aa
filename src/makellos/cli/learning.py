"""The verbs that make a model: demo, fit, calibrate."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from makellos.cli.console import (
    Good,
    Json,
    Keys,
    MmPerPixel,
    Rules,
    answer,
    bars,
    parse_settings,
    say,
)

if TYPE_CHECKING:
    from makellos.models.coverage import Coverage
    from makellos.training import Training
    from makellos.vibration.signals import SignalSettings

Seed = Annotated[int, typer.Option(metavar="N", help="Random seed.")]
Data = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="Folder of pictures or recordings, or a CSV manifest."),
]
NewModel = Annotated[
    Path, typer.Option("-o", "--output", metavar="MODEL", help="Model file, NAME.makellos.")
]
FitDetector = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="See 'makellos detectors'; auto tries some and keeps the best."
    ),
]
TimeBudget = Annotated[
    float | None,
    typer.Option(metavar="MINUTES", help="How long auto tries detectors; 10 by default."),
]
DetectorName = Annotated[str, typer.Option(metavar="NAME", help="See 'makellos detectors'.")]
Preset = Annotated[str, typer.Option(metavar="NAME", help="fast, balanced or accurate.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A parameter of the detector, see 'makellos detectors NAME'; repeatable.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="JSON file of parameters; --set takes precedence."),
]
Budget = Annotated[
    float,
    typer.Option(metavar="SHARE", help="Share of good parts that may be rejected by mistake."),
]
LookAgain = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Share of good parts that may get 'look_again', in addition to those rejected; by "
        "default twice --false-alarms.",
    ),
]
ClassBudget = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=SHARE",
        help="Share of good parts that a classifier may call NAME by mistake, within "
        "--false-alarms; repeatable. Kinds of defects without one share the rest.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Device to train on: auto, cpu, cuda (also for ROCm), mps or xpu.",
    ),
]
Devices = Annotated[int, typer.Option(metavar="N", help="How many devices on this machine.")]
Nodes = Annotated[int, typer.Option(metavar="N", help="How many machines train together.")]
Precision = Annotated[
    str,
    typer.Option(metavar="NAME", help="Precision of training: f32, bf16 (mixed) or auto."),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Continue the training run in MODEL.run, if there is one."),
]
WhiteLevel = Annotated[
    int | None,
    typer.Option(metavar="N", help="Value of white in 16-bit pictures that use fewer bits."),
]
Rate = Annotated[
    float | None,
    typer.Option(metavar="HZ", help="Sampling rate of recordings that do not state one."),
]
Channel = Annotated[
    str, typer.Option(metavar="NAME,…", help="Channels of recordings; all by default.")
]
Window = Annotated[int, typer.Option(metavar="N", help="Samples per window of a recording.")]
Hop = Annotated[
    int, typer.Option(metavar="N", help="Samples from one window to the next; 0: no overlap.")
]
ViewOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="How windows are seen: stft, logmel, scalogram or features; by default as the "
        "detector needs.",
    ),
]
BearingOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Bearing, such as 6205, or its geometry: n=9,d=7.94,D=39.04; needed to name faults.",
    ),
]
Rpm = Annotated[
    float | None, typer.Option(metavar="N", help="Speed of the bearing's inner ring in rpm.")
]
Tile = Annotated[
    int | None,
    typer.Option(metavar="SIZE", help="Cut pictures into overlapping tiles of SIZE pixels."),
]
TileOverlap = Annotated[
    int | None,
    typer.Option(metavar="PIXELS", help="Overlap of neighbouring tiles; a quarter by default."),
]
ZonesFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Zones to inspect or ignore: a mask picture (white is inspected), or a JSON file.",
    ),
]
Align = Annotated[
    str | None,
    typer.Option(
        metavar="auto|rotate|register|none",
        help="Turn parts that lie at any angle to one pose: by their outline, or by the best "
        "match; auto, the default for detectors that need one pose, decides whether and how.",
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Use no more memory than this, such as 2G; only for patchcore on whole pictures.",
    ),
]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Leave out files that cannot be decoded.")
]
NewBudget = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="The new budget; by default the model keeps its own."),
]
NewLookAgain = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Share of good parts that may get 'look_again', in addition to those rejected.",
    ),
]
EarlierWeight = Annotated[
    float | None,
    typer.Option(
        metavar="W",
        help="Count the earlier calibration parts as well, each as W new ones (0.2: five earlier "
        "parts count as one new part).",
    ),
]
Groups = Annotated[
    str | None,
    typer.Option(
        metavar="auto|COLUMN|PATTERN",
        help="What belongs together (a lot, a tile): auto finds it; or a column of the manifest, "
        "or a pattern of file names that marks it, such as 'lot{}_*.png'.",
    ),
]


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to create.")
    ] = Path("demo"),
    seed: Seed = 0,
    signals: Annotated[
        bool, typer.Option("--signals", help="Bearing vibration instead of screws.")
    ] = False,
) -> None:
    """Render synthetic screws, fit, inspect, evaluate and write the report.

    With --signals, do the same for synthetic vibration of good and damaged bearings.

    Example: makellos demo -o demo
    """
    from makellos.cli.summaries import demo_text
    from makellos.workflows.demo import demo as run
    from makellos.workflows.demo import demo_signals

    with bars() as progress:
        chosen = demo_signals if signals else run
        result = chosen(output, seed=seed, progress=progress)
    say(demo_text(result))


def fit(
    data: Data,
    output: NewModel,
    detector: FitDetector = "patchcore",
    preset: Preset = "balanced",
    settings: Settings = None,
    config: Config = None,
    time_budget: TimeBudget = None,
    false_alarms: Budget = 0.01,
    look_again: LookAgain = None,
    class_budget: ClassBudget = None,
    seed: Seed = 0,
    device: Device = "auto",
    devices: Devices = 1,
    nodes: Nodes = 1,
    precision: Precision = "auto",
    resume: Resume = False,
    white_level: WhiteLevel = None,
    skip_unreadable: SkipUnreadable = False,
    rate: Rate = None,
    channel: Channel = "",
    window: Window = 2048,
    hop: Hop = 0,
    view: ViewOption = "",
    bearing: BearingOption = "",
    rpm: Rpm = None,
    tile: Tile = None,
    tile_overlap: TileOverlap = None,
    zones: ZonesFile = None,
    rules: Rules = None,
    mm_per_pixel: MmPerPixel = None,
    align: Align = None,
    groups: Groups = None,
    good: Good = None,
    keys: Keys = None,
    memory: Memory = None,
    json: Json = None,
) -> None:
    """Learn what good parts look like and write a calibrated model file.

    Example: makellos fit screws -o screws.makellos --false-alarms 0.01
    """
    from makellos.cli.summaries import fit_text
    from makellos.workflows.fit import fit as run

    with bars() as progress, _resumable(output):
        summary = run(
            data,
            output,
            **_chosen(detector, preset, config, settings, time_budget),
            **_budgets(false_alarms, look_again, class_budget),
            seed=seed,
            training=_training(resume, device, devices, nodes, precision),
            signal=_signal(rate, channel, window, hop, view, bearing, rpm),
            coverage=_coverage(tile, tile_overlap, zones, rules, mm_per_pixel, align),
            **_read_by(skip_unreadable, white_level, groups, good, keys),
            progress=progress,
            **_foretelling(memory, json),
        )
    answer(fit_text(summary), json, asdict(summary))


def _foretelling(memory: str | None, json: Path | None) -> dict[str, Any]:
    """Return the bound of memory, and what says notes and, on a terminal, a forecast."""
    from makellos.data.memory import parse_memory

    most, shown = None if memory is None else parse_memory(memory), sys.stderr.isatty()

    def tell(forecast: Any) -> None:
        if shown:
            say(str(forecast), quietly=True)

    return {
        "memory": most,
        "on_note": lambda note: say(f"Note: {note}", quietly=True),
        "on_forecast": tell if shown or json is not None else None,
    }


def _chosen(
    detector: str,
    preset: str,
    config: Path | None,
    settings: list[str] | None,
    time_budget: float | None,
) -> dict[str, Any]:
    """Return which detector is fitted, and its parameters."""
    return {
        "detector": detector,
        "preset": preset,
        "parameters": _parameters(config, settings),
        "time_budget": time_budget,
    }


def _read_by(
    skip_unreadable: bool,
    white_level: int | None,
    groups: str | None,
    good: str | None,
    keys: str | None,
) -> dict[str, Any]:
    """Return how the data of a fit are read."""
    return {
        "skip_unreadable": skip_unreadable,
        "white_level": white_level,
        "groups": groups,
        "good": good,
        "keys": keys,
    }


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model file.")],
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATA",
            help="Good parts that the model has not learned from: new ones, or the first of a lot.",
        ),
    ] = None,
    false_alarms: NewBudget = None,
    look_again: NewLookAgain = None,
    class_budget: ClassBudget = None,
    earlier_weight: EarlierWeight = None,
    skip_unreadable: SkipUnreadable = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="MODEL", help="Write a new model file, keep the old one."
        ),
    ] = None,
    json: Json = None,
) -> None:
    """Calibrate a model with a new budget, new good parts or the first of a lot, without refitting.

    If the model knows lots (groups), about twenty good parts of a new lot give a promise for it.

    Example: makellos calibrate screws.makellos --false-alarms 0.05
    """
    from makellos.cli.summaries import calibration_text
    from makellos.errors import ConfigurationError
    from makellos.workflows.calibrate import Counted
    from makellos.workflows.calibrate import calibrate as run

    if data is None and not class_budget and {false_alarms, look_again, earlier_weight} == {None}:
        raise ConfigurationError(
            "Give a budget with --false-alarms, --look-again or --class-budget, or good parts "
            "(DATA)."
        )
    with bars() as progress:
        summary = run(
            model,
            data,
            **_budgets(false_alarms, look_again, class_budget),
            counted=Counted(earlier_weight=earlier_weight, skip_unreadable=skip_unreadable),
            output=output,
            progress=progress,
        )
    answer(calibration_text(summary), json, asdict(summary))


def _parameters(config: Path | None, settings: list[str] | None) -> dict[str, Any]:
    from makellos.detectors.parameters import read_parameters

    given = {} if config is None else read_parameters(config)
    return given | parse_settings(settings or [])


def _budgets(
    false_alarms: float | None, look_again: float | None, class_budget: list[str] | None
) -> dict[str, Any]:
    """Return how many good parts may get which verdict, of a classifier by kind of defect."""
    from makellos.errors import ConfigurationError

    budgets: dict[str, float] = {}
    for option in class_budget or ():
        name, _, share = option.rpartition("=")
        try:
            budgets[name.strip()] = float(share)
        except ValueError:
            name = ""
        if not name.strip():
            raise ConfigurationError(
                "--class-budget takes NAME=SHARE, such as --class-budget scratch=0.005; received "
                f"{option!r}."
            )
    return {"false_alarms": false_alarms, "look_again": look_again, "class_budgets": budgets}


def _training(resume: bool, device: str, devices: int, nodes: int, precision: str) -> Training:
    from makellos.training import Training

    return Training(
        resume=resume, device=device, n_devices=devices, n_nodes=nodes, precision=precision
    )


def _signal(
    rate: float | None,
    channel: str,
    window: int,
    hop: int,
    view: str,
    bearing: str,
    rpm: float | None,
) -> SignalSettings:
    from makellos.vibration.signals import SignalSettings

    return SignalSettings(
        rate=rate, channel=channel, window=window, hop=hop, view=view, bearing=bearing, rpm=rpm
    )


def _coverage(
    tile: int | None,
    tile_overlap: int | None,
    zones: Path | None,
    rules: Path | None,
    mm_per_pixel: float | None,
    align: str | None,
) -> Coverage:
    from makellos.models.coverage import Coverage

    return Coverage(
        tile=tile,
        tile_overlap=tile_overlap,
        zones=zones,
        rules=rules,
        mm_per_pixel=mm_per_pixel,
        align=align,
    )


@contextmanager
def _resumable(model: Path) -> Iterator[None]:
    """Say how to go on when training is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        from makellos.training import run_folder

        folder = run_folder(model)
        if any(folder.rglob("last.safetensors")):
            say(f"\nThe run is kept in {folder}; add --resume to the same command to continue.")
        raise
