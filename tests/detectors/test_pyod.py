"""PyOD's detectors on features: scores, what a model keeps of them, and what is refused."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import os
import random
import subprocess
import sys
import types
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load

from makellos.data.parts import Part, Values
from makellos.detectors import Graph, make_detector, pyod
from makellos.detectors.features import pyod_methods
from makellos.detectors.features.pyod_methods import JointTails
from makellos.detectors.pyod import Pyod
from makellos.errors import (
    ConfigurationError,
    InputError,
    MissingRuntimeError,
    ModelFileError,
)
from makellos.inspection.engines import Engine, EngineChoice
from makellos.inspection.external_runtime import (
    ExternalScoring,
    external_engines,
    open_external_engine,
)
from makellos.inspection.model_file import TORCH_PREFIX, WEIGHTS
from makellos.models import encode_pictures, pack_members
from makellos.models.partition import Partition
from makellos.models.release import release
from makellos.models.writing import golden_names

Features = NDArray[np.float32]

CHOICE = EngineChoice("pyod", "f32")
N_FEATURES = 8
NETWORKS = ["AutoEncoder", "DeepSVDD", "VAE"]
METHODS = [
    pytest.param(name, marks=[pytest.mark.needs_torch] if name in NETWORKS else [])
    for name in sorted(pyod_methods.METHODS)
]
FITTED_AGAIN = [name for name, each in pyod_methods.METHODS.items() if each.kept == "fitted again"]
COARSE = {"HBOS": 0.9}  # AUROC at least, where it is not 0.98


def features(n_parts: int, seed: int, *, off: float = 0.0) -> Features:
    """Return two clouds of correlated features of different scale; `off` deviations in five."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(3, N_FEATURES))
    rows = rng.normal(size=(n_parts, 3)) @ mixing + 0.7 * rng.normal(size=(n_parts, N_FEATURES))
    rows[::20] += 2.0
    if off:
        chosen = rng.permuted(np.tile(np.arange(N_FEATURES), (n_parts, 1)), axis=1)[:, :5]
        signs = rng.choice([-1.0, 1.0], chosen.shape)
        np.put_along_axis(rows, chosen, off * signs, axis=1)
    return (100 + rows * np.geomspace(0.01, 100, N_FEATURES)).astype(np.float32)


def parts(rows: Features) -> list[Part]:
    return [Part(source=Values(row), name=f"recording.wav/{i}") for i, row in enumerate(rows)]


def fitted(method: str, rows: Features, **parameters: Any) -> Graph:
    if method in NETWORKS:
        parameters.setdefault("epochs", 60)
    return (
        make_detector("pyod", parameters={"method": method, **parameters}).fit(parts(rows)).graph()
    )


def weights_of(graph: Graph) -> Mapping[str, Features]:
    assert graph.external is not None
    return graph.external.weights


def opened(graph: Graph) -> Engine:
    assert graph.external is not None
    kept, shape = graph.external, graph.preprocessing.shape
    return open_external_engine(kept, shape, CHOICE)


def scores(graph: Graph, rows: Features) -> Features:
    return opened(graph).run(rows)["score"]


@pytest.fixture(scope="module")
def good() -> Features:
    return features(200, 1)


@functools.cache
def usual(method: str) -> Graph:
    return fitted(method, features(200, 1))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_scores_odd_parts_above_good_ones(method: str) -> None:
    graph = usual(method)
    fresh, odd = scores(graph, features(60, 2)), scores(graph, features(60, 3, off=20.0))
    assert np.isfinite(fresh).all()
    assert np.isfinite(odd).all()
    found = (odd[:, np.newaxis] > fresh).mean()
    assert found >= COARSE.get(method, 0.98), found


@pytest.mark.parametrize("method", METHODS)
def test_a_score_is_that_of_the_part_alone(method: str) -> None:
    graph = usual(method)
    rows = np.concatenate([features(5, 4), features(3, 5, off=20.0)])
    engine = opened(graph)
    alone = [engine.run(rows[i : i + 1])["score"][0] for i in range(len(rows))]
    np.testing.assert_allclose(engine.run(rows)["score"], alone, rtol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_stored_model_scores_the_same_bit_for_bit(method: str) -> None:
    graph = usual(method)
    members = pack_members(graph)
    assert list(members) == [WEIGHTS]
    assert b"pickle" not in members[WEIGHTS]
    stored = {k.removeprefix(TORCH_PREFIX): v for k, v in load(members[WEIGHTS]).items()}
    assert graph.external is not None
    engine = Pyod.open_engine(replace(graph.external, weights=stored), (N_FEATURES,), CHOICE)
    rows = features(20, 6)
    np.testing.assert_array_equal(engine.run(rows)["score"], scores(graph, rows))


@pytest.mark.needs_torch
@pytest.mark.parametrize("method", NETWORKS)
def test_networks_keep_weights_in_place_of_the_parts(method: str, good: Features) -> None:
    kept = weights_of(usual(method))
    assert len(kept["rows"]) <= 64 < len(good)
    assert any(name.startswith("network.") for name in kept)


@pytest.mark.parametrize("method", ["ECOD", "COPOD"])
@pytest.mark.parametrize("ties", [False, True], ids=["continuous", "ties"])
def test_tails_are_those_of_pyod_row_by_row(method: str, ties: bool) -> None:
    rng = np.random.default_rng(7)
    train, test = rng.gamma(2.0, size=(90, 5)), rng.gamma(2.0, size=(40, 5)) * 1.5 - 0.5
    train[:, 1], test[:, 1] = -train[:, 1], -test[:, 1]
    train[:, 2] = 0.0  # a constant column
    test[::2, 2] = 0.0
    if ties:
        train, test = np.rint(2 * train), np.rint(2 * test)
    model = getattr(importlib.import_module(f"pyod.models.{method.lower()}"), method)()
    theirs = _alone(model, train, test)
    ours = JointTails(method, train)(test)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_allclose(JointTails(method, train)(test[3:4]), theirs[3:4], rtol=1e-6)


def test_a_seed_decides_and_fits_repeat() -> None:
    rows, fresh = features(120, 1), features(10, 2)
    first, again, other = (scores(fitted("IForest", rows, seed=seed), fresh) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    scores(fitted("IForest", rows, seed=2**40), fresh)  # PyOD takes 32 bits


def test_of_many_parts_a_subset_is_learned_from_and_told() -> None:
    detector = make_detector("pyod", parameters={"max_parts": 50}).fit(parts(features(120, 1)))
    assert len(weights_of(detector.graph())["rows"]) == 50
    (note,) = detector.notes_  # type: ignore[attr-defined]
    assert "50 of 120 parts" in note
    assert make_detector("pyod").fit(parts(features(9, 1))).notes_ == []  # type: ignore[attr-defined]


def test_n_neighbors_is_used_and_never_more_than_there_are() -> None:
    rows, fresh = features(30, 1), features(10, 2)
    assert not np.allclose(
        scores(fitted("KNN", rows), fresh), scores(fitted("KNN", rows, n_neighbors=9), fresh)
    )
    assert np.isfinite(scores(fitted("KNN", rows, n_neighbors=500), fresh)).all()
    assert np.isfinite(scores(fitted("LOF", rows[:2]), fresh)).all()


def test_a_feature_that_never_varied_counts_once_it_does() -> None:
    rows = features(40, 1)
    rows[:, 2] = 7.0
    graph = fitted("KNN", rows)
    fresh = rows[:1].copy()
    before = scores(graph, fresh)[0]
    fresh[0, 2] = 70.0
    assert scores(graph, fresh)[0] > before + 10


def test_a_part_that_is_not_finite_costs_that_part_alone(good: Features) -> None:
    graph = fitted("GMM", good)
    rows = features(3, 2)
    clean = scores(graph, rows)
    rows[1, 0] = np.nan
    found = scores(graph, rows)
    assert np.isnan(found[1])
    np.testing.assert_array_equal(found[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("method", FITTED_AGAIN)
def test_enormous_features_have_a_finite_score(method: str) -> None:
    rows = np.full((1, N_FEATURES), 3e38, np.float32)
    assert np.isfinite(scores(usual(method), rows)).all()


@pytest.mark.needs_torch
def test_networks_leave_the_draws_of_the_process_alone(
    good: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    before = torch.random.get_rng_state(), np.random.get_state()[1].sum(), random.getstate()  # type: ignore[union-attr]
    scores(fitted("VAE", good, epochs=1), good)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].sum() == before[1]  # type: ignore[union-attr]
    assert random.getstate() == before[2]
    assert "PYTHONHASHSEED" not in os.environ


def test_pictures_are_refused() -> None:
    picture = np.zeros((32, 32), np.uint16)
    given = [Part(source=Values(picture), name="a") for _ in range(3)]
    with pytest.raises(InputError, match=r"shape \(32, 32\).*--view features"):
        Pyod().fit(given)


def test_features_of_different_number_and_broken_ones_are_named(good: Features) -> None:
    odd = Part(source=Values(good[0, :3]), name="short")
    with pytest.raises(InputError, match=r"short has 3 features, but recording.wav/0 has 8"):
        Pyod().fit([*parts(good[:4]), odd])
    broken = good[:4].copy()
    broken[2, 1] = np.inf
    with pytest.raises(InputError, match=r"recording.wav/2 has features that are not finite"):
        Pyod().fit(parts(broken))


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"method": "GMM", "n_neighbors": 3}, "does not use neighbours"),
        ({"method": "GMM", "epochs": 3}, "is not a network"),
        ({"method": "MCD"}, "more than 2 parts per feature; there are 9 for 8"),
        ({"method": "PCA", "max_parts": 8}, "more than 1 parts per feature; there are 8 for 8"),
    ],
)
def test_what_a_method_cannot_do_is_refused(parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        make_detector("pyod", parameters=parameters).fit(parts(features(9, 1)))


def test_methods_without_bounds_on_constant_features_are_refused() -> None:
    rows = features(60, 1)
    rows[:, 3] = 1.0
    with pytest.raises(ConfigurationError, match="unbounded"):
        fitted("PCA", rows)


@pytest.mark.parametrize("method", ["COF", "thresholds", "knn"])
def test_other_names_are_refused(method: str) -> None:
    with pytest.raises(ConfigurationError, match=f"method is '{method}'"):
        make_detector("pyod", parameters={"method": method})


class _Forgetful:
    """Score otherwise after each fit."""

    n_fits = 0

    def __init__(self, **settings: object) -> None:
        del settings

    def fit(self, rows: NDArray[np.float64]) -> _Forgetful:
        type(self).n_fits += 1
        self.scale = float(self.n_fits)
        return self

    def decision_function(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.abs(rows).sum(axis=1) * self.scale)


def _replace_knn(monkeypatch: pytest.MonkeyPatch, stand_in: type) -> None:
    module = types.ModuleType("pyod.models.knn")
    module.KNN = stand_in  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyod.models.knn", module)


def test_a_method_that_fits_otherwise_each_time_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _replace_knn(monkeypatch, _Forgetful)
    detector = Pyod()
    with pytest.raises(ConfigurationError, match=r"different scores when refitted.*such as"):
        detector.fit(parts(features(9, 1)))
    assert not hasattr(detector, "weights_")


class _Failing(_Forgetful):
    """Learn nothing."""

    def fit(self, rows: NDArray[np.float64]) -> _Forgetful:
        raise ValueError("no separation")


def test_what_pyod_raises_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _replace_knn(monkeypatch, _Failing)
    told = r"KNN cannot learn from 9 parts of 8 features \(no separation\)"
    with pytest.raises(ConfigurationError, match=told):
        Pyod().fit(parts(features(9, 1)))


def test_a_method_that_takes_long_to_fit_again_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(pyod.time, "perf_counter", lambda: 2.5 * next(clock))
    monkeypatch.setattr(pyod.time, "process_time", lambda: 2.5 * next(clock))
    with pytest.raises(ConfigurationError, match=r"takes 5.0 s to refit to 9 .*max_parts=4"):
        Pyod().fit(parts(features(9, 1)))


def test_another_pyod_that_scores_otherwise_is_noticed(
    good: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = fitted("KNN", good)
    _replace_knn(monkeypatch, _Forgetful)
    with pytest.raises(ModelFileError, match="differently here"):
        scores(graph, good)


def test_another_pyod_that_counts_tails_otherwise_is_refused(
    good: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("pyod.models.ecod")
    module.ECOD = _Forgetful  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyod.models.ecod", module)
    with pytest.raises(ConfigurationError, match="scores ECOD differently"):
        fitted("ECOD", good)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": np.zeros(3, np.float32)},
        {"rows": np.zeros((4, 3), np.float32)},
        {"scores": np.zeros(1, np.float32)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_foreign_weights_are_refused(change: dict[str, Features], good: Features) -> None:
    weights = {**weights_of(fitted("KNN", good)), **change}
    scoring = ExternalScoring("pyod", Pyod().get_parameters(), weights)
    with pytest.raises(ConfigurationError, match="do not fit"):
        Pyod.open_engine(scoring, (N_FEATURES,), CHOICE)


@pytest.mark.needs_torch
@pytest.mark.parametrize("lost", ["network.encoder.0.linear.weight", "rows"])
def test_weights_that_are_missing_are_refused(lost: str, good: Features) -> None:
    graph = fitted("AutoEncoder", good, epochs=1)
    assert graph.external is not None
    kept = {name: values for name, values in graph.external.weights.items() if name != lost}
    with pytest.raises(ConfigurationError, match="do not fit"):
        Pyod.open_engine(replace(graph.external, weights=kept), (N_FEATURES,), CHOICE)


@pytest.mark.needs_torch
def test_missing_packages_are_named(good: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = fitted("VAE", good, epochs=1)
    found = importlib.util.find_spec
    for package, extra in (("pyod", "signals"), ("torch", "train")):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, gone=package: None if name == gone else found(name),
        )
        with pytest.raises(MissingRuntimeError, match=rf"{package}.*\.\[{extra}\]"):
            scores(graph, good)
        with pytest.raises(MissingRuntimeError, match=rf"\.\[{extra}\]"):
            Pyod(method="VAE", epochs=1).fit(parts(good))
    assert external_engines("pyod") == (CHOICE,)


def test_neither_torch_nor_onnx_is_imported_to_learn_and_score() -> None:
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in ('torch', 'onnx', 'pandas'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import makellos.detectors as d, numpy as np\n"
        "d.detectors(); assert 'pyod' not in sys.modules\n"
        "from pathlib import Path\n"
        "from makellos.data.parts import Part, Values\n"
        "from makellos.models import pack_members\n"
        "rows = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)\n"
        "parts = [Part(source=Values(row), name=str(i))\n"
        "         for i, row in enumerate(rows)]\n"
        "for method in ('KNN', 'ECOD'):\n"
        "    graph = d.make_detector('pyod', parameters={'method': method}).fit(parts).graph()\n"
        "    pack_members(graph)\n"
        "    print(len(graph.recipe().open(graph.recipe().engines()[0]).many(list(rows))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["30", "30"], done.stderr


def test_a_release_keeps_golden_features_without_pickle(good: Features) -> None:
    detector = Pyod().fit(parts(good))
    calibrate = parts(features(120, 8))
    partition = Partition(parts(good), calibrate, "held out")
    done = release(detector.graph().recipe(), [], partition, 0.05, lambda *_: None)
    assert done.choice == CHOICE
    assert list(done.golden) == [f"golden/{i:02d}.npy" for i in range(6)]
    encoded = encode_pictures(done.golden)
    for name, row in done.golden.items():
        again = np.load(io.BytesIO(encoded[name]), allow_pickle=False)
        assert again.dtype == np.float32
        np.testing.assert_array_equal(again, row)
    assert golden_names([np.zeros((16, 16), np.uint8)]) == ["golden/00.png"]


def _alone(
    model: Any, train: NDArray[np.float64], test: NDArray[np.float64]
) -> NDArray[np.float64]:
    model.fit(train)
    return np.array([model.decision_function(row[np.newaxis])[0] for row in test])
