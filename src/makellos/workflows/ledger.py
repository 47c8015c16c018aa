"""The ledger of test sets: which model was judged on which parts, and when.

A line of JSON per judgement, in a file of the user's own or one that a plant shares. It holds sums
of contents and no names of parts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from makellos.data.files import read_text
from makellos.data.parts import Part
from makellos.errors import InputError, StorageError
from makellos.evaluation.acceptance_record import EarlierModel, History
from makellos.inspection.manifest import Manifest
from makellos.models.provenance import Contents, contents_of, identity
from makellos.models.release import plain
from makellos.storage import claim_file, locked, write_text

__all__ = ["Judgement", "claim_ledger", "count_evaluation", "default_ledger", "enter", "history"]

_ADVICE = "Choose another file with --ledger."
_MOST_BYTES = 256 << 20


class Judgement(BaseModel):
    """Say that a model was judged on a test set: the sums of both, when and by which verb."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: datetime
    verb: Literal["accept", "evaluate"]
    test_set: str = Field(pattern="^[0-9a-f]{64}$")
    parts: str = Field(pattern="^([0-9a-f]{12})*$")
    model: str = Field(pattern="^[0-9a-f]{64}$")
    file: str


def default_ledger() -> Path:
    """Return the ledger that MAKELLOS_LEDGER names, or that of this user on this machine."""
    named = os.environ.get("MAKELLOS_LEDGER")
    return Path(named) if named else user_data_path("makellos", appauthor=False) / "test-sets.jsonl"


def claim_ledger(path: Path) -> None:
    """Raise `StorageError` before long work where a ledger cannot be read or written."""
    claim_file(path, lambda _: True, "")
    _read(path)


def history(path: Path, tested: Contents, manifest: Manifest) -> History:
    """Return which models were judged before on parts of a set, the first first."""
    mine, times = identity(manifest), 0
    found: dict[str, EarlierModel] = {}
    for each in _read(path):
        shared = tested.shared(each.parts)
        if each.model == mine:
            times += each.test_set == tested.fingerprint
        elif shared:
            before, at = found.get(each.model), f"{each.at:%Y-%m-%d}"
            found[each.model] = EarlierModel(
                file=each.file,
                identity=each.model,
                first=at if before is None else before.first,
                last=at,
                n_shared=max(shared, 0 if before is None else before.n_shared),
            )
    return History(str(path), times, tuple(found.values()))


def count_evaluation(parts: Sequence[Part], manifest: Manifest, file: str, at: datetime) -> str:
    """Enter an evaluation of a set that `accept` has locked, and say so; "" for another set."""
    path = default_ledger()
    try:
        accepted = [each for each in _read(path) if each.verb == "accept"]
        tested = contents_of(parts) if accepted else None
        locked_at = [each.at for each in accepted if tested and each.test_set == tested.fingerprint]
        if tested is None or not locked_at:
            return ""
        enter(path, tested, manifest, file=file, at=at, verb="evaluate")
    except (StorageError, InputError) as error:
        return f"Whether these parts are a locked test set cannot be told: {error}"
    return (
        f"These parts are a test set that has been locked since {min(locked_at):%Y-%m-%d}: this "
        f"evaluation is entered in {path}."
    )


def enter(
    path: Path,
    tested: Contents,
    manifest: Manifest,
    *,
    file: str,
    at: datetime,
    verb: Literal["accept", "evaluate"] = "accept",
) -> None:
    """Add a judgement to a ledger; raises `StorageError` where it cannot be written."""
    judged = Judgement(
        at=at,
        verb=verb,
        test_set=tested.fingerprint,
        parts="".join(sorted(set(tested.sums))),
        model=identity(manifest),
        file=plain(file),
    )
    busy = f"{path} is being written by another process. Try again."
    with locked(path.with_name(f"{path.name}.lock"), busy, wait=lambda _: None):
        lines = [each.model_dump_json() for each in (*_read(path), judged)]
        write_text(path, "\n".join([*lines, ""]), _ADVICE)


def _read(path: Path) -> Sequence[Judgement]:
    if not path.exists():
        return ()
    text = read_text(path, StorageError, _ADVICE, most=_MOST_BYTES)
    found = []
    for number, line in enumerate(filter(str.strip, text.splitlines()), start=1):
        try:
            found.append(Judgement.model_validate_json(line))
        except ValidationError as error:
            raise StorageError(
                f"{path} is no ledger of test sets: line {number} cannot be read "
                f"({error.errors()[0]['msg']}). {_ADVICE}"
            ) from None
    return found
