"""How recordings are inspected: cut into windows, which are scored; their verdicts are joined."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from makellos.calibration.recordings import judge_windows
from makellos.data.parts import Part
from makellos.errors import ConfigurationError, InputError
from makellos.inspection.findings import Inspection, RecordingFinding, unreadable
from makellos.inspection.judge import Judge
from makellos.inspection.scorer import Scorer
from makellos.vibration.envelopes import BandSpectra
from makellos.vibration.long_recordings import CutLong, cut_long, open_long
from makellos.vibration.parts import piece_of, rpm_of
from makellos.vibration.recordings import read_recording
from makellos.vibration.signal_record import SignalRecord, fault_of
from makellos.vibration.signals import Windows, at_speed, cut_windows
from makellos.vibration.views import SignalView

__all__ = ["RecordingLane"]

_BATCH = 256  # windows seen and scored at once


@dataclass(frozen=True)
class RecordingLane:
    """Inspect recordings with a scorer and a judge of their windows.

    `rpm` is the speed of the shaft where it is not that at fit, nor the one that a file states,
    `good_spectra` are envelope spectra of the good state by channel.
    """

    scorer: Scorer
    judge: Judge
    record: SignalRecord
    rpm: float | None
    good_spectra: Mapping[str, BandSpectra]

    batch_size = 1  # recordings follow one another

    def inspect(self, part: Part, *, keep: bool = False) -> Inspection:
        """Inspect one recording, or the piece that a part is of it.

        What no verdict can rest on makes it ``unreadable``. `keep` puts its samples, and the
        pictures of its windows, into the inspection.
        """
        started = time.perf_counter()
        try:
            windows, stated = self._cut(part, keep=keep)
            rpm = rpm_of(part) or self.rpm or stated
            view = at_speed(self.record.view, rpm)
        except (ConfigurationError, InputError) as error:
            return unreadable(part.name, started, str(error))
        found = list(self._windows(part.name, view, windows, keep=keep))
        broken = [each for each in found if each.score is None]
        if broken:
            return unreadable(part.name, started, str(broken[0].error))
        scores = [float(each.score) for each in found if each.score is not None]
        verdicts = [each.verdict for each in found]
        record, calibration = self.record, self.judge.calibration
        score, p_value, verdict = judge_windows(
            scores, verdicts, calibration, record.numbers, record.apart
        )
        faults = {} if verdict == "ok" else fault_of(windows, record.view, rpm, self.good_spectra)
        return Inspection(
            input=part.name,
            verdict=verdict,
            score=score,
            p_value=p_value,
            threshold=self.judge.threshold,
            milliseconds=(time.perf_counter() - started) * 1e3,
            recording=RecordingFinding(
                windows=tuple(found),
                starts=tuple((windows.starts / record.view.rate).tolist()),
                share_rejected=verdicts.count("reject") / len(verdicts),
                notes=tuple(windows.notes),
                faults=faults,
                samples=windows if keep and isinstance(windows, Windows) else None,
                rpm=rpm,
            ),
        )

    def _cut(self, part: Part, *, keep: bool) -> tuple[Windows | CutLong, float | None]:
        """Return the windows of a recording, and the speed that its file states.

        Those of a long one are read as they are needed, but for what is kept.
        """
        view, piece = self.record.view, piece_of(part)
        long = None if keep else open_long(part.path, view.rate)
        if long is not None:
            return cut_long(long, view, piece), None
        recording = read_recording(part.path, usual=view.rate)
        return cut_windows(recording, view, piece), recording.rpm

    def _windows(
        self, name: str, view: SignalView, windows: Windows | CutLong, *, keep: bool
    ) -> Iterator[Inspection]:
        """Yield the inspections of windows; those of a long recording have a map where it speaks.

        A map that stays below the threshold has no region.
        """
        begun, is_long = time.perf_counter(), not isinstance(windows, Windows)
        for start in range(0, len(windows.values), _BATCH):
            seen = list(view.see(windows.values[start : start + _BATCH]))
            scored = self.scorer.many(seen)
            spent = (time.perf_counter() - begun) / len(seen)
            for picture, each in zip(seen, scored, strict=True):
                begun = time.perf_counter() - spent
                judged = self.judge(name, picture, each, begun, outlined=False)
                if is_long and judged.anomaly_map is not None:
                    speaks = float(judged.anomaly_map.max()) >= self.judge.map_threshold
                    kept = judged.anomaly_map.copy() if speaks else None
                    judged = replace(judged, anomaly_map=kept, reconstruction=None)
                yield replace(judged, picture=picture) if keep else judged
            begun = time.perf_counter()
