"""The promise: over many splits of real good parts the budget is kept, and is not given away."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from makellos import Calibration, find_parts
from makellos.data.parts import Part, group_names

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no peak of memory"),
]

BUDGET, N_SPLITS = 0.05, 200


def good_parts(data: Path) -> tuple[list[Part], list[Part]]:
    """Return the good parts to learn from, and those of the test."""
    found = find_parts(data)
    return list(found.good()), [part for part in found.test() if part.is_good]


def scores_of_unseen(
    run_makellos: Callable[..., Any], learn: Sequence[Part], rest: Sequence[Part], folder: Path
) -> NDArray[np.float64]:
    """Fit on some parts, and return the scores (n,) of the others."""
    with (folder / "half.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "label", "group"])
        table.writerows([part.path, part.label, part.group or ""] for part in learn)
    model = folder / "half.makellos"
    run_makellos("fit", folder / "half.csv", "-o", model, "--preset", "fast")
    paths = [part.path for part in rest]
    lines = run_makellos("inspect", model, *paths, "--jsonl", "-").out.splitlines()
    return np.array([json.loads(line)["score"] for line in lines], dtype=np.float64)


def realised(scores: NDArray[np.float64], groups: Sequence[Hashable]) -> NDArray[np.float64]:
    """Return the false-alarm rate of each split into two halves of the groups.

    One group counts as one part, as the promise does.
    """
    names = np.array([str(group) for group in groups])
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(N_SPLITS):
        order = rng.permutation(np.unique(names))
        inside = np.isin(names, order[: len(order) // 2])
        calibration = Calibration(scores[inside], BUDGET, groups=names[inside].tolist())
        rejected = np.array([calibration.verdict(s) == "reject" for s in scores[~inside]])
        of = names[~inside]
        rates.append(np.mean([rejected[of == name].mean() for name in np.unique(of)]))
    return np.array(rates)


def test_budget_is_kept_on_screws(
    real_data: Path, run_makellos: Callable[..., Any], tmp_path: Path
) -> None:
    train, test = good_parts(real_data / "mvtec_screw")
    order = np.random.default_rng(1).permutation(len(train))
    learn = [train[i] for i in order[:160]]
    rest = [*(train[i] for i in order[160:]), *test]
    scores = scores_of_unseen(run_makellos, learn, rest, tmp_path)
    rates = realised(scores, range(len(rest)))
    assert_kept(rates)


def test_budget_is_kept_on_tiles_by_tile(
    real_data: Path, run_makellos: Callable[..., Any], tmp_path: Path
) -> None:
    train, test = good_parts(real_data / "magnetic_tile" / "tiles.csv")
    parts = [*train, *test]
    tiles = sorted(set(group_names(parts)))
    chosen = np.random.default_rng(1).permutation(tiles)[: len(tiles) // 2].tolist()
    learn = [part for part in parts if part.group in chosen]
    rest = [part for part in parts if part.group not in chosen]
    scores = scores_of_unseen(run_makellos, learn, rest, tmp_path)
    assert_kept(realised(scores, group_names(rest)))


def assert_kept(rates: NDArray[np.float64]) -> None:
    standard_error = rates.std(ddof=1) / np.sqrt(len(rates))
    assert rates.mean() <= BUDGET + 2 * standard_error
    assert rates.mean() >= BUDGET / 2
