"""Recordings of vibration: how they are divided, inspected and drawn; their windows are parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part, PartSet, Values
from makellos.data.progress import Progress, no_progress
from makellos.detectors import Detector
from makellos.drawing import draw_recording
from makellos.errors import ConfigurationError, InputError
from makellos.inspection import Inspection, Inspector
from makellos.inspection.findings import region_on_axes
from makellos.inspection.manifest import Manifest
from makellos.inspection.model_file import GOOD_SPECTRA
from makellos.models.coverage import Coverage
from makellos.models.partition import Partition, PartitionRequest
from makellos.subjects.subject import WINDOW, Calibrating, Gathered, Subject
from makellos.vibration.good_recordings import (
    counts_recordings,
    distinct,
    divide,
    oddities,
    parts_of,
    read_all,
    spectra_of_longest,
    spread,
    without_copies,
)
from makellos.vibration.good_spectra import pack_spectra
from makellos.vibration.parts import RECORDINGS, described
from makellos.vibration.recording_checks import RecordingsCheck, check_recordings
from makellos.vibration.signal_record import SignalRecord
from makellos.vibration.signals import SignalSettings, at_speed

__all__ = ["VibrationSubject"]

_MOST_PANELS = 40  # in a report, which has to pass through a mail server
_SAMPLE = 0.5  # of one: times in s are rounded to less


class VibrationSubject(Subject):
    """Recordings of vibration: a detector learns from windows, the verdict is on each recording."""

    kind = RECORDINGS
    columns = ("n_windows", "share_rejected", "fault", "finding", "notes")
    has_windows = True

    def check(self, parts: PartSet, *, progress: Progress = no_progress) -> RecordingsCheck:
        return check_recordings(parts, progress=progress)

    def check_options(
        self,
        parts: PartSet,
        signal: SignalSettings | None,
        coverage: Coverage,
        white_level: int | None,
    ) -> None:
        del signal
        if coverage != Coverage() or white_level is not None:
            raise ConfigurationError(
                f"{parts.root} holds recordings, but --tile, --zones, --rules, --mm-per-pixel and "
                "--white-level are for pictures. Leave them out."
            )

    def partition(self, parts: PartSet, request: PartitionRequest, progress: Progress) -> Partition:
        """Read the good recordings of a set, and return their windows as a detector sees them.

        Recordings of split ``val`` calibrate. Without such all are cross-fitted by recording, or 3
        in 10 held out where the detector trains; of fewer than 5 recordings the last 3 tenths of
        each are held out. Windows of one recording are never shuffled. Where 5 recordings or more
        calibrate they are what is counted; of fewer, blocks of windows that share no samples.
        """
        detector = request.detector
        _check(parts, detector)
        if request.finds_groups:
            raise ConfigurationError(
                f"{parts.root} holds recordings; --groups auto looks at pictures. Name what "
                "belongs together by a column of the manifest or a pattern of file names."
            )
        good = [*parts.good(), *parts.calibration()]
        settings = request.signal or SignalSettings()
        view, read, skipped = read_all(good, settings, detector.takes, progress)
        if skipped and not (request.skip_unreadable and read):
            listed = "\n  ".join(reason for _, reason in skipped)
            raise InputError(
                f"{len(skipped)} of {len(good)} recordings cannot be used:\n  {listed}\nFix or "
                "remove them, or leave them out with --skip-unreadable."
            )
        used = [each.part for each in read]
        read, copies = without_copies(read)
        divided = divide(parts, read, view, request.seed, trains=detector.trains)
        learn, calibrate, method = spread(divided[0]), spread(divided[1]), divided[2]
        by_recording = counts_recordings([each.part for each in divided[1]])
        view = view.learned(np.concatenate([each.windows.values for each in learn]))
        learned = [parts_of(each, view, by_recording=True) for each in learn]
        calibrating = learned
        if method != "cross-fitted":
            calibrating = [parts_of(each, view, by_recording=by_recording) for each in calibrate]
        spectra = spectra_of_longest(learn, view)
        return Partition(
            [part for windows in learned for part in windows],
            [part for windows in calibrating for part in windows],
            method,
            used=used,
            skipped=[part.name for part, _ in skipped],
            notes=[*parts.remarks(), *copies, *oddities(read)],
            signal=SignalRecord(
                view=view,
                calibrated_on="recordings" if by_recording else "blocks",
                recordings=_numbered([len(windows) for windows in calibrating]),
            ),
            members={GOOD_SPECTRA: pack_spectra(spectra)} if spectra else {},
            numbers_groups=True,
            grouping=parts.grouping,
        )

    def sized(self, detector: Detector, partition: Partition) -> Detector:
        """Return a detector that takes windows at the size they are drawn, unless told otherwise.

        Networks pretrained on photos see as much at half of it, in a quarter of the time.
        """
        parameters = detector.get_parameters()
        if partition.signal is None or parameters.get("image_size") != 0:
            return detector
        view = partition.signal.view
        side = max(view.width, view.height * len(view.channels)) // (1 if detector.trains else 2)
        # Networks that halve their maps again and again take powers of two.
        size = min(256, 1 << (side - 1).bit_length())
        return type(detector)(**{**parameters, "image_size": size})

    def counted(self, manifest: Manifest) -> str:
        signal = manifest.signal
        by_recording = signal is not None and signal.calibrated_on == "recordings"
        return "recordings" if by_recording else "windows"

    def workers(self, manifest: Manifest, n_parts: int) -> int:
        del manifest, n_parts
        return 1  # windows are taken many at once, so that recordings follow one another

    def tested(
        self, inspector: Inspector, parts: Sequence[Part], gathered: Gathered, progress: Progress
    ) -> Iterator[tuple[Part, Inspection]]:
        """Yield the windows of recordings as parts; a recording that cannot be read itself.

        `gathered` gets what there is to say of each other recording.
        """
        for done, part in enumerate(parts, start=1):
            inspection = inspector.inspect_part(part, keep=gathered.draws)
            finding = inspection.recording
            if gathered.rows is not None:
                gathered.rows.append((part, inspection.row()))
            if gathered.windows is not None:
                rows = self.window_rows(inspector, inspection)
                gathered.windows += [(part, row) for row in rows]
            if finding is None:
                yield part, inspection
            else:
                gathered.entries[part.name] = {
                    "label": part.label,
                    "verdict": inspection.verdict,
                    "p_value": inspection.p_value,
                    **finding.row(),
                    **described(part),
                }
                if gathered.draws and len(gathered.panels) < _MOST_PANELS:
                    drawn = self._panel(inspector, inspection)
                    gathered.panels.append((part.name, _encoded(drawn)))
                for start, window in zip(finding.starts, finding.windows, strict=True):
                    yield _window(part, start, window), window
            progress("inspecting", done, len(parts))

    def calibrating(
        self, inspector: Inspector, parts: Sequence[Part], progress: Progress
    ) -> Calibrating:
        record = _record(inspector)
        parts, notes = distinct(parts, record.view)
        by_recording = counts_recordings(parts)
        length = record.view.window / record.view.rate
        windows: list[Part] = []
        counts: list[int] = []
        broken: list[str] = []
        for done, part in enumerate(parts, start=1):
            inspection, end = inspector.inspect_part(part, keep=True), 0.0
            found = inspection.recording
            if inspection.error is not None or found is None:
                broken.append(inspection.error or f"{part.name} has no windows.")
                continue
            counts.append(0)
            for start, each in zip(found.starts, found.windows, strict=True):
                window = _window(part, start, each)
                if not by_recording:
                    # Windows that share samples are not counted twice.
                    if start < end - _SAMPLE / record.view.rate:
                        continue
                    window, end = replace(window, group=window.name), start + length
                windows.append(window)
                counts[-1] += 1
            progress("inspecting", done, len(parts))
        counted = {
            "calibrated_on": "recordings" if by_recording else "blocks",
            "recordings": _numbered(counts),
        }
        signal = record.model_copy(update=counted)
        made = Partition(
            [], windows, "new good parts", notes=notes, signal=signal, numbers_groups=True
        )
        return Calibrating(windows, made, broken)

    def draw(self, inspector: Inspector, inspection: Inspection) -> NDArray[np.uint8]:
        return self._panel(inspector, inspection)

    def window_rows(self, inspector: Inspector, inspection: Inspection) -> list[dict[str, Any]]:
        """Return a row for each window of a recording, with regions in s and Hz as well."""
        view, found = _record(inspector).view, inspection.recording
        if found is None:
            return []
        seconds = view.window / view.rate
        return [
            {
                **{name: value for name, value in window.row().items() if name in WINDOW},
                "start_s": round(start, 6),
                "end_s": round(start + seconds, 6),
                "regions": [
                    {**region.row(), **region_on_axes(region, view, start)}
                    for region in inspector.window_regions(window)
                ],
            }
            for start, window in zip(found.starts, found.windows, strict=True)
        ]

    def _panel(self, inspector: Inspector, inspection: Inspection) -> NDArray[np.uint8]:
        found = inspection.recording
        if found is None or found.samples is None:
            raise InputError(f"{inspection.input} was inspected without keeping its samples.")
        return draw_recording(
            found.samples,
            at_speed(_record(inspector).view, found.rpm),
            inspection,
            threshold=inspector.threshold,
            rpm=found.rpm,
            map_threshold=inspector.map_threshold,
        )


def _check(parts: PartSet, detector: Detector) -> None:
    if detector.learns == "labels":
        raise ConfigurationError(
            f"{detector.name} learns from labelled pictures, but {parts.root} holds recordings. "
            "Choose a detector that learns from good parts alone, such as patchcore or pyod."
        )
    parts.require_good()


def _record(inspector: Inspector) -> SignalRecord:
    record = inspector.manifest.signal
    if record is None:
        raise ConfigurationError(
            f"{inspector.model.path} is a model of pictures. Fit a model on recordings."
        )
    return record


def _window(part: Part, start: float, inspection: Inspection) -> Part:
    """Return a window of a recording as a part that shows what was judged, where it was kept."""
    shown = part.source if inspection.picture is None else Values(inspection.picture)
    name = f"{part.name} at {start:.6g} s"
    return replace(part, source=shown, name=name, group=part.group or part.name)


def _numbered(counts: Sequence[int]) -> tuple[int, ...]:
    """Return the number of its recording for each window, where recordings have so many."""
    return tuple(number for number, count in enumerate(counts) for _ in range(count))


def _encoded(drawn: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".webp", drawn[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 85])
    raw: bytes = encoded.tobytes()
    return raw
