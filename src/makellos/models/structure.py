"""Structure among the pictures of good parts: found before a fit, by names and by a small look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from makellos.calibration.structure import Effect, as_numbers, clusters, effect_of, is_crossed
from makellos.data.copies import Sketch, as_groups
from makellos.data.parts import Part, group_names
from makellos.data.progress import Progress
from makellos.data.same_parts import same_parts
from makellos.data.series import series_in_names
from makellos.detectors.patches.embeddings import PatchEmbedder, choose_size, load_embedder

__all__ = ["Structure", "closely_seen", "find_structure"]

_SAME, _SERIES = "pictures of one part", "series by "
_LEAST = 40  # good parts: of fewer chance says anything
_N_LOOKED_AT = 120
_MOST, _RUN = 5000, 50  # parts that are sketched closely, and how many follow each other
_SIDE = 256
_N_BANK, _N_PATCHES, _N_ODDEST = 256, 96, 32
_N_LEVELS = 5  # of what a sketch holds: levels, contrast and sharpness


@dataclass(frozen=True)
class Structure:
    """Hold how good parts belong together, `by` what, and whether that changes what is promised.

    `groups` name the group of each part, None where it stands alone; empty `by`: nothing was found.
    """

    groups: list[str | None]
    by: str
    n_groups: int
    effect: Effect | None
    regroups: bool = False

    @classmethod
    def none(cls, n_parts: int) -> Structure:
        """Return that of parts that stand alone."""
        return cls([None] * n_parts, "", n_parts, None)

    @property
    def speaks(self) -> bool:
        """Tell whether there is something to say: parts were grouped, or should be."""
        return self.regroups or (self.effect is not None and self.effect.matters)


def closely_seen(n_parts: int, *, regroups: bool) -> range | set[int]:
    """Return the positions of parts by which structure is looked for: all, or 5,000 of more.

    Those are runs of parts that follow each other, evenly spread, for what belongs together mostly
    does. Where groups of all parts are asked for, all are seen.
    """
    if regroups or n_parts <= _MOST:
        return range(n_parts)
    starts = np.linspace(0, n_parts - _RUN, _MOST // _RUN).astype(int)
    return {int(start) + i for start in starts for i in range(_RUN)}


def structure_text(found: Structure) -> str:
    """Say how good parts come, what a part of a new group would meet, and what to do about it."""
    n_parts = len(found.groups)
    if not found.by:
        few = f"fewer than {_LEAST} good parts" if n_parts < _LEAST else f"{n_parts} good parts"
        return f"No series and no pictures of one part were found among {few}; each counts alone."
    unit = "part" if found.by == _SAME else "series"
    how = (
        f"show {found.n_groups} parts" if found.by == _SAME else f"come in {found.n_groups} series"
    )
    by = "" if found.by == _SAME else f" (by {found.by.removeprefix(_SERIES)})"
    told = f"Your {n_parts} good {'pictures' if found.by == _SAME else 'parts'} {how}{by}"
    if found.effect is not None and found.effect.matters:
        told += (
            f"; {'a picture of a new part' if unit == 'part' else 'a part of a new series'} is "
            f"rejected about {found.effect.times:.0f} times as often as "
            f"{'if each stood alone' if found.regroups else 'promised'}"
        )
    if found.regroups:
        return f"{told}. Calibration counts these {'parts' if unit == 'part' else 'series'}."
    more = "parts" if unit == "part" else "series"
    return f"{told}: name groups (--groups; auto takes these), or add {more}."


def find_structure(
    parts: Sequence[Part],
    sketches: Sequence[Sketch],
    budget: float,
    *,
    seed: int,
    progress: Progress,
    regroups: bool = False,
) -> Structure:
    """Find how good parts with their sketches belong together, and what a new group would meet.

    Only where it `regroups` are all of many parts embedded, so that each has its group by that.

    Several pictures of one part belong together in any case. Beyond that series are looked for in
    file names, in exposure and sharpness, and in embeddings; they count where leaving a whole one
    out leaves more parts rejected than chance. Of several that do, the one that does most is taken.
    """
    nothing = replace(Structure.none(len(parts)), regroups=regroups)
    if len(parts) < _LEAST:
        return replace(nothing, groups=[part.group for part in parts])
    sets = same_parts([each.relief for each in sketches])
    joined = as_groups(parts, sets)
    units = as_numbers(group_names(joined))
    chosen = _sample(units, seed)
    seen = np.arange(len(parts)) if regroups else chosen
    distances, embedded = _look([parts[i] for i in seen], np.isin(seen, chosen), seed, progress)
    looks = np.array([each.looks for each in sketches])
    ways = _ways(parts, looks, embedded, seen)
    best = Structure([part.group for part in joined], "", len(np.unique(units)), None)
    if sets:
        alone = np.arange(len(chosen))
        effect = effect_of(distances, units[chosen], alone, budget, seed=seed)
        best = Structure(best.groups, _SAME, best.n_groups, effect)
    for by, series in ways:
        if is_crossed(series, units):
            continue
        effect = effect_of(distances, series[chosen], units[chosen], budget, seed=seed)
        if effect.matters and (best.by in ("", _SAME) or effect.times > _times(best)):
            best = Structure(
                [f"series {n + 1}" for n in series], by, len(np.unique(series[chosen])), effect
            )
    return replace(best, regroups=regroups)


def _times(found: Structure) -> float:
    return 0.0 if found.effect is None else found.effect.times


def _ways(
    parts: Sequence[Part],
    looks: NDArray[np.float64],
    embedded: NDArray[np.float64],
    seen: NDArray[np.intp],
) -> list[tuple[str, NDArray[np.intp]]]:
    """Return ways in which parts may come in series; -1 is that of parts that were not `seen`."""
    named = series_in_names([part.name for part in parts])
    found = [(f"{_SERIES}{what}", as_numbers(labels)) for what, labels in named]
    for what, values in (("exposure and sharpness", looks[:, :_N_LEVELS]), ("light", looks)):
        apart = clusters(values)
        found += [] if apart is None else [(f"{_SERIES}{what}", apart)]
    apart = clusters(embedded)
    if apart is not None:
        series = np.full(len(parts), -1)
        series[seen] = apart
        found.append((f"{_SERIES}what the pictures show", series))
    return found


def _sample(units: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """Return the positions of parts to look at: whole units in random order, up to a number."""
    if len(units) <= _N_LOOKED_AT:
        return np.arange(len(units))
    rank = np.random.default_rng([seed, 30]).permutation(int(units.max()) + 1)[units]
    return np.sort(np.argsort(rank, kind="stable")[:_N_LOOKED_AT])


def _look(
    parts: Sequence[Part], compared: NDArray[np.bool_], seed: int, progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return embeddings (n, d), and of those parts that are compared distances (m, P, m)."""
    size = choose_size(parts, image_size=0, max_image_size=_SIDE)
    embedder: PatchEmbedder = load_embedder(
        size, backbone="efficientnet_lite0", weights="", layers="", patch_size=3
    )
    rng = np.random.default_rng([seed, 32])
    queries, banks, means = [], [], []
    embedded = embedder.stream(parts, progress, "looking for series")
    for is_compared, layers in zip(compared, embedded, strict=True):
        patches = layers[len(layers) // 2]
        means.append(np.concatenate([patches.mean(0), patches.std(0)]))
        if not is_compared:
            continue
        order = rng.permutation(len(patches))
        queries.append(patches[order[:_N_PATCHES]])
        banks.append(patches[order[:_N_BANK]])
    everything = np.concatenate(banks)
    scale = everything.std(0) + 1e-6
    points = everything / scale
    squares = np.einsum("ij,ij->i", points, points)
    starts = np.cumsum([0, *map(len, banks[:-1])])
    rows = []
    for own, query in enumerate(queries):
        asked = query / scale
        found = squares - 2 * asked @ points.T + np.einsum("ij,ij->i", asked, asked)[:, None]
        nearest = np.sqrt(np.maximum(np.minimum.reduceat(found, starts, axis=1), 0))
        nearest[:, own] = np.inf
        oddest = np.argsort(-nearest.min(1))[:_N_ODDEST]
        rows.append(nearest[oddest])
    return np.array(rows, np.float32), np.array(means, np.float64)
