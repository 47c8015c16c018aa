"""What every detector is: parameters as data, `fit`, a graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self, dataclass_transform

from makellos.data.memory import Means
from makellos.data.parts import Part
from makellos.data.progress import Progress, no_progress
from makellos.detectors.graph import Graph
from makellos.detectors.loading import require_packages
from makellos.detectors.parameters import Parameter, Value
from makellos.errors import ConfigurationError, InputError, NotFittedError
from makellos.inspection.engines import Engine, EngineChoice, available_engines
from makellos.inspection.external_runtime import ExternalScoring
from makellos.training.settings import Training

if TYPE_CHECKING:
    from makellos.detectors.patches.trial import BankCost

__all__ = ["Detector"]


@dataclass_transform(kw_only_default=True, eq_default=False)
class Detector(ABC):
    """Learn what good parts look like and give a graph that scores new ones.

    A class declares its parameters by `parameter`, each with its type. Its constructor takes them
    by keyword and only stores them; `fit` checks them. Learned attributes end in ``_``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    parameters: ClassVar[Mapping[str, Parameter]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Value]]] = {}
    # What `auto` tries, the cheapest first: parameters beside the defaults. Empty: it is left out.
    candidates: ClassVar[Sequence[Mapping[str, Value]]] = ({},)
    # What makes it learn less from damage that hides among good parts, which `audit` looks for.
    robust: ClassVar[Mapping[str, Value]] = {}
    # From good parts; from labelled defective ones too, where there are some; or only with labels.
    learns: ClassVar[Literal["good", "good and labelled", "labels"]] = "good"
    # What its graphs hold beside score and map: ``generator`` of pictures, ``classes``,
    # ``reconstruction`` of parts.
    gives: ClassVar[Collection[str]] = ()
    # Taught by damage planted in good parts, which therefore cannot judge it.
    learns_planted: ClassVar[bool] = False
    # Trained by gradients: calibration parts are held out, for a cross-fit trains once per fold.
    trains: ClassVar[bool] = False
    # Trains so little per fold that good parts calibrate cross-fitted, as without training.
    cross_fits: ClassVar[bool] = False
    # Compares places, so that parts that do not lie in one pose all look odd to it.
    needs_one_pose: ClassVar[bool] = False
    # Compares each part with its own reference, where all parts that it learns from have one.
    compares: ClassVar[bool] = False
    # Good parts without which nothing can be learned.
    least_parts: ClassVar[int] = 2
    # Folds of a cross-fit that calibrates. The more, the less the graphs differ from the final one,
    # and the less damage a threshold misses that is made for them; each costs time.
    n_folds: ClassVar[int] = 5
    runtime: ClassVar[Literal["graph", "torch", "pyod"]] = "graph"
    # What `Part.read` gives it: a picture, or features (F,) float32 of a window of a signal.
    takes: ClassVar[Literal["pictures", "features"]] = "pictures"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        declared = {key: value for key, value in vars(cls).items() if isinstance(value, Parameter)}
        if declared:
            cls.parameters = {**cls.parameters, **declared}
            for key, value in declared.items():
                setattr(cls, key, value.default)
            dataclass(kw_only=True, eq=False, repr=False)(cls)  # adds the constructor

    def get_parameters(self) -> dict[str, Value]:
        """Return the parameters this detector was made with, by name."""
        return {name: getattr(self, name) for name in self.parameters}

    def tells_apart(self, parts: Sequence[Part]) -> list[str]:
        """Return the classes that it would learn from labelled parts, good first; none by default.

        Only detectors that give ``classes`` learn some.
        """
        del parts
        return []

    def sees_crops(self) -> bool:
        """Tell whether it sees a part as well cut out of its picture and turned, and faster."""
        return False

    def packages(self) -> tuple[str, ...]:
        """Return what fitting it takes beyond the base install, as packages are imported."""
        return ("torch", "lightning_fabric") if self.trains else ()

    def require(self) -> None:
        """Raise where what fitting takes is not here; no part is looked at.

        Raises `MissingRuntimeError` without its packages, and for weights of a backbone that cannot
        be had, `ConfigurationError` for a backbone that nobody knows, `InputError` for a file of
        weights that is not there.
        """
        require_packages(*self.packages())
        given = self.get_parameters()
        if "backbone" in given:
            from makellos.detectors.patches.backbones import require_backbone

            require_backbone(str(given["backbone"]), str(given.get("weights", "")))

    def fit(
        self,
        parts: Sequence[Part],
        *,
        progress: Progress | None = None,
        training: Training | None = None,
    ) -> Self:
        """Learn from good parts and return self; what an earlier fit learned is forgotten.

        `progress` is called with what is being done, how much is done and of how much. `training`
        says where and how a detector that `trains` does so; others ignore it. Raises
        `ConfigurationError` for parameters out of range, `InputError` for too few parts and
        pictures that cannot be read, `MissingRuntimeError` without its `packages`, `TrainingError`
        when training fails.
        """
        with self._learning(parts, training):
            if self.trains:
                self._train(parts, progress or no_progress, training or Training())
            else:
                self._learn(parts, progress or no_progress)
        return self

    def cross_fit(
        self,
        parts: Sequence[Part],
        folds: Sequence[int],
        *,
        progress: Progress | None = None,
        training: Training | None = None,
    ) -> list[Graph]:
        """Fit on all parts, and return for each fold a graph that has not seen its parts.

        `folds` (n,) numbers the fold of each part from 0; a defective part that every graph may
        learn from is of fold -1. Without folds it fits as `fit` does, and returns no graph. Raises
        as `fit` does, and `InputError` when a fold holds all parts.
        """
        if not folds:
            self.fit(parts, progress=progress, training=training)
            return []
        _check_folds(parts, folds)
        with self._learning(parts, training):
            return self._cross_learn(parts, folds, progress or no_progress, training or Training())

    def cross_fits_on(self, _parts: Sequence[Part]) -> bool:
        """Tell whether good parts calibrate cross-fitted when it learns from these."""
        return self.cross_fits or not self.trains

    def graph(self) -> Graph:
        """Return the fitted detector as a graph; raises `NotFittedError` before `fit`."""
        if not any(name.endswith("_") for name in vars(self)):
            raise NotFittedError(
                f"This {self.name} has learned nothing yet. Call fit(parts) first."
            )
        return self._build_graph()

    def _forget(self) -> None:
        for learned in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, learned)

    def _begin(self, parts: Sequence[Part]) -> None:
        """Check parameters and parts, and forget what was learned."""
        for name, declared in self.parameters.items():
            value = getattr(self, name)
            if not declared.accepts(value):
                raise ConfigurationError(
                    f"{self.name}: {name} is {value!r}; expected {declared.accepted}."
                )
        least = self.least_parts
        if len(parts) < least:
            raise InputError(
                f"{self.name} needs at least {least} good part{'' if least == 1 else 's'} to learn "
                f"from; received {len(parts)}. "
                "Add pictures of good parts; 100 and more make small false-alarm budgets possible."
            )
        require_packages(*self.packages())
        self._forget()

    @contextmanager
    def _learning(self, parts: Sequence[Part], training: Training | None) -> Iterator[None]:
        """Begin, and forget what was learned where it breaks off: half is worse than nothing."""
        self._begin(parts)
        self._means = Means() if training is None else training.means
        try:
            yield
        except BaseException:
            self._forget()
            raise
        finally:
            vars(self).pop("_means", None)  # is nothing that was learned

    @classmethod
    def engines(cls) -> tuple[EngineChoice, ...]:
        """Return what scores this detector's parts on this machine, the fastest first."""
        return available_engines()

    @classmethod
    def open_engine(
        cls, scoring: ExternalScoring, shape: tuple[int, ...], choice: EngineChoice
    ) -> Engine:
        """Return what scores batches N×C×H×W or N×F, for detectors whose runtime is no graph."""
        del scoring, shape, choice
        raise ConfigurationError(f"{cls.name} is inspected by its graph.")

    def trial(self, parts: Sequence[Part], n_learn: int, n_folds: int) -> BankCost | None:
        """Return what learning from `n_learn` good parts takes, tried on some of them.

        They are cross-fitted in `n_folds`, 0 for not at all. None where nobody can tell.
        """
        del parts, n_learn, n_folds
        return None

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no _learn(parts, progress)")

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        """Learn as `_learn` does, in a detector that `trains`."""
        raise NotImplementedError(f"{type(self).__name__} has no _train(parts, progress, training)")

    def _cross_learn(
        self, parts: Sequence[Part], folds: Sequence[int], progress: Progress, training: Training
    ) -> list[Graph]:
        """Learn and return a graph per fold; a fit for each, unless a detector can share work."""
        graphs = []
        for fold in range(max(folds) + 1):
            rest = [part for part, number in zip(parts, folds, strict=True) if number != fold]
            label = f"cross-fit {fold + 1}: "
            other = type(self)(**self.get_parameters())
            other.fit(
                rest,
                progress=lambda w, d, t, label=label: progress(label + w, d, t),  # type: ignore[misc]
                training=training.inside(f"fold-{fold + 1}"),
            )
            graphs.append(other.graph())
        self.fit(parts, progress=progress, training=training)
        return graphs

    @abstractmethod
    def _build_graph(self) -> Graph: ...


def _check_folds(parts: Sequence[Part], folds: Sequence[int]) -> None:
    """Raise `InputError` unless each part has a fold and each fold leaves good parts outside.

    Defective parts may have the fold -1, that of none.
    """
    lowest = [0 if part.is_good else -1 for part in parts]
    if len(folds) != len(parts) or any(f < low for f, low in zip(folds, lowest, strict=True)):
        raise InputError(
            f"{len(parts)} parts have {len(folds)} folds; give each part the number of its fold, "
            "from 0 (-1 for a defective part that is in none)."
        )
    n_folds = len({fold for part, fold in zip(parts, folds, strict=True) if part.is_good})
    if n_folds < 2:
        raise InputError(
            f"{len(parts)} parts are in {n_folds} fold; at least 2 are needed, so that each fold "
            "has good parts outside of it to learn from."
        )
