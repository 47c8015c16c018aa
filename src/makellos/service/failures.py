"""What the service refuses, and how it says so: one shape, stable codes, never a traceback."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from makellos.errors import (
    ConfigurationError,
    InputError,
    MakellosError,
    ModelFileError,
    StorageError,
    legible,
)
from makellos.store import NotFoundError

__all__ = ["CODES", "Refusal", "add_failures", "refusal_of", "respond"]

_log = logging.getLogger("makellos.service")


class Code(NamedTuple):
    """Hold the status that a code has, and when it is given."""

    status: int
    meaning: str


CODES: dict[str, Code] = {
    "invalid": Code(422, "A field, a parameter or the body is not valid."),
    "unreadable": Code(422, "The one file that was sent is not a picture or recording."),
    "recipe_needed": Code(422, "There are several recipes, and the request names none."),
    "not_logged_in": Code(401, "No session and no valid token; or the login failed."),
    "forbidden": Code(403, "The role does not allow this."),
    "csrf": Code(403, "The session's CSRF token is missing or wrong."),
    "cross_origin": Code(403, "The request comes from a page of another site."),
    "unknown_host": Code(421, "The Host header names another machine."),
    "not_found": Code(404, "There is no such inspection, recipe, model or page."),
    "no_recipe": Code(409, "There is no recipe to inspect with yet."),
    "busy": Code(409, "The recipe is being calibrated already."),
    "key_reused": Code(409, "The idempotency key belongs to another file."),
    "method_not_allowed": Code(405, "This address does not accept this method."),
    "too_large": Code(413, "The body, or the number of files or fields, is over the limit."),
    "wrong_type": Code(415, "The body is not of a type that this address accepts."),
    "queue_full": Code(429, "Too many parts are waiting already. Try again after Retry-After."),
    "too_many_requests": Code(429, "This client sends too fast. Try again after Retry-After."),
    "too_many_connections": Code(
        503, "Too many connections are open already. Try again after Retry-After."
    ),
    "login_throttled": Code(429, "Too many failed logins. Try again after Retry-After."),
    "internal": Code(500, "A fault in makellos; the service's log has the details."),
    "unavailable": Code(503, "The service is starting or stopping, or a model cannot be opened."),
    "storage": Code(503, "The database or the folder of pictures cannot be used."),
    "disk_full": Code(507, "The disk is full. Nothing was stored; make room and send again."),
}
_BY_STATUS = {
    400: "invalid",
    401: "not_logged_in",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "wrong_type",
}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Refusal(Exception):  # noqa: N818 -- a word of the service, not a fault
    """Refuse a request with a code of `CODES`; `retry` are seconds until it may be sent again."""

    def __init__(
        self, code: str, message: str, *, details: object = None, retry: float | None = None
    ) -> None:
        super().__init__(legible(message, lines=True))
        self.code, self.message, self.details, self.retry = code, str(self), details, retry

    @property
    def status(self) -> int:
        """Return the HTTP status."""
        return CODES[self.code].status

    def body(self) -> dict[str, Any]:
        """Return what the answer holds."""
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to it."""
        if self.retry is not None:
            return {"Retry-After": str(max(1, round(self.retry)))}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}


def refusal_of(error: BaseException) -> Refusal:
    """Return the refusal that an error means; what is no fault of the request is logged."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, NotFoundError):
        return Refusal("not_found", str(error))
    if isinstance(error, StorageError | OSError) and _is_full(error):
        _log.error("The disk is full: %s", error)
        return Refusal("disk_full", f"The disk is full; nothing was stored. {error}")
    if isinstance(error, StorageError):
        _log.error("%s", error)
        return Refusal("storage", str(error))
    if isinstance(error, MakellosError):
        is_asked = isinstance(error, InputError | ConfigurationError | ModelFileError)
        return Refusal("invalid" if is_asked else "unavailable", str(error))
    _log.error("A fault in makellos", exc_info=error)
    return Refusal("internal", "Something went wrong in makellos; its log has the details.")


def _is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if "database or disk is full" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def add_failures(app: FastAPI) -> None:
    """Let an app answer every error in the one shape; pages may set `app.state.error_page`."""

    async def told(request: Request, error: Exception) -> Response:
        return _answer(request, refusal_of(error))

    async def invalid(request: Request, error: Exception) -> Response:
        found = error.errors() if isinstance(error, RequestValidationError) else []
        details = [
            {"field": ".".join(map(str, each["loc"][1:])), "reason": each["msg"]} for each in found
        ]
        reasons = "; ".join(f"{each['field'] or 'body'}: {each['reason']}" for each in details)
        return _answer(request, Refusal("invalid", reasons or "not valid", details=details))

    async def by_status(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = _BY_STATUS.get(status, "internal" if status >= 500 else "invalid")
        said = {
            "not_found": f"There is nothing at {request.url.path}.",
            "method_not_allowed": f"{request.url.path} does not accept {request.method}.",
        }.get(code, str(getattr(error, "detail", "")))
        answer = _answer(request, Refusal(code, said))
        answer.headers.update(getattr(error, "headers", None) or {})
        return answer

    for kind in (Refusal, MakellosError, OSError, Exception):
        app.add_exception_handler(kind, told)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, by_status)


def _answer(request: Request, refusal: Refusal) -> Response:
    page: Callable[[Request, Refusal], Response] | None
    page = getattr(request.app.state, "error_page", None)
    if _is_for_people(request.url.path):
        if refusal.code == "not_logged_in" and request.url.path != "/login":
            return _to_login(request)
        if page is not None:
            shown: Response = page(request, refusal)
            return shown
    return JSONResponse(refusal.body(), refusal.status, refusal.headers())


def _to_login(request: Request) -> Response:
    """Lead to the login, and back; a part of a page that is loaded anew leads there as a whole."""
    query = f"?{request.url.query}" if request.url.query else ""
    back = quote(f"{request.url.path}{query}") if request.method == "GET" else ""
    if "HX-Request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    return RedirectResponse(f"/login?next={back}" if back else "/login", 303)


def _is_for_people(path: str) -> bool:
    return not path.startswith(("/api/", "/healthz", "/readyz", "/metrics"))


async def respond(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request in front of the routes of the app, people with a page."""
    page = getattr(scope["app"].state, "error_page", None) if "app" in scope else None
    answer: Response = JSONResponse(refusal.body(), refusal.status, refusal.headers())
    if page is not None and _is_for_people(scope["path"]):
        answer = page(Request(scope), refusal)
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)
