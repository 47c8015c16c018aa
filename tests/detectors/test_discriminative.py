"""The discriminative detector on a backbone of known functions: places, labels, the map by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_parts import EXACT, MakeParts, draw, layers_of, map_of
from known_backbone import Floats, local_mean, patches, smoothed
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.pictures import read_picture
from makellos.data.tiles import cut_parts
from makellos.detectors import detector_class
from makellos.detectors.discriminative import Discriminative
from makellos.detectors.patchcore import PatchCore
from makellos.detectors.patches import patch_examples as drawing
from makellos.detectors.patches.background import PartRule
from makellos.detectors.patches.layer_weights import Weights
from makellos.detectors.patches.patch_examples import Places
from makellos.detectors.patches.rotations import Turn
from makellos.detectors.patches.rotations import turned as turned_picture
from makellos.drawing.overlays import write_picture
from makellos.errors import InputError
from makellos.inspection.engines import EngineChoice, available_engines, open_engine

pytestmark = [pytest.mark.needs_torch, pytest.mark.usefixtures("known")]

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
    return replace(part, source=path, name=path.name, label="burn", mask=known)


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
        return np.asarray(hidden @ head.out[0])

    good = logits(np.concatenate(embedded))
    assert good.std() == pytest.approx(1, abs=0.01)
    graph = detector.graph()
    distances = map_of(detector.neighbours_.graph(), QUERY, engine)
    gain = 0.7 * detector.places_.spread
    found = logits(places_of(QUERY)).reshape(8, 8)
    expected = distances + gain * smoothed(found - found.mean())
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


def test_mask_says_which_places_of_a_defective_part_are_damaged(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("makellos.detectors.patches.patch_examples._N_TURNS", 1)
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
    monkeypatch.setattr("makellos.detectors.patches.patch_examples._ODDEST", 4 / 64)
    monkeypatch.setattr("makellos.detectors.patches.patch_examples._N_TURNS", 1)
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


def test_tile_has_its_piece_of_the_mask(make_parts: MakeParts) -> None:
    """All four tiles show the square; only that which the mask marks is learned from."""
    parts = make_parts(9)
    whole = [damaged(parts[8])]
    for part in [*parts[:8], *whole]:
        write_picture(part.path, np.tile(read_picture(part.path), (2, 2, 1)))
    mask = whole[0].mask
    assert mask is not None
    drawn = np.zeros((128, 128), np.uint8)
    drawn[:64, :64] = read_picture(mask)  # of the four copies one is marked
    write_picture(mask, drawn)
    tiles, owners = cut_parts([*parts[:8], *whole], size=64, overlap=0, unit=32)
    assert owners == [i for i in range(8) for _ in range(4)] + [8]
    detector = small(steps=5).fit(tiles)
    places = detector.places_
    own = (places.kinds == "defective") & (places.targets == 1)
    where = np.rint(8 * places.rows[own][:, [ROW, COLUMN]].astype(np.float64)).astype(int)
    assert {(2, 5), (2, 6), (3, 5), (4, 6)} <= set(map(tuple, where))


def test_tiles_of_a_part_tell_as_one(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def note(*_: Any, by_mean: bool) -> Weights:
        asked.append(by_mean)
        return Weights()

    monkeypatch.setattr("makellos.detectors.discriminative.weights_told", note)
    parts = make_parts(13)
    burnt = [damaged(part) for part in parts[8:]]
    for some in (burnt[:4], burnt):
        tiles, owners = cut_parts([*parts[:8], *some], size=64, overlap=0, unit=32)
        more = [replace(tile, name=f"{tile.name} again") for tile in tiles]
        folds = [owner % 4 if owner < 8 else -1 for owner in owners]
        small(steps=5).cross_fit([*tiles, *more], folds * 2)
    assert asked == [False]


def test_mask_turns_with_its_part(make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch) -> None:
    turned: list[tuple[float, bool]] = []

    def note(degrees: float, mirrored: bool) -> Turn:
        turned.append((degrees, mirrored))
        return Turn(degrees, mirrored)

    monkeypatch.setattr(drawing, "Turn", note)
    monkeypatch.setattr(drawing, "default_workers", lambda: 1)
    parts = make_parts(5)
    found = small(patch_size=1).fit([*parts[:4], damaged(parts[4])]).places_
    own = (found.kinds == "defective") & (found.targets == 1)
    where = np.rint(8 * found.rows[own][:, [ROW, COLUMN]].astype(np.float64)).astype(int)
    marked = np.zeros((64, 64), np.float32)
    marked[16:40, 40:56] = 1
    expected = []
    for degrees, mirrored in [(0.0, False), *turned]:
        mask = turned_picture(marked, degrees, mirrored=mirrored) > 0  # type: ignore[arg-type]
        share = mask.reshape(8, 8, 8, 8).mean((1, 3))
        expected += sorted(map(tuple, np.argwhere(share > 0.3)))
    clear = set(expected)
    assert len(turned) == 7
    assert clear <= set(map(tuple, where))
    assert len(where) >= 0.9 * len(expected)


def test_damage_smaller_than_a_place_still_counts(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("makellos.detectors.patches.patch_examples._N_TURNS", 1)
    parts = make_parts(4)
    burnt = damaged(parts[3])
    mask = np.zeros((64, 64), np.uint8)
    mask[9, 17] = 255
    assert burnt.mask is not None
    write_picture(burnt.mask, mask)
    places = small(patch_size=1).fit([*parts[:3], burnt]).places_
    own = (places.kinds == "defective") & (places.targets == 1)
    assert np.rint(8 * places.rows[own][:, [ROW, COLUMN]].astype(float)).tolist() == [[1, 2]]


def test_few_labelled_parts_count_as_much_as_all_good_ones(make_parts: MakeParts) -> None:
    parts = make_parts(8)

    def mass(learned: list[Part]) -> dict[tuple[str, int], float]:
        places = small().fit(learned).places_
        return {
            (kind, target): places.chances[
                (places.kinds == kind) & (places.targets == target)
            ].sum()
            for kind in ("good", "odd", "planted", "defective")
            for target in (0, 1)
        }

    labelled = mass([*parts[:6], damaged(parts[6]), damaged(parts[7])])
    assert labelled["good", 0] == labelled["odd", 0] == pytest.approx(0.5)
    assert labelled["defective", 1] == pytest.approx(1)
    assert labelled["defective", 0] == pytest.approx(0.3)
    assert labelled["planted", 1] == 0  # real damage tells more
    planted = mass(parts[:6])
    assert planted["planted", 1] == pytest.approx(1)


def test_half_of_what_good_parts_teach_are_their_oddest_places(make_parts: MakeParts) -> None:
    parts = make_parts(6)
    folds = [0, 0, 1, 1, 2, 2]
    detector = small(patch_size=1)
    detector.cross_fit(parts, folds)
    places = detector.places_
    for turn in range(3):  # the neighbours of each part are of other folds
        graph = detector.neighbours_.graph_without({turn})
        own = (places.kinds == "odd") & (places.folds == turn)
        where = np.rint(8 * places.rows[own][:, [ROW, COLUMN]].astype(np.float64)).astype(int)
        found = [set(map(tuple, each)) for each in np.split(where, 2)]
        for part, chosen in zip(parts[2 * turn : 2 * turn + 2], found, strict=True):
            distances = map_of(graph, read_picture(part.path), available_engines()[0])
            oddest = np.argsort(-distances.ravel())[:32]
            assert len(chosen - {(i // 8, i % 8) for i in oddest}) <= 1  # a tie, rounded


def test_labelled_damage_is_found_on_other_parts(make_parts: MakeParts) -> None:
    """A hue that good parts have elsewhere: near in distance, told apart by its label."""
    parts = make_parts(10)
    fresh = read_picture(damaged(parts[9]).path)

    def lead(learned: list[Part]) -> float:
        graph = small(steps=150, weight=5.0).fit(learned).graph()
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
    assert learned == [{-1, 1}, {-1, 0}, {-1, 0, 1}]


def test_of_five_labelled_parts_each_is_left_out_once(make_parts: MakeParts) -> None:
    parts = make_parts(13)
    burnt = [damaged(part) for part in parts[8:]]
    detector = small(steps=5)
    detector.cross_fit([*parts[:8], *burnt], [0, 1, 2, 3, 0, 1, 2, 3] + [-1] * 5)
    places = detector.places_
    assert set(places.folds[places.kinds == "defective"]) == {0, 1, 2, 3}


def test_four_labelled_parts_are_learned_from_by_all_networks(make_parts: MakeParts) -> None:
    parts = make_parts(12)
    burnt = [damaged(part) for part in parts[8:]]
    detector = small(steps=5)
    detector.cross_fit([*parts[:8], *burnt], [0, 1, 2, 3, 0, 1, 2, 3] + [-1] * 4)
    places = detector.places_
    assert set(places.folds[places.kinds == "defective"]) == {-1}
    assert detector.weights_ == Weights()


def test_parts_tell_by_what_has_not_seen_them(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At equal weights the figures of a part are those of the map that leaves its fold out."""
    parts = make_parts(13)
    parts[8:] = [damaged(part) for part in parts[8:]]
    folds = [0, 1, 2, 3, 0, 1, 2, 3]
    told: list[tuple[Floats, list[bool]]] = []

    def note(figures: Floats, is_good: NDArray[np.bool_], *, by_mean: bool) -> Weights:
        assert by_mean
        told.append((figures, is_good.tolist()))
        return Weights()

    monkeypatch.setattr("makellos.detectors.discriminative.weights_told", note)
    graphs = small(steps=5).cross_fit(parts, folds + [-1] * 5)
    ((figures, is_good),) = told
    assert is_good == [True] * 8 + [False] * 5
    for part, turn, found in zip(parts, [*folds, 0, 1, 2, 3, 0], figures[:, 0, 0], strict=True):
        expected = map_of(graphs[turn], read_picture(part.path), available_engines()[0])
        assert found.tolist() == pytest.approx([expected.max(), expected.mean()], rel=0.02)


def test_what_labelled_parts_tell_is_kept(
    make_parts: MakeParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = make_parts(9)
    kept = Weights(fineness=1.0, share=0.5, mean=2.0)
    monkeypatch.setattr("makellos.detectors.discriminative.weights_told", lambda *_, **__: kept)
    labelled = [*parts[:4], *(damaged(part) for part in parts[4:])]
    assert small(steps=5).fit(labelled).weights_ == kept


def test_what_labelled_parts_tell_is_in_the_graph(make_parts: MakeParts) -> None:
    detector = small(weight=1.0).fit(make_parts(5))
    distances = map_of(detector.neighbours_.graph(), QUERY)
    once = map_of(detector.graph(), QUERY) - distances
    detector.weights_ = Weights(share=2.0, mean=0.5)
    graph = detector.graph()
    np.testing.assert_allclose(map_of(graph, QUERY) - distances, 2 * once, atol=1e-4)
    assert graph.aggregation.mean_weight == 0.5
    detector.weights_ = Weights(fineness=1.0)
    uneven = map_of(detector.neighbours_.graph_without((), fineness=1.0), QUERY)
    np.testing.assert_allclose(map_of(detector.graph(), QUERY) - uneven, once, atol=1e-4)
    assert np.abs(uneven - distances).max() > 0.01


def test_graph_tells_part_from_background_as_that_of_the_neighbours(make_parts: MakeParts) -> None:
    detector = small(weight=1.0, background="ignore").fit(make_parts(5))
    plain = map_of(detector.graph(), QUERY)
    channels = detector.neighbours_.embedder_.shapes[0][0]
    weights = np.linspace(-1, 1, channels, dtype=np.float32)
    detector.neighbours_.part_rule_ = PartRule(0, weights, 0.5, (0.2, 0.8))
    graph, neighbours = detector.graph(), detector.neighbours_.graph()
    np.testing.assert_allclose(map_of(graph, QUERY), plain, rtol=1e-6)
    assert graph.background == neighbours.background is not None
    assert graph.background.choice == "ignore"
    shape, fed = graph.preprocessing.shape, graph.preprocessing(QUERY)
    first, second = (
        open_engine(each.onnx, EngineChoice("onnxruntime", "f32"), shape=shape).run(fed)["part"]
        for each in (graph, neighbours)
    )
    np.testing.assert_allclose(first, second, rtol=1e-6)


def test_finer_layers_count_as_told(make_parts: MakeParts) -> None:
    neighbours = PatchCore(image_size=64).fit(make_parts(5))
    maps = {
        fineness: map_of(neighbours.graph_without((), fineness=fineness), QUERY)
        for fineness in (-30.0, 0.0, 2.0, 30.0)
    }
    np.testing.assert_allclose(maps[0.0], map_of(neighbours.graph(), QUERY), rtol=1e-6)
    # At 2 the weights of two layers are 1.6 and 0.4; at 30 and -30 one of them counts alone, twice.
    fine, coarse = maps[30.0] / 2, maps[-30.0] / 2
    np.testing.assert_allclose(maps[0.0], fine + coarse, **CLOSE)
    np.testing.assert_allclose(maps[2.0], 1.6 * fine + 0.4 * coarse, **CLOSE)


def test_without_anything_to_learn_damage_from_distances_alone_decide(
    make_parts: MakeParts,
) -> None:
    detector = small(planted=0).fit(make_parts(5))
    np.testing.assert_allclose(
        map_of(detector.graph(), QUERY), map_of(detector.neighbours_.graph(), QUERY), rtol=1e-5
    )


def test_folds_of_good_parts_must_leave_some_outside(make_parts: MakeParts) -> None:
    parts = make_parts(4)
    with pytest.raises(InputError, match="fold"):
        small().cross_fit([*parts[:3], damaged(parts[3])], [0, 0, 0, 1])


def test_mask_of_another_size_is_refused(make_parts: MakeParts) -> None:
    parts = make_parts(4)
    burnt = damaged(parts[3])
    assert burnt.mask is not None
    write_picture(burnt.mask, np.zeros((32, 64), np.uint8))
    with pytest.raises(InputError, match=r"64x32,.* 64x64 .*leave the mask out"):
        small().fit([*parts[:3], burnt])


def test_planted_damage_is_that_of_the_seed(make_parts: MakeParts, tmp_path: Path) -> None:
    parts = make_parts(4)
    one, again, other = (small(seed=seed, planted=2).fit(parts).places_ for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.rows, again.rows)
    assert one.rows.shape != other.rows.shape or not np.array_equal(one.rows, other.rows)
    assert set(small(planted=0).fit(parts).places_.kinds) == {"good", "odd"}


def test_it_says_that_it_uses_labels_and_needs_none() -> None:
    cls = detector_class("discriminative")
    assert cls.learns == "good and labelled"
