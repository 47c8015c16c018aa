"""Every building block of graphs against numpy, on every f32 engine."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from known_backbone import known_backbone, known_layers, local_mean, nearest, nearest_of_units
from mean_picture import empty_graph
from numpy.typing import NDArray

from makellos.detectors.graphs import GraphBuilder
from makellos.inspection.engines import EngineChoice, available_engines, open_engine

EXACT = [choice for choice in available_engines() if choice.precision == "f32"]


@pytest.fixture(params=EXACT, ids=str)
def engine(request: pytest.FixtureRequest) -> EngineChoice:
    choice: EngineChoice = request.param
    return choice


def begin(x: NDArray[np.float32]) -> GraphBuilder:
    """Return a builder whose `layer_0` is its input, of the shape of `x` N×C×h×w."""
    return GraphBuilder(empty_graph(*x.shape[1:]))


def computed(
    builder: GraphBuilder, name: str, x: NDArray[np.float32], engine: EngineChoice
) -> NDArray[np.float32]:
    """Return what the tensor `name` is for the input `x`."""
    graph = builder.with_outputs({name: []})
    model = onnx.load_from_string(graph)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    opened = open_engine(model.SerializeToString(), engine, shape=x.shape[1:])  # type: ignore[arg-type]
    return opened.run(x)[name]


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_known_backbone_is_known(engine: EngineChoice) -> None:
    x = np.random.default_rng(0).uniform(0, 1, (2, 3, 64, 96)).astype(np.float32)
    outputs = open_engine(known_backbone(64, 96), engine, shape=(3, 64, 96)).run(x)
    for i in range(2):
        for layer, expected in enumerate(known_layers(x[i : i + 1])):
            np.testing.assert_allclose(outputs[f"layer_{layer}"][i], expected, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 15])
def test_local_mean_counts_what_is_there_at_borders(size: int, engine: EngineChoice) -> None:
    x = numbers(2, 3, 6, 9)
    builder = begin(x)
    found = computed(builder, builder.local_mean("layer_0", size), x, engine)
    for i in range(2):
        np.testing.assert_allclose(found[i], local_mean(x[i].astype(np.float64), size), atol=1e-5)


def test_local_mean_of_one_value_is_that_value(engine: EngineChoice) -> None:
    x = np.full((1, 1, 4, 5), 7, np.float32)
    builder = begin(x)
    found = computed(builder, builder.local_mean("layer_0", 3), x, engine)
    np.testing.assert_allclose(found, x, rtol=1e-6)


def test_standardise_gives_patches_row_by_row(engine: EngineChoice) -> None:
    x = numbers(2, 5, 3, 4)
    mean, scale = numbers(5, seed=1), np.abs(numbers(5, seed=2)) + 0.1
    builder = begin(x)
    found = computed(builder, builder.standardise("layer_0", mean, scale), x, engine)
    expected = ((x - mean[:, None, None]) / scale[:, None, None]).reshape(2, 5, 12)
    np.testing.assert_allclose(found, expected.transpose(0, 2, 1), rtol=1e-4, atol=1e-5)
    assert found.shape == (2, 12, 5)


@pytest.mark.parametrize(("n_bank", "n_channels"), [(1, 3), (200, 1), (300, 17), (50, 320)])
def test_nearest_distance_is_that_of_brute_force(
    n_bank: int, n_channels: int, engine: EngineChoice
) -> None:
    x = numbers(2, n_channels, 4, 5)
    bank = numbers(n_bank, n_channels, seed=1).astype(np.float16)
    builder = begin(x)
    flat = builder.standardise("layer_0", np.zeros(n_channels), np.ones(n_channels))
    found = computed(builder, builder.nearest_distance(flat, bank), x, engine)
    assert found.shape == (2, 20, 1)
    points = x.astype(np.float64).reshape(2, n_channels, 20).transpose(0, 2, 1)
    for i in range(2):
        expected = nearest(points[i], bank.astype(np.float64))
        np.testing.assert_allclose(found[i, :, 0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("n_bank", "n_channels"), [(1, 3), (300, 17)])
def test_distance_counts_in_the_spacing_of_the_bank(
    n_bank: int, n_channels: int, engine: EngineChoice
) -> None:
    x = numbers(2, n_channels, 4, 5)
    bank = numbers(n_bank, n_channels, seed=1).astype(np.float16)
    units = np.random.default_rng(2).uniform(0.2, 3, n_bank).astype(np.float32)
    builder = begin(x)
    flat = builder.standardise("layer_0", np.zeros(n_channels), np.ones(n_channels))
    found = computed(builder, builder.nearest_distance(flat, bank, units), x, engine)
    points = x.astype(np.float64).reshape(2, n_channels, 20).transpose(0, 2, 1)
    for i in range(2):
        expected = nearest_of_units(points[i], bank.astype(np.float64), units)
        # The bank divided by its spacing is kept in half precision.
        np.testing.assert_allclose(found[i, :, 0], expected, rtol=2e-3, atol=2e-3)


def test_a_patch_of_the_bank_is_at_no_distance(engine: EngineChoice) -> None:
    """Squares that cancel must not leave the root of something below zero."""
    bank = (100 * numbers(64, 30)).astype(np.float16)
    x = bank.astype(np.float32).reshape(1, 8, 8, 30).transpose(0, 3, 1, 2)
    x = np.ascontiguousarray(x)
    builder = begin(x)
    flat = builder.standardise("layer_0", np.zeros(30), np.ones(30))
    found = computed(builder, builder.nearest_distance(flat, bank), x, engine)
    assert np.isfinite(found).all()
    # The squares are some 3e5, of which f32 keeps 7 digits.
    assert found.max() < 1.0


def test_squared_length_and_root(engine: EngineChoice) -> None:
    x = numbers(1, 6, 2, 3)
    builder = begin(x)
    flat = builder.standardise("layer_0", np.zeros(6), np.ones(6))
    found = computed(builder, builder.root(builder.squared_length(flat)), x, engine)
    expected = np.linalg.norm(x.reshape(6, 6), axis=0)
    np.testing.assert_allclose(found[0, :, 0], expected, rtol=1e-5)


def test_root_of_what_rounding_took_below_zero_is_zero(engine: EngineChoice) -> None:
    x = np.array([[[[-1e-3, 0.0, 4.0]]]], np.float32)
    builder = begin(x)
    assert computed(builder, builder.root("layer_0"), x, engine).ravel().tolist() == [0, 0, 2]


def test_as_map_puts_patches_back_and_divides(engine: EngineChoice) -> None:
    x = numbers(2, 1, 3, 4)
    builder = begin(x)
    flat = builder.standardise("layer_0", np.zeros(1), np.ones(1))
    found = computed(builder, builder.as_map(flat, 3, 4, 2.0), x, engine)
    np.testing.assert_allclose(found, x / 2, rtol=1e-6)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_repeat_enlarges_every_cell(factor: int, engine: EngineChoice) -> None:
    x = numbers(2, 3, 4, 5)
    builder = begin(x)
    found = computed(builder, builder.repeat("layer_0", (4, 5), factor), x, engine)
    np.testing.assert_array_equal(found, x.repeat(factor, axis=2).repeat(factor, axis=3))


def test_finish_leaves_one_output(engine: EngineChoice) -> None:
    x = numbers(2, 1, 4, 5)
    builder = begin(x)
    graph = builder.finish(builder.repeat("layer_0", (4, 5), 2), 8, 10)
    outputs = open_engine(graph, engine, shape=(1, 4, 5)).run(x)
    assert list(outputs) == ["anomaly_map"]
    expected = x[:, 0].repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(outputs["anomaly_map"], expected)


def test_names_are_never_given_twice() -> None:
    builder = begin(numbers(1, 1, 4, 4))
    names = [builder.constant(np.zeros(1, np.float32)) for _ in range(3)]
    names += [builder.add("Identity", "layer_0") for _ in range(3)]
    assert len(set(names)) == len(names)
