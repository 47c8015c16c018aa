"""What a page is asked with: who reads it, in which language, of which station."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from fastapi.responses import HTMLResponse

from makellos.service.access import Person, csrf_token, needs
from makellos.service.language import LANGUAGES, Words, best_language, words
from makellos.service.pages.rendering import render
from makellos.service.station import Station
from makellos.store import Filter, allows

__all__ = [
    "LANGUAGE_COOKIE",
    "Administrator",
    "AskedNumber",
    "Engineer",
    "Number",
    "Operator",
    "Page",
    "Viewer",
    "language",
]

LANGUAGE_COOKIE = "makellos_language"
# Numbers that a database takes.
Number = Annotated[int, Path(ge=1, lt=1 << 63)]
AskedNumber = Annotated[int | None, Query(ge=1, lt=1 << 63)]
_MOST_WAITING = 99  # in the badge of the review


def language(request: Request, person: Person | None) -> str:
    """Return the language of a reader: the one chosen here, the person's, the browser's."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    if person is not None and person.name != "local" and person.language in LANGUAGES:
        return person.language
    return best_language(request.headers.get("accept-language", ""))


class Page:
    """Hold a request for a page; `render` answers it."""

    def __init__(self, request: Request, person: Person | None) -> None:
        self.request, self.person = request, person
        self.station: Station = request.app.state.station
        self.store = self.station.store
        self.language = language(request, person)

    @property
    def words(self) -> Words:
        """Return the texts of the reader's language."""
        return words(self.language)

    @property
    def name(self) -> str:
        """Return the reader's name."""
        return "" if self.person is None else self.person.name

    @property
    def is_fragment(self) -> bool:
        """Tell whether htmx asks for a part of the page."""
        return "hx-request" in self.request.headers

    def may(self, role: str) -> bool:
        """Tell whether the reader has a role, or one above it."""
        return self.person is not None and allows(self.person.role, role)

    def render(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a template with what all pages show around it."""
        request = self.request
        query = f"?{request.url.query}" if request.url.query else ""
        common = {
            "person": self.person,
            "local": self.name == "local",
            "csrf": "" if self.person is None else csrf_token(request),
            "languages": LANGUAGES.items(),
            "here": request.url.path + query,
            "theme": None,
            "navigation": [] if self.person is None else self._navigation(),
            "notice": self._notice(),
            "may_review": self.may("operator"),
            "may_engineer": self.may("engineer"),
            "may_administrate": self.may("administrator"),
        }
        return render(template, self.language, common | values, status=status)

    def _navigation(self) -> list[dict[str, Any]]:
        _ = self.words.gettext
        pages = [
            ("/", "live", _("Live"), "viewer"),
            ("/inspect", "inspect", _("Inspect"), "operator"),
            ("/history", "history", _("History"), "viewer"),
            ("/review", "review", _("Review"), "operator"),
            ("/models", "models", _("Models"), "viewer"),
            ("/drift", "drift", _("Drift"), "viewer"),
            ("/people", "people", _("People"), "administrator"),
            ("/audit", "audit", _("Audit log"), "administrator"),
        ]
        path = self.request.url.path
        return [
            {
                "href": href,
                "icon": icon,
                "name": name,
                "current": path == href or (href != "/" and path.startswith(href + "/")),
                "badge": self._waiting() if href == "/review" else "",
            }
            for href, icon, name, role in pages
            if self.may(role)
        ]

    def _waiting(self) -> str:
        """Return how many parts wait for a decision; nothing where none does."""
        wanted = Filter(verdict="look_again", reviewed=False)
        n = len(self.store.history(wanted, before=None, limit=_MOST_WAITING + 1))
        return "" if not n else f"{_MOST_WAITING}+" if n > _MOST_WAITING else str(n)

    def _notice(self) -> str:
        _ = self.words.gettext
        if self.person is None:
            return ""
        station = self.station
        drifted = [
            loaded.recipe.name
            for loaded in station.pool.all()
            if station.drift.state(loaded)["drifted"]
        ]
        if not drifted:
            return ""
        return _("Drift in %(recipes)s: see the Drift page.") % {"recipes": ", ".join(drifted)}


def _page(role: str) -> Any:
    def make(request: Request, person: Person = Depends(needs(role))) -> Page:  # noqa: B008
        return Page(request, person)

    return Depends(make)


Viewer = Annotated[Page, _page("viewer")]
Operator = Annotated[Page, _page("operator")]
Engineer = Annotated[Page, _page("engineer")]
Administrator = Annotated[Page, _page("administrator")]
