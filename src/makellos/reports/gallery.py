"""The pictures of an evaluation report: which are shown, in which order, and how embedded."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from makellos.reports.formats import finite

__all__ = [
    "Card",
    "GalleryItem",
    "Section",
    "data_uri",
    "listing",
    "outcome",
    "picture_type",
    "sections",
]

MAX_PER_SECTION = 60
# Base64 adds a third; the page stays below the 25 MB that mail servers commonly accept.
MAX_PICTURE_BYTES = 16_000_000
MAX_LISTED = 2000


@dataclass(frozen=True)
class GalleryItem:
    """Hold one evaluated part and its pictures.

    `input` is the file name relative to the data folder; `label` is `good` or the defect's name;
    `verdict` is `ok`, `look_again`, `reject` or `unreadable`; `damage_area` counts mask pixels and
    is None without a mask; `picture`, `overlay` and `reconstruction` (the nearest good part that
    the method can make) are encoded JPEG, PNG or WebP thumbnails, empty where there is none;
    `map_name` says what the heat of the overlay shows, if that has a name; `named` is the class
    that a classifier of several kinds finds the likeliest.
    """

    input: str
    label: str
    verdict: str
    score: float | None
    p_value: float | None
    n_regions: int
    damage_area: int | None
    picture: bytes
    overlay: bytes
    error: str | None = None
    reconstruction: bytes = b""
    map_name: str = ""
    named: str = ""


@dataclass(frozen=True)
class Card:
    """Hold one part of the gallery with its pictures as data URIs, "" where there is none."""

    number: int
    item: GalleryItem
    outcome: str
    picture: str
    overlay: str
    reconstruction: str = ""


@dataclass(frozen=True)
class Section:
    """Hold one part of the gallery; `total` counts the parts it stands for, shown or not."""

    key: str
    title: str
    lead: str
    empty: str
    total: int
    cards: tuple[Card, ...]


def picture_type(encoded: bytes) -> str | None:
    """Return the MIME type that the first bytes of a picture tell, or None where they tell none.

    >>> picture_type(b"RIFF0000WEBPVP8 ")
    'image/webp'
    """
    if encoded.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if encoded.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return "image/webp"
    return None


def data_uri(encoded: bytes) -> str:
    """Return a picture as a data URI, "" where it is empty or of an unknown format."""
    kind = picture_type(encoded)
    return "" if kind is None else f"data:{kind};base64,{base64.b64encode(encoded).decode('ascii')}"


def outcome(item: GalleryItem) -> str:
    """Return what a verdict is worth: `right`, `again`, `wrong` or `unreadable`."""
    if item.verdict == "unreadable":
        return "unreadable"
    if item.verdict == "look_again":
        return "again"
    return "right" if (item.verdict == "reject") == (item.label != "good") else "wrong"


def sections(items: Sequence[GalleryItem], threshold: float | None) -> list[Section]:
    """Return the sections of the gallery, worst first; every part is shown at most once.

    Each section shows at most `MAX_PER_SECTION` parts, all together at most
    `MAX_PICTURE_BYTES` of pictures.
    """
    readable = [item for item in items if outcome(item) != "unreadable"]
    by_score = sorted(readable, key=_score, reverse=True)
    bad = [item for item in by_score if item.label != "good"]
    good = [item for item in by_score if item.label == "good"]
    again, right = (_of_outcome(by_score, name) for name in ("again", "right"))
    gallery, found = _Gallery(), []
    if bad:
        missed = sorted(_of_outcome(bad, "wrong"), key=_score)
        # Missed are, above, those marked look again as well; these have a section of their own.
        lead = "Defective parts that nobody will look at again, lowest score first."
        empty = "No defective part passed as ok."
        found.append(gallery.section("missed", "Passed as ok", missed, lead, empty))
    if good:
        alarms = _of_outcome(good, "wrong")
        lead = "Good parts that were rejected, highest score first."
        empty = "No good part was rejected."
        found.append(gallery.section("false-alarms", "False alarms", alarms, lead, empty))
    if again:
        n_bad = sum(item.label != "good" for item in again)
        lead = (
            "Too close to call: a person decides. "
            f"{n_bad} defective, {len(again) - n_bad} good, highest score first."
        )
        found.append(gallery.section("look-again", "Look again", again, lead))
    confused = [item for item in right if _is_confused(item)]
    if confused:
        confused.sort(key=lambda item: (item.label, item.named))
        lead = "Defective parts that were rejected, but under another name, by kind."
        found.append(gallery.section("other-kind", "Taken for another kind", confused, lead))
    if others := [item for item in right if not _is_confused(item)]:
        found.append(_right(others, threshold, gallery))
    return found


def listing(items: Sequence[GalleryItem], threshold: float | None) -> list[GalleryItem]:
    """Return the parts of the full list, highest score first, at most `MAX_LISTED`.

    Where there are more, those closest to the threshold are kept, and every unreadable one.
    """
    kept = sorted(items, key=_distance_to(threshold))[:MAX_LISTED]
    return sorted(kept, key=_score, reverse=True)


class _Gallery:
    """Number the cards of one page and stop when its pictures weigh too much."""

    def __init__(self) -> None:
        self._n_cards = 0
        self._n_bytes = 0

    def cards(self, items: Iterable[GalleryItem]) -> tuple[Card, ...]:
        made: list[Card] = []
        for item in items:
            pictures = (item.picture, item.overlay, item.reconstruction)
            self._n_bytes += sum(len(picture) for picture in pictures)
            if len(made) == MAX_PER_SECTION or self._n_bytes > MAX_PICTURE_BYTES:
                break
            self._n_cards += 1
            uris = [data_uri(picture) for picture in pictures]
            made.append(Card(self._n_cards, item, outcome(item), *uris))
        return tuple(made)

    def section(
        self, key: str, title: str, items: Sequence[GalleryItem], lead: str, empty: str = ""
    ) -> Section:
        cards = self.cards(items)
        if len(cards) < len(items):
            lead += f" The first {len(cards)} of {len(items)} are shown."
        return Section(key, title, lead, empty, len(items), cards)


def _right(items: Sequence[GalleryItem], threshold: float | None, gallery: _Gallery) -> Section:
    closest = sorted(items, key=_distance_to(threshold))[:MAX_PER_SECTION]
    cards = gallery.cards(sorted(closest, key=_score, reverse=True))
    lead = "All other parts, highest score first."
    if len(cards) < len(items):
        lead = (
            f"The {len(cards)} of {len(items)} other parts closest to the threshold, "
            "highest score first. The list below has more."
        )
    return Section("right", "Judged correctly", lead, "", len(items), cards)


def _is_confused(item: GalleryItem) -> bool:
    """Tell whether a defective part is named otherwise than labelled."""
    return item.named not in ("", item.label) and item.label != "good"


def _of_outcome(items: Iterable[GalleryItem], name: str) -> list[GalleryItem]:
    return [item for item in items if outcome(item) == name]


def _score(item: GalleryItem) -> float:
    score = finite(item.score)
    return -math.inf if score is None else score


def _distance_to(threshold: float | None) -> Callable[[GalleryItem], float]:
    """Return a sort key: distance to the threshold, unreadable parts first."""

    def distance(item: GalleryItem) -> float:
        score = finite(item.score)
        if score is None:
            return -1.0
        return abs(score - threshold) if threshold is not None else -score

    return distance
