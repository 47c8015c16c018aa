"""Student and teacher: distances, layout and maps by hand, and that the student learns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from drawn_parts import MakeParts, layers_of
from known_backbone import local_mean
from torch import Tensor, nn
from torch.nn import functional as F

from makellos.data.parts import Part
from makellos.detectors.networks.student_teacher import (
    DistillationTask,
    Scoring,
    Student,
    cosine_distance,
    enlarge,
    pack_maps,
    unpack_maps,
)
from makellos.detectors.student_teacher import StudentTeacher
from makellos.errors import ConfigurationError
from makellos.training.pictures import Pictures

SHAPES = [(2, 16, 12), (3, 8, 6), (5, 4, 3)]


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
    """Give the maps that it is told to, standardised by nothing."""

    told: Sequence[Tensor] = ()

    def forward(self, finest: Tensor) -> list[Tensor]:
        return list(self.told)


def test_distance_is_one_minus_the_cosine() -> None:
    a, b = maps_of(4)[2], maps_of(4, seed=1)[2]
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
    x = maps_of(2)[2]
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
        [(2, 32, 16), (4, 8, 4)],
    ],
    ids=str,
)
def test_student_gives_maps_of_every_size(shapes: list[tuple[int, int, int]]) -> None:
    student = Student(shapes, width=4).eval()
    made = student(student.standardise(maps_of(2, shapes))[0])
    assert [tuple(each.shape[1:]) for each in made] == shapes[1:]


def test_channels_are_standardised_on_the_good_parts() -> None:
    maps = maps_of(6)
    student = Student(SHAPES, width=4)
    student.measure(features_of(maps))
    for given, found in zip(maps, student.standardise(maps), strict=True):
        mean = given.double().mean((0, 2, 3), keepdim=True)
        spread = given.double().std((0, 2, 3), correction=0, keepdim=True)
        expected = (given - mean) / (spread + 1e-3 * spread.mean())
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_usual_distances_are_means_over_good_parts() -> None:
    maps = maps_of(5)
    student = Student(SHAPES, width=4).eval()
    with torch.no_grad():
        each = student.distances(maps)
    expected = [float(layer.mean()) for layer in each]
    assert student.usual_distances(features_of(maps), 8) == pytest.approx(expected, rel=1e-5)


def test_map_is_the_sum_of_layers_over_their_usual_distances() -> None:
    maps = maps_of(2)
    student = Echo(SHAPES, width=4)
    student.told = maps_of(2, seed=1)[1:]
    found = Scoring(Teacher(maps), student, [0.5, 0.25]).eval()(torch.zeros(2, 3, 16, 12)).numpy()
    fine, coarse = (
        1 - F.cosine_similarity(a.double(), b.double(), dim=1).numpy()
        for a, b in zip(maps[1:], student.told, strict=True)
    )
    total = fine / 0.5 + coarse.repeat(2, 1).repeat(2, 2) / 0.25
    assert found.shape == (2, 8, 6)
    for i in range(2):
        exact = local_mean(total[i : i + 1], 3)[0]
        np.testing.assert_allclose(found[i], exact, rtol=1e-4, atol=1e-5)


def test_one_layer_is_refused(make_parts: MakeParts) -> None:
    with pytest.raises(ConfigurationError, match=r"layers is '4'; expected two or more stages"):
        small(layers="4").fit(make_parts(2))


def test_learning_rate_rises_and_falls() -> None:
    task = DistillationTask(Student(SHAPES, width=4), learning_rate=0.1)
    task.n_steps = 100
    batch, rates = pack_maps(maps_of(4)), []
    for number in (0, 2, 5, 50, 100):
        task.step(batch, lambda loss, name: None, number)
        rates.append(task.optimizers["student"].param_groups[0]["lr"])
    assert rates[0] < rates[1] < rates[2]
    assert rates[2] > rates[3] > rates[4]
    assert max(rates) <= 0.1
    assert rates[4] == pytest.approx(0.0, abs=1e-9)


def small(**changes: Any) -> StudentTeacher:
    values = {"image_size": 64, "layers": "0,1", "width": 4, "epochs": 2}
    return StudentTeacher(**{**values, **changes})


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


def test_student_learns_good_parts(make_parts: MakeParts) -> None:
    """Longer training brings the student nearer to the teacher on the parts it learned from."""
    parts = make_parts(6)
    after = [
        small(layers="2,3,4", width=16, epochs=epochs).fit(parts).usual_distances_
        for epochs in (1, 100)
    ]
    assert all(long < 0.7 * short for short, long in zip(*after, strict=True))


def test_teacher_that_is_released_is_that_which_was_learned_from(make_parts: MakeParts) -> None:
    detector = small(layers="2,3,4").fit(make_parts(6))
    inputs = [
        {tuple(values.ravel()[:50]) for values in _weights(graph)}
        for graph in (detector.embedder_.graph, detector.graph().onnx)
    ]
    assert len(inputs[0]) > 40
    assert inputs[0] < inputs[1]


def _weights(graph: bytes) -> Iterator[np.ndarray]:
    for each in onnx.load_from_string(graph).graph.initializer:
        values = onnx.numpy_helper.to_array(each)
        if values.ndim == 4 and values.size > 9:
            yield values
