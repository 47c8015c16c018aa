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

Floats = NDArray[np.float64]

__all__ = ["FIGURE", "LABELLED", "Judgement", "judge"]

LABELLED = "labelled defects"
# So many labelled defects count as much as all that is planted.
_WORTH = 10
_N_DRAWS, _CHANCE = 200, 0.025
_WORTHWHILE = 0.25  # of the misses of another, that must go where no labelled part judges
# Of the held-out good parts, the highest scores of these set the thresholds. A single threshold at
# a budget of one in a hundred would hang on one good part, or on none.
_TAIL, _FEWEST = 0.1, 4
# What `Judgement.misses` is, in words: searches by different figures are not mixed.
FIGURE = (
    f"mean misses of {len(KINDS)} kinds of planted damage at the thresholds of the highest "
    f"{_TAIL:.0%} of good parts, {_FEWEST} at least; n / (n + {_WORTH}) of the way to those of n "
    "labelled defects"
)


@dataclass(frozen=True)
class Judgement:
    """Hold the share of damaged parts that is missed, and how well they rank above good ones.

    `misses` is the mean over thresholds at the scores of the highest tenth of the good parts (four
    at least), and over the kinds that are planted. With n labelled defects it moves by n / (n + 10)
    of the way to theirs. `auroc`, which decides between equal misses, is the same mean of AUROC.
    `by_kind` holds the AUROC of each kind, `missed_by_kind` its misses. `drawn` (200,) holds
    `misses` for parts drawn with replacement, the same parts for every detector that is judged on
    the same folds.
    """

    misses: float
    auroc: float
    by_kind: Mapping[str, float]
    missed_by_kind: Mapping[str, float] = field(default_factory=dict)
    drawn: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False)
    n_labelled: int = 0

    @property
    def place(self) -> tuple[float, float]:
        """Return what judgements are sorted by, the best first."""
        return self.misses, -self.auroc

    def clearly_beats(self, other: Judgement) -> bool:
        """Tell whether this one surely misses fewer, and a quarter fewer at least.

        A quarter of what is planted; with n labelled defects 10 / (n + 10) of that, for planted
        damage ranks detectors that lie close together otherwise than real damage does.
        """
        needed = _WORTHWHILE * _WORTH / (_WORTH + self.n_labelled)
        return self.misses <= (1 - needed) * other.misses and self.surely_beats(other)

    def surely_beats(self, other: Judgement) -> bool:
        """Tell whether chance in the parts alone would hardly put this one first (2.5 %)."""
        if self.drawn.size != other.drawn.size or not self.drawn.size:
            return self.place < other.place
        return float(np.quantile(other.drawn - self.drawn, _CHANCE)) > 0


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
    once = {kind: np.ones((1, len(scores))) for kind, scores in damaged.items()}
    missed = _missed(good, damaged, np.ones((1, len(good))), once)
    drawn = _missed(good, damaged, *_drawn(len(good), damaged, owners))
    return Judgement(
        round(float(_figure(missed, n_labelled)[0]), 4),
        round(float(_figure(by_kind, n_labelled)), 4),
        by_kind,
        {kind: round(float(share[0]), 4) for kind, share in missed.items()},
        np.asarray(_figure(drawn, n_labelled), np.float64),
        n_labelled,
    )


def _figure(by_kind: Mapping[str, Any], n_labelled: int) -> Any:
    """Return one figure for those of the kinds, numbers or arrays."""
    # A mean of the kinds' normal quantiles would let those weigh most that every detector finds.
    value = np.mean([found for kind, found in by_kind.items() if kind != LABELLED], axis=0)
    if n_labelled:
        value = value + n_labelled / (n_labelled + _WORTH) * (by_kind[LABELLED] - value)
    return value


def _missed(
    good: Sequence[float],
    damaged: Mapping[str, Sequence[float]],
    weights: Floats,
    of_kinds: Mapping[str, Floats],
) -> dict[str, Floats]:
    """Return the misses (b,) of each kind, for weights (b, n) of good parts and of damaged ones."""
    order = np.argsort(good)[::-1]
    thresholds, weights = np.array(good)[order], weights[:, order]
    total = weights.sum(1, keepdims=True)
    within = np.clip(
        max(_TAIL, _FEWEST / len(good)) * total - (weights.cumsum(1) - weights), 0, weights
    )
    found = {}
    for kind, scores in damaged.items():
        missed = np.array(scores)[:, np.newaxis] <= thresholds
        each = np.einsum("bi,ij,bj->b", of_kinds[kind], missed, within, optimize=True)
        n = of_kinds[kind].sum(1) * within.sum(1)
        # Of a kind planted in few parts none may be drawn.
        found[kind] = np.where(n > 0, each / np.maximum(n, 1e-9), 0.5)
    return found


def _drawn(
    n: int, damaged: Mapping[str, Sequence[float]], owners: Mapping[str, Sequence[int]]
) -> tuple[Floats, dict[str, Floats]]:
    """Return weights of resampled parts; a good part brings its planted pictures along."""
    rng = np.random.default_rng(0)
    weights = rng.multinomial(n, np.full(n, 1 / n), _N_DRAWS).astype(np.float64)
    of_kinds = {}
    for kind, scores in damaged.items():
        if kind == LABELLED:
            even = np.full(len(scores), 1 / len(scores))
            of_kinds[kind] = rng.multinomial(len(scores), even, _N_DRAWS).astype(np.float64)
        else:
            of_kinds[kind] = weights[:, list(owners[kind])]
    return weights, of_kinds
