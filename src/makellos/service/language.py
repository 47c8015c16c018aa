"""The words of the pages: English as written in the templates, other languages from their .po."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from pathlib import Path

from babel import Locale
from babel.dates import format_datetime, format_time
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent

__all__ = ["LANGUAGES", "Words", "best_language", "words"]

LANGUAGES = {"en": "English", "de": "Deutsch"}
_TEXTS = Path(__file__).with_name("texts")
_LOCALES = {"en": "en_GB", "de": "de_DE"}  # dates and numbers as factories write them


@dataclass(frozen=True)
class Words:
    """Hold the texts of one language, and how it writes numbers and times.

    `texts` are translations by English text, `plurals` by the English singular.
    """

    language: str
    locale: Locale
    texts: Mapping[str, str]
    plurals: Mapping[str, tuple[str, ...]]

    def gettext(self, text: str) -> str:
        """Return a text in this language; the English one where it has none."""
        return self.texts.get(text, text)

    def ngettext(self, singular: str, plural: str, n: int) -> str:
        """Return the text for `n` things."""
        forms = self.plurals.get(singular, (singular, plural))
        return forms[0] if n == 1 else forms[-1]

    def number(self, value: float, digits: int = 0) -> str:
        """Return a number with at most so many decimals."""
        pattern = "#,##0" + ("." + "#" * digits if digits else "")
        return str(format_decimal(value, format=pattern, locale=self.locale))

    def percent(self, share: float, digits: int = 1) -> str:
        """Return a share in [0, 1] in percent."""
        pattern = "0" + ("." + "#" * digits if digits else "") + "\u00a0%"
        return str(format_percent(share, format=pattern, locale=self.locale))

    def moment(self, microseconds: int, zone: tzinfo | None = None) -> str:
        """Return date and time of microseconds since 1970 UTC, in the zone of the station."""
        local = datetime.fromtimestamp(microseconds / 1e6, UTC).astimezone(zone)
        return str(format_datetime(local, "medium", locale=self.locale))

    def short(self, microseconds: int, now: int, zone: tzinfo | None = None) -> str:
        """Return the time of day, with day and month where that is not today's."""
        local = datetime.fromtimestamp(microseconds / 1e6, UTC).astimezone(zone)
        today = datetime.fromtimestamp(now / 1e6, UTC).astimezone(zone)
        if local.date() == today.date():
            return self.clock(microseconds, zone)
        pattern = "d MMM, HH:mm" if local.year == today.year else "d MMM y"
        return str(format_datetime(local, pattern, locale=self.locale))

    def clock(self, microseconds: int, zone: tzinfo | None = None) -> str:
        """Return the time of day with seconds."""
        local = datetime.fromtimestamp(microseconds / 1e6, UTC).astimezone(zone)
        return str(format_time(local, "HH:mm:ss", locale=self.locale))


@cache
def words(language: str) -> Words:
    """Return the texts of a language of `LANGUAGES`; those of English for any other."""
    if language not in LANGUAGES:
        language = "en"
    texts: dict[str, str] = {}
    plurals: dict[str, tuple[str, ...]] = {}
    source = _TEXTS / f"{language}.po"
    if language != "en":
        with source.open("rb") as file:
            catalog = read_po(file, locale=language)
        for message in catalog:
            if isinstance(message.id, tuple):
                plurals[message.id[0]] = tuple(message.string or message.id)
            elif message.id and message.string:
                texts[str(message.id)] = str(message.string)
    return Words(language, Locale.parse(_LOCALES[language]), texts, plurals)


def best_language(accepted: str) -> str:
    """Return the language of `LANGUAGES` that a browser's `Accept-Language` asks for first.

    >>> best_language("fr-CH, de;q=0.8, en;q=0.9"), best_language("")
    ('en', 'en')
    """
    wanted: list[tuple[float, str]] = []
    for piece in accepted[:500].split(","):
        name, _, weight = piece.strip().partition(";q=")
        try:
            share = float(weight) if weight else 1.0
        except ValueError:
            continue
        language = name.partition("-")[0].lower()
        if language in LANGUAGES:
            wanted.append((-share, language))
    return min(wanted, default=(0.0, "en"), key=lambda each: each[0])[1]
