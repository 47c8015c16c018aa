"""Validation parts: what a search judges a detector by, apart from parts to learn and to test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from makellos.data.checks import readable
from makellos.data.parts import Part, PartSet, group_names
from makellos.data.planting import Damage
from makellos.data.progress import Progress
from makellos.data.splits import aside
from makellos.detectors import Graph
from makellos.errors import InputError
from makellos.evaluation.ranking import auroc
from makellos.models import score_parts

__all__ = ["ASIDE", "Validation", "check_readable", "held_out"]

ASIDE = 0.2  # share of the groups that validates where the data names no parts for it
_MOST_SCORED = 100  # parts of a kind, for a detector may take seconds for each
_PLANTED = 64  # damaged pictures at least, so that one of them does not decide
_MOST_PER_PART = 4


@dataclass(frozen=True)
class Validation:
    """Hold held-out good parts and defective ones, of which there may be none."""

    good: list[Part]
    defective: list[Part]
    seed: int

    @property
    def n_each(self) -> int:
        """Return how many damages are planted in each good part, one per picture."""
        return min(_MOST_PER_PART, math.ceil(_PLANTED / len(self.good)))

    @property
    def described(self) -> str:
        """Return a phrase about the parts."""
        if self.defective:
            others = f"{len(self.defective)} defective ones"
        else:
            others = f"{self.n_each * len(self.good)} pictures of them with damage planted"
        return f"{len(self.good)} held-out good parts and {others}"

    def auroc(self, graph: Graph, progress: Progress) -> float:
        """Return the AUROC, in [0, 1], of a fitted graph on the fastest engine of this machine.

        Where no part is defective, damage is planted in the good ones, the same for every graph.
        """
        damaged = self.defective or [
            part.changed(Damage(None, (self.seed, 3, i, k)))
            for i, part in enumerate(self.good)
            for k in range(self.n_each)
        ]
        recipe = graph.recipe()

        def report(done: int, total: int) -> None:
            progress("scoring validation parts", done, total)

        parts = [*self.good, *damaged]
        scored = score_parts(recipe, recipe.engines()[0], parts, report)
        scores = [each.score for each in scored]
        found = auroc(scores, np.arange(len(parts)) >= len(self.good))
        if found is None:
            raise InputError("There are no validation parts of both kinds. Add good ones.")
        return found


def held_out(parts: PartSet, seed: int) -> tuple[list[Part], Validation]:
    """Return good parts to learn from, and those that validate; test parts are in neither.

    They are those of split val, else of the good ones a fifth of the groups. Raises `InputError`
    where there are too few.
    """
    learn, good = list(parts.good()), list(parts.calibration())
    n_groups = len(set(group_names(learn)))
    if learn and not good:
        learn, good = aside(learn, ASIDE, seed=seed)
    if len(learn) < 2 or not good:
        raise InputError(
            f"{parts.root} has {len(parts.good())} good parts to learn from, in {n_groups} groups; "
            "a search takes 3 in 2 groups at least, better 100. Add pictures of good parts to "
            "train/good."
        )
    defective = [part for part in parts if not part.is_good and part.split == "val"]
    return learn, Validation(_some(good), _some(defective), seed)


def check_readable(parts: Sequence[Part], progress: Progress) -> None:
    """Raise `InputError` naming the parts that cannot be decoded."""
    _, broken = readable(parts, progress=progress)
    if broken:
        listed = "\n  ".join(reason for _, reason in broken)
        raise InputError(
            f"{len(broken)} of {len(parts)} files cannot be used:\n  {listed}\nMend or remove them."
        )


def _some(parts: list[Part]) -> list[Part]:
    return parts[:: max(1, math.ceil(len(parts) / _MOST_SCORED))]
