"""Parts, and where they come from: MVTec AD layout, flat folder, class folders, CSV manifest.

A folder without pictures may hold recordings of vibration instead, in the same layouts.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from makellos.data.pictures import PICTURE_SUFFIXES, Picture, read_picture
from makellos.errors import InputError, suggest
from makellos.vibration.recordings import SIGNAL_SUFFIXES
from makellos.vibration.windows import Piece, parse_piece, parse_rpm

__all__ = [
    "GOOD",
    "MANIFEST",
    "Part",
    "PartSet",
    "View",
    "find_parts",
    "group_names",
    "walk_parts",
]

GOOD = "good"
MANIFEST = "CSV manifest"

_CLASS_GOOD = frozenset({"good", "ok"})
_CLASS_DEFECTIVE = frozenset({"defective", "defect", "defects", "bad", "nok", "ng", "anomaly"})
_COLUMNS = ("path", "label", "split", "mask", "group")
_SIGNAL_COLUMNS = ("start", "end", "speed")
_DETAILS = ("machine", "sensor", "load")
_DELIMITERS = ",;\t"
# Some sets call the calibration folder "validation", as MVTec AD 2 does.
_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
_MASKS = "ground_truth"
# What file servers, archivers and drives put beside pictures; some of it may not be opened.
_FOREIGN = frozenset(
    {"@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found"}
)
_MAX_SHOWN = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """Hold how a window of a signal is seen: a picture H×W uint16, or features (F,) float32.

    `start` is its first sample in the recording of this name.
    """

    values: NDArray[np.uint16] | NDArray[np.float32]
    start: int
    recording: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Name one part: its picture file and what is known of it.

    `label` is ``good``, ``defective`` or a defect's name; `name` is the path relative to the
    data folder, with forward slashes; parts of one `group` belong together (one tile, one lot). A
    window of a signal is a part as well: `path` is its recording, `view` what a detector sees.

    Of a recording, `piece` is what counts of it, `rpm` the speed of the shaft in turns per minute,
    `details` what else a manifest says: machine, sensor and load.
    """

    path: Path
    name: str
    label: str = GOOD
    split: str | None = None
    mask: Path | None = None
    group: str | None = None
    view: View | None = None
    piece: Piece | None = None
    rpm: float | None = None
    details: Mapping[str, str] = field(default_factory=dict, hash=False)

    def read(self) -> Picture:
        """Return the picture, decoded, or how a window of a signal is seen.

        Raises `InputError` for a file that cannot be read.
        """
        if self.view is None:
            return read_picture(self.path)
        return self.view.values  # type: ignore[return-value]  # features, for detectors of such

    @property
    def is_good(self) -> bool:
        """Tell whether the part is labelled good."""
        return self.label == GOOD


@dataclass(frozen=True, kw_only=True)
class PartSet:
    """Hold the parts of a folder in the order of their names, or of a manifest in its order.

    `kind` says what their files are.
    """

    root: Path
    layout: str
    parts: tuple[Part, ...]
    kind: Literal["pictures", "signals"] = "pictures"

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)

    def good(self) -> tuple[Part, ...]:
        """Return the good parts that a detector may learn from: all but splits val and test."""
        return self._select(lambda part: part.is_good and part.split in (None, "train"))

    def labelled(self) -> tuple[Part, ...]:
        """Return what a detector that needs labels learns from, and validates with.

        All parts but those of split test and the good ones of split val, which calibrate.
        """
        return self._select(
            lambda part: part.split in (None, "train") or (part.split == "val" and not part.is_good)
        )

    def calibration(self) -> tuple[Part, ...]:
        """Return the good parts that the data sets aside for calibration: split val."""
        return self._select(lambda part: part.is_good and part.split == "val")

    def test(self) -> tuple[Part, ...]:
        """Return the labelled test parts: split test, or all parts where no part has a split."""
        chosen = self._select(lambda part: part.split == "test")
        return chosen if any(part.split for part in self.parts) else self.parts

    def require_pictures(self, what: str) -> None:
        """Raise `InputError` where the parts are recordings, which `what` does not work on yet."""
        if self.kind != "pictures":
            raise InputError(
                f"{self.root} holds recordings; {what} works on pictures. Recordings can be "
                "fitted, inspected, evaluated, calibrated and checked."
            )

    def _select(self, wanted: Callable[[Part], bool]) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if wanted(part))


def find_parts(data: Path) -> PartSet:
    """List the parts of a folder or a CSV manifest, without opening a picture.

    A folder is read as MVTec AD layout when it has a folder ``train`` or ``test``; as class
    folders when it has a folder ``good``, ``ok``, ``defective`` or the like, or when all its
    pictures lie in two or more folders; else as a flat folder of good parts. Masks are looked for
    in ``ground_truth`` under the picture's name, with or without ``_mask``. Upper and lower case
    make no difference. What lies outside of these folders is left out.

    A folder that holds no picture is looked through for recordings of vibration, with ``good``
    ones among them.

    A manifest has commas, semicolons or tabs between its columns; paths in it are absolute or
    relative to it. Without a column ``label`` all its parts are good. Rows of recordings may have
    ``start`` and ``end`` of the piece that counts (seconds, or per cent as in ``50%``), ``speed``
    in turns per minute, ``machine``, ``sensor`` and ``load``.

    Raises `InputError` when `data` does not exist, cannot be read or holds no picture, when a
    picture in ``test`` has no label, and with all the mistakes of a manifest.
    """
    try:
        if data.is_file():
            parts = _one_spelling(_manifest(data))
            return PartSet(root=data.parent, layout=MANIFEST, parts=parts, kind=_kind(data, parts))
        if not data.is_dir():
            raise InputError(
                f"{data} does not exist. Give a folder of pictures, or a CSV manifest with the "
                f"columns {', '.join(_COLUMNS)}."
            )
        found = _folder(data, PICTURE_SUFFIXES)
        if not found.parts:
            found = dataclasses.replace(_folder(data, SIGNAL_SUFFIXES), kind="signals")
            _refuse_manifests(found.parts)
    except OSError as error:
        _refuse(error, data)
    if not found.parts:
        raise InputError(
            f"{data} holds no picture ({', '.join(sorted(PICTURE_SUFFIXES))}) and no recording "
            f"({', '.join(sorted(SIGNAL_SUFFIXES))}). Put pictures of good parts there, or in its "
            "subfolder train/good."
        )
    return found


def walk_parts(folder: Path, suffixes: frozenset[str] = PICTURE_SUFFIXES) -> list[Path]:
    """List the files below `folder` that have a suffix, in the same order on every system.

    Hidden files and the thumbnail folders of file servers are left out; links to folders are not
    followed. Raises `InputError` where a folder cannot be listed.
    """

    def refuse(error: OSError) -> NoReturn:
        _refuse(error, folder)

    found: list[Path] = []
    for here, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = filter(_is_listed, folders)
        names = filter(_is_listed, files)
        found += (path for path in map(Path(here).joinpath, names) if _has(path, suffixes))
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def group_names(parts: Sequence[Part]) -> list[str]:
    """Return the group of each part; a part without one is a group of its own."""
    return [part.group if part.group is not None else f"part:{part.name}" for part in parts]


def _refuse(error: OSError, data: Path) -> NoReturn:
    raise InputError(
        f"{error.filename or data} cannot be read: {error.strerror}. Check its permissions and "
        "its drive."
    ) from error


def _is_listed(name: str) -> bool:
    return not name.startswith(".") and name.casefold() not in _FOREIGN


def _has(path: Path, suffixes: frozenset[str]) -> bool:
    return path.suffix.lower() in suffixes


def _one_spelling(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Spell labels that differ in upper and lower case only as the first of them."""
    spelling = dict.fromkeys(_CLASS_GOOD, GOOD)
    labels = [(part, spelling.setdefault(part.label.casefold(), part.label)) for part in parts]
    return tuple(
        part if part.label == label else dataclasses.replace(part, label=label)
        for part, label in labels
    )


def _folder(root: Path, suffixes: frozenset[str]) -> PartSet:
    entries = sorted(entry for entry in root.iterdir() if _is_listed(entry.name))
    by_kind = {entry: entry.name.casefold() for entry in entries if entry.is_dir()}
    masks = _mask_index(folder for folder, kind in by_kind.items() if kind == _MASKS)
    kinds = {folder: kind for folder, kind in by_kind.items() if kind != _MASKS}
    if {"train", "test"} & set(kinds.values()):
        parts = _mvtec(root, kinds, masks, suffixes)
        return PartSet(root=root, layout="MVTec AD", parts=_sorted(parts))
    loose = [entry for entry in entries if entry not in by_kind and _has(entry, suffixes)]
    inside = {folder: files for folder in kinds if (files := walk_parts(folder, suffixes))}
    named = (_CLASS_GOOD | _CLASS_DEFECTIVE) & set(kinds.values())
    if named or (len(inside) > 1 and not loose):
        parts = (_labelled(path, root, root, masks) for path in chain(*inside.values()))
        return PartSet(root=root, layout="class folders", parts=_sorted(parts))
    flat = (_labelled(path, path.parent, root, masks) for path in chain(loose, *inside.values()))
    return PartSet(root=root, layout="flat folder", parts=_sorted(flat))


def _sorted(parts: Iterable[Part]) -> tuple[Part, ...]:
    return _one_spelling(sorted(parts, key=lambda part: part.name))


def _mvtec(
    root: Path, by_kind: Mapping[Path, str], masks: dict[str, Path], suffixes: frozenset[str]
) -> Iterator[Part]:
    # Tested parts first: where two splits have a picture of the same name, the mask is theirs.
    for folder, kind in sorted(by_kind.items(), key=lambda item: item[1] != "test"):
        split = _SPLITS.get(kind)
        if split is None:
            continue
        for path in walk_parts(folder, suffixes):
            if split == "test" and path.parent == folder:
                raise InputError(
                    f"{path} has no label, because it lies in {folder.name} itself. Move it to "
                    f"{folder.name}/good, or to a folder in {folder.name} named after its defect."
                )
            yield dataclasses.replace(_labelled(path, folder, root, masks), split=split)


def _labelled(path: Path, folder: Path, root: Path, masks: dict[str, Path]) -> Part:
    """Label a picture by the first folder below `folder` that it lies in."""
    below = path.relative_to(folder)
    label = below.parts[0] if len(below.parts) > 1 else GOOD
    mask = None
    if label.casefold() in _CLASS_GOOD:
        label = GOOD
    else:
        mask = masks.pop(below.with_suffix("").as_posix().casefold(), None)
    return Part(path=path, name=path.relative_to(root).as_posix(), label=label, mask=mask)


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


def _manifest(path: Path) -> list[Part]:
    columns, rows = _table(path)
    problems: list[str] = []
    parts = [
        _row(dict(zip(columns, cells, strict=False)), line, path.parent, problems)
        for line, cells in rows
        if _fits(cells, len(columns), line, problems)
    ]
    problems += _repeated(parts, [line for line, _ in rows]) if not problems else []
    if problems:
        more = f"\n  and {len(problems) - _MAX_SHOWN} more" if len(problems) > _MAX_SHOWN else ""
        shown = "\n  ".join(problems[:_MAX_SHOWN])
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise InputError(f"{path} has {count}. Correct the lines:\n  {shown}{more}")
    if not parts:
        raise InputError(f"{path} lists no parts. Add a row per picture below the header.")
    return parts


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names of the columns, and line number and cells of each row that is not blank."""
    if path.suffix.lower() not in {".csv", ".tsv"}:
        raise InputError(
            f"{path} is a file but no CSV manifest. Give a folder of pictures, or a .csv with the "
            f"columns {', '.join(_COLUMNS)}."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start}). Save it again as CSV UTF-8."
        ) from None
    first, _, rest = text.partition("\n")
    says_delimiter = first.casefold().startswith("sep=")  # Excel's own way to name it
    header = rest.partition("\n")[0] if says_delimiter else first
    reader = csv.reader(
        io.StringIO(text), delimiter=_delimiter(header), strict=True, skipinitialspace=True
    )
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}. Put double quotes around cells that hold "
            "the delimiter, and double the quotes within."
        ) from None
    rows = [(line, cells) for line, cells in rows[says_delimiter:] if any(cells)]
    columns = [name.casefold() for name in rows[0][1]] if rows else []
    _check_columns(path, columns)
    return columns, rows[1:]


def _delimiter(header: str) -> str:
    def columns(delimiter: str) -> tuple[bool, int]:
        names = [
            name.strip().casefold() for name in next(csv.reader([header], delimiter=delimiter), [])
        ]
        return "path" in names, len(names)

    return max(_DELIMITERS, key=columns)


def _check_columns(path: Path, columns: list[str]) -> None:
    if "path" not in columns:
        raise InputError(
            f"{path} has no column 'path' in its first line. {suggest('path', columns)} "
            f"Name the columns {', '.join(_COLUMNS)}; path is needed, the others may be left out."
        )
    twice = [name for name, count in Counter(columns).items() if count > 1 and name in _COLUMNS]
    if twice:
        raise InputError(f"{path} has more than one column {twice[0]!r}. Keep one of them.")


def _fits(cells: list[str], n_columns: int, line: int, problems: list[str]) -> bool:
    if not any(cells[n_columns:]):
        return True
    problems.append(
        f"line {line}: {len(cells)} cells, but {n_columns} columns (put double quotes around a "
        "cell that holds the delimiter)"
    )
    return False


def _row(row: dict[str, str], line: int, root: Path, problems: list[str]) -> Part:
    cells = dict.fromkeys((*_COLUMNS, *_SIGNAL_COLUMNS, *_DETAILS), "") | row
    picture = _located(root, cells["path"])
    if not cells["path"]:
        problems.append(f"line {line}: no path")
    elif picture is None:
        problems.append(
            f"line {line}: {cells['path']} does not exist (paths are relative to {root})"
        )
    if "label" in row and not cells["label"]:
        problems.append(f"line {line}: no label (good, defective, or the name of a defect)")
    split = _SPLITS.get(cells["split"].casefold())
    if cells["split"] and split is None:
        problems.append(f"line {line}: split {cells['split']!r} is none of train, val, test")
    mask = _located(root, cells["mask"])
    if cells["mask"] and mask is None:
        problems.append(f"line {line}: mask {cells['mask']} does not exist")
    path = picture or root
    name = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
    piece = _piece(cells, line, problems)
    return Part(
        path=path,
        name=name if piece is None else f"{name} {piece}",
        label=cells["label"] or GOOD,
        split=split,
        mask=mask,
        # Pieces of one recording belong together.
        group=cells["group"] or (None if piece is None else name),
        piece=piece,
        rpm=_rpm(cells["speed"], line, problems),
        details={key: cells[key] for key in _DETAILS if cells[key]},
    )


def _refuse_manifests(recordings: Sequence[Part]) -> None:
    """Raise `InputError` where a manifest lies among recordings: its labels would be lost."""
    for part in recordings:
        if part.path.suffix.lower() in {".csv", ".tsv"}:
            with part.path.open(encoding="utf-8-sig", errors="replace") as stream:
                names = re.split(r"[,;\t]", stream.readline(10_000).casefold())
            if "path" in (name.strip(' "\n') for name in names):
                raise InputError(
                    f"{part.path} is a manifest that lies among recordings. Give it in place of "
                    "its folder, or move it out of the folder."
                )


def _piece(cells: Mapping[str, str], line: int, problems: list[str]) -> Piece | None:
    try:
        return parse_piece(cells["start"], cells["end"])
    except ValueError as error:
        problems.append(f"line {line}: {error}")
        return None


def _rpm(cell: str, line: int, problems: list[str]) -> float | None:
    try:
        return parse_rpm(cell)
    except ValueError as error:
        problems.append(f"line {line}: {error}")
        return None


def _kind(manifest: Path, parts: Sequence[Part]) -> Literal["pictures", "signals"]:
    """Return what the files of a manifest are, by their suffixes."""
    signals = [part for part in parts if _has(part.path, SIGNAL_SUFFIXES)]
    if signals and len(signals) < len(parts):
        raise InputError(
            f"{manifest} lists {len(signals)} recordings, such as {signals[0].name}, among other "
            "files. Give pictures and recordings a manifest each."
        )
    return "signals" if signals else "pictures"


def _located(root: Path, cell: str) -> Path | None:
    """Return the file that a cell names; one written on Windows has backslashes."""
    for name in dict.fromkeys((cell, cell.replace("\\", "/"))):
        try:
            if name and (root / name).is_file():
                return root / name
        except OSError:  # a name that is too long, a folder that may not be entered
            continue
    return None


def _repeated(parts: list[Part], lines: list[int]) -> Iterator[str]:
    seen: dict[str, list[tuple[Part, int]]] = {}
    for part, line in zip(parts, lines, strict=True):
        before = seen.setdefault(os.path.normcase(part.path.resolve()), [])
        for other, at in before[:]:
            if part.piece is None or other.piece is None:
                yield f"line {line}: {part.name} is listed in line {at} already"
                break
            if part.piece.overlaps(other.piece):
                yield f"line {line}: {part.name} shares samples with line {at} ({other.piece})"
                break
        before.append((part, line))
