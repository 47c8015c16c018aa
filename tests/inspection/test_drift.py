"""The monitor of a stream: causes by name, second changes, its state, and parts without figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from small_models import gray_picture, write_small_model

from makellos.errors import ConfigurationError, InputError
from makellos.inspection.drift import N_AFTER, N_START, NAMING, Alarm, DriftMonitor
from makellos.inspection.drift_causes import CAUSES, Evidence, name_cause
from makellos.inspection.good_state import GoodState, cells_of, figures_of
from makellos.inspection.inspector import Inspector
from makellos.inspection.manifest import ZoneScoresRecord
from makellos.inspection.model_file import ModelFile, read_model
from makellos.inspection.statistics import Statistics, statistics_of
from makellos.vibration.signal_record import SignalRecord
from makellos.vibration.views import SignalView

Picture = NDArray[np.uint8]
Change = Callable[[Picture], Picture]
Row = dict[str, Any]
N_POOL = 80


def part(seed: int, size: float = 1.0) -> Picture:
    """Return a bar on a ground, at any angle, a little different each time; 128×128×3."""
    rng = np.random.default_rng(seed)
    picture = np.full((128, 128, 3), 170 + rng.normal(0, 2), np.float32)
    x, y = rng.normal(64, 2, 2)
    lying, sides = rng.uniform(0, 180), np.array([80, 22]) * size * rng.normal(1, 0.01)
    for factor, shade in ((1.0, 70), (0.5, 120)):
        corners = cv2.boxPoints(((x, y), tuple(sides * factor), lying)).round().astype(np.int32)
        cv2.fillPoly(picture, [corners], (shade, shade, shade))
    picture = cv2.GaussianBlur(picture, (0, 0), 0.7) + rng.normal(0, 1.5, picture.shape)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def clipped(values: NDArray[Any]) -> Picture:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def dirty(picture: Picture) -> Picture:
    spot = np.zeros((128, 128), np.float32)
    cv2.circle(spot, (100, 28), 5, 0.25, -1)
    return clipped(picture * (1 - spot[..., np.newaxis]))


CHANGES: dict[str, tuple[Change, str]] = {
    "brighter or darker": (lambda p: clipped(p * 1.08), "brighter by "),
    "colour cast": (lambda p: clipped(p * np.array([1.06, 1, 0.96])), "red +"),
    "out of focus": (lambda p: cv2.GaussianBlur(p, (0, 0), 1.0).astype(np.uint8), "softer edges"),
    "noisier": (
        lambda p: clipped(p + np.random.default_rng(int(p.sum())).normal(0, 3, p.shape)),
        "more noise",
    ),
    "dirt that stays in one place": (dirty, "a dark spot"),
}


def row_of(picture: Picture, name: str, p_value: float) -> Row:
    return {"input": name, "p_value": p_value, "statistics": statistics_of(picture).row()}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    good = GoodState.learned([statistics_of(part(1000 + i)) for i in range(N_POOL)])
    path = tmp_path_factory.mktemp("drift") / "known.makellos"
    return write_small_model(path, good_state=good.model_dump())


@pytest.fixture(scope="module")
def unknowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("drift") / "old.makellos")


@pytest.fixture(scope="module")
def calm() -> list[Row]:
    return [row_of(part(i), f"{i}.png", 1.0) for i in range(N_POOL)]


def stream(rows: list[Row], n: int, seed: int = 0) -> Iterator[Row]:
    rng = np.random.default_rng(seed)
    for _ in range(n):
        ranks = float(rng.integers(1, 102)) / 101
        yield {**rows[rng.integers(len(rows))], "p_value": ranks}


def watched(monitor: DriftMonitor, rows: Iterator[Row]) -> list[Alarm]:
    return [alarm for row in rows if (alarm := monitor.update(row)) is not None]


def test_good_parts_raise_no_alarm(model: Path, calm: list[Row]) -> None:
    monitor = DriftMonitor(model)
    assert watched(monitor, stream(calm, 600)) == []
    assert monitor.finish() is None and monitor.n_parts == 600
    assert monitor.wealth < 100


@pytest.mark.parametrize("cause", CHANGES)
def test_cause_has_its_name(model: Path, calm: list[Row], cause: str) -> None:
    change, detail = CHANGES[cause]
    changed = [row_of(change(part(i)), f"{i}.png", 0.5) for i in range(40)]
    monitor = DriftMonitor(model)
    assert watched(monitor, stream(calm, 50)) == []
    (alarm,) = watched(monitor, stream(changed, 60, seed=1))
    assert alarm.cause == cause and alarm.cause in CAUSES
    assert detail in alarm.detail
    assert 45 < alarm.since <= 56 and alarm.named_at == alarm.at + NAMING <= 100
    assert alarm.evidence[cause] >= 3
    json.dumps(alarm.row())


def test_size_is_pose(model: Path, calm: list[Row]) -> None:
    changed = [row_of(part(i, 1.05), f"{i}.png", 0.5) for i in range(40)]
    monitor = DriftMonitor(model)
    assert watched(monitor, stream(calm, 30)) == []
    (alarm,) = watched(monitor, stream(changed, 60))
    assert alarm.cause == "shifted, rotated or scaled" and "larger" in alarm.detail
    before, after = alarm.changes["length"]
    assert after - before == pytest.approx(np.log(1.05), abs=0.02)


def test_worse_parts_are_the_parts_themselves(model: Path, calm: list[Row]) -> None:
    monitor = DriftMonitor(model)
    assert watched(monitor, stream(calm, 30)) == []
    (alarm,) = watched(monitor, ({**row, "p_value": 1 / 101} for row in stream(calm, 60)))
    assert alarm.cause == "the parts themselves" and "scores are higher" in alarm.detail


def test_usual_rejects_are_no_drift(model: Path, calm: list[Row]) -> None:
    """Three in a hundred parts are defective, and odd in every way."""
    odd = row_of(255 - part(3), "odd.png", 1 / 101)
    rng = np.random.default_rng(5)
    rows = (odd if rng.random() < 0.03 else row for row in stream(calm, 600))
    assert watched(DriftMonitor(model), rows) == []


def test_second_change_is_found_and_reset_goes_back(model: Path, calm: list[Row]) -> None:
    brighter = CHANGES["brighter or darker"][0]
    first, second = (
        [row_of(change(part(i)), f"{i}.png", 0.5) for i in range(N_POOL)]
        for change in (brighter, lambda picture: CHANGES["noisier"][0](brighter(picture)))
    )
    monitor = DriftMonitor(model)
    (alarm,) = watched(monitor, stream(first, 40))
    assert alarm.cause == "brighter or darker"
    # The light stays: that is no news, and there is time to learn how it is from now on.
    assert monitor.n_missing == N_AFTER - (40 - alarm.named_at)
    assert watched(monitor, stream(first, 200)) == []
    assert [each.cause for each in watched(monitor, stream(second, 60))] == ["noisier"]
    monitor.reset()
    assert monitor.n_missing == 0
    assert watched(monitor, stream(calm, 100)) == []


def test_state_goes_through_json(model: Path, calm: list[Row]) -> None:
    change = CHANGES["brighter or darker"][0]
    rows = [row_of(change(part(i)), f"{i}.png", 0.5) for i in range(40)]
    whole = [*stream(calm, 20), *stream(rows, 150)]
    for cut in (0, 7, 35, 60, 130):
        once, twice = DriftMonitor(model), DriftMonitor(model)
        expected = watched(once, iter(whole))
        found = watched(twice, iter(whole[:cut]))
        twice = DriftMonitor.from_state(model, json.loads(json.dumps(twice.state())))
        found += watched(twice, iter(whole[cut:]))
        assert found == expected and len(found) == 1
        assert twice.wealth == pytest.approx(once.wealth, rel=1e-6)
        assert twice.n_missing == once.n_missing


def test_model_that_knows_no_good_state_begins_with_the_stream(
    unknowing: Path, calm: list[Row]
) -> None:
    monitor = DriftMonitor(unknowing)
    assert watched(monitor, stream(calm, N_START + 20)) == []
    rows = [row_of(CHANGES["out of focus"][0](part(i)), f"{i}.png", 0.5) for i in range(40)]
    assert [each.cause for each in watched(monitor, stream(rows, 60))] == ["out of focus"]
    state = json.loads(json.dumps(monitor.state()))
    assert DriftMonitor.from_state(unknowing, state).n_missing == monitor.n_missing


def test_scores_alone_tell_of_worse_parts(unknowing: Path) -> None:
    rows: list[Row] = [{"input": "a.png", "p_value": 0.5, "statistics": None}]
    monitor = DriftMonitor(unknowing)
    assert watched(monitor, stream(rows, 100)) == []
    worse = ({**row, "p_value": row["p_value"] / 12} for row in stream(rows, 60))
    assert [each.cause for each in watched(monitor, worse)] == ["the parts themselves"]


def test_unreadable_parts_count_and_say_nothing(model: Path, calm: list[Row]) -> None:
    monitor = DriftMonitor(model)
    assert watched(monitor, ({"input": "x", "p_value": None} for _ in range(200))) == []
    assert (monitor.n_parts, monitor.wealth) == (200, 0.0)


def test_end_of_stream_names_what_waits(model: Path) -> None:
    change = CHANGES["brighter or darker"][0]
    rows = [row_of(change(part(i)), f"{i}.png", 0.5) for i in range(20)]
    monitor, n = DriftMonitor(model), 0
    while monitor.wealth < 10_000:
        monitor.update(rows[n % 20])
        n += 1
    alarm = monitor.finish()
    assert alarm is not None and alarm.at == alarm.named_at == n
    assert alarm.cause == "brighter or darker"


def test_inspections_and_rows_are_the_same(model: Path) -> None:
    inspection = Inspector(model, statistics=True).inspect(gray_picture(0.5))
    assert isinstance(inspection.statistics, Statistics)
    one, other = DriftMonitor(model), DriftMonitor(model)
    for _ in range(3):
        one.update(inspection)
        other.update(json.loads(json.dumps(inspection.row())))
    assert one.wealth == pytest.approx(other.wealth, rel=1e-6)
    assert Inspector(model).inspect(gray_picture(0.5)).statistics is None


def test_good_parts_that_are_fed_again_lie_within_their_limits(tmp_path: Path) -> None:
    """Plain grounds of whole gray levels: many parts lie exactly on a limit."""
    pictures = [gray_picture((110 + i % 7) / 255) for i in range(60)]
    good = GoodState.learned([statistics_of(each) for each in pictures])
    model = write_small_model(tmp_path / "plain.makellos", good_state=good.model_dump())
    inspector, monitor = Inspector(model, statistics=True), DriftMonitor(model)
    figures, cells = good.limits(), good.field_limits()
    for picture in pictures:
        inspection = inspector.inspect(picture)
        for each in (inspection.statistics, Statistics.of_row(inspection.row()["statistics"])):
            assert each is not None
            for found, limits in (
                (figures_of(each, good), figures),
                (cells_of(each, good.covered), cells),
            ):
                assert not (found < limits.low[:, 0]).any()
                assert not (found > limits.high[:, 0]).any()
        assert monitor.update(replace(inspection, p_value=0.5)) is None
    assert monitor.wealth < 100


def test_cells_of_a_picture_and_of_its_row_are_the_same() -> None:
    found = statistics_of(part(1))
    again = Statistics.of_row(json.loads(json.dumps(found.row())))
    everywhere = found.covered.ravel()
    assert np.array_equal(cells_of(found, everywhere), cells_of(again, everywhere))
    assert np.array_equal(figures_of(found, None), figures_of(again, None), equal_nan=True)


def changed(model: Path, **changes: Any) -> ModelFile:
    read = read_model(model)
    return replace(read, manifest=read.manifest.model_copy(update=changes))


@pytest.mark.parametrize("kind", ["parts", "recordings", "blocks", "zones"])
def test_highest_p_values_are_a_drift_where_they_are_rare(unknowing: Path, kind: str) -> None:
    """Recordings without rejected windows, and parts below the scores of zones, have p = 1."""
    of = partial(SignalRecord, view=SignalView(rate=1000.0, channels=("a",)))
    record = read_model(unknowing).manifest.calibration
    zones = [ZoneScoresRecord(share=0.5, scores=record.scores, map_maxima=record.scores)] * 2
    model = {
        "parts": changed(unknowing),
        "recordings": changed(unknowing, signal=of(calibrated_on="recordings")),
        "blocks": changed(unknowing, signal=of(calibrated_on="blocks")),
        "zones": changed(unknowing, calibration=record.model_copy(update={"zones": zones})),
    }[kind]
    rows: Iterator[Row] = ({"input": "a", "p_value": 1.0} for _ in range(40))
    assert bool(watched(DriftMonitor(model), rows)) == (kind in ("parts", "recordings"))
    worse: Iterator[Row] = ({"input": "a", "p_value": 1 / 101} for _ in range(40))
    assert watched(DriftMonitor(model), worse)


def test_weighted_parts_count_as_many_as_their_weights_sum_to(unknowing: Path) -> None:
    record = read_model(unknowing).manifest.calibration
    light = record.model_copy(update={"weights": [0.1] * len(record.scores)})
    few = record.model_copy(update={"scores": record.scores[:10], "map_maxima": None})
    found = [DriftMonitor(changed(unknowing, calibration=each)) for each in (light, few)]
    wealths = []
    for monitor in found:
        for p_value in (0.05, 0.15, 0.5, 0.97, 0.05, 0.02):
            monitor.update({"input": "a", "p_value": p_value})
        wealths.append(monitor.wealth)
    assert wealths[0] == pytest.approx(wealths[1]) and wealths[0] > 0


def test_what_is_no_row_and_no_state_is_refused(model: Path, unknowing: Path) -> None:
    monitor = DriftMonitor(model)
    for row in ({}, {"p_value": 2.0}, {"p_value": -1}, {"p_value": 0.5, "statistics": {}}):
        with pytest.raises(InputError):
            monitor.update(row)
    with pytest.raises(ConfigurationError, match=r"per 10,000"):
        DriftMonitor(model, false_alarms=0)
    state = monitor.state()
    changes: list[Row] = [{"cells": None}, {"good": {"n_parts": 3}}, {"figures": {}}]
    for wrong in ({}, *({**state, **each} for each in changes)):
        with pytest.raises(InputError, match="state"):
            DriftMonitor.from_state(model, wrong)
    with pytest.raises(InputError, match="state"):
        DriftMonitor.from_state(unknowing, state)


def test_state_of_another_model_is_refused(model: Path, calm: list[Row]) -> None:
    monitor = DriftMonitor(model)
    watched(monitor, stream(calm, 10))
    state = json.loads(json.dumps(monitor.state()))
    manifest = read_model(model).manifest
    record, good = manifest.calibration, manifest.good_state
    assert good is not None
    others = (
        changed(model, calibration=record.model_copy(update={"scores": record.scores[1:]})),
        changed(model, good_state=good.model_copy(update={"n_parts": good.n_parts + 1})),
        changed(model, good_state=None),
    )
    for other in others:
        with pytest.raises(InputError, match="of another model"):
            DriftMonitor.from_state(other, state)
    assert DriftMonitor.from_state(changed(model), state).wealth == pytest.approx(monitor.wealth)


def test_a_cause_is_named_when_the_evidence_of_scores_is_gone_again() -> None:
    none, cells = np.zeros((2, 1)), np.zeros((2, 32, 32))
    begun = np.full((2, 1), 7)
    found = Evidence(("score",), none, begun, cells, cells.astype(int), {}, {})
    cause, _, since = name_cause(found)
    assert (cause, since) == ("the parts themselves", 7)


def test_states_that_no_monitor_wrote_are_refused(model: Path, calm: list[Row]) -> None:
    monitor = DriftMonitor(model)
    watched(monitor, stream(calm, 3))
    state = json.loads(json.dumps(monitor.state()))
    begun = {**state["figures"], "begun": [1e300, *state["figures"]["begun"][1:]]}
    for wrong in (
        {"figures": begun},
        {"score": [[[0.0]], [[0.0]], [[0.5]]]},
        {"score": [*state["score"][:2], [[0.0, 0.0, 0.0]]]},
        {"recent": [[1, [0.5]]]},
        {"learning": [["a", 2.0, None]]},
        {"learning": [["a", 0.5, {"field": "AAAA"}]]},
        {"n_parts": -1},
        {"false_alarms": 0},
    ):
        with pytest.raises(InputError, match=r"state of the monitor|limits of scores|no stat"):
            DriftMonitor.from_state(model, {**state, **wrong})
