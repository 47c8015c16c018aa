"""The verb history judgements."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from makellos.cli.console import Json, answer
from makellos.cli.keeping import OfRecipe
from makellos.cli.station import PicturesFolder, StoreAddress


def judgements(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for pictures and CSV.")],
    recipe: OfRecipe = None,
    store: StoreAddress = None,
    pictures: PicturesFolder = None,
    json: Json = None,
) -> None:
    """Write all decisions on parts, with their pictures, for a study of agreement.

    'makellos accept MODEL DIR/judgements.csv' then compares people with each other and with the
    model: effectiveness, misses, false alarms, kappa. Reviewed parts are not drawn at random, so
    the rates hold for these parts and not for the line.

    Example: makellos history judgements agreement --store station
    """
    with context.obj.opened(store, pictures, new=False) as opened:
        from makellos.store.judgements import MANIFEST, write_judgements

        done = write_judgements(opened, folder, recipe=recipe)
    gone = f", {done.n_without_picture} more without a picture" if done.n_without_picture else ""
    text = (
        f"{folder / MANIFEST}: {done.n_judgements} judgements of {done.n_parts} parts by "
        f"{done.n_judges} {'person' if done.n_judges == 1 else 'people'}{gone}."
    )
    answer(text, json, asdict(done))
