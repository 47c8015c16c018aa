"""A log that somebody changed is found out, and where."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from makellos.store import Store
from makellos.store.audit_log import HEAD_FILE

N = 6


@pytest.fixture
def logged(store: Store) -> Store:
    for i in range(N):
        store.audit.log("anna", "tested", f"thing {i}", {"i": i, "text": "\x00\udc80"})
    return store


def change(store: Store, *statements: str) -> None:
    with store._database.writing() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_untouched_log_is_whole(logged: Store) -> None:
    found = logged.audit.verify()
    assert (found.whole, found.n_entries, found.reason) == (True, N, "")
    assert found.head == logged.audit.entries()[0].hash
    assert [entry.number for entry in logged.audit.entries(before=4, limit=2)] == [3, 2]
    assert logged.audit.entries()[0].details == {"i": N - 1, "text": "\x00\udc80"}


def test_empty_log_is_whole(store: Store) -> None:
    assert store.audit.verify().whole


@pytest.mark.parametrize("column", ["person", "action", "subject", "details", "previous", "hash"])
def test_altered_text_is_found(logged: Store, column: str) -> None:
    change(logged, f"UPDATE audit_log SET {column} = 'x' WHERE number = 3")
    assert logged.audit.verify().fault == 3


def test_altered_time_is_found(logged: Store) -> None:
    change(logged, "UPDATE audit_log SET time = time + 1 WHERE number = 3")
    found = logged.audit.verify()
    assert (found.fault, found.reason) == (3, "entry 3 was altered")


@pytest.mark.parametrize("number", [1, 3])
def test_removed_entry_is_found(logged: Store, number: int) -> None:
    change(logged, f"DELETE FROM audit_log WHERE number = {number}")
    found = logged.audit.verify()
    assert (found.fault, found.reason) == (number, f"entry {number} is missing")


def test_gap_that_was_closed_is_found(logged: Store) -> None:
    change(
        logged,
        "DELETE FROM audit_log WHERE number = 3",
        *(f"UPDATE audit_log SET number = {i - 1} WHERE number = {i}" for i in range(4, N + 1)),
    )
    assert logged.audit.verify().fault == 3


def test_swapped_entries_are_found(logged: Store) -> None:
    change(
        logged,
        "UPDATE audit_log SET number = 99 WHERE number = 2",
        "UPDATE audit_log SET number = 2 WHERE number = 3",
        "UPDATE audit_log SET number = 3 WHERE number = 99",
    )
    assert logged.audit.verify().fault == 2


def test_added_entry_is_found(logged: Store) -> None:
    change(
        logged,
        "INSERT INTO audit_log SELECT 7, time, person, action, subject, details, hash, 'x' "
        "FROM audit_log WHERE number = 6",
    )
    assert logged.audit.verify().fault == 7


def test_end_that_was_cut_off_is_found(logged: Store) -> None:
    change(logged, "DELETE FROM audit_log WHERE number > 4")
    found = logged.audit.verify()
    assert (found.fault, found.reason) == (5, "2 of the last entries are missing")


def test_end_that_was_cut_off_in_both_tables_is_found(logged: Store) -> None:
    change(
        logged,
        "DELETE FROM audit_log WHERE number > 4",
        "UPDATE audit_head SET number = 4, hash = (SELECT hash FROM audit_log WHERE number = 4)",
    )
    assert logged.audit.verify().fault == 5


def test_log_that_was_written_anew_is_found(
    logged: Store, opened: Callable[..., Store], clock: Callable[[], int]
) -> None:
    change(
        logged,
        "DELETE FROM audit_log",
        f"UPDATE audit_head SET number = 0, hash = '{'0' * 64}'",
    )
    noted = (logged.folder / HEAD_FILE).read_bytes()
    for i in range(N + 1):
        logged.audit.log("mallory", "tested", f"thing {i}")
    (logged.folder / HEAD_FILE).write_bytes(noted)
    found = logged.audit.verify()
    assert (found.fault, found.reason) == (N, "the log was written anew")


def test_lost_file_of_the_end_is_no_fault(logged: Store) -> None:
    (logged.folder / HEAD_FILE).unlink()
    assert logged.audit.verify().whole
