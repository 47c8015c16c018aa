"""Zones and rules, from the files a user writes to verdict and row."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from makellos import Inspector, calibrate, evaluate, fit
from makellos.errors import ConfigurationError, InputError
from makellos.inspection.model_file import read_model
from makellos.inspection.zone_files import read_zones
from makellos.models.coverage import Coverage

HEIGHT, WIDTH = SIZE = (160, 240)  # 20 x 30 cells
LEFT, RIGHT = [[0, 0], [120, 0], [120, 160], [0, 160]], [[120, 0], [240, 0], [240, 160], [120, 160]]
LABEL = [[160, 40], [200, 40], [200, 80], [160, 80]]  # whole cells
TWO = {
    "size": [WIDTH, HEIGHT],
    "zones": [
        {"name": "left", "polygon": LEFT, "false_alarms": 0.05},
        {"name": "right", "polygon": RIGHT},
        {"name": "label", "polygon": LABEL, "ignore": True},
    ],
}


@pytest.fixture(scope="module")
def good(level: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = level.write_pictures(tmp_path_factory.mktemp("good") / "good", 24, SIZE)
    return folder


@pytest.fixture(scope="module", params=[None, 64], ids=["whole", "tiles"])
def two(
    request: pytest.FixtureRequest,
    level: ModuleType,
    good: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return a model with two zones and a label that is ignored, of whole pictures or of tiles."""
    folder = tmp_path_factory.mktemp("zones")
    zones = write(folder / "zones.json", TWO)
    with pytest.MonkeyPatch.context() as patch:
        level.install(patch)
        fit(
            good,
            folder / "two.makellos",
            false_alarms=0.2,
            coverage=Coverage(tile=request.param, zones=zones),
        )
    return folder / "two.makellos"


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def fitted(good: Path, folder: Path, data: Any, **options: Any) -> Path:
    coverage = Coverage(zones=write(folder / "zones.json", data), **options)
    fit(good, folder / "m.makellos", false_alarms=0.2, coverage=coverage)
    return folder / "m.makellos"


def test_what_is_ignored_decides_nothing(level: ModuleType, two: Path) -> None:
    inspector = Inspector(two)
    plain = level.picture(*SIZE, seed=99)
    noise = plain.copy()
    noise[40:80, 160:200] = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    noise[40:80, 160:170] = 255
    clean, loud = inspector.inspect(plain), inspector.inspect(noise)
    assert loud.verdict == clean.verdict != "reject"
    assert (loud.score, loud.p_value, loud.regions) == (clean.score, clean.p_value, clean.regions)
    assert loud.zones == clean.zones
    assert loud.anomaly_map is not None
    assert clean.anomaly_map is not None
    assert np.array_equal(loud.anomaly_map, clean.anomaly_map)
    # One pixel beside it the same is seen.
    noise[40:80, 200:208] = 255
    assert inspector.inspect(noise).verdict == "reject"


def test_any_zone_rejects_and_regions_name_theirs(level: ModuleType, two: Path) -> None:
    inspector = Inspector(two)
    assert inspector.threshold == pytest.approx(1.0, abs=1e-4)
    for x, name in ((40, "left"), (216, "right")):
        found = inspector.inspect(level.picture(*SIZE, seed=99, spots=[(x, 80, 16, 60)]))
        assert found.verdict == "reject"
        assert [region.zone for region in found.regions] == [name]
        zones = {zone.name: zone for zone in found.zones}
        assert zones[name].score is not None
        assert zones[name].score > zones[name].threshold
        assert found.score == pytest.approx(
            zones[name].score / inspector.calibration.scales[["left", "right"].index(name)]
        )
        (other,) = set(zones) - {name}
        assert zones[other].score is not None
        assert zones[other].score < 3 * zones[other].threshold
    both = inspector.inspect(level.picture(*SIZE, seed=99, spots=[(104, 80, 32, 60)]))
    assert sorted(str(region.zone) for region in both.regions) == ["left", "right"]


def test_each_zone_has_its_budget(two: Path) -> None:
    manifest = read_model(two).manifest
    assert manifest.zones is not None
    assert manifest.zones.budgets(manifest.calibration.asked) == pytest.approx([0.05, 0.15])
    calibration = Inspector(two).calibration
    assert calibration.false_alarms == pytest.approx(0.2)
    for zone, own in zip(calibration.zones, manifest.calibration.zones, strict=True):
        assert (zone.scores > zone.threshold).mean() <= zone.asked
        assert len(own.scores) == 24
    assert (calibration.scores > calibration.threshold).mean() <= 0.2


def test_golden_parts_keep_score_and_verdict(two: Path) -> None:
    inspector = Inspector(two)
    assert inspector.zones is not None
    for golden in inspector.manifest.golden:
        assert len(golden.zone_scores) == 2
        score = inspector.zones.score(golden.zone_scores, inspector.zones.scales)
        assert score == pytest.approx(golden.score, rel=1e-4)
        assert inspector.calibration.verdict(golden.score) == golden.verdict


def test_calibrating_anew_takes_zones_along(level: ModuleType, two: Path, tmp_path: Path) -> None:
    calibrate(two, false_alarms=0.4, output=tmp_path / "wide.makellos")
    wide, narrow = Inspector(tmp_path / "wide.makellos"), Inspector(two)
    assert [zone.asked for zone in wide.calibration.zones] == pytest.approx([0.1, 0.3])
    assert all(
        a <= b for a, b in zip(wide.calibration.scales, narrow.calibration.scales, strict=True)
    )
    for golden in wide.manifest.golden:
        assert wide.zones.score(golden.zone_scores, wide.zones.scales) == golden.score
    new = level.write_pictures(tmp_path / "new", 10, SIZE, first=60)
    summary = calibrate(two, new, output=tmp_path / "new.makellos")
    assert summary.n_calibration == 10
    again = Inspector(tmp_path / "new.makellos")
    scores = [again.inspect(path).score for path in sorted(new.iterdir())]
    assert scores == pytest.approx(again.calibration.scores.tolist())


def test_pictures_of_another_size_are_named(level: ModuleType, two: Path, tmp_path: Path) -> None:
    found = Inspector(two).inspect(level.picture(HEIGHT, WIDTH + 8, seed=1))
    assert found.verdict == "unreadable"
    assert "has 248 x 160 pixels, but the zones were drawn on pictures of 240 x 160" in found.error


def test_relative_zones_are_scaled(
    level_detector: Any, level: ModuleType, good: Path, tmp_path: Path
) -> None:
    zones = [{"name": "top", "polygon": [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]}]
    inspector = Inspector(fitted(good, tmp_path, {"zones": zones}))
    for factor in (1, 2):
        size = (factor * HEIGHT, factor * WIDTH)
        for y, verdict in ((20, "reject"), (120, "ok")):
            spots = [(100 * factor, y * factor, 24 * factor, 60)]
            found = inspector.inspect(level.picture(*size, seed=99, spots=spots))
            assert (found.verdict == "reject") == (verdict == "reject")


def test_mask_picture_is_a_zone(
    level_detector: Any, level: ModuleType, good: Path, tmp_path: Path
) -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[:, 120:] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    fit(
        good,
        tmp_path / "m.makellos",
        false_alarms=0.2,
        coverage=Coverage(zones=tmp_path / "mask.png"),
    )
    inspector = Inspector(tmp_path / "m.makellos")
    for x, rejected in ((40, False), (180, True)):
        found = inspector.inspect(level.picture(*SIZE, seed=99, spots=[(x, 80, 16, 60)]))
        assert (found.verdict == "reject") == rejected


def test_only_ignored_zones_leave_the_rest(level_detector: Any, good: Path, tmp_path: Path) -> None:
    zones = [{"polygon": LABEL, "ignore": True}]
    inspector = Inspector(fitted(good, tmp_path, {"size": [WIDTH, HEIGHT], "zones": zones}))
    assert inspector.zones is not None
    assert inspector.zones.record.names == ["elsewhere"]
    labels = inspector.zones.labels((20, 30))
    expected = np.ones((20, 30), np.uint8)
    expected[5:10, 20:25] = 0
    assert np.array_equal(labels, expected)
    # A cell that is ignored in part is ignored: 40 to 80 of 160 rows, 160 to 200 of 240 columns.
    expected = np.ones((11, 13), np.uint8)
    expected[2:6, 8:11] = 0
    assert np.array_equal(inspector.zones.labels((11, 13)), expected)


RULES = {
    "mm_per_pixel": 0.1,
    "rules": [{"zone": "left", "larger_than_mm2": 5.0}, {"zone": "right", "more_than": 1}],
}


@pytest.mark.parametrize(
    ("spots", "verdict", "broken"),
    [
        ([(40, 80, 8, 60)], "ok", []),
        ([(40, 80, 32, 60)], "reject", ["a region larger than 5 mm2 in zone left"]),
        ([(208, 80, 32, 60)], "ok", []),
        ([(208, 16, 16, 60), (208, 120, 16, 60)], "reject", ["more than 1 region in zone right"]),
        ([], "ok", []),
    ],
)
def test_rules_decide_in_place_of_the_calibration(
    level: ModuleType,
    two: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    spots: list[Any],
    verdict: str,
    broken: list[str],
) -> None:
    cv2.imwrite(str(tmp_path / "part.png"), level.picture(*SIZE, seed=99, spots=spots))
    rules = write(tmp_path / "rules.json", RULES)
    told = cli(
        "inspect",
        two,
        tmp_path / "part.png",
        "--rules",
        rules,
        "--jsonl",
        tmp_path / "r.jsonl",
        "--csv",
        tmp_path / "r.csv",
    )
    assert told.code == 0, told.err
    row = json.loads((tmp_path / "r.jsonl").read_text())
    assert row["verdict"] == verdict
    assert row["broken_rules"] == broken
    assert (row["calibrated_verdict"] == "reject") == bool(spots)
    for region in row["regions"]:
        assert region["area_mm2"] == pytest.approx(region["area"] * 0.01)
        assert region["zone"] in ("left", "right")
    with (tmp_path / "r.csv").open(newline="") as stream:
        (line,) = csv.DictReader(stream)
    assert json.loads(line["broken_rules"]) == broken
    assert [zone["name"] for zone in json.loads(line["zones"])] == ["left", "right"]


def test_rules_that_tighten_keep_the_verdict_of_the_calibration(
    level_detector: Any, level: ModuleType, good: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    rules = [{"zone": "left", "longer_than_mm": 2.0}]
    data = {**TWO, "mm_per_pixel": 0.1, "combine": "tighten", "rules": rules}
    path = fitted(good, tmp_path, data)
    spot = level.picture(*SIZE, seed=99, spots=[(40, 80, 8, 60)])
    found = Inspector(path).inspect(spot)
    assert (found.verdict, found.broken_rules) == ("reject", ())
    told = cli("info", path)
    assert "left (5.00%), right (15.00%)" in told.out
    assert "reject for a region longer than 2 mm in zone left" in told.out
    assert re.search(r"rules decide +together with the threshold", told.out)
    figures = evaluate(path, good, output=tmp_path / "report")
    assert "Rules decide together with the threshold" in figures["notes"][0]
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    for said in ("left (5.00%), right (15.00%)", "0.1 mm per pixel", "longer than 2 mm in zone"):
        assert said in page


@pytest.mark.parametrize(
    ("rules", "options", "message"),
    [
        ({"rules": [{"zone": "lefft", "more_than": 0}]}, [], "Did you mean 'left'"),
        ({"rules": [{"larger_than_mm2": 1}]}, [], "--mm-per-pixel"),
        ({"rules": [{"zone": "left"}]}, [], "one of larger_than_mm2"),
        ({"rules": [{"more_than": 1, "longer_than_mm": 1}]}, [], "one of larger_than_mm2"),
        ({"rule": []}, [], "not valid at rule"),
        (TWO, [], "draws zones"),
        ({"rules": []}, ["--mm-per-pixel", "-1"], "a number above 0"),
    ],
)
def test_wrong_rules_are_refused(
    two: Path,
    good: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    rules: Any,
    options: list[str],
    message: str,
) -> None:
    told = cli("inspect", two, good, "--rules", write(tmp_path / "r.json", rules), *options)
    assert told.code == 2
    assert message in " ".join(told.err.split())


POLYGON = [[0, 0], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"zones": [{"name": "a", "polygon": LEFT}]}, 'pixels where "size"'),
        ({"zones": [{"name": "a"}]}, "a polygon or a mask"),
        ({"zones": [{"name": "a", "mask": ""}]}, "not valid at zones.0.mask"),
        ({"size": [0, 9], "zones": [{"name": "a", "polygon": POLYGON}]}, "not valid at size.0"),
        ({"zones": [{"name": f"z{i}", "polygon": POLYGON} for i in range(255)]}, "at most 254"),
        ({"zones": [{"polygon": POLYGON}]}, "needs another name"),
        ({"zones": [{"name": "elsewhere", "polygon": POLYGON}]}, "needs another name"),
        ({"zones": [{"name": "a", "polygon": POLYGON}] * 2}, "share a name"),
        (
            {"zones": [{"polygon": POLYGON, "ignore": True}], "elsewhere": "ignore"},
            "the whole picture",
        ),
        ({"zones": [{"name": "a", "polygon": [[0, 0], [1, 1]]}]}, "at least 3"),
        (
            {
                "zones": [
                    {"name": "a", "polygon": POLYGON},
                    {"polygon": [[0, 0], [1, 0], [1, 1], [0, 1]], "ignore": True},
                ]
            },
            "nothing is left of zone 'a'",
        ),
        (
            {"zones": [{"name": "a", "polygon": POLYGON, "ignore": True, "false_alarms": 0.1}]},
            "cannot have a budget",
        ),
    ],
)
def test_wrong_zones_are_refused(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_zones(write(tmp_path / "zones.json", data))


def test_polygon_beside_a_mask_is_relative(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), np.full((50, 100), 255, np.uint8))
    above = {"polygon": [[0, 0], [1, 0], [1, 0.5], [0, 0.5]], "ignore": True}
    data = {"zones": [{"name": "a", "mask": "mask.png"}, above]}
    raster = read_zones(write(tmp_path / "zones.json", data)).raster
    assert raster is not None
    assert raster.shape == (50, 100)
    assert not raster[:25].any()
    assert raster[25:].all()


def test_mask_of_a_lossy_file_ends_at_half_of_white(tmp_path: Path) -> None:
    mask = np.zeros((80, 80), np.uint8)
    cv2.circle(mask, (40, 40), 20, 255, -1)
    cv2.imwrite(str(tmp_path / "mask.jpg"), mask)
    raster = read_zones(tmp_path / "mask.jpg").raster
    assert np.count_nonzero(raster) == pytest.approx(np.count_nonzero(mask), rel=0.01)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.json does not exist"):
        read_zones(tmp_path / "missing.json")
    (tmp_path / "text.json").write_text("zones")
    with pytest.raises(ConfigurationError, match="is not JSON"):
        read_zones(tmp_path / "text.json")


@pytest.mark.parametrize(
    ("budgets", "asked", "message"),
    [((0.1, 0.15), 0.2, "add up to 0.25"), ((0.2, None), 0.2, "something left")],
)
def test_budgets_of_zones_may_not_pass_that_of_the_part(
    tmp_path: Path, budgets: tuple[float | None, ...], asked: float, message: str
) -> None:
    data: Any = {**TWO, "zones": [dict(zone) for zone in TWO["zones"]]}
    for zone, budget in zip(data["zones"], budgets, strict=False):
        zone["false_alarms"] = budget
    drawn = read_zones(write(tmp_path / "zones.json", data))
    with pytest.raises(ConfigurationError, match=message):
        drawn.zones(asked)


def test_budgets_that_zones_state_are_all_that_is_promised(
    level_detector: Any, good: Path, tmp_path: Path
) -> None:
    data: Any = {**TWO, "zones": [{**zone} for zone in TWO["zones"]]}
    data["zones"][1]["false_alarms"] = 0.05
    inspector = Inspector(fitted(good, tmp_path, data))
    assert inspector.calibration.asked == pytest.approx(0.1)
    assert [zone.asked for zone in inspector.calibration.zones] == pytest.approx([0.05, 0.05])


def test_parts_of_another_size_than_the_zones_are_refused_at_fit(
    level_detector: Any, good: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="zones were drawn on pictures of 480 x 320"):
        fitted(good, tmp_path, {**TWO, "size": [480, 320]})


def test_unreadable_parts_are_left_out_before_sizes_are_compared(
    level_detector: Any, level: ModuleType, tmp_path: Path
) -> None:
    good = level.write_pictures(tmp_path / "good", 12, SIZE)
    next(iter(sorted(good.iterdir()))).write_bytes(b"none")
    zones = write(tmp_path / "zones.json", TWO)
    options: Any = {"false_alarms": 0.2, "coverage": Coverage(zones=zones)}
    with pytest.raises(InputError, match="--skip-unreadable"):
        fit(good, tmp_path / "m.makellos", **options)
    summary = fit(good, tmp_path / "m.makellos", skip_unreadable=True, **options)
    assert len(summary.skipped) == 1


def test_more_zones_than_parts_can_calibrate_are_refused_before_the_fit(
    level_detector: Any, level: ModuleType, tmp_path: Path
) -> None:
    good = level.write_pictures(tmp_path / "good", 5, SIZE)
    strips = [
        {"name": f"{i}", "polygon": [[i / 4, 0], [i / 4 + 0.25, 0], [i / 4 + 0.25, 1], [i / 4, 1]]}
        for i in range(4)
    ]
    with pytest.raises(InputError, match=r"4 zones, .* on 5 good parts .* use at least 7 good"):
        fitted(good, tmp_path, {"zones": strips})
    assert level_detector.seen == []
    fitted(good, tmp_path, {"zones": strips[:3]})


@pytest.mark.needs_torch
def test_zones_need_maps_and_classes_have_none(good: Path, tmp_path: Path) -> None:
    zones = write(tmp_path / "zones.json", TWO)
    with pytest.raises(ConfigurationError, match="zones need maps"):
        fit(
            good,
            tmp_path / "m.makellos",
            detector="classifier",
            false_alarms=0.2,
            coverage=Coverage(zones=zones),
        )
