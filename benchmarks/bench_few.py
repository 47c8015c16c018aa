"""Realised false-alarm rates of models of few good parts against what they promise.

Usage: MAKELLOS_DATA=FOLDER python benchmarks/bench_few.py [SET] [DETECTOR] [N,...] [DRAWS] [FILE]

Good parts are drawn from those to learn from, as a fit would find them; the others are scored by
the final graph, and rejected above the threshold that the cross-fitted scores of the few give at
the smallest budget that so many can promise. A promise holds on average over such draws: that of
one differs widely, with four parts from 1 to 60 % for 20 % in 95 of 100 draws.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from makellos import Calibration, find_parts
from makellos.calibration import realised_rate
from makellos.data.parts import Part
from makellos.detectors import Graph, make_detector
from makellos.models.coverage import Frame
from makellos.models.learning import lesson_of
from makellos.models.partition import split_parts
from makellos.models.scoring import score_parts
from makellos.sets.synthetic_screws import write_screws

SETS = {"tiles": "magnetic_tile", "screws": "mvtec_screw"}
N_TESTED = 20


def scores_of(graph: Graph, parts: list[Part]) -> list[float]:
    """Return the scores of parts by a graph, on the engine that a fit would try first."""
    recipe = graph.recipe()
    return [found.score for found in score_parts(recipe, recipe.engines()[0], parts)]


def drawn(known: list[Part], name: str, n: int, draw: int) -> tuple[float, float]:
    """Return promise and realised rate of a model of `n` parts."""
    order = [known[i] for i in np.random.default_rng([draw, n]).permutation(len(known))]
    detector = make_detector(name, seed=draw)
    partition = split_parts(order[:n], [], detector, 0.01, draw)
    lesson = lesson_of(partition, Frame(0.01), detector.n_folds, draw)
    scores = np.zeros(n)
    for fold, graph in enumerate(detector.cross_fit(lesson.parts, lesson.folds)):
        inside = [i for i, own in enumerate(lesson.calibrating) if own == fold]
        scores[inside] = scores_of(graph, [partition.calibrate[i] for i in inside])
    calibration = Calibration(scores, 1 / (n + 1))
    others = scores_of(detector.graph(), order[n : n + N_TESTED])
    return calibration.false_alarms, realised_rate(calibration, others)


def main() -> None:
    given = [*sys.argv[1:], "", "", "", "", ""][:5]
    set_name, detector = given[0] or "tiles", given[1] or "patchcore"
    numbers, n_draws = given[2] or "2,4,8,16", int(given[3] or 200)
    results = {}
    with TemporaryDirectory() as folder:
        data = Path(os.environ.get("MAKELLOS_DATA", "")) / SETS.get(set_name, "")
        if set_name not in SETS:
            data = Path(folder) / "screws"
            write_screws(data, n_train=100, size=256, seed=5, aligned=set_name == "aligned")
        known = list(find_parts(data).good())
        for n in map(int, numbers.split(",")):
            found = np.array([drawn(known, detector, n, draw) for draw in range(n_draws)])
            results[f"{set_name}, {detector}, {n}"] = {
                "promised": float(found[:, 0].mean()),
                "realised": float(found[:, 1].mean()),
                "error": float(found[:, 1].std(ddof=1) / np.sqrt(n_draws)),
                "draws": n_draws,
            }
            print(list(results.items())[-1], flush=True)
    Path(given[4] or "benchmarks/few.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
