"""Parts joined with references of their own: one picture of both, whatever they are like."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from makellos.data.parts import Part, Values
from makellos.data.white_level import filling_their_depth
from makellos.errors import InputError
from makellos.inspection.preprocessing import Preprocessing
from makellos.inspection.references import apart, joined, laid_onto_its_own, stacked, unstacked
from makellos.sets import render_board

RNG = np.random.default_rng(0)


def test_a_reference_takes_size_depth_and_colours_of_the_part() -> None:
    picture = RNG.integers(0, 65535, (20, 30, 3), np.uint16)
    reference = np.full((40, 60), 51, np.uint8)
    both = joined(picture, reference)
    assert (both.shape, both.dtype) == ((20, 30, 6), np.uint16)
    part, behind = apart(both)
    np.testing.assert_array_equal(part, picture)
    assert (behind == 51 * 257).all()
    twelve_bits = apart(joined(picture // 16, reference, 4095))[1]
    assert (twelve_bits == 819).all()


def test_both_are_stored_as_one_picture() -> None:
    both = RNG.integers(0, 255, (8, 5, 6), np.uint8)
    assert stacked(both).shape == (16, 5, 3)
    np.testing.assert_array_equal(unstacked(stacked(both)), both)
    with pytest.raises(ValueError, match="no part and reference"):
        unstacked(np.zeros((7, 5, 3), np.uint8))


def test_the_part_is_laid_onto_the_reference_and_the_map_back() -> None:
    reference = render_board(seed=1, size=192).picture
    shift = np.array([[1.0, 0, 6], [0, 1, -4]])
    picture = cv2.warpAffine(reference, shift, (192, 192), borderMode=cv2.BORDER_REPLICATE)
    placed = laid_onto_its_own(joined(picture, reference))
    part, behind = apart(placed.picture)
    np.testing.assert_array_equal(behind, reference)
    inside = (slice(20, -20), slice(20, -20))
    assert np.abs(part[inside].astype(int) - reference[inside]).mean() < 2
    there = np.zeros((48, 48), np.float32)
    there[20, 20] = 1
    assert np.argwhere(placed.back(there) == 1).tolist() == [[19, 21]]


def test_preprocessing_takes_both_and_reads_each_reference_once() -> None:
    part = Part(source=Values(np.full((32, 32), 255, np.uint8)), name="a")
    plain = Preprocessing(height=32, width=32)
    compares = plain.model_copy(update={"compares": "as it lies"})
    assert (plain.shape, compares.shape) == ((3, 32, 32), (6, 32, 32))
    np.testing.assert_array_equal(plain.read(part), part.read())
    with pytest.raises(InputError, match="a has no reference to compare it with"):
        compares.read(part)
    dark = Part(source=part.source, name="a", reference=Values(np.zeros((32, 32), np.uint8)))
    both = compares.read(dark)
    assert compares(both).mean((0, 2, 3)).tolist() == [1, 1, 1, 0, 0, 0]
    assert compares.joined(both, part) is both
    assert compares.place(both) is None


def test_a_reference_that_is_not_there_is_named_with_its_part(tmp_path: Path) -> None:
    part = Part(source=Values(np.zeros((8, 8), np.uint8)), name="p7", reference=tmp_path / "g.png")
    with pytest.raises(InputError, match=r"The reference of p7 cannot be used: .*g\.png"):
        part.read_reference()


def test_white_levels_hold_for_references_too() -> None:
    values = Values(np.full((4, 4), 4095, np.uint16))
    (part,) = filling_their_depth([Part(source=values, name="a", reference=values)], 4095)
    assert part.read().max() == part.read_reference().max() == 65535
