"""Scoring of many parts, as an inspector computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from makellos.data.parts import Part
from makellos.data.threads import in_order
from makellos.inspection.engines import EngineChoice, default_workers
from makellos.inspection.recipe import Recipe
from makellos.inspection.scorer import Scored

__all__ = ["score_parts"]


def score_parts(
    recipe: Recipe,
    choice: EngineChoice,
    parts: Sequence[Part],
    progress: Callable[[int, int], None] | None = None,
    *,
    workers: int | None = None,
) -> Iterator[Scored]:
    """Yield what a recipe finds on each part, in their order, on one engine.

    `progress` is called with the number of parts done and of all. Raises `InputError` for a part
    that cannot be read.
    """
    n_workers = default_workers() if workers is None else workers
    scorer = recipe.open(choice, workers=n_workers)
    size = scorer.engine.batch_size

    def score(start: int) -> list[Scored]:
        return scorer.many([recipe.preprocessing.read(p) for p in parts[start : start + size]])

    # A search takes whole batches, one after another; the tiles of one part keep all workers busy.
    threads = 1 if size > 1 or recipe.tiling is not None else n_workers + 1
    starts = range(0, len(parts), size)
    for done, scored in enumerate(chain.from_iterable(in_order(score, starts, threads=threads)), 1):
        if progress is not None:
            progress(done, len(parts))
        yield scored
