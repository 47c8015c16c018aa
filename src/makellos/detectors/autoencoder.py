"""Autoencoder: what a network that knows good parts alone cannot give back is damage."""

from __future__ import annotations

import re
from collections.abc import Sequence

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.graph import RESIDUAL, UNUSUAL, Graph
from makellos.detectors.loading import choose_preprocessing, load_pictures
from makellos.detectors.parameters import parameter
from makellos.detectors.registry import register
from makellos.errors import ConfigurationError, suggest
from makellos.inspection.aggregation import Aggregation
from makellos.training.settings import Training

LOSSES = ("ssim", "ms-ssim", "l1", "l2")
_OTHER_NAMES = {"mse": "l2", "mae": "l1", "dssim": "ssim", "msssim": "ms-ssim"}
_MAP_NAMES = {"ssim": "SSIM residual", "residual": RESIDUAL}
_N_STEPS = 1000
_MOST_LAYERS = 8
_VALIDATED = 0.1  # share of the pictures that training is validated with
_AT_LEAST = 8  # pictures, or none


@register("autoencoder")
class Autoencoder(Detector):
    """Train a convolutional autoencoder on good parts and score by what it cannot give back.

    Bergmann et al., Improving Unsupervised Defect Segmentation by Applying Structural Similarity
    to Autoencoders, VISAPP 2019 (arXiv 1807.02011): convolutions of stride 2, a narrow vector, the
    decoder mirrored, SSIM as loss, and local SSIM between part and reconstruction as map.
    Deviations: widths and vector as given here; a sigmoid ends the decoder; the map's contrast
    constant is 0.1 in place of 0.03, so that the grain of surfaces, which no narrow vector holds,
    counts little; and the map is smoothed and counted at each place in standard deviations from
    the mean of the parts learned from, for edges are given back worse than planes. It suits parts
    that lie alike in every picture.
    """

    summary = "a network that reconstructs good parts; for parts that always lie the same way"
    needs_one_pose = True
    trains = True
    gives = ("reconstruction",)

    image_size: int = shared.side_from(16, 1024, otherwise="256")
    channels: int = parameter(
        0, "1: grey, 3: colour, 0: as small pictures are, else 1.", choices=(0, 1, 3)
    )
    widths: str = parameter(
        "32,64,128,64,128", "Channels of the encoder's layers, each of which halves the resolution."
    )
    latent_dim: int = shared.logarithmic(
        500, "Length of the vector at the bottleneck.", within=(1, 16384), search=(30, 1000)
    )
    loss: str = parameter(
        "ssim",
        "ssim, ms-ssim, l1, l2, or a sum such as 0.84*ms-ssim+0.16*l1.",
        search=("ssim", "l2"),
    )
    map: str = parameter(
        "ssim",
        "What the map shows: local dissimilarity, or absolute difference.",
        choices=("ssim", "residual"),
        search=("ssim", "residual"),
    )
    smoothing: int = parameter(
        5, "Window, an odd number of pixels, of the two local means over the map.", within=(1, 63)
    )
    flips: str = parameter(
        "none", "Random flips in training.", choices=("none", "horizontal", "vertical", "both")
    )
    rotation: float = parameter(
        0.0, "Largest random rotation in training, in degrees.", within=(0.0, 180.0)
    )
    brightness: float = parameter(
        0.0, "Largest random change of brightness, as a share.", within=(0.0, 0.9)
    )
    epochs: int = shared.epochs_making(_N_STEPS)
    batch_size: int = shared.batch_of(10)
    learning_rate: float = shared.rate(5e-4, "Learning rate of Adam.", search=(1e-4, 5e-3))
    beta1: float = shared.beta1(0.9)
    beta2: float = shared.beta2(0.999)
    weight_decay: float = shared.WEIGHT_DECAY
    patience: int = parameter(
        0, "Stop after so many epochs without improvement; 0: never.", within=(0, 100000)
    )
    seed: int = shared.SEED

    candidates = ()
    presets = {
        "fast": {"image_size": 128},
        "accurate": {"epochs": 200},
    }

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        widths = shared.whole_numbers(f"{self.name}: widths", self.widths, most=_MOST_LAYERS)
        weights = loss_weights(self.loss)
        if self.smoothing % 2 == 0:
            raise ConfigurationError(
                f"{self.name}: smoothing is {self.smoothing}; expected an odd whole number."
            )
        from makellos.detectors.networks.autoencoder import (
            Augmentation,
            Compared,
            ConvolutionalAutoencoder,
            ReconstructionTask,
        )
        from makellos.detectors.networks.usual import batches_of
        from makellos.training.loop import epochs_for, seeded, train

        preprocessing = choose_preprocessing(
            parts,
            image_size=self.image_size,
            channels=self.channels,
            default_size=256,
            default_channels=1,
            in_proportion=True,
        )
        pictures = load_pictures(parts, preprocessing, progress)
        learned, held_out = pictures.split(_VALIDATED, at_least=_AT_LEAST, seed=self.seed)
        augments = self.flips != "none" or self.rotation > 0 or self.brightness > 0
        with seeded(self.seed):
            network = ConvolutionalAutoencoder(pictures.shape, widths, self.latent_dim)
            outcome = train(
                ReconstructionTask(
                    network,
                    weights,
                    self.learning_rate,
                    betas=(self.beta1, self.beta2),
                    weight_decay=self.weight_decay,
                ),
                learned,
                identity={"detector": self.name, **self.get_parameters()},
                n_epochs=self.epochs or epochs_for(_N_STEPS, learned.n, self.batch_size),
                batch_size=self.batch_size,
                training=training,
                progress=progress,
                augment=Augmentation(
                    flips=self.flips, degrees=self.rotation, brightness=self.brightness
                )
                if augments
                else None,
                validation=held_out,
                patience=self.patience,
            )
        compared = Compared(network, self.map, self.smoothing)
        compared.eval().learn(batches_of(pictures, progress))
        self.preprocessing_ = preprocessing
        self.notes_ = outcome.notes
        self.compared_ = compared

    def _build_graph(self) -> Graph:
        from makellos.detectors.networks.exporting import export_graph

        shape = self.preprocessing_.shape
        onnx = export_graph(self.compared_, shape, ("anomaly_map", "reconstruction"))
        aggregation = Aggregation(name="top_k_mean", parameter=0.001)
        name = UNUSUAL.format(_MAP_NAMES[self.map])
        return Graph(onnx, self.preprocessing_, aggregation, map_name=name)


def loss_weights(text: str) -> dict[str, float]:
    """Return the weight of each loss in a text such as ``0.84*ms-ssim+0.16*l1``.

    Raises `ConfigurationError` for a loss that there is not, one named twice, and a weight that is
    no positive number.
    """
    found: dict[str, float] = {}
    for term in text.replace(" ", "").split("+"):
        match = re.fullmatch(r"(?:(\d+(?:\.\d*)?|\.\d+)\*)?([a-z][a-z0-9-]*)", term.lower())
        if match is None or (weight := float(match[1] or 1)) <= 0:
            raise ConfigurationError(
                f"autoencoder: loss is {text!r}; expected {', '.join(LOSSES)}, or a sum of "
                "these with positive weights, such as 0.84*ms-ssim+0.16*l1."
            )
        if match[2] not in LOSSES:
            raise ConfigurationError(
                f"autoencoder: loss is {text!r}, and there is no loss {match[2]!r}. "
                f"{suggest(match[2], LOSSES, _OTHER_NAMES)}"
            )
        if match[2] in found:
            raise ConfigurationError(
                f"autoencoder: loss is {text!r}, which names {match[2]} twice. Name each once."
            )
        found[match[2]] = weight
    return found
