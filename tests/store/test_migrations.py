"""The tables that migrations make are those of the code, and newer ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from makellos.errors import ConfigurationError, StorageError
from makellos.store import Store, database
from makellos.store.tables import metadata


def test_migrations_make_the_tables_of_the_code(store: Store) -> None:
    with store._database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_newest_migration_is_the_one_that_the_code_wants() -> None:
    folder = Path(database.__file__).with_name("migrations")
    assert ScriptDirectory(str(folder)).get_heads() == [database.REVISION]


def test_newer_store_is_refused_and_left_alone(opened: Callable[..., Store]) -> None:
    store = opened()
    with store._database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match=r"newer makellos .*9999.*Update makellos"):
        opened()


def test_foreign_database_is_refused(tmp_path: Path, opened: Callable[..., Store]) -> None:
    store = opened()
    with store._database.writing() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    with pytest.raises(StorageError, match="tables of another program"):
        opened()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("mysql://host/name", "Stores at mysql://"),
        ("nonsense://", "Stores at nonsense://"),
        ("postgresql://host:port/name", "Stores at postgresql://"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("postgresql://host/name", "--pictures"),
    ],
)
def test_address_that_is_none_is_refused(address: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Store.open(address)


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "station.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match="not a database"):
        Store.open(tmp_path)
    with pytest.raises(ConfigurationError, match="is a file"):
        Store.open(tmp_path / "station.db")
