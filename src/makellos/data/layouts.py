"""Where parts come from: MVTec AD layout, class folders, flat folder, or a CSV manifest."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from makellos.data.array_pictures import is_numpy_file
from makellos.data.array_sets import Keys, array_set, holds_arrays
from makellos.data.judges import relabelled
from makellos.data.manifests import COLUMNS, MANIFEST, read_manifest
from makellos.data.masks import Masks, find_masks
from makellos.data.names import SPLITS, begins_good, folded, generic_class
from makellos.data.own_outputs import is_own_output
from makellos.data.parts import GOOD, PICTURES, FileKind, Part, PartSet
from makellos.errors import ConfigurationError, InputError

__all__ = ["is_listed", "list_parts", "walk_parts"]

# What file servers, archivers and drives put beside pictures; some of it may not be opened.
_FOREIGN = frozenset(
    {"@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found"}
)
_SHOWN = 3


def list_parts(
    data: Path,
    kinds: Sequence[FileKind] = (PICTURES,),
    group_column: str | None = None,
    keys: Keys = (),
) -> PartSet:
    """List the parts of a folder or a CSV manifest, without opening a file of them but masks.

    A folder is looked through for files of the first of `kinds`, without any for those of the next.
    It is read as MVTec AD layout when it has a folder ``train`` or ``test``; as class folders when
    it has a folder ``good``, ``ok``, ``defective`` or the like, or when all its files lie in two or
    more folders; else as a flat folder of good parts. Masks are looked for in ``ground_truth``
    under the picture's name, with or without ``_mask``. Upper and lower case make no difference.
    What lies outside of these folders is left out.

    A manifest has commas, semicolons or tabs between its columns; paths in it are absolute or
    relative to it. Without a column ``label`` all its parts are good. Its rows may have the columns
    `details` of their kind. `group_column` is read in place of ``group``; folders have none.

    A NumPy file with pictures, or a folder of such, is read as `array_set` does, by its `keys`;
    `group_column` names an array there.

    Raises `InputError` when `data` does not exist, cannot be read or holds no file of `kinds`, when
    one in ``test`` has no label, and with all the mistakes of a manifest.
    """
    try:
        arrays = _arrays(data, group_column, keys)
        if arrays is not None:
            return _named(arrays)
        if data.is_file():
            return _named(_manifest(data, kinds, group_column))
        if not data.is_dir():
            raise InputError(
                f"{data} does not exist. Give a folder of pictures, or a CSV manifest with the "
                f"columns {', '.join(COLUMNS)}."
            )
        if group_column is not None:
            raise InputError(
                f"--groups names a column {group_column!r}, but {data} is a folder. Mark the part "
                "of the file name that is the group with {}, such as 'lot{}_*.png', or give auto."
            )
        for kind in kinds:
            found = _folder(data, kind)
            if found.parts:
                _refuse_manifests(found)
                return found
            if found.left_out:
                _refuse_beside(found)
    except OSError as error:
        _refuse(data, error)
    none = " and ".join(f"no {each.noun} ({', '.join(sorted(each.suffixes))})" for each in kinds)
    raise InputError(
        f"{data} contains {none}. Put {kinds[0].name} of good parts there, or in its subfolder "
        "train/good."
    )


def _manifest(data: Path, kinds: Sequence[FileKind], group_column: str | None) -> PartSet:
    kind, listed, notes = read_manifest(data, kinds, group_column)
    return PartSet(
        root=data.parent, layout=MANIFEST, parts=tuple(listed), kind=kind, notes=tuple(notes)
    )


def _arrays(data: Path, group_column: str | None, keys: Keys) -> PartSet | None:
    """Return the set that NumPy files hold, unless a folder holds pictures in files of their own.

    Raises `ConfigurationError` for `keys` of other data.
    """
    is_set = is_numpy_file(data) if data.is_file() else holds_arrays(data)
    if is_set and not (data.is_dir() and walk_parts(data)):
        of_groups = () if group_column is None else (("groups", group_column),)
        return array_set(data, (*keys, *of_groups))
    if keys and data.exists():
        raise ConfigurationError(
            f"--keys names arrays of NumPy files (.npz, .npy), but {data} has none. Leave it out."
        )
    return None


def walk_parts(folder: Path, kind: FileKind = PICTURES) -> list[Path]:
    """List the files of a kind below `folder`, in the same order on every system.

    Hidden files, the thumbnail folders of file servers, and what makellos itself drew or wrote are
    left out. Links to folders are
    followed, each once, and none to a folder that it lies in. Raises `InputError` where a folder
    cannot be listed.
    """
    found: list[Path] = []
    followed: set[Path] = set()
    # Folders to walk, each with the real ones that lead to it through links.
    waiting: list[tuple[Path, frozenset[Path]]] = [(folder, frozenset())]
    while waiting:
        top, above = waiting.pop(0)
        for here, folders, files in os.walk(top, onerror=partial(_refuse, folder)):
            folders[:] = filter(is_listed, folders)
            paths = (Path(here, name) for name in files if is_listed(name))
            found += (path for path in paths if kind.has(path) and not is_own_output(path))
            real = Path(os.path.realpath(here))
            for name in folders.copy():
                link, target = real / name, Path(os.path.realpath(Path(here, name)))
                if link == target:
                    continue
                folders.remove(name)
                inside = above | {real, *real.parents}
                if target not in inside and link not in followed:
                    followed.add(link)
                    waiting.append((Path(here, name), inside))
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _refuse(data: Path, error: OSError) -> NoReturn:
    raise InputError(
        f"{error.filename or data} cannot be read: {error.strerror}. Check its permissions and "
        "its drive."
    ) from error


def is_listed(name: str) -> bool:
    """Tell whether a name is neither hidden nor that of a folder of a file server."""
    return not name.startswith(".") and name.casefold() not in _FOREIGN


def _named(found: PartSet) -> PartSet:
    """Spell labels alike that differ in case alone, and say how general words were read."""
    spelling: dict[str, str] = {}

    def spelled(label: str) -> str:
        label = GOOD if generic_class(label) == GOOD else label
        return spelling.setdefault(label.casefold(), label)

    parts = [relabelled(part, spelled) for part in found]
    words = dict.fromkeys(part.label for part in found)
    meant = [(word, of) for word in words if (of := generic_class(word)) and word.casefold() != of]
    notes = [
        f"Read as {of}: {', '.join(w for w, m in meant if m == of)}."
        for of in dict.fromkeys(of for _, of in meant)
    ]
    unsure = [word for word in words if begins_good(word)]
    if unsure:
        notes.append(
            f"Read as kinds of damage: {', '.join(unsure)}. Good parts need the label good."
        )
    return replace(found, parts=tuple(parts), notes=(*found.notes, *notes))


def _folder(root: Path, kind: FileKind) -> PartSet:
    files = walk_parts(root, kind)
    masks = find_masks(root, files) if kind == PICTURES else Masks()
    pictures = [path for path in files if path not in masks.files]
    top = _top(root, pictures)
    inside = _by_folder(top, pictures)
    loose = inside.pop("", [])
    folders = _folders(top)
    splits = {name: SPLITS[name.casefold()] for name in folders if name.casefold() in SPLITS}
    named = any(generic_class(name) for name in folders)
    if {"train", "test"} & set(splits.values()):
        layout = "MVTec AD"
        parts = list(_mvtec(root, top, splits, inside))
    elif named or (len(inside) > 1 and not loose):
        layout = "class folders"
        parts = [_labelled(path, top, root) for paths in inside.values() for path in paths]
    else:
        layout = "flat folder"
        flat = [*loose, *(path for paths in inside.values() for path in paths)]
        _refuse_damage(root, flat)
        parts = [_labelled(path, path.parent, root) for path in flat]
    parts.sort(key=lambda part: part.name)
    parts = _with_masks(parts, masks, top.relative_to(root))
    used = {path for part in parts for path in (part.path, part.mask)}
    return _named(
        PartSet(
            root=root,
            layout=layout,
            parts=tuple(parts),
            kind=kind,
            notes=(*masks.notes, *_notes(root, top, splits)),
            left_out=tuple(path.relative_to(root).as_posix() for path in files if path not in used),
        )
    )


def _folders(folder: Path) -> list[str]:
    entries = sorted(entry for entry in folder.iterdir() if is_listed(entry.name))
    return [entry.name for entry in entries if entry.is_dir()]


def _by_folder(top: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Return files by the first folder below `top` that they lie in; "" for none."""
    inside: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        below = path.relative_to(top).parts
        inside[below[0] if len(below) > 1 else ""].append(path)
    return inside


def _top(root: Path, files: Sequence[Path]) -> Path:
    """Return the folder whose folders are splits or classes: `root`, or one that holds all files.

    Other toolkits put ``images`` or the name of the product around them.
    """
    top = root
    while not any(generic_class(name) or name.casefold() in SPLITS for name in _folders(top)):
        inside = [*_by_folder(top, files)]
        if len(inside) != 1 or not inside[0]:
            return root
        top /= inside[0]
    return top


def _refuse_damage(root: Path, flat: Sequence[Path]) -> None:
    """Raise `InputError` where a flat folder of good parts has damage deep inside."""
    for path in flat:
        for name in path.relative_to(root).parts[:-1]:
            if generic_class(name) == "defective":
                raise InputError(
                    f"{path} is in a folder {name}, but {root} itself has neither folders such "
                    "as good and defective nor train and test, so everything in it would count "
                    "as good. Give the folder that contains these folders, or a manifest."
                )


def _notes(root: Path, top: Path, splits: dict[str, str]) -> Iterator[str]:
    if top != root:
        yield f"Parts were read from the folder {top.relative_to(root).as_posix()}."
    for name, split in splits.items():
        if name.casefold() != split:
            yield f"The folder {name} is read as split {split}."


def _mvtec(
    root: Path, top: Path, splits: dict[str, str], inside: dict[str, list[Path]]
) -> Iterator[Part]:
    for name, split in splits.items():
        paths = inside.get(name, [])
        folder = _top(top / name, paths)
        for path in paths:
            if split == "test" and path.parent == top / name:
                raise InputError(
                    f"{path} has no label, because it is in {name} itself. Move it to "
                    f"{name}/good, or to a folder in {name} named after its defect."
                )
            yield replace(_labelled(path, folder, root), split=split)


def _labelled(path: Path, folder: Path, root: Path) -> Part:
    """Label a picture by the first folder below `folder` that it lies in."""
    below = path.relative_to(folder).parts
    label = below[0] if len(below) > 1 else GOOD
    return Part(source=path, name=path.relative_to(root).as_posix(), label=label)


def _with_masks(parts: Sequence[Part], masks: Masks, top: Path) -> list[Part]:
    """Give each part the mask beside it, or one that has its name and no part has better."""
    by_name: defaultdict[tuple[str, ...], list[Part]] = defaultdict(list)
    for part in parts if masks.apart else []:
        names = tuple(map(folded, Path(part.name).with_suffix("").parts))
        for depth in range(len(names)):
            by_name[names[depth:]].append(part)
    of = {str(picture): mask for picture, mask in masks.of.items()}
    above = tuple(map(folded, top.parts))
    for whole, mask in masks.apart.items():
        depth = next((i for i, name in enumerate(above) if name != whole[i]), len(above))
        names = whole[depth:]
        found = [part for part in by_name.get(names, []) if str(part.path) not in of]
        # Damage is what is marked, and where two splits have a picture of a name, the tested one.
        found.sort(key=_rank)
        if found and (
            len(names) > 1 or [_rank(part) for part in found].count(_rank(found[0])) == 1
        ):
            of[str(found[0].path)] = mask
    return [replace(part, mask=of.get(str(part.path))) for part in parts]


def _rank(part: Part) -> tuple[bool, bool]:
    return generic_class(part.label) == GOOD, part.split != "test"


def _refuse_beside(found: PartSet) -> NoReturn:
    names, n_left = ", ".join(found.left_out[:_SHOWN]), len(found.left_out)
    more = f" and {n_left - _SHOWN} more" if n_left > _SHOWN else ""
    place = "train/good" if found.layout == "MVTec AD" else "good"
    raise InputError(
        f"The folders of {found.root} ({found.layout}) contain no {found.kind.noun}; next to them "
        f"are {names}{more}. Move {found.kind.name} of good parts into {place}."
    )


def _refuse_manifests(found: PartSet) -> None:
    """Raise `InputError` where a manifest lies among other files: its labels would be lost."""
    for part in found:
        if part.path.suffix.lower() in {".csv", ".tsv"}:
            with part.path.open(encoding="utf-8-sig", errors="replace") as stream:
                names = re.split(r"[,;\t]", stream.readline(10_000).casefold())
            if "path" in (name.strip(' "\n') for name in names):
                raise InputError(
                    f"{part.path} is a manifest among {found.kind.noun}s. Give it instead of its "
                    "folder, or move it out of the folder."
                )
