"""A station that listens on this machine, and a browser in front of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from browser_station import CHROMIUM, FLAGS, PASSWORD, SCRIPT, Served, cheap_store, listening

from makellos.service.queue import NewPart
from makellos.store import ROLES

# The client of the browser comes with what makellos is changed with, not with what tests it.
collect_ignore = [] if find_spec("playwright") else ["test_browser.py"]


@pytest.fixture(scope="session")
def served(
    screw_model: Path, screws: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Return a station with a person of each role and some parts, one of them with bad names."""
    with listening(cheap_store(tmp_path_factory.mktemp("served") / "station")) as served:
        for role in ROLES:
            served.store.people.add(role, PASSWORD, role, by="test")
        served.store.people.add("Eve" + SCRIPT[:40], PASSWORD, "operator", by="test")
        served.station.add_model(screw_model, person="test", recipe="screws", note=SCRIPT)
        kinds = sorted(path for path in (screws / "test").iterdir())
        parts = [
            NewPart(f"{kind.name}-{path.name}", path.read_bytes(), serial=f"S-{n}", lot="L-7")
            for kind in kinds
            for n, path in enumerate(sorted(kind.glob("*.png"))[:2])
        ]
        content = parts[0].content
        odd = NewPart(f"{SCRIPT}.png", content, serial=SCRIPT, lot=SCRIPT, fields={SCRIPT: SCRIPT})
        served.station.judge("screws", [*parts, odd])
        yield served


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Return a station without a model and without a person."""
    with listening(cheap_store(tmp_path_factory.mktemp("empty") / "station")) as served:
        yield served


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Return the browser of this machine; tests are skipped where there is none."""
    from playwright import sync_api as api

    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"there is no {CHROMIUM}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any, served: Served) -> Iterator[Callable[..., Any]]:
    """Return what opens a page as somebody; what the browser complains of fails the test."""
    opened: list[tuple[Any, list[str]]] = []

    def act(
        path: str = "/",
        *,
        role: str | None = "administrator",
        language: str = "en-GB",
        width: int = 1280,
        dark: bool = False,
        at: Served = served,
        **options: Any,
    ) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 844 if width < 500 else 900},
            locale=language,
            color_scheme="dark" if dark else "light",
            base_url=at.address,
            **options,
        )
        if role is not None:
            session = at.store.people.begin_session(role, seconds=3600)
            context.add_cookies(
                [{"name": "makellos_session", "value": session.token, "url": at.address}]
            )
        context.set_default_timeout(15_000)
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda m: said.append(m.text) if m.type in {"error", "warning"} else 0)
        page.on("pageerror", lambda error: said.append(str(error)))
        opened.append((context, said))
        page.goto(path)
        return page

    yield act
    complaints = [text for _, said in opened for text in said if not _expected(text)]
    for context, _ in opened:
        context.close()
    assert complaints == []


def _expected(text: str) -> bool:
    """Tell what a browser says of a status that a test asked for, or of a stream that ended."""
    return bool(re.search(r"status of 4\d\d|/api/events|ERR_INCOMPLETE|ERR_CONNECTION", text))
