"""What is usual at each place, and residuals that are counted from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from makellos.data.progress import no_progress
from makellos.detectors.networks.exporting import export_graph
from makellos.detectors.networks.usual import UnusualResidual, local_mean
from makellos.detectors.networks.vae import ResidualScoring, VariationalAutoencoder
from makellos.inspection.engines import available_engines, open_engine
from makellos.training.pictures import Pictures


def pictures(n: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return local_mean(torch.rand((n, *shape), generator=generator), 3)


def stored(batch: Tensor) -> Pictures:
    return Pictures(batch.numpy())


def gray(batch: Tensor) -> Tensor:
    return torch.full_like(batch, 0.5)


def test_maps_are_counted_in_deviations_of_good_parts_plus_what_is_usual_around() -> None:
    good, residual = pictures(20, (1, 48, 40)), UnusualResidual()
    plain = residual.residual(good, gray(good))
    residual.learn(stored(good), gray, no_progress)
    counted = residual(good, gray(good))
    spread = plain.std(0, correction=0)
    expected = (plain - plain.mean(0)) / (spread + 0.5 * spread.mean() + 1e-4)
    around = local_mean(plain.mean(0)[None, None], 11)[0, 0]  # 15 × sqrt(48 × 40) / 64
    expected += around / around.mean()
    torch.testing.assert_close(counted, expected, atol=1e-4, rtol=1e-3)


def test_the_same_damage_counts_more_where_good_parts_are_alike() -> None:
    good = pictures(40, (1, 64, 64))
    good[..., :32] = 0.5 + 0.05 * (good[..., :32] - 0.5)
    residual = UnusualResidual()
    residual.learn(stored(good), gray, no_progress)
    damaged = pictures(2, (1, 64, 64), seed=1)
    damaged[..., :32] = 0.5 + 0.05 * (damaged[..., :32] - 0.5)
    damaged[0, 0, 30:36, 12:18] += 0.3
    damaged[1, 0, 30:36, 46:52] += 0.3
    alike, various = residual(damaged, gray(damaged)).amax((1, 2))
    assert alike > 3 * various


def test_of_deviations_as_rare_those_where_parts_have_structure_count_more() -> None:
    good = pictures(60, (1, 64, 64))
    good[..., :32] = 0.5 + 0.05 * (good[..., :32] - 0.5)
    residual = UnusualResidual()
    residual.learn(stored(good), gray, no_progress)
    mean = residual(good, gray(good)).mean(0)
    assert mean[:, 48:].mean() > 5 * mean[:, :16].mean() > 0


def test_light_and_grain_count_little() -> None:
    good, residual = pictures(1, (1, 64, 64)), UnusualResidual()
    structure = torch.zeros_like(good)
    structure[..., 24:36, 24:36] = 0.1
    grain = 0.1 * (1 - 2 * (torch.arange(64) % 2)).expand(1, 1, 64, 64)
    light = torch.full_like(good, 0.1)
    most = [residual.residual(good + each, good).amax() for each in (structure, grain, light)]
    assert most[0] > 3 * most[1]
    assert most[0] > 100 * most[2]


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 37, 51), (1, 130, 44)])
def test_engines_agree_with_torch(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    network, residual = VariationalAutoencoder(shape, 4, 4, dense=False), UnusualResidual()
    network.eval()
    residual.learn(stored(pictures(8, shape)), network, no_progress)
    scoring, asked = ResidualScoring(network, residual), pictures(3, shape, seed=2)
    asked[1, :, 10:20, 12:20] = 0.0
    onnx = export_graph(scoring, shape, ("anomaly_map", "reconstruction"))
    with torch.no_grad():
        expected, made = scoring(asked)
    for choice in available_engines():
        found = open_engine(onnx, choice, shape=shape).run(asked.numpy())
        coarse = choice.precision == "bf16"
        np.testing.assert_allclose(found["reconstruction"], made, atol=0.01 if coarse else 1e-5)
        wrong = np.abs(found["anomaly_map"] - expected.numpy()).max()
        assert wrong < (0.3 if coarse else 0.002) * float(expected.std())
