"""People, their sessions, and the tokens of machines."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Row, delete, false, select, update

from makellos.errors import InputError, legible, suggest
from makellos.store.audit_log import AuditLog
from makellos.store.database import Database
from makellos.store.records import NotFoundError
from makellos.store.tables import people, sessions, tokens
from makellos.store.times import Clock

__all__ = [
    "LONGEST_NAME",
    "LONGEST_PASSWORD",
    "ROLES",
    "SHORTEST_PASSWORD",
    "NewSession",
    "People",
    "Person",
    "Session",
    "Token",
    "allows",
]

ROLES = ("viewer", "operator", "engineer", "administrator")
SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 1024
LONGEST_NAME = 64
SESSION_SECONDS = 12 * 3600
_TOKEN_MARK = "makellos_"  # noqa: S105 -- what tokens begin with, so that a leaked one is known
_SECOND = 1_000_000
_PROGRAMS = {"local", "serve", "command line"}  # what acts without a login
_USE_NOTED_EVERY = 60 * _SECOND


@dataclass(frozen=True, kw_only=True)
class Person:
    """Hold who somebody is and what they may do."""

    name: str
    role: str
    language: str = "en"
    disabled: bool = False


@dataclass(frozen=True, kw_only=True)
class NewSession:
    """Hold what a browser gets: the secret of its cookie, the token of its forms, the end in µs."""

    token: str
    csrf: str
    expires: int


@dataclass(frozen=True, kw_only=True)
class Session:
    """Hold a session that lasts."""

    person: Person
    csrf: str
    expires: int


@dataclass(frozen=True, kw_only=True)
class Token:
    """Hold what is known of a machine's token; the secret itself was shown once.

    It is `disabled` as long as the person is who made it.
    """

    name: str
    role: str
    by: str
    time: int
    last_used: int | None
    revoked: bool
    disabled: bool


_Tokens = list[Token]


_TOKENS = select(tokens, people.c.disabled).outerjoin(people, people.c.name == tokens.c.person)


def allows(role: str, needed: str) -> bool:
    """Tell whether a role may do what another is needed for.

    >>> allows("engineer", "operator"), allows("viewer", "operator")
    (True, False)
    """
    return ROLES.index(role) >= ROLES.index(needed)


class People:
    """Add people, check who they are, and keep their sessions and tokens.

    Passwords are kept as argon2id hashes, secrets of sessions and tokens as SHA-256. `by` is who
    makes a change, for the audit log.
    """

    def __init__(
        self, database: Database, audit: AuditLog, clock: Clock, hasher: PasswordHasher
    ) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._hasher = hasher
        self._nobody: str | None = None  # a hash to check against where nobody has a name

    def add(self, name: str, password: str, role: str, *, by: str, language: str = "en") -> Person:
        """Add a person; raises `InputError` for a name that is taken or a weak password."""
        self.check_new(name, role)
        hashed = self._hashed(name, password)
        with self._audit.recorded(by, "person_added", name, {"role": role}) as connection:
            _check_free(connection, name)
            values = {"name": name, "password_hash": hashed, "role": role, "language": language}
            connection.execute(people.insert().values(values))
        return Person(name=name, role=role, language=language)

    def check_new(self, name: str, role: str) -> None:
        """Raise `InputError` for a name that nobody new can have, or a role that is none."""
        _check_name(name)
        if name.casefold() in _PROGRAMS or name.casefold().startswith("token "):
            raise InputError(
                f"The name {name!r} has another meaning in the audit log. Choose another."
            )
        _check_role(role)
        with self._database.reading() as connection:
            _check_free(connection, name)

    def list(self) -> list[Person]:
        """Return everybody, by name."""
        with self._database.reading() as connection:
            rows = connection.execute(select(people).order_by(people.c.name)).all()
        return [_person(row) for row in rows]

    def get(self, name: str) -> Person:
        """Return one person; raises `NotFoundError`."""
        with self._database.reading() as connection:
            row = connection.execute(select(people).where(people.c.name == name)).first()
        if row is None:
            raise self._unknown(name)
        return _person(row)

    def any(self) -> bool:
        """Tell whether there is anybody, disabled or not."""
        with self._database.reading() as connection:
            return connection.scalar(select(people.c.name).limit(1)) is not None

    def check_password(self, name: str, password: str) -> Person | None:
        """Return who has this name and password; None for nobody, and for who is disabled.

        It is slow on purpose, and as slow where nobody has the name.
        """
        with self._database.reading() as connection:
            row = connection.execute(select(people).where(people.c.name == name)).first()
        right = self._fits(None if row is None else row.password_hash, password)
        if row is None or not right or row.disabled:
            return None
        if self._hasher.check_needs_rehash(row.password_hash):
            hashed = self._hasher.hash(_encoded(password))
            with self._database.writing() as connection:
                of_person = (people.c.name == name, people.c.password_hash == row.password_hash)
                change = update(people).where(*of_person)
                connection.execute(change.values(password_hash=hashed))
        return _person(row)

    def set_role(self, name: str, role: str, *, by: str) -> None:
        """Give a person another role; the last administrator keeps theirs."""
        _check_role(role)
        with self._audit.recorded(by, "person_role", name, {"role": role}) as connection:
            self._change_of_rights(connection, name, {"role": role})

    def set_password(self, name: str, password: str, *, by: str) -> None:
        """Give a person another password, and end their sessions."""
        hashed = self._hashed(name, password)
        with self._audit.recorded(by, "person_password", name, {}) as connection:
            self._change(connection, name, {"password_hash": hashed})
            connection.execute(delete(sessions).where(sessions.c.person == name))

    def disable(self, name: str, *, by: str, disabled: bool = True) -> None:
        """Shut a person out and end their sessions, or let them in again."""
        action = "person_disabled" if disabled else "person_enabled"
        with self._audit.recorded(by, action, name, {}) as connection:
            self._change_of_rights(connection, name, {"disabled": disabled})
            if disabled:
                connection.execute(delete(sessions).where(sessions.c.person == name))

    def set_language(self, name: str, language: str) -> None:
        """Keep the language that a person reads."""
        with self._database.writing() as connection:
            self._change(connection, name, {"language": language})

    def begin_session(self, name: str, *, seconds: int = SESSION_SECONDS) -> NewSession:
        """Begin a session of a person; its token is given here alone."""
        token, now = secrets.token_urlsafe(32), self._clock()
        session = NewSession(
            token=token, csrf=secrets.token_urlsafe(32), expires=now + seconds * _SECOND
        )
        values = {"token_hash": _hash(token), "person": name, "expires": session.expires}
        with self._database.writing() as connection:
            if connection.scalar(select(people.c.name).where(people.c.name == name)) is None:
                raise self._unknown(name)
            connection.execute(delete(sessions).where(sessions.c.expires <= now))
            connection.execute(sessions.insert().values(csrf=session.csrf, **values))
        return session

    def session(self, token: str) -> Session | None:
        """Return the session that has this token; None for one that ended."""
        wanted = (
            select(sessions, people)
            .join(people, people.c.name == sessions.c.person)
            .where(sessions.c.token_hash == _hash(token))
        )
        with self._database.reading() as connection:
            row = connection.execute(wanted).first()
        if row is None or not hmac.compare_digest(row.token_hash, _hash(token)):
            return None
        if row.disabled or row.expires <= self._clock():
            return None
        return Session(person=_person(row), csrf=row.csrf, expires=row.expires)

    def end_session(self, token: str) -> None:
        """End a session."""
        with self._database.writing() as connection:
            connection.execute(delete(sessions).where(sessions.c.token_hash == _hash(token)))

    def add_token(self, name: str, role: str, *, by: str) -> str:
        """Make a token for a machine and return its secret, which is shown here alone."""
        _check_name(name)
        _check_role(role)
        secret = _TOKEN_MARK + secrets.token_urlsafe(32)
        values = {"name": name, "token_hash": _hash(secret), "role": role, "person": by}
        with self._audit.recorded(by, "token_added", name, {"role": role}) as connection:
            if connection.scalar(select(tokens.c.name).where(tokens.c.name == name)) is not None:
                raise InputError(f"There is or was a token {name!r}. Choose another name.")
            connection.execute(tokens.insert().values(time=self._clock(), **values))
        return secret

    def token(self, secret: str) -> Token | None:
        """Return the token that has this secret.

        None for one that is unknown, revoked or of a person who is disabled.
        """
        hashed, now = _hash(secret), self._clock()
        with self._database.reading() as connection:
            row = connection.execute(_TOKENS.where(tokens.c.token_hash == hashed)).first()
        if row is None or not hmac.compare_digest(row.token_hash, hashed):
            return None
        if row.revoked or row.disabled:
            return None
        if row.last_used is None or now - row.last_used >= _USE_NOTED_EVERY:
            with self._database.writing() as connection:
                change = update(tokens).where(tokens.c.name == row.name)
                connection.execute(change.values(last_used=now))
        return _token(row)

    def tokens(self) -> _Tokens:
        """Return all tokens by name, also those that were revoked."""
        with self._database.reading() as connection:
            rows = connection.execute(_TOKENS.order_by(tokens.c.name)).all()
        return [_token(row) for row in rows]

    def revoke_token(self, name: str, *, by: str) -> None:
        """Make a token void; raises `NotFoundError`."""
        with self._audit.recorded(by, "token_revoked", name, {}) as connection:
            change = update(tokens).where(tokens.c.name == name).values(revoked=True)
            if connection.execute(change).rowcount != 1:
                known = suggest(name, connection.scalars(select(tokens.c.name)))
                raise NotFoundError(f"There is no token {name!r}. {known}")

    def _hashed(self, name: str, password: str) -> str:
        if len(password) < SHORTEST_PASSWORD or len(password) > LONGEST_PASSWORD:
            raise InputError(
                f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD:,} characters; this one "
                f"has {len(password):,}."
            )
        if password.casefold() == name.casefold() or len(set(password)) < 4:
            raise InputError("This password is too easy to guess. Choose another.")
        return self._hasher.hash(_encoded(password))

    def _fits(self, hashed: str | None, password: str) -> bool:
        if self._nobody is None:
            self._nobody = self._hasher.hash(secrets.token_bytes(16))
        if len(password) > LONGEST_PASSWORD:
            password = ""
        try:
            return self._hasher.verify(hashed or self._nobody, _encoded(password))
        except (VerificationError, InvalidHashError):
            return False

    def _change(self, connection: Connection, name: str, values: dict[str, Any]) -> None:
        changed = connection.execute(update(people).where(people.c.name == name).values(values))
        if changed.rowcount != 1:
            known = suggest(name, connection.scalars(select(people.c.name)))
            raise NotFoundError(f"There is no person {name!r}. {known}")

    def _change_of_rights(self, connection: Connection, name: str, values: dict[str, Any]) -> None:
        """Change a person, and refuse to leave nobody who may do everything."""
        able = select(people.c.name).where(people.c.role == ROLES[-1], people.c.disabled == false())
        before = connection.scalars(able).all()
        self._change(connection, name, values)
        if before and connection.scalar(able.limit(1)) is None:
            raise InputError(
                f"{name!r} is the last administrator. Make somebody else an administrator first."
            )

    def _unknown(self, name: str) -> NotFoundError:
        known = suggest(name, [person.name for person in self.list()])
        return NotFoundError(f"There is no person {name!r}. {known}")


def _check_free(connection: Connection, name: str) -> None:
    if connection.scalar(select(people.c.name).where(people.c.name == name)) is not None:
        raise InputError(f"There is already a person {name!r}. Choose another name.")


def _check_name(name: str) -> None:
    if not name.strip() or name != name.strip() or len(name) > LONGEST_NAME:
        raise InputError(
            f"A name has 1 to {LONGEST_NAME} characters and no spaces around it; received {name!r}."
        )
    if legible(name) != name:
        raise InputError(f"The name {name!r} has invisible characters. Leave them out.")


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise InputError(f"There is no role {role!r}. {suggest(role, ROLES)}")


def _encoded(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _person(row: Row[Any]) -> Person:
    return Person(name=row.name, role=row.role, language=row.language, disabled=row.disabled)


def _token(row: Row[Any]) -> Token:
    return Token(
        name=row.name,
        role=row.role,
        by=row.person,
        time=row.time,
        last_used=row.last_used,
        revoked=row.revoked,
        disabled=bool(row.disabled),  # none for who never had an account
    )
