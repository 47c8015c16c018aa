"""What an inspection goes through: files, and the folders that are looked through for such."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from makellos.data.files import is_folder
from makellos.data.layouts import walk_parts
from makellos.data.masks import find_masks
from makellos.data.names import folded
from makellos.data.parts import PICTURES, FileKind
from makellos.errors import InputError

__all__ = ["Listed", "list_inputs"]


class Listed(NamedTuple):
    """Hold files to inspect, each with the relative path of its overlay, and the masks left out."""

    files: list[tuple[Path, Path]]
    masks: list[Path]


def list_inputs(inputs: Sequence[Path], kind: FileKind = PICTURES) -> Listed:
    """Return every file to inspect with the relative path that its overlay gets.

    Folders are walked for files of a kind that are no masks; a file is taken whatever its name. The
    relative path is the one below the folder; where two files would share it, the names of folders
    stand before those of all files. Raises `InputError` when nothing is left.
    """
    listed: list[tuple[Path, Path, Path]] = []
    masks: list[Path] = []
    for item in inputs:
        if is_folder(item):
            files = walk_parts(item, kind)
            found = find_masks(item, files).files if kind.noun == PICTURES.noun else set()
            masks += found
            listed += [(path, path.relative_to(item), item) for path in files if path not in found]
        else:
            listed.append((item, Path(item.name), item.parent))
    if not listed:
        names = ", ".join(str(item) for item in inputs) or "nothing"
        raise InputError(
            f"There is no {kind.noun} in {names}. Give {kind.noun} files, or folders "
            "that hold some."
        )
    return Listed(_apart(listed), masks)


def _apart(listed: Sequence[tuple[Path, Path, Path]]) -> list[tuple[Path, Path]]:
    """Put the name of its folder before each path where one would be taken twice."""
    # Folded, for file systems that take a.png and A.png for one file.
    plain = {folded(relative.as_posix()): path for path, relative, _ in listed}
    if all(plain[folded(relative.as_posix())] == path for path, relative, _ in listed):
        return [(path, relative) for path, relative, _ in listed]
    folders = list(dict.fromkeys(folder.resolve() for _, _, folder in listed))
    numbers: Counter[str] = Counter()
    prefix: dict[Path, Path] = {}
    for folder in folders:
        numbers[folded(folder.name)] += 1
        number = numbers[folded(folder.name)]
        prefix[folder] = Path(folder.name) if number == 1 else Path(str(number), folder.name)
    placed, owner = [], dict[str, Path]()
    for path, relative, folder in listed:
        wanted = place = prefix[folder.resolve()] / relative
        number = 1
        while owner.setdefault(folded(place.as_posix()), path) != path:
            number += 1
            place = Path(str(number)) / wanted
        placed.append((path, place))
    return placed
