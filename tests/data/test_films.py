"""Films and cameras: which frames come, and what is said where one ends too early."""

from __future__ import annotations

import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from makellos.data.films import Frames, camera_of, is_film
from makellos.data.parts import Part
from makellos.errors import ConfigurationError, InputError

N = 60
KINDS = {"a.avi": "MJPG", "a.mp4": "mp4v", "a.mkv": "MJPG", "a.mpg": "MPG1", "a.wmv": "WMV2"}


def write_film(path: Path, n: int = N, code: str = "MJPG") -> Path:
    """Write a film whose frames are brighter and brighter, red to the left."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), 25, (96, 64))
    for number in range(n):
        frame = np.full((64, 96, 3), 4 * number % 256, np.uint8)
        frame[:, :32] = (0, 0, 255)
        writer.write(frame)
    writer.release()
    return path


def level(part: Part) -> int:
    return round(float(part.read()[:, 48:].mean()) / 4)


def names(path: Path, **chosen: Any) -> list[str]:
    return [part.name.removeprefix(f"{path.parent}/") for _, part in Frames(**chosen).of(path)]


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_is_a_part(tmp_path: Path, name: str) -> None:
    path = write_film(tmp_path / name, code=KINDS[name])
    found = list(Frames().of(path))
    assert [number for number, _ in found] == list(range(N))
    assert [part.name for _, part in found] == [f"{path}#{i:06d}" for i in range(N)]
    assert [level(part) for _, part in found] == pytest.approx(list(range(N)), abs=1.2)
    red = found[5][1].read()[:, 8:24].mean(axis=(0, 1))
    assert red[0] > 200 and red[2] < 60


def test_frames_are_chosen_by_number(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.avi")
    assert names(path, every=25) == ["a.avi#000000", "a.avi#000025", "a.avi#000050"]
    assert names(path, every=25, most=2) == ["a.avi#000000", "a.avi#000025"]
    assert names(path, every=100) == ["a.avi#000000"]
    assert names(path, most=1) == ["a.avi#000000"]
    found = dict(Frames(every=25).of(path))
    assert level(found[25]) == pytest.approx(25, abs=1)


@pytest.mark.parametrize("chosen", [{"every": 0}, {"every": -3}, {"most": 0}])
def test_numbers_below_one_are_refused(chosen: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        Frames(**chosen)


@pytest.mark.parametrize("name", ["a.avi", "a.mkv"])
def test_cut_film_gives_what_is_there_and_says_where_it_ends(tmp_path: Path, name: str) -> None:
    path = write_film(tmp_path / name, code=KINDS[name])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    *there, (number, last) = Frames().of(path)
    assert 20 < len(there) < 50
    assert number == len(there)
    assert last.name == f"{path}#{number:06d}"
    with pytest.raises(InputError, match=rf"{name} ends after {number} frames of about 60"):
        last.read()


def test_nothing_is_printed_about_broken_films(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    (tmp_path / "b.mp4").write_bytes(b"\0\0\0\x1cftypisom" + bytes(100))
    code = (
        "import sys; from pathlib import Path; from makellos.data.films import Frames; "
        "print([len(list(Frames().of(Path(name)))) for name in sys.argv[1:]])"
    )
    command = [sys.executable, "-c", code, path, tmp_path / "b.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert re.fullmatch(r"\[[34]\d, 1\]\n", done.stdout)


def test_film_that_is_damaged_in_the_middle_is_not_whole(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", code="mp4v")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + len(raw) // 10] = bytes(len(raw) // 10)
    path.write_bytes(raw)
    *_, (_, last) = Frames().of(path)
    with pytest.raises(InputError, match="frames of about 60"):
        last.read()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "is not a video. Expected MP4"),
        (b"#EXTM3U\n#EXTINF:10,\nother.avi\n", "is not a video"),
        (b"ffconcat version 1.0\nfile other.avi\n", "is not a video"),
        (b"<?xml version='1.0'?><MPD></MPD>", "is not a video"),
        (b"\0\0\0\x1cftypisom" + bytes(100), "is damaged, cut off"),
        (b"RIFF\xff\xff\xff\xffAVI LIST", "is damaged, cut off"),
        (None, "does not exist"),
    ],
)
def test_what_is_no_film_is_one_row(tmp_path: Path, raw: bytes | None, reason: str) -> None:
    write_film(tmp_path / "other.avi")
    path = tmp_path / "a.mp4"
    if raw is not None:
        path.write_bytes(raw)
    ((number, part),) = Frames().of(path)
    assert (number, part.name) == (None, str(path))
    with pytest.raises(InputError, match=reason):
        part.read()


def test_films_are_known_by_name_or_content(tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.avi")
    assert is_film(film.rename(tmp_path / "recorded"))
    assert is_film(tmp_path / "gone.MOV")
    for name, raw in (("a.png", b"\x89PNG\r\n\x1a\n"), ("b", b"\0\0\0\x20ftypavif"), ("c", b"")):
        (tmp_path / name).write_bytes(raw)
        assert not is_film(tmp_path / name)
    assert not is_film(tmp_path)


def test_memory_does_not_grow_with_the_film(tmp_path: Path) -> None:
    path = write_film(tmp_path / "long.avi", n=400)
    tracemalloc.start()
    for _, part in Frames().of(path):
        part.read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 64 * 96 * 3


class Camera:
    """A camera that counts, and loses its cable after a while."""

    opened: ClassVar[list[int]] = []
    released: ClassVar[list[int]] = []
    lasts = 7

    def __init__(self, number: int) -> None:
        self.number, self.at = number, -1
        self.opened.append(number)

    def isOpened(self) -> bool:
        return self.number < 3

    def get(self, _: int) -> float:
        return 0.0

    def grab(self) -> bool:
        self.at += 1
        return self.at < self.lasts

    def retrieve(self) -> tuple[bool, Any]:
        return True, np.full((8, 8, 3), self.at, np.uint8)

    def release(self) -> None:
        self.released.append(self.number)


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Camera, "opened", [])
    monkeypatch.setattr(Camera, "released", [])
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    yield
    assert Camera.opened == Camera.released


def test_camera_is_read_until_it_is_stopped(cameras: None) -> None:
    running = Frames(every=2).of(Path("camera:1"))
    assert [next(running)[1].name for _ in range(3)] == [
        *("camera:1#000000", "camera:1#000002", "camera:1#000004")
    ]
    running.close()  # type: ignore[attr-defined]
    assert names(Path("camera:2"), most=2) == ["camera:2#000000", "camera:2#000001"]


def test_camera_that_is_lost_says_so(cameras: None) -> None:
    *there, (number, last) = Frames().of(Path("camera:0"))
    assert (len(there), number) == (7, 7)
    with pytest.raises(InputError, match=r"gave no frame after 7. Check its cable"):
        last.read()
    ((_, part),) = Frames().of(Path("camera:9"))
    with pytest.raises(InputError, match=r"camera:9 cannot be opened. Check that it is connected"):
        part.read()


@pytest.mark.parametrize("name", ["camera", "camera:", "camera:x", "camera:-1", "x/camera:0", "0"])
def test_other_names_are_files(name: str) -> None:
    assert camera_of(Path(name)) is None


def test_file_goes_before_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert camera_of(Path("camera:0")) == 0
    Path("camera:0").touch()
    assert camera_of(Path("camera:0")) is None
