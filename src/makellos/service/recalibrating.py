"""A new budget: `makellos calibrate` as a process of its own, and its model as a new version."""

from __future__ import annotations

from collections.abc import Callable

from makellos.inspection.acceptance import Acceptance
from makellos.service.failures import Refusal
from makellos.service.station import Station
from makellos.service.verbs import StoppedError
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
    hear: Callable[[str], None] = lambda _: None,
) -> RecipeVersion:
    """Return a new version of a recipe whose model has another budget; its rules stay.

    `hear` gets each line that the calibration says.

    Raises `NotFoundError` for no such recipe, `Refusal` where the recipe is being calibrated
    already, and with the words of `makellos calibrate` where that does not succeed.
    """
    active = station.store.recipes.active(recipe)
    model = station.store.recipes.model(active.model_hash)
    with scratch_folder() as folder:
        made = folder / "calibrated.makellos"
        options = ["--false-alarms", f"{false_alarms:.9g}", "-o", str(made)]
        with station.calibrating(recipe, _SECONDS, hear) as runner:
            try:
                ended = runner.run(["calibrate", str(model.path), *options])
            except TimeoutError:
                why = "The calibration took too long and was stopped."
                raise Refusal("unavailable", why) from None
            except StoppedError:
                why = "The station was stopped before the calibration was done."
                raise Refusal("unavailable", why) from None
        if ended.code != 0 or not made.is_file():
            reason = "\n".join(ended.said).removeprefix("Error: ") or "it gave no reason"
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
