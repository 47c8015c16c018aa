"""Fitting and inspecting in tiles: a part stays a picture, whatever it is cut into."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from makellos import Inspector, calibrate, evaluate, fit
from makellos.errors import ConfigurationError, MakellosError
from makellos.inspection.model_file import read_model
from makellos.models.coverage import Coverage
from makellos.search.auto import AutoSettings

SIZE = (200, 328)  # of pictures: whole cells, but not whole tiles


@pytest.fixture(scope="module")
def good(level: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = level.write_pictures(tmp_path_factory.mktemp("good") / "good", 20, SIZE)
    return folder


@pytest.fixture(scope="module")
def model(level: ModuleType, good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiled") / "tiled.makellos"
    with pytest.MonkeyPatch.context() as patch:
        level.install(patch)
        fit(good, path, false_alarms=0.1, coverage=Coverage(tile=64, tile_overlap=16))
    return path


def test_tiles_are_learned_from_and_those_of_a_part_stay_together(
    level_detector: Any, good: Path, tmp_path: Path
) -> None:
    coverage = Coverage(tile=64, tile_overlap=16)
    summary = fit(good, tmp_path / "m.makellos", false_alarms=0.1, coverage=coverage)
    *folds, whole = level_detector.seen
    assert {shape for _, shape, _ in whole} == {(64, 64)}
    assert len(whole) == 20 * 6 * 10
    assert len(Counter(group for *_, group in whole)) == 20
    for fold in folds:
        assert Counter(Counter(group for *_, group in fold).values()) == {60: 16}
    assert (summary.n_learned, summary.n_calibration, summary.n_groups) == (20, 20, 20)


def test_calibration_holds_the_score_of_each_whole_picture(
    level_detector: Any, good: Path, model: Path, tmp_path: Path
) -> None:
    fit(good, tmp_path / "whole.makellos", false_alarms=0.1)
    tiled, whole = (
        read_model(path).manifest.calibration for path in (model, tmp_path / "whole.makellos")
    )
    assert len(tiled.scores) == 20
    assert tiled.scores == tiled.map_maxima
    # The detector commutes with shifts, and its level hardly depends on how pictures are cut.
    np.testing.assert_allclose(tiled.scores, whole.scores, atol=5e-4)


def test_a_spot_is_found_where_it_is(level: ModuleType, model: Path, tmp_path: Path) -> None:
    inspector = Inspector(model, workers=2)
    for x, y in ((0, 0), (312, 184), (150, 90), (56, 40)):
        found = inspector.inspect(level.picture(*SIZE, seed=99, spots=[(x, y, 16, 60)]))
        assert found.verdict == "reject"
        assert found.anomaly_map is not None
        assert found.anomaly_map.shape == (25, 41)
        (region,) = found.regions
        assert abs(region.x - x) <= 8
        assert abs(region.y - y) <= 8
        assert region.peak == found.score


def test_good_pictures_of_any_size_are_inspected(
    level: ModuleType, model: Path, tmp_path: Path
) -> None:
    inspector = Inspector(model)
    for size in ((40, 50), (64, 64), (500, 90)):
        found = inspector.inspect(level.picture(*size, seed=1))
        assert found.size == size
        assert found.score is not None
        assert found.score < 2 * inspector.threshold


def test_many_pictures_have_the_verdicts_that_each_has_alone(model: Path, good: Path) -> None:
    paths = sorted(good.iterdir())[:4]
    inspector = Inspector(model, workers=3)
    assert inspector.concurrency == 1
    together = [found.score for found in inspector.inspect_many([*paths, good / "missing.png"])]
    alone = [Inspector(model).inspect(path).score for path in paths]
    assert together == [*alone, None]


def test_golden_tiles_have_the_scores_of_their_parts(model: Path) -> None:
    inspector = Inspector(model)
    scores = inspector.manifest.calibration.scores
    for golden in inspector.manifest.golden:
        picture = inspector.model.golden_picture(golden.file)
        assert picture.shape[:2] == (64, 64)
        found = inspector.inspect(picture)
        assert found.score == pytest.approx(golden.score, abs=1e-5)
        assert found.verdict == golden.verdict
        assert min(abs(score - golden.score) for score in scores) < 0.01


def test_calibrating_anew_counts_pictures(level: ModuleType, model: Path, tmp_path: Path) -> None:
    new = level.write_pictures(tmp_path / "new", 12, SIZE, first=50)
    summary = calibrate(model, new, output=tmp_path / "n.makellos", false_alarms=0.2)
    assert summary.n_calibration == 12
    assert read_model(tmp_path / "n.makellos").manifest.tiling is not None


def test_evaluation_takes_tiled_models(level: ModuleType, model: Path, tmp_path: Path) -> None:
    level.write_pictures(tmp_path / "set" / "test" / "good", 3, SIZE, first=70)
    (tmp_path / "set" / "test" / "spot").mkdir()
    spotted = level.picture(*SIZE, seed=80, spots=[(100, 60, 24, 80)])
    cv2.imwrite(str(tmp_path / "set" / "test" / "spot" / "a.png"), spotted)
    assert evaluate(model, tmp_path / "set")["image_auroc"] == 1.0


def test_command_line_cuts_and_says_so(
    level_detector: Any, cli: Callable[..., Any], good: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.makellos"
    told = cli("fit", good, "-o", path, "--tile", 96, "--false-alarms", 0.1)
    assert told.code == 0, told.err
    assert "96 x 96 pixels, 24 shared" in cli("info", path).out
    assert cli("inspect", path, good, "--jsonl", tmp_path / "rows.jsonl").code == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 100}, "multiple of 32 from 64 to 8192. Use 96."),
        ({"tile_overlap": 8}, "pictures are not cut. Add --tile"),
        ({"tile": 64, "tile_overlap": 40}, "expected 0 to 32"),
    ],
)
def test_wrong_tilings_are_refused_before_the_fit(
    level_detector: Any, good: Path, tmp_path: Path, options: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fit(good, tmp_path / "m.makellos", coverage=Coverage(**options))
    assert level_detector.seen == []


@pytest.mark.parametrize("options", [{"tile": 100}, {"zones": Path("none.json")}])
def test_coverage_is_checked_before_auto_tries(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr("makellos.workflows.fit.choose", pytest.fail)
    with pytest.raises(MakellosError, match=r"Use 96|none.json does not exist"):
        fit(good, tmp_path / "m.makellos", detector="auto", coverage=Coverage(**options))


@pytest.mark.parametrize(
    ("options", "on_maps"), [({"tile": 64}, True), ({"mm_per_pixel": 0.1}, False), ({}, False)]
)
def test_auto_knows_that_tiles_take_maps(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any, on_maps: bool
) -> None:
    def note(_: Any, asked: AutoSettings, __: Any) -> None:
        assert asked.on_maps == on_maps
        raise KeyboardInterrupt

    monkeypatch.setattr("makellos.workflows.fit.choose", note)
    with pytest.raises(KeyboardInterrupt):
        fit(good, tmp_path / "m.makellos", detector="auto", coverage=Coverage(**options))


def test_labels_without_masks_are_told_of(
    level_detector: Any, level: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a defective part the tiles that its mask marks are learned from; without a mask none."""
    monkeypatch.setattr(level_detector, "learns", "good and labelled")
    level.write_pictures(tmp_path / "train" / "good", 20, SIZE)
    level.write_pictures(tmp_path / "train" / "burn", 2, SIZE)
    first = sorted((tmp_path / "train" / "burn").iterdir())[0]
    mask = np.zeros(SIZE, np.uint8)
    mask[:8, :8] = 255
    rows = ["path,label,split,mask"]
    for path in sorted((tmp_path / "train").rglob("*.png")):
        marked = "mask.png" if path == first else ""
        rows.append(f"{path.relative_to(tmp_path)},{path.parent.name},train,{marked}")
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    (tmp_path / "parts.csv").write_text("\n".join(rows))
    coverage = Coverage(tile=64, tile_overlap=16)
    data = tmp_path / "parts.csv"
    summary = fit(data, tmp_path / "m.makellos", false_alarms=0.1, coverage=coverage)
    assert len(level_detector.seen[-1]) == 20 * 60 + 1
    assert any("1 labelled defective part without a mask" in note for note in summary.notes)


@pytest.mark.needs_torch
def test_detectors_of_labels_are_refused(good: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a tile of a defective part may be good"):
        fit(good, tmp_path / "m.makellos", detector="classifier", coverage=Coverage(tile=64))
