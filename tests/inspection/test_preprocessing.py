"""Pre-processing against arithmetic done by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pydantic import ValidationError

from makellos.data.pictures import Picture
from makellos.inspection import Preprocessing

pictures = st.sampled_from([np.uint8, np.uint16]).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        st.tuples(st.integers(1, 40), st.integers(1, 40))
        | st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)),
    )
)
targets = st.builds(
    Preprocessing,
    height=st.integers(16, 48),
    width=st.integers(16, 48),
    channels=st.sampled_from([1, 3]),
    white_level=st.none() | st.integers(1, 65535),
)


def to_batch(picture: Picture, channels: int = 3, **fields: int) -> NDArray[np.float32]:
    """Return the batch of a picture at its own size."""
    height, width = picture.shape[:2]
    return Preprocessing(height=height, width=width, channels=channels, **fields)(picture)


@given(pictures, targets)
def test_every_picture_becomes_a_float_batch_of_the_right_shape(
    picture: Picture, preprocessing: Preprocessing
) -> None:
    before = picture.copy()
    batch = preprocessing(picture)
    assert batch.shape == (1, *preprocessing.shape)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    assert batch.min() >= 0
    assert batch.max() <= 1
    assert (picture == before).all()


@given(pictures, targets)
def test_golden_pictures_are_resized_once(picture: Picture, preprocessing: Preprocessing) -> None:
    # A golden part is stored resized, in its depth: scoring it again must give the same score.
    small = preprocessing.resize(picture)
    assert small.dtype == picture.dtype
    assert small.shape[:2] == preprocessing.shape[1:]
    assert np.array_equal(preprocessing(small), preprocessing(picture))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_levels_are_divided_by_full_scale(dtype: type[np.uint8] | type[np.uint16]) -> None:
    levels = np.linspace(0, np.iinfo(dtype).max, 256).round().astype(dtype).reshape(16, 16)
    expected = levels / np.iinfo(dtype).max
    batch = to_batch(levels)
    for channel in range(3):
        assert np.allclose(batch[0, channel], expected, rtol=0, atol=1e-7)
    assert batch.max() == 1


def test_white_level_is_white_in_16_bits_only() -> None:
    twelve = np.array([[0, 1000], [4095, 60000]], np.uint16).repeat(8, 0).repeat(8, 1)
    batch = to_batch(twelve, white_level=4095)
    expected = [[0, 1000 / 4095], [1, 1]]
    assert np.allclose(batch[0, 0, ::8, ::8], expected, atol=1e-7)
    eight = np.full((16, 16), 51, np.uint8)
    assert np.allclose(to_batch(eight, white_level=4095), 0.2)


def test_channels_are_red_green_blue() -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:] = (255, 51, 0)
    assert np.allclose(to_batch(picture).mean((0, 2, 3)), [1, 0.2, 0])


def test_gray_fills_every_channel() -> None:
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16)
    batch = to_batch(picture)
    assert np.array_equal(batch[0, 0], batch[0, 1])
    assert np.array_equal(batch[0, 0], batch[0, 2])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_color_becomes_luma_for_one_channel(dtype: type[np.uint8] | type[np.uint16]) -> None:
    rng = np.random.default_rng(0)
    full = np.iinfo(dtype).max
    picture = rng.integers(0, full, (16, 16, 3), dtype=dtype, endpoint=True)
    expected = picture @ [0.299, 0.587, 0.114] / full
    assert np.allclose(to_batch(picture, channels=1)[0, 0], expected, atol=0.6 / full + 2e-5)


def test_shrinking_averages_areas() -> None:
    picture = np.random.default_rng(1).integers(0, 65535, (16 * 4, 16 * 6, 3), dtype=np.uint16)
    expected = picture.reshape(16, 4, 16, 6, 3).mean((1, 3)) / 65535
    batch = Preprocessing(height=16, width=16)(picture)
    assert np.allclose(batch[0], expected.transpose(2, 0, 1), atol=1 / 65535)


@pytest.mark.parametrize("turned", [False, True])
def test_shrinking_along_one_axis_averages_although_the_other_grows(*, turned: bool) -> None:
    # A strip of alternating lines: picking pixels instead of averaging gives stripes of moiré.
    picture = np.random.default_rng(2).integers(0, 255, (16, 64 * 8), dtype=np.uint8)
    expected = picture.reshape(16, 64, 8).mean(2) / 255
    preprocessing = Preprocessing(height=48, width=64)
    if turned:
        picture, preprocessing = picture.T.copy(), Preprocessing(height=64, width=48)
    plane = preprocessing(picture)[0, 0]
    grown = plane.T if turned else plane
    # Every third line lies on a line of the original.
    assert np.allclose(grown[1::3], expected, atol=1 / 255)


def test_growing_is_bilinear() -> None:
    picture = np.array([[0, 200]], np.uint8).repeat(16, 0).repeat(8, 1)
    batch = Preprocessing(height=16, width=64)(picture)
    row = cv2.resize(picture[:1], (64, 1), interpolation=cv2.INTER_LINEAR)[0] / 255
    assert np.allclose(batch[0, 0, 5], row, atol=1 / 255)
    assert (np.diff(batch[0, 0, 5]) >= 0).all()
    assert len(np.unique(batch[0, 0, 5])) > 2


@pytest.mark.parametrize("shape", [(1, 40_000), (40_000, 1, 3), (1, 1)])
def test_extreme_shapes_pass(shape: tuple[int, ...]) -> None:
    batch = Preprocessing(height=32, width=48)(np.full(shape, 255, np.uint8))
    assert batch.shape == (1, 3, 32, 48)
    assert np.allclose(batch, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"height": 15, "width": 64},
        {"height": 64, "width": 16385},
        {"height": 64, "width": 64, "channels": 2},
        {"height": 64, "width": 64, "channels": 10**9},
        {"height": 64, "width": 64, "white_level": 0},
        {"height": 64, "width": 64, "white_level": 65536},
        {"height": 64, "width": 64, "crop": 8},
    ],
)
def test_fields_out_of_range(fields: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing.model_validate(fields)
