"""PaDiM against one inverted covariance per place, on a backbone of known functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn_parts import EXACT, MakeParts, draw, layers_of, layers_of_parts, map_of, rewrite
from known_backbone import padim_map

from makellos.data.pictures import read_picture
from makellos.detectors.padim import PaDiM
from makellos.errors import ConfigurationError, InputError
from makellos.inspection.engines import EngineChoice

pytestmark = pytest.mark.usefixtures("known")

QUERY = draw(1, 0)
# The whitening is kept in half precision, which rounds at 5e-4.
CLOSE: dict[str, float] = {"rtol": 3e-3, "atol": 1e-3}


def padim(**changes: Any) -> PaDiM:
    return PaDiM(**{"image_size": 64, **changes})


@pytest.mark.parametrize("engine", EXACT, ids=str)
@pytest.mark.parametrize(("n_parts", "epsilon"), [(3, 0.05), (20, 0.05), (20, 1e-3), (8, 1.0)])
def test_map_is_that_of_inverted_covariances(
    n_parts: int, epsilon: float, engine: EngineChoice, make_parts: MakeParts
) -> None:
    parts = make_parts(n_parts)
    graph = padim(epsilon=epsilon).fit(parts).graph()
    expected = padim_map(layers_of_parts(parts), layers_of(QUERY), epsilon=epsilon)
    np.testing.assert_allclose(map_of(graph, QUERY, engine), expected, **CLOSE)


def test_map_of_a_wide_part_keeps_rows_and_columns_apart(make_parts: MakeParts) -> None:
    parts = make_parts(4, 256, 320)
    query = draw(1, 0, 256, 320)
    graph = padim(image_size=0).fit(parts).graph()
    expected = padim_map(layers_of_parts(parts), layers_of(query), epsilon=0.05)
    assert expected.shape == (32, 40)
    np.testing.assert_allclose(map_of(graph, query), expected, **CLOSE)


def test_channels_are_drawn_by_the_seed(make_parts: MakeParts) -> None:
    parts = make_parts(6)
    drawn = set()
    for seed in range(4):
        detector = padim(n_features=4, seed=seed).fit(parts)
        channels = detector.channels_.tolist()
        assert len(set(channels)) == 4
        assert set(channels) <= set(range(10))
        drawn.add(tuple(channels))
        expected = padim_map(
            layers_of_parts(parts), layers_of(QUERY), epsilon=0.05, channels=channels
        )
        np.testing.assert_allclose(map_of(detector.graph(), QUERY), expected, **CLOSE)
    assert len(drawn) > 1


def test_fold_graphs_are_those_of_a_fit_on_the_rest(make_parts: MakeParts) -> None:
    parts, folds = make_parts(9), [0, 1, 2] * 3
    detector = padim()
    graphs = detector.cross_fit(parts, folds)
    assert len(graphs) == 3
    for fold, graph in enumerate(graphs):
        rest = [part for part, number in zip(parts, folds, strict=True) if number != fold]
        expected = map_of(padim().fit(rest).graph(), QUERY)
        np.testing.assert_allclose(map_of(graph, QUERY), expected, rtol=2e-3)
    full = map_of(padim().fit(parts).graph(), QUERY)
    np.testing.assert_allclose(map_of(detector.graph(), QUERY), full, rtol=2e-3)


def test_order_of_parts_makes_no_difference(make_parts: MakeParts) -> None:
    parts = make_parts(7)
    one, other = padim().fit(parts).graph(), padim().fit(parts[::-1]).graph()
    np.testing.assert_allclose(map_of(one, QUERY), map_of(other, QUERY), rtol=2e-3)


def test_parts_that_hardly_differ_keep_their_digits(make_parts: MakeParts) -> None:
    """Bright parts with one level of noise: their squares agree in the first six digits."""
    parts = make_parts(12)
    for i, part in enumerate(parts):
        rng = np.random.default_rng(i)
        picture = np.full((64, 64, 3), 240, np.uint8) + rng.integers(0, 2, (64, 64, 3), np.uint8)
        rewrite(part, picture)
    query = np.full((64, 64, 3), 240, np.uint8)
    expected = padim_map(layers_of_parts(parts), layers_of(query), epsilon=0.05)
    np.testing.assert_allclose(map_of(padim().fit(parts).graph(), query), expected, rtol=1e-2)


def test_identical_parts_do_not_break_the_scale(make_parts: MakeParts) -> None:
    parts = make_parts(1) * 4
    graph = padim().fit(parts).graph()
    own = read_picture(parts[0].path)
    found = map_of(graph, QUERY)
    assert np.isfinite(found).all()
    assert found.max() > 100 * map_of(graph, own).max()
    darker = np.maximum(own, 1) - np.uint8(1)
    assert 1 < map_of(graph, darker).max() < 1e3


def test_channel_that_never_changes_is_not_divided_by_nothing(make_parts: MakeParts) -> None:
    parts = make_parts(6)
    for part in parts:
        picture = read_picture(part.path)
        picture[..., 2] = 40
        rewrite(part, picture)
    expected = padim_map(layers_of_parts(parts), layers_of(QUERY), epsilon=0.05)
    found = map_of(padim().fit(parts).graph(), QUERY)
    np.testing.assert_allclose(found, expected, rtol=1e-2)


def test_black_parts_do_not_break_the_scale(make_parts: MakeParts) -> None:
    parts = make_parts(4)
    for part in parts:
        rewrite(part, np.zeros((64, 64, 3), np.uint8))
    graph = padim().fit(parts).graph()
    assert np.isfinite(map_of(graph, QUERY)).all()
    assert np.isfinite(map_of(graph, np.zeros((64, 64, 3), np.uint8))).all()


def test_covariance_that_cannot_be_inverted_names_epsilon() -> None:
    detector = padim(epsilon=1e-6)
    broken = -np.eye(3, dtype=np.float32)[np.newaxis]
    with pytest.raises(ConfigurationError, match=r"epsilon is 1e-06, too small"):
        detector._whiten(broken)


def test_without_folds_it_fits(make_parts: MakeParts) -> None:
    parts, detector = make_parts(3), padim()
    assert detector.cross_fit(parts, []) == []
    assert detector.graph() == padim().fit(parts).graph()


@pytest.mark.parametrize("folds", [[0, 0, 0], [0, 1], [0, 1, -1]])
def test_folds_that_leave_nothing_to_learn_from_are_refused(
    folds: list[int], make_parts: MakeParts
) -> None:
    with pytest.raises(InputError, match="fold"):
        padim().cross_fit(make_parts(3), folds)
