"""The inspector: one inspection per part, whatever happens to the others."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper
from PIL import Image
from small_models import (
    CELL,
    HEIGHT,
    MAP_SHAPE,
    SHAPE,
    USUAL,
    WIDTH,
    cell_nodes,
    gray_picture,
    manifest,
    onnx_graph,
    score_graph,
    spotted_picture,
    write_small_model,
)

from makellos.data.parts import Part, Values
from makellos.drawing.overlays import write_picture
from makellos.errors import ConfigurationError, MissingRuntimeError, ModelFileError
from makellos.inspection import Inspection, Inspector, available_engines
from makellos.inspection.engines import Engine, EngineChoice
from makellos.inspection.inspector import choose_engine

LEVELS = [0.5, 0.55, 0.6, 0.597, 0.7, 0.3, 0.5, 0.0, 1.0]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a valid small model file; tests that change it make a copy."""
    return write_small_model(tmp_path_factory.mktemp("model") / "cells.makellos")


@pytest.fixture(scope="module")
def inspector(model_path: Path) -> Inspector:
    return Inspector(model_path)


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Return picture files of known gray levels; two of them cannot be read."""
    paths = []
    for i, level in enumerate(LEVELS):
        paths.append(tmp_path / f"part {i}.png")
        write_picture(paths[-1], gray_picture(level))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    paths.insert(2, tmp_path / "broken.png")
    paths.insert(5, tmp_path / "missing.png")
    return paths


def plain(inspection: Inspection) -> dict[str, object]:
    """Return the row without its time, for comparison."""
    return {**inspection.row(), "milliseconds": None}


# One part


@pytest.mark.parametrize("level", [0.0, 0.35, 0.5, 0.55, 1.0])
def test_score_p_value_and_verdict_are_those_of_the_calibration(
    inspector: Inspector, level: float
) -> None:
    inspection = inspector.inspect(gray_picture(level))
    score = abs(round(255 * level) / 255 - 0.5)
    above = sum((i + 1) / 1000 >= score for i in range(100))
    assert inspection.score == pytest.approx(score, abs=1e-6)
    assert inspection.p_value == pytest.approx((1 + above) / 101, abs=1e-9)
    assert inspection.threshold == inspector.threshold == pytest.approx(0.1)
    assert inspection.verdict == ("reject" if score > 0.1 else "ok")
    assert inspection.error is None


def test_score_between_the_thresholds_is_looked_at_again(inspector: Inspector) -> None:
    low, high = inspector.calibration.look_again_threshold, inspector.threshold
    assert low == pytest.approx(0.098)
    picture = np.full((HEIGHT, WIDTH, 3), round((0.5 + (low + high) / 2) * 65535), np.uint16)
    assert inspector.inspect(picture).verdict == "look_again"


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH, 3), (HEIGHT * 3, WIDTH * 2), (300, 100, 3)])
def test_regions_are_in_pixels_of_the_picture(inspector: Inspector, shape: tuple[int, ...]) -> None:
    inspection = inspector.inspect(spotted_picture(3, 17, shape))
    assert inspection.verdict == "reject"
    assert inspection.size == shape[:2]
    height, width = shape[0] / MAP_SHAPE[0], shape[1] / MAP_SHAPE[1]
    region = inspection.regions[0]
    assert region.x + region.width / 2 == pytest.approx(17.5 * width, abs=width)
    assert region.y + region.height / 2 == pytest.approx(3.5 * height, abs=height)
    assert region.peak == inspection.score
    assert inspection.anomaly_map is not None
    assert inspection.anomaly_map.shape == MAP_SHAPE
    assert inspection.anomaly_map.dtype == np.float32


def test_a_good_part_has_no_regions(inspector: Inspector) -> None:
    assert inspector.inspect(gray_picture(0.52)).regions == ()


@pytest.mark.parametrize("tolerance", [0.0, 1e-12, 1e-7, 0.01])
def test_every_rejected_part_has_a_region_and_no_other_has(
    tmp_path: Path, tolerance: float
) -> None:
    # The score is the maximum of the map, so both thresholds are one: neither may be rounded.
    levels = np.linspace(0.59, 0.62, 120)
    pictures = [np.full((16, 16), round(level * 65535), np.uint16) for level in levels]
    scores = sorted({plain_score(picture) for picture in pictures})
    calibration = {
        "scores": scores[:60],
        "map_maxima": scores[:60],
        "asked": 0.05,
        "tolerance": tolerance,
        "method": "held out",
    }
    path = write_small_model(tmp_path / "fine.makellos", calibration=calibration)
    verdicts = []
    for inspection in map(Inspector(path).inspect, pictures):
        assert (inspection.verdict == "reject") == bool(inspection.regions)
        verdicts.append(inspection.verdict)
    assert {"ok", "look_again", "reject"} == set(verdicts)


def plain_score(picture: NDArray[np.uint16]) -> float:
    level = np.float32(picture[0, 0]) * np.float32(1 / 65535)
    return float(np.abs(level - np.float32(0.5)))


def test_arrays_and_files_give_the_same(inspector: Inspector, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (200, 250, 3), dtype=np.uint8)
    write_picture(tmp_path / "part.png", picture)
    from_file = inspector.inspect(tmp_path / "part.png")
    from_text = inspector.inspect(str(tmp_path / "part.png"))
    from_array = inspector.inspect(picture, name=str(tmp_path / "part.png"))
    turned = inspector.inspect(np.asfortranarray(picture), name=str(tmp_path / "part.png"))
    assert plain(from_file) == plain(from_text) == plain(from_array) == plain(turned)
    assert from_file.input == str(tmp_path / "part.png")
    assert inspector.inspect(picture).input == "array"


def test_white_level_of_the_model_is_applied(tmp_path: Path) -> None:
    preprocessing = {"height": HEIGHT, "width": WIDTH, "white_level": 4095}
    path = write_small_model(tmp_path / "a.makellos", preprocessing=preprocessing)
    picture = np.full((50, 50), 2048, np.uint16)
    score = Inspector(path).inspect(picture).score
    assert score == pytest.approx(abs(2048 / 4095 - 0.5), abs=1e-6)


@pytest.mark.parametrize(
    "picture", [np.zeros((8, 8, 2), np.uint8), np.zeros((8, 8), np.int16), [[1, 2], [3]], None, b""]
)
def test_what_is_no_picture_is_unreadable(inspector: Inspector, picture: Any) -> None:
    inspection = inspector.inspect(picture)
    assert (inspection.input, inspection.verdict) == ("array", "unreadable")
    assert inspection.error is not None


def test_pictures_in_memory_of_all_kinds_give_the_same(inspector: Inspector) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (200, 250, 3), dtype=np.uint8)
    encoded = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    alpha = np.dstack([picture, picture[..., 0]])
    given = [picture, encoded, alpha, picture / 255, Image.fromarray(picture)]
    first, *others = [plain(each) for each in inspector.inspect_many(given)]
    assert [each.pop("input") for each in (first, *others)] == [f"array {i}" for i in range(5)]
    assert others == [first] * 4
    assert {**plain(inspector.inspect(alpha)), "input": 0} == {"input": 0, **first}


def test_one_of_many_is_one(inspector: Inspector, tmp_path: Path) -> None:
    for one in ("folder", tmp_path / "a.png", gray_picture(0.5)):
        (found,) = inspector.inspect_many(one)
        assert found.input == ("array 0" if isinstance(one, np.ndarray) else str(one))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(b"", "empty"), (b"text", "not a picture"), (b"\x89PNG\r\n\x1a\n", "damaged")],
)
def test_a_file_that_cannot_be_read_is_a_row(
    inspector: Inspector, tmp_path: Path, raw: bytes, reason: str
) -> None:
    path = tmp_path / "part.png"
    path.write_bytes(raw)
    inspection = inspector.inspect(path)
    row = inspection.row()
    assert reason in str(row.pop("error"))
    assert isinstance(row.pop("milliseconds"), float)
    assert row == {
        "input": str(path),
        "verdict": "unreadable",
        "score": None,
        "p_value": None,
        "notes": [],
        "threshold": None,
        "regions": [],
    }


def test_folders_and_missing_files_are_rows(inspector: Inspector, tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "folder"), (tmp_path / "none.png", "does not exist")):
        inspection = inspector.inspect(path)
        assert inspection.verdict == "unreadable"
        assert reason in str(inspection.error)


def test_a_row_is_plain_data(inspector: Inspector) -> None:
    row = inspector.inspect(spotted_picture(0, 0), name="teil ä.png").row()
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert list(row) == [
        *("input", "verdict", "score", "p_value"),
        *("threshold", "regions", "milliseconds", "error", "notes"),
    ]
    assert set(row["regions"][0]) == {"x", "y", "width", "height", "area", "peak"}


def test_milliseconds_are_those_of_the_part(inspector: Inspector, tmp_path: Path) -> None:
    started = time.perf_counter()
    inspections = [inspector.inspect(gray_picture(0.5)), inspector.inspect(tmp_path / "none.png")]
    spent = (time.perf_counter() - started) * 1e3
    assert all(inspection.milliseconds > 0 for inspection in inspections)
    assert sum(inspection.milliseconds for inspection in inspections) <= spent


# Many parts


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_rows_come_in_the_order_of_the_parts(
    model_path: Path, parts: list[Path], workers: int
) -> None:
    inspector = Inspector(model_path, workers=workers)
    many = parts * 3
    inspections = list(inspector.inspect_many(many))
    assert [inspection.input for inspection in inspections] == [str(path) for path in many]
    verdicts = [inspection.verdict for inspection in inspections[: len(parts)]]
    unreadable = [i for i, verdict in enumerate(verdicts) if verdict == "unreadable"]
    assert unreadable == [2, 5]
    assert verdicts[-1] == "reject"
    assert inspector.concurrency == (1 if workers == 1 else workers + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "onnxruntime"}, r"The engine is 'onnxruntime'; expected None, .*EngineChoice"),
        ({"workers": "2"}, "The number of workers is '2'; expected a whole number, at least 1"),
        ({"workers": 0}, "The number of workers is 0; expected a whole number"),
        ({"workers": True}, "The number of workers is True; expected a whole number"),
    ],
)
def test_options_of_a_wrong_kind_are_named(
    model_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Inspector(model_path, **options)


@pytest.mark.parametrize("choice", available_engines(), ids=str)
def test_scores_do_not_depend_on_the_number_of_workers(
    model_path: Path, choice: EngineChoice, tmp_path: Path
) -> None:
    rng = np.random.default_rng(4)
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path in paths:
        write_picture(path, rng.integers(0, 255, (90, 140, 3), dtype=np.uint8))
    runs = []
    for workers in (1, 2, 4):
        inspector = Inspector(model_path, workers=workers, engine=choice)
        runs.append([plain(inspection) for inspection in inspector.inspect_many(paths)])
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("workers", [1, 3])
def test_parts_are_drawn_as_they_are_needed(
    model_path: Path, parts: list[Path], workers: int
) -> None:
    drawn = 0

    def many() -> Iterator[Path]:
        nonlocal drawn
        while drawn < 1000:
            drawn += 1
            yield parts[0]

    inspections = Inspector(model_path, workers=workers).inspect_many(many())
    for _ in range(5):
        assert next(inspections).verdict == "ok"
    inspections.close()  # type: ignore[attr-defined]
    assert drawn <= 5 + 2 * workers + 3


def test_no_parts_give_no_rows(inspector: Inspector, model_path: Path) -> None:
    assert list(inspector.inspect_many([])) == []
    assert list(Inspector(model_path, workers=2).inspect_many([])) == []


class Falling:
    """An engine that fails on dark pictures, as a runtime or a codec might."""

    batch_size = 1

    def __init__(self, engine: Engine, error: Exception) -> None:
        self.engine, self.error, self.choice = engine, error, engine.choice

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        if batch.mean() < 10 / 255:
            raise self.error
        return self.engine.run(batch)


class OddError(Exception):
    """Stand for the errors of ONNX Runtime, which share no base below Exception."""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "error",
    [
        *(RuntimeError("no"), MemoryError("no"), OddError("no"), cv2.error("no")),
        *(ValueError("no"), OSError("no"), ModelFileError("no")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_one_bad_part_costs_only_itself(
    model_path: Path, parts: list[Path], workers: int, error: Exception
) -> None:
    inspector = Inspector(model_path, workers=workers)
    expected = [plain(inspection) for inspection in inspector.inspect_many(parts)]
    inspector.scorer.engine = Falling(inspector.scorer.engine, error)
    inspections = list(inspector.inspect_many(parts))
    dark = LEVELS.index(0.0) + 2
    bad = inspections[dark]
    assert (bad.input, bad.verdict) == (str(parts[dark]), "unreadable")
    assert bad.error == f"{type(error).__name__}: no"
    for i, inspection in enumerate(inspections):
        assert i == dark or plain(inspection) == expected[i]


class Odd:
    """Stand for what is no array, and says so in a way of its own."""

    def __array__(self, *_: object, **__: object) -> None:
        raise OddError("no")


@pytest.mark.parametrize(
    "part",
    [
        *(
            None,
            7,
            object(),
            Odd(),
            {},
            [[1, "a"]],
            "\0",
            "a\0.png",
            "x" * 300,
            "x/" * 3000,
            "\ud800",
        ),
        *("", ".", "/dev/null/a.png"),
    ],
    ids=lambda part: repr(part)[:20],
)
def test_nothing_is_raised_for_a_part(inspector: Inspector, part: Any) -> None:
    found = inspector.inspect(part)
    assert (found.verdict, found.score) == ("unreadable", None)
    assert found.error


def test_an_error_of_a_runtime_is_no_error_of_inspect(model_path: Path) -> None:
    inspector = Inspector(model_path)
    inspector.scorer.engine = Falling(inspector.scorer.engine, OddError("no"))
    for part in (gray_picture(0.0), Part(source=Values(gray_picture(0.0)), name="array")):
        inspect = inspector.inspect_part if isinstance(part, Part) else inspector.inspect
        found = inspect(part)  # type: ignore[operator]
        assert (found.verdict, found.error) == ("unreadable", "OddError: no")


def test_one_inspector_serves_several_threads(inspector: Inspector) -> None:
    rng = np.random.default_rng(5)
    pictures = [rng.integers(0, 255, (60, 80, 3), dtype=np.uint8) for _ in range(40)]
    one_by_one = [plain(inspector.inspect(picture)) for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = [plain(inspection) for inspection in pool.map(inspector.inspect, pictures)]
    assert together == one_by_one


# Graphs without a map, without numbers, without sense


def test_a_graph_without_a_map_gives_a_score_and_no_regions(tmp_path: Path) -> None:
    path = write_small_model(tmp_path / "a.makellos", score_graph())
    inspection = Inspector(path).inspect(spotted_picture(2, 2))
    assert inspection.score == pytest.approx(0.5, abs=0.01)
    assert inspection.verdict == "reject"
    assert inspection.anomaly_map is None
    assert inspection.regions == ()


def test_a_score_may_have_no_axis(tmp_path: Path) -> None:
    # Exporters drop the axis of the batch at times.
    nodes = [*cell_nodes(), helper.make_node("ReduceMax", ["distance"], ["score"], keepdims=0)]
    graph = onnx_graph(nodes, {"score": []}, {"usual": USUAL})
    path = write_small_model(tmp_path / "a.makellos", graph)
    for choice in available_engines():
        inspection = Inspector(path, engine=choice).inspect(spotted_picture(2, 2))
        assert inspection.score == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", ["top_k_mean", "quantile"])
def test_aggregation_of_the_manifest_is_applied(tmp_path: Path, name: str) -> None:
    aggregation = {"name": name, "parameter": 0.5}
    path = write_small_model(tmp_path / "a.makellos", aggregation=aggregation)
    picture = gray_picture(0.5)
    picture[: HEIGHT // 4] = 255
    score = Inspector(path).inspect(picture).score
    # A quarter of the cells is white: half of the largest half, and less than the median.
    expected = 0.25 if name == "top_k_mean" else 0.5 / 255
    assert score == pytest.approx(expected, abs=2e-3)


def test_regions_have_their_own_threshold(tmp_path: Path) -> None:
    calibration = {
        "scores": [(i + 1) / 1000 for i in range(100)],
        "map_maxima": [(i + 1) / 250 for i in range(100)],
        "asked": 0.01,
        "method": "held out",
    }
    inspector = Inspector(write_small_model(tmp_path / "a.makellos", calibration=calibration))
    assert inspector.map_threshold == pytest.approx(0.4)
    inspection = inspector.inspect(gray_picture(0.7))
    assert inspection.verdict == "reject"
    assert inspection.regions == ()


def graph_of(*nodes: object) -> bytes:
    tail = [node for node in nodes if node is not None]
    return onnx_graph([*cell_nodes(), *tail], ["anomaly_map"], {"usual": USUAL})  # type: ignore[list-item]


def root_graph() -> bytes:
    """Return a graph that has no number where a cell is darker than mid gray."""
    return graph_of(helper.make_node("Sqrt", ["difference"], ["anomaly_map"]))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_score_that_is_no_number_is_unreadable(
    tmp_path: Path, parts: list[Path], workers: int
) -> None:
    inspector = Inspector(write_small_model(tmp_path / "a.makellos", root_graph()), workers=workers)
    inspections = list(inspector.inspect_many([parts[0], parts[-1], parts[-2]]))
    assert [inspection.verdict for inspection in inspections] == ["ok", "reject", "unreadable"]
    dark = inspections[-1]
    assert "score nan" in str(dark.error)
    assert json.dumps(dark.row(), allow_nan=False)


@pytest.mark.parametrize(
    "tail",
    [
        helper.make_node("Identity", ["distance"], ["heat"]),
        helper.make_node("Identity", ["cells"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["distance"], ["anomaly_map"], keepdims=0),
    ],
)
def test_a_graph_with_other_outputs_is_a_model_file_error(tmp_path: Path, tail: object) -> None:
    graph = onnx_graph([*cell_nodes(), tail], list(tail.output), {"usual": USUAL})  # type: ignore[attr-defined, list-item]
    inspector = Inspector(write_small_model(tmp_path / "a.makellos", graph))
    with pytest.raises(ModelFileError, match=r"expected anomaly_map \(1, h, w\)"):
        inspector.inspect(gray_picture(0.5))


def test_a_graph_of_another_size_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    preprocessing = {"height": HEIGHT, "width": WIDTH // 2}
    path = write_small_model(tmp_path / "a.makellos", preprocessing=preprocessing)
    for choice in available_engines():
        with pytest.raises(ModelFileError, match="its input is"):
            Inspector(path, engine=choice)


# Engines and runtimes


@pytest.mark.parametrize("choice", available_engines(), ids=str)
def test_engine_can_be_chosen(model_path: Path, choice: EngineChoice) -> None:
    inspector = Inspector(model_path, engine=choice)
    assert inspector.engine == choice
    assert inspector.inspect(spotted_picture(1, 1)).verdict == "reject"
    assert inspector.inspect(gray_picture(0.5)).verdict == "ok"


def test_engine_of_the_release_is_taken(model_path: Path) -> None:
    assert Inspector(model_path).engine == EngineChoice("onnxruntime", "f32")


@pytest.mark.parametrize(
    "released", [EngineChoice("openvino", "int8"), EngineChoice("tensorrt", "f32")]
)
def test_an_engine_that_is_not_here_is_replaced_by_an_exact_one(released: EngineChoice) -> None:
    assert choose_engine(released).precision == "f32"


def test_every_engine_of_this_machine_is_kept() -> None:
    for choice in available_engines():
        assert choose_engine(choice) == choice


def test_wrong_choices_are_configuration_errors(model_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no engine openvino f64"):
        Inspector(model_path, engine=EngineChoice("openvino", "f64"))
    with pytest.raises(ConfigurationError, match="workers is 0"):
        Inspector(model_path, workers=0)


def test_a_model_of_another_runtime_says_what_to_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    detector = {"name": "anogan", "parameters": {}, "runtime": "torch"}
    path = write_small_model(tmp_path / "a.makellos", detector=detector)
    with pytest.raises(MissingRuntimeError, match=r"\.\[train\]"):
        Inspector(path)


def test_a_model_may_be_named_by_text_and_is_not_needed_afterwards(tmp_path: Path) -> None:
    path = write_small_model(tmp_path / "a.makellos")
    inspector = Inspector(str(path))
    path.unlink()
    assert inspector.inspect(gray_picture(0.5)).verdict == "ok"
    assert inspector.manifest.detector == manifest().detector


LIGHT = """
import sys
from makellos.inspection import Inspector
inspection = Inspector(sys.argv[1]).inspect(sys.argv[2])
heavy = {"torch", "torchvision", "timm", "onnxscript", "sklearn", "matplotlib", "pandas"}
print(inspection.verdict, sorted(heavy & set(sys.modules)))
"""


def test_inspecting_loads_no_training_framework(model_path: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "part.png", spotted_picture(4, 4))
    command = [sys.executable, "-c", LIGHT, str(model_path), str(tmp_path / "part.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "reject []\n", done.stderr


def test_small_models_are_as_they_say() -> None:
    # What the tests above rest on: the shape of the map, and a spot in one cell.
    assert SHAPE == (3, HEIGHT, WIDTH)
    assert (spotted_picture(1, 2) == 255).all(axis=2).sum() == CELL * CELL
