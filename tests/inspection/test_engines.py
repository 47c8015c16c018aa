"""Engines: the same figures from all of them, and graphs that none may run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper
from small_models import CELL, HEIGHT, MAP_SHAPE, SHAPE, WIDTH, cell_graph, onnx_graph, score_graph

from makellos.errors import ConfigurationError, ModelFileError
from makellos.inspection.engines import (
    EngineChoice,
    available_engines,
    default_workers,
    open_engine,
)

ENGINES = available_engines()
every_engine = pytest.mark.parametrize("choice", ENGINES, ids=str)
# bf16 has 8 bits of mantissa.
TOLERANCE = {"f32": 1e-6, "bf16": 4e-3}


@pytest.fixture(scope="module")
def batch() -> NDArray[np.float32]:
    """Return pictures N×C×H×W."""
    return np.random.default_rng(0).random((3, *SHAPE), np.float32)


def expected_map(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    cells = batch.reshape(len(batch), 3, HEIGHT // CELL, CELL, WIDTH // CELL, CELL)
    means: NDArray[np.float32] = np.abs(cells.mean((1, 3, 5)) - 0.5)
    return means


def test_an_engine_in_full_precision_is_there_and_the_order_is_fixed() -> None:
    assert any(choice.precision == "f32" for choice in ENGINES)
    assert len(set(ENGINES)) == len(ENGINES)
    assert available_engines() == ENGINES
    assert 1 <= default_workers() <= 4


@every_engine
@pytest.mark.parametrize("workers", [1, 3])
def test_every_engine_computes_the_graph(
    choice: EngineChoice, workers: int, batch: NDArray[np.float32]
) -> None:
    engine = open_engine(cell_graph(), choice, shape=SHAPE, workers=workers)
    assert engine.choice == choice
    outputs = engine.run(batch)
    assert set(outputs) == {"anomaly_map"}
    assert outputs["anomaly_map"].dtype == np.float32
    assert outputs["anomaly_map"].shape == (3, *MAP_SHAPE)
    tolerance = TOLERANCE[choice.precision]
    assert np.allclose(outputs["anomaly_map"], expected_map(batch), rtol=0, atol=tolerance)


@every_engine
def test_precision_is_the_one_that_was_asked_for(choice: EngineChoice) -> None:
    # Left alone OpenVINO multiplies in bf16 on processors that can.
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(WIDTH, 64)).astype(np.float32)
    graph = onnx_graph(
        [helper.make_node("MatMul", ["picture", "weights"], ["score"])],
        ["score"],
        {"weights": weights},
    )
    picture = rng.random((1, *SHAPE), np.float32)
    exact = picture.astype(np.float64) @ weights
    found = open_engine(graph, choice, shape=SHAPE).run(picture)["score"]
    error = np.abs(found - exact).max() / np.abs(exact).max()
    assert error < 1e-5 if choice.precision == "f32" else 1e-4 < error < 2e-2


@every_engine
def test_pictures_of_a_batch_do_not_touch_each_other(
    choice: EngineChoice, batch: NDArray[np.float32]
) -> None:
    engine = open_engine(score_graph(), choice, shape=SHAPE)
    together = engine.run(batch)["score"]
    alone = [engine.run(batch[i : i + 1])["score"] for i in (2, 0, 1)]
    assert np.array_equal(together[[2, 0, 1]], np.concatenate(alone))
    assert np.array_equal(engine.run(batch[::-1])["score"], together[::-1])


@every_engine
def test_outputs_are_not_overwritten_by_the_next_run(
    choice: EngineChoice, batch: NDArray[np.float32]
) -> None:
    engine = open_engine(cell_graph(), choice, shape=SHAPE)
    first = engine.run(batch[:1])["anomaly_map"]
    kept = first.copy()
    engine.run(batch[1:2])
    assert np.array_equal(first, kept)


@every_engine
def test_one_engine_serves_several_threads(
    choice: EngineChoice, batch: NDArray[np.float32]
) -> None:
    engine = open_engine(cell_graph(), choice, shape=SHAPE, workers=2)
    one_by_one = [engine.run(batch[i : i + 1])["anomaly_map"] for i in range(3)]
    with ThreadPoolExecutor(4) as pool:
        order = [i % 3 for i in range(60)]
        results = list(pool.map(lambda i: engine.run(batch[i : i + 1])["anomaly_map"], order))
    for i, result in zip(order, results, strict=True):
        assert np.array_equal(result, one_by_one[i])


@every_engine
def test_a_graph_may_be_a_file(
    choice: EngineChoice, batch: NDArray[np.float32], tmp_path: Path
) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(cell_graph())
    from_file = open_engine(path, choice, shape=SHAPE).run(batch)["anomaly_map"]
    from_bytes = open_engine(cell_graph(), choice, shape=SHAPE).run(batch)["anomaly_map"]
    assert np.array_equal(from_file, from_bytes)


@every_engine
def test_outputs_have_the_names_of_the_graph(choice: EngineChoice) -> None:
    # Runtimes know an output by inner names too, which may come first in the alphabet.
    mean = {"axes": [1], "keepdims": 0}
    graph = onnx_graph(
        [
            helper.make_node("ReduceMean", ["picture"], ["a"], **mean),
            helper.make_node("Identity", ["a"], ["anomaly_map"]),
            helper.make_node("ReduceMax", ["a"], ["b"], axes=[1, 2], keepdims=0),
            helper.make_node("Identity", ["b"], ["score"]),
        ],
        ["anomaly_map", "score"],
    )
    picture = np.full((1, *SHAPE), 0.25, np.float32)
    picture[0, :, 3, 4] = 0.75
    outputs = open_engine(graph, choice, shape=SHAPE).run(picture)
    assert set(outputs) == {"anomaly_map", "score"}
    assert outputs["anomaly_map"].shape == (1, HEIGHT, WIDTH)
    assert outputs["score"].tolist() == [0.75]


@pytest.mark.parametrize(
    "choice",
    [
        EngineChoice("openvino", "f16"),
        EngineChoice("onnxruntime", "bf16"),
        EngineChoice("tensorrt", "f32"),
        EngineChoice("", ""),
    ],
    ids=str,
)
def test_an_engine_that_is_not_there(choice: EngineChoice) -> None:
    with pytest.raises(ConfigurationError, match=f"no engine {choice}") as caught:
        open_engine(cell_graph(), choice, shape=SHAPE)
    assert all(str(engine) in str(caught.value) for engine in ENGINES)


def test_a_misspelt_engine_gets_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match="Did you mean 'onnxruntime f32'"):
        open_engine(cell_graph(), EngineChoice("onnxruntim", "f32"), shape=SHAPE)


@pytest.mark.parametrize("workers", [0, -1])
def test_there_is_no_engine_without_workers(workers: int) -> None:
    with pytest.raises(ConfigurationError, match=f"workers is {workers}"):
        open_engine(cell_graph(), ENGINES[0], shape=SHAPE, workers=workers)


def broken_graphs() -> dict[str, bytes]:
    unknown = onnx_graph([helper.make_node("Bogus", ["picture"], ["score"])], ["score"])
    foreign = onnx_graph(
        [helper.make_node("Run", ["picture"], ["score"], domain="evil.example")], ["score"]
    )
    two = onnx_graph(
        [helper.make_node("Add", ["picture", "other"], ["score"])],
        ["score"],
        inputs={"picture": ["n", *SHAPE], "other": ["n", *SHAPE]},
    )
    bytes_in = onnx_graph(
        [helper.make_node("Identity", ["picture"], ["score"])],
        ["score"],
        kind=onnx.TensorProto.UINT8,
    )
    smaller = onnx_graph(
        [helper.make_node("Identity", ["picture"], ["score"])],
        ["score"],
        inputs={"picture": ["n", 3, HEIGHT // 2, WIDTH]},
    )
    flat = onnx_graph(
        [helper.make_node("Identity", ["picture"], ["score"])],
        ["score"],
        inputs={"picture": ["n", 100]},
    )
    whole = cell_graph()
    return {
        "cut off": whole[: len(whole) // 2],
        "not a graph": b"this is no graph",
        "unknown operation": unknown,
        "foreign operation": foreign,
        "two inputs": two,
        "input of bytes": bytes_in,
        "another size": smaller,
        "another rank": flat,
    }


@every_engine
@pytest.mark.parametrize("name", broken_graphs())
def test_a_graph_that_cannot_be_run_is_a_model_file_error(
    choice: EngineChoice, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelFileError, match=r"cannot be run: |cannot run the graph: ") as caught:
        open_engine(broken_graphs()[name], choice, shape=SHAPE)
    message = str(caught.value)
    assert message.endswith("fit the model again.")
    assert "\n" not in message
    capfd.readouterr()  # runtimes speak to stderr of what they could not read


@every_engine
def test_a_missing_graph_is_a_model_file_error(choice: EngineChoice, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError):
        open_engine(tmp_path / "graph.onnx", choice, shape=SHAPE)


@every_engine
@pytest.mark.parametrize("where", ["../secret.bin", "x/../../secret.bin", "absolute"])
def test_a_graph_reads_no_file_outside_of_its_folder(
    choice: EngineChoice, where: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.zeros(MAP_SHAPE, np.float32).tobytes())
    model = onnx.load_from_string(cell_graph())
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    location = str(secret) if where == "absolute" else where
    for key, value in {"location": location, "offset": "0", "length": "1536"}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "graph.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError):
        open_engine(folder / "graph.onnx", choice, shape=SHAPE)
