"""Judging a detector before any defective part is known: damage planted in held-out good parts.

Labelled defective parts are judged by as well, where there are some. Test parts are never touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part, PartSet, group_names
from makellos.data.planting import KINDS, Damage
from makellos.data.progress import Progress
from makellos.data.splits import aside
from makellos.detectors import Graph
from makellos.errors import InputError
from makellos.evaluation.ranking import auroc
from makellos.models import score_parts

__all__ = ["LABELLED", "Bench", "Fold", "Judgement", "judge", "lay_out"]

LABELLED = "labelled defects"
_ASIDE = 0.2  # share of the groups that is held out
_FEW = 40  # good parts, below which each is held out in turn
_N_FOLDS = 3
_MOST_GOOD = 40  # held-out good parts that are judged by
_PER_KIND = 24  # damaged pictures of a kind at least
_MOST_PIXELS = 1e9  # of planted pictures together, for each is planted when it is read
_MOST_DEFECTIVE = 100
_SHARED = 10  # labelled defects, from which on some of them may be learned from
# So many labelled defects count as much as all that is planted.
_WORTH = 10
_N_DRAWS, _CHANCE = 200, 0.025
_WORTHWHILE = 0.25  # of the errors of another, that must go where no labelled part judges


@dataclass(frozen=True)
class Fold:
    """Hold parts to learn from, and what is judged by a detector that learned from them.

    `labelled` are defective parts that a detector which needs labels learns from.
    """

    learn: list[Part]
    labelled: list[Part]
    good: list[Part]
    planted: list[Part]
    defective: list[Part]

    def first(self, n_learn: int, n_good: int) -> Fold:
        """Return a smaller fold: with fewer parts to learn from and to judge by."""
        kept = {part.name for part in self.good[:n_good]}
        return replace(
            self,
            learn=self.learn[:n_learn],
            good=self.good[:n_good],
            planted=[part for part in self.planted if part.group in kept],
        )

    @property
    def n_pictures(self) -> int:
        """Return how many pictures a judgement reads."""
        return sum(map(len, (self.learn, self.good, self.planted, self.defective)))


@dataclass(frozen=True)
class Bench:
    """Hold the folds that candidates are judged on, and a phrase about them."""

    folds: list[Fold]
    described: str

    @property
    def has_labels(self) -> bool:
        """Tell whether a detector that needs labels can learn here."""
        return all(fold.labelled for fold in self.folds)


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


def lay_out(parts: PartSet, seed: int, *, shares_labels: bool = False) -> Bench:
    """Hold good parts out and plant damage in them.

    None of `parts` is there for a test. Held out are the good ones of split val, else a fifth of
    the groups; below 40 good parts each third in turn. Labelled defects judge, or half of them
    where `shares_labels` says that some detector learns from the other half. Raises `InputError`
    where there are too few good parts.
    """
    good, held = list(parts.good()), list(parts.calibration())
    defective = [part for part in parts if not part.is_good]
    defective = _shuffled(defective, seed, 12)[:_MOST_DEFECTIVE]
    _, turn_of = np.unique(group_names(defective), return_inverse=True)
    is_val = np.array([part.split == "val" for part in defective], np.bool_)
    n_groups = len(set(group_names(good)))
    if len(good) < 2 or (not held and (len(good) < 3 or n_groups < 2)):
        raise InputError(
            f"{parts.root} has {len(good)} good parts to learn from, in {n_groups} groups; auto "
            "takes 3 in 2 groups at least, better 100. Add pictures of good parts to train/good."
        )
    divided = _divided(good, held, seed)
    shares = len(divided) == 1 and shares_labels and len(defective) >= _SHARED
    n_turns = 2 if shares else len(divided)
    folds = []
    for place, (learn, apart) in enumerate(divided):
        judged = _shuffled(apart, seed, 10)[: math.ceil(_MOST_GOOD / len(divided))]
        # With one fold the data may name parts to judge by: split val. They are never learned from.
        judges = (turn_of % n_turns == place) | (is_val & (len(divided) == 1))
        mine = [part for part, judge in zip(defective, judges, strict=True) if judge]
        theirs = {part.group for part in apart} - {None}  # whose parts are not learned from either
        out = judges | is_val | np.array([part.group in theirs for part in defective], np.bool_)
        rest = [part for part, is_out in zip(defective, out, strict=True) if not is_out]
        folds.append(Fold(_shuffled(learn, seed, 11), rest, judged, [], mine))
    n_good = sum(len(fold.good) for fold in folds)
    n_each = max(1, min(math.ceil(_PER_KIND / n_good), 8))
    folds = [replace(fold, planted=_planted(fold.good, n_each, seed)) for fold in folds]
    n_planted, n_defective = (
        sum(len(getattr(fold, kind)) for fold in folds) for kind in ("planted", "defective")
    )
    labelled = f", and {n_defective} labelled defective parts" if n_defective else ""
    return Bench(
        folds,
        f"{n_good} held-out good parts, {n_planted} pictures of them with damage of "
        f"{len(KINDS)} kinds planted{labelled}",
    )


def judge(folds: Sequence[tuple[Graph, Fold]], progress: Progress) -> Judgement:
    """Score what each fold's graph has not seen, and return how well damage stands out."""

    def report(done: int, total: int) -> None:
        progress("scoring planted damage", done, total)

    good: list[float] = []
    damaged: dict[str, list[float]] = {}
    owners: dict[str, list[int]] = {}
    for graph, fold in folds:
        place_of = {part.name: len(good) + i for i, part in enumerate(fold.good)}
        parts = [*fold.good, *fold.planted, *fold.defective]
        recipe = graph.recipe()
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


def _divided(good: list[Part], held: list[Part], seed: int) -> list[tuple[list[Part], list[Part]]]:
    if held:
        return [(good, held)]
    if len(good) >= _FEW:
        return [aside(good, _ASIDE, seed=seed)]
    names = group_names(good)
    groups = np.random.default_rng([seed, 13]).permutation(sorted(set(names)))
    fold_of = {str(group): i % _N_FOLDS for i, group in enumerate(groups)}
    divided = []
    for fold in range(max(fold_of.values()) + 1):
        inside = [fold_of[name] == fold for name in names]
        learn = [part for part, out in zip(good, inside, strict=True) if not out]
        if len(learn) > 1:
            divided.append((learn, [p for p, out in zip(good, inside, strict=True) if out]))
    return divided


def _shuffled(parts: Sequence[Part], seed: int, stream: int) -> list[Part]:
    order = np.random.default_rng([seed, stream]).permutation(len(parts))
    return [parts[i] for i in order]


def _planted(parts: Sequence[Part], n_each: int, seed: int) -> list[Part]:
    """Return `n_each` parts with damage of each kind per part; its name is their group."""
    planted: list[Part] = []
    n_pixels = 0
    for i, part in enumerate(parts):
        height, width = part.read().shape[:2]
        n_pixels += height * width * n_each * len(KINDS)
        if i and n_pixels > _MOST_PIXELS:
            break
        for k, kind in enumerate(KINDS):
            for n in range(n_each):
                damaged = part.changed(Damage(kind, (seed, 3, i, k, n)))
                name = f"{part.name} with {kind} {n + 1}"
                planted.append(replace(damaged, name=name, label=kind, group=part.name))
    return planted
