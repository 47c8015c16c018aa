"""Demo: render synthetic screws, or record bearings, fit, inspect, evaluate, report."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from makellos.data.progress import Progress, no_progress
from makellos.errors import StorageError
from makellos.evaluation import Evaluation
from makellos.sets.synthetic_bearings import SYNTHETIC_BEARING, SYNTHETIC_RPM, write_bearings
from makellos.sets.synthetic_screws import write_screws
from makellos.storage import storage_errors
from makellos.vibration.signals import SignalSettings
from makellos.workflows.evaluate import REPORT, evaluate
from makellos.workflows.fit import FitSummary, fit
from makellos.workflows.inspect import Outputs, inspect

__all__ = ["DemoResult", "demo", "demo_signals"]

_MARK = ".makellos-demo"


@dataclass(frozen=True)
class DemoResult:
    """Hold where the demo put things, and what it found."""

    folder: Path
    report: Path
    fitted: FitSummary
    figures: Evaluation


def demo(
    folder: Path,
    *,
    n_train: int = 200,
    n_test_good: int = 30,
    n_per_defect: int = 12,
    size: int = 512,
    false_alarms: float = 0.05,
    seed: int = 0,
    progress: Progress | None = None,
) -> DemoResult:
    """Do the main job on rendered screws in `folder`; a folder of an earlier demo is replaced.

    The false-alarm budget is wider than that of `fit`: at 1 % the threshold would be the score of
    the oddest of so few good parts. Raises `StorageError` when `folder` holds something else.
    """
    report = progress or no_progress
    _prepare(folder)
    screws, model = folder / "screws", folder / "screws.makellos"
    write_screws(
        screws,
        n_train=n_train,
        n_test_good=n_test_good,
        n_per_defect=n_per_defect,
        size=size,
        seed=seed,
        progress=report,
    )
    fitted = fit(screws, model, false_alarms=false_alarms, seed=seed, progress=report)
    return _try_out(folder, screws, fitted, report)


def demo_signals(
    folder: Path,
    *,
    n_train: int = 24,
    seconds: float = 4.0,
    detector: str = "patchcore",
    false_alarms: float = 0.05,
    seed: int = 0,
    progress: Progress | None = None,
) -> DemoResult:
    """Do the main job on synthetic vibration of bearings in `folder`, as `demo` does on screws."""
    report = progress or no_progress
    _prepare(folder)
    data, model = folder / "bearings", folder / "bearings.makellos"
    write_bearings(data, n_train=n_train, seconds=seconds, seed=seed, progress=report)
    fitted = fit(
        data,
        model,
        detector=detector,
        false_alarms=false_alarms,
        seed=seed,
        signal=SignalSettings(bearing=SYNTHETIC_BEARING, rpm=SYNTHETIC_RPM),
        progress=report,
    )
    return _try_out(folder, data, fitted, report)


def _try_out(folder: Path, data: Path, fitted: FitSummary, report: Progress) -> DemoResult:
    """Inspect and evaluate the test parts with the model that was fitted."""
    inspect(
        fitted.model,
        [data / "test"],
        outputs=Outputs(csv=folder / "inspections.csv", overlays=folder / "overlays"),
        on_row=lambda _, done, total: report("inspecting", done, total),
    )
    figures = evaluate(fitted.model, data, output=folder, progress=report)
    return DemoResult(folder, folder / REPORT, fitted, figures)


def _prepare(folder: Path) -> None:
    mark = folder / _MARK
    with storage_errors(f"{folder} cannot be used", "Choose another folder with -o."):
        if mark.is_file():
            _empty(folder)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StorageError(
                f"{folder} already exists and was not made by a demo; it is left alone. "
                "Choose another folder with -o."
            )
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text("Made by makellos demo, which replaces this folder.\n", encoding="utf-8")


def _empty(folder: Path) -> None:
    """Remove what an earlier demo left; the folder itself may be the one we work in."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != _MARK:
            entry.unlink()
