"""Where parts come from: MVTec AD layout, class folders, flat folder, or a CSV manifest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NoReturn

from makellos.data.manifests import COLUMNS, MANIFEST, SPLITS, read_manifest
from makellos.data.parts import GOOD, PICTURES, FileKind, Part, PartSet
from makellos.errors import InputError

__all__ = ["CLASS_DEFECTIVE", "CLASS_GOOD", "list_parts", "walk_parts"]

CLASS_GOOD = frozenset({"good", "ok"})
CLASS_DEFECTIVE = frozenset({"defective", "defect", "defects", "bad", "nok", "ng", "anomaly"})
_MASKS = "ground_truth"
# What file servers, archivers and drives put beside pictures; some of it may not be opened.
_FOREIGN = frozenset(
    {"@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found"}
)


def list_parts(data: Path, kinds: Sequence[FileKind] = (PICTURES,)) -> PartSet:
    """List the parts of a folder or a CSV manifest, without opening a file of them.

    A folder is looked through for files of the first of `kinds`, without any for those of the next.
    It is read as MVTec AD layout when it has a folder ``train`` or ``test``; as class folders when
    it has a folder ``good``, ``ok``, ``defective`` or the like, or when all its files lie in two or
    more folders; else as a flat folder of good parts. Masks are looked for in ``ground_truth``
    under the picture's name, with or without ``_mask``. Upper and lower case make no difference.
    What lies outside of these folders is left out.

    A manifest has commas, semicolons or tabs between its columns; paths in it are absolute or
    relative to it. Without a column ``label`` all its parts are good. Its rows may have the columns
    `details` of their kind.

    Raises `InputError` when `data` does not exist, cannot be read or holds no file of `kinds`, when
    one in ``test`` has no label, and with all the mistakes of a manifest.
    """
    try:
        if data.is_file():
            kind, listed = read_manifest(data, kinds)
            parts = _one_spelling(listed)
            return PartSet(root=data.parent, layout=MANIFEST, parts=parts, kind=kind)
        if not data.is_dir():
            raise InputError(
                f"{data} does not exist. Give a folder of pictures, or a CSV manifest with the "
                f"columns {', '.join(COLUMNS)}."
            )
        for kind in kinds:
            found = _folder(data, kind)
            if found.parts:
                _refuse_manifests(found)
                return found
    except OSError as error:
        _refuse(data, error)
    none = " and ".join(f"no {each.noun} ({', '.join(sorted(each.suffixes))})" for each in kinds)
    raise InputError(
        f"{data} holds {none}. Put {kinds[0].name} of good parts there, or in its subfolder "
        "train/good."
    )


def walk_parts(folder: Path, kind: FileKind = PICTURES) -> list[Path]:
    """List the files of a kind below `folder`, in the same order on every system.

    Hidden files and the thumbnail folders of file servers are left out; links to folders are not
    followed. Raises `InputError` where a folder cannot be listed.
    """
    found: list[Path] = []
    for here, folders, files in os.walk(folder, onerror=partial(_refuse, folder)):
        folders[:] = filter(_is_listed, folders)
        names = filter(_is_listed, files)
        found += (path for path in map(Path(here).joinpath, names) if kind.has(path))
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _refuse(data: Path, error: OSError) -> NoReturn:
    raise InputError(
        f"{error.filename or data} cannot be read: {error.strerror}. Check its permissions and "
        "its drive."
    ) from error


def _is_listed(name: str) -> bool:
    return not name.startswith(".") and name.casefold() not in _FOREIGN


def _one_spelling(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Spell labels that differ in upper and lower case only as the first of them."""
    spelling = dict.fromkeys(CLASS_GOOD, GOOD)
    labels = [(part, spelling.setdefault(part.label.casefold(), part.label)) for part in parts]
    return tuple(
        part if part.label == label else replace(part, label=label) for part, label in labels
    )


def _folder(root: Path, kind: FileKind) -> PartSet:
    entries = sorted(entry for entry in root.iterdir() if _is_listed(entry.name))
    by_name = {entry: entry.name.casefold() for entry in entries if entry.is_dir()}
    masks = _mask_index(folder for folder, name in by_name.items() if name == _MASKS)
    others = {folder: name for folder, name in by_name.items() if name != _MASKS}
    if {"train", "test"} & set(others.values()):
        parts = _mvtec(root, others, masks, kind)
        return PartSet(root=root, layout="MVTec AD", parts=_sorted(parts), kind=kind)
    loose = [entry for entry in entries if entry not in by_name and kind.has(entry)]
    inside = {folder: files for folder in others if (files := walk_parts(folder, kind))}
    named = (CLASS_GOOD | CLASS_DEFECTIVE) & set(others.values())
    if named or (len(inside) > 1 and not loose):
        parts = (_labelled(path, root, root, masks) for path in chain(*inside.values()))
        return PartSet(root=root, layout="class folders", parts=_sorted(parts), kind=kind)
    flat = (_labelled(path, path.parent, root, masks) for path in chain(loose, *inside.values()))
    return PartSet(root=root, layout="flat folder", parts=_sorted(flat), kind=kind)


def _sorted(parts: Iterable[Part]) -> tuple[Part, ...]:
    return _one_spelling(sorted(parts, key=lambda part: part.name))


def _mvtec(
    root: Path, by_name: Mapping[Path, str], masks: dict[str, Path], kind: FileKind
) -> Iterator[Part]:
    # Tested parts first: where two splits have a picture of the same name, the mask is theirs.
    for folder, name in sorted(by_name.items(), key=lambda item: item[1] != "test"):
        split = SPLITS.get(name)
        if split is None:
            continue
        for path in walk_parts(folder, kind):
            if split == "test" and path.parent == folder:
                raise InputError(
                    f"{path} has no label, because it lies in {folder.name} itself. Move it to "
                    f"{folder.name}/good, or to a folder in {folder.name} named after its defect."
                )
            yield replace(_labelled(path, folder, root, masks), split=split)


def _labelled(path: Path, folder: Path, root: Path, masks: dict[str, Path]) -> Part:
    """Label a picture by the first folder below `folder` that it lies in."""
    below = path.relative_to(folder)
    label = below.parts[0] if len(below.parts) > 1 else GOOD
    mask = None
    if label.casefold() in CLASS_GOOD:
        label = GOOD
    else:
        mask = masks.pop(below.with_suffix("").as_posix().casefold(), None)
    return Part(source=path, name=path.relative_to(root).as_posix(), label=label, mask=mask)


def _mask_index(folders: Iterable[Path]) -> dict[str, Path]:
    """Map kind/stem, in lower case, to the mask of that picture."""
    index: dict[str, Path] = {}
    for folder in folders:
        # Of several files for one picture the PNG wins, and ..._mask before the bare name.
        found = sorted(
            walk_parts(folder),
            key=lambda path: (not path.stem.endswith("_mask"), path.suffix != ".png"),
        )
        for path in found:
            below = path.relative_to(folder).with_suffix("").as_posix()
            index.setdefault(below.removesuffix("_mask").casefold(), path)
    return index


def _refuse_manifests(found: PartSet) -> None:
    """Raise `InputError` where a manifest lies among other files: its labels would be lost."""
    for part in found:
        if part.path.suffix.lower() in {".csv", ".tsv"}:
            with part.path.open(encoding="utf-8-sig", errors="replace") as stream:
                names = re.split(r"[,;\t]", stream.readline(10_000).casefold())
            if "path" in (name.strip(' "\n') for name in names):
                raise InputError(
                    f"{part.path} is a manifest that lies among {found.kind.noun}s. Give it in "
                    "place of its folder, or move it out of the folder."
                )
