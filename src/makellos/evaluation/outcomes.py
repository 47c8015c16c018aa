"""From what was found on labelled parts, one by one, to the figures of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.evaluation.class_intervals import class_intervals
from makellos.evaluation.classes import class_figures
from makellos.evaluation.intervals import Resampling, image_intervals
from makellos.evaluation.localisation import Located, localisation, localisation_by_defect
from makellos.evaluation.pixels import PixelMetrics
from makellos.evaluation.ranking import auroc, average_precision, best_accuracy, f1_max
from makellos.evaluation.rates import (
    by_defect,
    defective_from_labels,
    misses_by_size,
    verdict_rates,
)
from makellos.evaluation.result import LocalisationByDefect, SizeGroup

__all__ = ["Outcome", "overall_figures"]


@dataclass(frozen=True)
class Outcome:
    """Hold what was found on one labelled part.

    Areas are in pixels of the picture, `damaged_area` that of the mask; `damage_length` is the
    greatest distance across its damage. `mapped` says that the figures of pixels count it;
    `located` is how its map lies on the mask, of a rejected part. `probabilities` are those of a
    classifier's classes, `calibrated_verdict` is the verdict without rules, where there are some.
    """

    label: str
    group: str | None
    verdict: str
    score: float | None
    milliseconds: float
    picture_area: int = 0
    damaged_area: int | None = None
    damage_length: float | None = None
    mapped: bool = False
    located: Located | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    calibrated_verdict: str | None = None


def overall_figures(
    outcomes: Sequence[Outcome],
    pixels: PixelMetrics,
    classes: Sequence[str],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Return what the outcomes of parts that could be read decide of an `Evaluation`.

    `pixels` took in the maps of the mapped ones, in this order; `classes` are those of a
    classifier, empty for other detectors.
    """
    scores = np.array([each.score for each in outcomes], dtype=np.float64)
    labels, verdicts = [each.label for each in outcomes], [each.verdict for each in outcomes]
    resampling = Resampling(rng, groups=[each.group for each in outcomes])
    defective = defective_from_labels(labels)
    rejected, again = (np.array(verdicts) == name for name in ("reject", "look_again"))
    best, optimistic = f1_max(scores, defective), best_accuracy(scores, defective)
    rates = verdict_rates(verdicts, labels)
    intervals = asdict(image_intervals(scores, defective, rejected, resampling))
    mapped = [each.group for each in outcomes if each.mapped]
    intervals.update(asdict(pixels.intervals(Resampling(rng, groups=mapped))))
    intervals["optimistic_accuracy"] = None  # new parts would not reach it, whatever the interval
    of_classes = _class_figures(outcomes, classes, rejected, resampling)
    intervals.update(of_classes.pop("intervals"))
    return {
        "n_good": rates.n_good,
        "n_defective": rates.n_defective,
        "image_auroc": auroc(scores, defective),
        "image_ap": average_precision(scores, defective),
        "f1_max": None if best is None else best.value,
        **asdict(pixels.compute()),
        "false_alarm_rate": rates.false_alarm_rate,
        "miss_rate": rates.miss_rate,
        "accuracy": rates.accuracy,
        "optimistic_accuracy": None if optimistic is None else optimistic.value,
        "look_again_rate": rates.look_again_rate,
        "n_look_again_good": int((again & ~defective).sum()),
        "n_look_again_defective": int((again & defective).sum()),
        "by_defect": by_defect(scores, verdicts, labels),
        "by_size": _by_size(outcomes),
        "localisation": _localisation(outcomes),
        "intervals": intervals,
        **of_classes,
    }


def _class_figures(
    outcomes: Sequence[Outcome],
    classes: Sequence[str],
    rejected: NDArray[np.bool_],
    resampling: Resampling,
) -> dict[str, Any]:
    """Return the figures of a classifier's classes, their intervals and notes."""
    if not classes:
        return {"intervals": {}, "notes": []}
    probabilities = np.array([[each.probabilities[name] for name in classes] for each in outcomes])
    truth = [each.label for each in outcomes]
    found = class_figures(probabilities, truth, classes, rejected)
    intervals = class_intervals(probabilities, truth, classes, rejected, resampling)
    notes = [] if found.note is None else [found.note]
    return {**vars(found), "intervals": asdict(intervals), "notes": notes}


def _by_size(outcomes: Sequence[Outcome]) -> list[SizeGroup]:
    found = misses_by_size(
        [each.verdict for each in outcomes],
        [each.damaged_area for each in outcomes],
        [each.picture_area for each in outcomes],
    )
    return [
        SizeGroup(
            name=name,
            low=figures.pixels[0],
            high=figures.pixels[1],
            n=figures.n,
            n_missed=figures.n_missed,
            n_look_again=round(figures.look_again_rate * figures.n),
            percent=figures.percent,
        )
        for name, figures in found.items()
    ]


def _localisation(outcomes: Sequence[Outcome]) -> LocalisationByDefect | None:
    """Return how the maps of rejected defective parts lie on their masks; None without masks."""
    found = [each.located for each in outcomes if each.located is not None]
    together = localisation(found)
    if together is None:
        return None
    return LocalisationByDefect(**vars(together), by_defect=localisation_by_defect(found))
