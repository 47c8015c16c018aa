"""Golden against means and spreads by hand, on a backbone of known functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from drawn_parts import EXACT, MakeParts, draw, layers_of, map_of, rewrite
from known_backbone import Floats
from numpy.typing import NDArray

import makellos
from makellos.data.pictures import read_picture
from makellos.data.tiles import cut_parts
from makellos.detectors.golden import Golden
from makellos.drawing import write_picture
from makellos.errors import ConfigurationError, InputError
from makellos.sets import render_board


def golden(**changes: Any) -> Golden:
    return Golden(**{"image_size": 64, "registration": False, **changes})


def colours(picture: NDArray[np.uint8]) -> Floats:
    """Return 3×H×W: the picture blurred a little, less the picture blurred much."""
    values = picture.astype(np.float64) / 255
    fine, coarse = (
        cv2.GaussianBlur(values, (size, size), sigma, borderType=cv2.BORDER_REPLICATE)
        for size, sigma in ((7, 0.7), (25, 5.0))
    )
    return np.asarray((fine - coarse).transpose(2, 0, 1))


def all_layers(picture: NDArray[np.uint8]) -> list[Floats]:
    return [colours(picture), *layers_of(picture)]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("n_parts", [1, 2, 7])
def test_map_joins_the_distances_of_all_layers(n_parts: int, make_parts: MakeParts) -> None:
    query = draw(1, 0)
    detector = golden().fit(make_parts(n_parts))
    total = np.zeros((8, 8))
    for layer, values, (level, reach) in zip(
        detector.known_, all_layers(query), detector.scales_, strict=True
    ):
        turned = np.tensordot(layer.basis.astype(np.float64), values, 1)
        apart, gain = turned - layer.mean, layer.gain.astype(np.float64)
        white = np.einsum("cdhw,dhw->chw", gain, apart) if gain.ndim == 4 else apart * gain
        found = np.linalg.norm(white, axis=0)
        scaled = np.maximum((found - level) / reach, 0).repeat(2, 0).repeat(2, 1)
        cell = len(scaled) // 8
        total += scaled.reshape(8, cell, 8, cell).max((1, 3)) ** 4
    expected = total**0.25
    for engine in EXACT:
        found = map_of(detector.graph(), query, engine)
        np.testing.assert_allclose(found, expected, rtol=5e-3, atol=4e-2)


@pytest.mark.usefixtures("known")
def test_mean_and_spread_are_those_of_good_parts_at_the_place(make_parts: MakeParts) -> None:
    parts = make_parts(9)
    for n, layer in enumerate(golden().fit(parts).known_):
        basis = layer.basis.astype(np.float64)
        np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-5)
        values = np.array([all_layers(read_picture(part.path))[n] for part in parts])
        turned = np.einsum("cd,ndhw->nchw", basis, values)
        np.testing.assert_allclose(layer.mean, turned.mean(0), atol=2e-3)
        # Deviations of 3×3 neighbours count together, and eight parts more are like all places.
        apart = turned - turned.mean(0)
        places = (0, 0) if n else (0, 20)
        row, column = places[0] + 1, places[1] + 1
        near = apart[:, :, row - 1 : row + 2, column - 1 : column + 2]
        expected = np.einsum("nchw,ndhw->cd", near, near) / 9
        expected += np.einsum("nchw,ndhw->cd", apart, apart) / apart[0, 0].size
        expected *= (1 + 1 / 9) / (8 + 8)
        gain = layer.gain.astype(np.float64)[..., row, column]
        if gain.ndim == 2:
            found = gain @ expected @ gain.T
            inner = np.diag(expected) > 1e-4 * expected.max()
            np.testing.assert_allclose(found[inner][:, inner], np.eye(inner.sum()), atol=0.05)
        else:
            varies = np.diag(expected) > 1e-4 * expected.max()
            np.testing.assert_allclose(gain[varies] ** -2, np.diag(expected)[varies], rtol=0.05)


@pytest.mark.usefixtures("known")
def test_a_place_that_varies_may_vary(make_parts: MakeParts) -> None:
    """The same change counts more where good parts do not differ."""
    parts = make_parts(12)
    plain = draw(0, 0)
    for number, part in enumerate(parts):
        picture = plain.copy()
        picture[32:] = draw(5, number)[32:]
        rewrite(part, picture)
    found = map_of(golden().fit(parts).graph(), draw(7, 0))
    assert found[:3].mean() > 2 * abs(found[5:].mean())


@pytest.mark.usefixtures("known")
def test_no_fold_sees_its_own_part(make_parts: MakeParts) -> None:
    parts = make_parts(4)
    graphs = golden().cross_fit(parts, [0, 1, 2, 3])
    final = golden().fit(parts).graph()
    for fold, graph in enumerate(graphs):
        picture = read_picture(parts[fold].path)
        assert map_of(graph, picture).max() > map_of(final, picture).max() + 0.1


def test_tiles_are_refused(make_parts: MakeParts) -> None:
    tiles, _ = cut_parts(make_parts(2, 256, 256), size=128, overlap=32, unit=32)
    with pytest.raises(ConfigurationError, match="Leave --tile out"):
        golden().fit(tiles)
    with pytest.raises(InputError, match="at least 1 good part to learn"):
        golden().fit([])


@pytest.fixture(scope="module")
def board_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of five boards, which also calibrate it."""
    folder = tmp_path_factory.mktemp("boards")
    write_boards(folder / "parts", range(5))
    summary = makellos.fit(folder / "parts", folder / "boards.makellos", detector="golden")
    assert (summary.n_learned, summary.method) == (5, "cross-fitted")
    assert summary.false_alarms == pytest.approx(1 / 6)
    return Path(summary.model)


def write_boards(folder: Path, seeds: range) -> None:
    folder.mkdir()
    for seed in seeds:
        write_picture(folder / f"{seed}.png", render_board(seed=seed, size=192).picture)


@pytest.mark.parametrize("defect", ["missing_pad", "open"])
def test_a_board_is_laid_onto_the_reference_and_its_damage_outlined(
    board_model: Path, defect: str
) -> None:
    board = render_board(seed=20, size=192, defect=defect)
    found = makellos.Inspector(board_model).inspect(board.picture)
    assert found.verdict == "reject"
    rows, columns = np.nonzero(board.mask)
    best = max(found.regions, key=lambda region: region.peak)
    assert best.x - 8 <= columns.mean() <= best.x + best.width + 8
    assert best.y - 8 <= rows.mean() <= best.y + best.height + 8


def test_another_board_gets_a_verdict_and_the_reason(board_model: Path) -> None:
    inspector = makellos.Inspector(board_model)
    other = render_board(seed=7, size=192, layout=3).picture
    found = inspector.inspect(other)
    assert found.verdict == "reject"
    assert "could not be laid onto the reference" in found.row()["notes"][0]
    assert inspector.inspect(np.zeros_like(other)).verdict in ("ok", "look_again", "reject")


def test_one_reference_is_calibrated_by_others_and_two_parts_by_each_other(tmp_path: Path) -> None:
    write_boards(tmp_path / "parts", range(2))
    summary = makellos.fit(tmp_path / "parts", tmp_path / "two.makellos", detector="golden")
    assert (summary.n_learned, summary.method) == (2, "cross-fitted")
    assert summary.false_alarms == pytest.approx(1 / 3)
    (tmp_path / "parts" / "1.png").unlink()
    with pytest.raises(InputError, match="There is 1 good part; at least 2"):
        makellos.fit(tmp_path / "parts", tmp_path / "one.makellos", detector="golden")
    write_boards(tmp_path / "others", range(1, 4))
    rows = ["parts/0.png,good,train", *(f"others/{i}.png,good,val" for i in range(1, 4))]
    manifest = tmp_path / "parts.csv"
    manifest.write_text("\n".join(["path,label,split", *rows]), encoding="utf-8")
    summary = makellos.fit(manifest, tmp_path / "one.makellos", detector="golden")
    assert (summary.n_learned, summary.n_calibration) == (1, 3)
    assert any("Only 1 good part is learned from, and the 3 of" in n for n in summary.notes)
