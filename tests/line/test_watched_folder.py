"""The watched folder: complete files only, each once, none missed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pytest

from makellos.errors import ConfigurationError, InputError, StorageError
from makellos.line import Arrival, WatchedFolder, follow


def picture(path: Path, value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 8), value, np.uint8))
    return path


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Notebook:
    """Store what arrives in memory; `dies` after so many parts, before they are finished."""

    stored: dict[str, Arrival] = field(default_factory=dict)
    judged: list[str] = field(default_factory=list)
    dies: int | None = None
    full: int = 0

    def known(self, keys: Collection[str]) -> set[str]:
        return set(keys) & set(self.stored)

    def judge(self, arrivals: Sequence[Arrival]) -> None:
        if self.full:
            self.full -= 1
            raise StorageError("The disk is full.")
        for arrival in arrivals:
            assert arrival.key not in self.stored
            self.stored[arrival.key] = arrival
            self.judged.append(arrival.name)
        if self.dies is not None and len(self.stored) >= self.dies:
            raise KeyboardInterrupt


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ready(source: WatchedFolder, clock: Clock, after: float = 1.0) -> list[str]:
    source.complete()
    clock.now += after
    return [arrival.name for key in source.complete() if (arrival := source.take(key))]


def test_files_come_once_the_oldest_first(tmp_path: Path, clock: Clock) -> None:
    os.utime(picture(tmp_path / "b.png"), (1, 1))
    os.utime(picture(tmp_path / "sub" / "a.png"), (2, 2))
    os.utime(picture(tmp_path / "a.png"), (2, 2))
    source = WatchedFolder(tmp_path, recipe="r", clock=clock)
    assert ready(source, clock) == ["b.png", "a.png", "sub/a.png"]
    for key in source.complete():
        source.finish(key)
    assert source.complete() == []
    assert not source.has_incomplete


def test_what_is_no_part_is_left_out(tmp_path: Path, clock: Clock) -> None:
    whole = picture(tmp_path / "a.png").read_bytes()
    for name in (".hidden.png", "b.png.tmp", "b.png.part", "b.png~", "notes.txt", "@eaDir/c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(whole)
    (tmp_path / "d.png").mkdir()
    assert ready(WatchedFolder(tmp_path, recipe="r", clock=clock), clock) == ["a.png"]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_file_is_given_when_it_has_its_end(tmp_path: Path, clock: Clock, suffix: str) -> None:
    whole = picture(tmp_path / "elsewhere" / f"a{suffix}").read_bytes()
    folder = tmp_path / "watched"
    folder.mkdir()
    source = WatchedFolder(folder, recipe="r", clock=clock)
    for part in (whole[:0], whole[:40], whole[:-3]):
        (folder / f"a{suffix}").write_bytes(part)
        assert ready(source, clock, 5.0) == []
        assert source.has_incomplete
    (folder / f"a{suffix}").write_bytes(whole)
    assert ready(source, clock, 0.3) == [f"a{suffix}"]


def test_a_file_that_stays_damaged_is_given_after_a_while(tmp_path: Path, clock: Clock) -> None:
    whole = picture(tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:-3])
    source = WatchedFolder(tmp_path, recipe="r", clock=clock)
    assert ready(source, clock, 9.0) == []
    assert ready(source, clock, 2.0) == ["a.png"]


def test_a_file_without_a_known_end_settles_first(tmp_path: Path, clock: Clock) -> None:
    picture(tmp_path / "a.bmp")
    source = WatchedFolder(tmp_path, recipe="r", settle=2.0, clock=clock)
    assert ready(source, clock, 1.9) == []
    assert ready(source, clock, 0.2) == ["a.bmp"]


def test_a_file_written_again_is_another_part(tmp_path: Path, clock: Clock) -> None:
    path = picture(tmp_path / "a.png")
    source = WatchedFolder(tmp_path, recipe="r", clock=clock)
    assert ready(source, clock) == ["a.png"]
    first = source.complete()
    source.finish(first[0])
    os.utime(picture(path, 200), (9, 9))
    assert ready(source, clock) == ["a.png"]
    assert source.complete() != first


def test_a_file_that_changes_after_the_look_is_not_taken(tmp_path: Path, clock: Clock) -> None:
    path = picture(tmp_path / "a.png")
    source = WatchedFolder(tmp_path, recipe="r", clock=clock)
    ready(source, clock)
    (key,) = source.complete()
    os.utime(path, (9, 9))
    assert source.take(key) is None


def test_a_file_that_no_one_may_read_is_named_and_holds_up_no_other(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    read = Path.read_bytes

    def refuse(self: Path) -> bytes:
        if self == held:
            raise PermissionError(13, "Permission denied")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    source = WatchedFolder(tmp_path, recipe="r", clock=clock)
    assert ready(source, clock) == ["b.png"]
    clock.now += 10
    taken = [source.take(key) for key in source.complete()]
    assert [(each.name, each.error) for each in taken if each] == [
        ("a.png", "a.png cannot be read: Permission denied. Check its permissions."),
        ("b.png", None),
    ]


def test_keys_outlast_the_process_and_tell_recipes_apart(tmp_path: Path, clock: Clock) -> None:
    picture(tmp_path / "a.png")
    found = []
    for recipe in ("r", "r", "s"):
        source = WatchedFolder(tmp_path, recipe=recipe, clock=clock)
        ready(source, clock)
        found.append(source.complete())
    assert found[0] == found[1] != found[2]


def test_finished_files_move_and_take_no_place(tmp_path: Path, clock: Clock) -> None:
    done = tmp_path / "watched" / "done"
    for value in (10, 20):
        picture(tmp_path / "watched" / "lot-1" / "a.png", value)
        source = WatchedFolder(tmp_path / "watched", recipe="r", done=done, clock=clock)
        assert ready(source, clock) == ["lot-1/a.png"]
        source.finish(source.complete()[0])
    moved = [cv2.imread(str(done / "lot-1" / name), 0)[0, 0] for name in ("a.png", "a (2).png")]
    assert moved == [10, 20]
    assert not list((tmp_path / "watched" / "lot-1").iterdir())


def test_a_move_across_drives_copies_first(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(tmp_path / "watched" / "a.png")
    whole = path.read_bytes()
    rename = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self == path:
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    source = WatchedFolder(tmp_path / "watched", recipe="r", done=tmp_path / "done", clock=clock)
    ready(source, clock)
    source.finish(source.complete()[0])
    assert [each.name for each in (tmp_path / "done").iterdir()] == ["a.png"]
    assert (tmp_path / "done" / "a.png").read_bytes() == whole
    assert not path.exists()


def test_names_say_serial_and_lot(tmp_path: Path, clock: Clock) -> None:
    picture(tmp_path / "4711_B_left.png")
    picture(tmp_path / "other.png")
    names = r"(?P<serial>\d+)_(?P<lot>[A-Z])_(?P<side>\w+)"
    source = WatchedFolder(tmp_path, recipe="r", names=names, clock=clock)
    ready(source, clock)
    named, other = (source.take(key) for key in sorted(source.complete(), key=_name_of(source)))
    assert named is not None
    assert (named.serial, named.lot, dict(named.fields)) == ("4711", "B", {"side": "left"})
    assert other is not None
    assert (other.serial, other.lot, dict(other.fields)) == (None, None, {})


def _name_of(source: WatchedFolder):  # type: ignore[no-untyped-def]
    return lambda key: source.take(key).name  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("wanted", "error", "said"),
    [
        ({"names": "("}, ConfigurationError, "not a regular expression"),
        ({"names": "a+"}, ConfigurationError, "names no group"),
        ({"settle": -1.0}, ConfigurationError, "0 or more"),
        ({"done": "."}, ConfigurationError, "the watched folder itself"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, wanted: dict[str, object], error: type[Exception], said: str
) -> None:
    if "done" in wanted:
        wanted = {"done": tmp_path}
    with pytest.raises(error, match=said):
        WatchedFolder(tmp_path, recipe="r", **wanted)  # type: ignore[arg-type]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        WatchedFolder(tmp_path / "none", recipe="r")
    folder = tmp_path / "watched"
    folder.mkdir()
    source = WatchedFolder(folder, recipe="r")
    folder.rmdir()
    with pytest.raises(InputError, match="cannot be reached"):
        source.complete()


# Following it


def quick(folder: Path, done: Path | None = None) -> WatchedFolder:
    return WatchedFolder(folder, recipe="r", done=done, settle=0.0)


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("dies", [1, 17, 40])
def test_parts_stored_before_a_kill_are_finished_and_not_inspected_again(
    tmp_path: Path, moves: bool, dies: int
) -> None:
    folder, done = tmp_path / "watched", tmp_path / "done"
    for number in range(40):
        picture(folder / f"{number:02}.png", number)
    book = Notebook(dies=dies)
    with pytest.raises(KeyboardInterrupt):
        follow(quick(folder, done if moves else None), book, stop=Event(), tell=print, once=True)
    book.dies = None
    follow(quick(folder, done if moves else None), book, stop=Event(), tell=print, once=True)
    assert sorted(book.judged) == [f"{number:02}.png" for number in range(40)]
    assert len(list((done if moves else folder).iterdir())) == 40


def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("makellos.line.following._RETRY_S", 0.01)
    picture(tmp_path / "a.png")
    book, said, stop = Notebook(full=3), list[str](), Event()

    def tell(message: str) -> None:
        said.append(message)
        if message == "Inspecting again.":
            stop.set()

    follow(quick(tmp_path), book, stop=stop, tell=tell)
    assert book.judged == ["a.png"]
    assert said == ["The disk is full. Trying again every 0.01 seconds.", "Inspecting again."]


def test_once_says_a_full_disk(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with pytest.raises(StorageError):
        follow(quick(tmp_path), Notebook(full=1), stop=Event(), tell=print, once=True)


def test_a_folder_out_of_reach_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("makellos.line.following._RETRY_S", 0.01)
    folder, away = tmp_path / "watched", tmp_path / "away"
    picture(folder / "a.png")
    source, book, said, stop = quick(folder), Notebook(), list[str](), Event()
    shutil.move(folder, away)

    def tell(message: str) -> None:
        said.append(message)
        if len(said) == 1:
            shutil.move(away, folder)
        else:
            stop.set()

    follow(source, book, stop=stop, tell=tell)
    assert "cannot be reached" in said[0]
    assert said[1:] == ["Inspecting again."]


def test_a_link_that_leads_nowhere_costs_that_name_alone(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    picture(tmp_path / "a.png")
    clock = Clock()
    folder = WatchedFolder(tmp_path, recipe="toy", clock=clock)
    assert folder.complete() == []
    clock.now += 1
    (key,) = folder.complete()
    arrival = folder.take(key)
    assert arrival is not None
    assert arrival.name == "a.png"


def test_a_file_that_cannot_be_moved_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("makellos.line.following._RETRY_S", 0.05)
    folder, done = tmp_path / "watched", tmp_path / "done"
    os.utime(picture(folder / "lot" / "a.png"), (1, 1))
    picture(folder / "b.png")
    done.mkdir()
    (done / "lot").write_text("no folder")
    book, said, stop = Notebook(), list[str](), Event()
    with pytest.raises(StorageError, match=r"a\.png cannot be moved"):
        follow(quick(folder, done), book, stop=stop, tell=said.append, once=True)
    assert book.judged == ["lot/a.png", "b.png"]
    assert (done / "b.png").is_file()
    assert len(said) == 1
    assert "a.png cannot be moved" in said[0]
    assert said[0].endswith("The others go on.")
    (done / "lot").unlink()
    follow(quick(folder, done), book, stop=stop, tell=said.append, once=True)
    assert (done / "lot" / "a.png").is_file()
    assert book.judged == ["lot/a.png", "b.png"]


def test_what_could_not_be_moved_is_tried_again_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("makellos.line.following._RETRY_S", 0.02)
    picture(tmp_path / "watched" / "a.png")
    source, book, said, stop = quick(tmp_path / "watched"), Notebook(), list[str](), Event()
    tried = 0

    def finish(key: str) -> None:
        nonlocal tried
        tried += 1
        if tried < 4:
            raise StorageError("It cannot be moved.")
        stop.set()

    monkeypatch.setattr(source, "finish", finish)
    follow(source, book, stop=stop, tell=said.append)
    assert (tried, said) == (4, ["It cannot be moved. The others go on."])
    assert book.judged == ["a.png"]


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(tmp_path / "a.png")
    size = path.stat().st_size
    source = WatchedFolder(tmp_path, recipe="r", largest=size - 1, clock=clock)
    ready(source, clock)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"{self} was read"))
    arrival = source.take(source.complete()[0])
    assert arrival is not None
    assert arrival.content == b""
    assert arrival.error is not None
    assert f"a.png has {size} bytes; at most {size - 1} are taken" in arrival.error
