"""Input sizes, names of layers, and patch embeddings in the order of parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_parts import MakeParts
from known_backbone import known_backbone, known_layers, local_mean, patches

from makellos.data.parts import Part
from makellos.data.pictures import read_picture
from makellos.data.progress import no_progress
from makellos.detectors.patches import embeddings
from makellos.detectors.patches.embeddings import (
    PatchEmbedder,
    choose_size,
    load_embedder,
    parse_layers,
)
from makellos.drawing.overlays import write_picture
from makellos.errors import ConfigurationError, InputError
from makellos.inspection.preprocessing import Preprocessing


def parts_of(folder: Path, *sizes: tuple[int, int]) -> list[Part]:
    """Return black parts of these heights and widths."""
    parts = []
    for i, size in enumerate(sizes):
        path = folder / f"{i:03d}.png"
        write_picture(path, np.zeros(size, np.uint8))
        parts.append(Part(source=path, name=path.name))
    return parts


# Sizes


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ([(256, 256)] * 3, 768, (256, 256)),
        ([(512, 320)] * 3, 768, (512, 320)),
        ([(500, 330)] * 3, 768, (512, 320)),  # to multiples of 32
        ([(2000, 2000)] * 3, 768, (768, 768)),  # shrunk to the limit
        ([(2000, 500)] * 3, 512, (1024, 256)),  # by area, with its proportions
        ([(64, 64)] * 3, 768, (256, 256)),  # grown to what networks see
        ([(64, 64)] * 3, 128, (128, 128)),  # the limit rules
        ([(300, 300), (600, 600), (900, 900)], 768, (608, 608)),  # the median
        ([(20, 3000)] * 3, 768, (32, 3136)),  # a strip keeps at least 32 pixels
        ([(20, 25_000)] * 3, 768, (32, 16_384)),  # and is no longer than networks take
    ],
)
def test_size_follows_the_pictures(
    sizes: list[tuple[int, int]], limit: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    chosen = choose_size(parts_of(tmp_path, *sizes), image_size=0, max_image_size=limit)
    assert (chosen.height, chosen.width) == expected


@pytest.mark.parametrize(("side", "expected"), [(128, 128), (300, 288), (1, 32), (50, 64)])
def test_size_that_is_given_is_taken_without_a_look_at_the_pictures(
    side: int, expected: int
) -> None:
    nowhere = [Part(source=Path("missing.png"), name="missing.png")] * 2
    chosen = choose_size(nowhere, image_size=side, max_image_size=64)
    assert chosen.shape == (3, expected, expected)


def test_size_looks_at_parts_from_all_over(tmp_path: Path) -> None:
    """Where the first parts are of another size than the rest, the rest decides."""
    sizes = [(512, 512)] * 20 + [(256, 256)] * 60
    chosen = choose_size(parts_of(tmp_path, *sizes), image_size=0, max_image_size=768)
    assert chosen.height == 256


# Layers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("3,4", (3, 4)),
        (" 2 , 3 ", (2, 3)),
        ("-2,-1", (-2, -1)),
        ("4", (4,)),
        ("2,", (2,)),
        ("blocks.3, blocks.4", ("blocks.3", "blocks.4")),
    ],
)
def test_layers_are_parsed(text: str, expected: tuple[int | str, ...]) -> None:
    assert parse_layers(text) == expected


@pytest.mark.parametrize("text", ["3,three", "2,blocks.4"])
def test_layers_are_numbers_or_names(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"layers is '.*'; expected stage numbers"):
        parse_layers(text)


# Embeddings


def load(height: int = 64, width: int = 96, patch_size: int = 3) -> PatchEmbedder:
    size = Preprocessing(height=height, width=width)
    return load_embedder(size, backbone="known", weights="", layers="", patch_size=patch_size)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("patch_size", [1, 2, 3, 5])
def test_embeddings_are_the_layers_averaged_over_neighbours(
    patch_size: int, make_parts: MakeParts
) -> None:
    embedder = load(patch_size=patch_size)
    assert embedder.shapes == ((6, 8, 12), (4, 4, 6))
    (part,) = make_parts(1, 64, 96)
    (found,) = embedder.stream([part], no_progress)
    layers = known_layers(embedder.preprocessing(read_picture(part.path)))
    for embedding, layer in zip(found, layers, strict=True):
        np.testing.assert_allclose(embedding, patches(local_mean(layer, patch_size)), atol=1e-5)


@pytest.mark.usefixtures("known")
def test_embeddings_come_in_the_order_of_parts(tmp_path: Path) -> None:
    """More parts than are in work at once, each with a gray of its own."""
    parts = []
    for i in range(60):
        path = tmp_path / f"{i:02d}.png"
        write_picture(path, np.full((64, 64), 4 * i, np.uint8))
        parts.append(Part(source=path, name=path.name))
    told: list[tuple[str, int, int]] = []
    embedder = load(64, 64)
    reds = [e[0][0, 0] for e in embedder.stream(parts, lambda *report: told.append(report))]
    np.testing.assert_allclose(reds, np.arange(60) * 4 / 255, atol=1e-5)
    assert told == [("embedding good parts", i + 1, 60) for i in range(60)]


@pytest.mark.usefixtures("known")
def test_a_part_that_cannot_be_read_is_named(make_parts: MakeParts, tmp_path: Path) -> None:
    missing = Part(source=tmp_path / "missing.png", name="missing.png")
    with pytest.raises(InputError, match=r"missing\.png does not exist"):
        list(load(64, 64).stream([*make_parts(3), missing], no_progress))


@pytest.mark.usefixtures("known")
def test_layers_that_do_not_divide_are_refused() -> None:
    """Of 72 pixels the cells of 16 leave some over: 9 and 4 cells."""
    with pytest.raises(ConfigurationError, match="do not divide the first evenly"):
        load(72, 72)


def test_embeddings_are_computed_by_the_fastest_engine(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is learned must come from the engine that inspects."""
    monkeypatch.setattr(
        embeddings,
        "export_backbone",
        lambda name, height, width, **rest: known_backbone(height, width),
    )
    assert load(64, 64).open().choice == embeddings.available_engines()[0]
