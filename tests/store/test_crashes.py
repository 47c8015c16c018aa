"""Processes that are killed and disks that are full lose nothing that was answered."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from makellos.errors import StorageError
from makellos.store import NewInspection, Store
from makellos.store.pictures import Files

RECORDER = Path(__file__).with_name("recorder.py")
Make = Callable[..., NewInspection]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is killed so there")


def started(place: dict[str, Any], *more: str) -> subprocess.Popen[str]:
    folder = str(place.get("pictures", place["address"]))
    command = [sys.executable, str(RECORDER), str(place["address"]), folder, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines_until_killed(process: subprocess.Popen[str], seconds: float) -> list[str]:
    """Return what a process says until it is killed, that long after its first line."""
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    # A line that was cut is one that nobody got.
    return [line.strip() for line in (first, *process.stdout) if line.endswith("\n")]


def check(store: Store, answered: list[str]) -> None:
    """Assert that every answered part is there once, and every picture that a part names."""
    stored = {part.id: part for part in store.history(limit=100_000)}
    for line in answered:
        name, _, number = line.split("|")
        assert stored[int(number)].input == name
    for part in stored.values():
        for named, found in ((part.picture, store.picture(part.picture)), (part.map, None)):
            if named is not None and found is not None:
                assert hashlib.sha256(found.read_bytes()).hexdigest() == named
        assert part.picture is None or store.picture(part.picture) is not None
        assert part.map is None or store.map(part.map) is not None
    assert store.audit.verify().whole


def test_killed_processes_lose_nothing(opened: Callable[..., Store], place: dict[str, Any]) -> None:
    opened()  # the tables
    answered: list[str] = []
    chance = random.Random(0)
    for _ in range(4):
        with started(place) as process:
            answered += lines_until_killed(process, chance.uniform(0, 0.15))
        check(opened(), answered)
    assert len(answered) > 8
    store = opened()
    keys = {key: int(number) for _, key, number in (line.split("|") for line in answered) if key}
    assert store.known(keys) == keys
    if store.address.startswith("sqlite"):
        with store._database.reading() as connection:
            assert connection.scalar(text("PRAGMA integrity_check")) == "ok"


def test_forgetting_meanwhile_takes_no_picture_that_a_part_names(
    opened: Callable[..., Store], place: dict[str, Any]
) -> None:
    opened()
    answered: list[str] = []
    for _ in range(2):
        with started(place, "forget") as forgetting, started(place) as recording:
            assert lines_until_killed(forgetting, 0.2)
            answered += lines_until_killed(recording, 0)
        check(opened(), answered)
    actions = {entry.action for entry in opened().audit.entries()}
    assert actions == {"pictures_removed"}


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from recorder import part
from dataclasses import replace
from makellos.errors import StorageError
from makellos.store import Store
store = Store.open(sys.argv[1], pictures=Path(sys.argv[2]))
most = int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
n = 0
for i in range(400):
    try:
        store.record([replace(part(4 * i + j), picture=b"%d" % i * 2000) for j in range(4)])
        n += 4
    except StorageError as error:
        print("told:", error)
        break
else:
    sys.exit("nothing was full")
assert store.newest() == n, (store.newest(), n)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print("again:", len(store.record([part(1000)])))
"""


# Small enough for no picture, and large enough for pictures but not for the database.
@pytest.mark.parametrize("most", [1000, 300_000])
def test_full_disk_is_told_leaves_nothing_and_is_got_over(tmp_path: Path, most: int) -> None:
    folder = tmp_path / "station"
    Store.open(folder).close()
    script = textwrap.dedent(FULL)
    words = [str(folder), str(folder), str(RECORDER.parent), str(most)]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout
    assert done.stdout.endswith("again: 1\n")
    store = Store.open(folder)
    check(store, [])
    named = {part.picture for part in store.history(limit=10_000)}
    assert set(Files(folder / "pictures").names()) == named
    store.close()


def test_error_on_the_way_leaves_no_file(
    store: Store, part: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Files.put

    def full(self: Files, name: str, data: bytes) -> bool:
        if b"2" in data:
            raise StorageError("no room")
        return put(self, name, data)

    monkeypatch.setattr(Files, "put", full)
    with pytest.raises(StorageError, match="no room"):
        store.record([part(1), part(2), part(3)])
    assert store.newest() == 0
    assert not list(Files(store.folder / "pictures").names())
    assert not list(Files(store.folder / "maps").names())
    monkeypatch.undo()
    assert len(store.record([part(1), part(2)])) == 2


def test_several_threads_record_at_once(store: Store, part: Make) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def record(number: int) -> int:
        return store.record([part(number % 5, key=f"key {number % 20}")])[0]

    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(record, range(60)))
    assert len(set(numbers)) == 20
    assert len(store.history(limit=100)) == 20
    check(store, [])


def test_back_up_of_a_station_at_work_is_whole(
    opened: Callable[..., Store], place: dict[str, Any], tmp_path: Path
) -> None:
    store = opened()
    with started(place) as recording:
        assert recording.stdout is not None
        before = [recording.stdout.readline().strip() for _ in range(30)]
        done = store.back_up(tmp_path / "station.zip", person="eva")
        lines_until_killed(recording, 0)
    assert done.missing == 0
    Store.restore(tmp_path / "station.zip", tmp_path / "restored", person="eva")
    restored = Store.open(tmp_path / "restored")
    check(restored, before)
    assert len(restored.history(limit=100_000)) == done.parts >= 30
    restored.close()


def test_several_may_open_a_new_store_at_once(place: dict[str, Any]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(6) as threads:
        stores = list(threads.map(lambda _: Store.open(**place), range(6)))
    assert all(store.newest() == 0 for store in stores)
    for store in stores:
        store.close()


@pytest.mark.skipif(find_spec("psycopg") is None, reason="psycopg is not installed")
def test_database_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    address = "postgresql://eva:secret@127.0.0.1:1/station"
    with pytest.raises(StorageError, match=r"station cannot be read: ") as told:
        Store.open(address, pictures=tmp_path)
    assert "secret" not in str(told.value)


def test_lost_connections_are_made_anew(
    opened: Callable[..., Store], part: Make, place: dict[str, Any]
) -> None:
    if "pictures" not in place:
        pytest.skip("SQLite has no connections to lose")
    import psycopg

    store = opened()
    store.record([part(1)])
    ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()"
    with psycopg.connect(place["address"], autocommit=True) as connection:
        connection.execute(f"{ends} AND datname = current_database()")
    assert len(store.record([part(2)])) == 1
    assert len(store.history()) == 2
