"""Storage: a file is the old one or the whole new one, a lock is of one, refusals are told."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from makellos.errors import StorageError
from makellos.storage import (
    claim_file,
    growing,
    locked,
    put_in_place,
    replacing,
    scratch_folder,
    storage_errors,
    write_bytes,
    write_text,
)

not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="needs files of POSIX systems")


PARTIAL = re.compile(r"\.file\.txt\.[0-9a-f]{12}\.partial")


def refuses(code: int) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> Any:
        raise OSError(code, os.strerror(code))

    return refuse


@contextmanager
def process(script: str, *arguments: Path) -> Iterator[subprocess.Popen[str]]:
    """Give a process that has come to its first line of output; kill it at the end."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        try:
            assert started.stdout.readline() == "ready\n"
            yield started
        finally:
            started.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "file.txt"
    path.write_bytes(b"old")
    return path


# Replacing


def test_a_file_is_replaced_and_nothing_left_beside_it(old: Path) -> None:
    with replacing(old) as stream:
        stream.write(b"new")
        stream.flush()
        assert old.read_bytes() == b"old"
        (partial,) = set(old.parent.iterdir()) - {old}
        assert partial.read_bytes() == b"new"
        assert PARTIAL.fullmatch(partial.name)
    assert old.read_bytes() == b"new"
    assert names(old.parent) == ["file.txt"]


def test_text_is_utf8_with_its_own_line_ends_whatever_is_in_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "ä\nb\r\n\udcff")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa4\nb\r\n?"


HALF = """
import sys, time
from pathlib import Path
from makellos.storage import growing, replacing
if sys.argv[2] == "replacing":
    with replacing(Path(sys.argv[1])) as stream:
        stream.write(b"half")
        stream.flush()
        print("ready", flush=True)
        time.sleep(600)
with growing(Path(sys.argv[1])) as write:
    write("half")
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("way", ["replacing", "growing"])
def test_a_killed_process_leaves_the_old_file_whole(old: Path, way: str) -> None:
    with process(HALF, old, Path(way)) as writer:
        writer.kill()
        writer.wait()
    assert old.read_bytes() == b"old"
    left, name = names(old.parent)
    assert PARTIAL.fullmatch(left) and name == "file.txt"
    assert (old.parent / left).read_bytes() == b"half"
    (old.parent / ".file.txt.partial").write_bytes(b"of others")
    write_bytes(old, b"new")
    assert old.read_bytes() == b"new"
    assert names(old.parent) == [".file.txt.partial", "file.txt"]


WRITES = """
import sys
from pathlib import Path
from makellos.storage import write_bytes
print("ready", flush=True)
for i in range(1_000_000):
    write_bytes(Path(sys.argv[1]), bytes([i % 256]) * 4_000_000)
"""


def test_a_process_that_is_killed_at_any_time_leaves_a_whole_file(old: Path) -> None:
    for wait in (0.05, 0.08, 0.11):
        with process(WRITES, old):
            deadline = time.monotonic() + 60
            while old.stat().st_size != 4_000_000 and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(wait)
        found = old.read_bytes()
        assert found == found[:1] * 4_000_000


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
def test_what_goes_wrong_in_between_leaves_the_old_file(old: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), replacing(old) as stream:
        stream.write(b"new")
        raise error
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["file.txt"]


@pytest.mark.parametrize("step", [(os, "fsync"), (Path, "replace")])
def test_a_disk_that_becomes_full_is_told(
    old: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str]
) -> None:
    monkeypatch.setattr(*step, refuses(errno.ENOSPC))
    with pytest.raises(StorageError) as told:
        write_bytes(old, b"new", "Make room and go on with --resume.")
    assert str(told.value) == (
        f"{old} cannot be written: {os.strerror(errno.ENOSPC)}. Make room and go on with --resume."
    )
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["file.txt"]


@not_on_windows
def test_a_file_that_may_not_become_as_large_is_told(old: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError, match=r"file\.txt cannot be written: File too large\. M"):
            write_bytes(old, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["file.txt"]


def test_permission_that_is_denied_is_told(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = rf"cannot be written: {os.strerror(errno.EACCES)}\. Make room there, or choose another"
    monkeypatch.setattr(Path, "open", refuses(errno.EACCES))
    with pytest.raises(StorageError, match=denied):
        write_bytes(old, b"new")
    with pytest.raises(StorageError, match=denied), growing(old):
        pass
    with pytest.raises(StorageError, match=denied):
        claim_file(old, lambda _: True, "")
    with pytest.raises(StorageError, match="Nothing can be written to"), locked(old, "busy"):
        pass


def test_no_folder_is_made_where_there_is_none(tmp_path: Path) -> None:
    """A disk that was taken out must not become a folder on another."""
    with pytest.raises(StorageError, match="cannot be written"):
        write_bytes(tmp_path / "none" / "a", b"")
    assert names(tmp_path) == []


def test_a_file_that_is_open_elsewhere_for_a_moment_is_replaced(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, refused = Path.replace, [2]

    def replace(path: Path, target: Path) -> Path:
        if refused[0]:
            refused[0] -= 1
            raise PermissionError(errno.EACCES, "in use")
        return really(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    write_bytes(old, b"new")
    assert old.read_bytes() == b"new"


def test_a_file_is_put_in_place_when_it_is_on_the_disk(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    synced, replaced = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: (synced(number), done.append("sync")))
    monkeypatch.setattr(
        Path, "replace", lambda path, target: (replaced(path, target), done.append("rename"))
    )
    (tmp_path / "part").write_bytes(b"new")
    put_in_place(tmp_path / "part", old)
    assert (done, old.read_bytes(), names(tmp_path)) == (["sync", "rename"], b"new", ["file.txt"])


@not_on_windows
def test_a_pipe_is_written_as_it_is(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    for write in (lambda: write_bytes(pipe, b"data"), lambda: _grow(pipe, "data")):
        reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
        reader.start()
        claim_file(pipe, lambda _: False, "is mine")
        write()
        reader.join(timeout=60)
    assert got == [b"data", b"data"]
    assert names(tmp_path) == ["pipe"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_device_that_is_full_is_told() -> None:
    device = Path("/dev/full")
    told = "/dev/full cannot be written: No space left on device"
    with pytest.raises(StorageError, match=told):
        write_bytes(device, b"data")
    with pytest.raises(StorageError, match=told):
        _grow(device, "data")


def test_a_reader_that_leaves_is_no_failure_of_storage() -> None:
    with pytest.raises(BrokenPipeError), storage_errors("said"):
        raise BrokenPipeError
    with pytest.raises(StorageError, match=r"^said: odd\. Make room there"), storage_errors("said"):
        raise OSError("odd")


@not_on_windows
def test_a_link_that_was_laid_is_not_followed(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").write_bytes(b"precious")
    laid = ["0123456789ab", "0123456789ac", "0123456789ad"]
    for letters in laid:
        (tmp_path / f".file.txt.{letters}.partial").symlink_to(other / "precious")
    with pytest.raises(StorageError, match="exists"):
        monkeypatch.setattr("secrets.token_hex", lambda n: laid[0])
        write_bytes(old, b"new")
    monkeypatch.undo()
    old.unlink()
    old.symlink_to(other / "precious")  # a link in place of the output is replaced itself
    claim_file(old, lambda _: True, "")
    write_bytes(old, b"new")
    _grow(old, "newer")
    assert not old.is_symlink() and old.read_bytes() == b"newer"
    assert (other / "precious").read_bytes() == b"precious"
    assert names(other) == ["precious"]


BOTH = """
import sys
from pathlib import Path
from makellos.storage import claim_file, growing
path = Path(sys.argv[1])
claim_file(path, lambda _: True, "")
with growing(path) as write:
    write(sys.argv[2] * 10)
    print("ready", flush=True)
    sys.stdin.readline()
    write(sys.argv[2] * 10)
"""


def test_two_processes_with_one_file_do_not_meet(old: Path) -> None:
    with process(BOTH, old, Path("a")) as first, process(BOTH, old, Path("b")) as second:
        claim_file(old, lambda _: True, "")  # a third, which removes nothing of the two
        for each in (first, second):
            assert each.communicate("go\n", timeout=60)[0] == ""
            assert each.returncode == 0
            assert old.read_bytes() == (b"a" if each is first else b"b") * 20
    assert names(old.parent) == ["file.txt"]


SCRATCH = """
import sys, tempfile, time
from makellos.storage import scratch_folder
tempfile.tempdir = sys.argv[1]
with scratch_folder() as folder:
    (folder / "weights").write_bytes(b"weights")
    print("ready", flush=True)
    time.sleep(600)
"""


def test_folders_for_temporary_files_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "makellos-of-others").mkdir()
    with process(SCRATCH, tmp_path) as living:
        with process(SCRATCH, tmp_path) as killed:
            killed.kill()
            killed.wait()
        with scratch_folder() as folder:
            assert len(list(tmp_path.glob("makellos-*/files/weights"))) == 1
            assert folder.parents[1] == tmp_path
        living.kill()
        living.wait()
    assert len(names(tmp_path)) == 2


# Growing


def _grow(path: Path, *texts: str, error: BaseException | None = None) -> None:
    with growing(path, "Make room.") as write:
        for text in texts:
            write(text)
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), StorageError("another")])
def test_what_was_written_takes_the_place_however_it_ends(
    old: Path, error: BaseException | None
) -> None:
    if error is None:
        _grow(old, "a\n", "\udcff\n")
    else:
        with pytest.raises(type(error)):
            _grow(old, "a\n", "\udcff\n", error=error)
    assert old.read_bytes() == b"a\n\\udcff\n"
    assert names(old.parent) == ["file.txt"]


def test_text_is_there_as_soon_as_it_is_written(old: Path) -> None:
    with growing(old) as write:
        write("a")
        (partial,) = set(old.parent.iterdir()) - {old}
        assert partial.read_text() == "a"
        assert old.read_bytes() == b"old"


def test_nothing_written_replaces_nothing(old: Path) -> None:
    _grow(old)
    assert (names(old.parent), old.read_bytes()) == (["file.txt"], b"old")


def test_an_error_of_others_is_not_told_as_one_of_this_file(old: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _grow(old, error=FileNotFoundError())


@not_on_windows
def test_what_was_written_before_the_disk_was_full_is_kept(old: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with growing(old, "Rows are kept.") as write, pytest.raises(StorageError, match="are kept"):
            write("first\n")
            resource.setrlimit(resource.RLIMIT_FSIZE, (9, hard))  # amid the second
            write("second\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert old.read_bytes() == b"first\n"
    assert names(old.parent) == ["file.txt"]


def test_where_it_cannot_take_the_place_it_says_where_it_is(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "replace", refuses(errno.EROFS))
    with pytest.raises(StorageError, match="cannot be replaced") as told:
        _grow(old, "a")
    (partial,) = set(old.parent.iterdir()) - {old}
    assert str(partial) in str(told.value)
    assert (old.read_bytes(), partial.read_bytes()) == (b"old", b"a")


# Claiming a file


def test_a_file_of_others_is_left_alone(old: Path) -> None:
    with pytest.raises(StorageError) as told:
        claim_file(old, lambda path: path.read_bytes() != b"old", "is no list")
    assert str(told.value) == (
        f"{old} exists and is no list; it is left alone. Choose another name, or remove it."
    )
    claim_file(old, lambda path: path.read_bytes() == b"old", "is no list")
    assert (names(old.parent), old.read_bytes()) == (["file.txt"], b"old")


def test_folders_on_the_way_are_made_and_nothing_else(tmp_path: Path) -> None:
    claim_file(tmp_path / "new" / "folder" / "a", lambda _: False, "is mine")
    assert names(tmp_path) == ["new"]
    assert names(tmp_path / "new" / "folder") == []


def test_places_that_cannot_hold_a_file_are_told(old: Path) -> None:
    with pytest.raises(StorageError, match=r"is a folder\. Give the name of a file in it"):
        claim_file(old.parent, lambda _: True, "")
    with pytest.raises(StorageError, match=r"a cannot be written: .*file\.txt cannot be created: "):
        claim_file(old / "a", lambda _: True, "")
    with pytest.raises(StorageError, match="cannot be written"):
        claim_file(old.parent / ("a" * 256), lambda _: True, "")
    write_bytes(old.parent / ("ä" * 120), b"long")
    assert (old.parent / ("ä" * 120)).read_bytes() == b"long"


# Locking

HOLDS = """
import sys, time
from pathlib import Path
from makellos.storage import locked
with locked(Path(sys.argv[1]), "busy"):
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_a_lock_of_another_process_is_told_at_once(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "a.lock"
    with process(HOLDS, lock) as holder:
        began = time.monotonic()
        with (
            pytest.raises(StorageError, match=r"^Another works here"),
            locked(lock, "Another works here"),
        ):
            pass
        assert time.monotonic() - began < 5
        assert holder.stdin is not None
        holder.stdin.write("go\n")
        holder.stdin.flush()
        assert holder.wait(timeout=60) == 0
    with locked(lock, "busy"):
        pass
    assert names(lock.parent) == ["a.lock"]


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with process(HOLDS, lock) as holder:
        holder.kill()
        holder.wait()
    with locked(lock, "busy"):
        pass


def test_a_lock_is_held_against_the_own_process_too(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with locked(lock, "busy"), pytest.raises(StorageError, match="busy"), locked(lock, "busy"):
        pass
    with locked(lock, "busy"):
        pass


def test_a_lock_can_be_waited_for(tmp_path: Path) -> None:
    lock, told = tmp_path / "a.lock", list[float]()
    with process(HOLDS, lock) as holder:

        def tell(text: str) -> None:
            assert text == "waiting for it"
            told.append(time.monotonic())
            threading.Timer(0.5, holder.kill).start()

        with locked(lock, "waiting for it", wait=tell):
            assert time.monotonic() - told[0] >= 0.5
            with pytest.raises(StorageError, match="busy"), locked(lock, "busy"):
                pass
    with locked(lock, "waiting for it", wait=tell):
        assert len(told) == 1


@not_on_windows
def test_a_process_that_inherits_the_file_keeps_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with locked(lock, "busy") as stream:
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[stream.fileno()]
        )
    with child:
        with pytest.raises(StorageError, match="busy"), locked(lock, "busy"):
            pass
        child.kill()
    with locked(lock, "busy"):
        pass


def test_where_the_system_knows_no_locks_nothing_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filelock.lock_descriptor", refuses(errno.ENOLCK))
    with locked(tmp_path / "a.lock", "busy"):
        pass


def test_a_folder_that_cannot_be_made_is_told(old: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"Nothing can be written to .*file\.txt: .*\. Choose"),
        locked(old / "a.lock", "busy"),
    ):
        pass
