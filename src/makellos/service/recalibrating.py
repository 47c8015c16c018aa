"""A new budget: `makellos calibrate` as a process of its own, and its model as a new version."""

from __future__ import annotations

import os
import subprocess
import sys

from makellos.inspection.acceptance import Acceptance
from makellos.service.failures import Refusal
from makellos.service.station import Station
from makellos.storage import scratch_folder
from makellos.store import RecipeVersion

__all__ = ["recalibrated"]

_SECONDS = 600


def recalibrated(
    station: Station,
    recipe: str,
    false_alarms: float,
    *,
    person: str,
    note: str = "",
    activate: bool = False,
) -> RecipeVersion:
    """Return a new version of a recipe whose model has another budget; its rules stay.

    Raises `NotFoundError` for no such recipe, `Refusal` with the words of `makellos calibrate`
    where the calibration does not succeed.
    """
    active = station.store.recipes.active(recipe)
    model = station.store.recipes.model(active.model_hash)
    with scratch_folder() as folder:
        made = folder / "calibrated.makellos"
        program = [sys.executable, "-m", "makellos", "calibrate", str(model.path)]
        options = ["--false-alarms", f"{false_alarms:.9g}", "-o", str(made)]
        try:
            done = subprocess.run(  # noqa: S603
                [*program, *options],
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                check=False,
                timeout=_SECONDS,
                env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            )
        except subprocess.TimeoutExpired:
            raise Refusal("unavailable", "The calibration took too long and was stopped.") from None
        if done.returncode != 0 or not made.is_file():
            reason = done.stderr.strip().removeprefix("Error: ") or "it gave no reason"
            raise Refusal("invalid", f"The model was not calibrated: {reason}")
        rules = active.acceptance
        return station.add_model(
            made,
            person=person,
            recipe=recipe,
            acceptance=None if rules is None else Acceptance.model_validate(rules),
            note=note or f"budget {100 * false_alarms:g} %",
            activate=activate,
            file_name=model.file_name,
        )
