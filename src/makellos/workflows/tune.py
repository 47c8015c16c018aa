"""Tune: search the parameters of a detector by Hyperband, in a study that outlives a kill."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from makellos.data.array_sets import ArrayKeys
from makellos.data.good_labels import GoodLabels
from makellos.data.parts import Part
from makellos.data.progress import Progress, no_progress
from makellos.data.splits import check_seed
from makellos.detectors import detector_class, make_detector
from makellos.errors import (
    ConfigurationError,
    MakellosError,
    MissingRuntimeError,
    StorageError,
    TrainingError,
)
from makellos.models.provenance import fingerprint
from makellos.search.search_space import described, search_space
from makellos.search.study import (
    COST,
    FIGURES,
    LOCK,
    PARAMETERS,
    REASON,
    alone,
    ask,
    bracket_count,
    bracket_of,
    fail_stale,
    finished_trials,
    hyperband,
    open_study,
)
from makellos.search.trials import Attempt, Enough, Meter, Wanted, make_trials
from makellos.search.tune_results import (
    BEST,
    PAGE,
    Search,
    auroc_of,
    best_of,
    cost,
    cost_of,
    importance,
    n_killed,
    write_results,
)
from makellos.subjects import find_parts
from makellos.training import Training

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["TuneSummary", "tune"]

_LEARNED = "learned"
_TIE = 1e-10  # smaller than any difference that says something


@dataclass(frozen=True)
class TuneSummary:
    """Hold what a search found, and what it cost.

    `best_value` is the lowest of the complete trials, `default_value` that of the first one, which
    uses the defaults (None if it failed); `value` says what they are. `best_auroc` and
    `default_auroc` stand beside them where the value is misses. `best_parameters` are the
    searched ones, `best` is the file for `fit --config`. The trials took `epochs_used` of
    `resource`; without pruning they would have taken `epochs_unpruned`. `seconds` are those of all
    trials, including earlier starts. `n_killed` were interrupted by kills and run again.
    """

    folder: str
    detector: str
    best: str
    page: str
    n_trials: int
    n_complete: int
    n_pruned: int
    n_failed: int
    n_killed: int
    value: str
    judged: str
    best_value: float
    default_value: float | None
    best_auroc: float | None
    default_auroc: float | None
    best_parameters: dict[str, Any]
    resource: str
    epochs_used: float
    epochs_unpruned: float
    seconds: float
    seed: int
    importance: dict[str, float]
    failures: list[str]


def tune(
    data: Path | str,
    folder: Path | str,
    *,
    detector: str = "patchcore",
    preset: str = "balanced",
    parameters: Mapping[str, Any] | None = None,
    search: Mapping[str, str] | None = None,
    n_trials: int = 20,
    timeout_minutes: float | None = None,
    storage: str | None = None,
    seed: int = 0,
    device: str = "auto",
    good: GoodLabels = None,
    keys: ArrayKeys = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TuneSummary:
    """Search a detector's parameters, and write the best ones and a page about the search.

    `search` maps parameters to LOW..HIGH, LOW..HIGH:log or A,B,C, in addition to the ranges that
    the detector declares; `parameters` keep their value. The first trial uses the defaults. No
    trial starts after `timeout_minutes`. `folder` receives ``study.db`` (or `storage` is the
    address of a database), ``best.json`` and ``tuning.html``; a search already there is continued.
    Raises `ConfigurationError` for what is not accepted or another search in the folder,
    `InputError` for data, `StorageError` where nothing can be written, `TrainingError` if all fail.
    """
    _check_numbers(n_trials, timeout_minutes, seed)
    Training(device=device)
    fixed, target, report = dict(parameters or {}), Path(folder), progress or no_progress
    base = _fittable(detector, preset, fixed, seed)
    cls = detector_class(detector)
    space = search_space(cls, search or {}, fixed)
    kept = {**cls.presets.get(preset, {}), **{key: base[key] for key in fixed}}
    kept = {key: value for key, value in kept.items() if key not in space}
    _check_target(target)
    wanted = Wanted(detector, preset, kept, space, seed, device)
    trials = make_trials(wanted, find_parts(data, good=good, keys=keys), report)
    identity = {
        "data": _fingerprint(trials.parts),
        "detector": detector,
        "fixed parameters": kept,
        "search space": described(space),
        "seed": seed,
        **trials.identity,
    }
    with alone(target), open_study(target, storage, identity) as study:
        fail_stale(study)
        running = Search(
            study=study,
            trials=trials,
            wanted=wanted,
            defaults={key: base[key] for key in space},
            folder=target,
            data=Path(data).resolve().name,
            n_trials=n_trials,
            clock=clock,
            progress=report,
        )
        return _go(running, timeout_minutes)


def _fittable(
    detector: str, preset: str, parameters: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Return the parameters of what can be fitted here; raise `MissingRuntimeError` for others."""
    made = make_detector(detector, preset=preset, parameters=parameters, seed=seed)
    made.require()
    return dict(made.get_parameters())


def _check_numbers(n_trials: int, timeout_minutes: float | None, seed: int) -> None:
    check_seed(seed)
    if n_trials < 1:
        raise ConfigurationError(
            f"The number of trials is {n_trials}; expected a whole number, at least 1."
        )
    if timeout_minutes is not None and not timeout_minutes > 0:
        raise ConfigurationError(
            f"The timeout is {timeout_minutes:g} minutes; expected a number above 0."
        )


def _check_target(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file. Give the name of a folder.")
    foreign = [name for name in (BEST, PAGE) if (folder / name).exists()]
    if foreign and not (folder / LOCK).exists():
        raise StorageError(
            f"{folder / foreign[0]} was not written by 'makellos tune'; it is left alone. Choose "
            "another folder, or remove it."
        )


def _fingerprint(parts: Sequence[Part]) -> str:
    digest = hashlib.sha256(fingerprint(parts).encode())
    for part in sorted(parts, key=lambda part: part.name):
        digest.update(repr((part.name, part.label, part.split, part.group)).encode())
    return digest.hexdigest()


def _go(search: Search, timeout_minutes: float | None) -> TuneSummary:
    """Run trials until there are enough, and write what is found after each."""
    began = search.clock()
    search.trials.learned = dict(search.study.user_attrs.get(_LEARNED, {}))
    finished = finished_trials(search.study)
    if finished:
        write_results(search, finished)
    while len(finished) < search.n_trials:
        late = timeout_minutes is not None and search.clock() - began >= 60 * timeout_minutes
        if late and finished:
            break
        _tell(search, finished)
        _run_trial(search, slot=len(finished))
        finished = finished_trials(search.study)
        write_results(search, finished)
    _tell(search, finished)
    if best_of(finished) is None:
        reasons = dict.fromkeys(str(trial.user_attrs.get(REASON)) for trial in finished)
        raise TrainingError(
            f"All {len(finished)} trials failed:\n  " + "\n  ".join(reasons) + "\nFix the causes, "
            "or search other ranges, in another folder."
        )
    return _summary(search, finished)


def _tell(search: Search, finished: Sequence[FrozenTrial]) -> None:
    best = best_of(finished)
    n_pruned = sum(trial.state.name == "PRUNED" for trial in finished)
    figures = ["-" if best is None else f"best {best.value:.4g}", f"{n_pruned} pruned"]
    search.progress(" · ".join(["trials", *figures]), len(finished), search.n_trials)


def _run_trial(search: Search, slot: int) -> None:
    from optuna.trial import TrialState

    study, trials = search.study, search.trials
    trial = ask(study, search.wanted.space, search.defaults, seed=search.wanted.seed, slot=slot)
    meter, figures, began = Meter(), dict[str, float](), search.clock()

    def report(step: int, value: float, is_last: bool) -> None:
        trial.report(value, step)
        # The first trial stands alone; its rungs are known when it is done.
        if slot and not is_last and _is_poor(search, trial.number, slot, step):
            raise Enough

    def progress(what: str, done: int, total: int | None) -> None:
        search.progress(f"{what} · trial {slot + 1} of {search.n_trials}", done, total)

    value: float | None = None
    state = TrialState.COMPLETE
    try:
        bracket = bracket_of(slot, bracket_count(*trials.brackets))
        parameters = trial.user_attrs[PARAMETERS]
        value = trials.run(Attempt(parameters, bracket, meter, report, progress, figures))
    except Enough:
        state = TrialState.PRUNED
    except MakellosError as error:
        if slot == 0 and isinstance(error, MissingRuntimeError):
            raise  # with the defaults: nothing can be fitted here
        trial.set_user_attr(REASON, str(error))
        state = TrialState.FAIL
    seconds = round(search.clock() - began, 3)
    trial.set_user_attr(COST, {**asdict(meter), "seconds": seconds})
    trial.set_user_attr(FIGURES, figures)
    if trials.learned != study.user_attrs.get(_LEARNED, {}):
        study.set_user_attr(_LEARNED, trials.learned)
    if slot == 0:
        for step in sorted(study.get_trials(deepcopy=False)[trial.number].intermediate_values):
            _is_poor(search, trial.number, slot, step)
    study.tell(trial, value, state=state)


def _is_poor(search: Search, number: int, slot: int, step: int) -> bool:
    """Tell whether a trial is to be pruned at a step, and record its value where that is a rung."""
    frozen = copy(search.study.get_trials(deepcopy=False)[number])
    so_far = {s: value for s, value in frozen.intermediate_values.items() if s <= step}
    # A tie goes to the earlier trial: where all are perfect, none need be fitted to its end.
    so_far[step] += _TIE * slot
    frozen.intermediate_values = so_far
    return hyperband(*search.trials.brackets).prune(search.study, frozen)


def _summary(search: Search, finished: Sequence[FrozenTrial]) -> TuneSummary:
    best = best_of(finished)
    if best is None or best.value is None:
        raise TrainingError("No trial was completed.")
    states = [trial.state.name for trial in finished]
    used, unpruned = cost(finished)
    return TuneSummary(
        folder=str(search.folder),
        detector=search.wanted.detector,
        best=str(search.folder / BEST),
        page=str(search.folder / PAGE),
        n_trials=len(finished),
        n_complete=states.count("COMPLETE"),
        n_pruned=states.count("PRUNED"),
        n_failed=states.count("FAIL"),
        n_killed=n_killed(search.study),
        value=search.trials.value,
        judged=search.trials.judged,
        best_value=best.value,
        default_value=finished[0].value if states[0] == "COMPLETE" else None,
        best_auroc=auroc_of(best),
        default_auroc=auroc_of(finished[0]) if states[0] == "COMPLETE" else None,
        best_parameters=dict(best.user_attrs[PARAMETERS]),
        resource=search.trials.resource,
        epochs_used=round(used, 3),
        epochs_unpruned=round(unpruned, 3),
        seconds=round(sum(cost_of(trial, "seconds") for trial in finished), 2),
        seed=search.wanted.seed,
        importance=importance(search.study, finished),
        failures=[t.user_attrs[REASON] for t in finished if t.state.name == "FAIL"],
    )
