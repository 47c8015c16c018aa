"""PatchCore: the distance of every patch to the nearest patch of good parts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part, group_names
from makellos.data.progress import Progress
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.graph import Graph
from makellos.detectors.graphs import GraphBuilder
from makellos.detectors.parameters import parameter
from makellos.detectors.patches.backbones import backbone_packages
from makellos.detectors.patches.background import learn_part
from makellos.detectors.patches.cell_graph import distance_by_cells
from makellos.detectors.patches.cells import Cells, learn_cells
from makellos.detectors.patches.coreset import k_center_of_folds, spacings
from makellos.detectors.patches.embeddings import (
    PatchEmbedder,
    choose_size,
    distances_of,
    load_embedder,
)
from makellos.detectors.patches.layer_weights import Weights
from makellos.detectors.patches.rotations import turning_pays, views
from makellos.detectors.patches.trial import BankCost, bank_cost
from makellos.detectors.registry import register
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.engines import default_workers
from makellos.training.settings import Training

_CANDIDATE_BYTES = 96 << 20  # of embeddings per layer that the memory bank is chosen from
_SCALE_PARTS = 12  # parts that give a layer's usual distance
_MOST_ROTATIONS = 16
_LEAST_ROTATIONS = 4
_UNTELLING = 2  # parts may lie alike by chance
_BANK_ROWS = 32_768  # of a bank that distances are computed to at once
_ENOUGH_LOOKS = 320  # good pictures, turned copies among them, from which more tell little


@register("patchcore")
class PatchCore(Detector):
    """Keep a memory bank of good patches and score a patch by its distance to the nearest.

    Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022
    (arXiv 2106.08265). Deviations, each measured in ``docs/benchmarks.md``: every layer has its own
    bank on its own grid instead of one bank of concatenated layers; channels are standardised on
    good patches; the distance to a patch of the bank counts in units of that patch's distance to
    its own neighbours in the bank, in place of the paper's re-weighting of the score; each layer's
    distances are divided by their mean on good parts (a part's own patches left out) and added,
    those of finer layers relative to their mean in the picture, those of the coarsest by a quarter;
    the map is averaged over 3×3 cells, outside of which lies its mean. The score is the map's
    maximum plus twice the mean distance of the coarsest layer, whose patches see much of the part.
    Few parts that lie at any angle are learned from turned copies as well (Damm et al. 2024, arXiv
    2405.14529).
    """

    summary = "nearest good patch in a memory bank; the default"
    n_folds = 20

    backbone: str = shared.BACKBONE
    weights: str = shared.WEIGHTS
    layers: str = shared.LAYERS
    image_size: int = shared.IMAGE_SIZE
    max_image_size: int = shared.largest_side(768, search=(256, 1024))
    patch_size: int = shared.PATCH_SIZE
    coreset_ratio: float = shared.logarithmic(
        0.1, "Largest share of good patches to keep.", within=(1e-6, 1.0), search=(0.01, 0.25)
    )
    memory_bank_size: int = shared.MEMORY_BANK_SIZE
    num_neighbors: int = parameter(
        5,
        "Neighbours in the bank whose distance scales that of a patch; 0: no scaling.",
        within=(0, 1000),
        search=(0, 20),
    )
    spacing_cap: float = parameter(
        1.0,
        "Share of the bank whose spacing counts as it is; more isolated patches count as the most "
        "isolated of these. Use 0.9 if defects may hide among the good parts.",
        within=(0.0, 1.0),
    )
    rotations: int = parameter(
        0,
        "Evenly spaced rotations in which each good part is learned; 1: as it lies, 0: several if "
        "parts are few and lie at any angle.",
        within=(0, 360),
    )
    background: str = shared.BACKGROUND
    seed: int = shared.SEED

    robust = {"spacing_cap": 0.9}
    presets = {
        "fast": {"max_image_size": 384, "memory_bank_size": 4_000},
        "accurate": {"max_image_size": 1024, "memory_bank_size": 10_000},
    }
    least_parts = 1
    candidates = (
        presets["fast"],
        {},
        {"patch_size": 1},
        {"max_image_size": 512},
        presets["accurate"],
    )

    def sees_crops(self) -> bool:
        return self.background != "count"  # what lies beyond the crop is not seen

    def packages(self) -> tuple[str, ...]:
        return backbone_packages(self.backbone, self.weights)

    def graph_without(self, left_out: Collection[int], *, fineness: float = 0.0) -> Graph:
        """Return the graph of a cross-fit whose memory bank has no patch of these folds.

        A layer counts 2 to the power `fineness` times as much as it does otherwise, relative to
        the next coarser one.
        """
        kept = [~np.isin(folds, list(left_out)) for folds in self.bank_folds_]
        return self._graph_of(kept, Weights(fineness=fineness))

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        self._learn_folds(parts, np.zeros(len(parts), np.intp), progress)

    def _cross_learn(
        self, parts: Sequence[Part], folds: Sequence[int], progress: Progress, training: Training
    ) -> list[Graph]:
        """Learn a bank made of one bank per fold; leaving a fold out leaves its bank out.

        Standardisation and usual distances are those of all parts: some thousand figures from
        hundreds of thousands of patches, which a single part does not move.
        """
        del training
        self._learn_folds(parts, np.asarray(folds), progress)
        return [self.graph_without({fold}) for fold in range(max(folds) + 1)]

    def _learn_folds(
        self, parts: Sequence[Part], folds: NDArray[np.intp], progress: Progress
    ) -> None:
        self.embedder_ = replace(self._embedder(parts), workers=self._means.workers)
        self.part_rule_ = learn_part(self.embedder_, parts, progress, seed=self.seed)
        self.notes_ = [] if self.part_rule_ is None else self.part_rule_.notes(self.background)
        n_turns = self._n_turns(parts, progress)
        candidates, owners, probes = self._draw(parts, n_turns, progress)
        _, owner_of = np.unique(group_names(parts), return_inverse=True)
        self.means_, self.scales_, self.usual_distances_ = [], [], []
        self.memory_banks_: list[NDArray[np.float16]] = []
        self.bank_folds_: list[NDArray[np.intp]] = []
        self.cells_: list[Cells | None] = []
        n_looks = len(parts) * n_turns
        for layer, drawn in enumerate(candidates):
            mean, scale = drawn.mean(0), drawn.std(0)
            scale = scale + 1e-3 * float(scale.mean()) + 1e-12
            points = (drawn - mean) / scale
            n_keep = self._n_keep(self.embedder_.shapes[layer], n_looks)
            kept = k_center_of_folds(points, folds[owners[layer]], n_keep)
            progress("choosing memory banks", layer + 1, len(candidates))
            bank = points[kept].astype(np.float16)
            self.means_.append(mean)
            self.scales_.append(scale)
            self.memory_banks_.append(bank)
            self.bank_folds_.append(folds[owners[layer][kept]])
            bank_groups, units = owner_of[owners[layer][kept]], self._spacings(bank)
            known = [
                ((probe[layer] - mean) / scale, bank_groups != owner_of[part])
                for part, probe in probes
            ]
            self.cells_.append(learn_cells(bank, units, known))
            usual = [_mean_distance(patches, bank, units, foreign) for patches, foreign in known]
            self.usual_distances_.append(max(float(np.mean(usual)), 1e-6))

    def _embedder(self, parts: Sequence[Part]) -> PatchEmbedder:
        size = choose_size(parts, image_size=self.image_size, max_image_size=self.max_image_size)
        return load_embedder(
            size,
            backbone=self.backbone,
            weights=self.weights,
            layers=self.layers,
            patch_size=self.patch_size,
        )

    def _n_keep(self, shape: tuple[int, int, int], n_looks: int) -> int:
        n_patches = n_looks * int(np.prod(shape[1:]))
        return min(self.memory_bank_size, max(1, round(self.coreset_ratio * n_patches)))

    def trial(self, parts: Sequence[Part], n_learn: int, n_folds: int) -> BankCost:
        """Return what a fit takes, tried with a memory bank of some parts' patches.

        Raises as `fit` does.
        """
        tried = copy(self)
        tried._begin(parts)
        tried.embedder_ = embedder = self._embedder(parts)
        tried.part_rule_ = None

        def graph_of(banks: Sequence[NDArray[np.float32]]) -> Graph:
            tried.means_ = [bank.mean(0) for bank in banks]
            tried.scales_ = [bank.std(0) + 1e-6 for bank in banks]
            tried.memory_banks_ = [bank.astype(np.float16) for bank in banks]
            tried.usual_distances_, tried.cells_ = [1.0] * len(banks), [None] * len(banks)
            tried.bank_folds_ = [np.zeros(len(bank), np.intp) for bank in banks]
            return tried.graph_without(())

        n_looks = n_learn * max(1, self.rotations)
        return bank_cost(
            embedder,
            parts,
            graph_of,
            workers=default_workers(),
            n_looks=n_looks,
            n_folds=n_folds,
            n_keep=[self._n_keep(shape, n_looks) for shape in embedder.shapes],
            most_bytes=_CANDIDATE_BYTES,
        )

    def _spacings(self, bank: NDArray[np.float16]) -> NDArray[np.float32] | None:
        if not self.num_neighbors:
            return None
        return spacings(bank.astype(np.float32), self.num_neighbors, self.spacing_cap)

    def _n_turns(self, parts: Sequence[Part], progress: Progress) -> int:
        """Return at how many even angles each part is learned."""
        if self.rotations:
            return self.rotations
        n_turns = min(_MOST_ROTATIONS, _ENOUGH_LOOKS // len(parts))
        if n_turns < _LEAST_ROTATIONS:
            return 1
        if len(parts) <= _UNTELLING:
            return n_turns  # nothing tells how others will lie
        return n_turns if turning_pays(self.embedder_, parts, n_turns, progress) else 1

    def _draw(
        self, parts: Sequence[Part], n_turns: int, progress: Progress
    ) -> tuple[
        list[NDArray[np.float32]],
        list[NDArray[np.intp]],
        list[tuple[int, list[NDArray[np.float32]]]],
    ]:
        """Return per layer random patches and their parts, and some parts' patches whole."""
        shapes, looks = self.embedder_.shapes, views(parts, n_turns=n_turns)
        most = self._means.candidate_bytes or _CANDIDATE_BYTES
        quotas = [
            min(h * w, max(1, most // (4 * channels * len(looks)))) for channels, h, w in shapes
        ]
        drawn = [
            np.empty((len(looks) * k, s[0]), np.float32)
            for k, s in zip(quotas, shapes, strict=True)
        ]
        owners = [np.repeat(np.arange(len(parts)), k * n_turns) for k in quotas]
        step = max(1, len(parts) // _SCALE_PARTS)
        probes = []
        for i, embeddings in enumerate(self.embedder_.stream(looks, progress)):
            rng = np.random.default_rng([self.seed, i])
            for layer, k in enumerate(quotas):
                chosen = rng.choice(len(embeddings[layer]), k, replace=False)
                drawn[layer][i * k : (i + 1) * k] = embeddings[layer][chosen]
            part, copy = divmod(i, n_turns)
            if copy == 0 and part % step == 0:
                probes.append((part, embeddings))
        return drawn, owners, probes

    def _build_graph(self) -> Graph:
        return self.graph_without(())

    def _graph_of(self, kept: Sequence[NDArray[np.bool_]], weights: Weights) -> Graph:
        embedder = self.embedder_
        n_layers = len(embedder.names)
        of_layers = weights.of_layers(n_layers)
        builder = GraphBuilder(embedder.graph)
        _, height, width = embedder.shapes[0]
        total = ""
        for layer, name in enumerate(embedder.names):
            _, h, w = embedder.shapes[layer]
            patches = builder.standardise(name, self.means_[layer], self.scales_[layer])
            distances = self._distances(builder, patches, layer, kept[layer])
            coarse = builder.as_map(distances, h, w, self.usual_distances_[layer])
            builder.rename(coarse, distances_of(name))
            relative = distances_of(name)
            if layer < n_layers - 1:
                relative = builder.centred(relative)
            weighted = builder.add("Mul", relative, builder.constant(of_layers[layer]))
            repeated = builder.repeat(weighted, (h, w), height // h)
            total = builder.add("Add", total, repeated) if total else repeated
        smooth = builder.smooth(total)
        aggregation = Aggregation(mean_weight=weights.of_mean(n_layers))
        graph = Graph(builder.finish(smooth, height, width), embedder.preprocessing, aggregation)
        rule = self.part_rule_
        return graph if rule is None else rule.on(graph, embedder, self.background)

    def _distances(
        self, builder: GraphBuilder, patches: str, layer: int, kept: NDArray[np.bool_]
    ) -> str:
        """Add the distances of patches N×P×C to the nearest of a layer's bank that is kept."""
        bank, cells = self.memory_banks_[layer], self.cells_[layer]
        units = self._spacings(bank[kept])
        if cells is None:
            return builder.nearest_distance(patches, bank[kept], units)
        weights = np.zeros(len(bank), np.float32)
        weights[kept] = 1.0 if units is None else units**-2.0
        _, height, width = self.embedder_.shapes[layer]
        return distance_by_cells(builder, patches, height * width, bank, weights, cells)


def _mean_distance(
    patches: NDArray[np.float32],
    bank: NDArray[np.float16],
    units: NDArray[np.float32] | None,
    foreign: NDArray[np.bool_],
) -> float:
    """Return the mean distance of a part's patches to the nearest bank patch of another part."""
    kept = np.flatnonzero(foreign) if foreign.any() else np.arange(len(bank))
    lengths = np.einsum("ij,ij->i", patches, patches)[:, np.newaxis]
    nearest = np.full(len(patches), np.inf, np.float32)
    for rows in np.array_split(kept, -(-len(kept) // _BANK_ROWS)):
        others = bank[rows].astype(np.float32)
        squares = patches @ (-2 * others.T) + np.einsum("ij,ij->i", others, others)
        squares += lengths
        if units is not None:
            squares /= np.square(units[rows])
        np.minimum(nearest, squares.min(1), out=nearest)
    return float(np.sqrt(np.maximum(nearest, 0)).mean())
