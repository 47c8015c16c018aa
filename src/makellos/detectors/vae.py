"""VAE: how little a variational autoencoder of good parts explains of a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from makellos.data.parts import Part
from makellos.data.progress import Progress
from makellos.detectors import parameters as shared
from makellos.detectors.contract import Detector
from makellos.detectors.graph import RESIDUAL, UNUSUAL, Graph
from makellos.detectors.loading import choose_preprocessing, load_pictures, scores_by_map
from makellos.detectors.parameters import parameter
from makellos.detectors.registry import register
from makellos.errors import ConfigurationError
from makellos.inspection.aggregation import Aggregation
from makellos.inspection.preprocessing import Preprocessing
from makellos.training.settings import Training

if TYPE_CHECKING:
    from makellos.training.pictures import Pictures

_DEFAULT_SIZE = 128
_N_STEPS = 2000
_SMALL = 1024  # pixels up to which a fully connected network is chosen
# A fully connected network on larger pictures has over fifty million weights.
_MOST_VALUES = 128 * 128 * 3
_ASIDE = 0.1  # share of parts that early stopping looks at
_FEWEST_ASIDE = 4
_N_LOOKED_AT = 64
_MAP_NAME = "negative log-likelihood"
_MOST_HIDDEN = 4
_BLACK_AND_WHITE = 0.3  # mean grayness below which pixels are as good as black or white


@register("vae")
class VAE(Detector):
    """Learn a variational autoencoder of good parts and score by how little of a part it explains.

    Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014 (arXiv 1312.6114): encoder and
    decoder are trained together by the evidence lower bound, reparameterised, with `beta` times
    the divergence of the posterior from a standard normal. An and Cho, Variational Autoencoder
    based Anomaly Detection using Reconstruction Probability, 2015: the likelihood of a part is
    averaged over `n_samples` draws from its posterior (`score` ``reconstruction_probability``);
    ``elbo`` adds the divergence, `beta` times.

    Deviations. Logarithms of the likelihood are averaged, since it is too small for a number
    itself. Scores are means per pixel and channel, in nats, negated, so that they compare over
    sizes. The Bernoulli likelihood is taken relative to that of a perfect reconstruction: else the
    gray edges of strokes cost most, and wide strokes look odd. For the score, pictures and
    reconstructions are compared as averages over `smoothing` pixels, since an edge reproduced half
    a pixel away is no defect. The Gaussian likelihood has one standard deviation, learned, not one
    for each pixel and picture: a network that may say itself how wrong it is explains defects as
    well. The draws are fixed with the seed, in pairs of opposite sign: a part has one score.
    Networks with convolutions, and a learning rate that falls, are those of today.

    The map is the likelihood's share of the score at each pixel; for ``map_maximum`` it is the
    residual of the reconstruction, counted at each place in standard deviations from the mean of
    the parts learned from, for edges are always given back badly. New pictures come from the
    decoder of random latents.
    """

    summary = "a variational autoencoder; likelihood of parts, and new pictures of them"
    needs_one_pose = True
    trains = True
    gives = ("generator", "reconstruction")

    image_size: int = shared.side_from(16, 1024, otherwise=str(_DEFAULT_SIZE))
    channels: int = shared.CHANNELS
    network: str = parameter(
        "auto",
        "dense is fully connected; auto uses it up to 32×32 pixels.",
        choices=("auto", "convolutional", "dense"),
    )
    latent_dim: int = shared.logarithmic(
        20, "Length of the latent vector.", within=(1, 4096), search=(4, 100)
    )
    width: int = shared.logarithmic(
        16, "Channels of the first convolution.", within=(1, 256), search=(8, 32)
    )
    hidden_widths: str = parameter(
        "512,256", "Units of the dense network's layers before the latents."
    )
    likelihood: str = parameter(
        "auto",
        "Of a pixel: cross-entropy (bernoulli), or Gaussian with one learned deviation; auto "
        "uses cross-entropy if pictures are nearly black and white.",
        choices=("auto", "bernoulli", "gaussian"),
    )
    beta: float = shared.logarithmic(
        1.0, "Weight of the latents' divergence.", within=(0.0, 1000.0), search=(0.1, 10.0)
    )
    score: str = parameter(
        "auto",
        "reconstruction_probability: negative log-likelihood over draws of the latents; elbo: plus "
        "their divergence; map_maximum: the maximum of a map of unusual residuals, which sees "
        "damage that is small on a large part; auto: the first up to 64 pixels a side, else the "
        "last.",
        choices=("auto", "reconstruction_probability", "elbo", "map_maximum"),
        search=("reconstruction_probability", "map_maximum"),
    )
    n_samples: int = parameter(8, "Latent draws averaged into a score.", within=(1, 256))
    smoothing: int = parameter(
        3,
        "Window, an odd number of pixels, over which picture and reconstruction are averaged.",
        within=(1, 63),
    )
    epochs: int = shared.epochs_making(_N_STEPS)
    batch_size: int = shared.batch_of(64)
    learning_rate: float = shared.rate(
        0.001, "Initial learning rate; it falls to zero.", search=(2e-4, 5e-3)
    )
    beta1: float = shared.beta1(0.9)
    beta2: float = shared.beta2(0.999)
    weight_decay: float = shared.WEIGHT_DECAY
    patience: int = parameter(
        0,
        "Stop after so many epochs without a lower loss on a held-out tenth; 0: never.",
        within=(0, 100_000),
    )
    seed: int = shared.SEED

    candidates = ()
    presets = {
        "fast": {"width": 8, "latent_dim": 10, "n_samples": 2},
        "accurate": {"width": 32, "latent_dim": 32, "n_samples": 16},
    }

    def _train(self, parts: Sequence[Part], progress: Progress, training: Training) -> None:
        from makellos.detectors.networks.usual import UnusualResidual
        from makellos.detectors.networks.vae import Likelihood, VariationalAutoencoder
        from makellos.detectors.networks.vae_training import VAETask
        from makellos.training.loop import epochs_for, seeded, train

        if self.smoothing % 2 == 0:
            raise ConfigurationError(
                f"{self.name}: smoothing is {self.smoothing}; expected an odd whole number."
            )
        preprocessing = choose_preprocessing(
            parts,
            image_size=self.image_size,
            channels=self.channels,
            default_size=_DEFAULT_SIZE,
            in_proportion=True,
        )
        dense = self._is_dense(preprocessing.shape)
        hidden = self._hidden(preprocessing, dense=dense)
        pictures = load_pictures(parts, preprocessing, progress)
        validation = None
        if self.patience:
            pictures, validation = pictures.split(_ASIDE, at_least=_FEWEST_ASIDE, seed=self.seed)
        with seeded(self.seed):
            network = VariationalAutoencoder(
                preprocessing.shape, self.latent_dim, self.width, dense=dense, hidden=hidden
            )
            likelihood = Likelihood(self._likelihood_of(pictures), self.smoothing)
            task = VAETask(
                network,
                likelihood,
                beta=self.beta,
                learning_rate=self.learning_rate,
                betas=(self.beta1, self.beta2),
                weight_decay=self.weight_decay,
            )
            outcome = train(
                task,
                pictures,
                identity={"detector": self.name, **self.get_parameters()},
                n_epochs=self.epochs or epochs_for(_N_STEPS, pictures.n, self.batch_size),
                batch_size=self.batch_size,
                training=training,
                progress=progress,
                validation=validation,
                patience=self.patience,
            )
        self.preprocessing_, self.notes_ = preprocessing, outcome.notes
        self.network_, self.likelihood_ = network, likelihood
        self.residual_ = UnusualResidual() if scores_by_map(self.score, parts) else None
        if self.residual_ is not None:
            self.residual_.learn(pictures, network, progress)

    def _likelihood_of(self, pictures: Pictures) -> str:
        """Return the likelihood that is asked for, or the one that suits the pictures."""
        if self.likelihood != "auto":
            return self.likelihood
        some = pictures.batch(range(0, pictures.n, max(1, pictures.n // _N_LOOKED_AT)))
        # 0 for pixels that are black or white, 1 for those in the middle between them.
        grayness = float((4 * some * (1 - some)).mean())
        return "bernoulli" if grayness < _BLACK_AND_WHITE else "gaussian"

    def _is_dense(self, shape: tuple[int, int, int]) -> bool:
        channels, height, width = shape
        if self.network == "auto":
            return height * width <= _SMALL
        if self.network == "dense" and channels * height * width > _MOST_VALUES:
            raise ConfigurationError(
                f"{self.name}: network is 'dense' for pictures of {height}×{width}×{channels}, and "
                f"image_size is {self.image_size}; expected pictures of up to {_MOST_VALUES} "
                "values, such as 128×128 in colour. Give a smaller image_size, or "
                "network=convolutional."
            )
        return self.network == "dense"

    def _hidden(self, preprocessing: Preprocessing, *, dense: bool) -> tuple[int, ...]:
        """Return the units of a dense network's layers; raise if another network is asked for."""
        default, given = self.parameters["hidden_widths"].default, self.hidden_widths
        if not dense and given != default:
            raise ConfigurationError(
                f"{self.name}: hidden_widths is {given!r}, but pictures of {preprocessing} get the "
                "convolutional network, whose width is set with width. Leave it out, or set "
                "network=dense."
            )
        return shared.whole_numbers(f"{self.name}: hidden_widths", given, most=_MOST_HIDDEN)

    def _build_graph(self) -> Graph:
        from makellos.detectors.networks.exporting import export_generator, export_graph
        from makellos.detectors.networks.vae import ResidualScoring, Sampler

        generator = export_generator(Sampler(self.network_), self.latent_dim)
        if self.residual_ is not None:
            onnx = export_graph(
                ResidualScoring(self.network_, self.residual_),
                self.preprocessing_.shape,
                ("anomaly_map", "reconstruction"),
            )
            name = UNUSUAL.format(RESIDUAL)
        else:
            onnx = self._export_scores()
            name = _MAP_NAME
        return Graph(onnx, self.preprocessing_, Aggregation(), generator=generator, map_name=name)

    def _export_scores(self) -> bytes:
        from makellos.detectors.networks.exporting import export_graph
        from makellos.detectors.networks.vae import Scoring, draw_noise

        scoring = Scoring(
            self.network_,
            self.likelihood_,
            draw_noise(self.n_samples, self.latent_dim, self.seed),
            weight=self.beta if self.score == "elbo" else 0.0,
        )
        return export_graph(
            scoring,
            self.preprocessing_.shape,
            ("anomaly_map", "score", "reconstruction"),
        )
