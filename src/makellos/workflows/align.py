"""Align: a set of parts written anew, each turned to one pose and cropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part, PartSet
from makellos.data.progress import Progress, no_progress
from makellos.data.splits import write_manifest
from makellos.errors import ConfigurationError, InputError, StorageError, suggest
from makellos.inspection.alignment import Alignment
from makellos.models.alignment import WAYS, learn_alignment, not_turned
from makellos.storage import claim_folder, write_bytes
from makellos.subjects import find_parts

__all__ = ["AlignSummary", "align"]

MANIFEST = "parts.csv"


@dataclass(frozen=True)
class AlignSummary:
    """Hold what was turned: `way` is ``rotate`` or ``register``, `height` and `width` in pixels.

    `in_doubt` are parts that agree little with the good ones, `unreadable` names and reasons of
    those that could not be read, and `manifest` what describes the new set where one described the
    old.
    """

    data: str
    output: str
    way: str
    n_parts: int
    height: int
    width: int
    in_doubt: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    manifest: str | None = None


def align(
    data: Path | str,
    output: Path | str,
    *,
    way: str = "auto",
    progress: Progress = no_progress,
) -> AlignSummary:
    """Write the parts of `data`, and their masks, turned to one pose and cropped, as PNG.

    The pose is learned from the good parts for training; names and folders stay as they are.
    Raises `InputError` where these cannot be turned, and for a folder that is not empty,
    `ConfigurationError` for an unknown `way`, `StorageError` where nothing can be written.
    """
    if way not in ("auto", *WAYS):
        known = ("auto", *WAYS)
        raise ConfigurationError(f"{way!r} is not a way to align. {suggest(way, known)}")
    parts, folder = find_parts(data), Path(output)
    parts.require_pictures("data align")
    parts.require_good()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} is not empty. The turned parts are written into a new or empty folder: "
            "choose another one with -o, or remove it first."
        )
    found = learn_alignment([part for part in parts.good() if _is_readable(part)], way, progress)
    if found is None:
        raise InputError(not_turned(way, "choose another --way, or leave them as they lie"))
    claim_folder(folder)
    return _written(parts, found, Path(data), folder, progress)


def _written(
    parts: PartSet, alignment: Alignment, data: Path, folder: Path, progress: Progress
) -> AlignSummary:
    written: list[Part] = []
    doubts: list[str] = []
    unreadable: dict[str, str] = {}
    shape = (0, 0)
    for i, (part, name) in enumerate(_named(parts)):
        try:
            aligned = alignment(part.read())
            mask = None if part.mask is None else part.mask_in(part.mask, aligned.size)
        except InputError as error:
            unreadable[part.name] = str(error)
            continue
        path = folder / name
        _write(path, aligned.picture)
        there = None
        if part.mask is not None and mask is not None:
            there = folder / _mask_name(part, name, parts.root)
            _write(there, aligned.on_mask(mask).astype(np.uint8) * np.uint8(255))
        written.append(replace(part, source=path, name=name, mask=there))
        if not aligned.is_sure:
            doubts.append(part.name)
        shape = aligned.picture.shape[0], aligned.picture.shape[1]
        progress("turning parts", i + 1, len(parts))
    manifest = folder / MANIFEST if data.is_file() else None
    if manifest is not None:
        write_manifest(manifest, written)
    return AlignSummary(
        data=str(data),
        output=str(folder),
        way=alignment.way,
        n_parts=len(written),
        height=shape[0],
        width=shape[1],
        in_doubt=doubts,
        unreadable=unreadable,
        manifest=None if manifest is None else str(manifest),
    )


def _named(parts: PartSet) -> Iterator[tuple[Part, str]]:
    """Yield each part and the name of its new file, which no other has."""
    taken: set[str] = set()
    for part in parts:
        inside = PurePosixPath(*(each for each in PurePosixPath(part.name).parts if each != ".."))
        name = str(PurePosixPath(str(inside).lstrip("/")).with_suffix(".png"))
        if name.casefold() in taken:
            name = f"{str(inside).lstrip('/')}.png"
        taken.add(name.casefold())
        yield part, name


def _mask_name(part: Part, name: str, root: Path) -> str:
    """Return where a mask lies in the new folder: as in the old one, if it lay there."""
    if part.mask is not None and part.mask.is_relative_to(root):
        return part.mask.relative_to(root).with_suffix(".png").as_posix()
    return f"masks/{name}"


def _is_readable(part: Part) -> bool:
    try:
        part.read()
    except InputError:
        return False
    return True


def _write(path: Path, picture: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    pixels = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png", pixels)
    if not done:
        raise StorageError(f"{path} could not be encoded as PNG.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, encoded.tobytes())
