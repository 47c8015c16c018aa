"""Parts, and where they come from: MVTec AD layout, flat folder, class folders, CSV manifest."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from makellos.data.pictures import PICTURE_SUFFIXES
from makellos.errors import InputError, suggest

__all__ = ["Part", "PartSet", "find_parts", "walk_pictures"]

GOOD = "good"
_CLASS_GOOD = {"good", "ok"}
_SPLITS = ("train", "val", "test")
_COLUMNS = ("path", "label", "split", "mask", "group")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Name one part: its picture file and what is known of it.

    `label` is ``good``, ``defective`` or a defect's name; `name` is the path relative to the
    data folder, with forward slashes; parts of one `group` belong together (one tile, one lot).
    """

    path: Path
    name: str
    label: str = GOOD
    split: str | None = None
    mask: Path | None = None
    group: str | None = None

    @property
    def is_good(self) -> bool:
        """Tell whether the part is labelled good."""
        return self.label == GOOD


@dataclass(frozen=True, kw_only=True)
class PartSet:
    """Hold the parts of one data folder or manifest, in the order of their names."""

    root: Path
    layout: str
    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)

    def good(self) -> tuple[Part, ...]:
        """Return the good parts that a detector may learn from: all but splits val and test."""
        return self._select(lambda part: part.is_good and part.split in (None, "train"))

    def calibration(self) -> tuple[Part, ...]:
        """Return the good parts that the data sets aside for calibration: split val."""
        return self._select(lambda part: part.is_good and part.split == "val")

    def test(self) -> tuple[Part, ...]:
        """Return the labelled test parts: split test, or all parts where no part has a split."""
        chosen = self._select(lambda part: part.split == "test")
        return chosen if any(part.split for part in self.parts) else self.parts

    def _select(self, wanted: Callable[[Part], bool]) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if wanted(part))


def find_parts(data: Path) -> PartSet:
    """List the parts of a folder or a CSV manifest, without opening a picture.

    A folder is read as MVTec AD layout when it has ``train/good`` or ``test``, as class folders
    when it has ``good`` or ``ok`` or only folders of pictures, else as a flat folder of good
    parts. Raises `InputError` when `data` does not exist, holds no picture, or a manifest is wrong.
    """
    if not data.exists():
        raise InputError(
            f"{data} does not exist. Give a folder of pictures, or a CSV manifest with the "
            f"columns {', '.join(_COLUMNS)}."
        )
    if data.is_file():
        return _manifest(data)
    if (data / "train").is_dir() or (data / "test").is_dir():
        found = PartSet(root=data, layout="MVTec AD", parts=tuple(_mvtec(data)))
    elif any((data / name).is_dir() for name in _CLASS_GOOD):
        found = PartSet(root=data, layout="class folders", parts=tuple(_class_folders(data)))
    else:
        parts = tuple(_part(path, data) for path in walk_pictures(data))
        found = PartSet(root=data, layout="flat folder", parts=parts)
    if not found.parts:
        raise InputError(
            f"{data} holds no picture ({', '.join(sorted(PICTURE_SUFFIXES))}). Put pictures of "
            "good parts there, or in its subfolder train/good."
        )
    return found


def walk_pictures(folder: Path) -> list[Path]:
    """List the picture files below `folder` by suffix, sorted; hidden files are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PICTURE_SUFFIXES
        and path.is_file()
        and not any(piece.startswith(".") for piece in path.relative_to(folder).parts)
    )


def _part(
    path: Path, root: Path, label: str = GOOD, split: str | None = None, mask: Path | None = None
) -> Part:
    name = path.relative_to(root).as_posix()
    return Part(path=path, name=name, label=label, split=split, mask=mask)


def _mvtec(root: Path) -> Iterator[Part]:
    for split in _SPLITS:
        # Some sets call the calibration folder "validation", as MVTec AD 2 does.
        for folder in (split, "validation") if split == "val" else (split,):
            for path in walk_pictures(root / folder):
                kind = path.relative_to(root / folder).parts[0]
                label = GOOD if kind in _CLASS_GOOD or kind == path.name else kind
                mask = None if label == GOOD else _mask_of(path, root / "ground_truth" / kind)
                yield _part(path, root, label, split, mask)


def _mask_of(path: Path, folder: Path) -> Path | None:
    for stem in (f"{path.stem}_mask", path.stem):
        for suffix in (".png", path.suffix, ".bmp", ".tif", ".tiff"):
            candidate = folder / (stem + suffix)
            if candidate.is_file():
                return candidate
    return None


def _class_folders(root: Path) -> Iterator[Part]:
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir()):
        if folder.name == "ground_truth":
            continue
        label = GOOD if folder.name in _CLASS_GOOD else folder.name
        for path in walk_pictures(folder):
            mask = None if label == GOOD else _mask_of(path, root / "ground_truth" / folder.name)
            yield _part(path, root, label, None, mask)


def _manifest(path: Path) -> PartSet:
    if path.suffix.lower() != ".csv":
        raise InputError(
            f"{path} is a file but no CSV manifest. Give a folder of pictures, or a .csv with the "
            f"columns {', '.join(_COLUMNS)}."
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = [name.strip().lower() for name in reader.fieldnames or ()]
            rows = [dict(zip(columns, row.values(), strict=False)) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no readable UTF-8 CSV: {error}.") from error
    if "path" not in columns:
        raise InputError(f"{path} has no column 'path'; it has {columns}. {suggest('path', columns)}")
    problems: list[str] = []
    parts = [_row(row, line, path.parent, problems) for line, row in enumerate(rows, start=2)]
    if problems:
        shown = "\n  ".join(problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise InputError(f"{path} has {len(problems)} mistakes:\n  {shown}{more}")
    if not parts:
        raise InputError(f"{path} lists no parts. Add a row per picture below the header.")
    return PartSet(root=path.parent, layout="CSV manifest", parts=tuple(parts))


def _row(row: dict[str, str | None], line: int, root: Path, problems: list[str]) -> Part:
    cells = {key: (row.get(key) or "").strip() for key in _COLUMNS}
    picture = root / cells["path"]
    if not cells["path"]:
        problems.append(f"line {line}: no path")
    elif not picture.is_file():
        problems.append(f"line {line}: {cells['path']} does not exist (paths are relative to {root})")
    split = cells["split"].lower() or None
    if split is not None and split not in _SPLITS:
        problems.append(f"line {line}: split {split!r} is none of {', '.join(_SPLITS)}")
    mask = root / cells["mask"] if cells["mask"] else None
    if mask is not None and not mask.is_file():
        problems.append(f"line {line}: mask {cells['mask']} does not exist")
    label = cells["label"] or GOOD
    return Part(
        path=picture,
        name=Path(cells["path"]).as_posix(),
        label=GOOD if label.lower() in _CLASS_GOOD else label,
        split=split,
        mask=mask,
        group=cells["group"] or None,
    )


def group_names(parts: Sequence[Part]) -> list[str]:
    """Return the group of each part; a part without one is a group of its own."""
    return [part.group if part.group is not None else f"part:{part.name}" for part in parts]
