"""A released model: its manifest and members, and the file that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from makellos.data.pictures import Picture
from makellos.data.progress import Progress
from makellos.detectors import Detector
from makellos.inspection.alignment import in_one_pose
from makellos.inspection.manifest import (
    AutoRecord,
    CalibrationRecord,
    DetectorRecord,
    EngineRecord,
    Manifest,
    PicturesRecord,
    TrainingRecord,
)
from makellos.models.coverage import Frame, cut_to_learn
from makellos.models.good_state import learn_good_state
from makellos.models.partition import Partition
from makellos.models.provenance import contents, fingerprint, library_versions
from makellos.models.release import Release, groups_of, plain
from makellos.models.writing import encode_pictures, pack_members, write_model

__all__ = ["ReleasedModel"]

_N_EXAMPLES = 64


@dataclass(frozen=True)
class ReleasedModel:
    """Hold all that a model file is made of."""

    detector: Detector
    frame: Frame
    partition: Partition
    released: Release

    def training(
        self, data: str, layout: str, seed: int, auto: AutoRecord | None
    ) -> TrainingRecord:
        """Return the record of a fit on the folder `data`; its time is still to be told."""
        used = self.partition.used
        aside = [part for part in used if part.is_good and part.split == "val"]
        # Defective parts of split val only say when training is to stop.
        learned = [p for p in self.partition.learn if p.is_good or p.split != "val"]
        return TrainingRecord(
            data=plain(data),
            layout=layout,
            n_good=sum(part.is_good for part in used),
            n_defective=sum(not part.is_good for part in learned),
            n_learned=len(learned),
            fingerprint=fingerprint(used),
            contents=contents([part for part in used if part not in aside]),
            set_aside=contents(aside),
            skipped=[plain(name) for name in self.partition.skipped],
            seed=seed,
            fit_seconds=0.0,
            notes=[
                *self.partition.notes,
                *self.frame.notes(self.partition.learn),
                *getattr(self.detector, "notes_", []),
            ],
            auto=auto,
            grouping=plain(self.partition.grouping),
            pictures=None
            if self.partition.shapes is None
            else PicturesRecord.of(self.partition.shapes),
        )

    def write(self, path: Path, training: TrainingRecord, progress: Progress) -> Manifest:
        """Write the model file in one step, and return its manifest."""
        graph, golden, examples = self.detector.graph(), self.released.golden, self._examples()
        state = learn_good_state(self.partition, self.frame.white_level, progress)
        manifest = self._manifest(training, list(examples))
        manifest = manifest.model_copy(update={"good_state": state})
        members = pack_members(graph, self.frame.zones)
        members |= encode_pictures({**golden, **examples})
        progress("writing the model", 0, 1)
        write_model(path, manifest, {**members, **self.partition.members})
        progress("writing the model", 1, 1)
        return manifest

    def _manifest(self, training: TrainingRecord, examples: list[str]) -> Manifest:
        detector, graph, frame = self.detector, self.detector.graph(), self.frame
        released, calibration = self.released, self.released.calibration
        neutral = self.partition.numbers_groups
        return Manifest(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            detector=DetectorRecord(
                name=detector.name, parameters=detector.get_parameters(), runtime=detector.runtime
            ),
            preprocessing=frame.recipe(graph).preprocessing,
            aggregation=graph.aggregation,
            engine=EngineRecord(
                runtime=released.choice.runtime,
                precision=released.choice.precision,
                exact=graph.exact,
            ),
            calibration=CalibrationRecord(
                scores=calibration.scores.tolist(),
                map_maxima=released.map_maxima,
                beside_maxima=released.beside_maxima,
                groups=groups_of(self.partition.calibrate, neutral=neutral),
                asked=calibration.asked,
                look_again=calibration.look_again,
                tolerance=calibration.tolerance,
                zones=released.zones,
                classes=released.classes,
                method=self.partition.method,
            ),
            training=training,
            golden=released.golden_records(),
            examples=examples,
            classes=list(graph.classes),
            signal=self.partition.signal,
            tiling=frame.tiling,
            acceptance=frame.acceptance,
            background=None if frame.zones is not None else graph.background,
            zones=None if frame.zones is None else frame.zones.record,
            map_name=graph.map_name,
            parity=released.parity_figures(),
            versions=library_versions(),
            members={},
        )

    def _examples(self) -> dict[str, Picture]:
        """Return good parts to show beside those that a generator makes, none without generator."""
        graph = self.detector.graph()
        if graph.generator is None:
            return {}
        upright = in_one_pose(self.partition.learn, self.frame.alignment)
        seen, _ = cut_to_learn(upright, self.frame.tiling)
        chosen = sorted({i * len(seen) // _N_EXAMPLES for i in range(_N_EXAMPLES)})
        return {
            f"examples/{place:02d}.png": graph.preprocessing.resize(seen[i].read())
            for place, i in enumerate(chosen)
        }
