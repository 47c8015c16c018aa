"""Patch embeddings of parts, computed by the engine that also inspects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.data.threads import in_order
from makellos.detectors.graphs import GraphBuilder
from makellos.detectors.patches.backbones import export_backbone
from makellos.errors import ConfigurationError
from makellos.inspection.engines import Engine, available_engines, default_workers, open_engine
from makellos.inspection.preprocessing import LARGEST_SIDE, Preprocessing

__all__ = ["PatchEmbedder", "choose_size", "distances_of", "load_embedder", "parse_layers"]

STRIDE = 32  # sizes are multiples of the networks' deepest stride
MIN_SIDE = 256  # networks trained at 224 see little below this
_SIZE_SAMPLE = 32

Embedding = NDArray[np.float32]


def choose_size(
    parts: Sequence[Part], *, image_size: int, max_image_size: int, multiple: int = STRIDE
) -> Preprocessing:
    """Choose the input size of a network for parts.

    `image_size` > 0 is the side of a square. 0 takes the median height and width of the pictures
    (of up to 63 evenly drawn ones), shrunk where height × width passes `max_image_size` squared or
    a side 16,384, grown where it is below 256 squared, and rounded to multiples of `multiple`.
    """
    if image_size:
        side = _rounded(image_size, multiple)
        return Preprocessing(height=side, width=side)
    step = max(1, len(parts) // _SIZE_SAMPLE)
    sizes = [part.read().shape[:2] for part in parts[::step]]
    height, width = (float(value) for value in np.median(np.array(sizes), axis=0))
    side = (height * width) ** 0.5
    scale = min(max(side, MIN_SIDE), max_image_size) / side
    scale = min(scale, LARGEST_SIDE // multiple * multiple / max(height, width))
    return Preprocessing(
        height=_rounded(height * scale, multiple), width=_rounded(width * scale, multiple)
    )


def parse_layers(text: str) -> tuple[int | str, ...]:
    """Return the stages or modules that a text such as ``3,4`` names; empty: the backbone's own.

    >>> parse_layers("-2,-1")
    (-2, -1)
    >>> parse_layers("blocks.3, blocks.4")
    ('blocks.3', 'blocks.4')
    """
    pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
    layers = tuple(_stage(piece) for piece in pieces)
    if len({type(layer) for layer in layers}) > 1:
        raise ConfigurationError(
            f"layers is {text!r}; expected stage numbers with commas, such as '3,4', or names "
            "of modules, such as 'blocks.3,blocks.4'."
        )
    return layers


def _stage(piece: str) -> int | str:
    try:
        return int(piece)
    except ValueError:
        return piece


@dataclass(frozen=True)
class PatchEmbedder:
    """Embed pictures patch by patch: the backbone's feature maps, averaged over neighbours.

    `graph` has the outputs `names`, each N×channels×height×width with the `shapes` below. `workers`
    parts are worked on at once; None: as many as suit the machine.
    """

    graph: bytes
    names: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    preprocessing: Preprocessing
    workers: int | None = None

    def open(self, workers: int | None = None) -> Engine:
        """Open the fastest engine of this machine for the embedding graph."""
        count = workers or self.workers or default_workers()
        choice = available_engines()[0]
        return open_engine(self.graph, choice, shape=self.preprocessing.shape, workers=count)

    def stream(
        self, parts: Sequence[Part], progress: Progress, what: str = "embedding good parts"
    ) -> Iterator[list[Embedding]]:
        """Yield the patch embeddings of each part in order: per layer an array patches×channels."""
        workers = self.workers or default_workers()
        engine = self.open(workers)

        def embed(part: Part) -> list[Embedding]:
            outputs = engine.run(self.preprocessing(part.read()))
            return [
                np.ascontiguousarray(outputs[name][0].reshape(shape[0], -1).T)
                for name, shape in zip(self.names, self.shapes, strict=True)
            ]

        for done, found in enumerate(in_order(embed, parts, threads=workers + 1), start=1):
            yield found
            progress(what, done, len(parts))


def load_embedder(
    preprocessing: Preprocessing,
    *,
    backbone: str,
    weights: str,
    layers: str,
    patch_size: int,
    norm: bool = False,
) -> PatchEmbedder:
    """Export a backbone for a size and add the averaging over patch_size² neighbours.

    `norm` puts the tokens of a transformer through its last norm.
    Raises `ConfigurationError` when a layer's map does not divide the finest one evenly.
    """
    exported = export_backbone(
        backbone,
        weights=weights,
        layers=parse_layers(layers),
        height=preprocessing.height,
        width=preprocessing.width,
        **({"norm": True} if norm else {}),
    )
    builder = GraphBuilder(exported)
    maps = [output.name for output in builder.model.graph.output]
    names = tuple(builder.local_mean(name, patch_size) for name in maps)
    unknown = builder.with_outputs({name: ["n", "c", "h", "w"] for name in names})
    probe = open_engine(unknown, available_engines()[-1], shape=preprocessing.shape)
    outputs = probe.run(np.zeros((1, *preprocessing.shape), np.float32))
    shapes = tuple((c, h, w) for _, c, h, w in (outputs[name].shape for name in names))
    finest = shapes[0]
    for _, height, width in shapes:
        if finest[1] % height or finest[2] % width or finest[1] // height != finest[2] // width:
            raise ConfigurationError(
                f"{backbone}: feature maps {shapes} do not divide the first evenly. List "
                "layers from fine to coarse and take an image_size that is a multiple of 32."
            )
    return PatchEmbedder(unknown, names, shapes, preprocessing)


def distances_of(name: str) -> str:
    """Return the name of the tensor N×1×h×w with the distances of a layer, 1 in the mean."""
    return f"distances_{name}"


def _rounded(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)
