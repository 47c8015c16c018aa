"""What one trial of a search does: fit, judge on validation parts, and end early where it is poor.

Test parts are never touched.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar

from makellos.data.checks import check_readable
from makellos.data.parts import Part, PartSet
from makellos.data.progress import Progress
from makellos.data.splits import aside
from makellos.detectors import Detector, detector_class, make_detector
from makellos.errors import ConfigurationError, InputError, TrainingError
from makellos.inspection.alignment import in_one_pose
from makellos.models.alignment import choose_pose
from makellos.search.folds import ASIDE, Fold, lay_out, learns_labels
from makellos.search.planted_trials import FIGURE, judge
from makellos.search.search_space import Range, SearchSpace
from makellos.training import Training

__all__ = [
    "Attempt",
    "DetectionTrials",
    "Enough",
    "LossTrials",
    "Meter",
    "Trials",
    "Wanted",
    "make_trials",
]

_SHORTEST = 27  # of the epochs, one in so many is the first rung
# Hyperband's last bracket prunes nothing; here it begins to where a third is done.
_LATEST = 3
_STEPS = (1, 3, 9)  # ninths of what is learned from, or of the epochs
_FEWEST = 4  # parts to learn from on a rung
_RANKED = 0.001  # weight of 1 - AUROC beside the misses

# Told the rung, the value there, and whether it is the last; raises `Enough` to end the trial.
Report = Callable[[int, float, bool], None]


class Enough(Exception):  # noqa: N818 -- it is no error
    """End a trial that is pruned."""


@dataclass(frozen=True)
class Wanted:
    """Hold what every trial has in common."""

    detector: str
    preset: str
    fixed: Mapping[str, Any]
    space: SearchSpace
    seed: int
    device: str

    @property
    def cls(self) -> type[Detector]:
        """Return the class of the detector."""
        return detector_class(self.detector)

    def make(self, parameters: Mapping[str, Any]) -> Detector:
        """Return the detector of a trial."""
        return make_detector(
            self.detector,
            preset=self.preset,
            parameters={**self.fixed, **parameters},
            seed=self.seed,
        )

    def top(self, key: str) -> int:
        """Return the largest value that a parameter has in any trial."""
        values = self.space.get(key)
        if isinstance(values, Range):
            return int(values.high)
        if values is not None:
            return max(int(value) for value in values.values)
        return int(self.make({}).get_parameters()[key])


@dataclass
class Meter:
    """Count what a trial takes: epochs, or fits on all parts.

    `used` were taken, `allowed` at most by one whole fit (0 while not known), `full` by that fit
    where there was one: early stopping may end it before.
    """

    used: float = 0.0
    allowed: float = 0.0
    full: float = 0.0


@dataclass(frozen=True)
class Attempt:
    """Hold what one trial is run with; `report` may raise `Enough` on the way.

    `figures` takes what is known of the trial beside its value: the `misses` and the `auroc` of its
    last stage, where it is judged by them.
    """

    parameters: Mapping[str, Any]
    bracket: int
    meter: Meter
    report: Report
    progress: Progress
    figures: dict[str, float] = field(default_factory=dict)


class Trials(ABC):
    """Run the trials of one kind of detector.

    `resource` says what is counted, `value` what becomes small; what two searches must share beside
    what they were given is their `identity`. `learned` is what a later start must know, as JSON.
    """

    value: ClassVar[str]
    identity: ClassVar[Mapping[str, str]] = MappingProxyType({})
    resource: str
    judged: str  # a phrase about the validation parts
    rung_names: Mapping[int, str] = MappingProxyType({})  # of steps that count no epochs
    parts: list[Part]  # all that are learned from or validate

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.learned: dict[str, Any] = {}

    @property
    @abstractmethod
    def brackets(self) -> tuple[int, int]:
        """Return where the first bracket begins to prune, and where the last one may at most."""

    @abstractmethod
    def run(self, trial: Attempt) -> float:
        """Run a trial and return its value."""


def make_trials(wanted: Wanted, parts: PartSet, progress: Progress) -> Trials:
    """Return what runs the trials on a set; raises `InputError` for parts that do not suffice."""
    parts.require_pictures("tune")
    cls = wanted.cls
    if cls.learns == "labels":
        if not cls.trains:
            raise ConfigurationError(
                f"{cls.name} needs labels but trains no network; such detectors cannot be tuned."
            )
        return LossTrials(wanted, _labelled(wanted, parts, progress))
    if not cls.trains and wanted.device not in ("auto", "cpu"):
        raise ConfigurationError(
            f"{cls.name} trains no network and runs on the CPU. The device is "
            f"{wanted.device!r}; expected auto or cpu."
        )
    return DetectionTrials(wanted, _posed(wanted, parts, progress), progress)


def _posed(wanted: Wanted, parts: PartSet, progress: Progress) -> PartSet:
    """Return parts in one pose, where a fit would turn them."""
    detector = wanted.make({})
    if not (detector.needs_one_pose or detector.sees_crops()):
        return parts
    check_readable(parts.good(), progress)
    pose = choose_pose(parts.good(), None, detector, progress)
    return replace(parts, parts=tuple(in_one_pose(parts.parts, pose.alignment)))


def _labelled(wanted: Wanted, parts: PartSet, progress: Progress) -> list[Part]:
    """Return labelled parts but those to test, of which some validate: split val."""
    known = [part for part in parts if part.split != "test"]
    if not any(part.is_good for part in known) or all(part.is_good for part in known):
        raise InputError(
            f"{wanted.detector} learns from good and defective parts, but {parts.root} has only "
            "one kind to learn from. Put them into ok and defective, or label them in a "
            "manifest. If all defects are in test, split the parts again: makellos data split "
            "DATA -o parts.csv."
        )
    check_readable(known, progress)
    if any(part.split == "val" for part in known):
        return known
    _, apart = aside(known, ASIDE, seed=wanted.seed)
    if len({part.is_good for part in apart}) < 2:
        raise InputError(
            f"{parts.root} has too few parts to set good and defective ones aside for validation: "
            "that needs at least 2 groups of good parts and 2 of one kind of damage. Add "
            "pictures, or give some parts the split 'val' in a manifest."
        )
    names = {part.name for part in apart}
    return [replace(p, split="val" if p.name in names else "train") for p in known]


class LossTrials(Trials):
    """Train once per trial on labelled parts; the value is the validation loss of what is kept.

    That is the lowest one where a `patience` keeps the best epoch, else the last.
    """

    value = "validation loss"
    resource = "epochs"

    def __init__(self, wanted: Wanted, parts: list[Part]) -> None:
        super().__init__(wanted)
        self.parts = parts
        n_validation = sum(part.split == "val" for part in parts)
        self.judged = f"{n_validation} labelled validation parts"
        if n_validation == len(parts):
            raise InputError(
                "All parts are validation parts (split val); none is left to learn from."
            )
        self.asked = wanted.top("epochs") if "epochs" in wanted.cls.parameters else 0

    @property
    def brackets(self) -> tuple[int, int]:
        """Return a 27th and a third of the epochs."""
        n_epochs = self.asked or int(self.learned.get("epochs", _SHORTEST))
        first = max(1, n_epochs // _SHORTEST)
        return first, max(first, n_epochs // _LATEST)

    def run(self, trial: Attempt) -> float:
        """Train, and report the validation loss after each epoch."""
        meter, detector = trial.meter, self.wanted.make(trial.parameters)
        given = detector.get_parameters().get("epochs")
        # Automatic epochs are counted in the first trial.
        meter.allowed = int(given or self.learned.get("epochs", 0))
        best = math.inf
        keeps_best = bool(detector.get_parameters().get("patience", 1))

        def on_epoch(_epoch: int, losses: Mapping[str, float]) -> None:
            nonlocal best
            meter.used += 1
            if "validation_loss" in losses:
                loss = losses["validation_loss"]
                best = min(best, loss) if keeps_best else loss
                trial.report(int(meter.used), best, meter.used == meter.allowed)

        where = Training(device=self.wanted.device, on_epoch=on_epoch)
        detector.fit(self.parts, progress=trial.progress, training=where)
        meter.full = meter.used
        if not math.isfinite(best):
            raise TrainingError(
                f"{self.wanted.detector} reports no validation_loss after its epochs, so it cannot "
                "be searched."
            )
        if not given:
            self.learned = {"epochs": int(meter.used), **self.learned}
        return best


@dataclass
class _Counter:
    """Count the epochs of a fit, apart for each network that is trained in it."""

    meter: Meter
    phases: list[int] = field(default_factory=list)

    def __call__(self, epoch: int, _losses: Mapping[str, float]) -> None:
        self.meter.used += 1
        if epoch == 1 or not self.phases:
            self.phases.append(0)
        self.phases[-1] += 1


class DetectionTrials(Trials):
    """Fit at one, three and nine ninths; the value is the misses that `planted_trials` judge.

    A thousandth of 1 - AUROC is added, so that between equal misses, which are frequent where all
    is found or nothing, the better ranking decides. Detectors that train have their epochs cut, the
    others their parts.
    """

    value = "misses"
    identity = MappingProxyType({"objective": f"{FIGURE}; {_RANKED} of 1 - AUROC"})
    rung_names = MappingProxyType({1: "1/9", 3: "1/3", 9: "all"})

    def __init__(self, wanted: Wanted, parts: PartSet, progress: Progress) -> None:
        super().__init__(wanted)
        cls = wanted.cls
        self.trains = cls.trains and "epochs" in cls.parameters
        # What counts epochs, in the order in which it is trained.
        self.keys = [key for key in cls.parameters if key == "epochs" or key.endswith("_epochs")]
        self.resource = "epochs" if self.trains else "fits on all parts"
        self.parts = [part for part in parts if part.split != "test"]
        check_readable(self.parts, progress)
        bench = lay_out(parts, wanted.seed, shares_labels=learns_labels(cls))
        self.folds, self.judged = bench.folds, bench.described
        self.rungs = self._rungs()

    @property
    def brackets(self) -> tuple[int, int]:
        """Return the first rung, and a third of all where that is one."""
        return self.rungs[0], max(self.rungs[0], _STEPS[-1] // _LATEST)

    def run(self, trial: Attempt) -> float:
        """Fit on each rung of the bracket and report its value."""
        parameters, meter, rungs = trial.parameters, trial.meter, self.rungs[trial.bracket :]
        meter.allowed = self._whole(parameters)
        values: dict[int, float] = {}
        if not self._phases(parameters):
            # How many epochs are automatic shows a whole fit; the rungs are fitted after it.
            values[_STEPS[-1]] = self._fit(parameters, _STEPS[-1], trial)
            meter.allowed = self._whole(parameters)
        for step in rungs:
            if step not in values:
                values[step] = self._fit(parameters, step, trial)
            trial.report(step, values[step], step == _STEPS[-1])
        return values[_STEPS[-1]]

    def _rungs(self) -> list[int]:
        if not self.trains:
            n = min(len(fold.learn) for fold in self.folds)
            rungs = [step for step in _STEPS[:-1] if n * step / _STEPS[-1] >= _FEWEST]
        else:
            n_epochs = self.wanted.top("epochs")
            rungs = [s for s in _STEPS[:-1] if not n_epochs or n_epochs * s >= _STEPS[-1]]
        return [*rungs, _STEPS[-1]]

    def _whole(self, parameters: Mapping[str, Any]) -> float:
        return float(len(self.folds) * sum(self._phases(parameters))) if self.trains else 1.0

    def _phases(self, parameters: Mapping[str, Any]) -> list[int]:
        """Return the epochs of each network that a whole fit trains; empty while not known."""
        if not self.trains:
            return [1]
        found = self.wanted.make(parameters).get_parameters()
        given = [int(found[key]) for key in self.keys]
        counted = self.learned.get("phases", [])
        if not all(given) and len(counted) != len(given):
            return []
        # Automatic epochs make the same number of steps with batches of any size.
        size = int(found.get("batch_size", 1))
        ratio = self._batches(self.learned.get("batch_size", size)) / self._batches(size)
        return [n or max(1, round(counted[i] * ratio)) for i, n in enumerate(given)]

    def _batches(self, size: int) -> int:
        return max(1, len(self.folds[0].learn) // size)

    def _fit(self, parameters: Mapping[str, Any], step: int, trial: Attempt) -> float:
        meter = trial.meter
        whole = step == _STEPS[-1]
        chosen, folds = dict(parameters), self.folds
        counter, before = _Counter(meter), meter.used
        if self.trains and not whole:
            for key, n in zip(self.keys, self._phases(parameters), strict=True):
                chosen[key] = math.ceil(n * step / _STEPS[-1])
        elif not self.trains:
            folds = [fold.first(math.ceil(len(fold.learn) * step / _STEPS[-1])) for fold in folds]
            meter.used += _n_learned(folds) / _n_learned(self.folds)
        detector = self.wanted.make(chosen)
        where = Training(device=self.wanted.device, on_epoch=counter if self.trains else None)
        judged = judge(detector, folds, where, trial.progress)
        trial.figures.update(misses=judged.misses, auroc=judged.auroc)
        if whole:
            meter.full = meter.used - before
        if self.trains and whole and "phases" not in self.learned:
            size = int(detector.get_parameters().get("batch_size", 1))
            phases = counter.phases[: len(counter.phases) // len(folds)]  # those of the first
            self.learned = {"phases": phases, "batch_size": size}
        return round(judged.misses + _RANKED * (1 - judged.auroc), 6)


def _n_learned(folds: Sequence[Fold]) -> int:
    return sum(len(fold.learn) for fold in folds)
