"""Every text of the pages has its German one, with the same values in it, and none is left over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import read_po
from jinja2.ext import babel_extract

import makellos.service as service
from makellos.service.language import LANGUAGES, best_language, words

ROOM = Path(str(service.__file__)).parent
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2)}
VALUES = re.compile(r"%\((\w+)\)s|%%|(%)")


def texts_of_source() -> dict[str, str | None]:
    """Return all English texts; those of several things with their plural."""
    found: dict[str, str | None] = {}
    for path in sorted((ROOM / "templates").glob("*.html")):
        with path.open("rb") as file:
            for _, name, message, _ in babel_extract(file, ("_", "ngettext"), [], {}):
                _add(found, name, message)
    for path in sorted(ROOM.rglob("*.py")):
        with path.open("rb") as file:
            for _, message, _, _ in extract("python", file, keywords=KEYWORDS):
                _add(found, "", message)
    return found


def _add(found: dict[str, str | None], name: str, message: object) -> None:
    if isinstance(message, str):
        found.setdefault(message, None)
    elif isinstance(message, tuple):
        several = name == "ngettext" and isinstance(message[1], str)
        found[message[0]] = message[1] if several else None


def values(text: str) -> set[str]:
    """Return the names of values in a text; a sign of percent that is none is named %."""
    return {match[1] or match[2] or "" for match in VALUES.finditer(text)} - {""}


def test_every_text_is_german_and_none_is_left_over() -> None:
    english = texts_of_source()
    assert len(english) > 200
    with (ROOM / "texts" / "de.po").open("rb") as file:
        catalog = read_po(file, locale="de")
    german = {m.id[0] if isinstance(m.id, tuple) else m.id: m for m in catalog if m.id}
    assert sorted(set(english) - set(german)) == [], "has no German text"
    assert sorted(set(german) - set(english)) == [], "is no longer said"
    assert not any(message.fuzzy for message in german.values())
    for text, plural in english.items():
        message = german[text]
        if plural is None:
            assert message.string, text
            assert values(message.string) == values(text), text
        else:
            assert message.id == (text, plural)
            assert all(message.string), text
            assert values(message.string[1]) == values(plural), text


def test_language_of_a_browser() -> None:
    assert best_language("de-AT,de;q=0.9,en;q=0.5") == "de"
    assert best_language("en-US,de;q=0.9") == "en"
    assert best_language("fr;q=x, *;q=0.1") == "en"


@pytest.mark.parametrize(
    ("language", "percent", "number"),
    [("en", "2.5\u00a0%", "1,234.5"), ("de", "2,5\u00a0%", "1.234,5")],
)
def test_numbers_are_written_as_the_language_does(language: str, percent: str, number: str) -> None:
    spoken = words(language)
    assert spoken.percent(0.025) == percent
    assert spoken.number(1234.5, 1) == number


def test_times_are_those_of_the_clock_on_the_wall() -> None:
    from datetime import UTC

    moment = 1_790_000_000_000_000  # 2026-09-21 14:13:20 UTC
    assert words("de").moment(moment, UTC) == "21.09.2026, 14:13:20"
    assert words("en").clock(moment, UTC) == "14:13:20"
    assert words("en").short(moment, moment + 86_400_000_000, UTC) == "21 Sept, 14:13"
    assert words("en").short(moment, moment + 1, UTC) == "14:13:20"


def test_unknown_language_is_english() -> None:
    assert words("xx").gettext("Reject") == "Reject"
    assert set(LANGUAGES) == {"en", "de"}
