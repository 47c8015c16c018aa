"""The result of an evaluation: attributes for programs, a dict of plain data for JSON."""

from __future__ import annotations

import copy
import json
from dataclasses import FrozenInstanceError, fields
from typing import Any, get_type_hints

import numpy as np
import pytest
from pydantic import TypeAdapter

from makellos.evaluation import (
    ClassFigures,
    Evaluation,
    Outcome,
    PixelMetrics,
    UnreadablePart,
    locate,
    overall_figures,
)

OF_CLASSES = [field.name for field in fields(ClassFigures)]
CLASSES = ("good", "scratch")
OF_THE_MODEL: dict[str, Any] = {
    "detector": "toy",
    "map_threshold": 0.5,
    "threshold": 0.5,
    "look_again_threshold": 0.3,
    "false_alarms": 0.1,
    "false_alarms_asked": 0.1,
    "fit_seconds": 2.0,
    "inspect_ms_per_part": 5.0,
    "unreadable": [UnreadablePart("void.png", "void.png is empty")],
}


def made(*, classes: bool = False, **changes: Any) -> Evaluation:
    """Return the result of four good parts and four scratched ones, whose maps were right."""
    rng = np.random.default_rng(0)
    pixels = PixelMetrics(threshold=0.5)
    outcomes = []
    for number in range(8):
        good, score = number < 4, number / 8 + 0.1
        mask = np.zeros((8, 8), dtype=np.bool_)
        mask[2 : 2 + number // 4, 2:5] = not good
        anomaly_map = np.where(mask, score, 0.1).astype(np.float32)
        pixels.update(anomaly_map, None if good else mask)
        outcome = Outcome(
            label="good" if good else "scratch",
            group=None,
            verdict="reject" if score > 0.5 else "ok",
            score=score,
            milliseconds=1.0,
            picture_area=64,
            damaged_area=int(mask.sum()),
            mapped=True,
            located=None if good else locate("scratch", anomaly_map, mask, margin=0),
            probabilities={"good": 1 - score, "scratch": score},
        )
        outcomes.append(outcome)
    figures = overall_figures(outcomes, pixels, CLASSES if classes else (), rng)
    return Evaluation(**OF_THE_MODEL | figures | changes)


@pytest.mark.parametrize("classes", [False, True])
def test_attributes_have_the_types_that_are_promised(classes: bool) -> None:
    result, hints = made(classes=classes), get_type_hints(Evaluation)
    for field in fields(Evaluation):
        adapter: TypeAdapter[Any] = TypeAdapter(hints[field.name])
        adapter.validate_python(getattr(result, field.name), strict=True)


@pytest.mark.parametrize("classes", [False, True])
def test_dict_holds_the_attributes_as_plain_data(classes: bool) -> None:
    result = made(classes=classes)
    assert json.loads(json.dumps(result)) == json.loads(json.dumps(dict(result)))
    for name, value in result.items():
        assert TypeAdapter(Any).dump_python(getattr(result, name)) == value, name
    assert result.by_defect["scratch"].n == result["by_defect"]["scratch"]["n"] == 4
    assert result.by_size[0].percent == result["by_size"][0]["percent"]
    assert result.localisation is not None
    assert result.localisation.by_defect["scratch"].n == result["localisation"]["n"] == 4
    assert result.localisation.peak_inside == result["localisation"]["peak_inside"] == 1.0
    assert result.unreadable[0].error == result["unreadable"][0]["error"] == "void.png is empty"


def test_dict_has_only_what_the_model_has() -> None:
    plain, of_classes = made(), made(classes=True)
    assert set(of_classes) - set(plain) == set(OF_CLASSES)
    assert plain.macro_f1 is plain.classes is None
    assert plain.get("macro_f1") is None and "macro_f1" not in plain
    assert "recordings" not in plain
    assert made(recordings={})["recordings"] == {}
    # A figure that these parts do not define is there, and null.
    undefined = made(classes=True, precision=None)
    assert undefined["precision"] is None


def test_dict_keeps_the_order_of_the_attributes() -> None:
    result = made(classes=True, recordings={"a.npz": {"verdict": "ok"}})
    assert list(result) == [field.name for field in fields(Evaluation)]


def test_result_is_frozen_and_can_be_copied() -> None:
    result = made()
    with pytest.raises(FrozenInstanceError):
        result.image_auroc = 1.0  # type: ignore[misc]
    for copied in (copy.copy(result), copy.deepcopy(result)):
        assert copied == result and copied.by_defect == result.by_defect


def test_unknown_and_missing_figures_are_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'image_auc'"):
        made(image_auc=1.0)
    with pytest.raises(TypeError, match="missing"):
        Evaluation(**OF_THE_MODEL)  # type: ignore[call-arg]


def test_figures_of_outcomes() -> None:
    result = made(classes=True)
    assert (result.n_good, result.n_defective) == (4, 4)
    assert result.image_auroc == result.pixel_auroc == result.seg_f1 == 1.0
    assert (result.false_alarm_rate, result.miss_rate, result.accuracy) == (0.0, 0.0, 1.0)
    assert [(size.name, size.n, size.n_missed) for size in result.by_size] == [("small", 4, 0)]
    assert result.confusion_matrix == [[4, 0], [0, 4]]
    assert result.intervals["optimistic_accuracy"] is None
    low, high = result.intervals["macro_f1"] or (2.0, 2.0)
    assert low <= (result.macro_f1 or 0.0) <= high
