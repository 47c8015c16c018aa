"""AnomalyDINO: the distance of every patch token to the nearest token of a few good parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.graph import Graph
from makellos.detectors.graphs import GraphBuilder
from makellos.detectors.parameters import parameter
from makellos.detectors.patches.backbones import backbone_card, backbone_packages
from makellos.detectors.patches.coreset import k_center
from makellos.detectors.patches.embeddings import choose_size, load_embedder
from makellos.detectors.patches.rotations import views
from makellos.detectors.registry import register
from makellos.inspection.aggregation import Aggregation

_LAST = "-1"  # the block whose tokens are compared, where none is named
_CANDIDATES = 4  # times the memory bank, that it is chosen from at most
_TOP = 0.01  # share of the map that makes the score
_SHORTEST = 1e-6  # length that a token is divided by, at least


@register("anomalydino")
class AnomalyDINO(Detector):
    """Keep the patch tokens of good parts and score a token by its distance to the nearest.

    Damm et al., AnomalyDINO: Boosting Patch-based Few-shot Anomaly Detection with DINOv2, WACV 2025
    (arXiv 2405.14529). Tokens are those behind the last norm of a DINO transformer, the distance is
    one minus the cosine, and the good parts are turned, evenly, so that a few of them (1 to 16 in
    the paper) stand for every pose. The score is the mean of the highest hundredth of distances.

    Deviations. No foreground is cut out. Where the tokens of many parts are more than
    `memory_bank_size`, a coreset of them is kept. Pictures keep their shape. At least two parts are
    needed, since one of them calibrates.

    It needs the weights of DINOv2 or DINOv3: from the hub, or from a file. Not measured by us yet:
    no such weights were at hand.
    """

    summary = "nearest good token of a DINO transformer; for few good parts; needs weights"

    backbone: str = shared.transformer("vit_small_patch14_dinov2")
    weights: str = shared.WEIGHTS
    layers: str = parameter(
        "", "Block whose tokens are compared, from 0 or, negative, from the last; empty: the last."
    )
    image_size: int = shared.IMAGE_SIZE
    max_image_size: int = shared.largest_side(448, search=(224, 672))
    n_turns: int = parameter(
        8, "Evenly spaced rotations of each good part; 1: none.", within=(1, 36)
    )
    memory_bank_size: int = parameter(30_000, "Most tokens kept.", within=(1, 1_000_000))
    seed: int = shared.SEED

    presets = {
        "fast": {"max_image_size": 336, "memory_bank_size": 10_000},
        "accurate": {"max_image_size": 672, "memory_bank_size": 60_000},
    }

    def packages(self) -> tuple[str, ...]:
        return backbone_packages(self.backbone, self.weights)

    def _learn(self, parts: Sequence[Part], progress: Progress) -> None:
        from makellos.detectors.networks.feature_extractor import transformer_form

        _, patch = transformer_form(backbone_card(self.backbone).network)
        self.embedder_ = load_embedder(
            choose_size(
                parts,
                image_size=self.image_size,
                max_image_size=self.max_image_size,
                multiple=patch,
            ),
            backbone=self.backbone,
            weights=self.weights,
            layers=self.layers or _LAST,
            patch_size=1,
            norm=True,
        )
        tokens = self._draw(parts, progress)
        kept = np.arange(len(tokens))
        if len(tokens) > self.memory_bank_size:
            kept = k_center(tokens, self.memory_bank_size)
        self.memory_bank_ = tokens[kept].astype(np.float16)

    def _draw(self, parts: Sequence[Part], progress: Progress) -> NDArray[np.float32]:
        """Return tokens of all views of the parts, of unit length; a random share of many."""
        seen = views(parts, n_turns=self.n_turns)
        channels, height, width = self.embedder_.shapes[-1]
        most = max(1, _CANDIDATES * self.memory_bank_size // len(seen))
        quota = min(height * width, most)
        drawn = np.empty((len(seen) * quota, channels), np.float32)
        for i, embeddings in enumerate(self.embedder_.stream(seen, progress)):
            rng = np.random.default_rng([self.seed, i])
            chosen = rng.choice(height * width, quota, replace=False)
            drawn[i * quota : (i + 1) * quota] = embeddings[-1][np.sort(chosen)]
        lengths = np.sqrt(np.einsum("ij,ij->i", drawn, drawn))
        drawn /= np.maximum(lengths, _SHORTEST)[:, np.newaxis]
        return drawn

    def _build_graph(self) -> Graph:
        embedder = self.embedder_
        builder = GraphBuilder(embedder.graph)
        channels, height, width = embedder.shapes[-1]
        flat = builder.add("Reshape", embedder.names[-1], builder.shape(0, channels, -1))
        tokens = builder.add("Transpose", flat, attributes={"perm": [0, 2, 1]})
        lengths = builder.root(builder.squared_length(tokens))
        shortest = builder.constant(np.array(_SHORTEST, np.float32))
        unit = builder.add("Div", tokens, builder.add("Max", lengths, shortest))
        distances = builder.nearest_distance(unit, self.memory_bank_)
        # Between unit vectors, half the squared distance is one minus the cosine.
        squares = builder.add("Mul", distances, distances)
        anomaly_map = builder.as_map(squares, height, width, 2.0)
        return Graph(
            builder.finish(anomaly_map, height, width),
            embedder.preprocessing,
            Aggregation(name="top_k_mean", parameter=_TOP),
        )
