"""Groups by name: a part of the file name that a pattern marks, or a column of the manifest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from makellos.data._findings import listed, n_of
from makellos.data.parts import Part, PartSet
from makellos.errors import ConfigurationError, InputError

__all__ = ["AUTO", "by_pattern", "check_groups", "column_of", "is_pattern"]

AUTO = "auto"
_MARK = "{}"
_EXAMPLE = "such as 'lot{}_*.png', where {} is the group and * anything"


def is_pattern(groups: str) -> bool:
    """Tell whether a text is a pattern of file names, and not the name of a column."""
    return any(character in groups for character in "{}*?/")


def column_of(groups: str | None) -> str | None:
    """Return the column of the manifest that is meant by groups; None for none.

    >>> column_of("lot"), column_of("lot{}_*.png")
    ('lot', None)
    """
    return None if groups in (None, AUTO) or is_pattern(groups or "") else groups


def by_pattern(found: PartSet, pattern: str) -> PartSet:
    """Return parts whose group is what `{}` stands for in their file name.

    `*` is any text, `?` any character, neither a ``/``; upper and lower case are alike. A pattern
    with ``/`` is compared with as many folders above the file. Raises `ConfigurationError` for a
    pattern without `{}` or with several, `InputError` as `check_groups` does.
    """
    if pattern.count(_MARK) != 1 or set("{}") & set(pattern.replace(_MARK, "")):
        raise ConfigurationError(
            f"--groups is {pattern!r}, which marks {_marks(pattern)}. Mark the one part of the "
            f"file name that names the group with {{}}, {_EXAMPLE}; or give a column of the "
            "manifest, or auto."
        )
    regex, depth = _regex(pattern), pattern.count("/") + 1
    parts = []
    for part in found:
        name = "/".join(part.path.parts[-depth:])
        match = regex.fullmatch(name)
        parts.append(replace(part, group=None if match is None else match[1]))
    return check_groups(replace(found, parts=tuple(parts)), f"the pattern {pattern!r}")


def check_groups(found: PartSet, by: str) -> PartSet:
    """Return parts with a note on the groups that they were given `by` something.

    Raises `InputError` where a good part to learn from or calibrate with has none, or all have the
    same one.
    """
    used = [*found.good(), *found.calibration()]
    without = [part.name for part in used if part.group is None]
    if without:
        n_with = len(used) - len(without)
        raise InputError(
            f"By {by} {n_with or 'none'} of {n_of(used, 'good part')} "
            f"{'has' if n_with == 1 else 'have'} a group. Without one: {listed(without)}. "
            "Name it for all good parts, or leave these out."
        )
    sizes = Counter(part.group for part in used)
    if len(sizes) == 1 and len(used) > 1:
        raise InputError(
            f"By {by} all {len(used)} good parts belong to one group, {next(iter(sizes))!r}; a "
            "new group then looks like nothing known. Name what tells lots or series apart, or "
            "leave --groups out."
        )
    return replace(found, grouping=by, notes=(*found.notes, _told(used, sizes, by)))


def _told(used: Sequence[Part], sizes: Counter[str | None], by: str) -> str:
    if used and len(sizes) == len(used):
        return f"Each good part is a group of its own by {by}, so that groups change nothing."
    least, most = min(sizes.values(), default=0), max(sizes.values(), default=0)
    each = f"{least}" if least == most else f"{least} to {most}"
    first = used[0] if used else None
    example = f", such as {first.group!r} of {first.name}" if first is not None else ""
    return f"{len(sizes)} groups of {each} good parts by {by}{example}."


def _marks(pattern: str) -> str:
    named = re.search(r"\{[^{}]+\}", pattern)
    if named:
        return f"the group as {named[0]!r} instead of '{{}}'"
    n_marks = pattern.count(_MARK)
    return "no group" if n_marks == 0 else f"{n_marks} groups" if n_marks > 1 else "half a group"


def _regex(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"(\{\}|\*|\?)", pattern)
    meaning = {_MARK: "([^/]+?)", "*": "[^/]*", "?": "[^/]"}
    text = "".join(meaning.get(piece) or re.escape(piece) for piece in pieces)
    return re.compile(text, re.IGNORECASE | re.DOTALL)
