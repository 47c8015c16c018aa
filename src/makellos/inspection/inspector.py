"""Inspect parts with a model file: score, p-value, verdict, anomaly map and regions."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from makellos.calibration import Calibration
from makellos.data.parts import Part, Values
from makellos.data.pictures import Picture
from makellos.data.threads import in_order
from makellos.errors import ConfigurationError, InputError, ModelFileError
from makellos.inspection.acceptance import Acceptance
from makellos.inspection.engines import EngineChoice, available_engines
from makellos.inspection.external_runtime import ExternalScoring
from makellos.inspection.findings import UNREADABLE, Inspection, unreadable
from makellos.inspection.judge import Judge
from makellos.inspection.manifest import Manifest
from makellos.inspection.model_file import GRAPH, WEIGHTS, ModelFile, read_model
from makellos.inspection.pictures import PictureLane
from makellos.inspection.recipe import Recipe
from makellos.inspection.recordings import RecordingLane
from makellos.inspection.regions import Region, find_regions
from makellos.inspection.scorer import Scored, Scorer
from makellos.vibration.good_spectra import GOOD_SPECTRA, unpack_spectra
from makellos.vibration.signals import at_speed

__all__ = ["UNREADABLE", "Inspection", "Inspector", "Scored", "Scorer"]

_WINDOWS_TOGETHER = 16
TORCH_PREFIX = "torch/"  # of the weights in a model file that torch scores with


class Inspector:
    """Inspect parts with one model, without PyTorch unless the model's manifest names it.

    `workers` parts are worked on at once (1: all cores serve one part), or as many tiles of one
    part where the model tiles pictures. `engine` overrides the model's own runtime and precision.
    `rpm` is the speed of the shaft in recordings, where it is not that at fit, `acceptance` holds
    rules in place of the model's own. One inspector may be used from several threads.

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
    ) -> None:
        if rpm is not None and not 0 < rpm < math.inf:
            raise ConfigurationError(
                f"The speed is {rpm:g} turns per minute; expected a number above 0."
            )
        self.rpm = rpm
        self.model = model if isinstance(model, ModelFile) else read_model(Path(model))
        self.manifest: Manifest = self.model.manifest
        self.workers = workers
        self.calibration: Calibration = self.manifest.calibration.calibration()
        maps = self.manifest.calibration.map_calibration()
        self.threshold = self.calibration.threshold
        self.map_threshold = self.threshold if maps is None else maps.threshold
        self.zones = self.model.zones()
        self.acceptance = acceptance or self.manifest.acceptance or Acceptance()
        self.acceptance.check([] if self.zones is None else self.zones.record.names)
        judge = Judge(
            self.calibration,
            self.map_threshold,
            self.zones,
            self.acceptance,
            self.manifest.classes,
        )
        self.scorer = self._open(engine, workers)
        self._pictures = PictureLane(self.scorer, judge, self.manifest.zones)
        self._recordings = self._recording_lane(judge, acceptance)

    def _recording_lane(self, judge: Judge, rules: Acceptance | None) -> RecordingLane | None:
        record = self.manifest.signal
        if record is None:
            return None
        if rules is not None:
            raise ConfigurationError("Rules on regions are for pictures; leave them out.")
        at_speed(record.view, self.rpm)  # refuses what the rate cannot follow
        stored = self.model.read(GOOD_SPECTRA) if GOOD_SPECTRA in self.manifest.members else None
        spectra = {} if stored is None else unpack_spectra(stored)
        return RecordingLane(self.scorer, judge, record, self.rpm, spectra)

    @property
    def engine(self) -> EngineChoice:
        """Return the runtime and precision in use."""
        return self.scorer.engine.choice

    @property
    def concurrency(self) -> int:
        """Return how many parts are in work at once in `inspect_many`."""
        one_by_one = self.workers == 1 or self.manifest.tiling is not None
        return 1 if one_by_one else self.workers + 1

    def inspect(
        self, part: Path | str | Picture, *, name: str | None = None, keep: bool = False
    ) -> Inspection:
        """Inspect one file or decoded picture (H×W or H×W×3 RGB, uint8 or uint16).

        A model of signals inspects recordings. A file that cannot be read, and a part that the
        detector gives no finite score, have the verdict ``unreadable`` and its reason; nothing is
        raised for a part, whatever it is. `keep` puts the decoded picture into the inspection.
        Raises `ModelFileError` where the model is at fault.
        """
        if isinstance(part, Path | str):
            return self.inspect_part(_part(part, name), keep=keep)
        label, started = name or "array", time.perf_counter()
        try:
            return self._pictures.inspect(
                Part(source=Values(_checked(part)), name=label), keep=keep
            )
        except ModelFileError:
            raise
        except Exception as error:  # noqa: BLE001 -- as below
            return unreadable(label, started, _reason(error))

    def inspect_part(self, part: Part, *, keep: bool = False) -> Inspection:
        """Inspect one part as `inspect` does, whatever it is read from."""
        started = time.perf_counter()
        try:
            return self._lane.inspect(part, keep=keep)
        except ModelFileError:
            raise
        except Exception as error:  # noqa: BLE001
            # Runtimes and codecs have errors of their own kinds; none may stop other parts.
            return unreadable(part.name, started, _reason(error))

    def window_regions(self, window: Inspection) -> tuple[Region, ...]:
        """Return the regions of a recording's window, in pixels of its picture."""
        if window.anomaly_map is None or window.size is None:
            return ()
        return tuple(find_regions(window.anomaly_map, *window.size, self.map_threshold))

    def inspect_many(
        self, parts: Iterable[Path | str | Part], *, keep: bool = False
    ) -> Iterator[Inspection]:
        """Inspect many files or parts, in their order; decoding runs beside inference.

        An error in one part costs that part alone: it is ``unreadable``.
        """
        listed = (each if isinstance(each, Part) else _part(each) for each in parts)
        if self._lane.batch_size > 1:
            waiting_parts = list(listed)
            together = self._pictures.batches(waiting_parts, keep=keep)
            for part, found in zip(waiting_parts, together, strict=True):
                yield found or self._guarded(part, keep=keep)
            return
        # One thread more than engine streams keeps the engine busy while a file is decoded.
        yield from in_order(partial(self._guarded, keep=keep), listed, threads=self.concurrency)

    @property
    def _lane(self) -> PictureLane | RecordingLane:
        return self._recordings or self._pictures

    def _guarded(self, part: Part, *, keep: bool = False) -> Inspection:
        started = time.perf_counter()
        try:
            return self.inspect_part(part, keep=keep)
        except ModelFileError as error:  # which is a row where many are asked for
            return unreadable(part.name, started, _reason(error))

    def _open(self, engine: EngineChoice | None, workers: int) -> Scorer:
        # Windows' pictures are so small that one would keep no core busy.
        together = _WINDOWS_TOGETHER if self.manifest.signal else 1
        with self.model.unpacked() as folder:
            recipe = Recipe(
                self._graph(folder),
                self.manifest.preprocessing,
                self.manifest.aggregation,
                self.manifest.tiling,
                self.zones,
            )
            released = self.manifest.engine.choice()
            choice = engine or choose_engine(released, recipe.engines())
            return recipe.open(choice, workers=workers, together=together)

    def _graph(self, folder: Path) -> Path | ExternalScoring:
        detector = self.manifest.detector
        if detector.runtime == "graph":
            return folder / GRAPH
        stored = load_file(folder / WEIGHTS) if (folder / WEIGHTS).exists() else {}
        weights = {
            name.removeprefix(TORCH_PREFIX): values
            for name, values in stored.items()
            if name.startswith(TORCH_PREFIX)
        }
        return ExternalScoring(detector.name, detector.parameters, weights)


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


def _part(path: Path | str, name: str | None = None) -> Part:
    return Part(source=Path(path), name=name or str(path))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _checked(picture: Picture) -> Picture:
    array = np.asarray(picture)
    shape_ok = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if not shape_ok or array.size == 0 or array.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"A picture is H×W or H×W×3 (RGB) of uint8 or uint16; received {array.dtype} of shape "
            f"{array.shape}."
        )
    return np.ascontiguousarray(array)
