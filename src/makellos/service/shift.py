"""The shift: when it began, what it found, and what of the false-alarm budget is left."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from makellos.service.pool import Loaded
from makellos.store import NotFoundError, Store, Tally, iso

__all__ = ["SHIFTS", "Shift", "shift_of", "shift_start"]

SHIFTS = (6, 14, 22)  # hours, local time
_VERDICTS = ("ok", "look_again", "reject", "unreadable")


@dataclass(frozen=True)
class Shift:
    """Hold what a shift found with one recipe, or with all.

    `counts` are parts by verdict; `allowed` is the number of good parts that the budgets let be
    rejected among those: all that were judged but the ones that a person found defective, each by
    the budget of the version that judged it. `spent` is how many rejected ones a person found good,
    `n_open` how many nobody has decided on yet.
    """

    since: int
    until: int
    counts: dict[str, int]
    allowed: float
    spent: int
    n_open: int

    def row(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "since": iso(self.since),
            "until": iso(self.until),
            "verdicts": self.counts,
            "budget": {
                "allowed": round(self.allowed, 6),
                "spent": self.spent,
                "left": round(self.allowed - self.spent, 6),
                "n_open": self.n_open,
            },
        }


def shift_start(now: int, hours: Sequence[int] = SHIFTS) -> int:
    """Return when the shift began that lasts at `now`, both in microseconds; hours are local."""
    local = datetime.fromtimestamp(now / 1e6, UTC).astimezone()
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    begun = [
        start
        for day in (0, 1)
        for hour in hours
        if (start := (midnight - timedelta(days=day) + timedelta(hours=hour)).astimezone()) <= local
    ]
    return int(max(begun, default=local).timestamp()) * 1_000_000


def shift_of(store: Store, recipes: Sequence[Loaded], *, since: int, until: int) -> Shift:
    """Return what was found from `since` to before `until` with these recipes together."""
    counts = dict.fromkeys(_VERDICTS, 0)
    allowed, spent, n_open = 0.0, 0, 0
    for loaded in recipes:
        tallies = store.tallies(since, until, loaded.recipe.name)
        budgets = _budgets(store, loaded, tallies)
        for each in tallies:
            counts[each.verdict] = counts.get(each.verdict, 0) + each.n
            if each.verdict != "unreadable" and each.decision != "defective":
                allowed += budgets[each.version] * each.n
            if each.verdict == "reject":
                spent += each.n * (each.decision == "good")
                n_open += each.n * (each.decision is None)
    return Shift(since, until, counts, allowed, spent, n_open)


def _budgets(store: Store, loaded: Loaded, tallies: Sequence[Tally]) -> dict[int, float]:
    """Return the budget of each version that judged parts; that in use where one is not known."""
    found = {each.version: loaded.false_alarms for each in tallies}
    if set(found) <= {loaded.recipe.version}:
        return found
    for version in store.recipes.versions(loaded.recipe.name):
        if version.version in found and version.model_hash != loaded.recipe.model_hash:
            with suppress(NotFoundError):
                summary = store.recipes.model(version.model_hash).summary
                found[version.version] = float(summary.get("false_alarms", loaded.false_alarms))
    return found
