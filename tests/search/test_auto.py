"""Auto: what sees most is chosen, what cannot be judged is named, time and seed are kept to."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

import makellos
from makellos import find_parts
from makellos.data.parts import Part
from makellos.data.planting import KINDS, plant
from makellos.detectors import Detector, Parameter, registry
from makellos.errors import ConfigurationError, InputError, MissingRuntimeError, TrainingError
from makellos.inspection.manifest import AutoRecord
from makellos.inspection.model_file import read_model
from makellos.search import auto
from makellos.search import planted_trials as judging
from makellos.search.auto import AutoSettings, Choice, _Search, choose
from makellos.search.folds import Fold, lay_out
from makellos.search.planted_trials import LABELLED, Judgement
from makellos.vibration.signals import SignalSettings


class Clock:
    """Tell a time that only tests move."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture(autouse=True)
def known(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Detector]]:
    """Register three toys alone: one that sees well, one that sees badly, one that breaks."""
    CLOCK.now = 0.0

    class Seeing(toy.ToyDetector):  # type: ignore[misc,name-defined]
        parameters = {  # noqa: RUF012
            "blindness": Parameter(default=0.0, low=0.0, high=1.0, meaning="Noise of the means."),
            "seed": Parameter(default=0, low=0, meaning="Seed."),
        }
        candidates = ({"blindness": 0.3}, {}, {"blindness": 0.0})
        seen: list[list[str]] = []  # noqa: RUF012
        seconds = 1.0

        def __init__(self, *, blindness: float = 0.0, seed: int = 0) -> None:
            self.blindness = blindness
            self.seed = seed

        def _learn(self, parts: Sequence[Part], progress: Any) -> None:
            super()._learn(parts, progress)
            CLOCK.now += self.seconds
            progress("averaging", len(parts), len(parts))
            noise = np.random.default_rng(self.seed).normal(0, 1, self.means_.shape)
            self.means_ = (self.means_ + self.blindness * noise).astype(np.float32)

    class Blind(Seeing):
        candidates = ({"blindness": 1.0},)
        seen: list[list[str]] = []  # noqa: RUF012

    class Breaking(Seeing):
        candidates = ({},)

        def _learn(self, parts: Sequence[Part], progress: Any) -> None:
            del parts, progress
            raise ValueError("the axis is bent. More of it.")

    found: dict[str, type[Detector]] = {"patchcore": Seeing, "blind": Blind, "breaking": Breaking}
    for name, cls in found.items():
        cls.name = name
    monkeypatch.setattr(registry, "_registry", found)
    monkeypatch.setattr(registry.pkgutil, "iter_modules", lambda _path: [])
    return found


def write_parts(folder: Path, toy: ModuleType, n: int, label: str = "", spot: float = 0) -> Path:
    """Write gray parts with a spot into a flat folder, or one of a label."""
    rng = np.random.default_rng(n + bool(label))
    for i in range(n):
        toy.write(folder / label / f"{i:03d}.png", toy.gray_part(rng, spot=spot))
    return folder


def choice(data: Path, **options: Any) -> Choice:
    return choose(find_parts(data), AutoSettings(**{"clock": CLOCK, **options}))


def results(record: AutoRecord) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for trial in record.trials:
        found.setdefault(trial.detector, []).append(trial.result)
    return found


# What is chosen


def test_what_sees_most_is_chosen_and_fitted(
    toy: ModuleType, tmp_path: Path, known: dict[str, Any]
) -> None:
    data = write_parts(tmp_path / "parts", toy, 60)
    summary = makellos.fit(data, tmp_path / "m.makellos", detector="auto", false_alarms=0.1)
    manifest = read_model(tmp_path / "m.makellos").manifest
    assert manifest.detector.name == summary.detector == "patchcore"
    assert manifest.detector.parameters == {"blindness": 0.0, "seed": 0}
    assert len(known["patchcore"].seen[-1]) == summary.n_learned == 60
    assert manifest.training.auto is not None
    assert summary.auto == manifest.training.auto.model_dump()
    best = manifest.training.auto.trials[0]
    assert (best.result, best.parameters, set(best.by_kind)) == ("chosen", {}, set(KINDS))
    reasons = {t.detector: t.reason for t in manifest.training.auto.trials if t.reason}
    assert reasons == {"breaking": "ValueError: the axis is bent"}
    assert set(best.missed_by_kind) == set(KINDS)
    order = [t.misses for t in manifest.training.auto.trials if t.misses is not None]
    assert order == sorted(order)
    assert len(order) == 3  # the third candidate of the first is its default again


def test_all_are_judged_on_some_parts_and_the_best_on_all(
    toy: ModuleType, tmp_path: Path, known: dict[str, Any]
) -> None:
    known["patchcore"].candidates = tuple({"blindness": x / 10} for x in range(6))
    record = choice(write_parts(tmp_path / "parts", toy, 100)).record
    judged = [trial for trial in record.trials if trial.auroc is not None]
    assert [trial.result for trial in judged] == ["chosen", *["judged"] * 2, *["dropped"] * 4]
    assert [trial.n_learned for trial in judged] == [*[80] * 3, *[20] * 4]
    assert {len(names) for names in known["patchcore"].seen} == {20, 80}
    assert "held-out good parts" in record.judged


def test_same_seed_same_choice(toy: ModuleType, tmp_path: Path) -> None:
    data = write_parts(tmp_path / "parts", toy, 50)
    first, again, other = (choice(data, seed=seed).record for seed in (1, 1, 2))
    assert first == again
    assert first.trials[0].by_kind != other.trials[0].by_kind


def test_ten_parts_are_held_out_in_turn(
    toy: ModuleType, tmp_path: Path, known: dict[str, Any]
) -> None:
    record = choice(write_parts(tmp_path / "parts", toy, 10)).record
    assert results(record)["patchcore"][0] == "chosen"
    folds = known["blind"].seen
    assert len(folds) == 3
    assert all(len(names) in (6, 7) for names in folds)
    assert record.judged.startswith("10 held-out good parts, 210 pictures of them")


def test_two_parts_are_too_few(toy: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 2 good parts to learn from, in 2 groups"):
        choice(write_parts(tmp_path / "parts", toy, 2))


def test_group_is_on_one_side(toy: ModuleType, tmp_path: Path) -> None:
    write_parts(tmp_path, toy, 48)
    rows = ["path,label,group", *(f"{i:03d}.png,good,g{i // 4}" for i in range(48))]
    (tmp_path / "parts.csv").write_text("\n".join(rows), encoding="utf-8")
    parts = find_parts(tmp_path / "parts.csv")
    (tmp_path / "planted").mkdir()
    (fold,) = lay_out(parts, 0).folds
    assert fold.good
    assert not {part.group for part in fold.learn} & {part.group for part in fold.good}


# Labelled defects


def test_labelled_defects_count_and_those_to_test_do_not(toy: ModuleType, tmp_path: Path) -> None:
    data = write_parts(tmp_path / "parts", toy, 50, "ok")
    plain = choice(data).record
    assert LABELLED not in plain.trials[0].by_kind
    write_parts(data, toy, 30, "defective", spot=0.02)
    record = choice(data).record
    assert record.judged.endswith(", and 30 labelled defective parts")
    judged = [trial for trial in record.trials if trial.auroc is not None]
    assert len(judged) == 3
    for trial in judged:
        planted = float(np.mean([trial.by_kind[kind] for kind in KINDS]))
        expected = planted + 30 / (30 + 10) * (trial.by_kind[LABELLED] - planted)
        assert trial.auroc == pytest.approx(expected, abs=1e-4)
        planted = float(np.mean([trial.missed_by_kind[kind] for kind in KINDS]))
        expected = planted + 30 / (30 + 10) * (trial.missed_by_kind[LABELLED] - planted)
        assert trial.misses == pytest.approx(expected, abs=1e-4)
    rows = ["path,label,split", *(f"ok/{i:03d}.png,good,train" for i in range(50))]
    rows += [f"defective/{i:03d}.png,spot,test" for i in range(30)]
    (data / "parts.csv").write_text("\n".join(rows), encoding="utf-8")
    assert choice(data / "parts.csv").record.judged == plain.judged


def test_detector_that_needs_labels_does_not_learn_what_judges(
    toy: ModuleType, tmp_path: Path, known: dict[str, Any]
) -> None:
    known["blind"].learns = "labels"
    data = write_parts(tmp_path / "parts", toy, 50, "ok")
    (told,) = [t for t in choice(data).record.trials if t.detector == "blind"]
    assert (told.result, told.auroc) == ("left out", None)
    assert told.reason == "it learns from labelled defects, and there are too few"
    write_parts(data, toy, 12, "defective", spot=0.4)
    parts = find_parts(data)
    (tmp_path / "planted").mkdir()
    (fold,) = lay_out(parts, 0).folds
    assert (len(fold.labelled), len(fold.defective)) == (0, 12)
    (fold,) = lay_out(parts, 0, shares_labels=True).folds
    assert len(fold.labelled) == len(fold.defective) == 6
    assert not {p.name for p in fold.labelled} & {p.name for p in fold.defective}
    choice(data)
    assert sum("defective" in name for name in known["blind"].seen[-1]) == 6
    assert not any("defective" in name for name in known["patchcore"].seen[-1])


def test_planted_damage_does_not_judge_what_it_has_taught(
    known: dict[str, type[Detector]],
    toy: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(known["blind"], "learns_planted", True)
    data = write_parts(tmp_path / "data", toy, 24)
    record = choice(data).record
    assert results(record)["blind"] == ["left out"]
    assert any("learns from planted damage" in trial.reason for trial in record.trials)


def fold_of(folder: Path, toy: ModuleType, kinds: Sequence[tuple[str, str, str]]) -> Fold:
    """Return the only fold of parts whose labels, splits and groups these are."""
    write_parts(folder, toy, len(kinds))
    rows = [f"{i:03d}.png,{','.join(kind)}" for i, kind in enumerate(kinds)]
    manifest = folder / "parts.csv"
    manifest.write_text("\n".join(["path,label,split,group", *rows]), encoding="utf-8")
    (folder / "planted").mkdir()
    (fold,) = lay_out(find_parts(manifest), 0, shares_labels=True).folds
    return fold


def test_labelled_group_judges_or_is_learned_from(toy: ModuleType, tmp_path: Path) -> None:
    kinds = [("good", "train", str(i)) for i in range(50)]
    kinds += [("spot", "train", f"g{i // 4}") for i in range(16)]
    kinds += [("spot", "val", f"h{i}") for i in range(4)]
    fold = fold_of(tmp_path, toy, kinds)
    learned, judged = ({p.group for p in side} for side in (fold.labelled, fold.defective))
    assert learned and judged
    assert not learned & judged
    assert sum(part.split == "val" for part in fold.defective) == 4


def test_labelled_parts_of_held_out_groups_are_not_learned_from(
    toy: ModuleType, tmp_path: Path
) -> None:
    kinds = [("good" if i < 50 else "spot", "train", f"g{i % 10}") for i in range(80)]
    fold = fold_of(tmp_path, toy, kinds)
    held, learned = ({part.group for part in side} for side in (fold.good, fold.labelled))
    assert held and learned
    assert not held & learned


# What cannot be judged


def test_what_this_install_cannot_fit_is_left_out_and_what_adds_it_is_named(
    toy: ModuleType, tmp_path: Path, known: dict[str, Any]
) -> None:
    known["blind"].packages = lambda _: ("no_such_package", "no_such_package", "numpy")
    record = choice(write_parts(tmp_path / "parts", toy, 50)).record
    (told,) = [trial for trial in record.trials if trial.detector == "blind"]
    assert (told.result, told.parameters) == ("left out", {"blindness": 1.0})
    assert (
        told.reason == "it needs no_such_package: pip install '.[train]' in the clone of makellos"
    )
    assert record.trials[0].detector == "patchcore"
    for cls in known.values():
        cls.packages = known["blind"].packages
    with pytest.raises(MissingRuntimeError, match=r"needs no_such_package, .*'\.\[train\]'"):
        choice(tmp_path / "parts")


def test_trial_that_takes_too_long_is_broken_off(
    toy: ModuleType, tmp_path: Path, known: dict[str, Any]
) -> None:
    known["blind"].seconds = 1e3
    record = choice(write_parts(tmp_path / "parts", toy, 50), minutes=1).record
    (told,) = [trial for trial in record.trials if trial.detector == "blind"]
    assert told.result == "left out"
    assert told.reason.startswith("it would take longer than the ")
    assert record.trials[0].detector == "patchcore"
    # What comes after it finds no time left.
    assert any(trial.reason == "the time budget of 1 min was used up" for trial in record.trials)


def test_default_is_judged_first_where_time_is_short(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A better one is compared with it on all parts, or not chosen."""
    order = []

    def judge_by_blindness(_: _Search, candidate: Any, folds: Any, limit: float) -> Judgement:
        del limit
        order.append((folds[0].n_pictures, candidate.is_default))
        spot = 0.5 if candidate.is_default else 2.0
        return judged([0.0, 1.0] * 10, {"spot": [spot] * 20})

    monkeypatch.setattr(_Search, "_judged", judge_by_blindness)
    record = choice(write_parts(tmp_path / "parts", toy, 100)).record
    assert record.trials[0].parameters != {}
    whole = max(order)[0]
    on_all = [is_default for n_pictures, is_default in order if n_pictures == whole]
    assert on_all[0]
    assert len(on_all) > 1


def test_tiles_leave_out_what_scores_by_classes(
    toy: ModuleType, tmp_path: Path, known: dict[str, Any]
) -> None:
    known["blind"].learns = "labels"
    data = write_parts(tmp_path / "parts", toy, 50)
    reasons = {t.detector: t.reason for t in choice(data, on_maps=True).record.trials}
    assert reasons["blind"] == "it scores whole pictures by class, and tiles and zones need maps"


def test_without_time_the_default_is_taken(
    toy: ModuleType, tmp_path: Path, known: dict[str, Any]
) -> None:
    for cls in known.values():
        cls.seconds = 1e3
    found = choice(write_parts(tmp_path / "parts", toy, 50), minutes=0.1)
    assert found.detector.get_parameters() == {"blindness": 0.0, "seed": 0}
    assert found.record.reason.startswith("patchcore, unjudged")


@pytest.mark.parametrize(
    ("failure", "expected", "message"),
    [
        (MissingRuntimeError("This needs torch. Install it."), MissingRuntimeError, "needs torch"),
        (
            ValueError("bent"),
            TrainingError,
            r"None of the 4 candidates .*\n  patchcore: ValueError: bent",
        ),
    ],
)
def test_nothing_can_be_judged(
    toy: ModuleType,
    tmp_path: Path,
    known: dict[str, Any],
    failure: Exception,
    expected: type[Exception],
    message: str,
) -> None:
    def fail(*_: Any) -> None:
        raise failure

    for cls in known.values():
        cls._learn = fail
    with pytest.raises(expected, match=message):
        choice(write_parts(tmp_path / "parts", toy, 50))


def test_detectors_that_do_not_fit_are_named(
    toy: ModuleType, tmp_path: Path, known: dict[str, Any]
) -> None:
    known["blind"].candidates = ()
    known["breaking"].takes = "features"
    record = choice(write_parts(tmp_path / "parts", toy, 50)).record
    reasons = {trial.detector: trial.reason for trial in record.trials if trial.reason}
    assert reasons["blind"].startswith("it is not among those that auto tries")
    assert reasons["breaking"] == "it does not take pictures"


def test_set_keeps_a_value_for_those_that_have_it(toy: ModuleType, tmp_path: Path) -> None:
    data = write_parts(tmp_path / "parts", toy, 50)
    found = choice(data, parameters={"blindness": "0.25"})
    assert found.detector.get_parameters()["blindness"] == 0.25
    assert len(results(found.record)["patchcore"]) == 1  # its candidates differ in nothing else
    with pytest.raises(ConfigurationError, match="No detector has a parameter 'blindnes'"):
        choice(data, parameters={"blindnes": 1})


def test_white_level_is_learned_and_judged_by(toy: ModuleType, tmp_path: Path) -> None:
    """Pictures of 12 bits in 16 say the same as when they fill them."""
    rng = np.random.default_rng(0)
    for i in range(45):
        gray = toy.gray_part(rng).astype(np.uint16)
        toy.write(tmp_path / "deep" / f"{i:03d}.png", gray * 257)
        toy.write(tmp_path / "dark" / f"{i:03d}.png", gray * 16)
    deep = choice(tmp_path / "deep").record
    dark = choice(tmp_path / "dark", white_level=255 * 16).record
    raw = choice(tmp_path / "dark").record
    expected = deep.trials[0].auroc
    assert expected is not None
    assert dark.trials[0].auroc == pytest.approx(expected, abs=0.3)
    assert [t.auroc for t in raw.trials] != [t.auroc for t in dark.trials]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "fast"}, "The preset is 'fast', but auto chooses among the presets"),
        ({"time_budget": 0.0}, "The time budget is 0 minutes; expected a number above 0"),
        ({"training": makellos.Training(resume=True)}, "--resume, --devices and --nodes"),
        ({"signal": SignalSettings(rate=10.0)}, "auto works on pictures; --rate"),
        ({"detector": "blind", "time_budget": 3.0}, "only with --detector auto"),
        ({"detector": "auot"}, "no detector 'auot'. Did you mean 'auto'"),
    ],
)
def test_options_that_do_not_go_with_auto(
    toy_parts: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        makellos.fit(toy_parts, tmp_path / "m.makellos", **{"detector": "auto", **options})


def test_what_was_tried_is_told(toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    model, told = tmp_path / "m.makellos", tmp_path / "told.json"
    arguments = ["--detector", "auto", "--false-alarms", "0.1", "--time-budget", "5"]
    shown = cli("fit", toy_parts, "-o", model, *arguments, "--json", told)
    assert shown.code == 0
    assert "Chosen: patchcore misses the fewest damaged parts: " in shown.out
    assert " missed " in shown.out
    assert "failed: ValueError: the axis is bent" in shown.out
    found = json.loads(told.read_text(encoding="utf-8"))["auto"]
    assert found["time_budget"] == 5
    assert found["trials"][0]["result"] == "chosen"
    info = cli("info", model).out
    assert found["reason"] in " ".join(info.split())


# What is planted


def test_every_kind_damages_what_its_mask_says() -> None:
    picture = np.full((96, 128), 90, np.uint8)
    cv2.circle(picture, (64, 48), 30, 200, -1)
    picture += np.random.default_rng(0).integers(0, 9, picture.shape, np.uint8)
    for kind in KINDS:
        for seed in range(5):
            damaged, mask = plant(picture, np.random.default_rng(seed), kind=kind)
            again, _ = plant(picture, np.random.default_rng(seed), kind=kind)
            assert damaged.shape == picture.shape
            assert damaged.dtype == np.uint8
            assert mask.any()
            assert (damaged == again).all()
            assert (damaged[mask] != picture[mask]).all()


def test_bend_moves_an_edge_and_missing_removes_the_part() -> None:
    picture = np.full((100, 100), 20, np.uint8)
    picture[40:60] = 220
    bent = [plant(picture, np.random.default_rng(i), kind="bend")[0] for i in range(20)]
    assert all(b.min() >= 20 and b.max() <= 220 for b in bent)
    gone = [plant(picture, np.random.default_rng(i), kind="missing") for i in range(20)]
    assert sum((d[m] < picture[m]).any() for d, m in gone) > 5


def judged(good: Sequence[float], damaged: dict[str, list[float]]) -> Judgement:
    owners = {kind: [i % len(good) for i in range(len(found))] for kind, found in damaged.items()}
    return judging._judgement(good, damaged, owners)


def test_a_lead_that_chance_explains_is_no_lead() -> None:
    rng = np.random.default_rng(1)
    good = rng.normal(0, 1, 40)
    damaged = {kind: good.repeat(2) * 0 + rng.normal(1, 1, 80) for kind in ("a", "b")}
    first = judged(good, {kind: list(found) for kind, found in damaged.items()})
    assert first.drawn.shape == (200,)
    assert first.drawn.mean() == pytest.approx(first.misses, abs=0.05)
    alike = judged(good + rng.normal(0, 0.1, 40), {k: list(v + 0.02) for k, v in damaged.items()})
    better = judged(good, {kind: list(found + 1.5) for kind, found in damaged.items()})
    assert better.surely_beats(first)
    assert not alike.surely_beats(first)
    assert not first.surely_beats(alike)
    assert not first.surely_beats(first)


def test_misses_are_the_mean_over_the_highest_tenth_of_good_parts() -> None:
    rng = np.random.default_rng(2)
    good, spot = rng.normal(0, 1, 60), rng.normal(1.5, 1, 90)
    found = judged(good, {"spot": list(spot)})
    highest = sorted(good)[-6:]
    assert found.misses == pytest.approx(np.mean([spot <= each for each in highest]), abs=1e-4)
    few = judged(good[:12], {"spot": list(spot)})  # four of twelve, for a tenth is one
    highest = sorted(good[:12])[-4:]
    assert few.misses == pytest.approx(np.mean([spot <= each for each in highest]), abs=1e-4)


def test_fewer_misses_count_before_a_better_ranking() -> None:
    good = [*np.linspace(0, 1, 39), 9.0]
    ranks_well = judged(good, {"spot": [2.0] * 40})
    misses_few = judged(good, {"spot": [10.0] * 30 + [-1.0] * 10})
    assert ranks_well.auroc > 0.97 > 0.75 == misses_few.auroc
    assert ranks_well.misses == misses_few.misses == 0.25
    assert ranks_well.place < misses_few.place  # a tie: the ranking decides
    worse = judged([*good[:-2], 9.0, 9.0], {"spot": [2.0] * 40})
    assert worse.auroc > misses_few.auroc
    assert misses_few.place < worse.place


def test_figures_of_drawn_parts_count_labels_as_the_figure_does() -> None:
    good = [0.0, 0.1, 0.2, 0.3]
    found = judged(good, {"a": [1.0] * 4, LABELLED: [-1.0] * 10})
    assert found.auroc == found.misses == pytest.approx(0.5)  # half way from all to nothing
    np.testing.assert_allclose(found.drawn, 0.5)


def test_default_stays_unless_it_is_surely_beaten() -> None:

    def missing(misses: float, drawn: Any, n_labelled: int = 0) -> Judgement:
        return Judgement(misses, 0.9, {}, {}, drawn, n_labelled)

    high, low = np.full(200, 0.4), np.full(200, 0.3)
    default = SimpleNamespace(is_default=True, judgement=missing(0.4, high))
    other = SimpleNamespace(is_default=False, judgement=missing(0.3, low))
    lucky = SimpleNamespace(is_default=False, judgement=missing(0.3, low + 0.11))
    lucky.judgement.drawn[:10] = 0.5
    assert auto._best([other, default]) is other
    assert auto._best([lucky, default]) is default
    assert auto._best([default, other]) is default
    assert auto._best([other]) is other
    close = SimpleNamespace(is_default=False, judgement=missing(0.31, low))
    assert auto._best([close, default]) is default  # less than a quarter of the misses is gone
    close.judgement = missing(0.31, low, n_labelled=10)
    assert auto._best([close, default]) is close  # an eighth will do
