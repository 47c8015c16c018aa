"""How a page is made: one environment of templates, words of the reader's language, headers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from makellos.errors import legible
from makellos.service.language import Words, words
from makellos.service.messages import is_translated, said

__all__ = ["HEADERS", "STATIC", "back_to", "build", "render"]

_ROOM = Path(__file__).parents[1]
STATIC = _ROOM / "static"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@cache
def build() -> str:
    """Return what changes when files of the pages do, so that browsers fetch them anew."""
    newest = max(path.stat().st_mtime for path in STATIC.rglob("*") if path.is_file())
    return f"{version('makellos')}-{int(newest)}"


@cache
def _environment(language: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_ROOM / "templates"),
        autoescape=True,
        finalize=_legible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    spoken = words(language)
    install: Callable[..., None] = getattr(environment, "install_gettext_callables")  # noqa: B009
    install(spoken.gettext, spoken.ngettext, newstyle=True)
    environment.filters["details"] = _details
    environment.globals.update(
        language=language,
        number=spoken.number,
        percent=spoken.percent,
        moment=spoken.moment,
        verdict_word=lambda verdict: verdict_word(spoken, verdict),
        decision_word=lambda verdict, decision: decision_word(spoken, verdict, decision),
        role_word=lambda role: role_word(spoken, role),
        how_word=lambda how: how_word(spoken, how),
        state_word=lambda state: state_word(spoken, state),
        rating_word=lambda rating: rating_word(spoken, rating),
        action_word=lambda action: action_word(spoken, action),
        said=lambda text: said(text, language),
        tongue=lambda text: language if is_translated(text, language) else "en",
        version=version("makellos"),
        build=build(),
    )
    return environment


def _legible(value: Any) -> Any:
    """Show what moves the cursor or cannot be seen as escapes, wherever it comes from."""
    return legible(value, lines=True) if type(value) is str else value


def _details(values: Mapping[str, Any]) -> str:
    """Return what an entry of the audit log holds beside its subject, on one line."""
    said = {name: value for name, value in values.items() if value not in (None, "", [], {}, False)}
    return " · ".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in said.items()
    )


def render(
    template: str, language: str, values: Mapping[str, Any], *, status: int = 200
) -> HTMLResponse:
    """Return a page; all that `values` hold is escaped."""
    page = _environment(language).get_template(template).render(values)
    return HTMLResponse(page.encode("utf-8", "replace"), status_code=status, headers=HEADERS)


def back_to(path: str) -> RedirectResponse:
    """Send the browser to a page of this station; to the first one for any other address."""
    ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return RedirectResponse(path if ours else "/", status_code=303)


def verdict_word(spoken: Words, verdict: str) -> str:
    """Return the word of a verdict."""
    _ = spoken.gettext
    return {
        "ok": _("OK"),
        "look_again": _("Look again"),
        "reject": _("Reject"),
    }.get(verdict, _("Unreadable"))


def decision_word(spoken: Words, verdict: str, decision: str) -> str:
    """Return what a person's decision says beside the verdict."""
    _ = spoken.gettext
    if decision == "good":
        return _("Good after all") if verdict == "reject" else _("Confirmed good")
    return _("Missed defect") if verdict == "ok" else _("Confirmed defective")


def role_word(spoken: Words, role: str) -> str:
    """Return the name of a role."""
    _ = spoken.gettext
    return {
        "viewer": _("Viewer"),
        "operator": _("Operator"),
        "engineer": _("Engineer"),
        "administrator": _("Administrator"),
    }.get(role, role)


def how_word(spoken: Words, how: str) -> str:
    """Return how a candidate is made."""
    _ = spoken.gettext
    return {"calibrate": _("new thresholds"), "fit": _("retrained")}.get(how, how)


def state_word(spoken: Words, state: str) -> str:
    """Return what a candidate is at."""
    _ = spoken.gettext
    return {
        "working": _("in progress"),
        "ready": _("compared"),
        "failed": _("failed"),
        "released": _("released"),
        "withdrawn": _("discarded"),
    }.get(state, state)


def rating_word(spoken: Words, rating: str | None) -> str:
    """Return how a judge is rated in a study of agreement."""
    _ = spoken.gettext
    return {
        "acceptable": _("acceptable"),
        "marginal": _("marginal"),
        "unacceptable": _("not acceptable"),
    }.get(rating or "", "\u2013")


def action_word(spoken: Words, action: str) -> str:
    """Return what an entry of the audit log says was done."""
    _ = spoken.gettext
    return {
        "login": _("logged in"),
        "login_failed": _("failed to log in"),
        "password_refused": _("gave a wrong password"),
        "drift_reset": _("restarted the monitoring of drift"),
        "part_kept": _("marked to be kept"),
        "part_not_kept": _("no longer kept"),
        "review": _("decided"),
        "setting": _("changed a setting"),
        "regression_set_locked": _("locked a set"),
        "candidate_begun": _("began a candidate"),
        "candidate_ready": _("candidate compared"),
        "candidate_failed": _("candidate failed"),
        "candidate_released": _("released a candidate"),
        "candidate_withdrawn": _("discarded a candidate"),
        "model_added": _("added a model"),
        "recipe_added": _("added a version of a recipe"),
        "recipe_activated": _("put a version into use"),
        "person_added": _("added a person"),
        "person_role": _("changed a role"),
        "person_password": _("changed a password"),
        "person_disabled": _("disabled an account"),
        "person_enabled": _("enabled an account"),
        "token_added": _("created a token"),
        "token_revoked": _("revoked a token"),
        "parts_removed": _("parts removed"),
        "pictures_removed": _("pictures removed"),
        "backed_up": _("backed up"),
        "restored": _("restored a backup"),
    }.get(action, action)
