"""The public sets that `makellos data get` knows, as `public_sets.toml` lists them.

Every address and every checksum there was found in a public source, which is named beside it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

__all__ = ["CIFAR10_CLASSES", "PUBLIC_SETS", "Layout", "Licence", "PublicSet", "RemoteFile"]

Layout = Literal[
    "mvtec_ad", "visa", "magnetic_tile", "mnist", "cifar10", "numpy_file", "cwru", "ls_powder_bed"
]


@dataclass(frozen=True)
class Licence:
    """Hold what somebody has to agree to before a set is downloaded.

    Parameters
    ----------
    name : of the licence.
    terms : what it asks, in a sentence.
    address : where it can be read.
    """

    name: str
    terms: str
    address: str


@dataclass(frozen=True)
class RemoteFile:
    """Hold one file to download.

    Parameters
    ----------
    name : file name in the cache.
    address : where it is downloaded from.
    checksum : as `sha256:HEX` or `md5:HEX`, None where nobody has published one.
    checksum_source : who published the checksum.
    largest : bytes beyond which it cannot be the file.
    """

    name: str
    address: str
    checksum: str | None = None
    checksum_source: str = ""
    largest: int = 16 << 30


@dataclass(frozen=True)
class PublicSet:
    """Hold one set of the catalogue.

    Parameters
    ----------
    name : what a user types; the part before `/` is the folder in the cache.
    files : all of them are needed, in the order that the layout expects.
    layout : how the files are turned into the MVTec AD layout.
    category : the category, or the class that is good.
    licence : what has to be accepted.
    homepage : where a person finds the download when an address has moved.
    instead : one file that serves as well, taken only where it lies in the cache already.
    by_hand : how a person gets it, where no program can; empty otherwise.
    """

    name: str
    files: tuple[RemoteFile, ...]
    layout: Layout
    category: str
    licence: Licence
    homepage: str
    instead: RemoteFile | None = None
    by_hand: str = ""


def _sets_of(layout: Layout, listed: Mapping[str, Any]) -> Iterator[PublicSet]:
    """Give the sets that share a layout: one for each category, or one without categories."""
    instead, family = listed.get("instead"), listed.get("name", layout)
    for category in listed.get("categories", [""]):
        yield PublicSet(
            name=f"{family}/{category}" if category else family,
            files=tuple(
                RemoteFile(
                    file["name"],
                    file["address"],
                    file.get("checksum"),
                    listed["checksum_source"],
                    listed["largest_mb"] << 20,
                )
                for file in listed.get("files", [])
                if file.get("category", category) == category
            ),
            layout=layout,
            category=category,
            licence=Licence(**listed["licence"]),
            homepage=listed["homepage"],
            instead=None if instead is None else RemoteFile(**instead),
            by_hand=listed.get("by_hand", ""),
        )


_LISTED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
CIFAR10_CLASSES: tuple[str, ...] = tuple(_LISTED["cifar10"]["categories"])
PUBLIC_SETS: Mapping[str, PublicSet] = MappingProxyType(
    {
        entry.name: entry
        for layout in get_args(Layout)
        for entry in _sets_of(layout, _LISTED[layout])
    }
)
