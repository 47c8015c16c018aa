"""Backup and restore: the whole station in one archive, whatever database it is kept in.

The archive is a ZIP with a copy of the tables in SQLite and every file under its hash. So a station
can also move from one kind of database to the other.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, delete, false, func, select
from sqlalchemy import text as sql

from makellos.errors import StorageError
from makellos.storage import claim_file, replacing, scratch_folder, storage_errors
from makellos.store.database import FILE, REVISION, Database
from makellos.store.pictures import Files, sync_folder
from makellos.store.tables import (
    audit_head,
    audit_log,
    inspections,
    metadata,
    models,
    people,
    sessions,
)

__all__ = ["BackUp", "read_archive", "write_archive"]

_ABOUT = "station.json"
_FORMAT = 1
_MEMBER = re.compile(r"(pictures|maps|models)/([0-9a-f]{64})")
_ROWS = 1000
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class BackUp:
    """Count what is in an archive; `missing` files were named by parts but not there."""

    parts: int
    files: int
    missing: int = 0


def write_archive(database: Database, kinds: dict[str, Files], path: Path, now: int) -> BackUp:
    """Write everything into an archive, as it stands at one moment, in one step.

    `kinds` are the folders of pictures, maps and models by these names. Raises `StorageError`.
    """
    claim_file(path, _is_back_up, "is no backup of a station")
    with storage_errors(f"{path} cannot be written"), scratch_folder() as folder:
        copy = folder / FILE
        _copy_out(database, copy)
        engine = _plain(copy)
        try:
            with engine.connect() as connection:
                n_parts = int(connection.scalar(select(func.count(inspections.c.id))) or 0)
                return _write(path, copy, connection, kinds, {"parts": n_parts, "time": now})
        finally:
            engine.dispose()


def _write(
    path: Path, copy: Path, connection: Connection, kinds: dict[str, Files], about: dict[str, Any]
) -> BackUp:
    n_files, missing = 0, 0
    with replacing(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        about = {"makellos station": _FORMAT, "tables": REVISION, **about}
        archive.writestr(_ABOUT, json.dumps(about))
        archive.write(copy, FILE)
        for kind, name in _names(connection):
            file = kinds[kind].find(name)
            if file is None:
                missing += 1
            else:
                archive.write(file, f"{kind}/{name}")
                n_files += 1
    return BackUp(parts=about["parts"], files=n_files, missing=missing)


def read_archive(
    path: Path, url: URL, folder: Path, kinds: dict[str, Files]
) -> tuple[Database, BackUp]:
    """Restore an archive where no station is yet; return the database that is open then.

    Everything is checked against its hash, and files come before the database, so that what a
    killed restore leaves is no station. Raises `StorageError`.
    """
    _refuse_station(url)
    with (
        storage_errors(f"{path} cannot be restored", "Check the file and the room on the disk."),
        _damage_told(path),
        _opened(path) as archive,
        scratch_folder() as scratch,
    ):
        about = _about(archive, path)
        n_files = _restore_files(archive, kinds, path)
        copy = scratch / FILE
        with archive.open(FILE) as source, copy.open("wb") as stream:
            shutil.copyfileobj(source, stream, _CHUNK)
        _check_copy(copy, path)
        database = _put_in_place(copy, url)
        sync_folder(folder)
    return database, BackUp(parts=int(about["parts"]), files=n_files)


def _copy_out(database: Database, copy: Path) -> None:
    """Copy all tables as they stand at one moment into a new database of SQLite."""
    if database.is_sqlite:
        pooled = database.engine.raw_connection()
        with closing(pooled), closing(sqlite3.connect(copy)) as target:
            source: Any = pooled.driver_connection
            try:
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE").close()
            except sqlite3.Error as error:
                raise OSError(str(error)) from error
        return
    engine = _plain(copy)
    try:
        with database.reading() as source_connection, engine.begin() as target_connection:
            metadata.create_all(target_connection)
            target_connection.execute(sql("CREATE TABLE alembic_version (version_num TEXT)"))
            target_connection.execute(
                sql("INSERT INTO alembic_version VALUES (:revision)"), {"revision": REVISION}
            )
            _copy_tables(source_connection, target_connection)
    finally:
        engine.dispose()


def _put_in_place(copy: Path, url: URL) -> Database:
    """Bring a copy of the tables up to date, and make it the database at an address."""
    old = Database(URL.create("sqlite", database=str(copy)))
    try:
        old.update()
        with old.writing() as connection:
            connection.execute(delete(sessions))  # nobody who was logged in then is now
        if url.get_backend_name() != "sqlite":
            return _fill(old, url)
    finally:
        old.close()
    with closing(sqlite3.connect(copy)) as whole:  # in one file, not in two
        whole.execute("PRAGMA journal_mode = DELETE").close()
    target = Path(url.database or "")
    target.parent.mkdir(parents=True, exist_ok=True)
    with copy.open("rb") as source, replacing(target) as stream:
        shutil.copyfileobj(source, stream, _CHUNK)
    sync_folder(target.parent)
    return Database(url)


def _fill(old: Database, url: URL) -> Database:
    """Copy all rows into the empty tables of another database."""
    database = Database(url)
    try:
        database.update()
        with old.reading() as source, database.writing() as target:
            target.execute(delete(audit_head))
            _copy_tables(source, target)
            for table in metadata.sorted_tables:
                if (counted := table.autoincrement_column) is not None:
                    sequence = func.pg_get_serial_sequence(table.name, counted.name)
                    next_one = select(func.coalesce(func.max(counted), 0) + 1).scalar_subquery()
                    target.execute(select(func.setval(sequence, next_one, false())))
    except BaseException:
        database.close()
        raise
    return database


def _copy_tables(source: Connection, target: Connection) -> None:
    for table in metadata.sorted_tables:
        rows = source.execution_options(yield_per=_ROWS).execute(select(table))
        for some in rows.partitions():
            target.execute(table.insert(), [dict(row._mapping) for row in some])


def _names(connection: Connection) -> Iterator[tuple[str, str]]:
    """Yield kind and hash of all files that the tables name."""
    columns = {"pictures": inspections.c.picture, "maps": inspections.c.map}
    for kind, column in columns.items():
        for name in connection.scalars(select(column).where(column.is_not(None)).distinct()):
            yield kind, name
    for name in connection.scalars(select(models.c.hash)):
        yield "models", name


def _restore_files(archive: zipfile.ZipFile, kinds: dict[str, Files], path: Path) -> int:
    n_files = 0
    folders = set()
    for member in archive.infolist():
        found = _MEMBER.fullmatch(member.filename)
        if found is None:
            continue
        files, name = kinds[found[1]], found[2]
        with archive.open(member) as source:
            if not files.put_stream(name, source):
                raise StorageError(
                    f"{path} is damaged: {member.filename} was altered. Use another backup."
                )
        folders.add(files.place(name).parent)
        n_files += 1
    for folder in folders:
        sync_folder(folder)
    return n_files


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise StorageError(f"{path} is damaged: {error}. Use another backup.") from error


def _is_back_up(path: Path) -> bool:
    if path.stat().st_size == 0:
        return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return _ABOUT in archive.namelist()


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise StorageError(
            f"{path} is not a backup of a station. Name one from 'makellos history backup'."
        ) from None


def _about(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        with archive.open(_ABOUT) as stream:
            about = json.loads(stream.read(_CHUNK))
        number, tables = about["makellos station"], about["tables"]
        archive.getinfo(FILE)
        int(about["parts"])
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile):
        raise StorageError(
            f"{path} is not a backup of a station. Name one from 'makellos history backup'."
        ) from None
    if number != _FORMAT:
        raise StorageError(
            f"{path} was written by a newer makellos (format {number}, tables {tables}). Update "
            "makellos."
        )
    return dict(about)


def _check_copy(copy: Path, path: Path) -> None:
    try:
        with closing(sqlite3.connect(copy)) as connection:
            said = connection.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.DatabaseError as error:
        said = str(error)
    if said != "ok":
        raise StorageError(f"{path} is damaged: {said}. Use another backup.")


def _refuse_station(url: URL) -> None:
    """Raise where there is a station already."""
    database = Database(url)
    try:
        if database.is_sqlite:
            is_there = Path(url.database or "").exists()
        else:
            database.update()
            with database.reading() as connection:
                tables = (inspections, people, models, audit_log)
                is_there = any(connection.execute(select(t).limit(1)).first() for t in tables)
    finally:
        database.close()
    if is_there:
        raise StorageError(
            f"There is already a station at {database.address}; it was left alone. Restore into "
            "another place."
        )


def _plain(path: Path) -> Engine:
    return create_engine(URL.create("sqlite", database=str(path)))
