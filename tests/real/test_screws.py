"""The screws of MVTec AD: what is found, what it costs, and without what."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from makellos.data.pictures import read_picture
from makellos.inspection import Inspector

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no peak of memory"),
]

INSPECTS = """
import sys
from makellos.cli import main
code = main(sys.argv[1:])
print("heavy:", *sorted({"torch", "torchvision", "timm"} & set(sys.modules)))
sys.exit(code)
"""


def test_damage_is_found(fitted_screws: Any, run_makellos: Callable[..., Any]) -> None:
    figures = json.loads(
        run_makellos("evaluate", fitted_screws.model, fitted_screws.data, "--json", "-").out
    )
    assert (figures["n_good"], figures["n_defective"]) == (41, 119)
    assert figures["image_auroc"] >= 0.98
    assert figures["pixel_auroc"] >= 0.98
    assert figures["aupro"] >= 0.95
    assert figures["unreadable"] == figures["notes"] == []
    assert "turned to one pose" in run_makellos("info", fitted_screws.model).out


def test_part_and_background_are_told_apart(
    fitted_screws: Any, run_makellos: Callable[..., Any], tmp_path: Path
) -> None:
    """No damage is taken for background, and a fibre close to a screw is named."""
    model, data = tmp_path / "whole.makellos", fitted_screws.data
    run_makellos("fit", data, "-o", model, "--align", "none")
    assert "what lies beside the part" in run_makellos("info", model).out
    inspector = Inspector(model)
    background, scorer = inspector.manifest.background, inspector.scorer
    assert background is not None
    for mask in sorted((data / "ground_truth").glob("*/*_mask.png"))[::4]:
        name = f"{mask.stem.removesuffix('_mask')}.png"
        picture = read_picture(data / "test" / mask.parent.name / name)
        batch = scorer.preprocessing(picture)
        outputs = scorer.engine.run(batch)
        part = outputs["part"][0]
        counted, _ = background.apart(outputs["anomaly_map"][0], part)
        removed = background.loose(counted, part, batch[0])
        weights = background.counted(part, removed)
        damage = (read_picture(mask) > 0).astype(np.float32)
        share = cv2.resize(damage, weights.shape[::-1], interpolation=cv2.INTER_AREA)
        assert (share * weights).sum() > 0.85 * share.sum(), mask
    found = inspector.inspect(data / "test" / "good" / "005.png")
    assert "fibre beside the part" in found.notes and found.verdict != "reject"


def test_ten_good_parts_are_enough_to_begin(
    real_data: Path, run_makellos: Callable[..., Any], tmp_path: Path
) -> None:
    """Ten screws lie at ten angles, and are learned from turned copies."""
    root, model, manifest = real_data / "mvtec_screw", tmp_path / "m.makellos", tmp_path / "ten.csv"
    good = sorted((root / "train" / "good").glob("*.png"))[::32]
    tested = sorted((root / "test").glob("*/*.png"))
    lines = ["path,label,split", *(f"{path},good,train" for path in good)]
    lines += [f"{path},{path.parent.name},test" for path in tested]
    manifest.write_text("\n".join(lines))
    assert "learned from 10 good parts" in run_makellos("fit", manifest, "-o", model).out
    figures = json.loads(run_makellos("evaluate", model, manifest, "--json", "-").out)
    assert (figures["n_good"], figures["n_defective"]) == (41, 119)
    assert figures["image_auroc"] >= 0.8


def test_fit_stays_within_its_memory(fitted_screws: Any) -> None:
    assert "learned from 320 good parts" in fitted_screws.ran.out
    assert fitted_screws.ran.peak_bytes <= 2 << 30


def test_inspecting_is_light(
    fitted_screws: Any, run_makellos: Callable[..., Any], tmp_path: Path
) -> None:
    ran = run_makellos(
        "inspect", fitted_screws.model, fitted_screws.data / "test", "-o", tmp_path, "--overlays",
        program=("-c", INSPECTS),
    )  # fmt: skip
    assert ran.peak_bytes <= 700e6
    assert ran.out.splitlines()[-1] == "heavy:"
    assert len((tmp_path / "inspections.jsonl").read_text().splitlines()) == 160


def test_new_budget_needs_no_fit(
    fitted_screws: Any, run_makellos: Callable[..., Any], tmp_path: Path
) -> None:
    other = tmp_path / "other.makellos"
    ran = run_makellos(
        "calibrate", fitted_screws.model, "--false-alarms", 0.1, "-o", other, "--json", "-"
    )
    assert ran.seconds < 15
    assert json.loads(ran.out)["false_alarms"] == 0.1
    parts = fitted_screws.data / "test" / "good"
    before, after = (
        [
            json.loads(line)
            for line in run_makellos("inspect", model, parts, "--jsonl", "-").out.splitlines()
        ]
        for model in (fitted_screws.model, other)
    )
    assert [row["score"] for row in before] == [row["score"] for row in after]
    assert [row["p_value"] for row in before] == [row["p_value"] for row in after]
    assert all((row["verdict"] == "reject") == (row["p_value"] <= 0.1) for row in after)


def test_screws_come_to_one_pose_and_no_damage_is_cut_off(real_data: Path) -> None:
    from makellos.data.layouts import list_parts
    from makellos.models.alignment import learn_alignment

    parts = list_parts(real_data / "mvtec_screw")
    alignment = learn_alignment(parts.good()[::8])
    assert alignment is not None
    assert alignment.way == "rotate"
    for part in parts.test()[::4]:
        found = alignment(part.read())
        assert found.correlation > 0.88, part.name
        if part.mask is not None:
            marked = part.mask_in(part.mask, found.size)
            assert found.on_mask(marked).sum() > 0.97 * marked.sum(), part.name
