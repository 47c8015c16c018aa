"""How people and the model agree about the parts that several looked at, from their decisions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from makellos.evaluation.attribute_study import AttributeStudy, attribute_study
from makellos.inspection.findings import UNREADABLE
from makellos.store import NotFoundError, Store

__all__ = ["Agreements", "agreements"]

_PAGE = 1000
_MOST = 2000  # parts, those that were looked at last


@dataclass(frozen=True)
class Agreements:
    """Hold the study of the parts of a recipe that were judged twice or more, None without any.

    `n_once` parts were judged once, and tell nothing of agreement. A blind second look counts as
    much as the first decision; where as many say either, a part counts as defective.
    """

    study: AttributeStudy | None
    n_once: int


def agreements(store: Store, recipe: str) -> Agreements:
    """Return how people agree with each other and with the model about parts of a recipe."""
    given = _by_part(store)
    n_once = 0
    truths, judged, rejected, groups = [], [], [], []
    for number in sorted(given)[-_MOST:]:
        try:
            part = store.inspection(number)
        except NotFoundError:  # it was forgotten
            continue
        if part.recipe != recipe or part.verdict == UNREADABLE:
            continue
        said = [each for trials in given[number].values() for each in trials]
        if len(said) < 2:
            n_once += 1
            continue
        truths.append(2 * sum(said) >= len(said))
        judged.append(given[number])
        rejected.append(part.verdict == "reject")
        groups.append(None if part.serial is None else f"serial {part.serial}")
    if not truths:
        return Agreements(None, n_once)
    study = attribute_study(truths, judged, rejected, groups, n_by_majority=len(truths))
    return Agreements(study, n_once)


def _by_part(store: Store) -> dict[int, dict[str, list[bool]]]:
    """Return by part who called it defective, or did not, in the order in which it was said."""
    found: dict[int, dict[str, list[bool]]] = defaultdict(dict)
    last = 0
    while page := store.all_reviews(after=last, limit=_PAGE):
        for each in page:
            person = found[each.inspection_id].setdefault(each.person, [])
            person.append(each.decision == "defective")
        last = page[-1].id
    return found
