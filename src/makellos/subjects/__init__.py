"""Kinds of data, pictures and vibration, and what each can do; workflows ask, and do not branch."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from makellos.data.array_sets import ArrayKeys, parse_keys
from makellos.data.good_labels import GoodLabels, parse_good, with_good
from makellos.data.groups import by_pattern, check_groups, column_of, is_pattern
from makellos.data.layouts import list_parts
from makellos.data.parts import PartSet
from makellos.errors import InputError
from makellos.inspection import Inspector
from makellos.inspection.manifest import Manifest
from makellos.inspection.model_file import read_model
from makellos.subjects.pictures import PictureSubject
from makellos.subjects.subject import WINDOW, Gathered, Subject

__all__ = [
    "WINDOW",
    "Gathered",
    "Subject",
    "find_parts",
    "find_tested",
    "open_inspector",
    "subject_of",
    "subject_of_model",
]

_PICTURES = PictureSubject()


def find_parts(
    data: Path | str,
    groups: str | None = None,
    *,
    good: GoodLabels = None,
    keys: ArrayKeys = None,
) -> PartSet:
    """List the parts of a folder or a CSV manifest: pictures or, where there are none, recordings.

    Folders are read in the MVTec AD layout, as one folder per class, or as a flat folder of good
    parts; no file of a part is opened. Rows of a manifest have ``path``, and may have ``label``,
    ``split``, ``mask`` and ``group``; those of recordings also ``start`` and ``end`` of the piece
    that counts (seconds, or per cent as in ``50%``), ``speed`` in turns per minute, ``machine``,
    ``sensor`` and ``load``. `groups` names what parts belong together by: a column of the manifest
    in place of ``group``, or a pattern of file names that marks the group with ``{}``.

    A NumPy file (``.npz``, ``.npy``) of pictures and labels is a set, too, and so is a folder of
    such. `keys` say what its arrays are, where their names do not: ``images=a,labels=b``, or a
    dict. `good` are the labels that mean good, where the set does not say so: ``0`` of digits.

    Raises `InputError` when `data` does not exist, cannot be read or holds no parts, when a picture
    in ``test`` has no label or a good part none of the groups named, and with all the mistakes of a
    manifest; `ConfigurationError` for a pattern that marks no group.
    """
    column = column_of(groups)
    kinds = [subject.kind for subject in (_PICTURES, _vibration())]
    found = list_parts(Path(data), kinds, column, parse_keys(keys))
    found = with_good(found, parse_good(good))
    if column is not None:
        return check_groups(found, f"the column {column!r}")
    if groups is not None and is_pattern(groups):
        return by_pattern(found, groups)
    has_groups = any(part.group for part in found)
    return replace(found, grouping="the column 'group'") if has_groups else found


def find_tested(
    model: Path | str,
    data: Path | str,
    *,
    good: GoodLabels = None,
    keys: ArrayKeys = None,
) -> PartSet:
    """List parts as `find_parts` does; what was good at the fit is, where nothing else is said."""
    found = find_parts(data, good=good, keys=keys)
    if good is not None or any(part.is_good for part in found.test()):
        return found
    known = {part.label.casefold() for part in found}
    asked = read_model(Path(model)).manifest.training.good
    return with_good(found, [label for label in asked if label.casefold() in known])


def subject_of(parts: PartSet) -> Subject:
    """Return what the kind of a set's files can do."""
    return _PICTURES if parts.kind == _PICTURES.kind else _vibration()


def subject_of_model(manifest: Manifest) -> Subject:
    """Return what the kind of data can do that a model was fitted on."""
    return _PICTURES if manifest.signal is None else _vibration()


def open_inspector(model: Path | str, found: PartSet, n_parts: int) -> Inspector:
    """Return the inspector; raise `InputError` where a model of one kind meets parts of another."""
    opened = read_model(Path(model))
    subject = subject_of_model(opened.manifest)
    if subject.kind != found.kind:
        raise InputError(
            f"{model} was fitted on {subject.kind.name}, but {found.root} holds "
            f"{found.kind.name}. Give data of the same kind."
        )
    return Inspector(opened, workers=subject.workers(opened.manifest, n_parts))


@cache
def _vibration() -> Subject:
    """Return what recordings can do; who inspects pictures imports nothing of it."""
    from makellos.subjects.vibration import VibrationSubject

    return VibrationSubject()
