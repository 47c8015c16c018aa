"""Several judgements of the same parts: rows of a manifest that say whose they are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from makellos.data.names import generic_class
from makellos.data.parts import GOOD, Part

__all__ = ["gathered", "majority_note", "relabelled"]


def gathered(
    parts: Sequence[Part], judges: Sequence[str], lines: Sequence[int]
) -> tuple[list[Part], list[int]]:
    """Return parts with what judges say of them, and the line of each, from one part per row.

    `judges` names who gave the label of a row; "" for the truth. A part without a row of its truth
    has the label that most judgements say. Split, mask, group and reference are those of its first
    row that has one.
    """
    rows: dict[object, list[int]] = {}
    places: dict[Path, str] = {}
    for i, part in enumerate(parts):
        if part.path not in places:
            places[part.path] = os.path.normcase(part.path.resolve())
        key = (places[part.path], part.element, part.piece)
        rows.setdefault(key, []).append(i)
    found: list[tuple[int, Part]] = []
    for here in rows.values():
        truths = [i for i in here if not judges[i]]
        given: dict[str, tuple[str, ...]] = {}
        for i in here:
            if judges[i]:
                given[judges[i]] = (*given.get(judges[i], ()), parts[i].label)
        first = truths[0] if truths else here[0]
        found.append((first, _judged([parts[first], *(parts[i] for i in here)], given, truths)))
        found += [(i, parts[i]) for i in truths[1:]]  # a mistake, told as one listed twice
    found.sort(key=lambda pair: pair[0])
    return [part for _, part in found], [lines[i] for i, _ in found]


def relabelled(part: Part, change: Callable[[str], str]) -> Part:
    """Return a part whose label, and what judges say, is changed from one word to another."""
    label = change(part.label)
    if not part.judgements:
        return part if label == part.label else replace(part, label=label)
    judged = {name: tuple(map(change, labels)) for name, labels in part.judgements.items()}
    changed = replace(part, label=label, judgements=judged)
    return replace(changed, label=_majority(judged)) if part.by_majority else changed


def majority_note(parts: Sequence[Part]) -> str:
    """Say of how many parts most judges tell the truth, "" where there are none."""
    n = sum(part.by_majority for part in parts)
    if not n:
        return ""
    return (
        f"{n} part{' has' if n == 1 else 's have'} no row without a judge: what most judgements "
        "say counts as the truth, and as damaged where as many say good."
    )


def _judged(rows: Sequence[Part], given: dict[str, tuple[str, ...]], truths: list[int]) -> Part:
    first = rows[0]
    if not given:
        return first
    merged = replace(
        first,
        split=next((part.split for part in rows if part.split), None),
        mask=next((part.mask for part in rows if part.mask), None),
        group=next((part.group for part in rows if part.group), None),
        reference=next((part.reference for part in rows if part.reference), None),
        judgements=given,
        by_majority=not truths,
    )
    return merged if truths else replace(merged, label=_majority(given))


def _majority(given: dict[str, tuple[str, ...]]) -> str:
    labels = [label for each in given.values() for label in each]
    damage = [label for label in labels if GOOD not in (label, generic_class(label))]
    if 2 * len(damage) < len(labels):
        return GOOD
    return Counter(damage).most_common(1)[0][0]
