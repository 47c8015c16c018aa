"""Inspect parts with a model file: score, p-value, verdict, anomaly map and regions."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from makellos.calibration import Calibration
from makellos.data.given import GivenPicture, part_of, several
from makellos.data.parts import Part
from makellos.data.threads import in_order
from makellos.errors import ConfigurationError, InputError, ModelFileError
from makellos.inspection.acceptance import Acceptance
from makellos.inspection.engines import EngineChoice, available_engines, usable_here
from makellos.inspection.findings import UNREADABLE, Inspection, unreadable
from makellos.inspection.judge import Judge
from makellos.inspection.manifest import Manifest
from makellos.inspection.model_file import ModelFile, read_model
from makellos.inspection.opening import recipe_of
from makellos.inspection.pictures import PictureLane
from makellos.inspection.regions import Region, find_regions
from makellos.inspection.scorer import Scored, Scorer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from makellos.inspection.recordings import RecordingLane

    Given = Path | str | NDArray[Any] | bytes | Image | Part

__all__ = ["UNREADABLE", "Inspection", "Inspector", "Scored", "Scorer"]

_WINDOWS_TOGETHER = 16


class Inspector:
    """Inspect parts with one model, without PyTorch unless the model's manifest names it.

    `workers` parts are worked on at once (1: all cores serve one part), or as many tiles of one
    part if the model tiles pictures. `engine` overrides the model's own runtime and precision.
    `rpm` is the speed of the shaft in recordings, if it differs from that at fit; `acceptance`
    holds rules to use instead of the model's. With `statistics` the findings of pictures have those
    that a `DriftMonitor` takes. One inspector can be used from several threads.

    A forked process reopens the model with ONNX Runtime when it first inspects, because OpenVINO
    does not work there. A pickled inspector reopens its model by path, and refuses another model in
    its place.

    Raises `ModelFileError` for a model that cannot be trusted, `MissingRuntimeError` for one whose
    runtime is not installed, `ConfigurationError` for fewer than 1 worker.
    """

    def __init__(
        self,
        model: Path | str | ModelFile,
        *,
        workers: int = 1,
        engine: EngineChoice | None = None,
        rpm: float | None = None,
        acceptance: Acceptance | None = None,
        statistics: bool = False,
    ) -> None:
        if rpm is not None and not 0 < rpm < math.inf:
            raise ConfigurationError(f"The speed is {rpm:g} rpm; expected a number above 0.")
        _check_asked(workers, engine)
        self.rpm = rpm
        self.model = model if isinstance(model, ModelFile) else read_model(Path(model))
        self.manifest: Manifest = self.model.manifest
        self.workers = workers
        self.statistics = statistics
        self.calibration: Calibration = self.manifest.calibration.calibration()
        maps = self.manifest.calibration.map_calibration()
        self.threshold = self.calibration.threshold
        self.map_threshold = self.threshold if maps is None else maps.threshold
        self.zones = self.model.zones()
        self.acceptance = acceptance or self.manifest.acceptance or Acceptance()
        self.acceptance.check([] if self.zones is None else self.zones.record.names)
        self._asked = (workers, engine, rpm, acceptance, statistics)
        self._judge = Judge(
            self.calibration,
            self.map_threshold,
            self.zones,
            self.acceptance,
            self.manifest.classes,
            self.manifest.background,
            self.manifest.calibration.beside_calibration(),
            self.manifest.map_name,
        )
        self._opened = self._open()

    def __reduce__(self) -> tuple[Callable[..., Inspector], tuple[Any, ...]]:
        """Return what a pickle holds: where the model lies, what it says, how it was opened."""
        path = self.model.path.absolute()
        return _opened_again, (type(self), path, _fingerprint(self.model), *self._asked)

    def _recording_lane(self, scorer: Scorer) -> RecordingLane | None:
        record = self.manifest.signal
        if record is None:
            return None
        # Who inspects pictures does not wait for what reads and judges recordings.
        from makellos.inspection.recordings import RecordingLane
        from makellos.vibration.signals import at_speed

        if self._asked[3] is not None:
            raise ConfigurationError("Rules about regions apply to pictures only; leave them out.")
        at_speed(record.view, self.rpm)  # refuses what the rate cannot follow
        spectra = self.model.good_spectra()
        return RecordingLane(scorer, self._judge, record, self.rpm, spectra)

    @property
    def scorer(self) -> Scorer:
        """Return what scores parts."""
        return self._here().scorer

    @property
    def engine(self) -> EngineChoice:
        """Return the runtime and precision in use."""
        return self.scorer.engine.choice

    @property
    def reconstructs(self) -> bool:
        """Tell whether the detector gives the nearest good part that it can make."""
        return self.scorer.engine.reconstructs

    @property
    def concurrency(self) -> int:
        """Return how many parts are in work at once in `inspect_many`."""
        one_by_one = self.workers == 1 or self.manifest.tiling is not None
        return 1 if one_by_one else self.workers + 1

    def inspect(
        self,
        part: Given,
        *,
        name: str | None = None,
        reference: Given | None = None,
        keep: bool = False,
    ) -> Inspection:
        """Inspect one file, or a picture in memory.

        In memory it is an array H×W, H×W×1, H×W×3 (RGB) or H×W×4 (RGBA) of uint8, uint16 or floats
        in [0, 1], the bytes of a picture file, a file open for reading bytes, or a
        picture of PIL. Transparency is dropped: the
        colours count as they are stored. A model of signals inspects files of recordings. The
        `reference`, of the same kinds, is what a model needs that compares parts with such.

        What cannot be read, and a part that the detector gives no finite score, have the verdict
        ``unreadable`` and its reason; nothing is raised for a part, whatever it is. `keep` puts the
        decoded picture into the inspection. Raises `ModelFileError` where the model is at fault.
        """
        given = self._part(part, name)
        if reference is not None:
            own = self._part(reference, unnamed="the reference")
            given = replace(given, reference=own.source)
        return self.inspect_part(given, keep=keep)

    def inspect_part(self, part: Part, *, keep: bool = False) -> Inspection:
        """Inspect one part as `inspect` does, whatever it is read from."""
        return self._guarded(part, keep=keep, of_model=ModelFileError)

    def window_regions(self, window: Inspection) -> tuple[Region, ...]:
        """Return the regions of a recording's window, in pixels of its picture."""
        if window.anomaly_map is None or window.size is None:
            return ()
        return tuple(find_regions(window.anomaly_map, *window.size, self.map_threshold))

    def inspect_many(
        self, parts: Given | Iterable[Given], *, keep: bool = False
    ) -> Iterator[Inspection]:
        """Inspect many files, parts or pictures as `inspect` does; decoding runs beside inference.

        They are taken as they are needed, and come in their order. One alone is one, not many.
        An error in one part costs that part alone: it is ``unreadable``.
        """
        listed = (
            self._part(each, unnamed=f"array {number}")
            for number, each in enumerate(several(parts))
        )
        lane = self._here().lane
        if isinstance(lane, PictureLane) and lane.batch_size > 1:
            while batch := list(islice(listed, lane.batch_size)):
                for part, found in zip(batch, lane.batch(batch, keep=keep), strict=True):
                    yield found or self._guarded(part, keep=keep)
            return
        # One thread more than engine streams keeps the engine busy while a file is decoded.
        yield from in_order(partial(self._guarded, keep=keep), listed, threads=self.concurrency)

    def _part(self, given: Given, name: str | None = None, *, unnamed: str = "array") -> Part:
        white = self.manifest.preprocessing.white_level
        return part_of(given, name, unnamed=unnamed, white=white)

    def _guarded(
        self, part: Part, *, keep: bool = False, of_model: type[Exception] | tuple[()] = ()
    ) -> Inspection:
        """Inspect one part; raise what is `of_model`, and no fault of the part."""
        opened, started = self._here(), time.perf_counter()
        lane = opened.pictures if isinstance(part.source, GivenPicture) else opened.lane
        try:
            return lane.inspect(part, keep=keep)
        except of_model:
            raise
        except Exception as error:  # noqa: BLE001
            # Runtimes and codecs have errors of their own kinds; none may stop the other parts.
            return unreadable(part.name, started, _reason(error))

    def _here(self) -> _Opened:
        """Return what was opened in this process, which may have been forked since."""
        if self._opened.process != os.getpid():
            with _opening:
                if self._opened.process != os.getpid():
                    self._opened = self._open()
        return self._opened

    def _open(self) -> _Opened:
        workers, engine, *_ = self._asked
        # Windows' pictures are so small that one would keep no core busy.
        together = _WINDOWS_TOGETHER if self.manifest.signal else 1
        with recipe_of(self.model) as recipe:
            released = self.manifest.engine.choice()
            choice = usable_here(engine) if engine else choose_engine(released, recipe.engines())
            scorer = recipe.open(choice, workers=workers, together=together)
        learned = self.manifest.training.pictures
        pictures = PictureLane(scorer, self._judge, self.manifest.zones, learned, self._asked[-1])
        return _Opened(os.getpid(), scorer, pictures, self._recording_lane(scorer))


def choose_engine(
    released: EngineChoice, available: Sequence[EngineChoice] | None = None
) -> EngineChoice:
    """Return the engine a model was released with, or the closest of those that are available.

    A model released with bf16 runs in f32 where the processor has no bf16: its golden parts had
    the same verdicts in both.
    """
    available = available_engines() if available is None else available
    if released in available:
        return released
    exact = [choice for choice in available if choice.precision == "f32"]
    return exact[0] if exact else available[0]


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


class _Opened(NamedTuple):
    """Hold what scores and judges parts, and the process that it works in."""

    process: int
    scorer: Scorer
    pictures: PictureLane
    recordings: RecordingLane | None

    @property
    def lane(self) -> PictureLane | RecordingLane:
        return self.recordings or self.pictures


_opening = threading.Lock()


def _forked() -> None:
    global _opening  # noqa: PLW0603  (another thread may have held it)
    _opening = threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_forked)


def _fingerprint(model: ModelFile) -> str:
    """Return what tells a model from others: its manifest has the hash of all that is in it."""
    return hashlib.sha256(model.manifest.without_verification().encode()).hexdigest()


def _check_asked(workers: object, engine: object) -> None:
    if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
        raise ConfigurationError(
            f"The number of workers is {workers!r}; expected a whole number, at least 1."
        )
    if engine is not None and not isinstance(engine, EngineChoice):
        known = ", ".join(
            f"EngineChoice({e.runtime!r}, {e.precision!r})" for e in available_engines()
        )
        raise ConfigurationError(
            f"The engine is {engine!r}; expected None, for the one that the model was released "
            f"with, or one of {known}, from makellos.inspection.engines."
        )


def _opened_again(
    kind: type[Inspector],
    path: Path,
    fingerprint: str,
    workers: int,
    engine: EngineChoice | None,
    rpm: float | None,
    acceptance: Acceptance | None,
    statistics: bool,
) -> Inspector:
    """Return the inspector that was pickled; raise `ModelFileError` where its model is gone."""
    model = read_model(path)
    if _fingerprint(model) != fingerprint:
        raise ModelFileError(
            f"{path} is not the model that the pickled inspector had. Open the new one with "
            "makellos.Inspector, or put the old one back."
        )
    return kind(
        model, workers=workers, engine=engine, rpm=rpm, acceptance=acceptance, statistics=statistics
    )
