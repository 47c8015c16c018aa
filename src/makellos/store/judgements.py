"""What people said of stored parts, as a manifest for the study of agreement in `accept`."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePath

from makellos.data.pictures import PICTURE_SUFFIXES
from makellos.errors import InputError
from makellos.storage import claim_folder, write_bytes
from makellos.store.records import NotFoundError, Review, StoredInspection
from makellos.store.store import Store

__all__ = ["Judgements", "write_judgements"]

MANIFEST = "judgements.csv"
_COLUMNS = ("path", "label", "judge", "split", "group")
_PAGE = 1000


@dataclass(frozen=True, kw_only=True)
class Judgements:
    """Count what was written: parts, judgements, judges, and reviewed parts without a picture."""

    n_parts: int
    n_judgements: int
    n_judges: int
    n_without_picture: int


def write_judgements(store: Store, folder: Path, *, recipe: str | None = None) -> Judgements:
    """Write the pictures of reviewed parts, and a manifest with a row for each judgement.

    The manifest is `judgements.csv` in `folder`: `makellos accept MODEL FOLDER/judgements.csv` sets
    judges against each other and against the model. A judge who said something twice of a part has
    two rows. Parts of one serial number are a group.

    Raises `InputError` where nothing was reviewed, `StorageError` where it cannot be written.
    """
    claim_folder(folder)
    rows: list[dict[str, str]] = []
    n_parts, n_gone, judges = 0, 0, set[str]()
    by_part = sorted(_reviews(store), key=lambda review: (review.inspection_id, review.id))
    for number, reviews in groupby(by_part, key=lambda review: review.inspection_id):
        try:
            part = store.inspection(number)
        except NotFoundError:  # it was forgotten
            continue
        if recipe is not None and part.recipe != recipe:
            continue
        file = store.picture(part.picture)
        if file is None:
            n_gone += 1
            continue
        name = _name(part)
        write_bytes(folder / name, file.read_bytes())
        n_parts += 1
        for review in reviews:
            judges.add(review.person)
            rows.append(_row(name, part, review))
    if not rows:
        raise InputError("No part with a picture was reviewed. Review some in the station first.")
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_bytes(folder / MANIFEST, text.getvalue().encode("utf-8", "replace"))
    return Judgements(
        n_parts=n_parts,
        n_judgements=len(rows),
        n_judges=len(judges),
        n_without_picture=n_gone,
    )


def _reviews(store: Store) -> list[Review]:
    found: list[Review] = []
    while page := store.all_reviews(after=found[-1].id if found else 0, limit=_PAGE):
        found += page
    return found


def _name(part: StoredInspection) -> str:
    suffix = PurePath(part.input).suffix.lower()
    return f"part-{part.id}{suffix if suffix in PICTURE_SUFFIXES else ''}"


def _row(name: str, part: StoredInspection, review: Review) -> dict[str, str]:
    group = f"part {part.id}" if part.serial is None else f"serial {part.serial}"
    return {
        "path": name,
        "label": review.decision,
        "judge": review.person,
        "split": "test",
        "group": group,
    }
