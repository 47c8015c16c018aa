"""What a detector learns from: once, or cross-fitted where all good parts calibrate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from makellos.data.parts import Part, group_names
from makellos.data.white_level import filling_their_depth
from makellos.detectors import Graph
from makellos.errors import HelperProcessError
from makellos.inspection.alignment import in_one_pose
from makellos.inspection.recipe import Recipe
from makellos.models.coverage import Frame, cut_to_learn
from makellos.models.partition import Partition
from makellos.training import is_first_process

__all__ = ["Lesson", "lesson_of"]


@dataclass(frozen=True)
class Lesson:
    """Hold what a detector learns from: parts or their tiles, and the fold of each.

    `folds` is empty where calibration parts are held out; `calibrating` are the folds of those that
    calibrate cross-fitted.
    """

    parts: list[Part]
    folds: list[int]
    calibrating: list[int]

    def recipes(self, graphs: Sequence[Graph], frame: Frame) -> list[tuple[Recipe, list[int]]]:
        """Return the recipe of each fold's graph, and which calibrating parts it has not seen.

        Raises `HelperProcessError` in a process that only helped another to train.
        """
        if not is_first_process():
            raise HelperProcessError("This process helped with training, and is done.")
        return [
            (frame.recipe(graph), [i for i, own in enumerate(self.calibrating) if own == fold])
            for fold, graph in enumerate(graphs)
        ]


def lesson_of(partition: Partition, frame: Frame, n_folds: int, seed: int) -> Lesson:
    """Return what is learned from a partition; groups are drawn into folds by `seed`."""
    learned = filling_their_depth(partition.learn, frame.white_level)
    parts, owners = cut_to_learn(in_one_pose(learned, frame.alignment), frame.tiling)
    if partition.method != "cross-fitted":
        return Lesson(parts, [], [])
    names = group_names(partition.learn)
    pairs = zip(names, partition.learn, strict=True)
    good = sorted({name for name, part in pairs if part.is_good})
    groups = np.random.default_rng([seed, 2]).permutation(good)
    fold_of = {str(group): i % n_folds for i, group in enumerate(groups)}
    # Defective parts of a group that has good ones as well are left out with it.
    folds = [fold_of.get(name, -1) for name in names]
    # Good parts come first.
    return Lesson(parts, [folds[owner] for owner in owners], folds[: len(partition.calibrate)])
