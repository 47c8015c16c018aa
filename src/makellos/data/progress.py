"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "no_progress"]

# Called with what is being done, how much of it is done, and of how much, None where unknown.
# Figures that change on the way stand behind the name of the step, each after " · ".
Progress = Callable[[str, int, int | None], None]


def no_progress(_what: str, _done: int, _total: int | None) -> None:
    """Tell nobody."""
