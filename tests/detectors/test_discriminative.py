"""The discriminative detector on a backbone of known functions: places, labels, the map by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_parts import EXACT, MakeParts, draw, layers_of, map_of
from known_backbone import Floats, local_mean, patches
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.pictures import read_picture
from makellos.detectors import detector_class
from makellos.detectors.discriminative import Discriminative
from makellos.detectors.patchcore import PatchCore
from makellos.detectors.places import Places
from makellos.errors import InputError
from makellos.inspection import write_picture
from makellos.inspection.engines import EngineChoice

pytestmark = pytest.mark.usefixtures("known")

QUERY = draw(1, 0)
CLOSE: dict[str, float] = {"rtol": 2e-3, "atol": 5e-3}
ROW, COLUMN = 4, 5  # channels of the known backbone's fine layer: where a place lies, of 8


def small(**changes: Any) -> Discriminative:
    values = {"image_size": 64, "steps": 40, "batch_size": 128, "hidden_units": 16, **changes}
    return Discriminative(**values)


def places_of(picture: NDArray[np.uint8]) -> Floats:
    """Return a picture's embeddings on the fine grid, places×channels, averaged over 3×3."""
    fine, coarse = (local_mean(layer, 3) for layer in layers_of(picture))
    return patches(np.concatenate([fine, coarse.repeat(2, 1).repeat(2, 2)]))


def damaged(part: Part, *, masked: bool = True) -> Part:
    """Return a copy of a part with a bright square on fine places 2 to 4 by 5 to 6, labelled."""
    picture = read_picture(part.path).copy()
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[16:40, 40:56] = 255
    picture[mask > 0] = (255, 255, 0)
    path = part.path.with_name(f"damaged_{part.path.name}")
    write_picture(path, picture)
    write_picture(path.with_suffix(".mask.png"), mask)
    known = path.with_suffix(".mask.png") if masked else None
    return replace(part, path=path, name=path.name, label="burn", mask=known)


@pytest.mark.parametrize("engine", EXACT, ids=str)
def test_map_is_distances_and_logits_of_good_places_in_deviations(
    engine: EngineChoice, make_parts: MakeParts
) -> None:
    parts = make_parts(5)
    detector = small(weight=0.7, memory_bank_size=10**6).fit(parts)
    head = detector.head_
    embedded = [places_of(read_picture(part.path)) for part in parts]
    mean, scale = detector.places_.mean, detector.places_.scale
    np.testing.assert_allclose(mean, np.concatenate(embedded).mean(0), atol=1e-3)

    def logits(rows: Floats) -> Floats:
        standard = (rows - mean) / scale
        hidden = np.maximum(standard @ head.hidden.T.astype(np.float64) + head.bias, 0)
        return np.asarray(hidden @ head.out[0] + head.out_bias)

    good = logits(np.concatenate(embedded))
    assert good.mean() == pytest.approx(0, abs=0.01)
    assert good.std() == pytest.approx(1, abs=0.01)
    graph = detector.graph()
    distances = map_of(detector.neighbours_.graph(), QUERY, engine)
    expected = distances + 0.7 * local_mean(logits(places_of(QUERY)).reshape(1, 8, 8), 3)[0]
    np.testing.assert_allclose(map_of(graph, QUERY, engine), expected, **CLOSE)


def test_without_weight_the_map_is_that_of_nearest_neighbours(make_parts: MakeParts) -> None:
    parts = make_parts(5)
    folds = [0, 1, 0, 1, 0]
    detector, neighbours = small(weight=0.0), PatchCore(image_size=64)
    graphs = detector.cross_fit(parts, folds)
    others = neighbours.cross_fit(parts, folds)
    for graph, other in zip(
        [*graphs, detector.graph()], [*others, neighbours.graph()], strict=True
    ):
        np.testing.assert_allclose(map_of(graph, QUERY), map_of(other, QUERY), rtol=1e-5)


def test_mask_says_which_places_of_a_defective_part_are_damaged(make_parts: MakeParts) -> None:
    parts = make_parts(5)
    detector = small(patch_size=1).fit([*parts[:4], damaged(parts[4])])
    places = detector.places_
    own = places.kinds == "defective"
    rows, targets = places.rows[own].astype(np.float64), places.targets[own]
    where = np.rint(8 * rows[:, [ROW, COLUMN]]).astype(int)
    assert sorted(map(tuple, where[targets == 1])) == [(r, c) for r in (2, 3, 4) for c in (5, 6)]
    assert len(rows) == 64  # all others are good
    assert not targets[[(r not in (2, 3, 4)) or (c not in (5, 6)) for r, c in where]].any()


def test_without_a_mask_the_oddest_places_count_and_no_place_is_good(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("makellos.detectors.places._ODDEST", 4 / 64)
    parts = make_parts(5)
    detector = small(patch_size=1).fit([*parts[:4], damaged(parts[4], masked=False)])
    places = detector.places_
    own = places.kinds == "defective"
    assert places.targets[own].tolist() == [1] * 4
    where = np.rint(8 * places.rows[own][:, [ROW, COLUMN]].astype(np.float64)).astype(int)
    distances = map_of(
        detector.neighbours_.graph(), read_picture(damaged(parts[4], masked=False).path)
    )
    oddest = np.argsort(-distances.ravel())[:4]
    assert sorted(map(tuple, where)) == sorted((i // 8, i % 8) for i in oddest)


def test_damage_smaller_than_a_place_still_counts(make_parts: MakeParts) -> None:
    parts = make_parts(4)
    burnt = damaged(parts[3])
    mask = np.zeros((64, 64), np.uint8)
    mask[9, 17] = 255
    assert burnt.mask is not None
    write_picture(burnt.mask, mask)
    places = small(patch_size=1).fit([*parts[:3], burnt]).places_
    own = (places.kinds == "defective") & (places.targets == 1)
    assert np.rint(8 * places.rows[own][:, [ROW, COLUMN]].astype(float)).tolist() == [[1, 2]]


def test_few_labelled_parts_count_twice_as_much_as_planted_damage(make_parts: MakeParts) -> None:
    parts = make_parts(8)
    places = small().fit([*parts[:6], damaged(parts[6]), damaged(parts[7])]).places_
    mass = {
        (kind, target): places.chances[(places.kinds == kind) & (places.targets == target)].sum()
        for kind in ("good", "planted", "defective")
        for target in (0, 1)
    }
    assert mass["good", 0] == pytest.approx(1)
    assert mass["planted", 1] == pytest.approx(0.5)
    assert mass["defective", 1] == pytest.approx(1)
    assert mass["defective", 0] == pytest.approx(1)


def test_labelled_damage_is_found_on_other_parts(make_parts: MakeParts) -> None:
    """A hue that good parts have elsewhere: near in distance, told apart by its label."""
    parts = make_parts(10)
    fresh = read_picture(damaged(parts[9]).path)

    def lead(learned: list[Part]) -> float:
        graph = small(steps=150, weight=1.0).fit(learned).graph()
        found = map_of(graph, fresh)
        return float(found[2:5, 5:7].mean() - np.delete(found, [2, 3, 4], 0).max())

    labelled = [damaged(part) for part in parts[6:9]]
    assert lead([*parts[:6], *labelled]) > lead(parts[:6]) + 1


def test_folds_leave_good_parts_out_and_keep_defective_ones(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = make_parts(7)
    burnt = [damaged(parts[4]), damaged(parts[5]), damaged(parts[6])]
    learned: list[set[int]] = []
    taken = Places.pictures

    def note(places: Places, kept: NDArray[np.bool_]) -> Any:
        learned.append(set(places.folds[kept].tolist()))
        return taken(places, kept)

    monkeypatch.setattr(Places, "pictures", note)
    graphs = small().cross_fit([*parts[:4], *burnt], [0, 1, 0, 1, -1, -1, 1])
    assert len(graphs) == 2
    assert learned == [{-1, 0, 1}, {-1, 1}, {-1, 0}]


def test_folds_of_good_parts_must_leave_some_outside(make_parts: MakeParts) -> None:
    parts = make_parts(4)
    with pytest.raises(InputError, match="fold"):
        small().cross_fit([*parts[:3], damaged(parts[3])], [0, 0, 0, 1])


def test_mask_of_another_size_is_refused(make_parts: MakeParts) -> None:
    parts = make_parts(4)
    burnt = damaged(parts[3])
    assert burnt.mask is not None
    write_picture(burnt.mask, np.zeros((32, 64), np.uint8))
    with pytest.raises(InputError, match=r"64x32 .* 64x64 .*leave the mask out"):
        small().fit([*parts[:3], burnt])


def test_planted_damage_is_that_of_the_seed(make_parts: MakeParts, tmp_path: Path) -> None:
    parts = make_parts(4)
    one, again, other = (small(seed=seed, planted=2).fit(parts).places_ for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.rows, again.rows)
    assert one.rows.shape != other.rows.shape or not np.array_equal(one.rows, other.rows)
    assert (small(planted=0).fit(parts).places_.kinds == "good").all()


def test_it_says_that_it_uses_labels_and_needs_none() -> None:
    cls = detector_class("discriminative")
    assert cls.uses_labels
    assert not cls.needs_labels
