"""Parts: what is judged, what is known of it, and what it is read from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from makellos.data._findings import idle_text, left_out_text
from makellos.data.pictures import (
    PICTURE_SUFFIXES,
    Picture,
    begins_as_picture,
    read_framed,
    read_mask,
)
from makellos.errors import InputError

__all__ = [
    "GOOD",
    "PICTURES",
    "Change",
    "Changed",
    "Element",
    "FileKind",
    "Part",
    "PartSet",
    "Source",
    "Values",
    "group_names",
]

GOOD = "good"

_MASK_ADVICE = "Correct it, or leave the mask out."

Mask = NDArray[np.bool_]


class Source(Protocol):
    """What a part is read from where it is no plain file."""

    @property
    def path(self) -> Path:
        """Return the file that it comes from; raises `InputError` where there is none."""
        ...

    @property
    def is_whole(self) -> bool:
        """Tell whether all of the part is seen, and not a piece of it."""
        ...

    def read(self) -> Picture:
        """Return the pixels, or features; raises `InputError` for what cannot be read."""
        ...

    def read_mask(self, mask: Path, size: tuple[int, int]) -> Mask:
        """Return the mask in a file as the part shows it, of the part's own `size` H, W."""
        ...


class Element(ABC):
    """Be a source that is one of many parts in a file; what it holds is not the whole file."""

    @abstractmethod
    def content(self) -> bytes:
        """Return what tells it from others, as the bytes of a file do."""


@dataclass(frozen=True, eq=False)
class Values:
    """Hold a part in memory: a picture H×W or H×W×3, uint8 or uint16, or features (F,) float32."""

    values: NDArray[Any]
    is_whole: ClassVar[bool] = True

    @property
    def path(self) -> Path:
        """Raise `InputError`: no file holds it."""
        raise InputError("A part held in memory has no file. Write it to one first.")

    def read(self) -> Picture:
        """Return the array itself."""
        return self.values

    def read_mask(self, mask: Path, size: tuple[int, int]) -> Mask:
        """Return the mask in a file; raises `InputError` where it has another size."""
        return read_mask(mask, size, _MASK_ADVICE)


@dataclass(frozen=True)
class Change:
    """Change how a part is seen; by itself it changes nothing. Subclasses are plain data."""

    keeps_all: ClassVar[bool] = True  # of the picture, and not a piece alone

    def __call__(self, picture: Picture) -> Picture:
        """Return the changed picture."""
        return picture

    def on_mask(self, mask: Mask) -> Mask:
        """Return a mask of the picture as it lies on the changed one."""
        return mask

    def size_before(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the picture whose changed one has a `size`."""
        return size


@dataclass(frozen=True)
class Changed:
    """Read another part and change what it shows."""

    of: Part
    change: Change

    @property
    def path(self) -> Path:
        """Return the file of the part that is changed."""
        return self.of.path

    @property
    def is_whole(self) -> bool:
        """Tell whether the change shows all of a part that is whole."""
        return self.change.keeps_all and self.of.is_whole

    def read(self) -> Picture:
        """Return the changed picture."""
        return self.change(self.of.read())

    def read_mask(self, mask: Path, size: tuple[int, int]) -> Mask:
        """Return the mask of the part that is changed, changed as well."""
        return self.change.on_mask(self.of.mask_in(mask, self.change.size_before(size)))


@dataclass(frozen=True, kw_only=True)
class Part:
    """Name one part: what it is read from, and what is known of it.

    `source` is a file, an array (`Values`), or a change applied to another part (`Changed`).
    `label` is ``good``, ``defective`` or a defect's name; `name` is the path relative to the
    data folder, with forward slashes; parts of one `group` belong together (one tile, one lot).
    `reference` is a picture of how it should look. `details` are what else a manifest says of it,
    as texts by column. `judgements` are labels that judges gave, once or several times, by the name
    of the judge; with `by_majority` its own label is what most of them say.
    """

    source: Path | Source
    name: str
    label: str = GOOD
    split: str | None = None
    mask: Path | None = None
    group: str | None = None
    reference: Path | Source | None = None
    details: Mapping[str, str] = field(default_factory=dict, hash=False)
    judgements: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    by_majority: bool = False

    @property
    def path(self) -> Path:
        """Return the file that it comes from; raises `InputError` for a part in memory."""
        return self.source if isinstance(self.source, Path) else self.source.path

    @property
    def element(self) -> Element | None:
        """Return what it is read from where that is one of many in a file; None for a file."""
        if isinstance(self.source, Changed):
            return self.source.of.element
        return self.source if isinstance(self.source, Element) else None

    @property
    def piece(self) -> str:
        """Return what follows the name of its file in its own: empty for a whole file."""
        return self.name.rpartition(self.path.name)[2]

    @property
    def is_good(self) -> bool:
        """Tell whether the part is labelled good."""
        return self.label == GOOD

    @property
    def is_whole(self) -> bool:
        """Tell whether all of the part is seen, and not a tile of it."""
        return isinstance(self.source, Path) or self.source.is_whole

    def read(self) -> Picture:
        """Return the picture, decoded, or the features of a window of a signal.

        Raises `InputError` for a file that cannot be read.
        """
        return self.read_framed()[0]

    def read_framed(self) -> tuple[Picture, int]:
        """Read the part as `read` does, the first of how many frames or pages it returns too."""
        if isinstance(self.source, Path):
            return read_framed(self.source)
        return self.source.read(), 1

    def read_reference(self) -> Picture:
        """Read the picture of how the part should look; raises `InputError` where there is none."""
        if self.reference is None:
            raise InputError(
                f"{self.name} has no reference to compare it with. Name a picture of how it "
                "should look in the column 'reference' of the manifest, or with --reference."
            )
        try:
            if isinstance(self.reference, Path):
                return read_framed(self.reference)[0]
            return self.reference.read()
        except InputError as error:
            raise InputError(f"The reference of {self.name} cannot be used: {error}") from error

    def read_mask(self, size: tuple[int, int]) -> Mask | None:
        """Return where the part is damaged, H×W of the `size` of its picture; None without a mask.

        Raises `InputError` for a mask that cannot be read or has another size.
        """
        return None if self.mask is None else self.mask_in(self.mask, size)

    def mask_in(self, mask: Path, size: tuple[int, int]) -> Mask:
        """Return the mask in a file as the part shows it; raises as `read_mask` does."""
        if isinstance(self.source, Path):
            return read_mask(mask, size, _MASK_ADVICE)
        return self.source.read_mask(mask, size)

    def changed(self, change: Change, *, name: str | None = None) -> Part:
        """Return the part seen through a change, under another `name` if given."""
        return replace(self, source=Changed(self, change), name=name or self.name)


@dataclass(frozen=True)
class FileKind:
    """Say what the files of a set are, and what a manifest may say of them in further columns.

    `name` is of many, `noun` of one. Kinds whose files hold several parts override the methods.
    """

    name: str
    noun: str
    suffixes: frozenset[str]
    details: tuple[str, ...] = ()

    def has(self, path: Path) -> bool:
        """Tell whether a file is of this kind, by its suffix or what it begins with."""
        return path.suffix.lower() in self.suffixes or self.begins(path)

    def begins(self, path: Path) -> bool:
        """Tell whether a file that says otherwise is of this kind by its content."""
        del path
        return False

    def problems(self, details: Mapping[str, str]) -> list[str]:
        """Return what is wrong with the further columns of a row."""
        del details
        return []

    def piece(self, details: Mapping[str, str]) -> str:
        """Return the name of the piece of its file that a row is; empty for the whole file."""
        del details
        return ""

    def clash(self, part: Part, other: Part, line: int) -> str | None:
        """Return why a row may not name the file of an `other` in a `line`; None where it may."""
        del other
        return f"{part.name} is listed in line {line} already"


class _Pictures(FileKind):
    def begins(self, path: Path) -> bool:
        return begins_as_picture(path)


PICTURES = _Pictures("pictures", "picture", PICTURE_SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class PartSet:
    """Hold the parts of a folder in the order of their names, or of a manifest in its order.

    `kind` says what their files are, `notes` how words of others were read, and `left_out` are the
    names of files of the kind that are neither part nor mask. `grouping` says what named the groups
    of parts, empty where nothing did.
    """

    root: Path
    layout: str
    parts: tuple[Part, ...]
    kind: FileKind = PICTURES
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    grouping: str = ""

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

    def remarks(self) -> list[str]:
        """Return what should be said of a set that is used: how it was read, what is left out."""
        left = self.left_out
        return [*self.notes, *([left_out_text(left, self.kind.noun, self.layout)] if left else [])]

    def idle(self) -> list[str]:
        """Return the names of defective parts without split where other parts have one.

        A detector that learns from good parts alone does not use them, and no test does.
        """
        has_splits = any(part.split for part in self)
        return [p.name for p in self if has_splits and p.split is None and not p.is_good]

    def idle_remarks(self) -> list[str]:
        """Return what should be said of them where good parts alone are learned from."""
        idle = self.idle()
        return [idle_text(idle)] if idle else []

    def require_good(self) -> None:
        """Raise `InputError` where there are no good parts to learn from."""
        if self.good():
            return
        labels = ", ".join(sorted({part.label for part in self}))
        what = "parts" if self.kind == PICTURES else f"{self.kind.noun}s"
        beside = f"; {len(self.left_out)} more outside its folders" if self.left_out else ""
        raise InputError(
            f"{self.root} has no good {what} to learn from ({self.layout}; labels: "
            f"{labels}{beside}). Put them into train/good or good, or label them 'good' with split "
            f"'train' or none in a manifest.{self._choose_good()}"
        )

    def _choose_good(self) -> str:
        kinds = sorted({part.label for part in self if part.split in (None, "train")})
        return f" If a label means good, say which: --good {kinds[0]}." if len(kinds) > 1 else ""

    def require_pictures(self, what: str) -> None:
        """Raise `InputError` where the parts are recordings, which `what` does not work on yet."""
        if self.kind != PICTURES:
            raise InputError(
                f"{self.root} holds {self.kind.noun}s; {what} works on pictures. Recordings can be "
                "fitted, inspected, evaluated, calibrated and checked."
            )

    def _select(self, wanted: Callable[[Part], bool]) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if wanted(part))


def group_names(parts: Sequence[Part]) -> list[str]:
    """Return the group of each part; a part without one is a group of its own."""
    return [part.group if part.group is not None else f"part:{part.name}" for part in parts]
