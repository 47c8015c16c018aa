"""Golden where each part has a reference of its own: layouts that differ from part to part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_parts import MakeParts, draw, map_of
from typer.testing import CliRunner

import makellos
from makellos.cli.app import application
from makellos.data.parts import Part, Values
from makellos.detectors.golden import Golden
from makellos.detectors.patches import reference_pairs
from makellos.detectors.patches.reference_pairs import APART, LOOKS, learn_looks
from makellos.drawing import write_picture
from makellos.errors import ConfigurationError, InputError
from makellos.inspection.engines import available_engines, open_engine
from makellos.inspection.model_file import read_model
from makellos.inspection.references import joined
from makellos.sets import render_board

LAYOUTS = (0, 1, 2)


def with_noise(parts: Sequence[Part]) -> list[Part]:
    """Return parts whose references are the same pictures with noise."""
    found = []
    for number, part in enumerate(parts):
        rng = np.random.default_rng(number)
        noisy = np.clip(part.read() + rng.normal(0, 9, part.read().shape), 0, 255)
        found.append(replace(part, reference=Values(noisy.astype(np.uint8))))
    return found


@pytest.mark.usefixtures("known")
def test_map_sums_over_layers_how_seldom_good_parts_differ_so(make_parts: MakeParts) -> None:
    parts = with_noise(make_parts(6))
    detector = Golden(image_size=64, registration=False).fit(parts)
    looks, embedder = detector.looks_, detector.embedder_
    query = joined(draw(1, 0), draw(0, 0))
    choice = next(each for each in available_engines() if each.precision == "f32")
    engine = open_engine(embedder.graph, choice, shape=(6, 64, 64))
    outputs = engine.run(embedder.preprocessing(query))
    seen, apart = (outputs[name][0].transpose(1, 2, 0) for name in (LOOKS, APART))
    axes = seen @ looks.project.T + looks.offset
    code = np.square(axes[:, :, np.newaxis] - looks.codes).sum(3).argmin(2)
    code[[0, -1]] = code[:, [0, -1]] = len(looks.codes)  # the rim
    white = (apart @ looks.turn.T - looks.mean[code]) * looks.gain[code]
    expected, at = np.zeros(code.shape), 0
    for layer, (channels, _, _) in enumerate(embedder.shapes):
        distance = np.linalg.norm(white[..., at : at + channels], axis=2)
        beyond = (distance - looks.level[code, layer]) / looks.decay[code, layer]
        expected += np.maximum(beyond + np.log(100), 0)
        at += channels
    found = map_of(detector.graph(), query)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)
    assert map_of(detector.graph(), joined(draw(0, 0), draw(0, 0))).max() < found.max()


@pytest.mark.usefixtures("known")
def test_no_fold_learns_from_its_own_parts(make_parts: MakeParts) -> None:
    parts = with_noise(make_parts(6))
    graphs = Golden(image_size=64, registration=False).cross_fit(parts, [0, 0, 1, 1, 2, 2])
    (alone,) = [
        Golden(image_size=64, registration=False).fit([p for i, p in enumerate(parts) if i // 2])
    ]
    query = joined(draw(3, 0), draw(0, 2))
    assert len(graphs) == 3
    # Samples are drawn by the number of a part, which is another without those of the fold.
    whole = (reference_pairs._MOST_SAMPLES // 6) > 64 * 64
    assert whole
    np.testing.assert_allclose(map_of(graphs[0], query), map_of(alone.graph(), query), rtol=1e-3)


def test_tails_are_those_of_each_look() -> None:
    """Where good parts reach further, the same difference is less rare."""
    rng = np.random.default_rng(0)
    looks = np.repeat([[0.0, 0.0], [5.0, 0.0]], 30_000, axis=0)
    looks += rng.normal(0, 0.1, looks.shape)
    apart = rng.normal(0, 1, (60_000, 1)) * np.repeat([[1.0], [4.0]], 30_000, axis=0)
    pairs = reference_pairs.Pairs(
        looks.astype(np.float32),
        apart.astype(np.float32),
        np.zeros(60_000, np.intp),
        np.zeros(60_000, np.bool_),
    )
    known = learn_looks(pairs, [1])
    calm = (looks[:30_000] @ known.project.T + known.offset).mean(0)
    code = np.square(known.codes - calm).sum(1).argmin()
    wild = (looks[30_000:] @ known.project.T + known.offset).mean(0)
    other = np.square(known.codes - wild).sum(1).argmin()
    assert known.gain[code, 0] > 3 * known.gain[other, 0]
    # Of a Gaussian, 1 % lies beyond 2.6 spreads, and half of that within 0.25 more.
    assert known.level[code, 0] == pytest.approx(2.58, abs=0.3)
    assert known.decay[code, 0] == pytest.approx(0.33, abs=0.12)


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a manifest of good boards of three layouts, and a reference of each."""
    folder = tmp_path_factory.mktemp("boards")
    rows = ["path,label,reference"]
    for layout in LAYOUTS:
        write_picture(folder / f"gold{layout}.png", board(layout, 99))
        for seed in range(3):
            name = f"good{layout}_{seed}.png"
            write_picture(folder / name, board(layout, seed))
            rows.append(f"{name},good,gold{layout}.png")
    (folder / "parts.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def board(layout: int, seed: int, defect: str | None = None) -> np.ndarray:
    return render_board(seed=seed, size=192, layout=layout, defect=defect).picture


@pytest.fixture(scope="module")
def model(boards: Path) -> Path:
    summary = makellos.fit(boards / "parts.csv", boards / "boards.makellos", detector="golden")
    assert (summary.n_learned, summary.method) == (9, "cross-fitted")
    assert "Each part is compared with its own reference." in summary.notes
    return Path(summary.model)


def test_the_model_says_that_it_needs_references_and_holds_those_of_golden_parts(
    model: Path,
) -> None:
    read = read_model(model)
    size = read.manifest.preprocessing
    assert size.compares == "laid"
    inspector = makellos.Inspector(model)
    for golden in read.manifest.golden:
        picture = read.golden_picture(golden.file)
        assert picture.shape == (size.height, size.width, 6)
        assert inspector.scorer(picture).score == pytest.approx(golden.score, rel=1e-3)


def test_damage_is_found_on_a_layout_that_was_never_seen(model: Path) -> None:
    inspector = makellos.Inspector(model)
    damaged = render_board(seed=30, size=192, layout=7, defect="missing_pad")
    found = inspector.inspect(damaged.picture, reference=board(7, 98))
    good = inspector.inspect(board(7, 31), reference=board(7, 98))
    assert found.score > 1.5 * good.score
    best = max(found.regions, key=lambda region: region.peak)
    rows, columns = np.nonzero(damaged.mask)
    assert best.x - 8 <= columns.mean() <= best.x + best.width + 8
    assert best.y - 8 <= rows.mean() <= best.y + best.height + 8
    wrong = inspector.inspect(board(7, 31), reference=board(3, 98))
    assert "could not be laid onto the reference" in wrong.notes[0]


def test_a_part_without_reference_costs_itself_alone(model: Path, boards: Path) -> None:
    folder = boards / "new"
    (folder / "in").mkdir(parents=True)
    (folder / "gold").mkdir()
    for name in ("a", "b"):
        write_picture(folder / "in" / f"{name}.png", board(0, 40))
    write_picture(folder / "gold" / "a.bmp", board(0, 99))
    found: list[makellos.Inspection] = []
    makellos.inspect(
        model,
        folder / "in",
        references=folder / "gold",
        on_row=lambda each, *_: found.append(each),
    )
    assert [each.error is None for each in found] == [True, False]
    assert "b.png has no reference to compare it with" in str(found[1].error)
    rows = ["path,reference", "in/a.png,gold/a.bmp", "in/b.png,gold/gone.png"]
    manifest = folder / "new.csv"
    manifest.write_text("\n".join(rows), encoding="utf-8")
    summary = makellos.inspect(model, manifest)
    assert (summary.n_parts, summary.verdicts["unreadable"]) == (2, 1)
    result = CliRunner().invoke(
        application(),
        ["inspect", str(model), str(folder / "in"), "--reference", str(folder / "gold" / "a.bmp")],
    )
    assert result.exit_code == 0, result.output


def test_a_fit_names_parts_whose_reference_cannot_be_read(boards: Path, tmp_path: Path) -> None:
    lines = (boards / "parts.csv").read_text(encoding="utf-8").splitlines()
    changed = [lines[0], lines[1].replace("gold0", "gone"), *lines[2:]]
    manifest = boards / "broken.csv"
    manifest.write_text("\n".join(changed), encoding="utf-8")
    with pytest.raises(InputError, match=r"1 of 9 files .*\n.*The reference of good0_0\.png"):
        makellos.fit(manifest, tmp_path / "m.makellos", detector="golden")


def test_other_detectors_say_that_they_do_not_use_it(boards: Path, tmp_path: Path) -> None:
    summary = makellos.fit(
        boards / "parts.csv",
        tmp_path / "m.makellos",
        detector="patchcore",
        parameters={"image_size": 64},
    )
    said = "The column 'reference' is used only by golden, not by patchcore."
    assert said in summary.notes
    with pytest.raises(ConfigurationError, match="does not compare parts with references"):
        makellos.inspect(summary.model, boards, references=boards)
