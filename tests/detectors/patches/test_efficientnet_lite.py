"""The packaged backbone: its graph from the description, without PyTorch, and its card."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from makellos.detectors.patches.backbones import BACKBONES, export_backbone
from makellos.detectors.patches.efficientnet_lite import WEIGHTS, build_graph, read_weights
from makellos.errors import ConfigurationError
from makellos.inspection.engines import available_engines, open_engine

EXACT = next(choice for choice in available_engines() if choice.precision == "f32")


def run(graph: bytes, x: np.ndarray) -> list[np.ndarray]:
    found = open_engine(graph, EXACT, shape=x.shape[1:]).run(x)
    return [found[f"layer_{i}"] for i in range(len(found))]


def noise(height: int, width: int, n: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (n, 3, height, width)).astype(np.float32)


def test_first_norm_is_a_convolution_by_hand() -> None:
    """The stem: stride 2, one line of zeros below and to the right of an even picture."""
    height, width, weights = 8, 6, read_weights()
    x = noise(height, width)
    (found,) = run(build_graph(["bn1"], height, width), x)
    padded = np.pad(2 * x[0].astype(np.float64) - 1, ((0, 0), (0, 1), (0, 1)))
    gain = weights["bn1.weight"].astype(np.float64) / weights["bn1.spread"]
    bias = weights["bn1.bias"] - weights["bn1.running_mean"] * gain
    for i in range(height // 2):
        for j in range(width // 2):
            seen = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            expected = np.einsum("ochw,chw->o", weights["conv_stem.weight"], seen) + bias
            np.testing.assert_allclose(found[0, :, i, j], expected.clip(0, 6), atol=1e-4)


@pytest.mark.parametrize(
    ("size", "sides"),
    [((64, 96), [(32, 48), (4, 6), (2, 3)]), ((225, 33), [(113, 17), (15, 3), (8, 2)])],
)
def test_maps_are_halved_upwards(size: tuple[int, int], sides: list[tuple[int, int]]) -> None:
    graph = build_graph(["blocks.0", "blocks.3", "blocks.5"], *size)
    shapes = [values.shape for values in run(graph, noise(*size, n=2))]
    assert shapes == [(2, c, *side) for c, side in zip((16, 80, 192), sides, strict=True)]
    declared = [
        [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in onnx.load_from_string(graph).graph.output
    ]
    assert declared == [["n", *shape[1:]] for shape in shapes]


def test_stages_end_where_the_map_is_halved() -> None:
    x = noise(64, 64)
    by_number = run(build_graph([0, 1, 2, 3, 4], 64, 64), x)
    blocks = ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6"]
    for one, other in zip(by_number, run(build_graph(blocks, 64, 64), x), strict=True):
        np.testing.assert_array_equal(one, other)
    backwards = run(build_graph([-1, -5], 64, 64), x)
    np.testing.assert_array_equal(backwards[0], by_number[4])
    np.testing.assert_array_equal(backwards[1], by_number[0])


def test_stage_is_its_last_block() -> None:
    x = noise(64, 64)
    one, other = run(build_graph(["blocks.2", "blocks.2.1"], 64, 64), x)
    np.testing.assert_array_equal(one, other)


def test_nothing_is_in_the_graph_that_no_layer_needs() -> None:
    def n_products(layer: str) -> int:
        graph = onnx.load_from_string(build_graph([layer], 64, 64)).graph
        assert len(graph.initializer) < 2 * len(graph.node)
        return sum(node.op_type == "Conv" for node in graph.node)

    assert [n_products(layer) for layer in ("bn1", "blocks.0", "blocks.3", "bn2")] == [1, 3, 24, 49]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["blocks.9"], r"has no module 'blocks.9'\. Did you mean 'blocks\."),
        ([3, "blocks.4"], r"has no module 3\. .* alone, or stages by number alone"),
        (["blocks.4", "blocks.4"], r"names a module of efficientnet_lite0 twice"),
        ([1, -4], r"names a stage of efficientnet_lite0 twice"),
        ([5], r"has no stages \(5,\)\. Stages count from 0 to 4"),
        ([-6], r"has no stages \(-6,\)"),
    ],
)
def test_layers_that_are_not_there_are_refused(layers: list[int | str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_graph(layers, 64, 64)


def test_weights_are_small_and_as_their_card_says() -> None:
    raw = WEIGHTS.read_bytes()
    card = json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    assert len(raw) <= 10_000_000
    assert card["sha256"] == hashlib.sha256(raw).hexdigest()
    assert card["licence"] == BACKBONES["efficientnet_lite0"].licence
    assert card["changes"]
    assert all("Copyright" not in holder for holder in card["copyright"])


ALONE = """
import sys
sys.modules.update(dict.fromkeys(["torch", "torchvision", "timm", "onnxscript"]))
from makellos.detectors.patches.backbones import export_backbone
sys.stdout.buffer.write(export_backbone("efficientnet_lite0", height=64, width=64))
"""


def test_graph_needs_no_pytorch_and_is_the_same_in_every_process() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, check=True)
    assert done.stdout == export_backbone("efficientnet_lite0", height=64, width=64)
