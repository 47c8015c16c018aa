"""What a kind of data can do, for whoever works with parts of any kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import FileKind, Part, PartSet
from makellos.data.progress import Progress, no_progress
from makellos.inspection import Inspection, Inspector
from makellos.inspection.manifest import Manifest

if TYPE_CHECKING:
    from makellos.data.checks import DataCheck
    from makellos.detectors import Detector
    from makellos.models.coverage import Coverage
    from makellos.models.partition import Partition, PartitionRequest
    from makellos.vibration.recording_checks import RecordingsCheck
    from makellos.vibration.signals import SignalSettings

__all__ = ["WINDOW", "Calibrating", "Gathered", "Subject"]

WINDOW = ("input", "start_s", "end_s", "verdict", "score", "p_value", "threshold", "regions")


@dataclass
class Gathered:
    """Collect what an evaluation says of whole files where these hold many parts.

    `entries` by name: label, verdict, p-value, windows, and the fault that fits. `panels` are names
    and WebP pictures, where it `draws`. `rows` are those of files, `windows` those of their
    windows, each with the part that it belongs to, where such are wanted.
    """

    draws: bool
    rows: list[tuple[Part, dict[str, Any]]] | None = None
    windows: list[tuple[Part, dict[str, Any]]] | None = None
    entries: dict[str, Any] = field(default_factory=dict)
    panels: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass(frozen=True)
class Calibrating:
    """Hold parts that calibrate anew: as they were given, and as they count in a partition.

    There are none of files that cannot be used; `broken` says what is wrong with these.
    """

    parts: list[Part]
    partition: Partition
    broken: list[str] = field(default_factory=list)


class Subject(ABC):
    """Do what depends on the kind of data: find, check, divide, inspect and draw parts."""

    kind: ClassVar[FileKind]
    columns: ClassVar[tuple[str, ...]] = ()  # of a row, beside those of every part
    has_windows: ClassVar[bool] = False  # a file holds many parts, with rows of their own

    @abstractmethod
    def check(
        self, parts: PartSet, *, progress: Progress = no_progress
    ) -> DataCheck | RecordingsCheck:
        """Say what a set holds and what is wrong with it."""

    @abstractmethod
    def check_options(
        self,
        parts: PartSet,
        signal: SignalSettings | None,
        coverage: Coverage,
        white_level: int | None,
    ) -> None:
        """Raise `ConfigurationError` for options of a fit that are for another kind of data."""

    @abstractmethod
    def partition(self, parts: PartSet, request: PartitionRequest, progress: Progress) -> Partition:
        """Return the parts that are learned from, and those that calibrate.

        Raises `InputError` for parts that cannot be used, `ConfigurationError` for a detector that
        does not learn from this kind of data.
        """

    def sized(self, detector: Detector, partition: Partition) -> Detector:
        """Return the detector at the input size that suits the parts."""
        del partition
        return detector

    @abstractmethod
    def counted(self, manifest: Manifest) -> str:
        """Return what the calibration of a model counts: parts, groups, recordings or windows."""

    @abstractmethod
    def workers(self, manifest: Manifest, n_parts: int) -> int:
        """Return how many of `n_parts` parts, or tiles of one, are worked on at once."""

    @abstractmethod
    def tested(
        self, inspector: Inspector, parts: Sequence[Part], gathered: Gathered, progress: Progress
    ) -> Iterator[tuple[Part, Inspection]]:
        """Yield what is tested, parts or windows of them, with inspections that keep pictures."""

    @abstractmethod
    def calibrating(
        self, inspector: Inspector, parts: Sequence[Part], progress: Progress
    ) -> Calibrating:
        """Return how good parts count that calibrate a model anew; those broken are set aside."""

    @abstractmethod
    def draw(self, inspector: Inspector, inspection: Inspection) -> NDArray[np.uint8]:
        """Return the picture H×W×3 of a finding whose inspection keeps what was judged."""

    def window_rows(self, inspector: Inspector, inspection: Inspection) -> list[dict[str, Any]]:
        """Return a row for each window of a file, with the columns `WINDOW`."""
        del inspector, inspection
        return []
