"""EfficientNet-Lite0 as a description and a file of weights: the backbone without PyTorch.

The weights lie beside this file, under timm's names: those of convolutions in bf16 with the batch
norm after them folded in, the norms themselves in f32 (in place of a variance its `spread`, the
root that is divided by). The card in the same folder says where they
come from, under which licence, and what was changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from makellos.detectors.graphs import GraphBuilder, empty_graph
from makellos.errors import ConfigurationError, suggest

__all__ = [
    "EPSILON",
    "WEIGHTS",
    "build_graph",
    "fold",
    "folded_pairs",
    "read_weights",
    "unfolded_weights",
]

WEIGHTS = Path(__file__).parent / "weights" / "efficientnet_lite0.safetensors"
_NAME = "efficientnet_lite0"
# Blocks, side of the depthwise kernels, and stride of the first block, by stage.
_STAGES = ((1, 3, 1), (2, 3, 2), (2, 5, 2), (3, 3, 2), (3, 5, 1), (4, 5, 2), (1, 3, 1))
EPSILON = np.float32(1e-3)  # that the batch norms add to a variance
_CENTRE = np.full((1, 3, 1, 1), 0.5, np.float32)  # pictures are seen from -1 to 1

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class _Convolution:
    """Describe a convolution, the batch norm after it and whether ReLU6 follows."""

    name: str
    norm: str
    kernel: int = 1
    stride: int = 1
    active: bool = True


@dataclass(frozen=True)
class _Map:
    """A tensor of the graph and its shape C×h×w."""

    tensor: str
    shape: tuple[int, int, int]


def build_graph(layers: Sequence[int | str], height: int, width: int) -> bytes:
    """Return the network as ONNX: ``picture`` N×3×H×W in [0, 1] to ``layer_0``, ``layer_1``, …

    `layers` are numbers of stages, which end where the map is halved, or timm's names of blocks and
    norms, such as ``blocks.3``. What none of them needs is left out. Raises `ConfigurationError`
    for layers that are not there or named twice.
    """
    names = _module_names(layers)
    builder = GraphBuilder(empty_graph(_NAME, {"picture": ["n", 3, height, width]}))
    known: dict[int | str, _Map] = {}
    modules = _modules(builder, read_weights(), (height, width))
    while not known.keys() >= set(names):
        module, found = next(modules, ("", None))
        if found is None:
            raise _not_there(next(name for name in names if name not in known), known)
        known[module] = found
    outputs: dict[str, list[int | str]] = {}
    for i, name in enumerate(names):
        # A map may have two names, and be asked for under both.
        builder.rename(builder.add("Identity", known[name].tensor), f"layer_{i}")
        outputs[f"layer_{i}"] = ["n", *known[name].shape]
    return builder.with_outputs(outputs)


def _not_there(name: int | str, known: Iterable[int | str]) -> ConfigurationError:
    blocks = [other for other in known if str(other).count(".") < 2]
    return ConfigurationError(
        f"{_NAME} has no module {name!r}. {suggest(str(name), map(str, blocks))} Name modules "
        "alone, or stages by number alone."
    )


def _module_names(layers: Sequence[int | str]) -> list[int | str]:
    """Return layers with stages by number named after the block that each ends with."""
    stages = [layer for layer in layers if isinstance(layer, int)]
    if stages and len(stages) == len(layers):
        strides = [*(stride for *_, stride in _STAGES), 2]
        ends = [f"blocks.{i}" for i in range(len(_STAGES)) if strides[i + 1] == 2]
        if not all(-len(ends) <= stage < len(ends) for stage in stages):
            raise ConfigurationError(
                f"{_NAME} has no stages {tuple(layers)}. Stages count from 0 to {len(ends) - 1}; "
                "negative numbers count from the last."
            )
        layers = [ends[stage] for stage in stages]
    if len(set(layers)) < len(layers):
        raise ConfigurationError(
            f"layers names a {'stage' if stages else 'module'} of {_NAME} twice: "
            f"{', '.join(map(str, layers))}. Name each once."
        )
    return list(layers)


def _modules(
    builder: GraphBuilder, weights: Weights, size: tuple[int, int]
) -> Iterator[tuple[str, _Map]]:
    """Yield the network's modules by name, each as soon as its map is part of the graph."""
    centre = builder.constant(_CENTRE)
    seen = builder.add("Div", builder.add("Sub", "picture", centre), centre)
    limits = tuple(builder.constant(np.array(limit, np.float32)) for limit in (0, 6))
    x = _Map(seen, (3, *size))
    for name, convolutions in _blocks():
        before = x
        for each in convolutions:
            x = _convolve(builder, weights, x, each, limits)
            yield each.norm, x
        if not name:
            continue
        stage, place = name.split(".")[1:]
        if place != "0":
            x = _Map(builder.add("Add", x.tensor, before.tensor), x.shape)
        yield name, x
        if int(place) + 1 == _STAGES[int(stage)][0]:
            yield f"blocks.{stage}", x


def _blocks() -> Iterator[tuple[str, list[_Convolution]]]:
    """Yield the blocks in order, by name, with their convolutions; stem and head have no name."""
    yield "", [_Convolution("conv_stem", "bn1", kernel=3, stride=2)]
    for stage, (n_blocks, kernel, first) in enumerate(_STAGES):
        for place in range(n_blocks):
            name, stride = f"blocks.{stage}.{place}", 1 if place else first
            # The first stage does not widen its map before the depthwise convolution.
            inner = ("conv_dw", "conv_pw") if stage == 0 else ("conv_pw", "conv_dw", "conv_pwl")
            yield (
                name,
                [
                    _Convolution(
                        f"{name}.{convolution}",
                        f"{name}.bn{i}",
                        kernel=kernel if convolution == "conv_dw" else 1,
                        stride=stride if convolution == "conv_dw" else 1,
                        active=i < len(inner),
                    )
                    for i, convolution in enumerate(inner, start=1)
                ],
            )
    yield "", [_Convolution("conv_head", "bn2")]


def _convolve(
    builder: GraphBuilder, weights: Weights, x: _Map, each: _Convolution, limits: Sequence[str]
) -> _Map:
    kernels, bias = weights[f"{each.name}.weight"], _bias(weights, each.norm)
    sides = [-(-side // each.stride) for side in x.shape[1:]]
    # As TensorFlow pads: of an odd number of lines the larger half lies below and to the right.
    padding = [
        max((out - 1) * each.stride + each.kernel - side, 0)
        for side, out in zip(x.shape[1:], sides, strict=True)
    ]
    convolved = builder.add(
        "Conv",
        x.tensor,
        builder.constant(kernels, f"{each.name}.weight"),
        builder.constant(bias, f"{each.name}.bias"),
        attributes={
            "kernel_shape": [each.kernel, each.kernel],
            "strides": [each.stride, each.stride],
            "pads": [n // 2 for n in padding] + [n - n // 2 for n in padding],
            "group": x.shape[0] // kernels.shape[1],
        },
    )
    tensor = builder.add("Clip", convolved, *limits) if each.active else convolved
    return _Map(tensor, (len(kernels), sides[0], sides[1]))


def read_weights() -> Weights:
    """Return the packaged weights as float32 by name, batch norms folded into convolutions."""
    from safetensors import deserialize

    weights = {}
    for name, stored in deserialize(WEIGHTS.read_bytes()):  # type: ignore[no-untyped-call]
        if stored["dtype"] == "BF16":
            halves = np.frombuffer(stored["data"], "<u2").astype(np.uint32)
            values = (halves << 16).view(np.float32)
        else:
            values = np.frombuffer(stored["data"], "<f4")
        weights[name] = values.reshape(stored["shape"])
    return weights


def folded_pairs() -> list[tuple[str, str]]:
    """Return the names of every convolution and of the batch norm that is folded into it."""
    return [(each.name, each.norm) for _, convolutions in _blocks() for each in convolutions]


def fold(weights: Weights) -> Weights:
    """Return weights of the whole network with each batch norm folded into its convolution."""
    return {**weights, **_rescaled(weights, np.multiply)}


def unfolded_weights() -> Weights:
    """Return the packaged weights under timm's names, as before batch norms were folded in.

    With its norms, which the file holds as well, such a network is trained as the original is; in
    evaluation mode it computes what the graph does.
    """
    folded = read_weights()
    weights = {**folded, **_rescaled(folded, np.divide)}
    for name in folded:
        norm, _, kind = name.rpartition(".")
        if kind == "spread":
            variance = np.square(weights.pop(name)) - EPSILON
            weights[f"{norm}.running_var"] = np.maximum(variance, 0)
    return weights


def _rescaled(weights: Weights, by: np.ufunc) -> Weights:
    """Return every convolution's weights multiplied, or divided, by what its norm multiplies."""
    return {
        f"{name}.weight": by(weights[f"{name}.weight"], _gain(weights, norm)[:, None, None, None])
        for name, norm in folded_pairs()
    }


def _gain(weights: Weights, norm: str) -> NDArray[np.float32]:
    gain: NDArray[np.float32] = weights[f"{norm}.weight"] / weights[f"{norm}.spread"]
    return gain


def _bias(weights: Weights, norm: str) -> NDArray[np.float32]:
    """Return what a folded batch norm adds to its convolution."""
    moved = weights[f"{norm}.running_mean"] * _gain(weights, norm)
    bias: NDArray[np.float32] = weights[f"{norm}.bias"] - moved
    return bias
