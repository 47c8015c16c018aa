"""Pictures of parts: how they are divided, inspected and drawn.

What only a fit needs is imported when it is asked for: an inspection starts without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import PICTURES, Part, PartSet
from makellos.data.progress import Progress, no_progress
from makellos.errors import ConfigurationError, InputError
from makellos.inspection import Inspection, Inspector
from makellos.inspection.engines import default_workers
from makellos.inspection.manifest import Manifest
from makellos.subjects.subject import Calibrating, Gathered, Subject

if TYPE_CHECKING:
    from makellos.data.checks import DataCheck
    from makellos.models.coverage import Coverage
    from makellos.models.partition import Partition, PartitionRequest
    from makellos.vibration.signals import SignalSettings

__all__ = ["PictureSubject"]


class PictureSubject(Subject):
    """Pictures, each of which is a part."""

    kind = PICTURES
    columns = ("notes",)

    def check(self, parts: PartSet, *, progress: Progress = no_progress) -> DataCheck:
        from makellos.data.checks import check_parts

        return check_parts(parts, progress=progress)

    def check_options(
        self,
        parts: PartSet,
        signal: SignalSettings | None,
        coverage: Coverage,
        white_level: int | None,
    ) -> None:
        from makellos.vibration.signals import SignalSettings

        del coverage, white_level
        if signal not in (None, SignalSettings()):
            raise ConfigurationError(
                f"{parts.root} holds pictures, but --rate, --channel, --window, --hop, --view, "
                "--bearing and --rpm are for vibration recordings. Leave them out."
            )

    def partition(self, parts: PartSet, request: PartitionRequest, progress: Progress) -> Partition:
        detector = request.detector
        if detector.takes != "pictures":
            raise ConfigurationError(
                f"{parts.root} holds pictures, but {detector.name} and the signal options "
                "(--rate, --channel, --window, --hop, --view, --bearing, --rpm) are for vibration "
                "recordings."
            )
        from makellos.subjects.learned_pictures import partition_pictures

        return partition_pictures(parts, request, progress)

    def counted(self, manifest: Manifest) -> str:
        return "parts" if manifest.calibration.groups is None else "groups"

    def workers(self, manifest: Manifest, n_parts: int) -> int:
        # The tiles of one part are enough for all workers.
        return default_workers() if manifest.tiling else min(default_workers(), n_parts)

    def tested(
        self, inspector: Inspector, parts: Sequence[Part], gathered: Gathered, progress: Progress
    ) -> Iterator[tuple[Part, Inspection]]:
        inspections = inspector.inspect_many(parts, keep=gathered.draws)
        for done, pair in enumerate(zip(parts, inspections, strict=True), start=1):
            if gathered.rows is not None:
                gathered.rows.append((pair[0], pair[1].row()))
            yield pair
            progress("inspecting", done, len(parts))

    def calibrating(
        self, inspector: Inspector, parts: Sequence[Part], progress: Progress
    ) -> Calibrating:
        from makellos.subjects.learned_pictures import calibrating_pictures

        compared = inspector.manifest.preprocessing.compares is not None
        return calibrating_pictures(parts, progress, compared=compared)

    def draw(self, inspector: Inspector, inspection: Inspection) -> NDArray[np.uint8]:
        from makellos.drawing import draw_overlay, draw_panel

        if inspection.picture is None:
            raise InputError(f"{inspection.input} was inspected without keeping its picture.")
        whole = inspection.reconstruction is None or inspector.manifest.tiling is not None
        draw = draw_overlay if whole else draw_panel
        return draw(
            inspection.picture,
            inspection,
            map_threshold=inspector.map_threshold,
            white_level=inspector.manifest.preprocessing.white_level,
        )
