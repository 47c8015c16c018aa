"""Budgets per class of a classifier, from what a user asks for to verdict, row and report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from makellos import Inspector, calibrate, evaluate, export, fit, verify
from makellos.calibration import calibrate_zones
from makellos.data.parts import GOOD, Part
from makellos.data.progress import Progress
from makellos.detectors import Detector, Graph
from makellos.errors import ConfigurationError, InputError
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.manifest import CalibrationRecord
from makellos.inspection.model_file import ModelFile, read_model
from makellos.inspection.preprocessing import Preprocessing
from makellos.models.writing import rewrite_manifest
from makellos.workflows import accept as accepting

SIDE = 32
KINDS = ("dent", "scratch")  # dark on the left, bright on the right


class Halves(Detector):
    """Tell dents, a dark left half, from scratches, a bright right one, by two sums."""

    name = "halves"
    summary = "two kinds of damage by two halves of a picture, for tests"
    parameters = MappingProxyType({})
    gives = ("classes",)
    learns = "labels"

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        self.classes_ = self.tells_apart(parts)

    def tells_apart(self, parts: Sequence[Part]) -> list[str]:
        return [GOOD, *sorted({part.label for part in parts} - {GOOD})]

    def _build_graph(self) -> Graph:
        kind = onnx.TensorProto.FLOAT
        # Logits of good, dent and scratch, of the mean gray of both halves.
        weights = np.array([[0, -60, 0], [0, 0, 60]], np.float32)
        offset = np.array([0, 60 * 0.45, -60 * 0.55], np.float32)
        half = {"kernel_shape": [SIDE, SIDE // 2], "strides": [SIDE, SIDE // 2]}
        nodes = [
            helper.make_node("ReduceMean", ["picture"], ["gray"], axes=[1], keepdims=1),
            helper.make_node("AveragePool", ["gray"], ["cells"], **half),
            helper.make_node("Flatten", ["cells"], ["halves"]),
            helper.make_node("Gemm", ["halves", "weights", "offset"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
            helper.make_node("Split", ["logits", "parts"], ["of_good", "of_kinds"], axis=1),
            helper.make_node("ReduceLogSumExp", ["of_kinds"], ["bad"], axes=[1], keepdims=1),
            helper.make_node("Sub", ["bad", "of_good"], ["odds"]),
            helper.make_node("Flatten", ["odds"], ["flat"], axis=0),
            helper.make_node("Reshape", ["flat", "one"], ["score"]),
        ]
        graph = helper.make_graph(
            nodes,
            "halves",
            [helper.make_tensor_value_info("picture", kind, ["n", 3, SIDE, SIDE])],
            [
                helper.make_tensor_value_info("score", kind, ["n"]),
                helper.make_tensor_value_info("probabilities", kind, ["n", 3]),
            ],
            [
                numpy_helper.from_array(weights, "weights"),
                numpy_helper.from_array(offset, "offset"),
                numpy_helper.from_array(np.array([1, 2]), "parts"),
                numpy_helper.from_array(np.array([-1]), "one"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        shape = Preprocessing(height=SIDE, width=SIDE)
        classes = tuple(self.classes_)
        return Graph(model.SerializeToString(), shape, Aggregation(), classes=classes, exact=True)


def picture(kind: str, seed: int) -> NDArray[np.uint8]:
    """Return a gray picture whose halves vary as those of good parts do, or damaged."""
    rng = np.random.default_rng([seed, len(kind)])
    levels = rng.normal(0.5, 0.02, (SIDE, SIDE))
    levels[:, : SIDE // 2] += rng.normal(0, 0.02) - 0.3 * (kind == "dent")
    levels[:, SIDE // 2 :] += rng.normal(0, 0.02) + 0.3 * (kind == "scratch")
    return np.rint(255 * levels.clip(0, 1)).astype(np.uint8)


def write(folder: Path, n_good: int, *, n_each: int = 4, first: int = 0) -> Path:
    for kind, n in ((GOOD, n_good), *((kind, n_each) for kind in KINDS)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            cv2.imwrite(str(folder / kind / f"{i:03d}.png"), picture(kind, first + i))
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("kinds") / "parts", 180)


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("makellos.workflows.fit.make_detector", lambda *_, **__: Halves())


def fitted(parts: Path, path: Path, **options: Any) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("makellos.workflows.fit.make_detector", lambda *_, **__: Halves())
        fit(parts, path, **{"false_alarms": 0.1, **options})
    return path


@pytest.fixture(scope="module")
def plain(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a classifier without budgets per class."""
    return fitted(parts, tmp_path_factory.mktemp("plain") / "plain.makellos")


@pytest.fixture(scope="module")
def model(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a classifier that calls at most 2 % of good parts scratched, and 8 % dented."""
    path = tmp_path_factory.mktemp("model") / "kinds.makellos"
    return fitted(parts, path, class_budgets={"scratch": 0.02})


def test_each_class_has_its_budget_and_the_promise_is_their_sum(model: Path) -> None:
    manifest = read_model(model).manifest
    assert manifest.classes == [GOOD, *KINDS]
    assert manifest.class_budgets() == pytest.approx([0.08, 0.02])
    assert "10.00%" in manifest.promise()
    assert ("classes", "dent (8.00%), scratch (2.00%)") in manifest.covered()
    calibration = Inspector(model).calibration
    assert calibration.false_alarms == pytest.approx(0.1)
    assert calibration.threshold == pytest.approx(1.0, abs=1e-3)
    for kind, budget in zip(calibration.zones, (0.08, 0.02), strict=True):
        assert (kind.scores > kind.threshold).mean() <= budget


def test_a_part_is_rejected_by_the_class_whose_threshold_it_passes(model: Path) -> None:
    inspector = Inspector(model)
    good = inspector.inspect(picture(GOOD, 9001))
    assert not any(kind.rejects for kind in good.by_class)
    for name in KINDS:
        found = inspector.inspect(picture(name, 9000))
        assert found.verdict == "reject"
        assert [kind.name for kind in found.by_class if kind.rejects] == [name]
        row = found.row()
        kinds = {each["name"]: each for each in row["classes"]}
        assert kinds[name]["score"] == pytest.approx(row["probabilities"][name], abs=1e-6)
        assert kinds[name]["score"] > kinds[name]["threshold"]
        assert kinds[name]["p_value"] <= {"dent": 0.08, "scratch": 0.02}[name]
        expected = max(each["score"] / each["threshold"] for each in kinds.values())
        assert found.score == pytest.approx(expected, rel=1e-3)


def test_verdicts_are_those_of_classes(model: Path) -> None:
    inspector = Inspector(model)
    found = inspector.inspect_many([picture(GOOD, 5000 + i) for i in range(200)])
    verdicts = [(each.verdict == "reject", any(k.rejects for k in each.by_class)) for each in found]
    assert all(one == other for one, other in verdicts)
    assert 0 < sum(one for one, _ in verdicts) < 60


def test_rows_summaries_and_pages_say_which_class(
    model: Path, parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    assert "dent (8.00%), scratch (2.00%)" in cli("info", model).out
    rows = tmp_path / "rows.csv"
    told = cli("inspect", model, parts / "dent", "--csv", rows)
    assert told.code == 0
    first, *_ = cli("inspect", model, parts / "dent").out.splitlines()
    assert first.startswith("reject")
    assert "dent 100.0%" in first
    assert '""name"": ""dent""' in rows.read_text("utf-8")
    result = evaluate(model, parts, output=tmp_path / "page")
    assert result.n_defective == 8
    assert result.miss_rate == 0.0
    assert "dent (8.00%), scratch (2.00%)" in (tmp_path / "page" / "report.html").read_text("utf-8")


def test_golden_parts_keep_their_verdicts_on_every_runtime(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(model, tmp_path))
    summary = verify(copy)
    assert summary.released
    assert all(each["flips"] == 0 for each in summary.runtimes.values())
    inspector = Inspector(copy)
    for golden in inspector.manifest.golden:
        assert len(golden.zone_scores) == len(KINDS)
        assert inspector.calibration.verdict(golden.score) == golden.verdict
    # In units of thresholds, not the score of the graph.
    assert min(abs(part.score - 1) for part in inspector.manifest.golden) < 0.05


def test_programs_that_cannot_do_budgets_per_class_are_not_written(
    model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="budgets per class"):
        export(model, tmp_path / "folder")
    done = export(model, tmp_path / "kinds.onnx")
    assert "budgets per class" in done.not_in_the_graph


def test_a_tolerance_of_other_units_is_forgotten(plain: Path, tmp_path: Path) -> None:
    tolerant = Path(shutil.copy(plain, tmp_path / "tolerant.makellos"))
    read = read_model(tolerant)
    record = read.manifest.calibration.model_copy(update={"tolerance": 0.5})
    rewrite_manifest(read, read.manifest.model_copy(update={"calibration": record}), tolerant)
    calibrate(tolerant, class_budgets={"scratch": 0.02})
    assert read_model(tolerant).manifest.calibration.tolerance < 0.01


def test_a_threshold_of_several_classes_is_not_judged_as_that_of_one(
    model: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(accepting, "promise_figures", lambda *given: asked.append(given[-1]))
    for path in (plain, model):
        figures = SimpleNamespace(promise=object())
        accepting._promise(SimpleNamespace(figures=figures, inspector=Inspector(path)))
    n_groups = Inspector(plain).calibration.n_groups
    assert asked == [n_groups, None]


def test_calibrate_gives_classes_budgets_without_data(
    model: Path, plain: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    target = tmp_path / "budgeted.makellos"
    told = cli("calibrate", plain, "--class-budget", "scratch=0.02", "-o", target)
    assert told.code == 0
    ours, theirs = read_model(target).manifest, read_model(model).manifest
    assert ours.calibration.zoned() is not None
    assert ours.calibration.score_scales() == pytest.approx(theirs.calibration.score_scales())
    assert verify(target, keep=False).released
    found = Inspector(target).inspect(picture("dent", 9000))
    assert [kind.name for kind in found.by_class if kind.rejects] == ["dent"]
    # Another sum keeps the shares, other budgets replace them.
    calibrate(target, false_alarms=0.2)
    assert read_model(target).manifest.class_budgets() == pytest.approx([0.16, 0.04])
    calibrate(target, class_budgets={"dent": 0.05, "scratch": 0.05})
    assert read_model(target).manifest.class_budgets() == pytest.approx([0.05, 0.05])
    assert verify(target, keep=False).released


def test_calibrate_with_new_parts_keeps_the_shares(model: Path, tmp_path: Path) -> None:
    new = write(tmp_path / "new", 60, n_each=0, first=400)
    target = tmp_path / "new.makellos"
    summary = calibrate(model, new / GOOD, output=target)
    assert summary.n_calibration == 60
    again = Inspector(target)
    assert again.manifest.class_budgets() == pytest.approx([0.08, 0.02])
    scores = [again.inspect(path).score for path in sorted((new / GOOD).iterdir())]
    assert scores == pytest.approx(again.calibration.scores.tolist(), rel=1e-3)


def test_budgets_that_cannot_be_are_refused(
    parts: Path,
    plain: Path,
    model: Path,
    toy_model: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    halves: None,
) -> None:
    target = tmp_path / "m.makellos"
    for given, said in (
        ("scratched=0.01", "knows no kind of defect 'scratched'. Did you mean 'scratch'?"),
        ("good=0.01", "knows no kind of defect 'good'"),
        ("scratch=2", "false-alarm budget is 2"),
        ("scratch=0.2", "budgets of classes add up to 0.2, but all classes together may have 0.1"),
        ("scratch", "takes NAME=SHARE"),
    ):
        for command in (
            ("fit", parts, "-o", target, "--false-alarms", "0.1"),
            ("calibrate", plain),
        ):
            told = cli(*command, "--class-budget", given)
            assert told.code == 2
            assert said in told.err
    with pytest.raises(ConfigurationError, match="this model tells none apart"):
        calibrate(toy_model, class_budgets={"scratch": 0.01})
    few = write(tmp_path / "few", 2, n_each=0, first=900) / GOOD
    for options in ({"class_budgets": {"dent": 0.05}}, {}):
        with pytest.raises(InputError, match="2 classes, each with a threshold of its own"):
            calibrate(model if not options else plain, few, output=target, **options)
    assert not target.exists()


def test_budgets_smaller_than_good_parts_can_promise_are_said(model: Path, tmp_path: Path) -> None:
    summary = calibrate(model, false_alarms=0.005, output=tmp_path / "small.makellos")
    assert summary.false_alarms == pytest.approx(2 / 181)
    assert "A false-alarm budget of 0.005 needs 999" in summary.notes[0]


def test_models_without_probabilities_say_what_to_give(plain: Path, tmp_path: Path) -> None:
    old = Path(shutil.copy(plain, tmp_path / "old.makellos"))
    _without_classes(read_model(old))
    with pytest.raises(ConfigurationError, match="Give new good parts as well"):
        calibrate(old, class_budgets={"scratch": 0.02})
    new = write(tmp_path / "new", 60, n_each=0, first=400)
    calibrate(old, new / GOOD, class_budgets={"scratch": 0.02})
    assert read_model(old).manifest.class_budgets() == pytest.approx([0.08, 0.02])
    assert Inspector(old).inspect(picture("dent", 9000)).verdict == "reject"


def _without_classes(model: ModelFile) -> None:
    """Rewrite a model as one that was fitted before probabilities were kept."""
    manifest = model.manifest
    golden = [part.model_copy(update={"zone_scores": []}) for part in manifest.golden]
    record = manifest.calibration.model_copy(update={"classes": []})
    update = {"calibration": record, "golden": golden}
    rewrite_manifest(model, manifest.model_copy(update=update), model.path)


def test_earlier_parts_count_by_class(model: Path, tmp_path: Path) -> None:
    from makellos.workflows.calibrate import Counted

    new = write(tmp_path / "new", 60, n_each=0, first=400)
    target, counted = tmp_path / "both.makellos", Counted(earlier_weight=0.5)
    calibrate(model, new / GOOD, counted=counted, output=target)
    record, before = read_model(target).manifest.calibration, read_model(model).manifest.calibration
    for kind, old in zip(record.classes, before.classes, strict=True):
        assert kind.scores[: len(old.scores)] == old.scores
        assert len(kind.scores) == len(old.scores) + 60


def test_realised_rates_keep_the_budget_of_each_class_and_the_sum() -> None:
    # Probabilities of two kinds that hang together, as those of a softmax do, and one of a kind
    # that no good part is ever like.
    rng, budgets, n, n_runs = np.random.default_rng(0), (0.02, 0.05, 0.01), 160, 300
    rates = np.zeros((n_runs, 4))
    for run in range(n_runs):
        logits = rng.normal(-4, 1.5, (n + 400, 2)) @ np.array([[1, 0.6], [0, 0.8]])
        odds = np.exp(logits)
        shares = np.column_stack([odds / (1 + odds.sum(1, keepdims=True)), np.zeros(n + 400)]).T
        calibration = calibrate_zones(shares[:, :n], budgets)
        new = shares[:, n:] / np.array(calibration.scales)[:, np.newaxis]
        rejected = new > calibration.threshold
        rates[run] = [*rejected.mean(1), rejected.any(0).mean()]
    mean, error = rates.mean(0), rates.std(0) / np.sqrt(n_runs)
    assert (mean <= np.array([*budgets, sum(budgets)]) + 2 * error).all()
    assert (mean[:2] >= 0.5 * np.array(budgets[:2])).all()


def test_a_class_that_good_parts_never_resemble_lends_others_nothing() -> None:
    scores = np.linspace(0.001, 0.16, 160)
    calibration = calibrate_zones([scores, np.zeros(160)], [0.01, 0.4])
    assert calibration.threshold == 1.0
    assert calibration.verdict(1.0) != "reject"
    assert calibration.verdict(1.0001) == "reject"


def test_manifests_with_budgets_in_part_are_refused() -> None:
    kept = {"scores": [0.1, 0.2], "asked": 0.1, "method": "held out"}
    for classes, said in (
        ([{"scores": [0.1]}], "does not have the scores of 2 parts"),
        ([{"scores": [0.1, 0.2], "share": 1.0}, {"scores": [0.1, 0.2]}], "only some classes"),
    ):
        with pytest.raises(ValueError, match=said):
            CalibrationRecord.model_validate({**kept, "classes": classes})
