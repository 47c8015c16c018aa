"""Words that people and other tools use for good and defective parts, splits, masks and columns."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import chain
from typing import Literal

__all__ = [
    "SPLITS",
    "begins_good",
    "folded",
    "generic_class",
    "meant",
    "spellings",
    "with_underscores",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# As `generic_class` folds them. The German i.O. and n.i.O. stand on many a line.
_GOOD = _words(
    "good ok okay normal normals pass passed non_defective nondefective no_defect no_defects "
    "defect_free anomaly_free io i.o. i.o gut gutteil gutteile bon bonne conforme bueno buena "
    "buono 良品 合格 合格品"
)
# Damage of no certain kind; every other name is that of a kind of damage.
_DEFECTIVE = _words(
    "defective defect defects bad nok ng anomaly anomalies anomalous abnormal faulty fail failed "
    "not_ok notok not_good no_good reject rejected nio n.i.o. n.i.o ko schlecht schlechtteil "
    "schlechtteile ausschuss fehlerhaft defekt mauvais mauvaise non_conforme malo mala difettoso "
    "不良 不良品 不合格 不合格品"
)
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_ALIKE = 0.76  # of two spellings: mask and masks, label and lable, but not mask and mass
_SYNONYMS = {
    "label": _words(
        "class classe cls target category defect defective damage anomaly anomalous abnormal "
        "fault faulty good ok nok ng verdict judgement judgment truth klasse etikett"
    ),
    "split": _words("subset partition"),
    "mask": _words("segmentation seg gt groundtruth annotation maske"),
    "group": _words("gruppe groupe"),
    "reference": _words("referenz golden template"),
    "judge": _words("appraiser rater prüfer pruefer"),
}


def folded(name: str) -> str:
    """Return a name as systems compare it that take case or composed accents for no difference.

    >>> folded("CAFE\u0301") == folded("caf\u00e9")
    True
    """
    return unicodedata.normalize("NFC", name).casefold()


def spellings(name: str) -> list[str]:
    """Return a name as it is, with composed letters, and with letters taken apart, each once."""
    forms = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return list(dict.fromkeys((name, *forms)))


def generic_class(name: str) -> Literal["good", "defective"] | None:
    """Return what a label or the name of a folder says in general; None for a kind of damage.

    >>> generic_class("OK"), generic_class("Not OK"), generic_class("scratch")
    ('good', 'defective', None)
    """
    joined = with_underscores(name)
    if joined in _GOOD:
        return "good"
    return "defective" if joined in _DEFECTIVE else None


def begins_good(name: str) -> bool:
    """Tell whether a name says good and more, so that it may or may not mean a kind of damage.

    >>> begins_good("ok_front"), begins_good("ok"), begins_good("okra")
    (True, False, False)
    """
    first, _, rest = with_underscores(name).partition("_")
    return bool(rest) and first in _GOOD and generic_class(name) is None


def with_underscores(name: str) -> str:
    """Return a name in lower case, with underscores for its spaces and hyphens."""
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def meant(name: str, columns: Sequence[str]) -> str | None:
    """Return the column that a name is a slip, a plural or another word of; None for no such.

    >>> [meant(name, ["label", "split"]) for name in ("lable", "class id", "Labels", "remark")]
    ['label', 'label', 'label', None]
    """
    folded = name.casefold()
    words = [re.sub(r"[\W_]+", "", folded), *re.findall(r"[^\W_]+", folded)]
    stems = [word if word.endswith("ss") else word.removesuffix("s") for word in words]
    forms = {*words, *stems, *(word.removesuffix("es") for word in words)}
    slips = (column for column in columns if any(_is_slip(stem, column) for stem in stems))
    synonyms = (column for column in columns if forms & _SYNONYMS.get(column, frozenset()))
    return next(chain(slips, synonyms), None)


def _is_slip(word: str, column: str) -> bool:
    alike = SequenceMatcher(None, word, column).ratio() > _ALIKE
    return alike or sorted(word) == sorted(column)
