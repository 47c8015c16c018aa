"""The verb history retention."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from makellos.cli.console import Json, answer
from makellos.cli.keeping import who
from makellos.cli.station import PicturesFolder, StoreAddress

if TYPE_CHECKING:
    from makellos.store import Removed, Retention

_GB = 1_000_000_000
Days = Annotated[
    float | None,
    typer.Option(metavar="N", help="Remove pictures and heat maps that are older than N days."),
]
RowDays = Annotated[
    float | None, typer.Option(metavar="N", help="Remove parts that are older than N days.")
]
Gigabytes = Annotated[
    float | None,
    typer.Option(
        "--picture-gb",
        metavar="N",
        help="Remove the oldest pictures and heat maps while all of them take more than N GB.",
    ),
]


def retention(
    context: typer.Context,
    picture_days: Days = None,
    row_days: RowDays = None,
    picture_gb: Gigabytes = None,
    forever: Annotated[
        bool, typer.Option("--forever", help="Keep everything forever, as at first.")
    ] = False,
    now: Annotated[
        bool,
        typer.Option("--now", help="Remove now what may be removed; a station does so hourly."),
    ] = False,
    store: StoreAddress = None,
    pictures: PicturesFolder = None,
    json: Json = None,
) -> None:
    """Show or set how long a station keeps pictures and parts.

    What a person decided on, marked to be kept or locked in a regression set is never removed.
    Options that are given replace the whole setting.

    Example: makellos history retention --picture-days 90 --picture-gb 200 --store station
    """
    given = (picture_days, row_days, picture_gb)
    with context.obj.opened(store, pictures, new=False) as opened:
        from makellos.service.retaining import forget
        from makellos.store import Retention

        if forever or any(each is not None for each in given):
            size = None if picture_gb is None else round(picture_gb * _GB)
            wanted = Retention(picture_days=picture_days, row_days=row_days, picture_bytes=size)
            opened.set_retention(Retention() if forever else wanted, person=who())
        stands = opened.retention()
        removed = forget(opened) if now else None
    told = {**asdict(stands), **({} if removed is None else {"removed": asdict(removed)})}
    answer(_text(stands, removed), json, told)


def _text(stands: Retention, removed: Removed | None) -> str:
    lines = []
    if stands.picture_days is not None:
        lines.append(f"Pictures and heat maps are kept for {stands.picture_days:g} days.")
    if stands.picture_bytes is not None:
        lines.append(f"They take at most {stands.picture_bytes / _GB:g} GB.")
    if stands.row_days is not None:
        lines.append(f"Parts are kept for {stands.row_days:g} days.")
    text = "\n".join(lines or ["Everything is kept forever."])
    if removed is None:
        return text
    return (
        f"{text}\nRemoved: {removed.rows:,} parts, {removed.pictures:,} pictures and heat maps "
        f"({removed.bytes / 1e6:,.1f} MB)."
    )
