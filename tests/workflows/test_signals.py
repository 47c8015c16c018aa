"""Recordings of vibration: from fit to the verdict, by the verbs of pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from makellos import accept, find_parts
from makellos.data.parts import Part
from makellos.data.progress import no_progress
from makellos.detectors import make_detector
from makellos.inspection import Inspector, read_model
from makellos.models.partition import PartitionRequest
from makellos.sets.synthetic_bearings import synthetic_recording
from makellos.subjects.vibration import VibrationSubject
from makellos.vibration.bearings import find_bearing
from makellos.vibration.signals import SignalSettings
from makellos.vibration.windows import Piece, parse_piece
from makellos.workflows.evaluate import evaluate, evaluated
from makellos.workflows.fit import fit

RATE, RPM = 12000.0, 1797.0
SETTINGS = SignalSettings(window=1024, bearing="6205", rpm=RPM)


def record(path: Path, kind: str = "good", *, seed: int = 0, seconds: float = 2.0) -> Path:
    signal = synthetic_recording(
        kind,
        rate=RATE,
        seconds=seconds,
        shaft_hz=RPM / 60,
        bearing=find_bearing("6205"),
        severity=2.0,
        seed=seed,
        machine=1,
    )
    return save(path, signal)


def save(path: Path, signal: np.ndarray, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{"DE": signal, "rate": np.float64(RATE), **arrays})
    return path


@pytest.fixture(scope="module")
def bearings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return recordings: 3 good ones to learn from, 2 good and 3 damaged ones to test."""
    folder = tmp_path_factory.mktemp("bearings") / "set"
    for i in range(3):
        record(folder / "train" / "good" / f"{i}.npz", seed=i, seconds=5)
    for i in range(2):
        record(folder / "test" / "good" / f"{i}.npz", seed=10 + i)
    for i, kind in enumerate(("inner", "outer", "ball")):
        record(folder / "test" / kind / "0.npz", kind, seed=20 + i)
    return folder


@pytest.fixture(scope="module")
def model(bearings: Path) -> Path:
    target = bearings.parent / "bearings.makellos"
    fit(bearings, target, detector="pyod", false_alarms=0.05, signal=SETTINGS)
    return target


def test_the_verbs_of_pictures(
    bearings: Path, model: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    rows, windows, page = tmp_path / "rows.jsonl", tmp_path / "windows.csv", tmp_path / "trend.html"
    told = cli(
        "inspect", model, bearings / "test", "--jsonl", rows, "--windows", windows, "--trend", page
    )
    assert told.code == 0, told.err
    found = {
        str(Path(row["input"]).relative_to(bearings)): row
        for row in map(json.loads, rows.read_text().splitlines())
    }
    assert len(found) == 5
    for name, row in found.items():
        good = "good" in name
        assert row["verdict"] == ("ok" if good else "reject"), name
        assert row["n_windows"] == 23
        assert (row["share_rejected"] < 0.2) == good
        assert row["regions"] == []
    assert found["test/outer/0.npz"]["fault"] == "outer race"
    assert found["test/inner/0.npz"]["fault"] == "inner race"
    assert "dB over the good state" in found["test/outer/0.npz"]["finding"]
    assert found["test/good/0.npz"]["fault"] is None
    table = list(csv.DictReader(windows.read_text().splitlines()))
    assert len(table) == 5 * 23
    assert float(table[1]["start_s"]) == pytest.approx(1024 / RATE, abs=1e-5)
    assert page.read_text().startswith("<!doctype html>")
    assert "asting alarm" in told.out


def test_evaluate_counts_windows_and_lists_recordings(
    bearings: Path, model: Path, tmp_path: Path
) -> None:
    figures = evaluate(model, bearings, output=tmp_path / "report")
    assert figures["n_good"] == 46
    assert figures["n_defective"] == 69
    assert figures["image_auroc"] > 0.95
    entries = figures["recordings"]
    assert set(entries) == {
        f"test/{kind}/{i}.npz"
        for kind, n in (("good", 2), ("inner", 1), ("outer", 1), ("ball", 1))
        for i in range(n)
    }
    assert entries["test/inner/0.npz"]["verdict"] == "reject"
    assert entries["test/inner/0.npz"]["n_windows"] == 23
    page = (tmp_path / "report" / "report.html").read_text()
    assert "data:image/webp" in page
    assert "inner race: " in page


def test_a_picture_detector_sees_the_same(bearings: Path, tmp_path: Path) -> None:
    target = tmp_path / "patchcore.makellos"
    fit(bearings, target, false_alarms=0.05, signal=SETTINGS)
    inspector = Inspector(target)
    assert inspector.manifest.signal is not None
    assert inspector.manifest.preprocessing.shape == (3, 32, 32)
    found = inspector.inspect(bearings / "test" / "inner" / "0.npz")
    assert found.verdict == "reject"
    assert found.recording is not None
    window = found.recording.windows[0]
    assert window.anomaly_map is not None
    assert inspector.engine.runtime in ("openvino", "onnxruntime")
    rows = VibrationSubject().window_rows(inspector, found)
    region = rows[0]["regions"][0]
    assert region["channel"] == "DE"
    assert 0 <= region["start_s"] < region["end_s"] <= rows[0]["end_s"]
    assert 0 < region["low_hz"] <= region["high_hz"] < RATE / 2
    assert inspector.inspect(bearings / "test" / "good" / "0.npz").verdict != "reject"


def test_what_is_wrong_with_a_recording_is_named_and_the_others_go_on(
    model: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    good = np.load(record(tmp_path / "new" / "fine.npz", seed=30))["DE"]
    torn = good.copy()
    torn[500] = np.nan
    save(tmp_path / "new" / "nan.npz", torn)
    save(tmp_path / "new" / "constant.npz", np.ones_like(good))
    save(tmp_path / "new" / "rate.npz", good, rate=np.float64(48000))
    save(tmp_path / "new" / "short.npz", good[:1000])
    np.savez(tmp_path / "new" / "channel.npz", FE=good, rate=np.float64(RATE))
    time = np.arange(len(good)) / RATE
    time[900:] += 0.5
    lines = "\n".join(f"{t:.6f},{v:.6g}" for t, v in zip(time, good, strict=True))
    (tmp_path / "new" / "gap.csv").write_text(f"time,DE\n{lines}\n")
    save(tmp_path / "new" / "clipped.npz", np.clip(good, -0.06, 0.06))
    rows = tmp_path / "rows.jsonl"
    told = cli("inspect", model, tmp_path / "new", "--jsonl", rows)
    assert told.code == 1
    found = {Path(row["input"]).stem: row for row in map(json.loads, rows.read_text().splitlines())}
    assert found["fine"]["verdict"] == "ok"
    for name, words in {
        "nan": "NaN",
        "constant": "constant at 1",
        "rate": "recorded at 48,000 Hz",
        "short": "fewer than one window",
        "channel": "no channel 'DE'",
        "gap": "1 gap",
    }.items():
        assert found[name]["verdict"] == "unreadable", name
        assert words in found[name]["error"], name
    assert found["clipped"]["verdict"] != "unreadable"
    assert "clipping" in found["clipped"]["notes"][0]


def manifest(folder: Path, rows: list[str]) -> Path:
    path = folder / "set.csv"
    path.write_text("path,label,split,start,end,speed,load\n" + "\n".join(rows) + "\n")
    return path


def test_pieces_of_one_recording(tmp_path: Path) -> None:
    """Learn from its first half, calibrate on the next quarter, test on the last."""
    record(tmp_path / "normal.npz", seconds=12)
    record(tmp_path / "outer.npz", "outer", seed=3)
    data = manifest(
        tmp_path,
        [
            "normal.npz,good,train,0%,50%,1797,0",
            "normal.npz,good,val,50%,75%,1797,0",
            "normal.npz,good,test,75%,100%,1797,0",
            "outer.npz,outer,test,,,1797,2",
        ],
    )
    target = tmp_path / "m.makellos"
    summary = fit(
        data,
        target,
        detector="pyod",
        false_alarms=0.05,
        signal=SignalSettings(window=1024, bearing="6205"),
    )
    assert (summary.n_learned, summary.n_calibration) == (70, 35)
    figures = evaluate(target, data)
    assert figures["image_auroc"] > 0.99
    assert figures["n_good"] == 35
    assert figures["recordings"]["normal.npz 75%-100%"]["verdict"] == "ok"
    assert figures["recordings"]["outer.npz"]["load"] == "2"
    assert figures["recordings"]["outer.npz"]["fault"] == "outer race"
    assert read_model(target).manifest.signal is not None
    inspector = Inspector(target)
    late = Part(
        source=tmp_path / "normal.npz", name="late", details={"start": "75%", "end": "100%"}
    )
    found = inspector.inspect_part(late)
    assert found.recording is not None
    assert found.recording.starts[0] == pytest.approx(9)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["a.npz,good,,0%,60%,,", "a.npz,good,,50%,100%,,"], "shares samples with line 2"),
        (["a.npz,good,,,,,", "a.npz,good,,50%,,,"], "is listed in line 2 already"),
        (["a.npz,good,,50%,20%,,"], "leave nothing"),
        (["a.npz,good,,1,50%,,"], "seconds and per cent"),
        (["a.npz,good,,x,,,"], "'x' is neither seconds nor per cent"),
        (["a.npz,good,,,,-5,"], "speed '-5' is not a number"),
        (["a.npz,good,,,,,", "b.png,good,,,,,"], "among other files"),
    ],
)
def test_mistakes_of_a_manifest(
    rows: list[str], said: str, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    record(tmp_path / "a.npz")
    (tmp_path / "b.png").write_bytes(b"")
    told = cli("fit", manifest(tmp_path, rows), "-o", tmp_path / "m.makellos")
    assert told.code == 2
    assert said in told.err


def test_pieces() -> None:
    assert str(parse_piece("1.5", "")) == "1.5s-end"
    assert parse_piece("", "") is None
    piece = Piece(0.5, 0.75, shares=True)
    assert piece.samples(1000, 10.0) == slice(500, 750)
    assert Piece(2.0, None).samples(1000, 100.0) == slice(200, 1000)
    assert not Piece(0, 0.5, True).overlaps(Piece(0.5, 1, True))
    assert Piece(0, None).overlaps(Piece(7, 8))


def test_windows_of_a_recording_are_held_out_in_time(bearings: Path) -> None:
    parts, detector = find_parts(bearings), make_detector("pyod")
    request = PartitionRequest(detector=detector, false_alarms=0.05, seed=0, signal=SETTINGS)
    found = VibrationSubject().partition(parts, request, no_progress)
    assert found.signal is not None
    assert found.signal.calibrated_on == "blocks"
    last: dict[str, float] = {}
    for part in found.learn:
        recording, start = place(part)
        last[recording] = max(last.get(recording, 0), start)
    for part in found.calibrate:
        recording, start = place(part)
        assert start >= last[recording] + 1024 / RATE - 1e-6


def place(window: Part) -> tuple[str, float]:
    """Return the name of a window's recording, and where it begins in s."""
    recording, _, start = window.name.rpartition(" at ")
    return recording, float(start.removesuffix(" s"))


def test_many_recordings_calibrate_as_such(tmp_path: Path) -> None:
    for i in range(24):
        record(tmp_path / "good" / f"{i}.npz", seed=i, seconds=0.5)
    target = tmp_path / "m.makellos"
    settings = SignalSettings(window=1024, bearing="6205", rpm=RPM)
    summary = fit(tmp_path / "good", target, detector="pyod", false_alarms=0.2, signal=settings)
    assert (summary.n_groups, summary.method) == (24, "cross-fitted")
    held = read_model(target).manifest.signal
    assert held is not None
    assert held.calibrated_on == "recordings"
    record(tmp_path / "new.npz", "outer", seed=50, seconds=1)
    found = Inspector(target).inspect(tmp_path / "new.npz")
    assert found.verdict == "reject"
    assert found.p_value == pytest.approx(1 / 25)


def test_calibrating_on_new_recordings(bearings: Path, model: Path, tmp_path: Path) -> None:
    from makellos.workflows.calibrate import calibrate

    for i in range(2):
        record(tmp_path / "new" / f"{i}.npz", seed=60 + i, seconds=3)
    target = tmp_path / "again.makellos"
    summary = calibrate(model, tmp_path / "new", false_alarms=0.05, output=target)
    assert summary.n_calibration == 70
    assert summary.n_groups == 70
    found = Inspector(target).inspect(bearings / "test" / "outer" / "0.npz")
    assert found.verdict == "reject"


def test_a_group_of_several_recordings_counts_as_one(tmp_path: Path) -> None:
    rows = []
    for i in range(12):
        record(tmp_path / f"{i}.npz", seed=i, seconds=0.5)
        rows.append(f"{i}.npz,good,,day {i % 6}")
    data = tmp_path / "set.csv"
    data.write_text("path,label,split,group\n" + "\n".join(rows) + "\n")
    target = tmp_path / "m.makellos"
    summary = fit(data, target, detector="pyod", false_alarms=0.2, signal=SETTINGS)
    assert (summary.n_groups, summary.counted) == (6, "recordings")
    held = read_model(target).manifest
    assert held.signal is not None
    assert held.calibration.groups is not None
    pairs = set(zip(held.calibration.groups, held.signal.recordings, strict=True))
    assert len(pairs) == 12
    scores, numbers = np.array(held.calibration.scores), np.array(held.signal.recordings)
    medians = {n: float(np.median(scores[numbers == n])) for n in set(numbers.tolist())}
    group_of = dict(zip(held.signal.recordings, held.calibration.groups, strict=True))
    found = Inspector(target).inspect(tmp_path / "3.npz")
    assert found.score is not None
    as_high = [
        np.mean([medians[n] >= found.score for n in medians if group_of[n] == group])
        for group in set(group_of.values())
    ]
    assert found.p_value == pytest.approx((1 + sum(as_high)) / 7)


def test_a_model_holds_no_path_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    rows = ["path,label"]
    for i in range(5):
        path = record(tmp_path / "far" / f"{i}.npz", seed=i, seconds=1)
        signal = np.load(path)["DE"]
        save(path, np.clip(signal, -0.08, 0.08))
        rows.append(f"{path},good")
    data = tmp_path / "lists" / "set.csv"
    data.write_text("\n".join(rows) + "\n")
    target = tmp_path / "m.makellos"
    summary = fit(data, target, detector="pyod", false_alarms=0.2, signal=SETTINGS)
    assert any("clipping" in note for note in summary.notes)
    assert str(tmp_path) not in read_model(target).manifest.model_dump_json()


def test_one_odd_recording_does_not_decide_for_the_others(
    tmp_path: Path, cli: Callable[..., Any]
) -> None:
    for i in range(6):
        record(tmp_path / "good" / f"r{i}.npz", seed=i, seconds=1)
    signal = np.load(tmp_path / "good" / "r0.npz")["DE"]
    save(tmp_path / "good" / "a.npz", signal, rate=np.float64(48000))
    (tmp_path / "good" / "b.npz").write_bytes(b"PK torn")
    asked = ["fit", tmp_path / "good", "-o", tmp_path / "m.makellos", "--detector", "pyod"]
    told = cli(*asked, "--window", "1024")
    assert told.code == 2
    assert "2 of 8 recordings cannot be used" in told.err
    assert "recorded at 48,000 Hz" in told.err
    told = cli(*asked, "--window", "1024", "--skip-unreadable")
    assert told.code == 0
    assert read_model(tmp_path / "m.makellos").manifest.signal.view.rate == RATE  # type: ignore[union-attr]


def test_speeds_that_the_rate_cannot_follow(
    bearings: Path, model: Path, cli: Callable[..., Any]
) -> None:
    told = cli("inspect", model, bearings / "test" / "good", "--rpm", "200000")
    assert told.code == 2
    assert "shaft_hz" in told.err
    path = bearings / "test" / "good" / "0.npz"
    fast = Part(source=path, name="fast", details={"speed": "200000"})
    found = Inspector(model).inspect_part(fast)
    assert found.verdict == "unreadable"


def test_foreign_files_are_left_alone(
    bearings: Path, model: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("precious")
    told = cli("inspect", model, bearings / "test", "--trend", mine)
    assert told.code == 2
    assert mine.read_text() == "precious"
    both = tmp_path / "rows.csv"
    assert cli("inspect", model, bearings, "--csv", both, "--trend", both).code == 2
    page = tmp_path / "page.html"
    for _ in range(2):
        assert cli("inspect", model, bearings / "test", "--trend", page).code == 0


def test_a_manifest_among_recordings_is_not_a_recording(
    tmp_path: Path, cli: Callable[..., Any]
) -> None:
    record(tmp_path / "a.npz")
    manifest(tmp_path, ["a.npz,good,,,,,"])
    told = cli("fit", tmp_path, "-o", tmp_path / "m.makellos")
    assert told.code == 2
    assert "is a manifest among recordings" in told.err


def test_recordings_too_short_to_divide(tmp_path: Path, cli: Callable[..., Any]) -> None:
    record(tmp_path / "good" / "long.npz", seconds=6)
    record(tmp_path / "good" / "short.npz", seed=1, seconds=0.2)
    asked = ["fit", tmp_path / "good", "-o", tmp_path / "m.makellos", "--detector", "pyod"]
    assert cli(*asked, "--window", "1024", "--false-alarms", "0.2").code == 0
    (tmp_path / "good" / "long.npz").unlink()
    told = cli(*asked, "--window", "1024")
    assert told.code == 2
    assert "too short" in told.err


def test_windows_that_overlap_calibrate_in_blocks(bearings: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.makellos"
    settings = SignalSettings(window=1024, hop=256)
    summary = fit(bearings, target, detector="pyod", false_alarms=0.1, signal=settings)
    assert summary.n_groups == summary.n_calibration  # windows that share no samples
    assert summary.n_learned > 3 * summary.n_calibration
    found = Inspector(target).inspect(bearings / "test" / "good" / "1.npz")
    assert found.verdict != "reject"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--view", "stft", "--detector", "pyod"], "does not fit this detector"),
        (["--view", "features"], "Use --view stft"),
        (["--view", "fft"], "no view 'fft'"),
        pytest.param(
            ["--detector", "classifier"],
            "learns from labelled pictures",
            marks=pytest.mark.needs_torch,
        ),
        (["--channel", "DX"], "no channel 'DX'. Known: DE"),
        (["--window", "4"], "window is 4 samples"),
        (["--hop", "-1"], "hop is -1"),
        (["--rpm", "-3", "--bearing", "6205"], "speed is -3 rpm"),
        (["--bearing", "9999"], "no bearing '9999'"),
        (["--rate", "48000"], "recorded at 12,000 Hz"),
        (["--channel", "DE,DE"], "name each once"),
        (["--window", "100000"], "fewer than one window"),
    ],
)
def test_settings_that_do_not_fit(
    options: list[str], said: str, bearings: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("fit", bearings, "-o", tmp_path / "m.makellos", *options)
    assert told.code == 2
    assert said in told.err
    assert not (tmp_path / "m.makellos").exists()


def test_signals_and_pictures_do_not_mix(
    bearings: Path, model: Path, screws: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("fit", screws, "-o", tmp_path / "m.makellos", "--bearing", "6205")
    assert told.code == 2
    assert "holds pictures" in told.err
    assert (
        "vibration recordings"
        in cli("fit", screws, "-o", tmp_path / "m.makellos", "--detector", "pyod").err
    )
    assert "holds pictures" in cli("evaluate", model, screws).err
    assert "tune works on pictures" in cli("tune", bearings, "-o", tmp_path / "t").err
    assert "data split works on" in cli("data", "split", bearings, "-o", tmp_path / "s.csv").err
    assert "no recording" in cli("inspect", model, screws / "test").err


def test_recordings_without_a_rate(tmp_path: Path, cli: Callable[..., Any]) -> None:
    signal = np.load(record(tmp_path / "x.npz", seconds=6))["DE"]
    (tmp_path / "good").mkdir()
    np.save(tmp_path / "good" / "a.npy", signal)
    fit_it = ["fit", tmp_path / "good", "-o", tmp_path / "m.makellos", "--detector", "pyod"]
    told = cli(*fit_it, "--window", "1024")
    assert told.code == 2
    assert "--rate 48000" in told.err
    told = cli(*fit_it, "--window", "1024", "--rate", "12000", "--false-alarms", "0.1")
    assert told.code == 0
    assert cli("inspect", tmp_path / "m.makellos", tmp_path / "good").code == 0


@pytest.mark.real
@pytest.mark.parametrize("channel", ["DE", "FE"])
def test_bearings_of_the_cwru_rig(channel: str, real_data: Path, tmp_path: Path) -> None:
    """Near-perfect figures are usual on this set; one good recording shows no other load."""
    folder = real_data / "bearing_cwru_48k"
    rows = ["path,label,split,start,end"]
    for split, start, end in (("train", 0, 50), ("val", 50, 75), ("test", 75, 100)):
        rows.append(f"{folder / 'Normal.npz'},good,{split},{start}%,{end}%")
    kinds = {"I": "inner", "O": "outer", "B": "ball"}
    rows += [
        f"{path},{kinds[path.stem[0]]},test,,"
        for path in sorted(folder.glob("*.npz"))
        if path.stem != "Normal"
    ]
    data = tmp_path / "cwru.csv"
    data.write_text("\n".join(rows) + "\n")
    settings = SignalSettings(rate=48000.0, channel=channel, bearing="6205", rpm=RPM)
    for detector in ("pyod", "patchcore"):
        target = tmp_path / f"{detector}.makellos"
        fit(data, target, detector=detector, signal=settings)
        figures = evaluate(target, data)
        assert figures["image_auroc"] >= 0.999
        verdicts = {name: each["verdict"] for name, each in figures["recordings"].items()}
        good = [name for name in verdicts if "Normal" in name]
        assert [verdicts.pop(name) for name in good] == ["ok"]
        assert set(verdicts.values()) == {"reject"}
        assert len(verdicts) == 13


def test_files_without_a_suffix_are_recordings_by_what_they_hold(
    tmp_path: Path, cli: Callable[..., Any]
) -> None:
    folder = tmp_path / "1st_test"
    for i in range(5):
        signal = np.load(record(tmp_path / "a.npz", seed=i))["DE"]
        name = folder / f"2003.10.22.12.{i:02d}.24"
        name.parent.mkdir(exist_ok=True)
        np.savetxt(name, np.stack([signal, signal[::-1]], axis=1), "%.3f", "\t")
    (folder / "README").write_text("Recordings of a run to failure.\nThree lines.\nNo number.\n")
    (folder / "LICENSE.2").write_bytes(b"\x7fELF\0\0")
    found = find_parts(folder)
    assert [part.name for part in found] == [f"2003.10.22.12.{i:02d}.24" for i in range(5)]
    model = tmp_path / "m.makellos"
    told = cli("fit", folder, "-o", model, "--detector", "pyod", "--rate", 12000)
    assert told.code == 0, told.err
    told = cli("inspect", model, folder / "2003.10.22.12.00.24", "--jsonl", "-")
    assert json.loads(told.out)["verdict"] == "ok"
    rows = [f"1st_test/2003.10.22.12.{i:02d}.24,good,,,,," for i in range(5)]
    listed = find_parts(manifest(tmp_path, rows))
    assert len(listed) == 5 and listed.kind == found.kind


def test_the_speed_that_a_file_states_counts_where_nobody_gives_another(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(5):
        signal = rng.normal(size=24000)
        save(tmp_path / "set" / "good" / f"{i}.npz", signal, X097RPM=1750 + i)
    target = tmp_path / "m.makellos"
    fit(tmp_path / "set", target, detector="pyod", signal=SignalSettings(bearing="6205"))
    manifest = read_model(target).manifest
    assert manifest.signal is not None
    assert manifest.signal.view.shaft_hz == pytest.approx(1750 / 60)
    path = save(tmp_path / "b.npz", 5 * rng.normal(size=24000), rpm=1700)

    def speed(inspector: Inspector) -> float | None:
        found = inspector.inspect(path).recording
        assert found is not None
        return found.rpm

    assert speed(Inspector(target)) == 1700
    assert speed(Inspector(target, rpm=1600)) == 1600
    settings = SignalSettings(bearing="6205", rpm=1797)
    fit(tmp_path / "set", tmp_path / "n.makellos", detector="pyod", signal=settings)
    other = read_model(tmp_path / "n.makellos").manifest
    assert other.signal is not None
    assert other.signal.view.shaft_hz == pytest.approx(1797 / 60)


def test_recordings_are_called_so(bearings: Path, model: Path, cli: Callable[..., Any]) -> None:
    told = cli("evaluate", model, bearings)
    assert told.out.startswith("Missed 0 of 3 defective recordings.\nRejected ")
    assert " of 2 good recordings (promised: at most " in told.out
    assert "good windows" in told.out and " parts" not in told.out
    assert "AUROC of windows" in told.out and "Image AUROC" not in told.out
    assert "Pixel" not in told.out and "AUPRO" not in told.out
    told = cli("inspect", model, bearings / "test" / "good")
    assert "2 recordings: " in told.everything
    told = cli("info", model)
    assert "windows of good recordings" in told.out
    assert "of the good recordings to come, at most " in told.out


def test_one_good_recording_does_not_judge_the_promise(
    bearings: Path, model: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    record(tmp_path / "good" / "0.npz", seed=10)
    found = evaluate(model, tmp_path, output=tmp_path / "report")
    assert found.promise is not None
    assert (found.promise.finding, found.promise.unit) == ("unknown", "recordings")
    assert found["promise"]["n_units"] == 1
    told = cli("evaluate", model, tmp_path)
    assert "cannot be judged from a single recording, which says nothing about others" in told.out
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Cannot be judged" in page and "More than promised" not in page


def test_a_check_says_that_a_rate_is_not_stated(tmp_path: Path, cli: Callable[..., Any]) -> None:
    for i in range(2):
        np.savez(tmp_path / f"{i}.npz", DE=np.random.default_rng(i).normal(size=5000))
    told = cli("data", "check", tmp_path)
    assert told.code == 0
    assert "2 recordings, flat folder, 10,000 samples\n" in told.out
    assert "Rates: not stated by 2." in told.out
    assert "Nothing is wrong, but a rate is needed: give it to fit with --rate HZ." in told.out
    assert " 0 s" not in told.out and " 0 Hz" not in told.out
    np.savez(tmp_path / "2.npz", DE=np.random.default_rng(2).normal(size=6000), fs=12000)
    told = cli("data", "check", tmp_path)
    assert "16,000 samples, 0.5 s where a rate is stated" in told.out
    assert "Rates: not stated by 2, 12000 Hz." in told.out or "12000 Hz, not stated" in told.out


def test_a_window_has_one_thumbnail(bearings: Path, tmp_path: Path) -> None:
    for name in ("good", "inner"):
        source = np.load(bearings / "test" / name / "0.npz")
        save(tmp_path / "set" / "test" / name / "0.npz", source["DE"][:8000])
    target = tmp_path / "m.makellos"
    fit(bearings, target, false_alarms=0.05, signal=SETTINGS)
    tested = evaluated(target, tmp_path / "set", output=tmp_path / "report").tested
    assert len(tested) == 14
    assert all(each.item.overlay and not each.item.picture for each in tested)


def test_a_recording_is_what_an_acceptance_counts(
    bearings: Path, model: Path, tmp_path: Path
) -> None:
    record = accept(model, bearings, ledger=tmp_path / "ledger.jsonl")
    figures = evaluate(model, bearings)
    assert figures.recordings is not None
    assert record.data.unit == "recordings"
    assert record.figures.n_good + record.figures.n_defective == len(figures.recordings)
    missed = [
        each["verdict"] != "reject" and each["label"] != "good"
        for each in figures.recordings.values()
    ]
    assert record.figures.miss_rate.n_hit == sum(missed)
    assert record.figures.detection.overall.n == 0
