"""The verb watch, and the watched folders of serve, as processes that are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from makellos.cli import main
from makellos.errors import ConfigurationError
from makellos.line.watching import Watched, folders_of
from makellos.service.server import open_station
from makellos.store import Filter, Store

CLI = [sys.executable, "-m", "makellos"]


def write(folder: Path, number: int) -> None:
    """Let a picture appear as a camera writes it: slowly, under its own name."""
    folder.mkdir(parents=True, exist_ok=True)
    gray = np.random.default_rng(number).normal(128, 13, (64, 96)).clip(0, 255).astype(np.uint8)
    data = cv2.imencode(".png", gray)[1].tobytes()
    with (folder / f"{number:04d}_A.png").open("wb", buffering=0) as stream:
        stream.write(data[: len(data) // 2])
        stream.write(data[len(data) // 2 :])


def names(store: Path) -> list[str]:
    opened = Store.open(store)
    found = [part.input for part in opened.history(Filter(), limit=1000)]
    opened.close()
    return sorted(found)


def test_once_inspects_what_is_there(
    toy_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, done, store = tmp_path / "camera", tmp_path / "done", tmp_path / "station"
    for number in range(3):
        write(folder, number)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"IEND\xaeB`\x82")
    pattern = r"(?P<serial>\d+)_(?P<lot>[A-Z])"
    options = ["--done", str(done), "--store", str(store), "--names", pattern, "--once"]
    assert main(["watch", str(toy_model), str(folder), *options]) == 0
    told = capsys.readouterr()
    assert "0001_A.png  p 0." in told.out
    assert "unreadable" in told.out
    assert told.out.endswith("Stopped. Everything that was inspected is stored.\n")
    assert names(store) == ["0000_A.png", "0001_A.png", "0002_A.png", "broken.png"]
    opened = Store.open(store)
    part = opened.history(Filter(serial="0001"))[0]
    assert (part.lot, part.recipe, part.source) == ("A", "toy", "watch:camera")
    assert opened.picture(part.picture) is not None
    opened.close()
    assert len(list(done.iterdir())) == 4
    write(folder, 7)
    assert main(["watch", str(toy_model), str(folder), *options]) == 0
    assert len(names(store)) == 5


@pytest.mark.skipif(sys.platform == "win32", reason="its processes cannot be told to end kindly")
def test_killed_again_and_again_it_does_each_part_once(toy_model: Path, tmp_path: Path) -> None:
    folder, store, done = tmp_path / "camera", tmp_path / "station", tmp_path / "done"
    folder.mkdir()
    command = [*CLI, "watch", str(toy_model), str(folder), "--store", str(store)]
    command += ["--done", str(done)]
    written = 0
    for life in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ends = time.monotonic() + 2.2 + 0.13 * life
        while time.monotonic() < ends:
            write(folder, written)
            written += 1
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, "--once"], check=True, capture_output=True, timeout=120)
    assert names(store) == [f"{number:04d}_A.png" for number in range(written)]
    assert len(list(done.iterdir())) == written


def test_folders_of_serve_name_their_recipes(toy_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    named = [f"toy={tmp_path}", str(tmp_path / "a=b")]
    first, second = folders_of(named, ["toy"], tmp_path / "done")
    assert (first.recipe, first.folder) == ("toy", tmp_path)
    assert (second.recipe, second.folder) == (None, tmp_path / "a=b")
    assert second.done == tmp_path / "done" / "a=b"
    store = Store.open(tmp_path / "station")
    station = open_station(store, "localhost", [toy_model])
    source, _ = second.of(station)
    assert source.name == "watch:a=b"
    with pytest.raises(ConfigurationError, match=r"cannot be watched: There is no recipe 'nuts'"):
        Watched(folder=tmp_path, recipe="nuts").of(station)
    station.close()
    store.close()
