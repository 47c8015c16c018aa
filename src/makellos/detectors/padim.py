"""PaDiM: the Mahalanobis distance of every patch to the good patches at its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.graph import Graph
from makellos.detectors.graphs import GraphBuilder
from makellos.detectors.parameters import parameter
from makellos.detectors.patches.backbones import backbone_packages
from makellos.detectors.patches.background import learn_part
from makellos.detectors.patches.embeddings import Embedding, choose_size, load_embedder
from makellos.detectors.registry import register
from makellos.errors import ConfigurationError
from makellos.inspection.aggregation import Aggregation
from makellos.training.settings import Training

_PLACES = 256  # covariances that are inverted at once, in double precision


@dataclass
class _Moments:
    """Sums over parts at P places of C channels."""

    count: int
    total: NDArray[np.float32]
    products: NDArray[np.float32]

    @classmethod
    def empty(cls, n_places: int, n_channels: int) -> _Moments:
        total = np.zeros((n_places, n_channels), np.float32)
        return cls(0, total, np.zeros((n_places, n_channels, n_channels), np.float32))

    def add(self, patches: Embedding) -> None:
        self.count += 1
        self.total += patches
        self.products += patches[:, :, np.newaxis] * patches[:, np.newaxis, :]


@register("padim")
class PaDiM(Detector):
    """Learn a Gaussian of good patches at every place and score by the Mahalanobis distance.

    Defard et al., PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and
    Localization, ICPR 2021 (arXiv 2011.08785): layers side by side on the finest grid,
    `n_features` channels drawn at random, covariance regularised. Deviation: channels are
    standardised first, so that `epsilon` means the same for every network; the map is averaged
    over 3×3 cells in place of a Gaussian of 4 pixels. It suits parts that lie alike in every
    picture.
    """

    summary = "a Gaussian at every position; for parts that always lie the same way"
    needs_one_pose = True

    backbone: str = shared.BACKBONE
    weights: str = shared.WEIGHTS
    layers: str = parameter(
        "",
        "Stages to embed, fine to coarse, such as 3,4; empty: the backbone's default.",
        search=("", "2,3", "2,3,4"),
    )
    image_size: int = shared.IMAGE_SIZE
    max_image_size: int = shared.largest_side(512, search=(192, 768))
    n_features: int = parameter(
        100, "Channels drawn at random from all layers.", within=(1, 4096), search=(40, 160)
    )
    epsilon: float = shared.logarithmic(
        0.05,
        "Value added to the diagonal of each covariance.",
        within=(1e-6, 10.0),
        search=(0.005, 0.5),
    )
    background: str = shared.BACKGROUND
    seed: int = shared.SEED

    presets = {
        "fast": {"max_image_size": 256, "n_features": 64},
        "accurate": {"max_image_size": 768, "n_features": 100},
    }
    candidates = (presets["fast"], {})

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        self._estimate(self._sum(parts, np.zeros(len(parts), np.intp), progress))

    def packages(self) -> tuple[str, ...]:
        return backbone_packages(self.backbone, self.weights)

    def _cross_learn(
        self, parts: Sequence[Part], folds: Sequence[int], progress: Progress, training: Training
    ) -> list[Graph]:
        """Learn in one pass; sums kept per fold give each Gaussian without its fold."""
        del training
        graphs = []
        sums = self._sum(parts, np.asarray(folds), progress)
        for left_out in sums:
            self._estimate([moments for moments in sums if moments is not left_out])
            graphs.append(self._build_graph())
        self._estimate(sums)
        return graphs

    def _sum(
        self, parts: Sequence[Part], folds: NDArray[np.intp], progress: Progress
    ) -> list[_Moments]:
        """Return count, sum and sum of products of the patches at every place, per fold."""
        size = choose_size(parts, image_size=self.image_size, max_image_size=self.max_image_size)
        self.embedder_ = load_embedder(
            size, backbone=self.backbone, weights=self.weights, layers=self.layers, patch_size=1
        )
        self.part_rule_ = learn_part(self.embedder_, parts, progress, seed=self.seed)
        self.notes_ = [] if self.part_rule_ is None else self.part_rule_.notes(self.background)
        n_channels = sum(shape[0] for shape in self.embedder_.shapes)
        rng = np.random.default_rng(self.seed)
        n_kept = min(self.n_features, n_channels)
        self.channels_ = np.sort(rng.choice(n_channels, n_kept, replace=False))
        _, height, width = self.embedder_.shapes[0]
        sums = [_Moments.empty(height * width, n_kept) for _ in range(int(folds.max()) + 1)]
        embedded = self.embedder_.stream(parts, progress)
        for fold, embeddings in zip(folds, embedded, strict=True):
            patches = self._side_by_side(embeddings)
            if not any(moments.count for moments in sums):
                self.origin_ = patches
            # Sums of differences keep the digits that those of squares lose in a subtraction.
            sums[fold].add(patches - self.origin_)
        return sums

    def _estimate(self, sums: Sequence[_Moments]) -> None:
        """Set means, scales and whitening from the moments of some folds together."""
        count = sum(moments.count for moments in sums)
        mean = sum((moments.total for moments in sums[1:]), sums[0].total.copy()) / count
        covariance = sums[0].products.copy()
        for moments in sums[1:]:
            covariance += moments.products
        covariance /= count
        covariance -= mean[:, :, np.newaxis] * mean[:, np.newaxis, :]
        diagonal = np.arange(len(self.channels_))
        variance = np.maximum(covariance[:, diagonal, diagonal].mean(0), 0)
        self.mean_ = self.origin_ + mean
        # A channel in which good parts never differ must not divide by nothing.
        scale = np.sqrt(variance + 1e-6 * self.mean_.var(0))
        self.scale_ = scale + 1e-3 * scale.mean() + 1e-12
        covariance /= self.scale_[:, np.newaxis] * self.scale_[np.newaxis, :]
        covariance[:, diagonal, diagonal] += self.epsilon
        self.whitening_ = self._whiten(covariance)

    def _whiten(self, covariance: NDArray[np.float32]) -> NDArray[np.float16]:
        """Return W of each covariance P×C×C: the distance of x is the length of (x - mean) W."""
        whitening = np.empty(covariance.shape, np.float16)
        try:
            for start in range(0, len(covariance), _PLACES):
                block = covariance[start : start + _PLACES].astype(np.float64)
                inverse = np.linalg.inv(np.linalg.cholesky(block))
                whitening[start : start + _PLACES] = inverse.transpose(0, 2, 1)
        except np.linalg.LinAlgError as error:
            raise ConfigurationError(
                f"{self.name}: epsilon is {self.epsilon:g}, too small for these parts: a "
                "covariance cannot be inverted. Give a larger one, such as --set epsilon=0.05."
            ) from error
        return whitening

    def _side_by_side(self, embeddings: list[Embedding]) -> Embedding:
        _, height, width = self.embedder_.shapes[0]
        layers = []
        for embedding, (channels, h, w) in zip(embeddings, self.embedder_.shapes, strict=True):
            factor = height // h
            grid = embedding.reshape(h, w, channels)
            layers.append(grid.repeat(factor, axis=0).repeat(factor, axis=1))
        joined = np.concatenate(layers, axis=2).reshape(height * width, -1)
        return joined[:, self.channels_]

    def _build_graph(self) -> Graph:
        embedder, builder = self.embedder_, GraphBuilder(self.embedder_.graph)
        _, height, width = embedder.shapes[0]
        grids = [
            builder.repeat(name, (h, w), height // h)
            for name, (_, h, w) in zip(embedder.names, embedder.shapes, strict=True)
        ]
        joined = grids[0]
        if len(grids) > 1:
            joined = builder.add("Concat", *grids, attributes={"axis": 1})
        channels = builder.constant(self.channels_.astype(np.int64))
        chosen = builder.add("Gather", joined, channels, attributes={"axis": 1})
        ones = np.ones(len(self.channels_), np.float32)
        patches = builder.standardise(chosen, 0 * ones, self.scale_.astype(np.float32))
        mean = builder.constant((self.mean_ / self.scale_)[np.newaxis].astype(np.float32))
        centred = builder.add("Sub", patches, mean)
        # Places become the batch of one matrix product: P×N×C times P×C×C.
        places = builder.add("Transpose", centred, attributes={"perm": [1, 0, 2]})
        factor = builder.add("Cast", builder.constant(self.whitening_), attributes={"to": 1})
        whitened = builder.add("MatMul", places, factor)
        distance = builder.root(builder.squared_length(whitened))
        by_picture = builder.add("Transpose", distance, attributes={"perm": [1, 0, 2]})
        usual = float(np.sqrt(len(self.channels_)))
        smooth = builder.local_mean(builder.as_map(by_picture, height, width, usual), 3)
        graph = Graph(builder.finish(smooth, height, width), embedder.preprocessing, Aggregation())
        rule = self.part_rule_
        return graph if rule is None else rule.on(graph, embedder, self.background)
