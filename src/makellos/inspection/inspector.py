"""Inspect parts with a model file: score, p-value, verdict, anomaly map and regions."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.calibration import Calibration
from makellos.data.pictures import Picture, read_picture
from makellos.errors import InputError, MissingRuntimeError, ModelFileError
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.engines import Engine, EngineChoice, available_engines, open_engine
from makellos.inspection.manifest import Manifest
from makellos.inspection.model_file import GRAPH, ModelFile, read_model
from makellos.inspection.preprocessing import Preprocessing
from makellos.inspection.regions import Region, find_regions

__all__ = ["UNREADABLE", "Inspection", "Inspector", "Scorer"]

UNREADABLE = "unreadable"


@dataclass(frozen=True, eq=False)
class Inspection:
    """Hold what was found on one part.

    `verdict` is ``ok``, ``look_again``, ``reject`` or ``unreadable`` (then `error` says why and the
    figures are None). `anomaly_map` is h×w float32 on the detector's own grid, `size` the height
    and width of the picture, `regions` are in its pixels.
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
    outputs: dict[str, list[float]] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the row that `makellos inspect` writes, as plain data."""
        return {
            "input": self.input,
            "verdict": self.verdict,
            "score": self.score,
            "p_value": self.p_value,
            "threshold": self.threshold,
            "regions": [asdict(region) for region in self.regions],
            "milliseconds": round(self.milliseconds, 3),
            "error": self.error,
        }


class Scorer:
    """Turn pictures into scores and anomaly maps: pre-processing, graph, aggregation."""

    def __init__(
        self, engine: Engine, preprocessing: Preprocessing, aggregation: Aggregation
    ) -> None:
        self.engine = engine
        self.preprocessing = preprocessing
        self.aggregation = aggregation

    def __call__(self, picture: Picture) -> tuple[float, NDArray[np.float32] | None]:
        """Return the score of a picture, and its map h×w where the detector makes one.

        Raises `ModelFileError` when the graph gives neither a map 1×h×w nor one score.
        """
        outputs = self.engine.run(self.preprocessing(picture))
        maps, scores = outputs.get("anomaly_map"), outputs.get("score")
        if maps is not None and maps.ndim == 3 and len(maps) == 1 and maps.size:
            return self.aggregation(maps[0]), maps[0]
        if maps is None and scores is not None and scores.size == 1:
            return float(scores.reshape(-1)[0]), None
        shapes = {name: values.shape for name, values in outputs.items()}
        raise ModelFileError(
            f"The graph gives {shapes} for one picture; needed is anomaly_map (1, h, w), or one "
            "score. Fit the model again."
        )


class Inspector:
    """Inspect parts with one model, without PyTorch.

    `workers` parts are worked on at once (1: all cores serve one part). `engine` overrides the
    model's own runtime and precision. One inspector may be used from several threads.

    Raises `ModelFileError` for a model that cannot be trusted, `MissingRuntimeError` for one whose
    runtime is not installed, `ConfigurationError` for fewer than 1 worker.
    """

    def __init__(
        self, model: Path | str, *, workers: int = 1, engine: EngineChoice | None = None
    ) -> None:
        self.model: ModelFile = read_model(Path(model))
        self.manifest: Manifest = self.model.manifest
        if self.manifest.detector.runtime != "graph":
            raise MissingRuntimeError(
                f"{model} is inspected by {self.manifest.detector.runtime}, which this version "
                "cannot load. Update makellos and install makellos[train]."
            )
        self.workers = workers
        self.calibration: Calibration = self.manifest.calibration.calibration()
        maps = self.manifest.calibration.map_calibration()
        self.threshold = self.calibration.threshold
        self.map_threshold = self.threshold if maps is None else maps.threshold
        choice = engine or choose_engine(self.manifest.engine.choice())
        with self.model.unpacked() as folder:
            opened = open_engine(
                folder / GRAPH, choice, shape=self.manifest.preprocessing.shape, workers=workers
            )
        self.scorer = Scorer(opened, self.manifest.preprocessing, self.manifest.aggregation)

    @property
    def engine(self) -> EngineChoice:
        """Return the runtime and precision in use."""
        return self.scorer.engine.choice

    @property
    def concurrency(self) -> int:
        """Return how many parts are in work at once in `inspect_many`."""
        return 1 if self.workers == 1 else self.workers + 1

    def inspect(self, part: Path | str | Picture, *, name: str | None = None) -> Inspection:
        """Inspect one picture file or decoded picture (H×W or H×W×3 RGB, uint8 or uint16).

        A file that cannot be read, and a part that the detector gives no finite score, have the
        verdict ``unreadable`` and its reason; nothing is raised for them.
        """
        started = time.perf_counter()
        label = name or (str(part) if isinstance(part, Path | str) else "array")
        try:
            picture = read_picture(Path(part)) if isinstance(part, Path | str) else _checked(part)
        except InputError as error:
            return _unreadable(label, started, str(error))
        score, anomaly_map = self.scorer(picture)
        if not math.isfinite(score):
            reason = (
                f"{label} has the score {score:g}, which no verdict rests on. Look at the part."
            )
            return _unreadable(label, started, reason)
        height, width = picture.shape[:2]
        regions: tuple[Region, ...] = ()
        if anomaly_map is not None:
            regions = tuple(find_regions(anomaly_map, height, width, self.map_threshold))
        return Inspection(
            input=label,
            verdict=self.calibration.verdict(score),
            score=score,
            p_value=self.calibration.p_value(score),
            threshold=self.threshold,
            regions=regions,
            milliseconds=(time.perf_counter() - started) * 1e3,
            size=(height, width),
            anomaly_map=anomaly_map,
        )

    def inspect_many(self, parts: Iterable[Path | str]) -> Iterator[Inspection]:
        """Inspect many files, in their order; decoding runs beside inference.

        An error in one part costs that part alone: it is ``unreadable``.
        """
        if self.workers == 1:
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

    def _guarded(self, part: Path | str) -> Inspection:
        started = time.perf_counter()
        try:
            return self.inspect(part)
        except Exception as error:  # noqa: BLE001
            # Runtimes and codecs have errors of their own kinds; none may stop the other parts.
            return _unreadable(str(part), started, f"{type(error).__name__}: {error}")


def choose_engine(released: EngineChoice) -> EngineChoice:
    """Return the engine a model was released with, or the closest that this machine has.

    A model released with bf16 runs in f32 where the processor has no bf16: its golden parts had
    the same verdicts in both.
    """
    available = available_engines()
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
