"""A study: the trials of a search, kept in a database, so that a killed search goes on.

What a trial draws depends on the seed and on how many trials were finished before it. A trial that
was killed counts for nothing: its place is taken by one with the same draws, whatever its number
in the database. So a search that was killed and went on has the trials of one that was not.
"""

from __future__ import annotations

import json
import math
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np

from makellos.detectors.loading import require_packages
from makellos.errors import ConfigurationError, MissingRuntimeError, StorageError
from makellos.search.search_space import Choices, SearchSpace
from makellos.storage import locked

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial, Trial

__all__ = [
    "alone",
    "ask",
    "bracket_count",
    "bracket_of",
    "fail_stale",
    "finished_trials",
    "hyperband",
    "is_killed",
    "open_study",
]

DATABASE, LOCK = "study.db", "study.lock"
REDUCTION = 3  # of three trials on a rung, one is promoted
N_RANDOM = 8  # trials that are drawn at random before the sampler follows the good ones
# User attributes of a trial.
SLOT, REASON, PARAMETERS, COST = "slot", "reason", "parameters", "cost"
FIGURES = "figures"
_IDENTITY = "identity"
_NO_ADDRESS = {"ArgumentError", "NoSuchModuleError", "ValueError"}


def alone(folder: Path) -> AbstractContextManager[object]:
    """Keep a second search out of the folder for as long as this one works in it.

    Raises `StorageError` where another process holds it, and where nothing can be written to it.
    """
    busy = (
        f"Another search is running in {folder}. Wait until it is done, or choose another folder."
    )
    return locked(folder / LOCK, busy)


@contextmanager
def open_study(folder: Path, storage: str | None, identity: Mapping[str, Any]) -> Iterator[Study]:
    """Give the study of a folder, a new one where there is none.

    It lies in ``study.db`` of the folder, or under the folder's name in the database at the address
    `storage`. `identity` is what a study must share with one that it goes on with. Raises
    `ConfigurationError` naming what differs, and for an address that is none; `MissingRuntimeError`
    without optuna, or without the driver of the database; `StorageError` where the database cannot
    be read or written.
    """
    require_packages("optuna")
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            kept = _storage(folder, storage)
            try:
                # Optuna's own pruner would show the sampler the trials of one bracket alone.
                study = optuna.create_study(
                    storage=kept,
                    study_name=folder.resolve().name if storage else "makellos",
                    direction="minimize",
                    load_if_exists=True,
                    pruner=optuna.pruners.NopPruner(),
                )
                _check_identity(study, identity, folder)
                yield study
            finally:
                kept.engine.dispose()
    except Exception as error:
        if not _is_of_database(error):
            raise
        where = str(folder / DATABASE) if storage is None else _shown(storage)
        raise StorageError(
            f"{where} cannot be read or written: {_reason(error, storage)}. Check it, or choose "
            "another folder; what was finished before is kept."
        ) from None
    finally:
        optuna.logging.set_verbosity(verbosity)


def _storage(folder: Path, address: str | None) -> RDBStorage:
    from optuna.storages import RDBStorage

    if address is None:
        # By way of a function, so that no character of the path means anything in an address.
        def connect() -> sqlite3.Connection:
            return sqlite3.connect(folder / DATABASE, timeout=30)

        options: dict[str, Any] = {"creator": connect}
        url, where = "sqlite://", str(folder / DATABASE)
    else:
        # Braces are placeholders of optuna's own.
        url, options = address.replace("{", "{{").replace("}", "}}"), {}
        where = _shown(address)
    try:
        return RDBStorage(url, engine_kwargs=options)
    except ImportError as error:
        driver = getattr(error.__cause__, "name", None) or "its driver"
        raise MissingRuntimeError(
            f"{where} needs a driver that is not installed: pip install {driver}."
        ) from None
    except RuntimeError as error:
        raise StorageError(
            f"{where} was written by another version of optuna ({_reason(error, address)}). "
            "Install that version, or choose another folder."
        ) from None
    except Exception as error:
        # Said of an address that cannot be parsed, and of a kind of database that there is not.
        if address is None or type(error).__name__ not in _NO_ADDRESS:
            raise
        raise ConfigurationError(
            f"--storage is {where!r}, which is not the address of a database. Expected one such as "
            "postgresql://name:password@host/database; without it the study is kept in the folder."
        ) from None


def _is_of_database(error: Exception) -> bool:
    """Tell whether optuna or the database library below it could not read or write."""
    modules = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    return "sqlalchemy" in modules or type(error).__name__ == "StorageInternalError"


def _shown(address: str) -> str:
    """Return an address without user, password and options."""
    scheme, _, rest = address.rpartition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if scheme else "(no address)"


def _reason(error: Exception, address: str | None) -> str:
    """Return the first line of what a database said, without the secrets of its address."""
    text = str(error.__cause__ or error).strip().partition("\n")[0]
    if address is None:
        return text
    parts = urlsplit(address)
    secrets = [address, parts.password, unquote(parts.password or "")]
    secrets += [value for key, value in parse_qsl(parts.query) if "pass" in key]
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def _check_identity(study: Study, identity: Mapping[str, Any], folder: Path) -> None:
    given = json.loads(json.dumps(identity))
    kept = study.user_attrs.get(_IDENTITY)
    if kept is None:
        if study.get_trials(deepcopy=False):
            raise ConfigurationError(
                f"The database of {folder} holds a study that 'makellos tune' did not write. "
                "Choose another folder."
            )
        study.set_user_attr(_IDENTITY, given)
        return
    differing = [name for name in {**kept, **given} if kept.get(name) != given.get(name)]
    if differing:
        told = "\n  ".join(
            f"{name}: {_short(kept.get(name))}, now {_short(given.get(name))}" for name in differing
        )
        raise ConfigurationError(
            f"{folder} holds another search. What differs:\n  {told}\nGive the same values to "
            "continue it, or choose another folder."
        )


def _short(value: Any) -> str:
    if value is None:
        return "not recorded"  # by an earlier version, which knew no other
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={held}" for key, held in value.items()) or "none"
    text = str(value)
    return f"{text[:16]}…" if len(text) == 64 and " " not in text else text


def fail_stale(study: Study) -> int:
    """Mark trials that a killed process left running as failed; return how many there were."""
    from optuna.trial import TrialState

    stale = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in stale:
        study.tell(trial.number, state=TrialState.FAIL)
    return len(stale)


def is_killed(trial: FrozenTrial) -> bool:
    """Tell whether a trial was broken off by a kill: marked failed, without a reason."""
    return trial.state.name == "FAIL" and REASON not in trial.user_attrs


def finished_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials that are complete, pruned or failed for a reason, in their order."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and not is_killed(trial)
    ]


def ask(
    study: Study, space: SearchSpace, defaults: Mapping[str, Any], *, seed: int, slot: int
) -> Trial:
    """Begin the trial at a place of the search, and return it with its parameters.

    The first place has the defaults. The others draw by the trees of Parzen estimators, after some
    at random, from a generator of seed and place alone, and from the trials finished before.
    """
    import optuna

    draw = int(np.random.SeedSequence([seed, slot]).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=draw, n_startup_trials=N_RANDOM)
    drawn = dict(space)
    if slot == 0:
        # A default such as 0, for automatic, may lie outside what is searched.
        drawn = {key: values for key, values in space.items() if values.holds(defaults[key])}
        waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
        if not waiting:
            study.enqueue_trial({key: defaults[key] for key in drawn})
    trial = study.ask()
    trial.set_user_attr(SLOT, slot)
    found = {key: _suggested(trial, key, values) for key, values in drawn.items()}
    trial.set_user_attr(PARAMETERS, dict(defaults) if slot == 0 else found)
    return trial


def _suggested(trial: Trial, key: str, values: Any) -> Any:
    if isinstance(values, Choices):
        return trial.suggest_categorical(key, values.values)
    if values.whole:
        low, high = int(values.low), int(values.high)
        return trial.suggest_int(key, low, high, log=values.logarithmic)
    return trial.suggest_float(key, float(values.low), float(values.high), log=values.logarithmic)


def hyperband(first: int, latest: int) -> BasePruner:
    """Return Optuna's Hyperband, with brackets that begin to prune from `first` to `latest`.

    The brackets are shared out by a trial's place in the search. Optuna does so by a hash of study
    name and number: these change when a killed trial is run again, and with them what is pruned.
    Killed trials are in no bracket.
    """
    from optuna.pruners import HyperbandPruner

    n_brackets = bracket_count(first, latest)

    class Brackets(HyperbandPruner):
        def _get_bracket_id(self, study: Study, trial: FrozenTrial) -> int:
            del study
            if is_killed(trial) or SLOT not in trial.user_attrs:
                return -1
            return bracket_of(trial.user_attrs[SLOT], n_brackets)

    return Brackets(first, latest, reduction_factor=REDUCTION)


def bracket_count(first: int, latest: int) -> int:
    """Return the number of brackets as Optuna counts them."""
    return math.floor(math.log(latest / first, REDUCTION)) + 1


def bracket_of(slot: int, n_brackets: int) -> int:
    """Return the bracket of a place: 0 prunes soonest, and has most trials.

    The shares are Hyperband's, and are kept in every beginning of the search.
    """
    shares = _shares(n_brackets)
    counts = [0] * n_brackets
    for place in range(slot + 1):
        bracket = max(range(n_brackets), key=lambda b: shares[b] * (place + 1) - counts[b])
        counts[bracket] += 1
    return bracket


def _shares(n_brackets: int) -> Sequence[float]:
    budgets = [
        math.ceil(n_brackets * REDUCTION**s / (s + 1)) for s in range(n_brackets - 1, -1, -1)
    ]
    return [budget / sum(budgets) for budget in budgets]
