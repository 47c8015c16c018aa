"""Fitting a detector on a partition: once, or cross-fitted where all good parts calibrate."""

from __future__ import annotations

import numpy as np

from makellos.data.parts import group_names
from makellos.data.progress import Progress
from makellos.data.white_level import filling_their_depth
from makellos.detectors import Detector
from makellos.errors import HelperProcessError
from makellos.inspection.recipe import Recipe
from makellos.models.coverage import Frame, cut_to_learn
from makellos.models.partition import Partition
from makellos.training import Training, is_first_process

__all__ = ["learn"]


def learn(
    detector: Detector,
    partition: Partition,
    frame: Frame,
    seed: int,
    training: Training,
    progress: Progress,
) -> list[tuple[Recipe, list[int]]]:
    """Fit, and return per fold of a cross-fit its recipe and which calibrating parts it covers.

    None of these was seen by it; the list is empty where calibration parts are held out. Raises
    `HelperProcessError` in a process that only helped another to train.
    """
    learned = filling_their_depth(partition.learn, frame.white_level)
    parts, owners = cut_to_learn(learned, frame.tiling)
    if partition.method != "cross-fitted":
        detector.fit(parts, progress=progress, training=training)
        _end_helpers()
        return []
    names = group_names(partition.learn)
    pairs = zip(names, partition.learn, strict=True)
    groups = np.random.default_rng([seed, 2]).permutation(
        sorted({name for name, part in pairs if part.is_good})
    )
    fold_of = {str(group): i % detector.n_folds for i, group in enumerate(groups)}
    # Defective parts of a group that has good ones as well are left out with it.
    folds = [fold_of.get(name, -1) for name in names]
    graphs = detector.cross_fit(
        parts, [folds[owner] for owner in owners], progress=progress, training=training
    )
    _end_helpers()
    calibrating = folds[: len(partition.calibrate)]  # good parts come first
    return [
        (frame.recipe(graph), [i for i, f in enumerate(calibrating) if f == fold])
        for fold, graph in enumerate(graphs)
    ]


def _end_helpers() -> None:
    if not is_first_process():
        raise HelperProcessError("This process helped to train, and its work is done.")
