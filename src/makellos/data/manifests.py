"""CSV manifests: a row per part, with label, split, mask, group and reference."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from makellos.data.array_pictures import array_picture
from makellos.data.files import read_text
from makellos.data.judges import gathered, majority_note
from makellos.data.names import SPLITS, generic_class, meant, spellings
from makellos.data.parts import GOOD, FileKind, Part, Source
from makellos.errors import InputError, suggest

__all__ = ["COLUMNS", "MANIFEST", "MANIFESTS", "read_manifest"]

MANIFEST = "CSV manifest"
MANIFESTS = frozenset({".csv", ".tsv"})
COLUMNS = ("path", "label", "split", "mask", "group", "reference")
_JUDGE = "judge"  # whose the label of a row is, where parts have several
_READ = (*COLUMNS, _JUDGE)
_DELIMITERS = ",;\t"
_MAX_SHOWN = 20
_MOST_BYTES = 256 << 20


def read_manifest(
    path: Path, kinds: Sequence[FileKind], group_column: str | None = None
) -> tuple[FileKind, list[Part], list[str]]:
    """Return what the files of a manifest are, its parts in their order, and notes on columns.

    `group_column` is read in place of the column ``group``. Raises `InputError` with all the
    mistakes of the manifest, and for a column that is named like one that is read, or holds what
    such a one holds, where that one is missing.
    """
    columns, rows = _table(path)
    if group_column is not None:
        columns = _with_groups(path, columns, group_column)
    _refuse_near_misses(path, columns, rows)
    problems: list[str] = []
    given = [
        (dict(zip(columns, cells, strict=False)), line)
        for line, cells in rows
        if _fits(cells, len(columns), line, problems)
    ]
    kind = _kind(path, [row.get("path", "") for row, _ in given], kinds)
    parts = [_row(row, line, path.parent, kind, problems) for row, line in given]
    judges, lines = [row.get(_JUDGE, "") for row, _ in given], [line for _, line in given]
    if any(judges):
        parts, lines = gathered(parts, judges, lines)
    problems += _repeated(parts, lines, kind) if not problems else []
    if problems:
        more = f"\n  and {len(problems) - _MAX_SHOWN} more" if len(problems) > _MAX_SHOWN else ""
        shown = "\n  ".join(problems[:_MAX_SHOWN])
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        which = "line" if len(problems) == 1 else "lines"
        raise InputError(f"{path} has {count}. Correct the {which}:\n  {shown}{more}")
    if not parts:
        raise InputError(f"{path} lists no parts. Add a row per picture below the header.")
    notes = [*_notes(columns, rows, kind), majority_note(parts)]
    return kind, parts, list(filter(None, notes))


def _with_groups(path: Path, columns: list[str], name: str) -> list[str]:
    """Return the names of the columns, with the one that names groups called so."""
    chosen = name.strip().casefold()
    others = [column for column in COLUMNS if column != "group"]
    if columns.count(chosen) != 1 or chosen in others:
        known = [column for column in columns if column and column not in others]
        what = "more than one column" if columns.count(chosen) > 1 else "no column"
        if chosen in others:
            what = "no column of groups"
        raise InputError(
            f"{path} has {what} {name!r}, which --groups names. {suggest(name, known)} A pattern "
            "of file names marks the group with {}, such as 'lot{}_*.png'."
        )
    renamed = ["(another group)" if column == "group" else column for column in columns]
    return ["group" if was == chosen else now for was, now in zip(columns, renamed, strict=True)]


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names of the columns, and line number and cells of each row that is not blank."""
    if path.suffix.lower() not in MANIFESTS:
        raise InputError(
            f"{path} is a file, but not a CSV manifest. Give a folder of pictures, or a .csv with "
            f"the columns {', '.join(COLUMNS)}."
        )
    text = read_text(path, InputError, "Check the path.", most=_MOST_BYTES)
    first, _, rest = text.partition("\n")
    says_delimiter = first.casefold().startswith("sep=")  # Excel's own way to name it
    header = rest.partition("\n")[0] if says_delimiter else first
    delimiter = _delimiter(header)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}. Put double quotes around cells that contain "
            "the delimiter, and double any quotes inside them."
        ) from None
    rows = [(line, cells) for line, cells in rows[says_delimiter:] if any(cells)]
    columns = [name.casefold() for name in rows[0][1]] if rows else []
    _check_columns(path, columns)
    return columns, rows[1:]


def _delimiter(header: str) -> str:
    def columns(delimiter: str) -> tuple[bool, int]:
        try:
            cells = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:  # it is told where the rows are read
            return False, 0
        names = [name.strip().casefold() for name in cells]
        return "path" in names, len(names)

    return max(_DELIMITERS, key=columns)


def _check_columns(path: Path, columns: list[str]) -> None:
    if "path" not in columns:
        raise InputError(
            f"{path} has no column 'path' in its first line. {suggest('path', columns)} "
            f"Name the columns {', '.join(COLUMNS)}; path is required, the others are optional."
        )
    twice = [
        name for name, count in Counter(columns).items() if count > 1 and name in (*COLUMNS, _JUDGE)
    ]
    if twice:
        raise InputError(f"{path} has more than one column {twice[0]!r}. Keep one of them.")


def _refuse_near_misses(path: Path, columns: list[str], rows: list[tuple[int, list[str]]]) -> None:
    """Raise `InputError` for columns that are meant to be read, and are not."""
    wrong = []
    for place, name in enumerate(columns):
        values = {"".join(cells[place : place + 1]).casefold() for _, cells in rows}
        right = meant(name, COLUMNS[1:]) or _held(values) or meant(name, (_JUDGE,))
        if name not in _READ and right is not None and right not in columns:
            wrong.append(f"{name!r} (is it {right!r}?)")
    if wrong:
        raise InputError(
            f"{path} has columns that are not read but look as if they should be: "
            f"{', '.join(wrong)}. Give each the name in brackets, or remove it."
        )


def _held(values: set[str]) -> str | None:
    """Return the column that values belong into by their words, where every row has one."""
    if not values or "" in values:
        return None
    if any(map(generic_class, values)):
        return "label"
    return "split" if values <= set(SPLITS) else None


def _notes(columns: list[str], rows: list[tuple[int, list[str]]], kind: FileKind) -> Iterator[str]:
    """Name the columns that hold something and are not read."""
    unused = [
        name or "(without a name)"
        for place, name in enumerate(columns)
        if name not in (*_READ, *kind.details) and any(any(c[place : place + 1]) for _, c in rows)
    ]
    if unused:
        yield (
            f"Columns of the manifest that are not read: {', '.join(unused)}. To keep parts "
            "together (of a lot, of a tile), name it in a column 'group'."
        )


def _fits(cells: list[str], n_columns: int, line: int, problems: list[str]) -> bool:
    if not any(cells[n_columns:]):
        return True
    problems.append(
        f"line {line}: {len(cells)} cells, but {n_columns} columns (put double quotes around a "
        "cell that contains the delimiter)"
    )
    return False


def _row(row: dict[str, str], line: int, root: Path, kind: FileKind, problems: list[str]) -> Part:
    cells = dict.fromkeys((*COLUMNS, *kind.details), "") | row
    picture: Path | Source | None = _located(root, cells["path"])
    if picture is None and "#" in cells["path"]:
        picture = _in_array(root, cells["path"], line, problems)
    if not cells["path"]:
        problems.append(f"line {line}: no path")
    elif picture is None:
        problems.append(
            f"line {line}: {cells['path']} does not exist (paths are relative to {root})"
        )
    if "label" in row and not cells["label"]:
        problems.append(f"line {line}: no label (good, defective, or the name of a defect)")
    split = SPLITS.get(cells["split"].casefold())
    if cells["split"] and split is None:
        problems.append(f"line {line}: split {cells['split']!r} is not train, val or test")
    mask = _located(root, cells["mask"])
    if cells["mask"] and mask is None:
        problems.append(f"line {line}: mask {cells['mask']} does not exist")
    path = picture if isinstance(picture, Path) else root if picture is None else picture.path
    name = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
    if not isinstance(picture, Path | None):
        name += cells["path"].replace("\\", "/").rpartition(path.name)[2]
    details = {key: cells[key] for key in kind.details if cells[key]}
    problems += (f"line {line}: {problem}" for problem in kind.problems(details))
    piece = kind.piece(details)
    return Part(
        source=picture or root,
        name=f"{name} {piece}" if piece else name,
        label=cells["label"] or GOOD,
        split=split,
        mask=mask,
        # Pieces of one file belong together.
        group=cells["group"] or (name if piece else None),
        # One that is not there costs its part alone, when it is read.
        reference=(_located(root, cells["reference"]) or root / cells["reference"])
        if cells["reference"]
        else None,
        details=details,
    )


def _kind(manifest: Path, paths: Sequence[str], kinds: Sequence[FileKind]) -> FileKind:
    """Return of which kind the files of a manifest are; that of unknown ones is the first."""
    for kind in kinds[1:]:
        ours = [path for path in paths if kind.has(manifest.parent / path)]
        if ours and len(ours) < len(paths):
            raise InputError(
                f"{manifest} lists {len(ours)} {kind.noun}s, such as {ours[0]}, among other "
                f"files. Give {kinds[0].name} and {kind.noun}s a manifest each."
            )
        if ours:
            return kind
    return kinds[0]


def _located(root: Path, cell: str) -> Path | None:
    """Return the file that a cell names; one written on Windows has backslashes.

    Some systems and programs compose letters and accents, and others take them apart.
    """
    for name in (*spellings(cell), *spellings(cell.replace("\\", "/"))):
        try:
            if name and (root / name).is_file():
                return root / name
        except OSError:  # a name that is too long, a folder that may not be entered
            continue
    return None


def _in_array(root: Path, cell: str, line: int, problems: list[str]) -> Source | None:
    """Return the picture that a cell names in a NumPy file."""
    try:
        found = array_picture(root, cell) or array_picture(root, cell.replace("\\", "/"))
    except (InputError, OSError) as error:
        problems.append(f"line {line}: {error}")
        return None
    return found


def _repeated(parts: Sequence[Part], lines: Sequence[int], kind: FileKind) -> Iterator[str]:
    seen: dict[object, list[tuple[Part, int]]] = {}
    places: dict[Path, str] = {}  # many parts may lie in one file
    for part, line in zip(parts, lines, strict=True):
        if part.path not in places:
            places[part.path] = os.path.normcase(part.path.resolve())
        before = seen.setdefault((places[part.path], part.element), [])
        clashes = (kind.clash(part, other, at) for other, at in before)
        clash = next(filter(None, clashes), None)
        if clash is not None:
            yield f"line {line}: {clash}"
        before.append((part, line))
