"""Generate: real parts beside made ones, latents by what they change, other files left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from small_models import manifest, small_members

import makellos
from makellos.data.pictures import read_picture
from makellos.drawing.grids import draw_grid, draw_traversal
from makellos.errors import ConfigurationError, ModelFileError, StorageError
from makellos.models import write_model
from makellos.models.writing import encode_golden

SHAPE, LATENTS = (1, 16, 20), 4
# How far each latent dimension moves its own rows of the picture: 2 most, then 0, 3, 1.
GAINS = np.array([0.06, 0.01, 0.1, 0.03], np.float32)
Floats = NDArray[np.float32]


def directions() -> Floats:
    """Return what a step along each latent dimension adds: to four rows of the picture each."""
    moves = np.zeros((LATENTS, *SHAPE), np.float32)
    for i, gain in enumerate(GAINS):
        moves[i, :, 4 * i : 4 * i + 4] = gain
    return moves


def generator(moves: Floats, name: str = "latent") -> bytes:
    """Return a graph of half plus latent times `moves` d×C×H×W."""
    kind = onnx.TensorProto.FLOAT
    shape = moves.shape[1:]
    constants = {
        "moves": moves.reshape(len(moves), -1),
        "half": np.full(int(np.prod(shape)), 0.5, np.float32),
        "shape": np.array([-1, *shape], np.int64),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", [name, "moves", "half"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["picture"]),
        ],
        "generator",
        [helper.make_tensor_value_info(name, kind, ["n", len(moves)])],
        [helper.make_tensor_value_info("picture", kind, ["n", *shape])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def write_generative(
    path: Path,
    *,
    moves: Floats | None = None,
    examples: Sequence[NDArray[np.uint8]] | None = None,
    detector: str = "vae",
    with_generator: bool = True,
) -> Path:
    """Write a model with the generator above, and parts that vary as it makes them."""
    members = small_members()
    if with_generator:
        members["generator.onnx"] = generator(directions() if moves is None else moves)
    names = []
    for i, picture in enumerate(parts() if examples is None else examples):
        names.append(f"examples/{i:02d}.png")
        members[names[-1]] = encode_golden(picture)
    described = manifest(
        detector={"name": detector, "parameters": {}},
        preprocessing={"height": SHAPE[1], "width": SHAPE[2], "channels": SHAPE[0]},
        examples=names,
    )
    write_model(path, described, members)
    return path


def parts(n: int = 12) -> list[NDArray[np.uint8]]:
    latents = np.random.default_rng(7).standard_normal((n, LATENTS)).astype(np.float32)
    pictures = 0.5 + np.tensordot(latents, directions(), 1)
    return [np.rint(255 * picture[0].clip(0, 1)).astype(np.uint8) for picture in pictures]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_generative(tmp_path_factory.mktemp("generative") / "m.makellos")


def tile_places(page: NDArray[np.uint8], picture: NDArray[np.uint8], factor: int) -> list[int]:
    """Return the columns at which the picture, enlarged pixel by pixel, stands on the page."""
    tile = np.kron(picture, np.ones((factor, factor), np.uint8))
    page = np.ascontiguousarray(page.min(axis=2))
    height, width = tile.shape
    unlike = cv2.matchTemplate(page, tile, cv2.TM_SQDIFF)
    # The measure is rounded, so the nearest places are compared exactly.
    return [
        int(left)
        for top, left in np.argwhere(unlike <= unlike.min() + 1)
        if np.array_equal(page[top : top + height, left : left + width], tile)
    ]


def test_real_parts_are_on_the_left_and_made_ones_on_the_right(
    model: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    target = tmp_path / "new" / "grid.png"
    told = cli("generate", model, "-n", 9, "-o", target, "--json", "-", "--seed", 3)
    assert told.code == 0
    page = read_picture(target)
    latents = np.random.default_rng(3).standard_normal((9, LATENTS)).astype(np.float32)
    made = np.rint(255 * (0.5 + np.tensordot(latents, directions(), 1)[:, 0]).clip(0, 1))
    left = [tile_places(page, picture, 12) for picture in (parts()[0], parts()[-1])]
    right = [tile_places(page, picture.astype(np.uint8), 12) for picture in made]
    assert [len(places) for places in left + right] == [1] * 11
    assert max(left)[0] < min(right)[0]
    assert str(target) in told.err
    assert [path.name for path in target.parent.iterdir()] == ["grid.png"]


def test_json_says_how_like_real_parts_it_is(
    model: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("generate", model, "-n", 9, "-o", tmp_path / "g.png", "--json", "-", "--seed", 3)
    found = json.loads(told.out)
    assert (found["n"], found["seed"], found["detector"]) == (9, 3, "vae")
    assert (found["output"], found["latent_dim"]) == (str(tmp_path / "g.png"), LATENTS)
    latents = np.random.default_rng(3).standard_normal((9, LATENTS))
    made = (0.5 + np.tensordot(latents, directions().astype(float), 1)).clip(0, 1)
    real = np.array(parts())[:, np.newaxis] / 255
    expected = made.std(0, ddof=1).mean() / real.std(0, ddof=1).mean()
    assert found["diversity"] == pytest.approx(expected, rel=1e-4)
    apart = np.sqrt(((made[:, None] - real[None]) ** 2).mean(axis=(2, 3, 4)))
    assert found["nearest_distance"] == pytest.approx(apart.min(1).mean(), rel=1e-4)
    among = np.sqrt(((real[:, None] - real[None]) ** 2).mean(axis=(2, 3, 4)))
    np.fill_diagonal(among, np.inf)
    assert found["real_nearest_distance"] == pytest.approx(among.min(1).mean(), rel=1e-4)
    assert "Diversity " in told.err


def test_a_collapsed_generator_has_no_diversity(tmp_path: Path) -> None:
    path = write_generative(tmp_path / "m.makellos", moves=0 * directions())
    summary = makellos.generate(path, tmp_path / "g.png", n=8)
    assert summary.diversity == 0


def test_what_cannot_be_compared_is_none(model: Path, tmp_path: Path) -> None:
    alone = makellos.generate(model, tmp_path / "g.png", n=1)
    assert alone.diversity is None
    assert alone.nearest_distance is not None
    path = write_generative(tmp_path / "m.makellos", examples=[])
    without = makellos.generate(path, tmp_path / "without.png", n=4)
    assert without.diversity is without.nearest_distance is without.real_nearest_distance is None
    same = write_generative(tmp_path / "same.makellos", examples=[parts()[0]] * 3)
    assert makellos.generate(same, tmp_path / "g.png", n=4).diversity is None


def test_a_seed_gives_the_same_picture_and_another_another(model: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        makellos.generate(str(model), str(tmp_path / f"{name}.png"), n=4, seed=seed)
    first, second, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == second
    assert first != other


def test_traversal_shows_first_what_changes_most(
    model: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    target = tmp_path / "t.png"
    told = cli("generate", model, "-o", target, "--traverse", "-n", 3, "--json", "-")
    found = json.loads(told.out)
    assert found["dimensions"] == [2, 0, 3]
    assert (found["n"], found["diversity"]) == (3, None)
    base = np.random.default_rng(0).standard_normal(LATENTS)
    page = read_picture(target)
    places = []
    for step in (-3, 0, 3):
        latent = base.copy()
        latent[2] = step
        made = (0.5 + np.tensordot(latent, directions().astype(float), 1)[0]).clip(0, 1)
        picture = np.rint(255 * made.astype(np.float32)).astype(np.uint8)
        (place,) = tile_places(page, picture, 8)
        places.append(place)
    assert places == sorted(places)
    assert places[1] - places[0] == places[2] - places[1]


def test_traversal_shows_no_more_dimensions_than_there_are(model: Path, tmp_path: Path) -> None:
    summary = makellos.generate(model, tmp_path / "t.png", traverse=True)
    assert summary.dimensions == [2, 0, 3, 1]
    assert summary.n == LATENTS


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".PNG"])
def test_a_picture_of_its_own_is_replaced(model: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"g{suffix}"
    makellos.generate(model, target, n=4)
    first = target.read_bytes()
    makellos.generate(model, target, n=4, seed=1)
    assert target.read_bytes() != first
    assert read_picture(target).shape[2] == 3
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_other_files_are_left_alone(model: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode_golden(parts()[0]))
    before = photo.read_bytes()
    told = cli("generate", model, "-o", photo)
    assert told.code == 2
    assert "was not made by 'makellos generate'; it is left alone" in told.err
    assert photo.read_bytes() == before
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(StorageError, match="is a folder"):
        makellos.generate(model, tmp_path / "folder.png")
    with pytest.raises(StorageError, match="cannot be written"):
        makellos.generate(model, photo / "g.png")


def test_a_failed_write_keeps_the_old_picture(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "g.png"
    makellos.generate(model, target, n=4)
    before = target.read_bytes()

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError, match="No space left on device"):
        makellos.generate(model, target, n=4, seed=1)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["g.png"]


@pytest.mark.parametrize("name", ["g", "g.gif", "g.tiff", "g.makellos"])
def test_other_suffixes_are_refused(model: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"must end in \.png, \.jpg, \.webp"):
        makellos.generate(model, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [0, -1, 1025])
def test_numbers_out_of_range_are_refused(model: Path, tmp_path: Path, n: int) -> None:
    with pytest.raises(ConfigurationError, match=f"is {n}; expected .* from 1 to 1024"):
        makellos.generate(model, tmp_path / "g.png", n=n)


def test_models_that_make_no_pictures_say_which_do(
    tmp_path: Path, toy_model: Path, cli: Callable[..., Any]
) -> None:
    told = cli("generate", toy_model, "-o", tmp_path / "g.png")
    assert told.code == 2
    assert "cannot generate pictures" in told.err
    assert "anogan, fanogan, vae" in told.err
    assert "--detector vae" in told.err
    old = write_generative(tmp_path / "m.makellos", with_generator=False)
    with pytest.raises(ConfigurationError, match="holds no generator"):
        makellos.generate(old, tmp_path / "g.png")
    assert [path.name for path in tmp_path.iterdir()] == ["m.makellos"]


@pytest.mark.parametrize(
    "moves",
    [np.full((2, *SHAPE), np.nan, np.float32), np.zeros((2, 3, 16, 20), np.float32)],
    ids=["not finite", "other shape"],
)
def test_a_generator_of_something_else_is_refused(tmp_path: Path, moves: Floats) -> None:
    path = write_generative(tmp_path / "m.makellos", moves=moves)
    with pytest.raises(ModelFileError, match="Fit the model again"):
        makellos.generate(path, tmp_path / "g.png", n=3)
    assert [path.name for path in tmp_path.iterdir()] == ["m.makellos"]


GENERATES = """
import sys
from makellos.cli import main
code = main(sys.argv[1:])
print(code, *sorted({"torch", "torchvision", "timm", "sklearn"} & set(sys.modules)))
"""


def test_generating_needs_no_torch(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", GENERATES, "generate", str(model)]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "g.png")], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0"


@pytest.mark.parametrize("n_left", [0, 1, 5, 64])
@pytest.mark.parametrize("n_right", [1, 2, 7, 64])
@pytest.mark.parametrize("size", [(28, 28), (300, 900), (256, 16)])
def test_every_picture_is_on_the_sheet_once(
    n_left: int, n_right: int, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    colors = rng.permutation(np.arange(10, 240))[: n_left + n_right].astype(np.uint8)
    pictures = [np.full((*size, 3), color, np.uint8) for color in colors]
    page = draw_grid(pictures[:n_left], pictures[n_left:], ("left", "right"))
    counts = np.bincount(page[(page == page[..., :1]).all(axis=2), 0], minlength=256)
    areas = [int(counts[color]) for color in colors]
    # Text and rule have grays of their own, far fewer pixels than a tile.
    assert max(areas) <= min(areas) + 400
    assert max(page.shape) < 3000


def test_traversal_sheet_has_a_row_for_each_dimension() -> None:
    rows = [[np.full((16, 16, 3), 20 * (3 * i + j) + 10, np.uint8) for j in range(3)]
            for i in range(4)]  # fmt: skip
    page = draw_traversal(rows, ["z0", "z1", "z2", "z3"], ["-3", "0", "+3"], "title")
    centres = np.array(
        [[np.argwhere((page == tile[0, 0]).all(axis=2)).mean(0) for tile in row] for row in rows]
    )
    assert (np.diff(centres[:, :, 0], axis=0) > 100).all()
    assert (np.diff(centres[:, :, 1], axis=1) > 100).all()
