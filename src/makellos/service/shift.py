"""The shift: when it began, what it found, and what of the false-alarm budget is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from makellos.service.pool import Loaded
from makellos.store import Filter, Store, iso

__all__ = ["SHIFTS", "Shift", "shift_of", "shift_start"]

SHIFTS = (6, 14, 22)  # hours, local time
_MOST = 1000  # overruled parts that are counted


@dataclass(frozen=True)
class Shift:
    """Hold what a shift found with one recipe, or with all.

    `counts` are parts by verdict; `allowed` is the number of good parts that the budget lets be
    rejected among those, `spent` how many rejected ones a person found good.
    """

    since: int
    until: int
    counts: dict[str, int]
    allowed: float
    spent: int

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
    counts: dict[str, int] = {}
    allowed, spent = 0.0, 0
    for loaded in recipes:
        name = loaded.recipe.name
        found = store.counts(since, until, recipe=name)
        for verdict, n in found.items():
            counts[verdict] = counts.get(verdict, 0) + n
        n_judged = sum(n for verdict, n in found.items() if verdict != "unreadable")
        allowed += loaded.false_alarms * n_judged
        good = Filter(recipe=name, verdict="reject", decision="good", since=since, until=until)
        spent += len(store.history(good, before=None, limit=_MOST))
    return Shift(since, until, counts, allowed, spent)
