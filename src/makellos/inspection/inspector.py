"""Inspect parts with a model file: score, p-value, verdict, anomaly map and regions."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from makellos.calibration import Calibration
from makellos.data.pictures import Picture, read_picture
from makellos.errors import ConfigurationError, InputError
from makellos.inspection.acceptance import (
    Acceptance,
    ZoneFinding,
    find_zone_regions,
    find_zones,
)
from makellos.inspection.engines import Engine, EngineChoice, available_engines, open_engine
from makellos.inspection.external_runtime import external_engines, open_external_engine
from makellos.inspection.manifest import Manifest
from makellos.inspection.model_file import GRAPH, WEIGHTS, ModelFile, read_model
from makellos.inspection.recordings import (
    RecordingFinding,
    fault_of,
    judge_windows,
    seen_in_batches,
)
from makellos.inspection.regions import Region, find_regions
from makellos.inspection.scorer import Scored, Scorer
from makellos.vibration.good_spectra import GOOD_SPECTRA, unpack_spectra
from makellos.vibration.signals import at_speed, read_windows
from makellos.vibration.windows import Piece

__all__ = ["UNREADABLE", "Inspection", "Inspector", "Scored", "Scorer"]

UNREADABLE = "unreadable"
_WINDOWS_TOGETHER = 16  # their pictures are so small that one would keep no core busy
TORCH_PREFIX = "torch/"  # of the weights in a model file that torch scores with


@dataclass(frozen=True, eq=False)
class Inspection:
    """Hold what was found on one part.

    `verdict` is ``ok``, ``look_again``, ``reject`` or ``unreadable`` (then `error` says why and the
    figures are None). `anomaly_map` is h×w float32 on the detector's own grid, `reconstruction`
    C×H×W float32 in [0, 1] the nearest good part that a reconstructing detector can make. `size` is
    the height and width of the picture, `regions` are in its pixels. `probabilities` are those of
    a classifier's classes by name, good first. A recording's verdict joins those of its windows,
    which `recording` holds; theirs have no regions, which `window_regions` finds in their maps.
    `zones` are what each zone says, where the model has such: score and map are then in units of
    the zones' thresholds. `broken_rules` are those of the model's rules that regions break, and
    `calibrated_verdict` is the verdict without rules; None where there are none.
    """

    input: str
    verdict: str
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    regions: tuple[Region, ...] = ()
    milliseconds: float = 0.0
    error: str | None = None
    size: tuple[int, int] | None = None
    anomaly_map: NDArray[np.float32] | None = field(default=None, repr=False)
    reconstruction: NDArray[np.float32] | None = field(default=None, repr=False)
    probabilities: dict[str, float] = field(default_factory=dict)
    recording: RecordingFinding | None = field(default=None, repr=False)
    zones: tuple[ZoneFinding, ...] = ()
    calibrated_verdict: str | None = None
    broken_rules: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return the row that `makellos inspect` writes, as plain data.

        It has ``probabilities`` where the model is a classifier; a recording's has ``n_windows``,
        ``share_rejected``, ``fault``, ``finding`` and ``notes``. With zones it has ``zones``, with
        rules ``calibrated_verdict`` and ``broken_rules``.
        """
        row: dict[str, Any] = {
            "input": self.input,
            "verdict": self.verdict,
            "score": self.score,
            "p_value": self.p_value,
            "threshold": self.threshold,
            "regions": [region.row() for region in self.regions],
            "milliseconds": round(self.milliseconds, 3),
            "error": self.error,
        }
        if self.probabilities:
            row["probabilities"] = {k: round(v, 6) for k, v in self.probabilities.items()}
        if self.recording is not None:
            row.update(self.recording.row())
        if self.zones:
            row["zones"] = [zone.row() for zone in self.zones]
        if self.calibrated_verdict is not None:
            row["calibrated_verdict"] = self.calibrated_verdict
            row["broken_rules"] = list(self.broken_rules)
        return row


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
        model: Path | str,
        *,
        workers: int = 1,
        engine: EngineChoice | None = None,
        rpm: float | None = None,
        acceptance: Acceptance | None = None,
    ) -> None:
        if rpm is not None and not 0 < rpm < math.inf:
            raise ConfigurationError(
                f"The speed is {rpm:g} turns per minute; accepted are numbers above 0."
            )
        self.rpm = rpm
        self.model: ModelFile = read_model(Path(model))
        self.manifest: Manifest = self.model.manifest
        if rpm is not None and self.manifest.signal is not None:
            at_speed(self.manifest.signal.view, rpm)  # refuses what the rate cannot follow
        self.workers = workers
        self.calibration: Calibration = self.manifest.calibration.calibration()
        maps = self.manifest.calibration.map_calibration()
        self.threshold = self.calibration.threshold
        self.map_threshold = self.threshold if maps is None else maps.threshold
        if acceptance is not None and self.manifest.signal is not None:
            raise ConfigurationError("Rules on regions are for pictures; leave them out.")
        self.zones = self.model.zones()
        self.acceptance = acceptance or self.manifest.acceptance or Acceptance()
        self.acceptance.check([] if self.zones is None else self.zones.record.names)
        opened = self._open(engine, workers)
        self._batch_size = opened.batch_size
        self.scorer = Scorer(
            opened,
            self.manifest.preprocessing,
            self.manifest.aggregation,
            tiling=self.manifest.tiling,
            zones=self.zones,
            workers=workers,
        )
        self._good_spectra = (
            unpack_spectra(self.model.read(GOOD_SPECTRA))
            if GOOD_SPECTRA in self.manifest.members
            else {}
        )

    @property
    def engine(self) -> EngineChoice:
        """Return the runtime and precision in use."""
        return self.scorer.engine.choice

    @property
    def concurrency(self) -> int:
        """Return how many parts are in work at once in `inspect_many`."""
        one_by_one = self.workers == 1 or self.manifest.tiling is not None
        return 1 if one_by_one else self.workers + 1

    def inspect(self, part: Path | str | Picture, *, name: str | None = None) -> Inspection:
        """Inspect one picture file or decoded picture (H×W or H×W×3 RGB, uint8 or uint16).

        A model of signals inspects recordings, as `inspect_recording` does. A file that cannot be
        read, and a part that the detector gives no finite score, have the verdict ``unreadable``
        and its reason; nothing is raised for them.
        """
        started = time.perf_counter()
        label = name or (str(part) if isinstance(part, Path | str) else "array")
        if self.manifest.signal is not None and isinstance(part, Path | str):
            return self.inspect_recording(Path(part), name=label)
        try:
            picture = read_picture(Path(part)) if isinstance(part, Path | str) else _checked(part)
            if self.manifest.zones is not None:
                self.manifest.zones.check_size(label, (picture.shape[0], picture.shape[1]))
            scored = self.scorer(picture)
        except InputError as error:
            return _unreadable(label, started, str(error))
        return self._judge(label, picture, scored, started)

    def inspect_recording(
        self,
        path: Path,
        *,
        name: str | None = None,
        piece: Piece | None = None,
        rpm: float | None = None,
    ) -> Inspection:
        """Inspect a recording, or a piece of it, with a model of signals.

        `rpm` is the speed of the shaft where it is not that at fit. What no verdict can rest on
        makes the recording ``unreadable``. Raises `ConfigurationError` for a model of pictures.
        """
        started, label = time.perf_counter(), name or str(path)
        record, rpm = self.manifest.signal, self.rpm if rpm is None else rpm
        if record is None:
            raise ConfigurationError(
                f"{self.model.path} is a model of pictures, and {label} a recording. Fit a model "
                "on recordings."
            )
        try:
            view = at_speed(record.view, rpm)
            windows = read_windows(path, record.view, piece)
        except (ConfigurationError, InputError) as error:
            return _unreadable(label, started, str(error))
        found: list[Inspection] = []
        begun = time.perf_counter()
        for seen in seen_in_batches(view, windows):
            scored = self.scorer.many(seen)
            spent = (time.perf_counter() - begun) / len(seen)
            for picture, each in zip(seen, scored, strict=True):
                begun = time.perf_counter() - spent
                found.append(self._judge(label, picture, each, begun, outlined=False))
            begun = time.perf_counter()
        broken = [each for each in found if each.score is None]
        if broken:
            return _unreadable(label, started, str(broken[0].error))
        scores = [float(each.score) for each in found if each.score is not None]
        verdicts = [each.verdict for each in found]
        score, p_value, verdict = judge_windows(scores, verdicts, self.calibration, record)
        return Inspection(
            input=label,
            verdict=verdict,
            score=score,
            p_value=p_value,
            threshold=self.threshold,
            milliseconds=(time.perf_counter() - started) * 1e3,
            recording=RecordingFinding(
                windows=tuple(found),
                starts=tuple((windows.starts / record.view.rate).tolist()),
                share_rejected=verdicts.count("reject") / len(verdicts),
                notes=tuple(windows.notes),
                faults={}
                if verdict == "ok"
                else fault_of(windows, record.view, rpm, self._good_spectra),
            ),
        )

    def window_regions(self, window: Inspection) -> tuple[Region, ...]:
        """Return the regions of a recording's window, in pixels of its picture."""
        if window.anomaly_map is None or window.size is None:
            return ()
        return tuple(find_regions(window.anomaly_map, *window.size, self.map_threshold))

    def inspect_many(self, parts: Iterable[Path | str]) -> Iterator[Inspection]:
        """Inspect many files, in their order; decoding runs beside inference.

        An error in one part costs that part alone: it is ``unreadable``.
        """
        alone = self.manifest.tiling is not None or self.manifest.zones is not None
        if self._batch_size > 1 and self.manifest.signal is None and not alone:
            yield from self._inspect_batches(parts, self._batch_size)
            return
        if self.concurrency == 1:
            yield from (self._guarded(part) for part in parts)
            return
        # One thread more than engine streams keeps the engine busy while a file is decoded.
        with ThreadPoolExecutor(self.concurrency) as pool:
            waiting: deque[Future[Inspection]] = deque()
            for part in parts:
                waiting.append(pool.submit(self._guarded, part))
                if len(waiting) > 2 * self.workers + 2:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _open(self, engine: EngineChoice | None, workers: int) -> Engine:
        detector, shape = self.manifest.detector, self.manifest.preprocessing.shape
        released = self.manifest.engine.choice()
        with self.model.unpacked() as folder:
            if detector.runtime == "graph":
                choice = engine or choose_engine(released)
                together = 1 if self.manifest.signal is None else _WINDOWS_TOGETHER
                return open_engine(
                    folder / GRAPH, choice, shape=shape, workers=workers, together=together
                )
            choice = engine or choose_engine(released, external_engines(detector.name))
            stored = load_file(folder / WEIGHTS) if (folder / WEIGHTS).exists() else {}
            weights = {
                name.removeprefix(TORCH_PREFIX): values
                for name, values in stored.items()
                if name.startswith(TORCH_PREFIX)
            }
            return open_external_engine(detector.name, detector.parameters, weights, shape, choice)

    def _judge(
        self,
        label: str,
        picture: Picture,
        scored: Scored,
        started: float,
        *,
        outlined: bool = True,
    ) -> Inspection:
        score, anomaly_map, reconstruction, probabilities, looked = scored
        if not math.isfinite(score):
            reason = (
                f"{label} has the score {score:g}, which no verdict rests on. Look at the part."
            )
            return _unreadable(label, started, reason)
        regions: tuple[Region, ...] = ()
        if anomaly_map is not None and outlined:
            height, width = picture.shape[:2]
            found = find_zone_regions(anomaly_map, height, width, self.map_threshold, self.zones)
            regions = self.acceptance.measure(found)
        calibrated, broken = self.calibration.verdict(score), self.acceptance.broken(regions)
        return Inspection(
            input=label,
            verdict=self.acceptance.verdict(calibrated, broken),
            score=score,
            p_value=self.calibration.p_value(score),
            threshold=self.threshold,
            regions=regions,
            milliseconds=(time.perf_counter() - started) * 1e3,
            size=(picture.shape[0], picture.shape[1]) if picture.ndim > 1 else None,
            anomaly_map=anomaly_map,
            reconstruction=reconstruction,
            probabilities={}
            if probabilities is None
            else dict(zip(self.manifest.classes, map(float, probabilities), strict=True)),
            zones=() if looked is None else find_zones(looked, self.zones, self.calibration),
            calibrated_verdict=calibrated if self.acceptance.rules else None,
            broken_rules=broken,
        )

    def _inspect_batches(self, parts: Iterable[Path | str], size: int) -> Iterator[Inspection]:
        """Inspect batches, whose time is shared out equally; what fails together is tried alone."""
        waiting = list(parts)
        for start in range(0, len(waiting), size):
            batch = waiting[start : start + size]
            begun = time.perf_counter()
            pictures: dict[int, Picture] = {}
            for i, part in enumerate(batch):
                with suppress(Exception):
                    pictures[i] = read_picture(Path(part))
            try:
                found = dict(zip(pictures, self.scorer.many(list(pictures.values())), strict=True))
            except Exception:  # noqa: BLE001 -- one part may spoil a batch, and must not
                found = {}
            spent = (time.perf_counter() - begun) / max(1, len(found))
            for i, part in enumerate(batch):
                if i in found:
                    started = time.perf_counter() - spent
                    yield self._judge(str(part), pictures[i], found[i], started)
                else:
                    yield self._guarded(part)

    def _guarded(self, part: Path | str) -> Inspection:
        started = time.perf_counter()
        try:
            return self.inspect(part)
        except Exception as error:  # noqa: BLE001
            # Runtimes and codecs have errors of their own kinds; none may stop the other parts.
            return _unreadable(str(part), started, f"{type(error).__name__}: {error}")


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


def _unreadable(name: str, started: float, reason: str) -> Inspection:
    spent = (time.perf_counter() - started) * 1e3
    return Inspection(name, UNREADABLE, milliseconds=spent, error=reason)


def _checked(picture: Picture) -> Picture:
    array = np.asarray(picture)
    shape_ok = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if not shape_ok or array.size == 0 or array.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"A picture is H×W or H×W×3 (RGB) of uint8 or uint16; received {array.dtype} of shape "
            f"{array.shape}."
        )
    return np.ascontiguousarray(array)
