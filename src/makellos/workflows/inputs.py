"""What an inspection goes through: files, and the folders that are looked through for such."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from makellos.data.array_pictures import has_pictures
from makellos.data.array_sets import numpy_files
from makellos.data.files import is_folder
from makellos.data.layouts import list_parts, walk_parts
from makellos.data.manifests import MANIFESTS
from makellos.data.masks import find_masks
from makellos.data.names import folded
from makellos.data.parts import PICTURES, FileKind, Source
from makellos.errors import InputError

__all__ = ["Listed", "References", "list_inputs"]


class Listed(NamedTuple):
    """Hold files to inspect, each with the relative path of its overlay, and the masks left out.

    `references` are those that manifests name, by the file.
    """

    files: list[tuple[Path, Path]]
    masks: list[Path]
    references: dict[Path, Path | Source]


@dataclass(frozen=True)
class References:
    """Find the picture that a file is compared with: the same for all, or of its name in a folder.

    Else it is the one that a manifest names for the file.
    """

    named: Mapping[Path, Path | Source]
    picture: Path | None = None
    by_name: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Path | None, named: Mapping[Path, Path | Source]) -> Self:
        """Return where references are looked for; raises `InputError` where none are."""
        if given is None or not is_folder(given):
            return cls(named, given)
        found = walk_parts(given)
        if not found:
            raise InputError(
                f"{given} holds no picture to compare parts with. Put references there that are "
                "named like the parts, or give one picture."
            )
        return cls(named, None, {_stem(path.relative_to(given)): path for path in found})

    def __call__(self, path: Path, relative: Path) -> Path | Source | None:
        """Return the reference of a file with a relative path, None where there is none.

        One in the same subfolder goes before one that has the name alone.
        """
        found = self.by_name.get(_stem(relative), self.by_name.get(_stem(Path(relative.name))))
        return self.picture or found or self.named.get(path)


def _stem(relative: Path) -> str:
    return folded(relative.with_suffix("").as_posix())


def list_inputs(inputs: Sequence[Path], kind: FileKind = PICTURES) -> Listed:
    """Return every file to inspect with the relative path that its overlay gets.

    Folders are walked for files of a kind that are no masks; a file is taken whatever its name,
    but a manifest of pictures stands for those that it lists. A folder without pictures may hold
    NumPy files with such. The relative path is the one below the folder; where two files would
    share it, the names of folders stand before those of all files. Raises `InputError` when nothing
    is left.
    """
    listed: list[tuple[Path, Path, Path]] = []
    masks: list[Path] = []
    references: dict[Path, Path | Source] = {}
    for item in inputs:
        if kind.noun == PICTURES.noun and item.suffix.lower() in MANIFESTS and item.is_file():
            for part in list_parts(item):
                if part.element is not None:
                    raise InputError(
                        f"{item} lists pictures in NumPy files, such as {part.name}. Inspect the "
                        "files, or give the manifest to 'makellos evaluate --csv FILE'."
                    )
                relative = Path(part.name)
                inside = not relative.is_absolute() and ".." not in relative.parts
                place = relative if inside else Path(relative.name)
                listed.append((part.path, place, item.parent))
                if part.reference is not None:
                    references[part.path] = part.reference
            continue
        if is_folder(item):
            files = walk_parts(item, kind)
            found = find_masks(item, files).files if kind.noun == PICTURES.noun else set()
            masks += found
            if not files and kind.noun == PICTURES.noun:
                files = list(filter(has_pictures, numpy_files(item)))
            listed += [(path, path.relative_to(item), item) for path in files if path not in found]
        else:
            listed.append((item, Path(item.name), item.parent))
    if not listed:
        names = ", ".join(str(item) for item in inputs) or "nothing"
        raise InputError(
            f"There is no {kind.noun} in {names}. Give {kind.noun} files, or folders "
            "that hold some."
        )
    return Listed(_apart(listed), masks, references)


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
