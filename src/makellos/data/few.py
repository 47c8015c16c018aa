"""A few of the good parts of a set, drawn by chance: what would so many have taught?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from makellos.data.parts import PartSet, group_names
from makellos.errors import ConfigurationError, InputError

__all__ = ["check_n_good", "drawn_good"]


def check_n_good(n_good: int, n_known: int, root: object) -> None:
    """Raise `ConfigurationError` for no parts, `InputError` for more than a set has."""
    if n_good < 1:
        raise ConfigurationError(
            f"The number of good parts is {n_good}; expected a whole number, at least 1."
        )
    if n_good > n_known:
        raise InputError(
            f"{root} has {n_known} good parts to learn from, fewer than the {n_good} asked for. "
            "Ask for fewer, or add pictures of good parts."
        )


def drawn_good(parts: PartSet, n_good: int | None, seed: int) -> PartSet:
    """Return a set with `n_good` of its good parts to learn from; None keeps all.

    They are drawn from all good parts but those to test, also from split val, and from as many
    groups as there can be. A larger number with the same seed holds those of a smaller one. All
    other parts stay. Raises what `check_n_good` raises.
    """
    if n_good is None:
        return parts
    known = [part for part in parts if part.is_good and part.split != "test"]
    check_n_good(n_good, len(known), parts.root)
    names, before = group_names(known), dict[str, int]()
    order: list[tuple[int, int]] = []  # how many of its group come before, and the part
    for i in np.random.default_rng([seed, 21]).permutation(len(known)):
        order.append((before.get(names[i], 0), int(i)))
        before[names[i]] = order[-1][0] + 1
    chosen = {known[i].name for _, i in sorted(order, key=lambda each: each[0])[:n_good]}
    kept = [
        replace(part, split="train") if part.split == "val" and part.is_good else part
        for part in parts
        if part.name in chosen or not part.is_good or part.split == "test"
    ]
    note = f"{n_good} of {len(known)} good parts were drawn to learn from (seed {seed})."
    return replace(parts, parts=tuple(kept), notes=(*parts.notes, note))
