"""The verbs about data: synth, get, check, split, align."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from makellos.cli.console import Good, Json, Keys, answer, bars, say, table
from makellos.errors import ConfigurationError, suggest

if TYPE_CHECKING:
    from makellos.data.splits import SplitSummary
    from makellos.workflows.align import AlignSummary

_KINDS = ("screws", "boards")

app = typer.Typer(
    help="Render, download, check, split and align sets of parts.",
    epilog="Example: makellos data synth -o screws",
    no_args_is_help=True,
)


@app.command("synth", short_help="Render screws or circuit boards, with masks.")
def synth(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to create.")
    ],
    kind: Annotated[str, typer.Option(metavar="screws|boards", help="What to render.")] = "screws",
    n_train: Annotated[int, typer.Option(metavar="N", help="Good parts for training.")] = 120,
    n_test_good: Annotated[int, typer.Option(metavar="N", help="Good parts for testing.")] = 20,
    n_per_defect: Annotated[
        int, typer.Option(metavar="N", help="Parts with each kind of damage.")
    ] = 8,
    size: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Width and height of the pictures in pixels; screws 320, boards 512."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed.")] = 0,
    aligned: Annotated[
        bool, typer.Option("--aligned", help="All screws lie the same way, as in a fixture.")
    ] = False,
    dirt: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Share of good screws with fibres, dust or stains beside them."
        ),
    ] = 0.0,
    layouts: Annotated[
        int,
        typer.Option(
            metavar="N", help="Board layouts; several have a reference each, named in parts.csv."
        ),
    ] = 1,
    signals: Annotated[
        bool,
        typer.Option("--signals", help="Bearing vibration instead; only --seed applies."),
    ] = False,
) -> None:
    """Render pictures of parts, good and damaged, with masks, in the MVTec AD layout.

    Screws lie in any direction. Circuit boards (--kind boards) have one layout, or as many as
    --layouts says, and lie nearly alike; their damage is opens, shorts, mouse bites, spurs and
    missing pads. With --signals, record synthetic vibration of good and damaged bearings instead.

    Example: makellos data synth -o screws
    """
    if signals:
        _synth_bearings(output, seed)
        return
    counts = {"n_train": n_train, "n_test_good": n_test_good, "n_per_defect": n_per_defect}
    with bars() as progress:
        write = _writer(kind, size, aligned=aligned, dirt=dirt, layouts=layouts)
        write(output, **counts, seed=seed, progress=progress)
    chosen = " --detector golden" if kind == "boards" else ""
    data = output if layouts == 1 else output / "parts.csv"
    say(f"Rendered {kind} in {output}. Next: makellos fit {data} -o {kind}.makellos{chosen}")


def _writer(
    kind: str, size: int | None, *, aligned: bool, dirt: float, layouts: int
) -> Callable[..., None]:
    """Return what writes a set of a kind; raises `ConfigurationError` for what does not fit."""
    if kind not in _KINDS:
        raise ConfigurationError(f"There are no {kind!r} to render. {suggest(kind, _KINDS)}")
    if kind == "screws":
        if layouts != 1:
            raise ConfigurationError("--layouts is for boards; screws have one. Leave it out.")
        from makellos.sets.synthetic_screws import write_screws

        return partial(write_screws, size=320 if size is None else size, aligned=aligned, dirt=dirt)
    if aligned:
        raise ConfigurationError(
            f"--aligned is for screws; {kind} always lie nearly alike. Leave it out."
        )
    if dirt:
        raise ConfigurationError(f"--dirt is for screws; {kind} fill the picture. Leave it out.")
    from makellos.sets.synthetic_boards import write_boards

    return partial(write_boards, size=512 if size is None else size, n_layouts=layouts)


def _synth_bearings(output: Path, seed: int) -> None:
    from makellos.sets.synthetic_bearings import (
        SYNTHETIC_BEARING,
        SYNTHETIC_RPM,
        write_bearings,
    )

    with bars() as progress:
        write_bearings(output, seed=seed, progress=progress)
    say(
        f"Recorded bearings in {output}. Next: makellos fit {output} -o bearings.makellos "
        f"--bearing {SYNTHETIC_BEARING} --rpm {SYNTHETIC_RPM:g}"
    )


@app.command("get", short_help="Download a public set.")
def get(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Such as mvtec_ad/screw; 'list' lists all.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", help="Folder to create; by default the set's name."
        ),
    ] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Accept the set's licence.")
    ] = False,
    json: Json = None,
) -> None:
    """Download a public set into a folder that can be fitted; an interrupted download is resumed.

    Example: makellos data get mvtec_ad/screw -o screws --accept-license
    """
    from makellos.sets.downloads import get as run
    from makellos.sets.public_sets import PUBLIC_SETS

    if name == "list":
        rows = [
            [key, found.licence.name, "by hand" if found.by_hand else ""]
            for key, found in PUBLIC_SETS.items()
        ]
        answer(
            table(["set", "licence", ""], rows),
            json,
            {key: asdict(found.licence) for key, found in PUBLIC_SETS.items()},
        )
        return
    folder = output or Path(name.replace("/", "_"))
    with bars() as progress:
        fetched = run(name, folder, accept_license=accept_license, progress=progress)
    held = (
        f"{fetched.n_train} good parts for training, {fetched.n_test_good} good and "
        f"{fetched.n_defective} defective for testing.\n"
    )
    answer(
        f"{fetched.folder}: {held if fetched.n_train else ''}{fetched.note}",
        json,
        asdict(fetched),
    )


@app.command("check", short_help="Say what a set holds and what is wrong with it.")
def check(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Folder of pictures or recordings, or a CSV manifest."),
    ],
    good: Good = None,
    keys: Keys = None,
    json: Json = None,
) -> None:
    """Say what a folder or manifest holds and what is wrong with it.

    Exits with 1 if anything is wrong.

    Example: makellos data check screws
    """
    from makellos.cli.summaries import check_text
    from makellos.subjects import find_parts, subject_of

    parts = find_parts(data, good=good, keys=keys)
    check_all = subject_of(parts).check
    with bars() as progress:
        found = check_all(parts, progress=progress)
    answer(check_text(found), json, asdict(found))
    if found.problems:
        raise typer.Exit(1)


@app.command("split", short_help="Divide labelled pictures into train, val and test.")
def split(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder of pictures, or a CSV manifest.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="CSV manifest to write.")
    ],
    val: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of each label used to calibrate.")
    ] = 0.2,
    test: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of each label used to test.")
    ] = 0.2,
    by: Annotated[
        str,
        typer.Option(
            metavar="group|part", help="Keep the parts of a group together, or split them freely."
        ),
    ] = "group",
    good: Good = None,
    keys: Keys = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed.")] = 0,
    json: Json = None,
) -> None:
    """Divide labelled pictures into train, val and test, as a CSV manifest.

    Each label is split in these shares, as nearly as groups allow. Splits that
    the parts already have, such as the folder test, are ignored.

    Example: makellos data split screws -o parts.csv --val 0.2 --test 0.2
    """
    from makellos.data.splits import write_split
    from makellos.subjects import find_parts

    found = find_parts(data, good=good, keys=keys)
    found.require_pictures("data split")
    summary = write_split(found, output, source=data, val=val, test=test, seed=seed, by=by)
    answer(_split_text(summary), json, asdict(summary))


@app.command("align", short_help="Turn parts that lie at any angle to one pose.")
def align(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder of pictures, or a CSV manifest.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to create.")
    ],
    way: Annotated[
        str,
        typer.Option(
            metavar="auto|rotate|register",
            help="rotate: by the outline on a plain background; register: by the best match.",
        ),
    ] = "auto",
    json: Json = None,
) -> None:
    """Write a copy of a set in which all parts and masks are turned to one pose and cropped.

    Nothing is stretched, and names and folders stay as they are. To do the same inside a
    model, so that new parts are turned as well, use 'makellos fit --align auto'. Exits with 1 if
    a picture cannot be read.

    Example: makellos data align screws -o turned
    """
    from makellos.workflows.align import align as run

    with bars() as progress:
        done = run(data, output, way=way, progress=progress)
    answer(_align_text(done), json, asdict(done))
    if done.unreadable:
        raise typer.Exit(1)


def _align_text(done: AlignSummary) -> str:
    """Say what was turned and how, and what to do next."""
    how = "by the outline" if done.way == "rotate" else "by the best match"
    lines = [
        f"Turned {done.n_parts} parts {how}, and cropped them to {done.width} x {done.height} "
        f"pixels: {done.output}"
    ]
    if done.in_doubt:
        some = ", ".join(done.in_doubt[:5]) + (", ..." if len(done.in_doubt) > 5 else "")
        lines.append(
            f"Note: {len(done.in_doubt)} of them match the good ones poorly, and may be turned "
            f"wrongly: {some}"
        )
    lines += [f"Not readable: {name}: {why}" for name, why in done.unreadable.items()]
    return "\n".join(
        [*lines, f"Next: makellos fit {done.manifest or done.output} -o model.makellos"]
    )


def _split_text(summary: SplitSummary) -> str:
    """Show how many parts of each label are in which split, and what to watch out for."""
    splits = list(summary.shares)
    rows = [[label, *(str(of[split]) for split in splits)] for label, of in summary.counts.items()]
    grouped = f" in {summary.n_groups} groups" if summary.n_groups < summary.n_parts else ""
    lines = [f"{summary.n_parts} parts{grouped}", "", table(["label", *splits], rows), ""]
    lines += [f"Note: {warning}" for warning in summary.warnings]
    return "\n".join([*lines, f"Manifest: {summary.manifest}"])
