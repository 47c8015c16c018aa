"""Methods that learn from scratch: one digit against the others, and their pictures.

Shorter than by default, so that the checks end in time: benchmarks/bench_one_class.py trains in
full, on all digits.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytestmark = [
    pytest.mark.real,
    pytest.mark.needs_torch,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no peak of memory"),
]
_N_OTHERS = 250


@pytest.fixture(scope="module")
def digit(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the first 80 % of the zeros to learn from, the rest of them and others to test."""
    data = np.load(real_data / "mnist_t10k.npz")
    images, labels = data["images"], data["labels"]
    zeros, others = images[labels == 0], np.flatnonzero(labels != 0)
    chosen = np.random.default_rng(0).choice(others, _N_OTHERS, replace=False)
    n_learned = round(0.8 * len(zeros))
    folder = tmp_path_factory.mktemp("digit")
    kinds = {
        "train/good": zeros[:n_learned],
        "test/good": zeros[n_learned:],
        "test/other": images[chosen],
    }
    for kind, pictures in kinds.items():
        (folder / kind).mkdir(parents=True)
        for i, picture in enumerate(pictures):
            cv2.imwrite(str(folder / kind / f"{i:04d}.png"), picture)
    return folder


@pytest.mark.parametrize(
    ("detector", "settings", "least"),
    [
        ("vae", {"epochs": 60}, 0.97),
        ("fanogan", {"epochs": 40, "encoder_epochs": 20}, 0.9),
        ("anogan", {"epochs": 100, "n_steps": 60}, 0.85),
    ],
)
def test_other_digits_are_found(
    detector: str,
    settings: dict[str, int],
    least: float,
    digit: Path,
    run_makellos: Callable[..., Any],
    tmp_path: Path,
) -> None:
    model, grid = tmp_path / "m.makellos", tmp_path / "grid.png"
    given = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    run_makellos("fit", digit, "-o", model, "--detector", detector, *given)
    figures = json.loads(run_makellos("evaluate", model, digit, "--json", "-").out)
    assert figures["image_auroc"] >= least
    assert figures["false_alarm_rate"] <= 0.05
    assert figures["accuracy"] <= figures["optimistic_accuracy"]
    told = json.loads(run_makellos("generate", model, "-n", 36, "-o", grid, "--json", "-").out)
    assert grid.is_file()
    assert told["diversity"] > 0.3  # made digits differ almost as real ones do
