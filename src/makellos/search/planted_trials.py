"""Judging a detector by damage planted in good parts that it has not seen.

Labelled defective parts count as well, where there are some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.data.planting import KINDS
from makellos.data.progress import Progress
from makellos.detectors import Detector
from makellos.errors import InputError
from makellos.evaluation.ranking import auroc
from makellos.models import score_parts
from makellos.search.folds import Fold
from makellos.training import Training

__all__ = ["FIGURE", "LABELLED", "Judgement", "judge"]

LABELLED = "labelled defects"
# So many labelled defects count as much as all that is planted.
_WORTH = 10
_N_DRAWS, _CHANCE = 200, 0.025
_WORTHWHILE = 0.25  # of the errors of another, that must go where no labelled part judges
# What `Judgement.auroc` is, in words: searches by different figures are not mixed.
FIGURE = (
    f"mean AUROC of {len(KINDS)} kinds of planted damage, n / (n + {_WORTH}) of the way to that of "
    "n labelled defects"
)


@dataclass(frozen=True)
class Judgement:
    """Hold how well damaged parts rank above good ones, and the AUROC of each kind of damage.

    `auroc` is the mean over the kinds that are planted. With n labelled defects it moves by
    n / (n + 10) of the way to theirs. `drawn` (200,) holds the same figure for parts drawn with
    replacement, the same parts for every detector that is judged on the same folds.
    """

    auroc: float
    by_kind: Mapping[str, float]
    drawn: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False)
    n_labelled: int = 0

    def clearly_beats(self, other: Judgement) -> bool:
        """Tell whether this one surely has fewer errors, 1 - AUROC, and a quarter fewer at least.

        A quarter of what is planted; with n labelled defects 10 / (n + 10) of that, for planted
        damage ranks detectors that lie close together otherwise than real damage does.
        """
        needed = _WORTHWHILE * _WORTH / (_WORTH + self.n_labelled)
        fewer = 1 - self.auroc <= (1 - needed) * (1 - other.auroc)
        return fewer and self.surely_beats(other)

    def surely_beats(self, other: Judgement) -> bool:
        """Tell whether chance in the parts alone would hardly put this one first (2.5 %)."""
        if self.drawn.size != other.drawn.size or not self.drawn.size:
            return self.auroc > other.auroc
        return float(np.quantile(self.drawn - other.drawn, _CHANCE)) > 0


def judge(
    detector: Detector, folds: Sequence[Fold], training: Training, progress: Progress
) -> Judgement:
    """Fit a detector anew on each fold, and return how well damage stands out there.

    `detector` itself stays as it is. It is scored on the fastest engine of this machine. Raises
    `InputError` where scores are not finite, and what `fit` raises.
    """

    def report(done: int, total: int) -> None:
        progress("scoring planted damage", done, total)

    good: list[float] = []
    damaged: dict[str, list[float]] = {}
    owners: dict[str, list[int]] = {}
    for fold in folds:
        fitted = type(detector)(**detector.get_parameters())
        fitted.fit(fold.learned_by(fitted), progress=progress, training=training)
        recipe = fitted.graph().recipe()
        place_of = {part.name: len(good) + i for i, part in enumerate(fold.good)}
        parts = [*fold.good, *fold.planted, *fold.defective]
        found = score_parts(recipe, recipe.engines()[0], parts, report)
        scores = [scored.score for scored in found]
        good += scores[: len(fold.good)]
        kinds = chain((p.label for p in fold.planted), (LABELLED for _ in fold.defective))
        for kind, score in zip(kinds, scores[len(fold.good) :], strict=True):
            damaged.setdefault(kind, []).append(score)
        for part in fold.planted:
            owners.setdefault(part.label, []).append(place_of[str(part.group)])
    return _judgement(good, damaged, owners)


def _judgement(
    good: Sequence[float],
    damaged: Mapping[str, Sequence[float]],
    owners: Mapping[str, Sequence[int]],
) -> Judgement:
    by_kind: dict[str, float] = {}
    for kind, scores in damaged.items():
        every = [*good, *scores]
        found = auroc(every, np.arange(len(every)) >= len(good))
        if found is None or not np.isfinite(every).all():
            raise InputError("The scores are not finite; the detector cannot be judged.")
        by_kind[kind] = round(found, 4)
    n_labelled = len(damaged.get(LABELLED, ()))
    value = float(_figure(by_kind, n_labelled))
    drawn = _drawn(good, damaged, owners, n_labelled)
    return Judgement(round(value, 4), by_kind, drawn, n_labelled)


def _figure(by_kind: Mapping[str, Any], n_labelled: int) -> Any:
    """Return one figure for those of the kinds, numbers or arrays."""
    # A mean of the kinds' normal quantiles would let those weigh most that every detector finds.
    value = np.mean([found for kind, found in by_kind.items() if kind != LABELLED], axis=0)
    if n_labelled:
        value = value + n_labelled / (n_labelled + _WORTH) * (by_kind[LABELLED] - value)
    return value


def _drawn(
    good: Sequence[float],
    damaged: Mapping[str, Sequence[float]],
    owners: Mapping[str, Sequence[int]],
    n_labelled: int,
) -> NDArray[np.float64]:
    """Return the figure for resampled parts; a good part brings its planted pictures along."""
    rng = np.random.default_rng(0)
    n = len(good)
    weights = rng.multinomial(n, np.full(n, 1 / n), _N_DRAWS).astype(np.float64)
    found = {}
    for kind, scores in damaged.items():
        here = np.array(scores)[:, np.newaxis]
        above = (here > good) + 0.5 * (here == good)
        if kind == LABELLED:
            even = np.full(len(scores), 1 / len(scores))
            of_kind = rng.multinomial(len(scores), even, _N_DRAWS).astype(np.float64)
        else:
            of_kind = weights[:, list(owners[kind])]
        total = of_kind.sum(1) * weights.sum(1)
        ranked = np.einsum("bi,ij,bj->b", of_kind, above, weights, optimize=True)
        # Of a kind planted in few parts none may be drawn.
        found[kind] = np.where(total > 0, ranked / np.maximum(total, 1), 0.5)
    return np.asarray(_figure(found, n_labelled), np.float64)
