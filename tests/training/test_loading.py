"""The size and the channels that a network takes, and pictures read to them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import no_progress
from makellos.detectors.loading import choose_preprocessing, load_pictures
from makellos.errors import InputError
from makellos.inspection.preprocessing import Preprocessing
from makellos.training.pictures import Pictures


def parts_of(folder: Path, *pictures: NDArray[np.uint8] | NDArray[np.uint16]) -> list[Part]:
    """Write pictures, H×W gray or H×W×3 RGB, as PNG."""
    parts = []
    for i, picture in enumerate(pictures):
        path = folder / f"{i}.png"
        stored = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        assert cv2.imwrite(str(path), stored)
        parts.append(Part(source=path, name=path.name, label="good"))
    return parts


def noise(*shape: int, depth: type = np.uint8) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(shape)).integers(0, np.iinfo(depth).max, shape, depth)


def gray_as_rgb(height: int, width: int) -> NDArray[np.uint8]:
    return np.repeat(noise(height, width)[..., None], 3, axis=2)


def chosen(parts: list[Part], *, image_size: int = 0, channels: int = 0, default: int = 0) -> tuple:
    preprocessing = choose_preprocessing(
        parts,
        image_size=image_size,
        channels=channels,
        default_size=256,
        default_channels=default,
    )
    return preprocessing.shape


@pytest.mark.parametrize(
    ("pictures", "shape"),
    [
        ([noise(28, 28), noise(28, 28)], (1, 28, 28)),
        ([gray_as_rgb(28, 28), gray_as_rgb(28, 28)], (1, 28, 28)),
        ([gray_as_rgb(32, 32), noise(32, 32, 3)], (3, 32, 32)),
        ([noise(32, 32, 3), noise(32, 32, 3)], (3, 32, 32)),
        ([noise(40, 24), noise(40, 24)], (1, 40, 24)),
        ([noise(64, 64), noise(64, 64)], (1, 64, 64)),
        ([noise(65, 65), noise(65, 65)], (1, 256, 256)),
        ([noise(28, 28), noise(32, 28)], (1, 256, 256)),
        ([noise(12, 28), noise(12, 28)], (1, 256, 256)),
        ([noise(28, 28), noise(200, 200, 3)], (3, 256, 256)),
    ],
)
def test_size_and_channels_follow_small_uniform_pictures(
    tmp_path: Path, pictures: list[NDArray[np.uint8]], shape: tuple[int, ...]
) -> None:
    assert chosen(parts_of(tmp_path, *pictures)) == shape


def test_what_is_asked_for_is_taken(tmp_path: Path) -> None:
    small = parts_of(tmp_path, noise(28, 28, 3), noise(28, 28, 3))
    assert chosen(small, image_size=100) == (3, 100, 100)
    assert chosen(small, channels=1) == (1, 28, 28)
    assert chosen(small, default=1) == (3, 28, 28)  # small and uniform: followed


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ([(90, 90), (90, 90)], (64, 64)),
        ([(210, 70), (210, 70)], (112, 40)),
        ([(70, 210), (70, 210)], (40, 112)),
        ([(1000, 20), (1000, 20)], (128, 32)),
        ([(90, 70), (70, 90)], (64, 64)),
        ([(40, 20), (40, 20)], (40, 20)),
    ],
)
def test_pictures_of_one_size_keep_their_proportions(
    tmp_path: Path, sizes: list[tuple[int, int]], shape: tuple[int, int]
) -> None:
    parts = parts_of(tmp_path, *(noise(*size) for size in sizes))
    wanted = {"channels": 0, "default_size": 64, "in_proportion": True}
    assert choose_preprocessing(parts, image_size=0, **wanted).shape[1:] == shape
    assert choose_preprocessing(parts, image_size=32, **wanted).shape[1:] == (32, 32)


def test_the_default_colour_is_for_pictures_that_are_not_small(tmp_path: Path) -> None:
    large = parts_of(tmp_path, noise(80, 80, 3), noise(80, 80, 3))
    assert chosen(large, default=1) == (1, 256, 256)
    assert chosen(large) == (3, 256, 256)


def test_one_coloured_picture_among_many_small_ones_counts(tmp_path: Path) -> None:
    pictures = [gray_as_rgb(16, 16) for _ in range(99)] + [noise(16, 16, 3)]
    assert chosen(parts_of(tmp_path, *pictures)) == (3, 16, 16)


def loaded(parts: list[Part], channels: int = 1, side: int = 16) -> Pictures:
    preprocessing = Preprocessing(height=side, width=side, channels=channels)  # type: ignore[arg-type]
    return load_pictures(parts, preprocessing, no_progress)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_what_an_inspection_sees(tmp_path: Path, depth: type, channels: int) -> None:
    pictures = [noise(16, 16, 3, depth=depth), noise(40, 24, 3, depth=depth)]
    parts = parts_of(tmp_path, *pictures)
    preprocessing = Preprocessing(height=16, width=16, channels=channels)  # type: ignore[arg-type]
    batch = loaded(parts, channels).batch([1, 0])
    assert (batch.dtype, batch.shape) == (torch.float32, (2, channels, 16, 16))
    expected = np.concatenate([preprocessing(pictures[1]), preprocessing(pictures[0])])
    np.testing.assert_allclose(batch, expected, atol=1e-6)


@pytest.mark.parametrize("first", [np.uint8, np.uint16])
def test_depths_may_be_mixed(tmp_path: Path, first: type) -> None:
    """The fine steps of 16 bits are kept, whichever comes first."""
    other = np.uint16 if first is np.uint8 else np.uint8
    pictures = [noise(16, 16, depth=first), noise(16, 16, depth=other), noise(16, 16, depth=first)]
    batch = loaded(parts_of(tmp_path, *pictures)).batch(range(3))
    for values, picture in zip(batch, pictures, strict=True):
        expected = picture / np.iinfo(picture.dtype).max
        np.testing.assert_allclose(values[0], expected, atol=1e-6)


def test_progress_and_unreadable_pictures(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, noise(16, 16), noise(16, 16))
    told: list[tuple[str, int, int]] = []
    load_pictures(
        parts, Preprocessing(height=16, width=16, channels=1), lambda *args: told.append(args)
    )
    assert told == [("reading pictures", 1, 2), ("reading pictures", 2, 2)]
    parts[1].path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png"):
        loaded(parts)


def test_many_pictures_lie_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = parts_of(tmp_path, noise(16, 16), noise(16, 16), noise(16, 16, depth=np.uint16))
    expected = loaded(parts)
    monkeypatch.setattr("makellos.training.pictures._MAX_BYTES", 100)
    mapped = loaded(parts)
    assert isinstance(mapped._values, np.memmap)
    assert torch.equal(mapped.batch(range(3)), expected.batch(range(3)))
    assert mapped.fingerprint() == expected.fingerprint()
    # Parts of it are no copies in memory.
    assert mapped.subset([0, 2])._values is mapped._values


def counted(n: int) -> Pictures:
    return Pictures(np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1))


def numbers(pictures: Pictures) -> list[int]:
    return [round(255 * float(value)) for value in pictures.batch(range(pictures.n)).flatten()]


def test_split_takes_each_picture_once() -> None:
    learn, aside = counted(50).split(0.2, at_least=5, seed=1)
    assert aside is not None
    assert (learn.n, aside.n) == (40, 10)
    assert sorted(numbers(learn) + numbers(aside)) == list(range(50))
    assert numbers(learn) == sorted(numbers(learn))


def test_split_depends_on_the_seed_alone() -> None:
    first, again, other = (counted(50).split(0.2, at_least=5, seed=seed)[1] for seed in (1, 1, 2))
    assert first is not None and again is not None and other is not None
    assert numbers(first) == numbers(again)
    assert numbers(first) != numbers(other)


def test_split_sets_nothing_aside_where_that_is_too_little() -> None:
    pictures = counted(20)
    learn, aside = pictures.split(0.2, at_least=5, seed=1)
    assert learn is pictures
    assert aside is None


def test_subsets_of_subsets() -> None:
    some = counted(20).subset([3, 5, 7, 11]).subset([1, 3])
    assert numbers(some) == [5, 11]
    assert some.n == 2
    assert some.shape == (1, 1, 1)
    assert (
        some.fingerprint()
        == Pictures(np.array([5, 11], np.uint8).reshape(2, 1, 1, 1)).fingerprint()
    )


def test_a_batch_is_a_copy() -> None:
    deep = Pictures(np.full((2, 1, 1, 1), 0.5, np.float32))
    deep.batch([0, 1]).zero_()
    assert deep.batch([0])[0, 0, 0, 0] == 0.5


def test_fingerprints_tell_values_shape_and_order_apart() -> None:
    made = [
        counted(4),
        counted(3),
        counted(4).subset([1, 0, 2, 3]),
        Pictures(np.arange(4, dtype=np.uint8).reshape(2, 1, 2, 1)),
        Pictures(np.arange(4, dtype=np.uint8).reshape(2, 1, 1, 2)),
        Pictures(np.zeros((4, 1, 1, 1), np.float32)),
    ]
    assert len({pictures.fingerprint() for pictures in made}) == len(made)
    assert counted(4).fingerprint() == counted(4).fingerprint()
