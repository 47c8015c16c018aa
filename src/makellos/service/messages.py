"""What other rooms say in English, in the language of a reader: errors, notes, causes of drift.

Rooms raise and store whole sentences, which API, command line and old rows of the history share. A
page looks a sentence up among templates with places for its values, `texts/LANGUAGE.messages.po`,
and fills in the German one. What matches none stays English.

The name of a place says what it holds: `why`, `why_…` and `hint` are messages themselves, `n` or
`n_…` numbers, `share` or `share_…` numbers in per cent; all others are copied (`number`, `version`
and `now` hold digits).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

from babel.messages.pofile import read_po

from makellos.service.language import Words, words

__all__ = ["is_translated", "said"]

_TEXTS = Path(__file__).with_name("texts")
_PLACE = re.compile(r"%\((\w+)\)s")
_NUMBER, _NUMBERS = r"[\d.,+%-]+", {"n", "share", "number", "version", "now"}
_LONGEST = 1000  # characters of a message that is looked up
_DEEPEST = 3  # messages within messages
_QUOTES = {"de": ("\u201e", "\u201c")}


def said(text: str, language: str) -> str:
    """Return a message in a language of `LANGUAGES`; as it is where that has no text for it."""
    return _said(text, language, 0)


def is_translated(text: str, language: str) -> bool:
    """Tell whether a message is said in a language, or is that language's already."""
    return language == "en" or _match(text, language) is not None


def _said(text: str, language: str, depth: int) -> str:
    found = _match(text, language)
    if found is None or depth == _DEEPEST:
        return text
    template, values = found
    spoken = words(language)
    shown = {name: _shown(name, value, spoken, depth) for name, value in values}
    return _PLACE.sub(lambda place: shown[place[1]], template)


@lru_cache(maxsize=1024)
def _match(text: str, language: str) -> tuple[str, Sequence[tuple[str, str]]] | None:
    """Return the template of a message and the values in it by the names of their places."""
    if language == "en" or len(text) > _LONGEST:
        return None
    for pattern, template in _templates(language):
        found = pattern.fullmatch(text)
        if found is not None:
            return template, tuple(found.groupdict().items())
    return None


@cache
def _templates(language: str) -> list[tuple[re.Pattern[str], str]]:
    """Return patterns of English messages and their templates, those that say most first."""
    source = _TEXTS / f"{language}.messages.po"
    if not source.is_file():
        return []
    with source.open("rb") as file:
        pairs = [(str(each.id), str(each.string)) for each in read_po(file, locale=language)]
    known = [(english, theirs) for english, theirs in pairs if english and theirs]
    known.sort(key=lambda pair: -len(_PLACE.sub("", pair[0])))
    return [(_pattern(english), theirs) for english, theirs in known]


def _pattern(english: str) -> re.Pattern[str]:
    pieces = _PLACE.split(english)
    names, texts = pieces[1::2], [re.escape(piece) for piece in pieces[::2]]
    is_number = [_kind(name) in _NUMBERS for name in names]
    pattern = texts[0]
    for i, (name, text) in enumerate(zip(names, texts[1:], strict=True)):
        # A hostile text must not be divided in too many ways: what is a number takes nothing else,
        # and before other values the first place where the text goes on is the only one tried.
        place = f"(?P<{name}>{_NUMBER if is_number[i] else '.+?'})"
        goes_on = i + 1 < len(names) and not is_number[i + 1]
        pattern += f"(?>{place}{text})" if goes_on and text and not is_number[i] else place + text
    return re.compile(pattern, re.DOTALL)


def _kind(name: str) -> str:
    return name.partition("_")[0]


def _shown(name: str, value: str, spoken: Words, depth: int) -> str:
    if _kind(name) in {"why", "hint"}:
        return _said(value, spoken.language, depth + 1)
    if _kind(name) in {"n", "share"}:
        return _number(value, spoken, percent=_kind(name) == "share")
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    before, after = _QUOTES.get(spoken.language, ("'", "'"))
    return f"{before}{value[1:-1]}{after}" if quoted else value


def _number(value: str, spoken: Words, *, percent: bool) -> str:
    """Return a number as the language writes it; as it is where it is none."""
    plain = value.strip("+%").replace(",", "")
    try:
        amount = float(plain)
    except ValueError:
        return value
    digits = len(plain.partition(".")[2])
    sign = "+" if value.startswith("+") else ""
    return sign + (
        spoken.percent(amount / 100, digits) if percent else spoken.number(amount, digits)
    )
