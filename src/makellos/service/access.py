"""Who may do what: people with sessions, machines with tokens, and local use without either.

Every route has a `needs(role)`, or stands in `PUBLIC`: a test goes through all of them.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from makellos.service.failures import Refusal
from makellos.service.station import Station
from makellos.store import ROLES, Person, allows

__all__ = [
    "CSRF_FIELD",
    "CSRF_HEADER",
    "PUBLIC",
    "SESSION_COOKIE",
    "Needs",
    "Person",
    "begin_session",
    "change_own_password",
    "check_first",
    "client_of",
    "csrf_token",
    "end_session",
    "is_still",
    "log_in",
    "needs",
    "who",
]

SESSION_COOKIE = "makellos_session"
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# What nobody needs a role for.
PUBLIC = frozenset({"/healthz", "/readyz", "/login", "/language", "/static", "/favicon.ico"})
_LOCAL = Person(name="local", role="administrator", language="en", disabled=False)


@dataclass(frozen=True)
class Needs:
    """Give the person of a request; refuse who has not the role, or no right token for a change."""

    role: str

    async def __call__(self, request: Request) -> Person:
        """Return the person; raises `Refusal`."""
        person, csrf = await run_in_threadpool(who, request)
        if person is None:
            raise Refusal("not_logged_in", "Log in, or send an API token as a bearer token.")
        if csrf and request.method not in SAFE and not await _has_token(request, csrf):
            raise Refusal(
                "csrf",
                f"The session's token is missing or out of date: send it in the header "
                f"{CSRF_HEADER} or the field {CSRF_FIELD}, or reload the page.",
            )
        request.state.person, request.state.csrf = person, csrf  # also for the page that refuses
        if not allows(person.role, self.role):
            raise Refusal(
                "forbidden",
                f"This needs the role {self.role}; {person.name} has the role {person.role}.",
                details={"needed": self.role, "role": person.role},
            )
        return person


def needs(role: str) -> Needs:
    """Return the dependency that gives the person of a request who has at least a role.

    Raises `ValueError` for an unknown role.
    """
    if role not in ROLES:
        raise ValueError(f"{role!r} is no role; known: {', '.join(ROLES)}")
    return Needs(role)


def check_first(station: Station, role: str) -> None:
    """Refuse a first person who could not add the others: with it the use without login ends."""
    if role != ROLES[-1] and not station.store.people.any():
        raise Refusal("invalid", "The first person must be an administrator.")


def csrf_token(request: Request) -> str:
    """Return what a page has to send with changes; empty where no session is used."""
    return str(getattr(request.state, "csrf", ""))


def client_of(request: Request) -> str:
    """Return the address of who sends a request."""
    return request.client.host if request.client is not None else "unknown"


def log_in(station: Station, request: Request, name: str, password: str) -> Person:
    """Return the person with a name and a password; slow on purpose, so call it in a thread.

    Raises `Refusal` for a wrong name or password, and after too many of them.
    """
    with station.logins.one_at_a_time:  # or many at once would pass before the first has failed
        return _logged_in(station, name, password, client_of(request))


def _logged_in(station: Station, name: str, password: str, address: str) -> Person:
    _check_wait(station, name, address)
    person = station.store.people.check_password(name, password)
    if person is None:
        station.logins.failed(name, address)
        station.store.audit.log(name[:100], "login_failed", "login", {"address": address})
        raise Refusal("not_logged_in", "The name or the password is wrong.")
    station.logins.succeeded(name, address)
    station.store.audit.log(person.name, "login", "login", {"address": address})
    return person


def _check_wait(station: Station, name: str, address: str) -> None:
    wait = station.logins.wait(name, address)
    if wait:
        raise Refusal(
            "login_throttled",
            f"Too many failed logins. Try again in {max(1, round(wait))} seconds.",
            retry=wait,
        )


def change_own_password(
    station: Station, request: Request, person: Person, present: str, new: str
) -> None:
    """Give a person another password who knows the present one, and end all their sessions.

    Guesses count as failed logins do. Raises `Refusal`, and `InputError` for a weak password.
    """
    if person.name == _LOCAL.name or person.name.startswith("token "):
        raise Refusal("invalid", "Only people who log in have a password to change.")
    address = client_of(request)
    with station.logins.one_at_a_time:
        _check_wait(station, person.name, address)
        if station.store.people.check_password(person.name, present) is None:
            station.logins.failed(person.name, address)
            details = {"address": address}
            station.store.audit.log(person.name, "password_refused", person.name, details)
            raise Refusal("invalid", "The current password is wrong.")
        station.logins.succeeded(person.name, address)
    station.store.people.set_password(person.name, new, by=person.name)


def begin_session(station: Station, request: Request, response: Response, person: Person) -> str:
    """Begin a session with its cookie; return its CSRF token."""
    seconds = station.settings.session_seconds
    session = station.store.people.begin_session(person.name, seconds=seconds)
    response.set_cookie(
        SESSION_COOKIE,
        session.token,
        max_age=seconds,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return str(session.csrf)


def end_session(station: Station, request: Request, response: Response) -> None:
    """End the session of a request, here and in the browser."""
    token = request.cookies.get(SESSION_COOKIE)
    if token:
        station.store.people.end_session(token)
    response.delete_cookie(SESSION_COOKIE)


def who(request: Request) -> tuple[Person | None, str]:
    """Return who sends a request, and the CSRF token of the session, if there is one."""
    station: Station = request.app.state.station
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        token = station.store.people.token(secret.strip())
        if token is None:
            return None, ""
        name = f"token {token.name}"
        return Person(name=name, role=token.role, language="en", disabled=False), ""
    cookie = request.cookies.get(SESSION_COOKIE)
    session = station.store.people.session(cookie) if cookie else None
    if session is not None:
        return session.person, session.csrf
    if station.is_open:
        return _LOCAL, ""
    return None, ""


def is_still(request: Request, person: Person) -> bool:
    """Tell whether who sent a request is still let in as that person."""
    now, _ = who(request)
    return now is not None and now.name == person.name


async def _has_token(request: Request, wanted: str) -> bool:
    given = request.headers.get(CSRF_HEADER)
    if given is None and _is_small_form(request):
        field = (await request.form()).get(CSRF_FIELD)
        given = field if isinstance(field, str) else None
    return given is not None and hmac.compare_digest(given.encode(), wanted.encode())


def _is_small_form(request: Request) -> bool:
    """Tell forms of fields alone: one with files must send the header, before it is read."""
    kind = request.headers.get("Content-Type", "")
    return kind.startswith("application/x-www-form-urlencoded")
