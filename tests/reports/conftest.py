"""Made-up evaluations for the tests of the HTML report."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from makellos.reports.evaluation import EvaluationReport
from makellos.reports.gallery import GalleryItem

FIGURES: dict[str, Any] = {
    "detector": "patchcore",
    "n_good": 41,
    "n_defective": 119,
    "image_auroc": 0.981,
    "image_ap": 0.992,
    "f1_max": 0.957,
    "pixel_auroc": 0.987,
    "aupro": 0.934,
    "threshold": 2.5,
    "look_again_threshold": 2.0,
    "false_alarm_rate": 1 / 41,
    "miss_rate": 9 / 119,
    "accuracy": 150 / 160,
    "false_alarms": 0.01,
    "false_alarms_asked": 0.01,
    "promise": {
        "unit": "parts",
        "n_units": 41,
        "n_rejected": 1.0,
        "p_value": 0.338,
        "finding": "chance",
    },
    "n_look_again_good": 2,
    "n_look_again_defective": 4,
    "by_defect": {
        "scratch": {"n": 96, "image_auroc": 0.99, "miss_rate": 2 / 96, "look_again_rate": 0.0},
        "thread": {"n": 23, "image_auroc": 0.94, "miss_rate": 7 / 23, "look_again_rate": 4 / 23},
    },
    "by_size": [
        {"name": "small", "low": 0, "high": 400, "n": 40, "n_missed": 8, "n_look_again": 4},
        {"name": "medium", "low": 400, "high": 1600, "n": 50, "n_missed": 1},
        {"name": "large", "low": 1600, "high": None, "n": 29, "n_missed": 0},
    ],
    "intervals": {
        "image_auroc": [0.95, 0.99],
        "miss_rate": [0.035, 0.139],
        "false_alarm_rate": [0.0006, 0.129],
    },
    "fit_seconds": 74.0,
    "inspect_ms_per_part": 38.4,
}


def encoded(extension: str = ".png", level: int = 90) -> bytes:
    return cv2.imencode(extension, np.full((8, 8, 3), level, np.uint8))[1].tobytes()


def make_item(**changes: Any) -> GalleryItem:
    values: dict[str, Any] = {
        "input": "thread/000.png",
        "label": "thread",
        "verdict": "reject",
        "score": 3.0,
        "p_value": 0.004,
        "n_regions": 1,
        "damage_area": 412,
        "picture": encoded(),
        "overlay": encoded(".jpg"),
    }
    return GalleryItem(**(values | changes))


def make_report(**changes: Any) -> EvaluationReport:
    items = (
        make_item(),
        make_item(input="thread/001.png", verdict="ok", score=1.25, p_value=0.4, n_regions=0),
        make_item(input="thread/002.png", verdict="ok", score=1.5, p_value=0.3, n_regions=0),
        make_item(input="scratch/000.png", label="scratch", verdict="look_again", score=2.25),
        make_item(input="good/000.png", label="good", verdict="ok", score=1.0, damage_area=None),
        make_item(input="good/001.png", label="good", score=2.75, damage_area=None),
    )
    report = EvaluationReport(
        title="Screws, line 4",
        data="screws/test",
        created="28 July 2025",
        figures=FIGURES,
        items=items,
        roc=([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0]),
        precision_recall=([1.0, 0.5, 0.0], [0.7, 1.0, 1.0]),
        provenance={"Backbone": "tf_efficientnet_lite0", "Calibration": "64 good parts"},
        notes=(),
    )
    figures = FIGURES | changes.pop("figures", {})
    return dataclasses.replace(report, figures=figures, **changes)


def visible_text(page: str) -> str:
    """Return what a reader sees of a page, with single spaces and hyphens for dashes."""
    page = re.sub(r"<(style|script|head)\b.*?</\1>", " ", page, flags=re.DOTALL)
    page = re.sub(r"</?(b|span|i|small)\b[^>]*>", "", page)
    text = html.unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u2013", "-")
    return re.sub(r"\s+", " ", text)


@pytest.fixture
def item() -> Callable[..., GalleryItem]:
    return make_item


@pytest.fixture
def report() -> Callable[..., EvaluationReport]:
    return make_report


@pytest.fixture
def text_of() -> Callable[[str], str]:
    return visible_text


@pytest.fixture
def picture() -> Callable[..., bytes]:
    return encoded
