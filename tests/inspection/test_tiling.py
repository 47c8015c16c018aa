"""Tiles: their maps become that of the whole picture, whatever its size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from makellos.data.tiles import cut_tile, tile_starts
from makellos.errors import ConfigurationError
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.engines import EngineChoice, open_engine
from makellos.inspection.preprocessing import Preprocessing
from makellos.inspection.scorer import Scored, Scorer
from makellos.inspection.tiling import Mosaic, Tiling

CELL = 4
KERNEL = np.float32([[1, 2, 3], [4, 5, 6], [7, 8, 9]])


def shifting_graph(height: int, width: int, *, scores: bool = False) -> bytes:
    """Return a graph that commutes with shifts by cells: whole numbers, so that sums are exact.

    Every cell's sum of gray levels, then a sum over its 3×3 cells in which each place weighs
    differently; past the border are zeros, as in a network.
    """
    pool = {"kernel_shape": [CELL, CELL], "strides": [CELL, CELL]}
    nodes = [
        helper.make_node("Mul", ["picture", "white"], ["levels"]),
        helper.make_node("Round", ["levels"], ["whole"]),
        helper.make_node("ReduceSum", ["whole", "channels"], ["gray"], keepdims=1),
        helper.make_node("AveragePool", ["gray"], ["means"], **pool),
        helper.make_node("Mul", ["means", "area"], ["sums"]),
        helper.make_node("Conv", ["sums", "kernel"], ["near"], pads=[1, 1, 1, 1]),
        helper.make_node("Squeeze", ["near", "channels"], ["anomaly_map"]),
    ]
    kind, size = onnx.TensorProto.FLOAT, [height // CELL, width // CELL]
    outputs = [helper.make_tensor_value_info("anomaly_map", kind, ["n", *size])]
    if scores:
        nodes.append(
            helper.make_node("ReduceMin", ["anomaly_map"], ["score"], axes=[1, 2], keepdims=0)
        )
        outputs.append(helper.make_tensor_value_info("score", kind, ["n"]))
    graph = helper.make_graph(
        nodes,
        "shifting",
        [helper.make_tensor_value_info("picture", kind, ["n", 3, height, width])],
        outputs,
        [
            numpy_helper.from_array(np.float32(255), "white"),
            numpy_helper.from_array(np.float32(CELL * CELL), "area"),
            numpy_helper.from_array(np.int64([1]), "channels"),
            numpy_helper.from_array(KERNEL[np.newaxis, np.newaxis], "kernel"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def scorer(
    height: int, width: int, tiling: Tiling | None = None, *, workers: int = 1, scores: bool = False
) -> Scorer:
    preprocessing = Preprocessing(height=height, width=width)
    choice = EngineChoice("onnxruntime", "f32")
    graph = shifting_graph(height, width, scores=scores)
    engine = open_engine(graph, choice, shape=preprocessing.shape, workers=workers)
    return Scorer(engine, preprocessing, Aggregation(), tiling=tiling, workers=workers)


def map_of(scored: Scored) -> NDArray[np.float32]:
    assert scored.anomaly_map is not None
    return scored.anomaly_map


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=25)
@given(
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    size=st.sampled_from([64, 96, 128]),
    overlap=st.integers(16, 32),
    seed=st.integers(0, 9),
)
def test_merged_map_is_that_of_the_whole_picture(
    height: int, width: int, size: int, overlap: int, seed: int
) -> None:
    picture = noise(height * CELL, width * CELL, seed)
    whole = map_of(scorer(height * CELL, width * CELL)(picture))
    merged = map_of(scorer(size, size, Tiling(size=size, overlap=overlap))(picture))
    assert merged.shape == whole.shape
    assert np.array_equal(merged[1:-1, 1:-1], whole[1:-1, 1:-1])


def test_without_overlap_seams_show() -> None:
    """The border of a tile lacks what lies beyond it, so the test above has something to find."""
    picture = noise(128, 256)
    whole = map_of(scorer(128, 256)(picture))
    merged = map_of(scorer(64, 64, Tiling(size=64, overlap=0))(picture))
    assert not np.array_equal(merged[1:-1, 1:-1], whole[1:-1, 1:-1])


@pytest.mark.parametrize("size", [(64, 64), (63, 200), (130, 129), (17, 500), (301, 40)])
def test_map_covers_pictures_of_any_size(size: tuple[int, int]) -> None:
    merged = map_of(scorer(64, 64, Tiling(size=64, overlap=16))(noise(*size)))
    assert merged.shape == (-(-size[0] // CELL), -(-size[1] // CELL))
    assert (merged > 0).all()  # no cell is left as it was made


def test_workers_make_no_difference() -> None:
    picture, tiling = noise(200, 300), Tiling(size=64, overlap=16)
    alone, together = (scorer(64, 64, tiling, workers=n)(picture) for n in (1, 3))
    assert np.array_equal(map_of(alone), map_of(together))
    assert alone.score == together.score == float(map_of(alone).max())


def test_scores_of_tiles_give_the_highest() -> None:
    picture, tiling = np.zeros((64, 128, 3), np.uint8), Tiling(size=64, overlap=0)
    picture[:, 64:] = 100
    dark, bright = (scorer(64, 64, scores=True)(picture[:, i : i + 64]).score for i in (0, 64))
    found = scorer(64, 64, tiling, scores=True)(picture)
    assert found.score == max(dark, bright) == bright > dark


def test_tiles_that_the_graph_shrinks_meet_on_whole_cells() -> None:
    # 96 cells of a map lie on 1024 pixels: three of them on 32, twelve on the network's stride.
    mosaic = Mosaic(Tiling(size=1024, overlap=256), (3000, 2048), (768, 768), (96, 96))
    assert all(top % 128 == 0 and left % 128 == 0 for top, left in mosaic.corners)
    assert mosaic.map.shape == (-(-3000 * 96 // 1024), 192)


def test_tiles_whose_cells_never_meet_are_refused_with_a_size_that_works() -> None:
    with pytest.raises(ConfigurationError, match="--tile 992"):
        Mosaic(Tiling(size=1024, overlap=256), (3000, 3000), (1024, 1024), (31, 31))


@given(
    side=st.integers(1, 3000),
    size=st.integers(2, 30).map(lambda n: 32 * n),
    share=st.floats(0, 0.5),
    unit=st.sampled_from([4, 8, 32]),
)
def test_tiles_cover_a_side(side: int, size: int, share: float, unit: int) -> None:
    overlap = int(share * size)
    starts = tile_starts(side, size=size, overlap=overlap, unit=unit)
    assert starts[0] == 0
    assert all(start % unit == 0 for start in starts)
    assert side <= starts[-1] + size < side + max(unit, size - side + 1)
    for before, after in pairwise(starts):
        assert before < after <= before + max(unit, size - overlap)


def test_past_its_end_a_picture_is_mirrored() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    tile = cut_tile(picture, 1, 2, 4)
    assert tile.tolist() == [[6, 7, 6, 7], [10, 11, 10, 11], [6, 7, 6, 7], [10, 11, 10, 11]]
    assert (cut_tile(picture[:1, :1], 0, 0, 4) == 0).all()


@pytest.mark.parametrize(
    ("size", "overlap", "message"),
    [
        (500, None, "expected a multiple of 32 from 64 to 8192. Use 512."),
        (32, None, "Use 64."),
        (10_000, None, "Use 8192."),
        (512, 300, "expected 0 to 256"),
        (512, -1, "expected 0 to 256"),
    ],
)
def test_wrong_tilings_are_refused(size: int, overlap: int | None, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Tiling.of(size, overlap)


def test_a_quarter_is_shared_unless_told() -> None:
    assert Tiling.of(512) == Tiling(size=512, overlap=128)
