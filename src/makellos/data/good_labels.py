"""Which labels mean good, where a set does not say so itself: digit 0, class automobile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from makellos.data.judges import relabelled
from makellos.data.parts import GOOD, PartSet
from makellos.errors import InputError, suggest

__all__ = ["GoodLabels", "parse_good", "with_good"]

GoodLabels = str | Sequence[str] | None  # as users give them


def parse_good(text: GoodLabels) -> tuple[str, ...]:
    """Return labels from a text with commas between them, or from several texts.

    >>> parse_good("0, 3"), parse_good(["a,b"]), parse_good(None)
    (('0', '3'), ('a,b',), ())
    """
    if isinstance(text, str):
        return tuple(filter(None, (label.strip() for label in text.split(","))))
    return tuple(map(str, text or ()))


def with_good(found: PartSet, labels: Sequence[str]) -> PartSet:
    """Return parts of which those with the given labels are good, besides those that were.

    Raises `InputError` for a label that no part has.
    """
    said = (label for part in found for each in part.judgements.values() for label in each)
    spelled = {label.casefold(): label for label in (*said, *(part.label for part in found))}
    unknown = [label for label in labels if label.casefold() not in spelled]
    if unknown:
        raise InputError(
            f"{found.root} has no parts with the label {unknown[0]!r}, which --good names. "
            f"{suggest(unknown[0], sorted(spelled.values()))}"
        )
    wanted = {label.casefold() for label in labels}
    parts = [
        relabelled(part, lambda label: GOOD if label.casefold() in wanted else label)
        for part in found
    ]
    note = f"Read as good: {', '.join(labels)}." if labels else ""
    return replace(found, parts=tuple(parts), notes=(*found.notes, *([note] if note else [])))
