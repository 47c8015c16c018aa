"""Verify: whether every runtime of this machine gives the verdicts that a model was released with.

The golden parts in the model file go through each of them, and further parts where such are given.
"""

from __future__ import annotations

import platform
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import Any

from makellos.data.parts import PartSet
from makellos.data.progress import Progress, no_progress
from makellos.errors import ConfigurationError, InputError, ModelFileError, StorageError
from makellos.evaluation import Share, share_of
from makellos.inspection import Inspector
from makellos.inspection.engines import EngineChoice
from makellos.inspection.inspector import choose_engine
from makellos.inspection.manifest import VerificationRecord
from makellos.inspection.model_file import ModelFile, read_model
from makellos.inspection.opening import recipe_of
from makellos.inspection.recipe import Recipe
from makellos.models.provenance import library_versions
from makellos.models.verification import (
    Comparison,
    Judged,
    compare,
    golden_expected,
    golden_found,
    judged,
    near_threshold,
    not_run,
    rejudged,
    score_golden,
)
from makellos.models.writing import rewrite_manifest
from makellos.subjects import find_tested, subject_of, subject_of_model

__all__ = ["VerifySummary", "verify"]

_MOST_NAMED = 1000  # parts of a flip; the figures count all


@dataclass(frozen=True)
class VerifySummary:
    """Hold what each runtime of a machine makes of a model's golden parts, and of further parts.

    `runtimes` maps names to ``max_score_difference``, ``flips``, ``band_changes`` (between ``ok``
    and ``look_again``) and ``n_parts``, over `n_golden` golden parts and `n_parts` further ones. Of
    the latter alone ``further_flips``, of ``n_further`` that can be read, have exact 95 % bounds of
    their share, ``further_low`` and ``further_high``. ``near_threshold`` of the `n_calibration`
    good parts that calibrated lie no further from the threshold than the scores differ.
    Golden parts are compared with the scores stored at release, by the engine `released_with`;
    further ones with those of `reference`. `not_run` says of runtimes why they were left out,
    `failed` why they cannot compute the model. `flipped` lists what flips: ``input``, ``runtime``,
    ``expected``, ``verdict`` and both scores. `kept` tells whether the table was put into the file.
    """

    model: str
    released: bool
    released_with: str
    reference: str
    threshold: float
    n_golden: int
    n_calibration: int
    n_parts: int
    runtimes: dict[str, dict[str, float]]
    not_run: dict[str, str]
    failed: dict[str, str]
    flipped: list[dict[str, Any]]
    unreadable: list[str]
    kept: bool
    notes: list[str] = field(default_factory=list)


def verify(
    model: Path | str,
    data: Path | str | None = None,
    *,
    keep: bool = True,
    progress: Progress | None = None,
) -> VerifySummary:
    """Compare all runtimes of this machine on a model's golden parts, and on the parts of `data`.

    Every byte of the model is checked first. `released` is true when no verdict flips on any
    runtime and none fails. The table is put into the model file where `keep` and that can be
    written; nothing else of it changes. Raises `ModelFileError` for a model that cannot be trusted,
    `MissingRuntimeError` where the one runtime that it needs is not installed, `InputError` for
    data of another kind or without parts.
    """
    report = progress or no_progress
    read = read_model(Path(model))
    read.check()
    found = None if data is None else _parts_of(read, data)
    if not read.manifest.golden and found is None:
        raise InputError(
            f"{model} holds no golden parts to compare runtimes with. Give parts as well: "
            f"makellos verify {model} DATA"
        )
    work = _Verification(read, report)
    with recipe_of(read) as recipe:
        engines = recipe.engines()
        left_out = not_run(recipe, engines)
        work.golden(recipe, engines)
    reference = choose_engine(read.manifest.engine.choice(), engines)
    unreadable = [] if found is None else work.parts(found, reference)
    summary = VerifySummary(
        model=str(model),
        released=not work.failed and not any(each.flips for each in work.compared.values()),
        released_with=str(read.manifest.engine.choice()),
        reference=str(reference),
        threshold=read.manifest.calibration.calibration().threshold,
        n_golden=len(read.manifest.golden),
        n_calibration=len(read.manifest.calibration.scores),
        n_parts=0 if found is None else len(found),
        runtimes={str(choice): work.figures(choice) for choice in work.compared},
        not_run=left_out,
        failed=work.failed,
        flipped=work.flipped()[:_MOST_NAMED],
        unreadable=unreadable,
        kept=False,
        notes=work.notes,
    )
    return _kept(read, summary) if keep else summary


def _parts_of(model: ModelFile, data: Path | str) -> PartSet:
    found = find_tested(model.path, data)
    subject = subject_of_model(model.manifest)
    if subject.kind != subject_of(found).kind:
        raise InputError(
            f"{model.path} was fitted on {subject.kind.name}, but {data} holds {found.kind.name}. "
            "Give data of the same kind."
        )
    if not len(found):
        raise InputError(f"{data} holds no {subject.kind.name}. Give parts to verify with.")
    return found


@dataclass
class _Verification:
    """Collect what runtimes make of parts; one that cannot compute the model has `failed`."""

    model: ModelFile
    progress: Progress
    compared: dict[EngineChoice, Comparison] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    further: dict[EngineChoice, Share] = field(default_factory=dict)

    def golden(self, recipe: Recipe, engines: Sequence[EngineChoice]) -> None:
        """Compare the golden parts on all engines with their scores at release."""
        expected = golden_expected(self.model)
        if changed := rejudged(self.model, expected):
            self.notes.append(
                f"This version of makellos gives {', '.join(changed)} another verdict than "
                f"makellos {self.model.manifest.versions.get('makellos', 'of the fit')} did, "
                "for the same score. Runtimes are compared by the verdicts of this version."
            )
        for done, choice in enumerate(engines, start=1):
            with self._noting(choice):
                scores = score_golden(self.model, recipe, choice)
                here = golden_found(self.model, scores)
                self.compared[choice] = compare(zip(expected, here, strict=True))
            self.progress("golden parts", done, len(engines))

    def parts(self, found: PartSet, reference: EngineChoice) -> list[str]:
        """Compare parts on all engines with one of them; return why parts cannot be read."""
        expected = self._inspected(found, reference)
        for choice in list(self.compared):
            with self._noting(choice):
                here = expected if choice == reference else self._inspected(found, choice)
                pairs = list(zip(expected, here, strict=True))
                flips = [self.compared[choice].add(one, other) for one, other in pairs]
                read = [one.error is None or other.error is None for one, other in pairs]
                groups = [part.group for part in found]
                self.further[choice] = share_of([*compress(flips, read)], [*compress(groups, read)])
        return [each.error for each in expected if each.error is not None]

    def figures(self, choice: EngineChoice) -> dict[str, float]:
        """Return the figures of an engine: of all parts, and what they say of parts to come."""
        found = self.compared[choice].figures()
        found["near_threshold"] = near_threshold(self.model, found["max_score_difference"])
        share = self.further.get(choice)
        if share is not None and share.low is not None and share.high is not None:
            found |= {"further_flips": share.n_hit, "n_further": share.n}
            found |= {"further_low": share.low, "further_high": share.high}
        return found

    def flipped(self) -> list[dict[str, Any]]:
        """Return the verdicts that flip, as plain data."""
        return [
            {
                "input": expected.name,
                "runtime": str(choice),
                "expected": expected.verdict,
                "verdict": here.verdict,
                "expected_score": max(expected.scores, default=None),
                "score": max(here.scores, default=None),
            }
            for choice, each in self.compared.items()
            for expected, here in each.flipped
        ]

    @contextmanager
    def _noting(self, choice: EngineChoice) -> Iterator[None]:
        """Note that an engine cannot compute a model which was found whole before."""
        try:
            yield
        except ModelFileError as error:
            self.failed[str(choice)] = str(error)
            self.compared.pop(choice, None)

    def _inspected(self, found: PartSet, choice: EngineChoice) -> list[Judged]:
        workers = subject_of(found).workers(self.model.manifest, len(found))
        inspector = Inspector(self.model, workers=workers, engine=choice)
        here = []
        for inspection in inspector.inspect_many(found):
            here.append(judged(inspection))
            self.progress(f"parts on {choice}", len(here), len(found))
        return here


def _kept(read: ModelFile, summary: VerifySummary) -> VerifySummary:
    """Put the table into the model file; say why where that is not possible."""
    record = VerificationRecord(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=f"{platform.system()} {platform.machine()}",
        released=summary.released,
        n_golden=summary.n_golden,
        n_parts=summary.n_parts,
        not_run=summary.not_run,
        failed=summary.failed,
        versions=library_versions(),
    )
    why = ""
    try:
        now = read_model(read.path)  # it may have been calibrated meanwhile
        if now.manifest.without_verification() != read.manifest.without_verification():
            why = "it was changed while this ran. Verify it again."
        elif not read.path.stat().st_mode & stat.S_IWUSR:
            why = "it is read-only."
        else:
            update = {"parity": summary.runtimes, "verification": record}
            rewrite_manifest(now, now.manifest.model_copy(update=update), read.path)
    except (ConfigurationError, ModelFileError, OSError, StorageError) as error:
        why = str(error)
    if why:
        note = f"The table was not kept in the model file: {why}"
        return replace(summary, notes=[*summary.notes, note])
    return replace(summary, kept=True)
