"""A backbone whose layers are known functions of the picture, and the detectors' sums by hand.

`layer_0` has one cell per 8×8 pixels with the channels mean red, green and blue, red times green,
row, column; `layer_1` one per 16×16 pixels with green, blue, red minus green, column. Rows and
columns count from 0 and are shares of the grid. All references compute in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float64]


def known_backbone(height: int, width: int) -> bytes:
    """Return the backbone as ONNX for pictures of `height`×`width`."""
    constants = {
        "zero": np.zeros(1, np.float32),
        "red": np.array([0]),
        "green": np.array([1]),
        "blue": np.array([2]),
        "places_0": _places(height // 8, width // 8).astype(np.float32)[np.newaxis],
        "places_1": _places(height // 16, width // 16).astype(np.float32)[np.newaxis, 1:],
    }
    nodes = []
    for i, stride in enumerate((8, 16)):
        sizes = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes.append(helper.make_node("AveragePool", ["picture"], [f"mean_{i}"], **sizes))
        for color in ("red", "green", "blue"):
            taken = [f"mean_{i}", color]
            nodes.append(helper.make_node("Gather", taken, [f"{color}_{i}"], axis=1))
        nodes.append(helper.make_node("Mul", [f"red_{i}", "zero"], [f"empty_{i}"]))
        nodes.append(helper.make_node("Add", [f"empty_{i}", f"places_{i}"], [f"where_{i}"]))
    nodes += [
        helper.make_node("Mul", ["red_0", "green_0"], ["product"]),
        helper.make_node("Sub", ["red_1", "green_1"], ["difference"]),
        helper.make_node("Concat", ["mean_0", "product", "where_0"], ["layer_0"], axis=1),
        helper.make_node(
            "Concat", ["green_1", "blue_1", "difference", "where_1"], ["layer_1"], axis=1
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "known",
        [_tensor("picture", 3, height, width)],
        [
            _tensor("layer_0", 6, height // 8, width // 8),
            _tensor("layer_1", 4, height // 16, width // 16),
        ],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def known_layers(batch: NDArray[np.float32]) -> list[Floats]:
    """Return what the backbone gives for one picture 1×3×H×W: per layer C×h×w."""
    layers = []
    for stride in (8, 16):
        _, _, height, width = batch.shape
        grid = batch[0].astype(np.float64)
        grid = grid.reshape(3, height // stride, stride, width // stride, stride).mean((2, 4))
        places = _places(*grid.shape[1:])
        red, green, blue = grid
        if stride == 8:
            layers.append(np.concatenate([grid, (red * green)[np.newaxis], places]))
        else:
            layers.append(np.stack([green, blue, red - green, places[1]]))
    return layers


def local_mean(x: Floats, size: int) -> Floats:
    """Return C×h×w averaged over size×size neighbours, at borders over those that are there.

    Of an even size the larger half lies below and to the right.
    """
    _, height, width = x.shape
    before, after = (size - 1) // 2, size // 2
    result = np.empty_like(x, dtype=np.float64)
    for row in range(height):
        for column in range(width):
            rows = slice(max(0, row - before), row + after + 1)
            columns = slice(max(0, column - before), column + after + 1)
            result[:, row, column] = x[:, rows, columns].mean((1, 2))
    return result


def nearest(points: Floats, bank: Floats) -> Floats:
    """Return the distance of each point N×C to the nearest row of the bank, by brute force."""
    rows = [np.sqrt(((bank - point) ** 2).sum(1)).min() for point in points]
    return np.array(rows)


def spacings(bank: Floats, num_neighbors: int, cap: float = 1.0) -> Floats:
    """Return the mean distance of each row to its nearest other rows, over the mean of all.

    Those above the share `cap` count as those at it.
    """
    rows = [np.sort(np.sqrt(((bank - row) ** 2).sum(1))) for row in bank]
    found = np.array([row[1 : num_neighbors + 1].mean() for row in rows])
    most = np.quantile(found, cap) / found.mean()
    return np.asarray(np.maximum(np.minimum(found / found.mean(), most), 0.1))


def nearest_of_units(points: Floats, bank: Floats, units: Floats) -> Floats:
    """Return the distance of each point to the row of the bank that is nearest in its unit."""
    rows = [(np.sqrt(((bank - point) ** 2).sum(1)) / units).min() for point in points]
    return np.array(rows)


def patches(layer: Floats) -> Floats:
    """Return C×h×w as one row per cell, row by row."""
    return layer.reshape(len(layer), -1).T


def patchcore_map(
    learned: Sequence[Sequence[Floats]],
    query: Sequence[Floats],
    *,
    patch_size: int,
    groups: Sequence[int],
    left_out: Sequence[int] = (),
    num_neighbors: int = 5,
) -> Floats:
    """Return PatchCore's map h×w where the memory bank holds every patch.

    `learned` holds the layers of each part, `groups` says which parts belong together, and the
    bank goes without the parts `left_out`.
    """
    maps = []
    height = query[0].shape[1]
    for layer, asked in enumerate(query):
        parts = [patches(local_mean(part[layer], patch_size)) for part in learned]
        every = np.concatenate(parts)
        scale = every.std(0)
        scale = scale + 1e-3 * scale.mean()
        mean = every.mean(0)
        banks = [((part - mean) / scale).astype(np.float16).astype(np.float64) for part in parts]
        units = _units(np.concatenate(banks), num_neighbors)
        by_part = np.split(units, np.cumsum([len(part) for part in parts])[:-1])
        usual = [
            nearest_of_units(
                (part - mean) / scale, _others(banks, groups, i), _others(by_part, groups, i)
            ).mean()
            for i, part in enumerate(parts)
        ]
        bank = np.concatenate([b for i, b in enumerate(banks) if i not in left_out])
        points = (patches(local_mean(asked, patch_size)) - mean) / scale
        found = nearest_of_units(points, bank, _units(bank, num_neighbors))
        grid = (found / np.mean(usual)).reshape(asked.shape[1:])
        factor = height // grid.shape[0]
        maps.append(grid.repeat(factor, axis=0).repeat(factor, axis=1))
    *fine, coarsest = maps
    total = sum((grid - grid.mean() for grid in fine), (0.25 if fine else 1) * coarsest)
    return smoothed(np.asarray(total))


def smoothed(grid: Floats) -> Floats:
    """Return the mean of 3×3 neighbours, outside of which lies the mean, which is kept."""
    height, width = grid.shape
    padded = np.pad(grid, 1, constant_values=grid.mean())
    shifted = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    found = np.mean(shifted, axis=0)
    return np.asarray(found - found.mean() + grid.mean())


def padim_map(
    learned: Sequence[Sequence[Floats]],
    query: Sequence[Floats],
    *,
    epsilon: float,
    channels: Sequence[int] | None = None,
) -> Floats:
    """Return PaDiM's map h×w by inverting one covariance per place."""
    height, width = query[0].shape[1:]
    kept = slice(None) if channels is None else list(channels)
    rows = np.array([_side_by_side(part)[:, kept] for part in learned])
    mean = rows.mean(0)
    spread = np.sqrt(rows.var(0).mean(0) + 1e-6 * mean.var(0))
    scale = spread + 1e-3 * spread.mean()
    asked = (_side_by_side(query)[:, kept] - mean) / scale
    distances = np.empty(height * width)
    for place in range(height * width):
        moved = (rows[:, place] - mean[place]) / scale
        covariance = moved.T @ moved / len(rows) + epsilon * np.eye(len(scale))
        distances[place] = np.sqrt(asked[place] @ np.linalg.inv(covariance) @ asked[place])
    grid = distances.reshape(1, height, width) / np.sqrt(len(scale))
    return local_mean(grid, 3)[0]


def _units(bank: Floats, num_neighbors: int) -> Floats:
    return spacings(bank, num_neighbors) if num_neighbors else np.ones(len(bank))


def _others(banks: Sequence[Floats], groups: Sequence[int], part: int) -> Floats:
    return np.concatenate([bank for i, bank in enumerate(banks) if groups[i] != groups[part]])


def _side_by_side(layers: Sequence[Floats]) -> Floats:
    height = layers[0].shape[1]
    grids = [g.repeat(height // g.shape[1], 1).repeat(height // g.shape[1], 2) for g in layers]
    return patches(np.concatenate(grids))


def _places(height: int, width: int) -> Floats:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows / height, columns / width])


def _tensor(name: str, channels: int, height: int, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, height, width])
