"""MNIST and CIFAR as they are passed around: digits and classes out of NumPy files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from makellos import find_parts

pytestmark = pytest.mark.real


def test_a_digit_is_good(real_data: Path) -> None:
    found = find_parts(real_data / "mnist_t10k.npz", good="0")
    stored = np.load(real_data / "mnist_t10k.npz")
    assert len(found.good()) == int((stored["labels"] == 0).sum()) == 980
    assert {part.label for part in found} == {"good", *"123456789"}
    assert all(
        (part.read() == stored["images"][i]).all() for i, part in enumerate(found.parts[:50])
    )


def test_classes_have_names(real_data: Path) -> None:
    found = find_parts(real_data / "cifar10_automobile.npz", good="automobile")
    counted = Counter((part.split, part.is_good) for part in found)
    assert counted == {("train", True): 2000, ("test", True): 500, ("test", False): 504}
    assert found.parts[0].read().shape == (32, 32, 3)
    assert len({part.label for part in found.test()}) == 10
