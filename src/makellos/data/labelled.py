"""What labelled parts must hold before a detector learns from them, and what spoils its figures."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from makellos.data._findings import listed, listed_sets, misplaced_text, n_of
from makellos.data.names import generic_class
from makellos.data.parts import GOOD, Part
from makellos.errors import InputError, suggest

__all__ = ["check_labelled", "misplaced"]

# What a part is used for, and the part.
Used = tuple[str, Part]

_DEFECTIVE = "defective"
_LEARNED = "learned from"
_HELD_OUT, _TESTED = "held out for validation", "tested"
# What has a part in the fit before parts are used so.
_BEFORE = {_HELD_OUT: {_LEARNED}, _TESTED: {_LEARNED, _HELD_OUT}}
_FEW = 10  # pictures of a class, below which a share of them is hardly a figure
_UNEVEN = 10  # times as many pictures of the largest class as of the smallest
_OTHERS = (
    "Give the other class too: folders ok and defective (or one folder per class), or a CSV "
    "manifest with the columns path and label."
)
_RESPLIT = "split the parts again with 'makellos data split DATA -o parts.csv' and use parts.csv"


def check_labelled(
    learn: Sequence[Part],
    held_out: Sequence[Part] = (),
    test: Sequence[Part] = (),
    *,
    classes: Sequence[str] | None = None,
    few: bool = False,
) -> list[str]:
    """Check parts that a detector learns from by their labels; return warnings as sentences.

    `held_out` stops the training, and `test` judges the result. `classes` are the labels to be told
    apart; without them it is good parts against all others. With `few`, defective parts only help:
    sizes of classes are not looked at, nor labels that are not learned from. Files are compared by
    their bytes, those of one size alone; none is decoded, and those that cannot be read are passed
    over.

    Warned of are small and uneven classes, labels that are not learned from, identical pictures and
    groups on both sides, identical pictures with different labels, and labels that disagree with
    the name of the folder.

    Raises `InputError` where there are no parts to learn from, where they are of one class alone,
    where a class has one picture or none, and where a label is none of `classes`.
    """
    if not learn:
        raise InputError(
            "There are no labelled parts to learn from. Give pictures in folders ok and defective "
            "(or one folder per class), or a CSV manifest with the columns path and label."
        )
    if classes is None:
        _check_both(learn, [*held_out, *test])
    else:
        _check_classes(learn, held_out, test, classes)
    others = {_HELD_OUT: held_out, _TESTED: test}
    everything = [*learn, *held_out, *test]
    return [
        *([] if few else _on_sizes(learn, by_label=classes is not None)),
        *([] if few else _on_strange_labels(learn, others)),
        *_on_groups(learn, others),
        *_on_identical(learn, others),
        *([misplaced_text(found)] if (found := misplaced(everything)) else []),
    ]


def misplaced(parts: Sequence[Part]) -> list[tuple[str, str]]:
    """Return name and label of each part that lies in a folder named after another class.

    Such names are the labels of `parts`, and good, ok, defective and the like, in upper or lower
    case. A kind of damage agrees with a folder of defective parts. Of several folders with such
    names, one above the other, one that agrees is enough.
    """
    known = {GOOD, _DEFECTIVE, *(_class_of(part.label) for part in parts)}
    found = []
    for part in parts:
        label = _class_of(part.label)
        folders = {_class_of(name) for name in _folders(part)} & known
        if folders and not any(_agree(label, folder) for folder in folders):
            found.append((part.name, part.label))
    return found


def _class_of(name: str) -> str:
    """Return a label or a folder's name in one spelling; generic names are good or defective."""
    return generic_class(name) or name.casefold()


def _agree(label: str, folder: str) -> bool:
    kinds = {label, folder}
    return label == folder or (_DEFECTIVE in kinds and GOOD not in kinds)


def _folders(part: Part) -> tuple[str, ...]:
    """Return the folders that may name a part's class: of a path from elsewhere, the last alone."""
    folders = PurePosixPath(part.name).parent.parts
    return folders[-1:] if Path(part.name).is_absolute() else folders


def _check_both(learn: Sequence[Part], others: Sequence[Part]) -> None:
    if len({part.is_good for part in learn}) > 1:
        return
    is_good = learn[0].is_good
    which = GOOD if is_good else f"defective ({listed(sorted({p.label for p in learn}))})"
    _refuse_one_class(learn, which, any(part.is_good != is_good for part in others))


def _check_classes(
    learn: Sequence[Part], held_out: Sequence[Part], test: Sequence[Part], classes: Sequence[str]
) -> None:
    n_parts = Counter(part.label for part in learn)
    strange = sorted(set(n_parts) - set(classes))
    if strange:
        raise InputError(
            f"The label {strange[0]!r} is not one of the classes to be told apart. "
            f"{suggest(strange[0], classes)} Correct the label, or add it to the classes."
        )
    if len(n_parts) == 1:
        label = learn[0].label
        _refuse_one_class(learn, label, any(part.label != label for part in (*held_out, *test)))
    n_parts.update(part.label for part in held_out)
    for label in classes:
        if n_parts[label] < 2:
            raise InputError(
                f"The class {label!r} has {'only one picture' if n_parts[label] else 'no picture'}"
                " to learn from; a class needs two or more, preferably ten. Add pictures of it, "
                "give it the label of a similar kind, leave it out, or only tell good from "
                "defective parts (--set target=verdict)."
            )


def _refuse_one_class(learn: Sequence[Part], which: str, has_others: bool) -> None:
    lie = "The others are among those tested or held out" if has_others else ""
    where = (
        f"{lie}: {_RESPLIT}."
        if has_others
        else f"{_OTHERS} If all defects are in test (the MVTec AD layout), {_RESPLIT}."
    )
    raise InputError(
        f"All {n_of(learn, 'part')} to learn from are of one class, {which}; learning from "
        f"labels needs two. {where}"
    )


def _on_sizes(learn: Sequence[Part], *, by_label: bool) -> Iterator[str]:
    n_parts = Counter(
        part.label if by_label or part.is_good else _DEFECTIVE for part in learn
    ).most_common()
    few = [f"{label} ({n})" for label, n in n_parts if n < _FEW]
    if few:
        yield (
            f"Small classes, fewer than {_FEW} pictures to learn from: {listed(few)}. Figures for "
            "them mean little; add pictures."
        )
    (most, n_most), (least, n_least) = n_parts[0], n_parts[-1]
    if n_most >= _UNEVEN * n_least:
        yield (
            f"Uneven classes: {n_most} pictures of {most}, {n_least} of {least}, so accuracy means "
            f"little. Look at balanced accuracy, and add pictures of {least}."
        )


def _on_strange_labels(
    learn: Sequence[Part], others: Mapping[str, Sequence[Part]]
) -> Iterator[str]:
    learned = {part.label for part in learn}
    for use, parts in others.items():
        strange = sorted({part.label for part in parts} - learned)
        if strange:
            yield (
                f"{n_of(strange, 'label')} {use} but not learned from: {listed(strange)}. Add "
                "such pictures to those learned from, or correct the label."
            )


def _on_groups(learn: Sequence[Part], others: Mapping[str, Sequence[Part]]) -> Iterator[str]:
    learned = {part.group for part in learn} - {None}
    for use, parts in others.items():
        if use == _TESTED:  # what is held out has a part in the fit as well
            learned |= {part.group for part in others[_HELD_OUT]} - {None}
        shared = sorted({part.group for part in parts if part.group in learned} - {None}, key=str)
        if shared:
            yield (
                f"Leak: {n_of(shared, 'group')} both learned from and {use} "
                f"({listed([str(group) for group in shared])}), so results look better than they "
                "are on new groups. Split by group: makellos data split DATA -o parts.csv."
            )


def _on_identical(learn: Sequence[Part], others: Mapping[str, Sequence[Part]]) -> Iterator[str]:
    used = [(_LEARNED, part) for part in learn]
    used += [(use, part) for use, parts in others.items() for part in parts]
    same = _identical(used)
    for use in others:
        pairs = [
            (before[0].name, part.name)
            for alike in same
            if (before := [part for how, part in alike if how in _BEFORE[use]])
            for how, part in alike
            if how == use
        ]
        if pairs:
            yield (
                f"Leak: {n_of(pairs, 'picture')} both {use} and, byte for byte the same, learned "
                f"from: {listed_sets(pairs)}. Results look too good: remove one of each."
            )
    torn = [
        [f"{part.name} ({part.label})" for _, part in alike]
        for alike in same
        if len({part.label for _, part in alike}) > 1
    ]
    if torn:
        yield (
            f"{n_of(torn, 'set')} of identical pictures with different labels, which cannot all "
            f"be right: {listed_sets(torn)}. Keep each picture under the label that is right."
        )


def _identical(used: Sequence[Used]) -> list[list[Used]]:
    """Return the sets of parts whose files hold the same bytes, with what they are used for."""
    return [same for alike in _alike(used, _size) for same in _alike(alike, _digest)]


def _alike(used: Sequence[Used], trait: Callable[[Part], int | bytes]) -> Iterator[list[Used]]:
    """Yield parts whose files share a trait; one that cannot be read, or is empty, has none."""
    by_trait: defaultdict[int | bytes, list[Used]] = defaultdict(list)
    for use, part in used:
        with suppress(OSError, InputError):
            if found := trait(part):
                by_trait[found].append((use, part))
    yield from (alike for alike in by_trait.values() if len(alike) > 1)


def _size(part: Part) -> int:
    return part.path.stat().st_size if part.element is None else len(part.element.content())


def _digest(part: Part) -> bytes:
    if part.element is not None:
        return hashlib.sha256(part.element.content()).digest()
    with part.path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
