"""The database: SQLite or PostgreSQL, its transactions, and bringing its tables up to date."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from platformdirs import user_data_dir
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy import text as sql
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from makellos.errors import ConfigurationError, MissingRuntimeError, StorageError, adding
from makellos.storage import storage_errors

__all__ = ["REVISION", "Database", "check_is_there", "collided", "default_folder", "place_of"]

REVISION = "0002"  # of the tables; a test compares it with the newest migration
FILE = "station.db"
_MIGRATIONS = Path(__file__).with_name("migrations")
_WRITES = "makellos_writes"  # the option of a transaction that writes
_BUSY_SECONDS = 30
_CACHE_KIB = 4_000  # of a connection; more answered nothing sooner among 200,000 parts
_LOOKED_AT = 1000  # rows of each index
_UPDATE_LOCK, _FILES_LOCK = 0x6D616B31, 0x6D616B32  # advisory locks on PostgreSQL
_AGAIN = {"40001", "40P01", "23505"}  # what PostgreSQL calls collisions of two that write at once


def default_folder() -> Path:
    """Return the folder of the station of this user."""
    return Path(user_data_dir("makellos", appauthor=False), "station")


def place_of(address: str | Path | None, pictures: Path | None) -> tuple[URL, Path]:
    """Return the address of a database and the folder of its files, from what a user gives.

    That is a folder, an address that begins with ``sqlite:///`` or ``postgresql://``, or None for
    the station of this user. Raises `ConfigurationError`.
    """
    if isinstance(address, Path) or address is None or "://" not in address:
        folder = Path(address) if address else default_folder()
        if folder.is_file():
            raise ConfigurationError(
                f"{folder} is a file; --store takes the folder of a station, or an address such as "
                f"sqlite:///{folder}."
            )
        url = URL.create("sqlite", database=str(folder.absolute() / FILE))
        return url, (pictures or folder).absolute()
    url = _url_of(address)
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise ConfigurationError(
                "The address of the store names no file. Write it like sqlite:///folder/station.db."
            )
        return url, (pictures or Path(url.database).parent).absolute()
    if pictures is None:
        raise ConfigurationError(
            "A station on PostgreSQL needs a folder for pictures and models: add --pictures DIR."
        )
    return url.set(drivername="postgresql+psycopg"), pictures.absolute()


def check_is_there(url: URL) -> None:
    """Raise `ConfigurationError` where a file of SQLite would be made anew."""
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise ConfigurationError(
            f"There is no station at {url.database}. Name its folder with --store; 'makellos "
            "serve' makes one."
        )


def _url_of(address: str) -> URL:
    try:
        url = make_url(address)
        backend = url.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        backend = ""
    if backend not in {"sqlite", "postgresql"}:
        kind = address.partition("://")[0]
        raise ConfigurationError(
            f"Stores at {kind}:// are not supported. Name a folder, or an "
            "address like sqlite:///folder/station.db or postgresql://user@host/name."
        )
    return url


class Database:
    """Hold the connections to one database, and read and write in transactions.

    Several threads and processes may use one at once. What a writing transaction did is on the disk
    when its context ends, or not done at all.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.address = url.render_as_string(hide_password=True)
        self._turn = threading.Lock()  # waiting in line is fairer than asking SQLite again
        if self.is_sqlite and url.database:
            folder = Path(url.database).parent
            with storage_errors(f"{folder} cannot be created"):
                folder.mkdir(parents=True, exist_ok=True)
        self.engine = self._engine()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database; raises `StorageError`."""
        told = self._errors("read", "Check that it is there and may be read")
        with told, self.engine.connect() as connection:
            if not self.is_sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection whose changes all last when the context ends, or else none does.

        Raises `StorageError`.
        """
        line = self._turn if self.is_sqlite else nullcontext()
        told = self._errors("written", "Make room there, or check that it may be written")
        with line, told, self.engine.connect() as connection:
            connection.execution_options(**{_WRITES: True})
            with connection.begin():
                yield connection

    def hold_files(self, connection: Connection, *, alone: bool = False) -> None:
        """Keep files of pictures from being removed until the transaction ends.

        One that removes files holds them `alone`. On SQLite those that write are alone anyway.
        """
        if not self.is_sqlite:
            shared = "" if alone else "_shared"
            connection.execute(sql(f"SELECT pg_advisory_xact_lock{shared}({_FILES_LOCK})"))

    def update(self) -> None:
        """Bring the tables up to date; raise `StorageError` where a newer program made them."""
        with self.reading() as connection:
            if self._revision(connection) == REVISION:
                return
        with self.writing() as connection:
            if not self.is_sqlite:
                connection.execute(sql(f"SELECT pg_advisory_xact_lock({_UPDATE_LOCK})"))
            revision = self._revision(connection)
            if revision != REVISION:
                self._migrate(connection, revision)

    def learn_sizes(self) -> None:
        """Let SQLite look which filter lets how many parts through; PostgreSQL does so by itself.

        It takes a tenth of a second. Where it cannot be done now, it is left.
        """
        if self.is_sqlite:
            with suppress(StorageError), self.writing() as connection:
                connection.exec_driver_sql(f"PRAGMA analysis_limit = {_LOOKED_AT}")
                connection.exec_driver_sql("ANALYZE")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _revision(self, connection: Connection) -> str | None:
        tables = inspect(connection).get_table_names()
        if "alembic_version" in tables:
            return str(connection.scalar(sql("SELECT version_num FROM alembic_version")))
        if tables and "inspections" in tables:
            raise StorageError(
                f"{self.address} has tables of another program, or their version is lost. Choose "
                "another place."
            )
        return None

    def _migrate(self, connection: Connection, revision: str | None) -> None:
        known = {path.name[1:5] for path in (_MIGRATIONS / "versions").glob("r*.py")}
        if revision is not None and revision not in known:
            raise StorageError(
                f"{self.address} was written by a newer makellos (its tables are {revision}, this "
                f"one knows up to {REVISION}). Update makellos, or choose another store."
            )
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    @contextmanager
    def _errors(self, done: str, advice: str) -> Iterator[None]:
        try:
            yield
        except PoolTimeoutError as error:
            raise StorageError(
                f"The store {self.address} is too busy: no connection became free. Try again."
            ) from error
        except DBAPIError as error:
            reason = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
            raise StorageError(
                f"The store {self.address} cannot be {done}: {reason[0]}. {advice}."
            ) from error

    def _engine(self) -> Engine:
        if self.is_sqlite:
            options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_SECONDS}}
        else:
            # Prepared statements would be planned without a look at what is asked for.
            connect = {"connect_timeout": _BUSY_SECONDS, "prepare_threshold": None}
            options = {"pool_pre_ping": True, "connect_args": connect}
        try:
            engine = create_engine(self.url, pool_size=10, max_overflow=40, **options)
        except ImportError:
            raise MissingRuntimeError(
                f"A store on PostgreSQL needs psycopg: {adding('postgresql')}."
            ) from None
        if self.is_sqlite:
            event.listen(engine, "connect", _prepare)
            event.listen(engine, "begin", _begin)
        return engine


def collided(error: StorageError) -> bool:
    """Tell whether two that wrote at once met, so that a second try is right."""
    cause = error.__cause__
    original = cause.orig if isinstance(cause, DBAPIError) else None
    return getattr(original, "sqlstate", None) in _AGAIN


def _prepare(connection: Any, _record: object) -> None:
    """Set up a connection of SQLite: transactions are begun by `_begin` and not by the driver."""
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"cache_size = -{_CACHE_KIB}",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
