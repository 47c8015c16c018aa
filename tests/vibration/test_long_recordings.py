"""Recordings read block by block: the same windows, findings and verdicts as held ones."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from makellos.errors import InputError
from makellos.inspection import Inspector
from makellos.subjects import subject_of_model
from makellos.vibration import long_recordings
from makellos.vibration.long_recordings import LongRecording, cut_long, open_long
from makellos.vibration.recordings import check_recording, read_recording
from makellos.vibration.samples import Samples
from makellos.vibration.signals import SignalSettings, cut_windows
from makellos.vibration.views import SignalView
from makellos.vibration.windows import Piece
from makellos.workflows.fit import fit

RATE = 12000
VIEW = SignalView(rate=RATE, channels=("ch2", "ch1"), window=256, hop=100)


@pytest.fixture(autouse=True)
def _everything_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_recordings, "_LONG", 2000)
    monkeypatch.setattr(long_recordings, "_BLOCK", 777)


def noise(n: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(0, 0.05, (n, 2)), 0) * 0.1 + rng.normal(0, 0.1, (n, 2))


def write(path: Path, signal: NDArray[np.float64], n_bytes: int = 2) -> Path:
    """Write a WAV file of samples in [-1, 1], N×C; what is beyond is clipped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = 2.0 ** (8 * n_bytes - 1)
    whole = np.clip(np.rint(signal * scale), -scale, scale - 1).astype("<i4")
    raw = whole.view(np.uint8).reshape(*whole.shape, 4)[..., :n_bytes]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(signal.shape[1])
        file.setsampwidth(n_bytes)
        file.setframerate(RATE)
        file.writeframes(raw.tobytes())
    return path


def opened(path: Path) -> LongRecording:
    found = open_long(path, RATE)
    assert found is not None
    return found


@pytest.mark.parametrize("n_bytes", [2, 3, 4])
@pytest.mark.parametrize("piece", [None, Piece(0.1, 0.7), Piece(0.25, 0.5, shares=True)])
def test_windows_are_those_of_the_held_recording(
    tmp_path: Path, n_bytes: int, piece: Piece | None
) -> None:
    path = write(tmp_path / "a.wav", noise(20_011), n_bytes)
    held = cut_windows(read_recording(path), VIEW, piece)
    long = cut_long(opened(path), VIEW, piece)
    assert long.starts.tolist() == held.starts.tolist()
    assert len(long.values) == len(held.values)
    for start in range(0, len(long.values), 7):
        np.testing.assert_array_equal(
            long.values[start : start + 7], held.values[start : start + 7]
        )
    for one, other in zip(long.signal, held.signal, strict=True):
        np.testing.assert_array_equal(np.concatenate(list(one.blocks())), other)


def test_what_is_wrong_is_said_alike(tmp_path: Path) -> None:
    """Clipped runs that cross a block's edge count as one."""
    signal = noise(20_000)
    signal[770:800] = 2.0  # across the edge at 777
    signal[3000:3040, 0] = -2.0
    path = write(tmp_path / "clipped.wav", signal)
    held = read_recording(path)
    said = check_recording(held, window=256)
    assert any("clipping" in text for text in said)
    assert cut_long(opened(path), VIEW).notes == said
    constant = write(tmp_path / "constant.wav", np.zeros((5000, 2)))
    with pytest.raises(InputError, match="constant at 0 throughout"):
        cut_long(opened(constant), VIEW)


@pytest.mark.parametrize("size", [1, 3, 50, 1000])
def test_samples_do_not_depend_on_blocks(size: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-2, 3, 1000).astype(np.float32)
    values[rng.integers(0, 1000, 30)] = np.nan
    whole = Samples.of(lambda: iter((values,)))
    assert whole.n_broken > 20
    assert whole.n_extreme > 5
    cut = [values[i : i + size] for i in range(0, 1000, size)]
    assert Samples.of(lambda: iter(cut)) == whole


def test_a_short_recording_and_other_files_are_held(tmp_path: Path) -> None:
    assert open_long(write(tmp_path / "a.wav", noise(900)), RATE) is None
    other = tmp_path / "b.wav"
    other.write_bytes(b"no recording")
    assert open_long(other, RATE) is None
    assert open_long(tmp_path / "missing.wav", RATE) is None


def test_many_channels_are_not_decoded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal = np.tile(noise(3000), (1, 50))
    path = write(tmp_path / "a.wav", signal)
    held = read_recording(path)
    monkeypatch.setattr(long_recordings, "_AT_ONCE", 10_000)
    decoded, decode = list[int](), long_recordings.wav_samples

    def watched(block: memoryview, tag: int, bits: int) -> NDArray[np.floating]:
        found = decode(block, tag, bits)
        decoded.append(found.size)
        return found

    monkeypatch.setattr(long_recordings, "wav_samples", watched)
    long = opened(path)
    np.testing.assert_array_equal(long.read(5, 2900, (7, 99)), held.values[[7, 99], 5:2900])
    assert max(decoded) <= 10_000
    monkeypatch.setattr(long_recordings, "MAX_CHANNELS", 99)
    assert open_long(path, RATE) is None, "who reads it as a whole refuses it"


@pytest.mark.parametrize("detector", ["pyod", "patchcore"])
def test_verdicts_and_windows_are_the_same(
    tmp_path: Path, detector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(5):
        write(tmp_path / "set" / "good" / f"{i}.wav", noise(20_000, i))
    signal = noise(60_000, 9)
    signal[::400] += 0.6
    path, model = write(tmp_path / "odd.wav", signal), tmp_path / "m.makellos"
    settings = SignalSettings(window=1024, bearing="6205", rpm=1797)
    parameters = {} if detector == "pyod" else {"image_size": 64, "memory_bank_size": 50}
    fit(
        tmp_path / "set",
        model,
        detector=detector,
        parameters=parameters,
        false_alarms=0.2,
        signal=settings,
    )
    found = []
    for limit in (2000, 1 << 30):
        monkeypatch.setattr(long_recordings, "_LONG", limit)
        inspector = Inspector(model)
        inspection = inspector.inspect(path)
        subject = subject_of_model(inspector.manifest)
        found.append((_plain(inspection.row()), subject.window_rows(inspector, inspection)))
    assert found[0][0]["verdict"] in ("reject", "look_again")
    assert found[0] == found[1]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "milliseconds"}
