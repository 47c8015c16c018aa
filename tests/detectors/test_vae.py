"""The variational autoencoder against torch's distributions, and on drawn parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from makellos.data.parts import Part
from makellos.detectors.graph import Graph
from makellos.detectors.networks import vae as networks
from makellos.detectors.networks.vae import Likelihood, Scoring, VariationalAutoencoder, draw_noise
from makellos.detectors.networks.vae_training import VAETask
from makellos.detectors.vae import VAE
from makellos.drawing.overlays import write_picture
from makellos.errors import ConfigurationError
from makellos.training import Training, loop

SHAPES = [(1, 28, 28), (3, 16, 16), (1, 17, 41), (3, 33, 20), (1, 100, 100), (3, 31, 64)]
OFTEN: dict[str, Any] = {"checkpoint_seconds": 0.0}
Draw = Callable[..., list[Part]]
Pixels = NDArray[np.uint8]


def picture(rng: np.random.Generator, height: int = 16, width: int = 16) -> Pixels:
    """Return a dark H×W picture with a bright bar across, somewhere in the upper half."""
    pixels = np.full((height, width), 40, np.uint8)
    top = int(rng.integers(2, height // 2 - 2))
    pixels[top : top + 3] = 200
    return pixels + rng.integers(0, 8, pixels.shape, np.uint8)


def damaged(rng: np.random.Generator) -> Pixels:
    """Return such a picture with a bright square in its lower half, at rows 10:14, columns 6:10."""
    pixels = picture(rng)
    pixels[10:14, 6:10] = 250
    return pixels


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute with one thread: such small networks gain nothing by more, and lose on a busy PC."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Return what writes pictures as parts."""

    def write(n_parts: int = 8, height: int = 16, width: int = 16, *, color: bool = False) -> Any:
        rng, parts = np.random.default_rng(0), []
        for i in range(n_parts):
            pixels = picture(rng, height, width)
            path = tmp_path / f"{i}.png"
            write_picture(path, np.stack([pixels, pixels, 255 - pixels], 2) if color else pixels)
            parts.append(Part(source=path, name=path.name))
        return parts

    return write


def vae(**changes: Any) -> VAE:
    small = {"latent_dim": 3, "width": 4, "epochs": 2, "batch_size": 4, "n_samples": 4}
    return VAE(**{**small, **changes})


def run(onnx: bytes, values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {session.get_inputs()[0].name: values})
    return dict(zip(names, found, strict=True))


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).random(shape, np.float32)


@pytest.mark.parametrize("dense", [False, True], ids=["convolutional", "dense"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_networks_keep_every_size(shape: tuple[int, int, int], dense: bool) -> None:
    network = VariationalAutoencoder(shape, 5, 4, dense=dense)
    mean, log_variance = network.encode(torch.rand(2, *shape))
    assert mean.shape == log_variance.shape == (2, 5)
    assert network.decode(mean).shape == (2, *shape)
    # Every pixel depends on the latent: what an enlargement cuts off, it must not leave empty.
    made = network.decode(torch.randn(16, 5))
    assert (made.std(0) > 0).all()


def test_dense_network_has_the_named_widths() -> None:
    network = VariationalAutoencoder((1, 20, 20), 7, 4, dense=True)
    linear = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    widths = [(layer.in_features, layer.out_features) for layer in linear]
    assert widths == [(400, 512), (512, 256), (256, 14), (7, 256), (256, 512), (512, 400)]


def test_divergence_is_that_of_gaussians() -> None:
    mean, log_variance = torch.randn(6, 4), torch.randn(6, 4)
    posterior = Normal(mean, (log_variance / 2).exp())
    expected = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(networks.kl_divergence(mean, log_variance), expected)


def test_extreme_posteriors_stay_finite() -> None:
    network = VariationalAutoencoder((1, 16, 16), 3, 4, dense=True)
    with torch.no_grad():
        network.encoder[-1].bias.fill_(1e4)
    mean, log_variance = network.encode(torch.rand(2, 1, 16, 16))
    assert torch.isfinite(networks.kl_divergence(mean, log_variance)).all()


def test_bernoulli_loss_is_the_negative_log_likelihood() -> None:
    logits, pictures = torch.randn(3, 1, 8, 8), torch.rand(3, 1, 8, 8).round()
    expected = -Bernoulli(logits=logits).log_prob(pictures).flatten(1).sum(1)
    torch.testing.assert_close(Likelihood("bernoulli", 3).loss(logits, pictures), expected)


def test_bernoulli_deviation_is_the_divergence_of_pixels() -> None:
    draws = torch.Generator().manual_seed(0)
    made = 0.01 + 0.98 * torch.rand(6, 3, 8, 8, generator=draws)
    pictures = torch.rand(3, 3, 8, 8, generator=draws)
    found = Likelihood("bernoulli", 1).deviation(made, pictures, 2)
    pairs = made.unflatten(0, (3, 2))
    expected = kl_divergence(Bernoulli(pictures.unsqueeze(1).expand_as(pairs)), Bernoulli(pairs))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("smoothing", [1, 3])
def test_perfect_reconstruction_deviates_by_nothing(name: str, smoothing: int) -> None:
    pictures = torch.cat([torch.rand(2, 1, 8, 8), torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)])
    likelihood = Likelihood(name, smoothing)
    assert likelihood.deviation(pictures, pictures, 1).abs().max() < 1e-6
    assert (likelihood.deviation(1 - pictures, pictures, 1) >= 0).all()
    assert torch.isfinite(likelihood.deviation(1 - pictures, pictures, 1)).all()


def test_gaussian_loss_is_the_likelihood_at_its_best_sigma() -> None:
    logits, pictures = torch.randn(3, 1, 8, 8), torch.rand(3, 1, 8, 8)
    made = logits.sigmoid()

    def negative(sigma: float) -> float:
        return float(-Normal(made, sigma).log_prob(pictures).sum())

    found = float(Likelihood("gaussian", 1).loss(logits, pictures).sum())
    constant = pictures.numel() * 0.5 * math.log(2 * math.pi)
    best = min(negative(sigma) for sigma in np.linspace(0.05, 1.0, 2000))
    assert found + constant == pytest.approx(best, rel=1e-4)


def test_gaussian_remembers_the_deviation_of_residuals() -> None:
    likelihood, generator = Likelihood("gaussian", 3), torch.Generator().manual_seed(0)
    pictures = torch.full((4, 1, 64, 64), 0.5)
    for _ in range(50):
        residual = 0.05 * torch.randn(pictures.shape, generator=generator)
        likelihood.loss(torch.zeros_like(pictures), pictures + residual)
    assert float(likelihood.square.sqrt()) == pytest.approx(0.05, rel=0.05)
    # The mean of nine independent values deviates by a third.
    assert float(likelihood.smooth_square.sqrt()) == pytest.approx(0.05 / 3, rel=0.1)
    before = float(likelihood.square)
    likelihood.eval().loss(torch.zeros_like(pictures), pictures + 0.4)
    assert float(likelihood.square) == before


@pytest.mark.parametrize("n_samples", [1, 2, 7])
def test_noise_comes_in_pairs_and_with_the_seed(n_samples: int) -> None:
    drawn = draw_noise(n_samples, 5, 3)
    assert drawn.shape == (n_samples, 5)
    assert torch.equal(drawn, draw_noise(n_samples, 5, 3))
    assert not torch.equal(drawn, draw_noise(n_samples, 5, 4))
    torch.testing.assert_close(drawn[1::2], -drawn[: n_samples // 2 * 2 : 2])


@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("name", ["bernoulli", "gaussian"])
def test_score_averages_over_draws_one_by_one(name: str, weight: float) -> None:
    network = VariationalAutoencoder((3, 16, 16), 4, 4, dense=False).eval()
    likelihood = Likelihood(name, 3).eval()
    likelihood.smooth_square.fill_(0.04)
    drawn, pictures = draw_noise(6, 4, 0), torch.rand(3, 3, 16, 16)
    scoring = Scoring(network, likelihood, drawn, weight=weight).eval()
    with torch.no_grad():
        anomaly_map, score, reconstruction = scoring(pictures)
        mean, log_variance = network.encode(pictures)
        maps: list[Tensor] = []
        for values in drawn:
            latents = mean + (log_variance / 2).exp() * values
            made = network.decode(latents).sigmoid()
            maps.append(likelihood.deviation(made, pictures, 1)[:, 0].mean(1))
        divergence = networks.kl_divergence(mean, log_variance) / (3 * 16 * 16)
    expected = torch.stack(maps).mean(0)
    torch.testing.assert_close(anomaly_map, expected)
    torch.testing.assert_close(score, expected.mean((1, 2)) + weight * divergence)
    torch.testing.assert_close(reconstruction, network(pictures))


def test_training_lowers_the_loss_and_then_the_rate() -> None:
    torch.manual_seed(0)
    network = VariationalAutoencoder((1, 16, 16), 3, 4, dense=False)
    task = VAETask(network, Likelihood("bernoulli", 3), beta=1.0, learning_rate=0.002)
    task.n_steps = 60
    rng = np.random.default_rng(0)
    batch = torch.from_numpy(np.stack([picture(rng) for _ in range(16)])[:, None]).float() / 255

    def update(loss: Tensor, optimizer: str, *, retain_graph: bool = False) -> None:
        task.optimizers[optimizer].zero_grad()
        loss.backward(retain_graph=retain_graph)
        task.optimizers[optimizer].step()

    losses, rates = [], []
    for number in range(60):
        losses.append({k: float(v) for k, v in task.step(batch, update, number).items()})
        rates.append(task.optimizers["vae"].param_groups[0]["lr"])
    assert losses[-1]["loss"] < 0.9 * losses[0]["loss"]
    assert rates[0] == 0.002
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-5
    for each in losses:
        assert each["loss"] == pytest.approx(each["reconstruction"] + each["divergence"], rel=1e-4)
    shown = task.pictures(batch)
    assert set(shown) == {"reconstructions", "samples"}
    assert all(p.min() >= 0 and p.max() <= 1 for p in shown.values())


@pytest.mark.parametrize("network", ["convolutional", "dense"])
@pytest.mark.parametrize("color", [False, True], ids=["gray", "color"])
def test_graph_and_generator_fit_the_pictures(draw: Draw, network: str, color: bool) -> None:
    graph = vae(network=network).fit(draw(height=19, width=24, color=color)).graph()
    shape = (3 if color else 1, 19, 24)
    assert graph.preprocessing.shape == shape
    found = run(graph.onnx, noise(5, *shape))
    assert {name: values.shape for name, values in found.items()} == {
        "anomaly_map": (5, 19, 24),
        "score": (5,),
        "reconstruction": (5, *shape),
    }
    np.testing.assert_allclose(found["score"], found["anomaly_map"].mean((1, 2)), rtol=1e-4)
    assert graph.generator is not None
    steps = np.zeros((5, 3), np.float32)
    steps[:, 1] = np.linspace(-2, 2, 5)
    made = run(graph.generator, steps)["picture"]
    assert made.shape == (5, *shape)
    assert made.min() >= 0
    assert made.max() <= 1
    # A traversal of one latent changes the picture at every step.
    assert all(np.abs(made[i + 1] - made[i]).max() > 0 for i in range(4))


@pytest.fixture(scope="module", params=[("bernoulli", "dense"), ("gaussian", "convolutional")])
def learned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    folder, rng, parts = tmp_path_factory.mktemp("bars"), np.random.default_rng(0), []
    for i in range(32):
        write_picture(folder / f"{i}.png", picture(rng))
        parts.append(Part(source=folder / f"{i}.png", name=f"{i}.png"))
    likelihood, network = request.param
    detector = VAE(
        latent_dim=4,
        epochs=120,
        batch_size=32,
        width=8,
        learning_rate=0.005 if network == "convolutional" else 0.001,
        likelihood=likelihood,
        network=network,
    )
    return detector.fit(parts).graph()


def test_damage_stands_out_where_it_is_and_is_not_made_again(learned: Graph) -> None:
    rng = np.random.default_rng(9)
    good = np.stack([learned.preprocessing(picture(rng))[0] for _ in range(8)])
    bad = np.stack([learned.preprocessing(damaged(rng))[0] for _ in range(8)])
    of_good, of_bad = run(learned.onnx, good), run(learned.onnx, bad)
    assert of_bad["score"].min() > of_good["score"].max()
    for anomaly_map in of_bad["anomaly_map"]:
        row, column = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
        assert 9 <= row <= 14
        assert 5 <= column <= 10
    square = np.s_[:, 0, 10:14, 6:10]
    assert bad[square].mean() > 0.95
    assert of_bad["reconstruction"][square].mean() < 0.4
    # The bars of good parts are made again: bright where they are, dark elsewhere.
    bars, made = good > 0.5, of_good["reconstruction"]
    assert made[bars].mean() > made[~bars].mean() + 0.4


def test_samples_look_like_parts(learned: Graph) -> None:
    assert learned.generator is not None
    latents = np.random.default_rng(2).standard_normal((64, 4)).astype(np.float32)
    made = run(learned.generator, latents)["picture"][:, 0]
    # A bar lies across the whole width of the upper half, and nowhere else.
    assert made[:, :8].max((1, 2)).mean() > 0.5
    assert made[:, 11:].mean() < 0.25
    assert made.std(2).mean() < made.std(1).mean()


def test_scores_do_not_depend_on_size() -> None:
    scores = []
    for side in (16, 32):
        network = VariationalAutoencoder((1, side, side), 2, 4, dense=True).eval()
        with torch.no_grad():
            for weights in network.parameters():
                weights.zero_()
            scoring = Scoring(network, Likelihood("bernoulli", 3), torch.zeros(1, 2), weight=0.0)
            scores.append(float(scoring(torch.full((1, 1, side, side), 0.9))[1]))
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_elbo_adds_what_the_latents_cost(draw: Draw) -> None:
    parts = draw()
    plain, elbo, heavy = (
        run(vae(**changes).fit(parts).graph().onnx, noise(2, 1, 16, 16))
        for changes in ({}, {"score": "elbo"}, {"score": "elbo", "beta": 0.0})
    )
    np.testing.assert_array_equal(plain["anomaly_map"], elbo["anomaly_map"])
    assert (elbo["score"] > plain["score"]).all()
    np.testing.assert_allclose(heavy["score"], heavy["anomaly_map"].mean((1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    ("side", "score", "by_map"),
    [(16, "auto", False), (16, "map_maximum", True), (72, "auto", True), (72, "elbo", False)],
)
def test_larger_parts_are_scored_by_a_map(
    draw: Draw, side: int, score: str, *, by_map: bool
) -> None:
    graph = vae(epochs=1, score=score, image_size=16).fit(draw(4, side, side)).graph()
    found = run(graph.onnx, noise(2, 1, 16, 16))
    assert ("score" not in found) is by_map
    assert graph.map_name == (
        "residual, relative to usual" if by_map else "negative log-likelihood"
    )
    assert graph.aggregation(found["anomaly_map"][0]) == found["anomaly_map"][0].max()


@pytest.mark.parametrize(("side", "dense"), [(16, True), (32, True), (33, False)])
def test_auto_chooses_the_network_by_size(draw: Draw, side: int, dense: bool) -> None:
    assert vae(epochs=1).fit(draw(4, side, side)).network_.is_dense is dense


def test_patience_ends_training_early(draw: Draw) -> None:
    steps = []

    def report(what: str, done: int, total: int) -> None:
        if "loss" in what:
            steps.append((done, total))

    # With such a rate losses go up and down.
    changes = {"epochs": 200, "patience": 1, "learning_rate": 0.03, "network": "dense"}
    detector = vae(**changes).fit(draw(40, 16, 16), progress=report)
    assert np.isfinite(run(detector.graph().onnx, noise(1, 1, 16, 16))["score"]).all()
    assert max(done for done, _ in steps[:-1]) < 200 * 9


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_resumed_run_ends_where_one_never_stopped_ends(
    draw: Draw, tmp_path: Path, likelihood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_PATIENCE_SECONDS", 0.0)  # every step is told
    parts, values = draw(12), noise(2, 1, 16, 16)
    changes = {"network": "convolutional", "epochs": 8, "likelihood": likelihood}
    whole = run(vae(**changes).fit(parts).graph().onnx, values)
    folder = tmp_path / "run"

    def stop(what: str, done: int, total: int) -> None:
        if "loss" in what and done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vae(**changes).fit(parts, progress=stop, training=Training(folder=folder, **OFTEN))
    resumed = Training(folder=folder, resume=True, **OFTEN)
    again = run(vae(**changes).fit(parts, training=resumed).graph().onnx, values)
    for name, expected in whole.items():
        np.testing.assert_array_equal(again[name], expected, err_msg=name)


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({"image_size": 8}, "from 16"),
        ({"channels": 2}, "0, 1 or 3"),
        ({"smoothing": 4}, "odd"),
        ({"network": "dense", "image_size": 256}, "convolutional"),
    ],
)
def test_unusable_values_are_refused(draw: Draw, changes: dict[str, Any], accepted: str) -> None:
    name, value = next(iter(changes.items()))
    with pytest.raises(ConfigurationError, match=name) as caught:
        vae(**changes).fit(draw(2))
    assert accepted in str(caught.value)
    assert str(value) in str(caught.value)


@pytest.mark.real
@pytest.mark.parametrize(("digit", "floor"), [(0, 0.98), (8, 0.91)])
def test_digits_stand_out_from_others(
    real_data: Path, tmp_path: Path, digit: int, floor: float
) -> None:
    stored = np.load(real_data / "mnist_t10k.npz")
    images, labels = stored["images"], stored["labels"]
    own = np.flatnonzero(labels == digit)
    n_learned, rng = int(0.8 * len(own)), np.random.default_rng(0)
    parts = []
    for i in np.sort(rng.permutation(own[:n_learned])[: round(0.8 * n_learned)]):
        write_picture(tmp_path / f"{i}.png", images[i])
        parts.append(Part(source=tmp_path / f"{i}.png", name=f"{i}.png"))
    others = rng.choice(np.flatnonzero(labels != digit), 1000, replace=False)
    graph = VAE().fit(parts).graph()

    def scores(chosen: NDArray[np.intp]) -> NDArray[np.float32]:
        return run(graph.onnx, images[chosen][:, None].astype(np.float32) / 255)["score"]

    good, bad = scores(own[n_learned:]), scores(others)
    assert float((bad[:, None] > good).mean()) >= floor
