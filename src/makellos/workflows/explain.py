"""Explain: where a classifier looked, as class activation maps, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from makellos.data.given import several
from makellos.data.parts import Part
from makellos.data.pictures import read_mask, read_picture
from makellos.data.progress import Progress, no_progress
from makellos.data.splits import check_seed
from makellos.drawing import draw_explanation, picture_place, write_drawing
from makellos.errors import InputError, MakellosError
from makellos.evaluation.localisation import (
    MARGIN,
    Deleted,
    DeletionFigures,
    LocalisationFigures,
    Located,
    deletion,
    hottest,
    localisation,
    localisation_by_defect,
    locate,
)
from makellos.inspection.findings import UNREADABLE, Inspection
from makellos.inspection.model_file import read_model
from makellos.inspection.regions import resize_map
from makellos.models.explainer import Explained, Explainer
from makellos.storage import claim_folder
from makellos.subjects import find_parts
from makellos.workflows.inputs import list_inputs

__all__ = ["ExplainSummary", "Explanation", "Trust", "explain"]

FOLDER = "explanations"
FLAT = "flat folder"
_SHARE = 0.1  # of the pixels that the deletion test blurs
_N_ELSEWHERE = 4  # other places that it blurs as many pixels at
_TINY = 1e-30
_BLUR = 0.1  # standard deviation of the blur, in longer sides of the input


@dataclass(frozen=True)
class Explanation:
    """Hold what was found on one part: its verdict, class probabilities, and where its panel is.

    `verdict` is ``unreadable`` where `error` says why, and the figures are None. `explained` is
    the class that the heat map is of, None where the method knows none.
    """

    input: str
    verdict: str
    score: float | None = None
    threshold: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    explained: str | None = None
    panel: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Trust:
    """Say how far heat maps can be trusted, from defective parts that were rejected, with masks.

    `n_masked` defective parts have a mask, `n_found` of them were rejected and are what the
    figures are of; a peak up to `margin` pixels beside the mask counts as inside.
    """

    n_masked: int
    n_found: int
    margin: int
    overall: LocalisationFigures | None
    by_defect: dict[str, LocalisationFigures]
    deletion: DeletionFigures | None


@dataclass
class ExplainSummary:
    """Hold what `explain` did: how, for which parts, and how far it can be trusted."""

    model: str
    method: str
    layer: str
    output: str
    parts: list[Explanation] = field(default_factory=list)
    trust: Trust | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def n_unreadable(self) -> int:
        """Return how many parts could not be explained."""
        return sum(part.error is not None for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, as ``makellos explain --json`` writes it."""
        return {**asdict(self), "n_parts": len(self.parts), "n_unreadable": self.n_unreadable}


@dataclass(frozen=True)
class _Item:
    path: Path
    place: Path | None  # of its panel, None where none is wanted
    part: Part | None  # where it has a mask


def explain(
    model: Path | str,
    inputs: Path | str | Iterable[Path | str],
    *,
    method: str = "gradcam",
    output: Path | str = FOLDER,
    class_name: str | None = None,
    layer: str | None = None,
    data: Path | str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> ExplainSummary:
    """Draw where a classifier looked: part, heat map and overlay side by side, one file per part.

    `inputs` are pictures, folders and manifests, or one of them; of labelled sets the test parts
    are used. `method` is ``gradcam``, ``gradcam++``, ``layercam`` or ``eigencam``, `class_name` the
    class explained (without it defective, or the likeliest defect), `layer` a module of the network
    (without it the last feature map). If parts have masks (those of `data`, or else of `inputs`),
    the summary says how far the maps can be trusted; `seed` sets where the deletion test blurs. A
    part that cannot be read affects no other. Raises `ConfigurationError` for models that are not
    classifiers and for unknown names, `InputError` if there is nothing to explain,
    `MissingRuntimeError` without torch, `StorageError` if nothing can be written.
    """
    report = progress or no_progress
    check_seed(seed)
    read = read_model(Path(model))
    explainer = Explainer(read, method, class_name, layer)
    items = _list([Path(item) for item in several(inputs)], None if data is None else Path(data))
    summary = ExplainSummary(str(model), method, explainer.layer, str(output))
    if any(item.place is not None for item in items):
        claim_folder(Path(output))
    measure = _Measure(explainer, np.random.default_rng(seed))
    for done, item in enumerate(items, start=1):
        found = _find(explainer, item.path)
        if isinstance(found, str):
            summary.parts.append(Explanation(str(item.path), UNREADABLE, error=found))
        else:
            measure(item, found)
            if item.place is not None:
                panel = picture_place(Path(output), item.place, f".{method}.png")
                summary.parts.append(_draw(explainer, item, found, panel))
        report("explaining", done, len(items))
    summary.trust, summary.notes = measure.trust(), measure.notes
    return summary


class _Measure:
    """Gather what masks say about the maps of rejected parts."""

    def __init__(self, explainer: Explainer, rng: np.random.Generator) -> None:
        self.explainer = explainer
        self.rng = rng
        self.n_masked = 0
        self.notes: list[str] = []
        self.located: list[Located] = []
        self.deleted: list[Deleted] = []

    def __call__(self, item: _Item, found: Explained) -> None:
        """Compare the map of a part with its mask, where it has one and was rejected."""
        if item.part is None:
            return
        size = found.picture.shape[:2]
        try:
            mask = _read_mask(item.part, size)
        except InputError as error:
            self.notes.append(str(error))
            return
        located = locate(item.part.label, resize_map(found.shown, *size), mask)
        if located is None:
            self.notes.append(f"The mask {item.part.mask} marks nothing; its part is not counted.")
            return
        self.n_masked += 1
        if found.verdict == "reject":
            self.located.append(located)
            self.deleted.append(_delete(self.explainer, found, self.rng))

    def trust(self) -> Trust | None:
        """Return the figures; None where no part had a mask."""
        if not self.n_masked:
            return None
        return Trust(
            n_masked=self.n_masked,
            n_found=len(self.located),
            margin=MARGIN,
            overall=localisation(self.located),
            by_defect=localisation_by_defect(self.located),
            deletion=deletion(self.deleted),
        )


def _delete(explainer: Explainer, found: Explained, rng: np.random.Generator) -> Deleted:
    """Blur the hottest pixels of the network's input, and as many at the same shape elsewhere."""
    height, width = found.batch.shape[2:]
    hot = hottest(resize_map(found.heat, height, width), _SHARE)
    shifts = [(int(rng.integers(height)), int(rng.integers(width))) for _ in range(_N_ELSEWHERE)]
    places = np.stack([hot, *(np.roll(hot, shift, axis=(0, 1)) for shift in shifts)])
    blurred = np.stack(
        [cv2.GaussianBlur(plane, (0, 0), _BLUR * max(height, width)) for plane in found.batch[0]]
    )
    changed = np.where(places[:, np.newaxis], blurred, found.batch).astype(np.float32)
    _, rows = explainer.judge(np.concatenate([found.batch, changed]))
    chances = rows[:, found.target].astype(np.float64)
    # Against the sum of the others, which stays exact where this one rounds to 1.
    others = np.delete(rows, found.target, axis=1).sum(axis=1, dtype=np.float64)
    odds = np.log(np.maximum(chances, _TINY)) - np.log(np.maximum(others, _TINY))
    return Deleted(
        score_drop=float(odds[0] - odds[1]),
        score_drop_by_chance=float(odds[0] - odds[2:].mean()),
        probability_drop=float(chances[0] - chances[1]),
        probability_drop_by_chance=float(chances[0] - chances[2:].mean()),
    )


def _find(explainer: Explainer, path: Path) -> Explained | str:
    """Return what is found on a part, or why nothing can be."""
    try:
        return explainer(read_picture(path), str(path))
    except InputError as error:
        return str(error)
    except MakellosError:
        raise
    except Exception as error:  # noqa: BLE001
        # Runtimes have errors of their own kinds; none may stop the other parts.
        return f"{path}: {type(error).__name__}: {error}"


def _draw(explainer: Explainer, item: _Item, found: Explained, target: Path) -> Explanation:
    explained = explainer.explained(found)
    panel = draw_explanation(
        found.picture,
        Inspection(str(item.path), found.verdict, probabilities=found.probabilities),
        found.shown,
        title=explainer.method + (f" of {explained}" if explained else ""),
        white_level=explainer.preprocessing.white_level,
    )
    write_drawing(target, panel)
    return Explanation(
        input=str(item.path),
        verdict=found.verdict,
        score=found.score,
        threshold=explainer.calibration.threshold,
        probabilities=found.probabilities,
        explained=explained,
        panel=str(target),
    )


def _list(inputs: Sequence[Path], data: Path | None) -> list[_Item]:
    """Return what to explain and what to measure on, each part once."""
    files: list[Path] = []
    wanted: set[Path] = set()
    labelled: list[Part] = []
    for item in inputs:
        parts = _labelled(item)
        if parts is None:
            wanted |= {path for path, _ in list_inputs([item]).files}
        else:
            wanted |= {part.path for part in parts}
            labelled += parts
        files += [part.path for part in parts] if parts and item.is_file() else [item]
    listed = [(path, place) for path, place in list_inputs(files).files if path in wanted]
    if not listed:
        raise InputError(
            f"There are no test parts in {', '.join(map(str, inputs))}. Put them into test/good "
            "and test/<defect>, or name picture files."
        )
    masked = _masked(labelled) if data is None else _masked_in(data)
    by_path = {part.path.resolve(): part for part in masked}
    items = [_Item(path, place, by_path.pop(path.resolve(), None)) for path, place in listed]
    return items + [_Item(part.path, None, part) for part in by_path.values()]


def _labelled(item: Path) -> list[Part] | None:
    """Return the test parts of a manifest or a labelled folder, None for other inputs."""
    if not item.is_dir() and item.suffix.lower() not in {".csv", ".tsv"}:
        return None
    try:
        found = find_parts(item)
    except InputError:
        if item.is_dir():
            return None  # not laid out as labelled parts are; its pictures are taken as they are
        raise
    return None if found.layout == FLAT else list(found.test())


def _masked(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.mask is not None and not part.is_good]


def _masked_in(data: Path) -> list[Part]:
    parts = _masked(find_parts(data).test())
    if not parts:
        raise InputError(
            f"{data} has no defective test part with a mask, so nothing can be said about how far "
            "to trust the maps. Put masks into ground_truth/<defect>, or name them in a "
            "manifest's column 'mask'."
        )
    return parts


def _read_mask(part: Part, size: tuple[int, ...]) -> NDArray[np.bool_]:
    if part.mask is None:
        raise InputError(f"{part.path} has no mask.")
    return read_mask(part.mask, size, "Its part is not counted.")
