"""What fit, evaluate and calibrate say of how a set was read, and of what they leave out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def odd(toy_parts: Path, tmp_path: Path) -> Path:
    """Return the toy's parts as another toolkit lays them out, with a picture beside them."""
    folder = tmp_path / "odd"
    shutil.copytree(toy_parts / "train" / "good", folder / "train" / "normal")
    shutil.copytree(toy_parts / "test" / "good", folder / "test" / "normal")
    shutil.copy(next((folder / "train" / "normal").iterdir()), folder / "overview.png")
    return folder


EXPECTED = (
    "Note: Read as good: normal.",
    "Note: 1 picture outside the layout (MVTec AD), left out: overview.png.",
)


def test_fit_evaluate_and_calibrate_say_how_a_set_was_read(
    toy: ModuleType, odd: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        toy.install(patch)
        model = tmp_path / "m.makellos"
        for told in (
            cli("fit", odd, "-o", model, "--false-alarms", "0.1"),
            cli("evaluate", model, odd),
            cli("calibrate", model, odd),
        ):
            assert told.code == 0
            lines = " ".join(told.out.split())
            assert all(expected in lines for expected in EXPECTED), told.out
    told = cli("data", "check", odd)
    assert "Advice: Read as good: normal." in told.out


@pytest.mark.parametrize("angles", [True, False])
def test_fit_says_before_the_work_that_a_detector_needs_one_pose(
    angles: bool,
    toy: ModuleType,
    toy_parts: Path,
    screws: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy.install(patch), "needs_one_pose", True)
        told = cli("fit", screws if angles else toy_parts, "-o", tmp_path / "m.makellos")
    assert told.code == 0
    hint = "Note: These parts lie at any angle, but toy compares places"
    assert [hint in stream for stream in (told.err, told.out)] == [angles] * 2


def test_detectors_that_compare_places_say_so() -> None:
    from makellos.detectors.registry import detectors

    needy = {name for name, found in detectors().items() if found.needs_one_pose}
    assert needy == {"anogan", "autoencoder", "fanogan", "golden", "padim", "vae"}
