"""Evaluating: the figures are those that inspection's rows give, computed in another way."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_curve,
    roc_auc_score,
)

import makellos
from makellos.data.pictures import read_picture
from makellos.drawing.panels import draw_panel
from makellos.errors import ConfigurationError, InputError
from makellos.inspection.regions import resize_map
from makellos.inspection.scorer import Scored, Scorer
from makellos.workflows.evaluate import evaluated as evaluated_parts

Number = int | float
KEYS: dict[str, type | tuple[type, ...]] = {
    "detector": str,
    "n_good": int,
    "n_defective": int,
    "image_auroc": float,
    "image_ap": float,
    "f1_max": float,
    "pixel_auroc": float,
    "pixel_ap": float,
    "aupro": float,
    "aupro_5": float,
    "pixel_f1_max": float,
    "seg_f1": float,
    "threshold": float,
    "false_alarm_rate": float,
    "miss_rate": float,
    "accuracy": float,
    "optimistic_accuracy": float,
    "by_defect": dict,
    "intervals": dict,
    "fit_seconds": float,
    "inspect_ms_per_part": float,
}
SHARES = ("image_auroc", "image_ap", "f1_max", "pixel_auroc", "aupro", "false_alarm_rate")
PIXELS = ("pixel_ap", "aupro_5", "pixel_f1_max", "seg_f1")


def evaluated(cli: Callable[..., Any], *arguments: object) -> dict[str, Any]:
    told = cli("evaluate", *arguments, "--json", "-")
    assert told.code == 0
    figures: dict[str, Any] = json.loads(told.out)
    return figures


def rows_of(cli: Callable[..., Any], model: Path, folder: Path) -> list[dict[str, Any]]:
    told = cli("inspect", model, folder, "--jsonl", "-")
    return [json.loads(line) for line in told.out.splitlines()]


@pytest.fixture(params=["toy", "patchcore"])
def case(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """Return a model and its labelled parts."""
    names = ("toy_model", "toy_parts") if request.param == "toy" else ("screw_model", "screws")
    model, parts = (request.getfixturevalue(name) for name in names)
    return model, parts


def test_json_has_the_promised_keys(case: tuple[Path, Path], cli: Callable[..., Any]) -> None:
    figures = evaluated(cli, *case)
    for key, kind in KEYS.items():
        assert isinstance(figures[key], kind), key
    assert all(0 <= figures[key] <= 1 for key in (*SHARES, *PIXELS, "miss_rate", "accuracy"))
    for name, found in figures["by_defect"].items():
        assert {"n", "image_auroc", "miss_rate"} <= set(found), name
    assert figures["intervals"].pop("optimistic_accuracy") is None
    for metric, interval in figures["intervals"].items():
        low, high = interval
        assert 0 <= low <= high <= 1
        if figures[metric] is not None:
            assert low - 1e-9 <= figures[metric] <= high + 1e-9, metric


def test_figures_are_those_of_the_rows(case: tuple[Path, Path], cli: Callable[..., Any]) -> None:
    model, parts = case
    figures = evaluated(cli, model, parts)
    rows = rows_of(cli, model, parts / "test")
    kinds = [Path(row["input"]).parent.name for row in rows]
    scores = np.array([row["score"] for row in rows])
    defective = np.array([kind != "good" for kind in kinds])
    rejected = np.array([row["verdict"] == "reject" for row in rows])
    assert (figures["n_good"], figures["n_defective"]) == ((~defective).sum(), defective.sum())
    assert figures["image_auroc"] == pytest.approx(roc_auc_score(defective, scores))
    assert figures["image_ap"] == pytest.approx(average_precision_score(defective, scores))
    precision, recall, _ = precision_recall_curve(defective, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert figures["f1_max"] == pytest.approx(f1.max())
    assert figures["false_alarm_rate"] == pytest.approx(rejected[~defective].mean())
    assert figures["miss_rate"] == pytest.approx(1 - rejected[defective].mean())
    assert figures["accuracy"] == pytest.approx((rejected == defective).mean())
    every = [np.mean((scores >= cut) == defective) for cut in [*scores, np.inf]]
    assert figures["optimistic_accuracy"] == pytest.approx(max(every))
    assert figures["threshold"] == rows[0]["threshold"]
    for kind in set(kinds) - {"good"}:
        of_kind = np.array([name == kind for name in kinds])
        both = of_kind | ~defective
        found = figures["by_defect"][kind]
        assert found["n"] == of_kind.sum()
        assert found["miss_rate"] == pytest.approx(1 - rejected[of_kind].mean())
        assert found["image_auroc"] == pytest.approx(roc_auc_score(of_kind[both], scores[both]))


def test_pixel_figures_are_those_of_the_maps(toy_model: Path, toy_parts: Path) -> None:
    figures = makellos.evaluate(toy_model, toy_parts)
    inspector = makellos.Inspector(toy_model)
    values, marked = [], []
    for path in sorted((toy_parts / "test").rglob("*.png")):
        found = inspector.inspect(path)
        assert found.anomaly_map is not None and found.size is not None
        values.append(resize_map(found.anomaly_map, *found.size).ravel())
        mask = toy_parts / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        picture = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED) if mask.is_file() else None
        marked.append(
            np.zeros(found.size, bool).ravel() if picture is None else picture.ravel() > 0
        )
    scores, damaged = np.concatenate(values), np.concatenate(marked)
    exact = roc_auc_score(damaged, scores)
    assert figures["pixel_auroc"] == pytest.approx(exact, abs=1e-3)
    precision, recall, _ = precision_recall_curve(damaged, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert figures["pixel_f1_max"] == pytest.approx(f1.max(), abs=1e-4)
    outlined = scores > inspector.map_threshold
    assert 0 < figures["seg_f1"] == pytest.approx(f1_score(damaged, outlined), abs=1e-4)
    assert figures["map_threshold"] == inspector.map_threshold


def test_figures_are_null_without_masks(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    shutil.copytree(toy_parts / "test" / "good", tmp_path / "flat" / "good")
    shutil.copytree(toy_parts / "test" / "spotted", tmp_path / "flat" / "defective")
    figures = evaluated(cli, toy_model, tmp_path / "flat")
    assert figures["pixel_auroc"] is figures["aupro"] is None
    assert all(figures[key] is None for key in PIXELS)
    assert list(figures["by_defect"]) == ["defective"]
    same = evaluated(cli, toy_model, toy_parts)
    assert figures["image_auroc"] == same["image_auroc"]
    assert figures["notes"] == []


def test_only_good_or_only_defective_parts_give_what_can_be_known(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    shutil.copytree(toy_parts / "test" / "good", tmp_path / "goods" / "good")
    shutil.copytree(toy_parts / "test" / "spotted", tmp_path / "bads" / "bad")
    told = cli("evaluate", toy_model, tmp_path / "goods")
    assert told.code == 0
    assert "There is no defective part" in told.out
    figures = evaluated(cli, toy_model, tmp_path / "goods", "-o", tmp_path / "report")
    assert figures["image_auroc"] is figures["miss_rate"] is None
    assert (figures["n_good"], figures["n_defective"]) == (10, 0)
    told = cli("evaluate", toy_model, tmp_path / "bads")
    assert told.code == 0
    assert "There is no good part" in told.out


def test_parts_of_the_fit_are_pointed_out(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    parts = tmp_path / "parts"
    shutil.copytree(toy_parts, parts)
    assert "fitted on" not in cli("evaluate", toy_model, parts).out
    # The parts of the fit again, without a split that keeps others for the test.
    names = sorted(path.relative_to(parts).as_posix() for path in parts.glob("train/good/*.png"))
    (parts / "all.csv").write_text("\n".join(["path,label", *(f"{name},good" for name in names)]))
    told = cli("evaluate", toy_model, parts / "all.csv")
    assert "Note: The model was fitted on these very parts" in told.out


def test_unreadable_test_parts_are_named_and_count_nowhere(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    whole = evaluated(cli, toy_model, toy_parts)
    parts = tmp_path / "parts"
    shutil.copytree(toy_parts, parts)
    (parts / "test" / "spotted" / "text.png").write_text("no picture")
    (parts / "test" / "good" / "void.png").write_bytes(b"")
    figures = evaluated(cli, toy_model, parts, "-o", tmp_path / "report")
    names = [part["input"] for part in figures["unreadable"]]
    assert names == ["test/good/void.png", "test/spotted/text.png"]
    for key in KEYS.keys() - {"inspect_ms_per_part", "intervals"}:
        assert figures[key] == whole[key], key
    told = cli("evaluate", toy_model, parts)
    assert "Not read: " in told.out
    assert "void.png is empty" in told.out


def test_report_and_figures_are_written(
    toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    figures = evaluated(cli, toy_model, toy_parts, "-o", tmp_path / "report")
    assert json.loads((tmp_path / "report" / "figures.json").read_text()) == figures
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page))
    assert "Missed 5 of 10 defective parts" in text
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "figures.json",
        "report.html",
        "tested.csv",
    ]


def test_optimistic_accuracy_stands_beneath_the_calibrated_one(
    toy_model: Path, toy_parts: Path, cli: Callable[..., Any]
) -> None:
    lines = cli("evaluate", toy_model, toy_parts).out.splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith("Accuracy at the calibrated")]
    optimistic = (
        "Accuracy with the best threshold on the test set (optimistic; this is what tutorials "
        "quote)"
    )
    assert lines[at + 1].startswith(optimistic)
    assert lines[at + 1].split()[-1] == "-"


def reconstructing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every inspection hold a reconstruction that is black."""
    many = Scorer.many

    def black(self: Scorer, pictures: Any, **asked: Any) -> list[Scored]:
        shape = self.preprocessing.shape
        found = many(self, pictures, **asked)
        return [each._replace(reconstruction=np.zeros(shape, np.float32)) for each in found]

    monkeypatch.setattr(Scorer, "many", black)


def pictures_of_page(path: Path) -> list[Any]:
    """Return the pictures of a report, decoded, three or two of each part in turn."""
    found = re.findall(r'src="data:image/webp;base64,([^"]*)"', path.read_text(encoding="utf-8"))
    return [cv2.imdecode(np.frombuffer(base64.b64decode(raw), np.uint8), 1) for raw in found]


def test_report_shows_the_nearest_good_part_between_part_and_damage(
    toy_model: Path, toy_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makellos.evaluate(toy_model, toy_parts, output=tmp_path / "plain")
    reconstructing(monkeypatch)
    makellos.evaluate(toy_model, toy_parts, output=tmp_path / "made")
    assert len(pictures_of_page(tmp_path / "plain" / "report.html")) == 2 * 20
    shown = pictures_of_page(tmp_path / "made" / "report.html")
    assert len(shown) == 3 * 20
    assert max(picture.mean() for picture in shown[1::3]) < 5
    assert min(picture.mean() for picture in shown[0::3] + shown[2::3]) > 90
    assert {picture.shape for picture in shown} == {shown[0].shape}


def test_overlays_are_panels_where_there_is_a_nearest_good_part(
    toy_model: Path,
    toy_parts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Callable[..., Any],
) -> None:
    reconstructing(monkeypatch)
    part = toy_parts / "test" / "spotted" / "000.png"
    assert cli("inspect", toy_model, part, "-o", tmp_path, "--overlays").code == 0
    inspector = makellos.Inspector(toy_model)
    panel = draw_panel(
        read_picture(part), inspector.inspect(part), map_threshold=inspector.map_threshold
    )
    saved = read_picture(tmp_path / "overlays" / "000.png.overlay.png")
    np.testing.assert_array_equal(saved, panel)


def test_same_seed_gives_the_same_intervals(toy_model: Path, toy_parts: Path) -> None:
    first, second, other = (
        makellos.evaluate(toy_model, toy_parts, seed=seed)["intervals"] for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_intervals_of_pixels_draw_whole_groups(toy_model: Path, toy_parts: Path) -> None:
    rows = ["path,label,split,mask,group"]
    for path in sorted((toy_parts / "test").rglob("*.png")):
        name, label = path.relative_to(toy_parts).as_posix(), path.parent.name
        mask = "" if label == "good" else f"ground_truth/{label}/{path.stem}_mask.png"
        rows.append(f"{name},{label},test,{mask},all of {label}")
    table = toy_parts / "grouped.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    try:
        figures = makellos.evaluate(toy_model, table)
    finally:
        table.unlink()
    for name in (*PIXELS, "pixel_auroc", "aupro"):
        # One group of each kind: every resample is the test set itself.
        assert figures["intervals"][name] == pytest.approx((figures[name], figures[name])), name


def test_look_again_threshold_is_a_number_or_null(toy_model: Path, toy_parts: Path) -> None:
    found = makellos.evaluate(toy_model, toy_parts)["look_again_threshold"]
    assert found is None or (math.isfinite(found) and found > 0)


def test_wrong_data_are_refused(
    toy: ModuleType, toy_model: Path, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match="has no test parts"):
        shutil.copytree(toy_parts / "train", tmp_path / "parts" / "train")
        makellos.evaluate(toy_model, tmp_path / "parts")
    with pytest.raises(ConfigurationError, match="seed is -1"):
        makellos.evaluate(toy_model, toy_parts, seed=-1)
    (tmp_path / "odd" / "good").mkdir(parents=True)
    (tmp_path / "odd" / "good" / "a.png").write_text("no picture")
    with pytest.raises(InputError, match="None of the 1 test parts"):
        makellos.evaluate(toy_model, tmp_path / "odd")
    shutil.copytree(toy_parts, tmp_path / "masks")
    mask = tmp_path / "masks" / "ground_truth" / "spotted" / "000_mask.png"
    toy.write(mask, np.zeros((7, 9), np.uint8))
    told = cli("evaluate", toy_model, tmp_path / "masks")
    assert told.code == 2
    assert "is 9x7, but its picture is 96x64" in told.err
    assert "makellos data check" in told.err


@pytest.mark.parametrize("draws", [False, True])
def test_no_picture_and_no_map_is_kept(
    toy_model: Path, toy_parts: Path, tmp_path: Path, draws: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory grows by figures and thumbnails alone, however many parts are tested."""
    findings: list[weakref.ref[makellos.Inspection]] = []
    most_alive = 0
    inspect_many = makellos.Inspector.inspect_many

    def watched(self: makellos.Inspector, parts: Any, **options: Any) -> Iterator[Any]:
        nonlocal most_alive
        for found in inspect_many(self, parts, **options):
            assert found.anomaly_map is not None
            assert (found.picture is not None) == draws
            findings.append(weakref.ref(found))
            yield found
            most_alive = max(most_alive, sum(each() is not None for each in findings))

    monkeypatch.setattr(makellos.Inspector, "inspect_many", watched)
    tested = evaluated_parts(
        toy_model, toy_parts, output=tmp_path / "report" if draws else None
    ).tested
    assert len(findings) == len(tested) == 20
    assert most_alive <= 3  # the one at hand, and the one before until it is replaced
    assert all(each() is None for each in findings)
    assert all(bool(test.item.picture) == draws for test in tested)


def test_result_is_typed(toy_model: Path, toy_parts: Path) -> None:
    result = makellos.evaluate(toy_model, toy_parts)
    assert isinstance(result, makellos.Evaluation)
    assert result.image_auroc == result["image_auroc"]
    assert result.by_defect["spotted"].miss_rate == result.miss_rate == 0.5
