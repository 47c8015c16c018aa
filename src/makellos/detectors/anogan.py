"""AnoGAN: how near a generator of good parts comes to a part when its input is searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.graph import RESIDUAL, UNUSUAL, Graph
from makellos.detectors.parameters import parameter
from makellos.detectors.registry import register
from makellos.errors import ConfigurationError
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.engines import Engine, EngineChoice
from makellos.inspection.external_runtime import ExternalScoring
from makellos.training.settings import Training

if TYPE_CHECKING:
    from makellos.detectors.networks.gan import Discriminator, Generator
    from makellos.detectors.networks.latent_search import LatentSearch
    from makellos.detectors.networks.usual import UnusualResidual
    from makellos.training.pictures import Pictures

Weights = Mapping[str, NDArray[np.float32]]

_N_STEPS = 2000
_BATCH = 32  # parts that are searched at once
_N_SEARCHED = 128  # parts whose maps are learned from, at most
_GENERATOR, _DISCRIMINATOR, _CONTRAST = "generator.", "discriminator.", "contrast"
_RESIDUAL = "residual."
_OF_THE_SEARCH = {
    *("feature_weight", "n_steps", "search_learning_rate", "n_restarts", "n_candidates"),
    *("stop_tolerance", "score", "equalise", "epochs"),
}


@dataclass(frozen=True)
class _Settings:
    """Hold the rate of a GAN's Adam, and how far its discriminator's pictures are moved."""

    learning_rate: float
    augmentation: float


_FOR_SMALL = _Settings(2e-4, 0.1)
# Parts lie alike; a discriminator that sees them moved far does not ask for it.
_FOR_PARTS = _Settings(1e-3, 0.03)


@register("anogan")
class AnoGAN(Detector):
    """Train a DCGAN on good parts, and score by the nearest picture that it can make.

    Schlegl et al. 2017 (arXiv 1703.05921), on the networks of Radford et al. 2015 (arXiv
    1511.06434): for each part the latent z is searched that minimises
    A(x) = (1 - lambda) L_R + lambda L_D by gradient descent; A(x) is the score and the residual
    |x - G(z)| the map. Deviations: losses are means in place of sums; a search begins at the best
    of many random latents and takes small steps, for a latent that strays far from those that the
    generator was trained with makes parts that are not good; and `equalise` counts A(x) of a part
    with less contrast than good ones relative to it, without which faint parts always look good
    (``false`` leaves A(x) as it is). For ``score`` ``map_maximum`` the residual is counted at each
    place in standard deviations from the mean of parts learned from, for edges are always made
    badly. It is inspected with torch.
    """

    summary = "a GAN of good parts, searched for the nearest one; slow, the classic"
    needs_one_pose = True
    trains = True
    gives = ("generator", "reconstruction")
    runtime = "torch"

    image_size: int = shared.side_from(16, 512, otherwise="64")
    channels: int = shared.CHANNELS
    latent_dim: int = shared.logarithmic(
        100, "Length of the generator's input.", within=(1, 4096), search=(16, 200)
    )
    base_width: int = shared.logarithmic(
        32, "Channels of the finest layer; others have more.", within=(1, 512), search=(16, 64)
    )
    discriminator_width: int = shared.DISCRIMINATOR_WIDTH
    epochs: int = shared.epochs_making(_N_STEPS)
    batch_size: int = shared.batch_of(64, least=2)
    learning_rate: float = shared.logarithmic(
        0.0,
        "Learning rate of Adam in training; 0: 0.0002 for pictures of up to 64 pixels a side, "
        "0.001 for larger ones.",
        within=(0.0, 1.0),
        search=(5e-5, 4e-3),
    )
    beta1: float = shared.beta1(0.5)
    beta2: float = shared.beta2(0.999)
    weight_decay: float = shared.WEIGHT_DECAY
    feature_weight: float = parameter(
        0.1,
        "Lambda, the weight of the feature loss; the residual has the rest.",
        within=(0.0, 1.0),
        search=(0.0, 0.5),
    )
    n_steps: int = parameter(500, "Steps per search.", within=(1, 100000))
    search_learning_rate: float = parameter(
        0.003, "Learning rate of Adam in the search.", within=(1e-6, 10.0)
    )
    n_restarts: int = parameter(1, "Searches per part; the best one counts.", within=(1, 64))
    n_candidates: int = parameter(
        1024, "Random latents to choose starting points from.", within=(1, 65536)
    )
    stop_tolerance: float = parameter(
        5e-3,
        "A search ends once 25 steps lower its loss by less than this share; 0: never.",
        within=(0.0, 1.0),
    )
    score: str = parameter(
        "auto",
        "picture: A(x) of the whole picture; map_maximum: the maximum of a map of unusual "
        "residuals, which sees damage that is small on a large part; auto: picture up to 64 pixels "
        "a side, else map_maximum.",
        choices=("auto", "picture", "map_maximum"),
        search=("picture", "map_maximum"),
    )
    equalise: bool = shared.EQUALISE
    seed: int = shared.SEED

    candidates = ()
    presets = {
        "fast": {"n_steps": 200, "search_learning_rate": 0.0075},
        "accurate": {"base_width": 64, "n_restarts": 2},
    }

    @classmethod
    def engines(cls) -> tuple[EngineChoice, ...]:
        """Return torch in the precisions that are no slower than another, the fastest first."""
        import torch

        # Without AMX a processor emulates bf16, slower than float32.
        fast = ("bf16",) if torch.cpu._is_amx_tile_supported() else ()
        return tuple(EngineChoice("torch", precision) for precision in (*fast, "f32"))

    @classmethod
    def open_engine(
        cls, scoring: ExternalScoring, shape: tuple[int, ...], choice: EngineChoice
    ) -> Engine:
        """Return what searches batches N×C×H×W; raises `ConfigurationError` for foreign weights."""
        return _SearchEngine(cls(**scoring.parameters), scoring.weights, shape, choice)

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        from makellos.detectors.loading import (
            are_small,
            choose_preprocessing,
            load_pictures,
            scores_by_map,
        )
        from makellos.detectors.networks.gan import typical_contrast
        from makellos.detectors.networks.gan_training import DCGANTask
        from makellos.training.loop import epochs_for, seeded, train

        preprocessing = choose_preprocessing(
            parts,
            image_size=self.image_size,
            channels=self.channels,
            default_size=64,
            in_proportion=True,
        )
        pictures = load_pictures(parts, preprocessing, progress)
        kept = {k: v for k, v in self.get_parameters().items() if k not in _OF_THE_SEARCH}
        settings = _FOR_SMALL if are_small(parts) else _FOR_PARTS
        with seeded(self.seed):
            task = DCGANTask(
                *self._networks(pictures.shape),
                learning_rate=self.learning_rate or settings.learning_rate,
                augmentation=settings.augmentation,
                betas=(self.beta1, self.beta2),
                weight_decay=self.weight_decay,
            )
            outcome = train(
                task,
                pictures,
                identity={"detector": self.name, **kept},
                n_epochs=self.epochs or epochs_for(_N_STEPS, pictures.n, self.batch_size),
                batch_size=self.batch_size,
                training=training,
                progress=progress,
            )
        self.preprocessing_ = preprocessing
        self.generator_ = task.averaged
        self.discriminator_ = task.discriminator
        self.contrast_ = typical_contrast(pictures)
        self.notes_ = outcome.notes
        self.residual_: UnusualResidual | None = None
        if scores_by_map(self.score, parts):
            self.residual_ = self._learn_residual(pictures, progress)

    def _learn_residual(self, pictures: Pictures, progress: Progress) -> UnusualResidual:
        """Search for some of the parts learned from, and learn what is usual at each place."""
        from makellos.detectors.networks.usual import UnusualResidual

        n = min(pictures.n, _N_SEARCHED)
        some = pictures.subset(np.linspace(0, pictures.n - 1, n).astype(np.intp))
        precision = self.engines()[0].precision
        search = _load_search(self, self._weights(), pictures.shape, precision)
        residual = UnusualResidual()
        residual.learn(some, lambda batch: search(batch).reconstruction, progress, at_once=_BATCH)
        return residual

    def _networks(self, shape: tuple[int, int, int]) -> tuple[Generator, Discriminator]:
        from makellos.detectors.networks.gan import Discriminator, Generator, initialise

        generator = Generator(self.latent_dim, shape, self.base_width)
        discriminator = Discriminator(shape, self.discriminator_width or self.base_width, "batch")
        for network in (generator, discriminator):
            initialise(network)
        return generator, discriminator

    def _weights(self) -> dict[str, NDArray[np.float32]]:
        from makellos.detectors.networks.arrays import arrays_of

        return {
            **arrays_of(self.generator_, _GENERATOR),
            **arrays_of(self.discriminator_, _DISCRIMINATOR),
            _CONTRAST: np.array([self.contrast_], np.float32),
        }

    def _build_graph(self) -> Graph:
        from makellos.detectors.networks.arrays import arrays_of
        from makellos.detectors.networks.exporting import export_generator

        weights = self._weights()
        if self.residual_ is not None:
            weights |= arrays_of(self.residual_, _RESIDUAL)
        generator = export_generator(self.generator_, self.latent_dim)
        scoring = ExternalScoring(self.name, self.get_parameters(), weights)
        return Graph(
            b"",
            self.preprocessing_,
            Aggregation(),
            generator=generator,
            external=scoring,
            map_name=RESIDUAL if self.residual_ is None else UNUSUAL.format(RESIDUAL),
        )


class _SearchEngine:
    """Score batches by a search; a batch of any size, `batch_size` parts at once."""

    batch_size = _BATCH
    reconstructs = True

    def __init__(
        self,
        detector: AnoGAN,
        weights: Weights,
        shape: tuple[int, ...],
        choice: EngineChoice,
    ) -> None:
        self.choice = choice
        self._contrast = float(weights[_CONTRAST][0]) if detector.equalise else 0.0
        self._search = _load_search(detector, weights, shape, choice.precision)
        self._residual = _load_residual(weights, shape)

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return anomaly_map N×H×W, reconstruction N×C×H×W and perhaps score N of N×C×H×W."""
        pieces = [batch[i : i + self.batch_size] for i in range(0, len(batch), self.batch_size)]
        found = [self._run(piece) for piece in pieces]
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}

    def _run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        import torch

        from makellos.detectors.networks.gan import faintness
        from makellos.detectors.networks.latent_search import smoothed

        parts = torch.from_numpy(np.ascontiguousarray(batch))
        found = self._search(parts)
        made = found.reconstruction
        if self._residual is not None:
            counted = self._residual(parts, made)
            return {"anomaly_map": counted.numpy(), "reconstruction": made.numpy()}
        score = found.score
        if self._contrast:
            score = score / faintness(parts, self._contrast)
        return {
            "anomaly_map": smoothed(found.residual).numpy(),
            "score": score.numpy(),
            "reconstruction": made.numpy(),
        }


def _load_residual(weights: Weights, shape: tuple[int, ...]) -> UnusualResidual | None:
    """Return what counts residuals, where a model has learned what is usual."""
    import torch

    from makellos.detectors.networks.arrays import load_arrays
    from makellos.detectors.networks.usual import UnusualResidual

    if not any(name.startswith(_RESIDUAL) for name in weights):
        return None
    residual = UnusualResidual()
    residual.usual.usual, residual.usual.spread = torch.zeros(2, *shape[1:]).unbind()
    if load_arrays(residual, weights, _RESIDUAL):
        raise ConfigurationError(
            f"anogan: what it learned to be usual does not fit pictures of {shape}. Fit the model "
            "again."
        )
    residual.requires_grad_(requires_grad=False)
    return residual


def _load_search(
    detector: AnoGAN, weights: Weights, shape: tuple[int, ...], precision: str
) -> LatentSearch:
    import torch

    from makellos.detectors.networks.arrays import load_arrays, misfits
    from makellos.detectors.networks.latent_search import LatentSearch, SearchSettings

    channels, height, width = shape
    # Networks without memory first: what the weights do not fit must not take any.
    for device in ("meta", "cpu"):
        with torch.random.fork_rng(devices=[]), torch.device(device):  # weights are replaced
            generator, discriminator = detector._networks((channels, height, width))
        for prefix, network in ((_GENERATOR, generator), (_DISCRIMINATOR, discriminator)):
            if misfits(network, weights, prefix):
                raise ConfigurationError(
                    f"anogan: the weights of the {prefix[:-1]} do not fit pictures of {shape} with "
                    f"base_width {detector.base_width}. Fit the model again."
                )
    load_arrays(generator, weights, _GENERATOR)
    load_arrays(discriminator, weights, _DISCRIMINATOR)
    settings = SearchSettings(
        feature_weight=detector.feature_weight,
        n_steps=detector.n_steps,
        learning_rate=detector.search_learning_rate,
        n_restarts=detector.n_restarts,
        n_candidates=detector.n_candidates,
        tolerance=detector.stop_tolerance,
        seed=detector.seed,
    )
    return LatentSearch(
        generator,
        discriminator,
        latent_dim=detector.latent_dim,
        settings=settings,
        precision=precision,
    )
