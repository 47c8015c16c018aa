"""What a search has found so far: its best trial, what it took, the files that it writes."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from makellos.data.progress import Progress
from makellos.reports.pages import write_page
from makellos.reports.tuning import TuningReport, TuningTrial, render_tuning
from makellos.search.search_space import described
from makellos.search.study import COST, FIGURES, PARAMETERS, REASON, SLOT, is_killed
from makellos.search.trials import Trials, Wanted
from makellos.storage import write_text

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = [
    "BEST",
    "PAGE",
    "Search",
    "auroc_of",
    "best_of",
    "cost",
    "cost_of",
    "importance",
    "n_killed",
    "write_results",
]

BEST, PAGE = "best.json", "tuning.html"
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
_GO_ON = "Make room there, then run the same command to continue."
_FEWEST = 4  # complete trials, below which importance says nothing


@dataclass(frozen=True)
class Search:
    """Hold what one start of a search works with."""

    study: Study
    trials: Trials
    wanted: Wanted
    defaults: Mapping[str, Any]
    folder: Path
    data: str
    n_trials: int
    clock: Callable[[], float]
    progress: Progress


def best_of(finished: Sequence[FrozenTrial]) -> FrozenTrial | None:
    complete = [trial for trial in finished if trial.state.name == "COMPLETE"]
    return min(complete, key=lambda t: (t.value or 0.0, t.user_attrs[SLOT]), default=None)


def write_results(search: Search, finished: Sequence[FrozenTrial]) -> None:
    best = best_of(finished)
    if best is not None:
        values = {**search.wanted.fixed, **best.user_attrs[PARAMETERS]}
        text = json.dumps(values, indent=1, allow_nan=False) + "\n"
        if _text_of(search.folder / BEST) != text:
            write_text(search.folder / BEST, text, _GO_ON)
        write_page(search.folder / PAGE, render_tuning(_report(search, finished, best)), _GO_ON)


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def cost(finished: Sequence[FrozenTrial]) -> tuple[float, float]:
    """Return what the trials took, and what they would have taken unpruned.

    Complete trials may have ended early by themselves; pruned ones are counted as if they had done
    so as well, at the same share of what they were allowed.
    """
    used = sum(cost_of(trial, "used") for trial in finished)
    complete = [t for t in finished if t.state.name == "COMPLETE"]
    taken = [cost_of(t, "full") for t in complete]
    allowed = [cost_of(t, "allowed") for t in complete]
    share = sum(taken) / sum(allowed) if allowed and min(allowed) > 0 else 1.0
    mean = sum(taken) / len(taken) if taken else 0.0
    unpruned = sum(taken)
    for trial in finished:
        if trial.state.name == "PRUNED":
            at_most = cost_of(trial, "allowed")
            unpruned += max(share * at_most or mean, cost_of(trial, "used"))
        elif trial.state.name == "FAIL":
            unpruned += cost_of(trial, "used")
    return used, unpruned


def cost_of(trial: FrozenTrial, key: str) -> float:
    """Return one figure of what a trial took: those of a `Meter`, and ``seconds``."""
    return float(trial.user_attrs.get(COST, {}).get(key, 0.0))


def auroc_of(trial: FrozenTrial) -> float | None:
    """Return the AUROC of a trial's last stage; None where it is judged by its loss."""
    found = trial.user_attrs.get(FIGURES, {}).get("auroc")
    return None if found is None else float(found)


def importance(study: Study, finished: Sequence[FrozenTrial]) -> dict[str, float]:
    """Return the share of each parameter in what became better; empty where that is not known."""
    import optuna

    complete = [trial for trial in finished if trial.state.name == "COMPLETE"]
    if len(complete) < _FEWEST or len({trial.value for trial in complete}) < 2:
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError, ArithmeticError, KeyError):
        return {}  # too few trials that differ
    return {key: float(share) for key, share in found.items() if math.isfinite(share)}


def _report(search: Search, finished: Sequence[FrozenTrial], best: FrozenTrial) -> TuningReport:
    used, unpruned = cost(finished)
    return TuningReport(
        detector=search.wanted.detector,
        data=search.data,
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        value=search.trials.value,
        resource=search.trials.resource,
        judged=search.trials.judged,
        n_wanted=search.n_trials,
        n_killed=n_killed(search.study),
        used=used,
        unpruned=unpruned,
        seed=search.wanted.seed,
        defaults=dict(search.defaults),
        fixed=dict(search.wanted.fixed),
        space=described(search.wanted.space),
        best=best.user_attrs[SLOT],
        trials=[_shown(trial) for trial in finished],
        importance=importance(search.study, finished),
        rungs=search.trials.rung_names,
    )


def _shown(trial: FrozenTrial) -> TuningTrial:
    held = trial.user_attrs
    return TuningTrial(
        slot=held[SLOT],
        state=_STATES[trial.state.name],
        value=trial.value if trial.state.name == "COMPLETE" else None,
        parameters=held[PARAMETERS],
        steps=sorted(trial.intermediate_values.items()),
        used=cost_of(trial, "used"),
        seconds=cost_of(trial, "seconds"),
        reason=held.get(REASON),
        auroc=auroc_of(trial),
    )


def n_killed(study: Study) -> int:
    """Return how many trials were broken off by kills and run again."""
    return sum(map(is_killed, study.get_trials(deepcopy=False)))
