"""The verbs about what a station keeps: history and users."""

from __future__ import annotations

import getpass
import json as json_text
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from makellos.cli.console import (
    Json,
    answer,
    bars,
    figure_text,
    say,
    shown_table,
    table,
    write_json,
)
from makellos.cli.station import PicturesFolder, StoreAddress, needing_station
from makellos.errors import ConfigurationError

if TYPE_CHECKING:
    from makellos.store import Filter, Store

_LISTED = 50
_PAGE = 1000
_MOST_PASSWORD_BYTES = 8192
EXIT_NOT_WHOLE = 1

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name to log in with.")]
Role = Annotated[
    str, typer.Option(metavar="ROLE", help="viewer, operator, engineer or administrator.")
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE|-",
        help="Read the password from the first line of a file; - for standard input. Without it "
        "you are asked.",
    ),
]

history_app = typer.Typer(
    epilog="Example: makellos history verify",
    invoke_without_command=True,
)
users_app = typer.Typer(
    help="Add people who may use a station, and change what they may do.",
    epilog="Example: makellos users add anna --role operator",
    no_args_is_help=True,
)


@dataclass(frozen=True)
class _Where:
    """Hold what was said of the store before the name of a verb."""

    store: str | None = None
    pictures: Path | None = None

    @contextmanager
    def opened(self, store: str | None, pictures: Path | None, *, new: bool) -> Iterator[Store]:
        """Give the store that is named here or there, a `new` one if need be."""
        opened = _stores().open(store or self.store, pictures=pictures or self.pictures, create=new)
        try:
            yield opened
        finally:
            opened.close()


def _stores() -> type[Store]:
    with needing_station():
        from makellos.store import Store
    return Store


def who() -> str:
    """Return who is at the command line, for the audit log."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (OSError, KeyError, ImportError):
        return "command line"


OfRecipe = Annotated[str | None, typer.Option(metavar="NAME", help="Only parts of this recipe.")]
Verdict = Annotated[
    str | None, typer.Option(metavar="VERDICT", help="ok, look_again, reject or unreadable.")
]
Word = Annotated[
    str | None,
    typer.Option(metavar="WORD", help="Decision: good, defective, any or none."),
]
Serial = Annotated[str | None, typer.Option(metavar="TEXT", help="Only this serial number.")]
Lot = Annotated[str | None, typer.Option(metavar="TEXT", help="Only parts of this lot.")]
Zone = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only parts with damage in this zone.")
]
Source = Annotated[
    str | None, typer.Option(metavar="NAME", help="Where parts came from, such as api or page.")
]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="From this time on, such as 2026-09-21T14:00Z."),
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help="Before this time; UTC unless it has a zone.")
]
Piece = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Text in file name, serial or lot; ignores case.")
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="At most N parts; without it 50 are listed, and files get all."
    ),
]
Csv = Annotated[Path | None, typer.Option(metavar="FILE|-", help="Write the rows as CSV.")]
Parquet = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the rows as Parquet.")]


@history_app.callback()
def history(
    context: typer.Context,
    recipe: OfRecipe = None,
    verdict: Verdict = None,
    review: Word = None,
    serial: Serial = None,
    lot: Lot = None,
    zone: Zone = None,
    source: Source = None,
    since: Since = None,
    until: Until = None,
    text: Piece = None,
    limit: Limit = None,
    csv: Csv = None,
    parquet: Parquet = None,
    store: StoreAddress = None,
    pictures: PicturesFolder = None,
    json: Json = None,
) -> None:
    """List, filter and export what a station inspected; check, back up and restore it.

    The newest part comes first. A row is that of 'makellos inspect', preceded by id, time, serial
    number, lot and review. Without options the last 50 parts are listed.
    """
    context.obj = _Where(store, pictures)
    if context.invoked_subcommand is not None:
        return
    _stores()  # says what is missing
    from makellos.store import Filter, microseconds
    from makellos.workflows.rows import check_row_files

    _check_words(verdict=verdict, review=review)
    wanted = Filter(
        recipe=recipe,
        verdict=verdict,
        serial=serial,
        lot=lot,
        zone=zone,
        source=source,
        since=None if since is None else microseconds(since),
        until=None if until is None else microseconds(until),
        text=text,
        decision=review if review in {"good", "defective"} else None,
        reviewed={"any": True, "none": False}.get(review or ""),
    )
    if str(csv) == "-" and str(json) == "-":
        raise ConfigurationError("--csv - and --json - cannot share standard output.")
    check_row_files([(csv, b"id,time,recipe,"), (parquet, b"PAR1")], parquet, "history")
    with context.obj.opened(None, None, new=False) as opened, bars() as progress:
        rows = _Rows(opened, wanted, limit)
        if csv is None and parquet is None and json is None:
            _list(rows)
            return
        n_rows = _export(rows, csv, parquet, json, progress)
    say(f"{n_rows:,} row{'' if n_rows == 1 else 's'}.", quietly="-" in {str(csv), str(json)})


@dataclass(frozen=True)
class _Rows:
    """Give the rows that a filter lets through, newest first, as often as they are asked for."""

    store: Store
    wanted: Filter
    limit: int | None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return islice(self._all(), self.limit)

    def _all(self) -> Iterator[dict[str, Any]]:
        before: int | None = None
        size = min(self.limit or _PAGE, _PAGE)
        while parts := self.store.history(self.wanted, before=before, limit=size):
            yield from (part.row() for part in parts)
            before = parts[-1].id


def _list(rows: _Rows) -> None:
    most = rows.limit or _LISTED
    listed = list(islice(iter(rows), most + 1))
    if not listed:
        say(
            "No part matches."
            if any(asdict(rows.wanted).values())
            else "No part has been inspected yet."
        )
        return
    cells = [
        [
            str(row["id"]),
            row["time"][:19].replace("T", " "),
            row["verdict"],
            figure_text(row["score"]),
            *(row[name] or "-" for name in ("review", "recipe", "serial", "lot")),
            row["input"],
        ]
        for row in listed[:most]
    ]
    header = ["id", "time (UTC)", "verdict", "score", "review", "recipe", "serial", "lot", "input"]
    say(shown_table(header, cells, always=3), vital=True)
    if len(listed) > most and rows.limit is None:
        say(f"\nThe newest {most}. There are more: add --limit N, or --csv FILE for all.")


def _export(
    rows: _Rows, csv: Path | None, parquet: Path | None, json: Path | None, progress: Any
) -> int:
    """Write rows as they are asked for, one by one, and return how many there are."""
    from makellos.workflows.rows import COLUMNS, csv_writer, parquet_writer

    columns: dict[str, None] = {}
    kept = []
    n_rows = 0
    for row in rows:
        columns |= dict.fromkeys(row)
        n_rows += 1
        if json is not None:
            kept.append(row)
        progress("reading", n_rows, None)
    if json is not None:
        write_json(json, kept)
    known = (*HISTORY_COLUMNS, *COLUMNS)
    names = (*known, *(name for name in columns if name not in known))
    for path, writer in ((csv, csv_writer), (parquet, parquet_writer)):
        if path is not None:
            with writer(path, names) as write:
                for row in kept or islice(iter(rows), n_rows):
                    fields = json_text.dumps(row["fields"])
                    write({name: row.get(name) for name in names} | {"fields": fields})
    return n_rows


HISTORY_COLUMNS = (
    *("id", "time", "recipe", "recipe_version", "serial", "lot", "source", "review", "fields"),
)


def _entries(n: int) -> str:
    return f"{n:,} {'entry' if n == 1 else 'entries'}"


def _check_words(**given: str | None) -> None:
    from makellos.errors import suggest

    known = {
        "verdict": ("ok", "look_again", "reject", "unreadable"),
        "review": ("good", "defective", "any", "none"),
    }
    for name, word in given.items():
        if word is not None and word not in known[name]:
            raise ConfigurationError(
                f"--{name} {word!r} is not known. {suggest(word, known[name])}"
            )


@history_app.command("verify", short_help="Check that the audit log is intact.")
def verify(
    context: typer.Context,
    store: StoreAddress = None,
    pictures: PicturesFolder = None,
    json: Json = None,
) -> None:
    """Check that the audit log is intact: nothing removed, altered or moved.

    Exits with 1 if it is not. The last hash proves later what the log was until now: write it down
    where nobody can change it.

    Example: makellos history verify --store station
    """
    with context.obj.opened(store, pictures, new=False) as opened:
        found = opened.audit.verify()
    if found.whole:
        text = f"The audit log is intact: {_entries(found.n_entries)}.\nLast hash: {found.head}"
    else:
        text = (
            f"The audit log is not intact: {found.reason}. "
            f"Intact before that: {_entries(found.n_entries)}."
        )
    answer(text, json, {"whole": found.whole, **asdict(found)})
    if not found.whole:
        raise typer.Exit(EXIT_NOT_WHOLE)


@history_app.command("backup", short_help="Write a whole station into one file.")
def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Archive to write, such as s.zip.")],
    store: StoreAddress = None,
    pictures: PicturesFolder = None,
    json: Json = None,
) -> None:
    """Write a whole station into one file, as it stands at one moment, even while it runs.

    The file holds pictures, people and the hashes of their passwords: keep it safe.

    Example: makellos history backup station.zip --store station
    """
    with context.obj.opened(store, pictures, new=False) as opened, bars() as progress:
        progress("backing up", 0, None)
        done = opened.back_up(file, person=who())
    text = f"{file}: {done.parts:,} parts, {done.files:,} files."
    if done.missing:
        text += f"\n{done.missing:,} pictures or maps were already gone."
    answer(text, json, asdict(done))


@history_app.command("restore", short_help="Restore a station from a backup.")
def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Archive from 'history backup'.")],
    store: StoreAddress = None,
    pictures: PicturesFolder = None,
    json: Json = None,
) -> None:
    """Restore a backup to a place where there is no station yet.

    The database may be of another kind than before. Everybody has to log in again.

    Example: makellos history restore station.zip --store restored
    """
    where: _Where = context.obj
    with bars() as progress:
        progress("restoring", 0, None)
        done = _stores().restore(
            file, store or where.store, pictures=pictures or where.pictures, person=who()
        )
    text = f"Restored {done.parts:,} parts and {done.files:,} files."
    answer(text, json, asdict(done))


@users_app.command("add", short_help="Add a person.")
def add(
    name: Name,
    role: Role,
    language: Annotated[str, typer.Option(metavar="en|de", help="Language of the pages.")] = "en",
    password_file: PasswordFile = None,
    store: StoreAddress = None,
    pictures: PicturesFolder = None,
) -> None:
    """Add a person who may use a station, and make the station where there is none yet.

    A viewer sees everything but people; an operator also inspects and reviews; an engineer also
    changes recipes, models and budgets; an administrator also people and tokens.

    Example: makellos users add anna --role operator --store station
    """
    if language not in {"en", "de"}:
        raise ConfigurationError(f"--language takes en or de; received {language!r}.")
    with _Where().opened(store, pictures, new=True) as opened:
        opened.people.check_new(name, role)
        password = _password(name, password_file)
        opened.people.add(name, password, role, by=who(), language=language)
    say(f"{name} may log in as {role}.")


@users_app.command("list", short_help="List people.")
def list_people(
    store: StoreAddress = None, pictures: PicturesFolder = None, json: Json = None
) -> None:
    """List the people of a station.

    Example: makellos users list --store station
    """
    with _Where().opened(store, pictures, new=False) as opened:
        everybody = opened.people.list()
    cells = [
        [each.name, each.role, each.language, "disabled" if each.disabled else ""]
        for each in everybody
    ]
    text = table(["name", "role", "language", ""], cells) if cells else "No people yet."
    answer(text, json, [asdict(each) for each in everybody])


@users_app.command("role", short_help="Give a person another role.")
def role_of(
    name: Name,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="viewer, operator, engineer or …")],
    store: StoreAddress = None,
    pictures: PicturesFolder = None,
) -> None:
    """Give a person another role: viewer, operator, engineer or administrator.

    Example: makellos users role anna engineer --store station
    """
    with _Where().opened(store, pictures, new=False) as opened:
        opened.people.set_role(name, role, by=who())
    say(f"{name} is {role} now.")


@users_app.command("disable", short_help="Shut a person out, or let them in again.")
def disable(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Let the person in again.")] = False,
    store: StoreAddress = None,
    pictures: PicturesFolder = None,
) -> None:
    """Shut a person out and end their sessions; what they did stays on record.

    Example: makellos users disable anna --store station
    """
    with _Where().opened(store, pictures, new=False) as opened:
        opened.people.disable(name, by=who(), disabled=not undo)
    say(f"{name} may log in again." if undo else f"{name} may no longer log in.")


@users_app.command("password", short_help="Give a person another password.")
def password(
    name: Name,
    password_file: PasswordFile = None,
    store: StoreAddress = None,
    pictures: PicturesFolder = None,
) -> None:
    """Give a person another password and end their sessions.

    Example: makellos users password anna --store station
    """
    with _Where().opened(store, pictures, new=False) as opened:
        opened.people.get(name)
        opened.people.set_password(name, _password(name, password_file), by=who())
    say(f"{name} has a new password.")


def _password(name: str, file: Path | None) -> str:
    """Return a password from a file, from standard input, or from who sits there."""
    if file is None:
        if not sys.stdin.isatty():
            raise ConfigurationError(
                "There is no terminal to ask for a password. Add --password-file FILE, or - for "
                "standard input."
            )
        first = getpass.getpass(f"Password for {name}: ")
        if getpass.getpass("Repeat the password: ") != first:
            raise ConfigurationError("The two passwords differ. Try again.")
        return first
    if str(file) == "-":
        line = sys.stdin.buffer.readline(_MOST_PASSWORD_BYTES)
    else:
        with file.open("rb") as stream:
            line = stream.readline(_MOST_PASSWORD_BYTES)
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigurationError("The password is not UTF-8 text.") from None
