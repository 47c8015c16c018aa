"""Golden parts that are features: stored as numbers, and read as nothing else."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from small_models import forge, small_members

from makellos.errors import ModelFileError
from makellos.inspection import read_model
from makellos.models import encode_pictures


def test_golden_features_come_back_as_they_were(tmp_path: Path) -> None:
    row = np.linspace(-3, 3, 7, dtype=np.float32)
    members = {**small_members(), **encode_pictures({"golden/02.npy": row})}
    found = read_model(forge(tmp_path / "a.makellos", members)).golden_picture("golden/02.npy")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, row)


def _saved(values: object, *, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=allow_pickle)
    return stream.getvalue()


@pytest.mark.parametrize(
    "raw",
    [
        _saved(np.array([{"a": 1}], dtype=object), allow_pickle=True),
        _saved(np.zeros((2, 3), np.float32)),
        _saved(np.zeros(3)),
        _saved(np.zeros(0, np.float32)),
        _saved(np.zeros(3, np.float32))[:-4],
        _saved(np.zeros(3, np.float32)).replace(b"(3,)", b"(9**9,)"),
        _saved(np.zeros(30, np.float32)).replace(b"(30,), }", b"(10**9,)}"),
        b"",
        b"no numbers",
    ],
    ids=["pickle", "2-d", "float64", "none", "cut", "sum", "giant", "empty", "text"],
)
def test_golden_features_are_numbers_and_nothing_else(tmp_path: Path, raw: bytes) -> None:
    members = {**small_members(), "golden/02.npy": raw}
    model = read_model(forge(tmp_path / "a.makellos", members))
    with pytest.raises(ModelFileError, match=r"golden/02\.npy holds no features"):
        model.golden_picture("golden/02.npy")
