"""What the pictures of good parts are like, for later: their statistics, learned at fit."""

from __future__ import annotations

from functools import partial

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.data.threads import in_order
from makellos.inspection.engines import default_workers
from makellos.inspection.good_state import GoodState
from makellos.inspection.statistics import Statistics, statistics_of
from makellos.models.partition import Partition
from makellos.models.release import groups_of

__all__ = ["learn_good_state"]

_MOST = 4096  # parts: limits of ranks among more say little more, and each takes 14 kB


def learn_good_state(
    partition: Partition, white_level: int | None, progress: Progress
) -> GoodState | None:
    """Return the good state of the good parts that a fit or a calibration uses; None for signals.

    Of more than 4,096 as many are looked at, evenly drawn. The statistics do not depend on what the
    detector learned, so that learned parts count as well.
    """
    good = [part for part in partition.used if part.is_good]
    if partition.signal is not None or not good:
        return None
    good = [good[i] for i in sorted({i * len(good) // _MOST for i in range(_MOST)})]
    found: list[Statistics] = []
    look = partial(_look, white_level=white_level)
    for each in in_order(look, good, threads=partition.workers or default_workers()):
        found.append(each)
        progress("learning the good state", len(found), len(good))
    return GoodState.learned(found, groups_of(good))


def _look(part: Part, white_level: int | None) -> Statistics:
    return statistics_of(part.read(), white_level)
