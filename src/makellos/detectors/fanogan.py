"""f-AnoGAN: how badly a generator of good parts makes a part again from what an encoder sees."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.graph import RESIDUAL, UNUSUAL, Graph
from makellos.detectors.parameters import parameter
from makellos.detectors.registry import register
from makellos.errors import ConfigurationError
from makellos.inspection.aggregation import Aggregation
from makellos.training.settings import Training

if TYPE_CHECKING:
    from torch import Tensor

    from makellos.detectors.networks.gan import Encoder, Generator
    from makellos.detectors.networks.gan_training import DCGANTask, WGANGPTask
    from makellos.detectors.networks.usual import UnusualResidual
    from makellos.training.pictures import Pictures

_DEFAULT_SIZE = 64
_N_GAN_STEPS = 4000
_N_ENCODER_STEPS = 800
_LEARNING_RATES = {"wgan-gp": 1e-3, "dcgan": 2e-4}
_SECOND_BETAS = {"wgan-gp": 0.9, "dcgan": 0.999}
_N_CRITIC = {"wgan-gp": 5, "dcgan": 1}
_PENALTY = 10.0
_OF_THE_ENCODER = {"encoder_epochs", "encoder_training", "kappa", "score", "equalise"}


@register("fanogan")
class FAnoGAN(Detector):
    """Train a GAN on good parts and an encoder for it, and score what the two make of a part.

    Schlegl et al., f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial
    networks, Medical Image Analysis 54, 2019: a WGAN-GP (Gulrajani et al. 2017, arXiv 1704.00028)
    or DCGAN generator G, then an encoder E, trained ``izi``, ``ziz`` or ``izi_f``. The score is
    A(x) = |x - G(E(x))|² + kappa |f(x) - f(G(E(x)))|², f the critic's last but one layer, means
    over pixels and over features. The map is the residual |x - G(E(x))|, averaged over 3×3 pixels;
    for ``score`` ``map_maximum`` it is counted at each place in standard deviations from the mean
    of the parts learned from, for edges are always given back badly.

    Deviations. Convolutions are those of Radford et al. 2015, in place of residual blocks. Latents
    have the length sqrt(d) that draws from N(0, 1) nearly have, and are 32 numbers, not 128: with
    more room, parts that are not good are reproduced as well. Few pictures go further: the critic
    sees them moved by up to `augmentation`, the generator is the moving average of its steps, and
    half of the encoder's pictures are made ones. `equalise` counts A(x) of a part with less
    contrast than good ones relative to it, without which faint parts always look good.
    """

    summary = "a GAN of good parts and an encoder; fast to inspect, generates pictures"
    needs_one_pose = True
    trains = True
    gives = ("generator", "reconstruction")

    image_size: int = shared.side_from(16, 512, otherwise=str(_DEFAULT_SIZE))
    channels: int = shared.CHANNELS
    latent_dim: int = shared.logarithmic(
        32, "Length of the generator's input.", within=(2, 4096), search=(8, 128)
    )
    base_width: int = shared.logarithmic(
        16, "Channels of the finest layer; others have more.", within=(1, 512), search=(8, 32)
    )
    discriminator_width: int = shared.DISCRIMINATOR_WIDTH
    gan: str = parameter("wgan-gp", "How the generator is trained.", choices=("wgan-gp", "dcgan"))
    epochs: int = parameter(
        0, "Passes of the GAN over the parts; 0: about 4000 steps.", within=(0, 1_000_000)
    )
    encoder_epochs: int = parameter(
        0, "Passes of the encoder over the parts; 0: about 800 steps.", within=(0, 1_000_000)
    )
    batch_size: int = shared.batch_of(32, least=2)
    learning_rate: float = shared.logarithmic(
        0.0,
        "Learning rate of the GAN; 0: 0.001 for wgan-gp, 0.0002 for dcgan.",
        within=(0.0, 1.0),
        search=(1e-4, 4e-3),
    )
    encoder_learning_rate: float = shared.rate(
        0.001,
        "Initial learning rate of the encoder; it falls to zero.",
        search=(2e-4, 5e-3),
    )
    beta1: float = shared.beta1(0.5, "First beta of the GAN's Adam, its momentum.")
    beta2: float = shared.beta2(
        0.0, "Second beta of the GAN's Adam; 0: 0.9 for wgan-gp, 0.999 for dcgan."
    )
    weight_decay: float = shared.WEIGHT_DECAY
    n_critic: int = parameter(
        0,
        "Steps of the critic, or discriminator, per generator step; 0: 5 for wgan-gp, 1 for dcgan.",
        within=(0, 100),
    )
    gradient_penalty: float = parameter(
        _PENALTY, "Weight of the critic's gradient penalty; only for wgan-gp.", within=(0.0, 1e4)
    )
    augmentation: float = parameter(
        0.1,
        "Largest random shift of pictures before the critic sees them, as a share of the sides.",
        within=(0.0, 0.5),
        search=(0.0, 0.2),
    )
    encoder_training: str = parameter(
        "izi_f",
        "What the encoder learns to preserve: pictures, latents, or pictures and features.",
        choices=("izi", "ziz", "izi_f"),
    )
    kappa: float = parameter(1.0, "Weight of features in the score.", within=(0.0, 1e6))
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
        "fast": {"base_width": 8},
        "accurate": {"base_width": 32},
    }

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        if self.gan == "dcgan" and self.gradient_penalty not in (0.0, _PENALTY):
            raise ConfigurationError(
                f"{self.name}: gradient_penalty is {self.gradient_penalty:g}, but gan is 'dcgan', "
                "which has no gradient penalty. Leave it out, or set gan=wgan-gp."
            )
        from makellos.detectors.loading import (
            choose_preprocessing,
            load_pictures,
            scores_by_map,
        )
        from makellos.detectors.networks.gan import typical_contrast
        from makellos.detectors.networks.usual import UnusualResidual
        from makellos.training.loop import seeded

        preprocessing = choose_preprocessing(
            parts,
            image_size=self.image_size,
            channels=self.channels,
            default_size=_DEFAULT_SIZE,
            in_proportion=True,
        )
        pictures = load_pictures(parts, preprocessing, progress)
        with seeded(self.seed):
            self.gan_, went_on = self._train_gan(pictures, progress, training.inside("gan"))
        where = training.inside("encoder")
        if went_on:  # an encoder that was trained for an earlier generator is of no use
            where = replace(where, resume=False)
        with seeded(self.seed):
            self.encoder_ = self._train_encoder(pictures, progress, where)
        self.preprocessing_ = preprocessing
        self.contrast_ = typical_contrast(pictures)
        self.residual_: UnusualResidual | None = None
        if scores_by_map(self.score, parts):
            self.residual_ = UnusualResidual()
            self.residual_.learn(pictures, self._again, progress)

    def _train_gan(
        self, pictures: Pictures, progress: Progress, training: Training
    ) -> tuple[DCGANTask | WGANGPTask, bool]:
        """Return the trained networks, and whether any step of them was taken now."""
        from makellos.training.loop import epochs_for, train

        task = self._gan_task(pictures.shape)
        kept = {k: v for k, v in self.get_parameters().items() if k not in _OF_THE_ENCODER}
        outcome = train(
            task,
            pictures,
            identity={"detector": self.name, "network": "gan", **kept},
            n_epochs=self.epochs or epochs_for(_N_GAN_STEPS, pictures.n, self.batch_size),
            batch_size=self.batch_size,
            training=training,
            progress=progress,
            label="training the GAN",
        )
        self.notes_ = outcome.notes
        return task, outcome.went_on

    def _gan_task(self, shape: tuple[int, int, int]) -> DCGANTask | WGANGPTask:
        from makellos.detectors.networks.gan import Discriminator, Generator, initialise
        from makellos.detectors.networks.gan_training import DCGANTask, WGANGPTask

        generator = Generator(self.latent_dim, shape, self.base_width, spherical=True)
        rate = self.learning_rate or _LEARNING_RATES[self.gan]
        betas = (self.beta1, self.beta2 or _SECOND_BETAS[self.gan])
        width = self.discriminator_width or self.base_width
        n_critic = self.n_critic or _N_CRITIC[self.gan]
        if self.gan == "dcgan":
            discriminator = Discriminator(shape, width, "batch")
            for network in (generator, discriminator):
                initialise(network)
            return DCGANTask(
                generator,
                discriminator,
                learning_rate=rate,
                betas=betas,
                weight_decay=self.weight_decay,
                n_critic=n_critic,
                augmentation=self.augmentation,
            )
        # Weights of N(0, 0.02) are made for batch norm; a critic without learns nothing for long.
        return WGANGPTask(
            generator,
            Discriminator(shape, width, "layer"),
            learning_rate=rate,
            betas=betas,
            weight_decay=self.weight_decay,
            n_critic=n_critic,
            penalty=self.gradient_penalty,
            augmentation=self.augmentation,
        )

    def _train_encoder(self, pictures: Pictures, progress: Progress, training: Training) -> Encoder:
        from makellos.detectors.networks.gan import Encoder
        from makellos.detectors.networks.gan_training import EncoderTask
        from makellos.training.loop import epochs_for, train

        encoder = Encoder(self.latent_dim, pictures.shape, self.base_width, "layer")
        task = EncoderTask(
            encoder,
            self.gan_.averaged,
            self.gan_.discriminator,
            mode=self.encoder_training,
            kappa=self.kappa,
            learning_rate=self.encoder_learning_rate,
            weight_decay=self.weight_decay,
        )
        train(
            task,
            pictures,
            identity={
                "detector": self.name,
                "network": "encoder",
                **self.get_parameters(),
                "gan": _digest(self.gan_.averaged),
            },
            n_epochs=self.encoder_epochs
            or epochs_for(_N_ENCODER_STEPS, pictures.n, self.batch_size),
            batch_size=self.batch_size,
            training=training,
            progress=progress,
            label="training the encoder",
        )
        return encoder

    def _again(self, pictures: Tensor) -> Tensor:
        made: Tensor = self.gan_.averaged(self.encoder_(pictures))
        return made

    def _build_graph(self) -> Graph:
        from makellos.detectors.networks.exporting import export_generator, export_graph
        from makellos.detectors.networks.gan import EncoderResidual

        generator = export_generator(self.gan_.averaged, self.latent_dim)
        if self.residual_ is not None:
            onnx = export_graph(
                EncoderResidual(self.encoder_, self.gan_.averaged, self.residual_),
                self.preprocessing_.shape,
                ("anomaly_map", "reconstruction"),
            )
            name = UNUSUAL.format(RESIDUAL)
        else:
            onnx = self._export_scores()
            name = RESIDUAL
        return Graph(onnx, self.preprocessing_, Aggregation(), generator=generator, map_name=name)

    def _export_scores(self) -> bytes:
        from makellos.detectors.networks.exporting import export_graph
        from makellos.detectors.networks.gan import EncoderScoring

        scoring = EncoderScoring(
            self.encoder_,
            self.gan_.averaged,
            self.gan_.discriminator,
            kappa=self.kappa,
            typical_contrast=self.contrast_ if self.equalise else 0.0,
        )
        return export_graph(
            scoring,
            self.preprocessing_.shape,
            ("anomaly_map", "score", "reconstruction"),
        )


def _digest(network: Generator) -> str:
    digest = hashlib.sha256()
    for values in network.state_dict().values():
        digest.update(values.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
