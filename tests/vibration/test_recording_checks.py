"""What a set of recordings holds and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from makellos import find_parts
from makellos.vibration.recording_checks import RecordingsCheck, check_recordings


def write(path: Path, *, rate: float | None = 12000.0, seed: int = 0, **channels: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    values = channels or {"DE": rng.normal(size=8000).astype(np.float32)}
    stated = {} if rate is None else {"rate": np.float64(rate)}
    np.savez(path, **values, **stated)  # type: ignore[arg-type]


def checked(folder: Path) -> RecordingsCheck:
    return check_recordings(find_parts(folder))


def test_what_a_sound_set_holds(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / "good" / f"{i}.npz", seed=i)
    write(tmp_path / "outer" / "0.npz", seed=9)
    found = checked(tmp_path)
    assert found.labels == {"good": 3, "outer": 1}
    assert found.channels == {"DE": 4}
    assert found.rates == {"12000": 4}
    assert found.seconds == round(4 * 8000 / 12000, 3)
    assert found.problems == []
    assert any("speed" in text for text in found.advice)


def test_each_mistake_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(size=8000).astype(np.float32)
    torn = noise.copy()
    torn[77] = np.nan
    write(tmp_path / "good" / "a.npz", seed=1)
    write(tmp_path / "good" / "b.npz", DE=torn)
    write(tmp_path / "good" / "c.npz", DE=np.ones(8000, np.float32))
    write(tmp_path / "good" / "d.npz", DE=noise[:100])
    write(tmp_path / "good" / "e.npz", DE=np.clip(noise, -0.5, 0.5))
    write(tmp_path / "good" / "f.npz", rate=48000.0, seed=2)
    write(tmp_path / "good" / "g.npz", FE=noise)
    write(tmp_path / "bad" / "h.npz", seed=1)
    (tmp_path / "good" / "i.npz").write_bytes(b"PK\x03\x04 torn")
    found = checked(tmp_path)
    told = "\n".join(found.problems)
    for words in (
        "1 sample of 8,000 is NaN",
        "constant at 1",
        "fewer than one window",
        "clipping",
        "differ in their rate: 12000 Hz, 48000 Hz",
        "differ in their channels. They have none in common",
        "hold the same samples, with the labels bad and good",
        "i.npz cannot be read",
    ):
        assert words in told, words
    assert found.n_unreadable == 1
    assert found.n_recordings == 9


def test_one_good_recording_shows_little(tmp_path: Path) -> None:
    write(tmp_path / "good" / "a.npz", rate=None)
    write(tmp_path / "worn" / "b.npz", rate=None, seed=3)
    told = "\n".join(checked(tmp_path).advice)
    assert "one good recording" in told
    assert "--rate HZ" in told
