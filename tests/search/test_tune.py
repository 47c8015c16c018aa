"""Tune: the same seed has the same trials, a killed search goes on, poor trials end early."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import optuna
import pytest
from searched_toys import AUTOMATIC, TOYS, ToyClassifier, ToySearched, ToyTrained

from makellos import find_parts
from makellos.data.planting import plant
from makellos.data.progress import no_progress
from makellos.detectors import detectors, make_detector, registry
from makellos.errors import (
    ConfigurationError,
    InputError,
    MissingRuntimeError,
    StorageError,
    TrainingError,
)
from makellos.search.folds import lay_out
from makellos.search.planted_trials import judge
from makellos.search.search_space import Choices, Range, described, search_space
from makellos.search.study import alone, bracket_of
from makellos.training import Training
from makellos.workflows.tune import TuneSummary, tune

optuna.logging.set_verbosity(optuna.logging.ERROR)


def unsynced(*arguments: Any, **options: Any) -> sqlite3.Connection:
    """Connect without waiting for the disk: what a kill leaves is the same."""
    connection = CONNECT(*arguments, **options)
    connection.execute("PRAGMA synchronous=OFF")
    return connection


CONNECT = sqlite3.connect


@pytest.fixture(autouse=True, scope="module")
def _fast_database() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", unsynced)
        yield


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**detectors(), **{toy.name: toy for toy in TOYS}}
    monkeypatch.setattr(registry, "_registry", known)
    for toy in TOYS:
        toy.seen.clear()
    ToyTrained.asked.clear()


def write(path: Path, picture: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 10 good and 10 defective parts in folders, two per group by a manifest."""
    root = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    rows = ["path,label,group,split"]
    for i in range(20):
        label = "good" if i < 10 else "scratch"
        write(root / f"{label}/{i}.png", rng.integers(0, 255, (16, 16), np.uint8))
        rows.append(f"{label}/{i}.png,{label},g{i // 2},{'test' if i % 10 > 7 else 'train'}")
    (root / "parts.csv").write_text("\n".join(rows), encoding="utf-8")
    return root / "parts.csv"


def manifest_of(toy_parts: Path, folder: Path, rows: Sequence[tuple[str, str, str]]) -> Path:
    """Write a manifest of folders, the label and the split of each."""
    lines = ["path,label,split"]
    for name, label, split in rows:
        lines += [f"{path},{label},{split}" for path in sorted((toy_parts / name).glob("*.png"))]
    (folder / "parts.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "parts.csv"


@pytest.fixture
def good_parts(toy_parts: Path, tmp_path: Path) -> Path:
    """Return 30 good parts to learn from, and 10 that a split names to judge by."""
    rows = [("train/good", "good", "train"), ("test/good", "good", "val")]
    return manifest_of(toy_parts, tmp_path, rows)


def search(data: Path, folder: Path, **options: Any) -> TuneSummary:
    return tune(data, folder, **{"detector": "toy_classifier", "n_trials": 12, **options})


def trials_of(folder: Path) -> list[dict[str, Any]]:
    """Return the finished trials of a study, without what tells numbers and time."""
    study = optuna.load_study(study_name="makellos", storage=f"sqlite:///{folder / 'study.db'}")
    return [
        {
            "parameters": trial.user_attrs["parameters"],
            "state": trial.state.name,
            "value": trial.value,
            "steps": trial.intermediate_values,
            "used": trial.user_attrs["cost"]["used"],
            "allowed": trial.user_attrs["cost"]["allowed"],
        }
        for trial in study.trials
        if trial.state.name != "FAIL" or "reason" in trial.user_attrs
    ]


# What is searched


def test_ranges_are_parsed() -> None:
    asked = {"rate": "0.01..1:log", "kind": "good,bad", "epochs": "3..9", "ends_after": "0,2,4"}
    space = search_space(ToyClassifier, asked, {})
    assert space == {
        "rate": Range(0.01, 1.0, logarithmic=True),
        "kind": Choices(("good", "bad")),
        "epochs": Range(3, 9, whole=True),
        "ends_after": Choices((0, 2, 4)),
    }
    assert described(space)["rate"] == "0.01..1.0:log"


def test_declared_range_is_searched_unless_it_is_set() -> None:
    assert search_space(ToyClassifier, {}, {}) == {"rate": Range(1e-3, 3.0, logarithmic=True)}
    assert list(search_space(ToyClassifier, {"kind": "good,bad"}, {"rate": 1.0})) == ["kind"]


@pytest.mark.parametrize(
    ("asked", "fixed", "message"),
    [
        ({"rat": "1..2"}, {}, "Did you mean 'rate'"),
        ({"rate": "1..2"}, {"rate": 1}, "both searched and set"),
        ({"rate": "2..1"}, {}, "first number must be the smaller"),
        ({"rate": "0..1:log"}, {}, "must start above 0"),
        ({"rate": "1..20"}, {}, "20.0 is not accepted; expected a number, at least 1e-06"),
        ({"rate": "1..2:lin"}, {}, "is not a range. Expected LOW..HIGH"),
        ({"rate": "a..b"}, {}, "is not a range"),
        ({"epochs": "1.5..3"}, {}, "is not a range"),
        ({"kind": "good,middling"}, {}, "'middling' is not accepted"),
        ({"kind": "good"}, {}, "one value to search"),
        ({"seed": "1..9"}, {}, "cannot be searched"),
        ({}, {"rate": 1}, "nothing to search"),
    ],
)
def test_wrong_ranges_say_what_is_accepted(
    asked: dict[str, str], fixed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        search_space(ToyClassifier, asked, fixed)


@pytest.mark.parametrize("name", [name for name in detectors() if name != "seed"])
def test_every_detector_declares_ranges_that_it_accepts(name: str) -> None:
    cls = detectors()[name]
    for key, values in search_space(cls, {}, {}).items():
        ends = values.values if isinstance(values, Choices) else (values.low, values.high)
        for value in ends:
            assert make_detector(name, parameters={key: value}).get_parameters()[key] == value


# Brackets


def test_brackets_are_shared_out_as_hyperband_does_in_every_beginning() -> None:
    places = [bracket_of(slot, 3) for slot in range(34)]
    assert [places.count(b) for b in range(3)] == [18, 10, 6]
    assert [places[:17].count(b) for b in range(3)] == [9, 5, 3]
    assert bracket_of(5, 1) == 0


# A search


@pytest.fixture(scope="module")
def done(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("search") / "search"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_registry", {**detectors(), "toy_classifier": ToyClassifier})
        yield folder, search(labelled, folder)


def test_first_trial_has_the_defaults_and_the_best_is_no_worse(done: Any) -> None:
    folder, summary = done
    first = trials_of(folder)[0]
    assert first["parameters"] == {"rate": 1.0}
    assert first["state"] == "COMPLETE"
    assert summary.default_value == pytest.approx(1 + 1 / 18)
    assert summary.best_value < summary.default_value
    assert summary.best_parameters["rate"] == pytest.approx(0.1, rel=1.0)


def test_poor_trials_end_early_and_save_epochs(done: Any) -> None:
    folder, summary = done
    found = trials_of(folder)
    assert summary.n_trials == 12 == summary.n_complete + summary.n_pruned
    assert summary.n_pruned > 3
    assert summary.epochs_used == sum(len(trial["steps"]) for trial in found)
    assert summary.epochs_unpruned == 12 * 18
    assert summary.epochs_used <= 0.6 * summary.epochs_unpruned
    for trial in found:
        assert trial["state"] == "PRUNED" or trial["used"] == 18


def test_page_and_parameters_are_written(done: Any) -> None:
    folder, summary = done
    page = (folder / "tuning.html").read_text(encoding="utf-8")
    assert "toy_classifier" in page
    assert json.loads((folder / "best.json").read_text()) == summary.best_parameters
    assert not list(folder.glob("*.partial")) and not list(folder.glob(".*"))


def test_same_seed_has_the_same_trials(done: Any, labelled: Path, tmp_path: Path) -> None:
    folder, _ = done
    search(labelled, tmp_path / "again")
    assert trials_of(tmp_path / "again") == trials_of(folder)
    search(labelled, tmp_path / "other", seed=1, n_trials=2)
    first, second = trials_of(tmp_path / "other")
    assert first == trials_of(folder)[0]
    assert second["parameters"] != trials_of(folder)[1]["parameters"]


def test_a_longer_search_begins_with_the_shorter_one(
    done: Any, labelled: Path, tmp_path: Path
) -> None:
    folder, _ = done
    search(labelled, tmp_path / "s", n_trials=5)
    search(labelled, tmp_path / "s", n_trials=12)
    assert trials_of(tmp_path / "s") == trials_of(folder)


@pytest.mark.parametrize("moment", [1, 20, 60])
def test_broken_off_search_goes_on_as_if_nothing_had_been(
    done: Any,
    labelled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: int,
) -> None:
    """An interrupt leaves a trial running, as a kill does."""
    folder, summary = done
    count = 0
    real = optuna.trial.Trial.report

    def report(self: Any, value: float, step: int) -> None:
        nonlocal count
        count += 1
        real(self, value, step)
        if count == moment:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.trial.Trial, "report", report)
        with pytest.raises(KeyboardInterrupt):
            search(labelled, tmp_path / "s")
    again = search(labelled, tmp_path / "s")
    assert trials_of(tmp_path / "s") == trials_of(folder)
    assert again.n_killed == 1
    same = {"folder", "best", "page", "n_killed", "seconds"}
    assert {k: v for k, v in asdict(again).items() if k not in same} == {
        k: v for k, v in asdict(summary).items() if k not in same
    }
    study = optuna.load_study(
        study_name="makellos", storage=f"sqlite:///{tmp_path / 's' / 'study.db'}"
    )
    assert len(study.trials) == 13
    assert [trial.state.name for trial in study.trials].count("FAIL") == 1


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
import optuna
from searched_toys import ToyClassifier
from makellos.detectors import detectors, registry
registry._registry.update({**detectors(), "toy_classifier": ToyClassifier})
real, count = optuna.trial.Trial.report, 0
def report(self, value, step):
    global count
    count += 1
    real(self, value, step)
    if count == 30:
        print("now", flush=True)
        while True:
            pass
optuna.trial.Trial.report = report
from makellos.workflows.tune import tune
tune(sys.argv[1], sys.argv[2], detector="toy_classifier", n_trials=12)
"""


def test_killed_process_leaves_a_search_that_goes_on(
    done: Any, labelled: Path, tmp_path: Path
) -> None:
    folder, _ = done
    toys = Path(__file__).parents[1] / "detectors"
    command = [sys.executable, "-c", KILLED, str(labelled), str(tmp_path / "s"), str(toys)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "now\n"
            with pytest.raises(StorageError, match="Another search is running in"):
                search(labelled, tmp_path / "s")
        finally:
            process.kill()
    again = search(labelled, tmp_path / "s")
    assert again.n_killed == 1
    assert trials_of(tmp_path / "s") == trials_of(folder)


def test_failed_trials_are_told_and_the_search_goes_on(labelled: Path, tmp_path: Path) -> None:
    summary = search(labelled, tmp_path / "s", search={"rate": "0.5..10"}, n_trials=8)
    assert summary.n_failed > 0
    assert summary.n_complete > 0
    assert all("diverged" in reason for reason in summary.failures)
    assert "diverged" in (tmp_path / "s" / "tuning.html").read_text(encoding="utf-8")


def test_all_failing_raises_with_the_reasons(labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"All 3 trials failed:\n.*diverged at rate"):
        search(
            labelled,
            tmp_path / "s",
            parameters={"rate": 9.0},
            search={"kind": "good,bad"},
            n_trials=3,
        )


def test_default_outside_of_the_range_is_tried_first(labelled: Path, tmp_path: Path) -> None:
    summary = search(labelled, tmp_path / "s", search={"rate": "0.01..0.2:log"}, n_trials=3)
    assert trials_of(tmp_path / "s")[0]["parameters"]["rate"] == 1.0
    assert summary.best_parameters["rate"] <= 0.2


def test_preset_and_set_values_are_kept(labelled: Path, tmp_path: Path) -> None:
    search(labelled, tmp_path / "s", preset="fast", parameters={"kind": "bad"}, n_trials=2)
    best = json.loads((tmp_path / "s" / "best.json").read_text())
    assert best["epochs"] == 9
    assert best["kind"] == "bad"
    assert {len(trial["steps"]) for trial in trials_of(tmp_path / "s")} <= set(range(1, 10))


def test_automatic_epochs_of_a_classifier_are_counted(labelled: Path, tmp_path: Path) -> None:
    summary = search(labelled, tmp_path / "s", parameters={"epochs": 0})
    assert summary.epochs_unpruned == 12 * 12
    assert summary.epochs_used <= 0.6 * summary.epochs_unpruned


def test_early_stopping_is_not_credited_to_pruning(labelled: Path, tmp_path: Path) -> None:
    summary = search(labelled, tmp_path / "s", parameters={"ends_after": 6})
    assert summary.epochs_unpruned == pytest.approx(12 * 6)


def test_test_parts_are_never_seen_and_groups_stay_whole(labelled: Path, tmp_path: Path) -> None:
    search(labelled, tmp_path / "s", n_trials=2)
    parts = ToyClassifier.seen[0]
    assert len(parts) == 16
    groups = {s: {p.group for p in parts if p.split == s} for s in ("train", "val")}
    assert groups["train"] and groups["val"] and not groups["train"] & groups["val"]
    assert {p.label for p in parts if p.split == "val"} == {"good", "scratch"}


def test_no_trial_begins_after_the_timeout(labelled: Path, tmp_path: Path) -> None:
    now = iter(range(0, 100000, 40))
    summary = search(labelled, tmp_path / "s", timeout_minutes=5, clock=lambda: float(next(now)))
    assert 1 <= summary.n_trials < 12


# Goes on with the same search alone


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seed": 2}, "seed: 0, now 2"),
        ({"parameters": {"kind": "bad"}}, "fixed parameters: none, now kind=bad"),
        ({"search": {"rate": "0.1..1"}}, "search space: rate=0.001..3.0:log, now rate=0.1..1.0"),
        ({"detector": "toy_searched"}, "detector: toy_classifier, now toy_searched"),
    ],
)
def test_another_search_is_refused_and_what_differs_is_named(
    labelled: Path, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    search(labelled, tmp_path / "s", n_trials=1)
    before = (tmp_path / "s" / "best.json").read_bytes()
    with pytest.raises(ConfigurationError) as caught:
        search(labelled, tmp_path / "s", **options)
    assert told in str(caught.value)
    assert (tmp_path / "s" / "best.json").read_bytes() == before


def test_search_by_an_objective_of_an_earlier_version_is_refused(
    good_parts: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"detector": "toy_searched", "n_trials": 1}
    search(good_parts, tmp_path / "s", **options)
    address = f"sqlite:///{tmp_path / 's' / 'study.db'}"
    study = optuna.load_study(study_name="makellos", storage=address)
    identity = study.user_attrs["identity"]
    del identity["objective"]
    study.set_user_attr("identity", identity)
    with pytest.raises(ConfigurationError) as caught:
        search(good_parts, tmp_path / "s", **options)
    told = "\n  objective: not recorded, now mean misses of 7 kinds of planted damage"
    assert told in str(caught.value)
    assert len(trials_of(tmp_path / "s")) == 1


def test_search_by_validation_loss_of_an_earlier_version_goes_on(done: Any) -> None:
    folder, _ = done
    study = optuna.load_study(study_name="makellos", storage=f"sqlite:///{folder / 'study.db'}")
    kept = {"data", "detector", "fixed parameters", "search space", "seed"}
    assert set(study.user_attrs["identity"]) == kept


def test_other_data_are_refused(labelled: Path, tmp_path: Path) -> None:
    search(labelled, tmp_path / "s", n_trials=1)
    text = labelled.read_text(encoding="utf-8")
    other = labelled.with_name("other.csv")
    other.write_text(text.replace("good/1.png,good", "good/1.png,scratch"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="data: "):
        search(other, tmp_path / "s")


@pytest.mark.parametrize("name", ["best.json", "tuning.html"])
def test_foreign_files_are_left_alone(labelled: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(StorageError, match="left alone"):
        search(labelled, tmp_path)
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"


def test_damaged_study_is_told(labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"no database at all, for sure" * 100)
    with pytest.raises(StorageError, match=r"study\.db cannot be read or written"):
        search(labelled, tmp_path)


def test_folder_of_any_name_is_taken(labelled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a b?{c}#d%20"
    search(labelled, folder, n_trials=1)
    assert (folder / "study.db").stat().st_size > 0


def test_storage_without_driver_says_so_without_the_password(
    labelled: Path, tmp_path: Path
) -> None:
    with pytest.raises(MissingRuntimeError) as caught:
        search(labelled, tmp_path, storage="postgresql+pg8000://me:s3cret@host/db")
    assert "s3cret" not in str(caught.value)


def test_storage_that_is_none(labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not the address of a database"):
        search(labelled, tmp_path, storage="nonsense")


def test_storage_elsewhere_keeps_the_study_under_the_name_of_the_folder(
    labelled: Path, tmp_path: Path
) -> None:
    address = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    search(labelled, tmp_path / "first", storage=address, n_trials=2)
    search(labelled, tmp_path / "second", storage=address, n_trials=1, seed=4)
    names = optuna.get_all_study_names(address)
    assert sorted(names) == ["first", "second"]
    assert not (tmp_path / "first" / "study.db").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_trials": 0}, "number of trials is 0"),
        ({"timeout_minutes": 0}, "timeout is 0 minutes"),
        ({"seed": -1}, "seed is -1"),
        ({"detector": "toy_classifer"}, "Did you mean 'toy_classifier'"),
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"detector": "toy_searched", "device": "cuda"}, "trains no network"),
        ({"parameters": {"rate": 99}}, "rate is 99"),
    ],
)
def test_wrong_options_are_told_before_anything_is_written(
    labelled: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        search(labelled, tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_one_kind_of_parts_is_not_enough_for_labels(toy_parts: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only one kind"):
        search(toy_parts / "train", tmp_path / "s")


def test_validation_needs_both_kinds(labelled: Path, tmp_path: Path) -> None:
    rows = labelled.read_text(encoding="utf-8").splitlines()
    one_group = [
        row.rsplit(",", 2)[0] + ",one,train" if ",scratch," in row else row for row in rows
    ]
    data = labelled.with_name("one.csv")
    data.write_text("\n".join(one_group), encoding="utf-8")
    with pytest.raises(InputError, match="2 of one kind of damage"):
        search(data, tmp_path / "s")


# Detectors that learn from good parts


def test_detector_without_epochs_learns_from_shares_of_the_parts(
    good_parts: Path, tmp_path: Path
) -> None:
    summary = search(good_parts, tmp_path / "s", detector="toy_searched", n_trials=10)
    found = trials_of(tmp_path / "s")
    sizes = {len(names) for names in ToySearched.seen}
    assert sizes == {10, 30}  # a ninth is too few
    assert all("/train/good/" in name for names in ToySearched.seen for name in names)
    assert summary.resource == "fits on all parts"
    assert summary.n_pruned > 0
    assert summary.epochs_unpruned == 10
    assert summary.epochs_used == pytest.approx(
        sum(len(names) for names in ToySearched.seen) / 30, abs=0.01
    )
    assert summary.best_value <= (summary.default_value or 0)
    assert 0 < found[0]["value"] < 0.87  # by chance
    assert summary.judged.endswith("planted damage of 7 kinds")


def test_few_parts_are_held_out_in_turn(toy_parts: Path, tmp_path: Path) -> None:
    summary = search(toy_parts, tmp_path / "s", detector="toy_searched", n_trials=1)
    assert [len(names) for names in ToySearched.seen] == [7] * 3 + [20] * 3
    assert all(name.startswith("train/good") for names in ToySearched.seen for name in names)
    assert [sum(map(len, ToySearched.seen[-3:])), len(set().union(*ToySearched.seen))] == [60, 30]
    assert summary.epochs_used == pytest.approx(81 / 60, abs=0.001)
    assert summary.epochs_unpruned == 1
    assert summary.judged.startswith("30 held-out good parts, 210 pictures of them")


def test_epochs_of_all_folds_are_counted(toy_parts: Path, tmp_path: Path) -> None:
    summary = search(toy_parts, tmp_path / "s", detector="toy_trained", n_trials=2)
    cut = [AUTOMATIC // 9] * 3, [AUTOMATIC // 3] * 3
    assert ToyTrained.asked[:9] == [0, 0, 0, *cut[0], *cut[1]]
    assert summary.epochs_unpruned == 2 * 3 * AUTOMATIC
    assert {t["allowed"] for t in trials_of(tmp_path / "s")} == {3 * AUTOMATIC}
    assert summary.epochs_used == sum(n or AUTOMATIC for n in ToyTrained.asked)


def test_of_equal_trials_the_earlier_one_goes_on(good_parts: Path, tmp_path: Path) -> None:
    hopeless = {"noise": "4..5"}
    summary = search(good_parts, tmp_path / "s", detector="toy_trained", search=hopeless)
    assert summary.epochs_used < 0.7 * summary.epochs_unpruned
    (value,) = {t["value"] for t in trials_of(tmp_path / "s")[1:] if t["value"]}
    assert value == pytest.approx(0.86, abs=0.01)  # four of thirty good parts set thresholds


def test_labelled_parts_judge_and_those_of_a_split_for_it_always(
    toy_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("train/good", "good", "train"), ("test/good", "good", "val")]
    data = manifest_of(toy_parts, tmp_path, [*rows, ("test/spotted", "spotted", "val")])
    summary = search(data, tmp_path / "s", detector="toy_searched", n_trials=2)
    planted = "10 held-out good parts, 210 pictures of them with planted damage of 7 kinds"
    assert summary.judged == f"{planted}, and 10 labelled defective parts"
    assert {len(names) for names in ToySearched.seen} == {10, 30}
    # What takes labels learns from half of them, unless the split names judges.
    monkeypatch.setattr(ToySearched, "learns", "good and labelled")
    assert "10 labelled" in search(data, tmp_path / "v", detector="toy_searched", n_trials=1).judged
    assert len(ToySearched.seen[-1]) == 30
    data = manifest_of(toy_parts, tmp_path, [*rows, ("test/spotted", "spotted", "train")])
    summary = search(data, tmp_path / "h", detector="toy_searched", n_trials=1)
    assert "and 5 labelled" in summary.judged
    assert sum("spotted" in name for name in ToySearched.seen[-1]) == 5


def test_value_is_what_auto_judges_by(toy_parts: Path, tmp_path: Path) -> None:
    summary = search(toy_parts, tmp_path / "s", detector="toy_searched", n_trials=1, seed=3)
    bench = lay_out(find_parts(toy_parts), 3)
    judged = judge(make_detector("toy_searched", seed=3), bench.folds, Training(), no_progress)
    assert summary.default_value == pytest.approx(judged.misses + (1 - judged.auroc) / 1000)
    assert summary.default_auroc == summary.best_auroc == judged.auroc
    assert summary.judged == bench.described


def test_automatic_epochs_are_counted_and_cut(good_parts: Path, tmp_path: Path) -> None:
    summary = search(good_parts, tmp_path / "s", detector="toy_trained", n_trials=8)
    assert ToyTrained.asked[:3] == [0, AUTOMATIC // 9, AUTOMATIC // 3]
    assert set(ToyTrained.asked) == {0, AUTOMATIC // 9, AUTOMATIC // 3}
    assert summary.epochs_unpruned == 8 * AUTOMATIC
    assert summary.epochs_used == sum(n or AUTOMATIC for n in ToyTrained.asked)
    assert "epochs" not in json.loads((tmp_path / "s" / "best.json").read_text())


def test_automatic_epochs_are_known_after_a_kill(
    good_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(good_parts, tmp_path / "whole", detector="toy_trained", n_trials=5)
    with monkeypatch.context() as patch:
        real = ToyTrained._train

        def train(self: Any, *arguments: Any) -> None:
            if len(ToyTrained.asked) >= 14:
                raise KeyboardInterrupt
            real(self, *arguments)

        patch.setattr(ToyTrained, "_train", train)
        with pytest.raises(KeyboardInterrupt):
            search(good_parts, tmp_path / "s", detector="toy_trained", n_trials=5)
    search(good_parts, tmp_path / "s", detector="toy_trained", n_trials=5)
    assert trials_of(tmp_path / "s") == trials_of(tmp_path / "whole")


def test_too_few_parts_are_told(tmp_path: Path) -> None:
    write(tmp_path / "parts" / "one.png", np.zeros((20, 20), np.uint8))
    with pytest.raises(InputError, match="at least 3 in 2 groups"):
        search(tmp_path / "parts", tmp_path / "s", detector="toy_searched")


def test_unreadable_part_is_named(toy_parts: Path, tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / "parts" / f"{i}.png", np.full((20, 20), 40 * i, np.uint8))
    (tmp_path / "parts" / "broken.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"broken\.png"):
        search(tmp_path / "parts", tmp_path / "s", detector="toy_searched")


# Planted damage


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3), (3, 3), (1, 1), (500, 30, 3)])
def test_planted_damage_is_where_the_mask_is(kind: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    picture = rng.integers(0, np.iinfo(kind).max, shape).astype(kind)
    sizes = set()
    for i in range(40):
        damaged, mask = plant(picture, np.random.default_rng(i))
        assert damaged.shape == shape and damaged.dtype == kind
        assert mask.shape == shape[:2] and mask.any()
        changed = damaged != picture
        changed = changed if changed.ndim == 2 else changed.any(axis=2)
        assert changed[mask].all()
        sizes.add(int(mask.sum()))
        again, _ = plant(picture, np.random.default_rng(i))
        assert np.array_equal(again, damaged)
    assert len(sizes) > 5 or shape[0] < 4


@pytest.mark.parametrize("level", [0, 128, 255])
def test_plain_pictures_are_damaged_too(level: int) -> None:
    picture = np.full((30, 30), level, np.uint8)
    for i in range(20):
        damaged, mask = plant(picture, np.random.default_rng(i))
        assert mask.any() and (damaged != picture)[mask].all()


# The command line


@pytest.mark.needs_torch
def test_command_line_searches_and_fit_takes_what_was_found(
    toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli(
        *("tune", toy_parts, "-o", tmp_path / "s", "--detector", "vae", "--n-trials", 2),
        *("--set", "image_size=32", "--set", "epochs=2", "--set", "n_samples=1"),
        *("--search", "latent_dim=2..8:log", "--search", "learning_rate=0.001,0.01"),
        *("--set", "width=2", "--set", "beta=1", "--set", "score=map_maximum", "--json", "-"),
    )
    assert told.code == 0, told.err
    found = json.loads(told.out)
    keys = (
        "n_trials n_complete n_pruned n_failed best_value default_value best_parameters "
        "epochs_used epochs_unpruned seconds seed"
    )
    assert set(keys.split()) <= set(found)
    assert found["n_trials"] == 2
    assert set(found["best_parameters"]) == {"latent_dim", "learning_rate"}
    assert "Fit with them: makellos fit" in told.err
    assert "Best misses " in told.err and f"(AUROC {found['best_auroc']:.3f}" in told.err
    best = tmp_path / "s" / "best.json"
    told = cli(
        *("fit", toy_parts, "-o", tmp_path / "m.makellos", "--detector", "vae"),
        *("--config", best, "--false-alarms", "0.2", "--json", tmp_path / "fit.json"),
    )
    assert told.code == 0, told.err
    shown = json.loads(cli("info", tmp_path / "m.makellos", "--json", "-").out)
    given = shown["detector"]["parameters"]
    assert {k: given[k] for k in found["best_parameters"]} == found["best_parameters"]
    assert given["image_size"] == 32


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--search", "rate"], "--search takes KEY=LOW..HIGH"),
        (["--search", "rate="], "--search takes KEY=LOW..HIGH"),
        (["--search", "rate=1..2", "--search", "rate=2..3"], "names rate twice"),
        (["--set", "rate"], "--set takes KEY=VALUE"),
    ],
)
def test_command_line_tells_mistakes(
    labelled: Path, tmp_path: Path, cli: Callable[..., Any], words: list[str], message: str
) -> None:
    told = cli("tune", labelled, "-o", tmp_path / "s", "--detector", "toy_classifier", *words)
    assert told.code == 2
    assert message in told.err


def test_progress_tells_best_and_pruned(labelled: Path, tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    search(labelled, tmp_path / "s", progress=lambda *told: said.append(told))
    trials = [told for told in said if told[0].startswith("trials")]
    assert trials[0] == ("trials · - · 0 pruned", 0, 12)
    assert trials[-1][1:] == (12, 12)
    assert "best " in trials[-1][0] and "pruned" in trials[-1][0]


def test_steps_of_a_trial_say_which_it_is(toy_parts: Path, tmp_path: Path) -> None:
    said: list[str] = []
    options: dict[str, Any] = {"detector": "toy_searched", "n_trials": 2}
    search(toy_parts, tmp_path / "s", progress=lambda what, *_: said.append(what), **options)
    of_trials = [what.partition(" · ")[2] for what in said if what.startswith("scoring")]
    assert list(dict.fromkeys(of_trials)) == ["trial 1 of 2", "trial 2 of 2"]


def test_lock_ends_with_its_holder(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(StorageError, match="Another search"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["study.lock"]
