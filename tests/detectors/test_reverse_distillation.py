"""Reverse distillation: distances, layout and maps by hand, and that a decoder learns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from drawn_parts import MakeParts, layers_of
from known_backbone import local_mean
from torch import Tensor, nn
from torch.nn import functional as F

from makellos.data.parts import Part
from makellos.detectors.networks.reverse_distillation import (
    DistillationTask,
    Scoring,
    Student,
    cosine_distance,
    enlarge,
    pack_maps,
    unpack_maps,
)
from makellos.detectors.reverse_distillation import ReverseDistillation
from makellos.training.pictures import Pictures

SHAPES = [(3, 8, 6), (5, 4, 3)]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def maps_of(n: int, shapes: Sequence[tuple[int, int, int]] = SHAPES, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(n, *shape, generator=generator) + 1 for shape in shapes]


def features_of(maps: Sequence[Tensor]) -> Pictures:
    return Pictures(pack_maps(maps).numpy())


class Teacher(nn.Module):
    """Give the same maps whatever it is shown."""

    def __init__(self, maps: Sequence[Tensor]) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, pictures: Tensor) -> Sequence[Tensor]:
        return self.maps


class Echo(Student):
    """Give back what it is shown, but for one cell of a layer, which it turns by a right angle."""

    layer, row, column = 1, 2, 1

    def forward(self, standardised: Sequence[Tensor]) -> list[Tensor]:
        made = [each.clone() for each in standardised]
        wrong = made[self.layer][:, :, self.row, self.column]
        turned_by = torch.zeros_like(wrong)
        turned_by[:, 0], turned_by[:, 1] = -wrong[:, 1], wrong[:, 0]
        made[self.layer][:, :, self.row, self.column] = turned_by
        return made


def test_distance_is_one_minus_the_cosine() -> None:
    a, b = maps_of(4)[1], maps_of(4, seed=1)[1]
    expected = 1 - F.cosine_similarity(a.double(), b.double(), dim=1)
    torch.testing.assert_close(cosine_distance(a, b).double(), expected, rtol=1e-5, atol=1e-6)
    assert float(cosine_distance(a, 7 * a).abs().max()) < 1e-6
    torch.testing.assert_close(cosine_distance(a, -a), torch.full((4, 4, 3), 2.0))
    nothing = torch.zeros(1, 5, 4, 3)
    assert bool(cosine_distance(nothing, nothing).isfinite().all())


def test_maps_laid_side_by_side_are_found_again() -> None:
    maps = maps_of(3)
    again = unpack_maps(pack_maps(maps), SHAPES)
    assert all(torch.equal(a, b) for a, b in zip(maps, again, strict=True))


@pytest.mark.parametrize("factors", [(1, 1), (2, 2), (3, 1)])
def test_cells_are_repeated(factors: tuple[int, int]) -> None:
    x = maps_of(2)[1]
    down, right = factors
    expected = x.numpy().repeat(down, 2).repeat(right, 3)
    assert np.array_equal(enlarge(x, (4 * down, 3 * right)).numpy(), expected)


@pytest.mark.parametrize(
    "shapes",
    [
        SHAPES,
        [(2, 7, 9), (3, 4, 5)],
        [(2, 12, 20), (4, 6, 10), (6, 3, 5)],
        [(4, 5, 5), (4, 5, 5)],
        [(4, 1, 1)],
    ],
    ids=str,
)
def test_student_gives_back_maps_of_every_size(shapes: list[tuple[int, int, int]]) -> None:
    student = Student(shapes, width=4, latent_dim=3).eval()
    made = student(student.standardise(maps_of(2, shapes)))
    assert [tuple(each.shape[1:]) for each in made] == shapes


def test_channels_are_standardised_on_the_good_parts() -> None:
    maps = maps_of(6)
    student = Student(SHAPES, width=4, latent_dim=3)
    student.measure(features_of(maps))
    for given, found in zip(maps, student.standardise(maps), strict=True):
        mean = given.double().mean((0, 2, 3), keepdim=True)
        spread = given.double().std((0, 2, 3), correction=0, keepdim=True)
        expected = (given - mean) / (spread + 1e-3 * spread.mean())
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_usual_distances_are_means_over_good_parts() -> None:
    maps = maps_of(5)
    student = Student(SHAPES, width=4, latent_dim=3).eval()
    with torch.no_grad():
        each = student.distances(maps)
    expected = [float(layer.mean()) for layer in each]
    assert student.usual_distances(features_of(maps), 8) == pytest.approx(expected, rel=1e-5)


def test_map_is_the_sum_of_layers_over_their_usual_distances() -> None:
    maps = maps_of(2)
    scoring = Scoring(Teacher(maps), Echo(SHAPES, width=4, latent_dim=3), [0.5, 0.25]).eval()
    found = scoring(torch.zeros(2, 3, 16, 12)).numpy()
    # One cell of the coarse layer, two of the fine one per side, is at a right angle.
    made = maps[1].double()
    lengths = made.square().sum(1).sqrt()[:, 2, 1]
    swapped = made[:, :2, 2, 1].square().sum(1).sqrt()
    exact = np.zeros((2, 8, 6))
    for i in range(2):
        a = made[i, :, 2, 1].numpy()
        b = np.zeros(5)
        b[0], b[1] = -a[1], a[0]
        distance = 1 - a @ b / (float(lengths[i]) * float(swapped[i]))
        exact[i, 4:6, 2:4] = distance / 0.25
        expected = local_mean(exact[i : i + 1], 3)[0]
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-5)


def test_learning_rate_rises_and_falls() -> None:
    task = DistillationTask(Student(SHAPES, width=4, latent_dim=3), learning_rate=0.1, n_steps=100)
    batch, rates = pack_maps(maps_of(4)), []
    for number in (0, 2, 5, 50, 100):
        task.step(batch, lambda loss, name: None, number)
        rates.append(task.optimizer.param_groups[0]["lr"])
    assert rates[0] < rates[1] < rates[2]
    assert rates[2] > rates[3] > rates[4]
    assert max(rates) <= 0.1
    assert rates[4] == pytest.approx(0.0, abs=1e-9)


def small(**changes: Any) -> ReverseDistillation:
    values = {"image_size": 64, "layers": "0,1", "width": 4, "latent_dim": 4, "epochs": 2}
    return ReverseDistillation(**{**values, **changes})


@pytest.fixture
def parts(make_parts: MakeParts, known: None) -> list[Part]:
    return make_parts(6)


def test_teacher_sees_every_view_of_every_part(
    parts: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {}

    def keep(task: Any, features: Pictures, **settings: Any) -> Any:
        kept["features"] = features
        raise KeyboardInterrupt

    monkeypatch.setattr("makellos.training.loop.train", keep)
    with pytest.raises(KeyboardInterrupt):
        small(n_turns=4, mirror=True).fit(parts)
    features = kept["features"]
    assert features.n == 48
    for part, view, seen in ((0, 0, lambda p: p), (2, 1, np.rot90), (1, 4, lambda p: p[:, ::-1])):
        expected = layers_of(np.ascontiguousarray(seen(parts[part].read())))
        found = unpack_maps(features.batch([8 * part + view]).float(), [(6, 8, 8), (4, 4, 4)])
        for ours, exact in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours[0].numpy(), exact, rtol=2e-3, atol=2e-3)


def test_decoder_learns_good_parts(make_parts: MakeParts) -> None:
    """Longer training brings the student nearer to the teacher on the parts it learned from."""
    parts = make_parts(6)
    after = [
        small(layers="3,4", width=16, latent_dim=16, epochs=epochs).fit(parts).usual_distances_
        for epochs in (1, 100)
    ]
    assert all(long < 0.7 * short for short, long in zip(*after, strict=True))
