"""The catalogue of public sets: what it promises, and that no entry is half filled in."""

from __future__ import annotations

import re

from makellos.sets.public_layouts import LAYOUTS
from makellos.sets.public_sets import CIFAR10_CLASSES, PUBLIC_SETS


def test_the_catalogue_names_the_sets_that_it_promises() -> None:
    by_family: dict[str, set[str]] = {}
    for name in PUBLIC_SETS:
        family, _, member = name.partition("/")
        by_family.setdefault(family, set()).add(member)
    assert {family: len(members) for family, members in by_family.items()} == {
        "mvtec_ad": 15,
        "visa": 12,
        "magnetic_tile": 1,
        "mnist": 11,  # each digit, and all in one file
        "cifar10": 10,
        "cwru": 1,
        "ls_powder_bed": 1,
    }
    assert by_family["cifar10"] == set(CIFAR10_CLASSES)


def test_every_entry_of_the_catalogue_is_complete() -> None:
    checksums = []
    for name, entry in PUBLIC_SETS.items():
        assert entry.name == name
        assert entry.layout in LAYOUTS
        assert entry.licence.name
        assert entry.licence.terms
        assert entry.licence.address.startswith("https://")
        assert bool(entry.files) != bool(entry.by_hand)
        assert entry.homepage.startswith("http")
        for file in (*entry.files, *([entry.instead] if entry.instead else [])):
            assert file.address.startswith("https://")
            if name == "cwru":  # its publisher gives no checksums
                assert file.checksum is None
                continue
            assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", file.checksum or "")
            assert file.checksum_source
            checksums.append((file.name, file.checksum))
    # A checksum that stands twice under different names was copied by mistake.
    assert len({name for name, _ in checksums}) == len({sum_ for _, sum_ in checksums})
