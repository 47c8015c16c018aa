"""Sizes of memory as users write them."""

from __future__ import annotations

import numpy as np
import pytest

from makellos.data.memory import parse_memory, size_text, used_memory
from makellos.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        *(("2G", 2 << 30), ("2g", 2 << 30), ("4GiB", 4 << 30), ("500M", 500 << 20)),
        *(("500MB", 500_000_000), ("1.5G", 3 << 29), (" 64 M ", 64 << 20), ("1073741824", 1 << 30)),
        *(("2T", 2 << 40), ("700000KB", 700_000_000), (".5G", 1 << 29), ("9b", 9)),
    ],
)
def test_sizes_are_read(text: str, n_bytes: int) -> None:
    assert parse_memory(text) == n_bytes


@pytest.mark.parametrize("text", ["", "2X", "G", "-2G", "0", "2 G B", "iB", "2iB", "1e9", "nan"])
def test_other_texts_are_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ConfigurationError, match="such as 500M, 2G or 4GiB"):
        parse_memory(text)


def test_what_is_written_is_read_again() -> None:
    assert parse_memory(size_text(3 << 29)) == 1_500_000_000
    assert size_text(500 << 20) == "500 MB"
    assert size_text(100 << 30) == "100 GB"


def test_what_is_used_grows_with_what_is_held() -> None:
    before = used_memory()
    held = np.ones(64 << 20, np.uint8)
    assert used_memory() - before >= 0.9 * held.nbytes
