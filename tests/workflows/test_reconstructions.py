"""Reconstructions as files: what a detector makes of each part, whole and in tiles, at its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from makellos import Coverage, Inspector, fit
from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import Detector, Graph
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.preprocessing import Preprocessing

SIDE = 64
Cli = Callable[..., Any]


class Halving(Detector):
    """Reconstruct every pixel at half its brightness; the map is how bright each is."""

    name = "halving"
    summary = "half of each part, for tests"
    gives = ("reconstruction",)

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        self.n_ = len(parts)

    def _build_graph(self) -> Graph:
        kind, half = onnx.TensorProto.FLOAT, numpy_helper.from_array(np.float32(0.5), "half")
        graph = helper.make_graph(
            [
                helper.make_node("ReduceMean", ["picture"], ["anomaly_map"], axes=[1], keepdims=0),
                helper.make_node("Mul", ["picture", "half"], ["reconstruction"]),
            ],
            "halving",
            [helper.make_tensor_value_info("picture", kind, ["n", 3, SIDE, SIDE])],
            [
                helper.make_tensor_value_info("anomaly_map", kind, ["n", SIDE, SIDE]),
                helper.make_tensor_value_info("reconstruction", kind, ["n", 3, SIDE, SIDE]),
            ],
            [half],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        size = Preprocessing(height=SIDE, width=SIDE)
        return Graph(model.SerializeToString(), size, Aggregation(), map_name="brightness")


def picture(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Return a part of whatever size, without steps from pixel to pixel."""
    coarse = rng.integers(60, 200, (height // 16, width // 16, 3)).astype(np.uint8)
    smooth: NDArray[np.uint8] = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return smooth


def model_of(folder: Path, height: int, width: int, **options: Any) -> Path:
    """Fit a halving detector on good parts of a size; `new/` holds two further ones."""
    rng = np.random.default_rng(0)
    for where, n in (("good", 12), ("new", 2)):
        (folder / where).mkdir()
        for i in range(n):
            cv2.imwrite(str(folder / where / f"{i}.png"), picture(rng, height, width))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("makellos.workflows.fit.make_detector", lambda *_, **__: Halving())
        fit(folder / "good", folder / "m.makellos", false_alarms=0.2, **options)
    return folder / "m.makellos"


@pytest.mark.parametrize("size", [(64, 64), (96, 160)], ids=str)
def test_reconstructions_have_the_size_of_their_parts(
    tmp_path: Path, cli: Cli, size: tuple[int, int]
) -> None:
    model = model_of(tmp_path, *size)
    told = cli("inspect", model, tmp_path / "new", "-o", tmp_path / "out", "--reconstructions")
    assert told.code == 0
    assert str(tmp_path / "out" / "reconstructions") in told.out
    for i in range(2):
        part = cv2.imread(str(tmp_path / "new" / f"{i}.png")).astype(float)
        name = f"{i}.png.reconstruction.png"
        made = cv2.imread(str(tmp_path / "out" / "reconstructions" / name))
        assert made.shape == part.shape
        assert np.abs(made - part / 2).mean() < 3
    # What was made is no part to inspect.
    again = cli("inspect", model, tmp_path / "out", "--jsonl", "-")
    assert again.code == 2
    assert not (tmp_path / "out" / "overlays").exists()


def test_what_tiles_reconstruct_becomes_one_picture(tmp_path: Path, cli: Cli) -> None:
    model = model_of(tmp_path, 112, 176, coverage=Coverage(tile=64, tile_overlap=16))
    part = tmp_path / "new" / "0.png"
    assert cli("inspect", model, part, "-o", tmp_path / "out", "--reconstructions").code == 0
    made = cv2.imread(str(tmp_path / "out" / "reconstructions" / "0.png.reconstruction.png"))
    before = cv2.imread(str(part)).astype(float)
    assert made.shape == before.shape
    assert np.abs(made - before / 2).max() <= 1
    # Without a wish for it nothing is joined.
    inspector = Inspector(model)
    assert inspector.inspect(part).reconstruction is None
    kept = inspector.inspect(part, keep=True).reconstruction
    assert kept is not None
    assert kept.shape == (3, 112, 176)


def test_a_detector_without_reconstructions_is_refused_before_any_work(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Cli
) -> None:
    told = cli("inspect", toy_model, toy_parts, "-o", tmp_path / "out", "--reconstructions")
    assert told.code == 2
    assert "the model is of toy, which does not reconstruct parts" in told.err
    assert "anogan, autoencoder, fanogan, vae" in told.err
    assert not (tmp_path / "out").exists()


def test_unreadable_parts_have_no_reconstruction(tmp_path: Path, cli: Cli) -> None:
    model = model_of(tmp_path, 64, 64)
    (tmp_path / "new" / "0.png").write_bytes(b"no picture")
    told = cli("inspect", model, tmp_path / "new", "-o", tmp_path / "out", "--reconstructions")
    assert told.code == 1
    assert [path.name for path in (tmp_path / "out" / "reconstructions").iterdir()] == [
        "1.png.reconstruction.png"
    ]


def test_the_model_says_what_its_map_shows(tmp_path: Path, cli: Cli) -> None:
    model = model_of(tmp_path, 64, 64)
    inspector = Inspector(model)
    assert inspector.reconstructs
    assert inspector.inspect(tmp_path / "new" / "0.png").map_name == "brightness"
    assert inspector.manifest.map_name == "brightness"
    assert "brightness" in cli("info", model).out
