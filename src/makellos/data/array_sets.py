"""Sets in NumPy files: which arrays are pictures, which are their labels, and of which split."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from makellos.data._findings import listed
from makellos.data.array_pictures import (
    has_pictures,
    is_numpy_file,
    picture_axes,
    pictures_of,
    shape_advice,
)
from makellos.data.names import SPLITS, generic_class
from makellos.data.numpy_files import StoredArray, stored_arrays
from makellos.data.parts import GOOD, Part, PartSet
from makellos.errors import ConfigurationError, InputError, suggest

__all__ = ["ArrayKeys", "Keys", "array_set", "holds_arrays", "numpy_files", "parse_keys"]

_PICTURE_WORDS = frozenset({"x", "image", "images", "img", "imgs", "picture", "pictures", "data"})
_LABEL_WORDS = frozenset({"y", "label", "labels", "target", "targets", "class", "classes"})
_GROUP_WORDS = frozenset({"group", "groups", "lot", "lots"})
_NAME_WORDS = frozenset({"names", "classes", "categories"})
_MASK_WORDS = frozenset({"mask", "masks", "gt", "segmentation", "segmentations"})
_ROLES = ("images", "labels", "groups", "names")
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_EXPECTED = "Expected pictures x rows x columns, with 1, 3 or 4 colours as the last or second axis."
_NONE = f"{_EXPECTED} For recordings, give the folder that holds them."
_MOST_FILES = 100  # of a folder that is read as one set
_MOST_CLASSES = 10_000

Keys = Sequence[tuple[str, str]]
ArrayKeys = str | Mapping[str, str] | Sequence[Sequence[str]] | None  # as users give them


@dataclass(frozen=True)
class _Named:
    """Hold an array with the words of its name, which begin with those of its folders."""

    array: StoredArray
    name: str
    words: tuple[str, ...]

    @property
    def split(self) -> str | None:
        return next((SPLITS[word] for word in self.words if word in SPLITS), None)

    def says(self, words: frozenset[str]) -> bool:
        return bool(words & set(self.words))


def parse_keys(given: ArrayKeys) -> Keys:
    """Return pairs of role and key from ``images=x_train,labels=y_train``, a dict, or pairs.

    Raises `ConfigurationError` for what is no such text, or an unknown role.
    """
    if isinstance(given, str):
        pieces = given.split(",")
    else:
        items = given.items() if isinstance(given, Mapping) else given or ()
        pieces = ["=".join(pair) for pair in items]
    pairs = []
    for piece in pieces:
        role, equals, key = (each.strip() for each in piece.partition("="))
        if not equals or not key or role not in _ROLES:
            raise ConfigurationError(
                f"--keys takes ROLE=ARRAY with the roles {', '.join(_ROLES)}, such as "
                f"'images=x_train,labels=y_train'; received {piece!r}."
            )
        pairs.append((role, key))
    return tuple(pairs)


def holds_arrays(folder: Path) -> bool:
    """Tell whether a folder holds NumPy files with pictures in them, by their headers alone."""
    return folder.is_dir() and any(map(has_pictures, numpy_files(folder)))


def array_set(data: Path, keys: Keys = ()) -> PartSet:
    """Return the parts of a NumPy file, or of the NumPy files in a folder.

    Arrays are told by their names (``x_train``, ``train_images``, ``images``; ``y_train``,
    ``labels``) and shapes, or by `keys`, pairs of role and name. Pictures of a name with train, val
    or test are of that split; those without labels are good. Labels are texts: numbers as they are,
    or the names that the file has for them. Raises `InputError` where there are no pictures, or it
    cannot be told which labels are theirs.
    """
    files = [data] if data.is_file() else numpy_files(data)
    root = data.parent if data.is_file() else data
    arrays = [named for path in files for named in _named(path, root, alone=len(files) == 1)]
    chosen = _pictures(data, arrays, keys)
    notes = list(_left_out(chosen, arrays, keys))
    parts: list[Part] = []
    for pictures in chosen:
        labels = _match("labels", _LABEL_WORDS, pictures, chosen, arrays, keys)
        groups = _match("groups", _GROUP_WORDS, pictures, chosen, arrays, keys)
        path = pictures.array.path
        name = path.relative_to(root).as_posix()
        found = pictures_of(path, name, {pictures.name: pictures.array})
        texts = [GOOD] * len(found)
        if labels is None:
            notes.append(f"{pictures.name} has no labels: all {len(found):,} pictures are good.")
        else:
            texts = _texts(labels, arrays, keys)
        of = [None] * len(found) if groups is None else _plain_texts(groups)
        parts += [
            replace(part, label=label, split=pictures.split, group=group)
            for part, label, group in zip(found, texts, of, strict=True)
        ]
    return PartSet(root=data, layout="NumPy arrays", parts=tuple(parts), notes=tuple(notes))


def numpy_files(folder: Path) -> list[Path]:
    """Return the NumPy files of a folder; none where they are too many for one set."""
    found: list[Path] = []
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        named = (Path(here, name) for name in sorted(files) if not name.startswith("."))
        found += filter(is_numpy_file, named)
        if len(found) > _MOST_FILES:
            return []
    return found


def _named(path: Path, root: Path, *, alone: bool) -> Iterator[_Named]:
    file = path.relative_to(root).with_suffix("").as_posix()
    for array in stored_arrays(path).values():
        name = file if not array.key else array.key if alone else f"{file}/{array.key}"
        yield _Named(array, name, tuple(_words(name)))


def _words(name: str) -> Iterator[str]:
    """Yield the words of a name in lower case; ``xtrain`` and ``trainX`` are two.

    >>> [*_words("xtrain"), *_words("TrainImages"), *_words("t10k_labels")]
    ['x', 'train', 'train', 'images', 'test', 'labels']
    """
    for found in _WORD.findall(name.replace("t10k", "test")):
        word = found.lower()
        if word[0] in "xy" and word[1:] in SPLITS:
            yield from (word[0], word[1:])
        else:
            yield word


def _pictures(data: Path, arrays: Sequence[_Named], keys: Keys) -> list[_Named]:
    """Return the arrays of pictures: those asked for, or those that are named and shaped so."""
    wanted = [key for role, key in keys if role == "images"]
    if wanted:
        chosen = [_asked(key, arrays) for key in wanted]
        for each in chosen:
            if picture_axes(each.array) is None:
                advice = shape_advice(each.array) or _EXPECTED
                raise InputError(f"{each.array.described} holds no pictures. {advice}")
        return chosen
    shaped = [
        each
        for each in arrays
        if picture_axes(each.array) is not None
        and not each.says(_MASK_WORDS)
        and not (each.says(_LABEL_WORDS) and not each.says(_PICTURE_WORDS))
    ]
    called = [each for each in shaped if each.says(_PICTURE_WORDS)]
    if not shaped:
        for each in arrays:
            if each.array.dtype.hasobject:
                each.array.values()  # says that it is never loaded, and what to do
        held = "; ".join(each.array.described for each in arrays[:10]) or "no arrays"
        advice = next(filter(None, (shape_advice(each.array) for each in arrays)), "")
        raise InputError(f"{data} holds no pictures: {held}. {advice or _NONE}")
    return called or shaped


def _asked(key: str, arrays: Sequence[_Named]) -> _Named:
    found = [each for each in arrays if key in (each.name, each.array.key)]
    if len(found) != 1:
        names = [each.name for each in arrays]
        raise InputError(f"--keys names {key!r}, which is not an array here. {suggest(key, names)}")
    return found[0]


def _match(
    role: str,
    words: frozenset[str],
    pictures: _Named,
    chosen: Sequence[_Named],
    arrays: Sequence[_Named],
    keys: Keys,
) -> _Named | None:
    """Return the array with an entry for each picture that has a role; None for none."""
    asked = [_asked(key, arrays) for of, key in keys if of == role]
    n = 1 if picture_axes(pictures.array) == "HWC" else pictures.array.shape[0]
    fitting = [each for each in asked or arrays if _length(each) == n and each not in chosen]
    if not asked:
        called = [each for each in fitting if each.says(words)]
        fitting = called or _unnamed(role, fitting, pictures)
    if not fitting:
        _refuse_length(role, n, pictures, asked or _called(words, arrays))
    if len(fitting) > 1:
        fitting = [each for each in fitting if each.split == pictures.split] or fitting
    if len(fitting) > 1:
        fitting = [each for each in fitting if _rest(each, words) == _rest(pictures)] or fitting
    if len(fitting) > 1:
        names = ", ".join(each.name for each in fitting)
        raise InputError(
            f"Each of {names} could be the {role} of {pictures.name}. Say which, as in --keys "
            f"images={pictures.name},{role}={fitting[0].name}."
        )
    return fitting[0] if fitting else None


def _called(words: frozenset[str], arrays: Sequence[_Named]) -> list[_Named]:
    return [each for each in arrays if each.says(words) and not each.says(_NAME_WORDS)]


def _refuse_length(role: str, n: int, pictures: _Named, meant: Sequence[_Named]) -> None:
    """Raise `InputError` where an array is meant for these pictures and has not as many entries."""
    for each in meant:
        n_entries = _length(each)
        if n_entries is not None and each.split in (None, pictures.split):
            raise InputError(
                f"{each.name} has {n_entries:,} entries for the {n:,} pictures of {pictures.name}. "
                f"Name the right array, as in --keys images={pictures.name},{role}=NAME."
            )


def _unnamed(role: str, fitting: Sequence[_Named], pictures: _Named) -> list[_Named]:
    """Return what follows pictures that `np.savez` was given without names: ``arr_0, arr_1``."""
    if role != "labels" or not re.fullmatch(r"arr_\d+", pictures.array.key):
        return []
    return [each for each in fitting if re.fullmatch(r"arr_\d+", each.array.key)]


def _rest(each: _Named, words: frozenset[str] = _PICTURE_WORDS) -> set[str]:
    return set(each.words) - words


def _length(each: _Named) -> int | None:
    """Return how many entries an array has that holds one for each of many parts."""
    shape = each.array.shape
    if not shape or (picture_axes(each.array) is not None and max(shape[1:]) > 1):
        return None
    return shape[0]


def _left_out(chosen: Sequence[_Named], arrays: Sequence[_Named], keys: Keys) -> Iterator[str]:
    asked = any(role == "images" for role, _ in keys)
    others = [
        each.name for each in arrays if picture_axes(each.array) is not None and each not in chosen
    ]
    if others and not asked:
        yield (
            f"Arrays that were not read as pictures: {listed(others)}. Name what to read, as in "
            f"--keys images={others[0]}; masks in arrays are not read."
        )


def _texts(labels: _Named, arrays: Sequence[_Named], keys: Keys) -> list[str]:
    """Return the label of each part as text: a name where the file has names for numbers."""
    found = _plain_texts(labels)
    kinds = set(found)
    says = {generic_class(word) for word in labels.words} - {None}
    if kinds <= {"0", "1", "False", "True"} and len(says) == 1:
        # The file says what is counted: is_anomaly, defective, ok.
        other = {"good": "defective", "defective": GOOD}
        (meant,) = says
        yes = str(meant)
        return [yes if text in ("1", "True") else other[yes] for text in found]
    names = _names(arrays, keys)
    if names and all(text.isdigit() and int(text) < len(names) for text in kinds):
        return [names[int(text)] for text in found]
    return found


def _names(arrays: Sequence[_Named], keys: Keys) -> list[str]:
    asked = [_asked(key, arrays) for role, key in keys if role == "names"]
    found = asked or [
        each
        for each in arrays
        if each.says(_NAME_WORDS) and each.array.dtype.kind in "US" and len(each.array.shape) == 1
    ]
    if len(found) != 1 or found[0].array.shape[0] > _MOST_CLASSES:
        return []
    return _plain_texts(found[0])


def _plain_texts(each: _Named) -> list[str]:
    """Return one text for each entry: of texts, whole numbers, truth values, or one-hot rows."""
    values = np.asarray(each.array.values())
    flat = values.reshape(len(values), -1)
    if flat.shape[1] > 1:
        flat = _from_one_hot(each, flat)
    return [_text(each, value) for value in flat[:, 0].tolist()]


def _from_one_hot(each: _Named, rows: Any) -> Any:
    if rows.dtype.kind not in "biuf" or not (((rows == 0) | (rows == 1)).all()):
        raise InputError(f"{each.array.described} does not have one label for each picture.")
    if (rows.sum(axis=1) != 1).any():
        raise InputError(
            f"{each.array.described} has rows with several labels or none; expected one for each "
            "picture. Save the label that counts, such as array.any(axis=1)."
        )
    return rows.argmax(axis=1)[:, None]


def _text(each: _Named, value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, float) or not str(value).strip():
        raise InputError(
            f"{each.array.described} holds {value!r}; expected labels: texts or whole numbers."
        )
    return str(value).strip()
