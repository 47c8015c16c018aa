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

NAMED = {"golden": [{"file": "golden/02.npy", "score": 0.0, "verdict": "ok"}]}


def with_features(path: Path, raw: bytes) -> Path:
    """Write a model whose one golden part has these features."""
    kept = {name: each for name, each in small_members().items() if "golden" not in name}
    return forge(path, {**kept, "golden/02.npy": raw}, NAMED)


def test_golden_features_come_back_as_they_were(tmp_path: Path) -> None:
    row = np.linspace(-3, 3, 7, dtype=np.float32)
    (raw,) = encode_pictures({"golden/02.npy": row}).values()
    found = read_model(with_features(tmp_path / "a.makellos", raw)).golden_picture("golden/02.npy")
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
    model = read_model(with_features(tmp_path / "a.makellos", raw))
    with pytest.raises(ModelFileError, match=r"golden/02\.npy does not hold features"):
        model.golden_picture("golden/02.npy")
