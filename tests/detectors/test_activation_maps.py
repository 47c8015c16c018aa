"""Activation maps: as the package grad-cam makes them, and where a known network looks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F

from makellos.detectors.networks.activation_maps import METHODS, ActivationMaps, feature_layer
from makellos.detectors.networks.classifier import ClassifierNetwork, Scoring
from makellos.detectors.networks.dense_classifier import DenseNetwork
from makellos.detectors.networks.exporting import export_graph
from makellos.errors import ConfigurationError

NETWORKS = ("resnet18", "mobilenetv3_small_100", "tf_efficientnet_lite0")
HEIGHT, WIDTH = 64, 96
Floats = NDArray[np.float32]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_network(
    name: str, n_logits: int, seed: int = 0, *, dense: bool = False
) -> ClassifierNetwork:
    """Return a network with random weights, whose head speaks up for a class."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = (DenseNetwork if dense else ClassifierNetwork)(name, n_logits).eval()
        network.head.weight.normal_()
        if n_logits == 1 and network(pictures(1)).item() < 0:
            network.head.weight.neg_()
    return network


def pictures(n: int, channels: int = 3) -> Tensor:
    return torch.rand(n, channels, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def packaged(network: ClassifierNetwork, batch: Tensor, target: int) -> Floats:
    """Return what the package itself makes of a batch: scaled to the picture and to 0 to 1."""
    layer = network.layers()[feature_layer(network)]
    with GradCAM(network, [layer]) as cam:
        made: Floats = cam(batch, [ClassifierOutputTarget(target)] * len(batch))
    return made


def as_packaged(maps: Floats) -> Floats:
    """Return maps scaled as the package scales its own."""
    scaled: Floats = scale_cam_image(scale_cam_image(maps, (WIDTH, HEIGHT)))
    return scaled


@pytest.mark.parametrize("n_logits", [1, 4])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_exported_map_is_the_packages_grad_cam_up_to_scale(
    name: str, n_logits: int, dense: bool
) -> None:
    network, batch = random_network(name, n_logits, dense=dense), pictures(1)
    graph = export_graph(
        Scoring(network, 1.7),
        (3, HEIGHT, WIDTH),
        input_name="picture",
        output_names=("anomaly_map", "score", "probabilities"),
    )
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found, _, probabilities = session.run(None, {"picture": batch.numpy()})
    likeliest = 1 + int(probabilities[0, 1:].argmax())
    target = 0 if n_logits == 1 else likeliest
    assert found.max() > 0
    expected = packaged(network, batch, target)
    np.testing.assert_allclose(as_packaged(found), expected, atol=2e-4)
    # Unlike the package's, the map keeps where nothing is; ours of the same method equals it.
    ours = ActivationMaps(network, "gradcam")(batch, likeliest)
    assert ours.shape == found.shape
    np.testing.assert_allclose(ours / ours.max(), found / found.max(), atol=1e-4)
    both = np.corrcoef(ours.ravel() / ours.max(), found.ravel() / found.max())
    assert both[0, 1] > 0.9999


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_maps_every_picture_on_its_own(method: str, channels: int) -> None:
    network, batch = random_network("resnet18", 3), pictures(2, channels)
    maps = ActivationMaps(network, method)
    found = maps(batch, 2)
    with torch.no_grad():
        assert found.shape == (2, *network.features(batch).shape[2:])
    assert found.dtype == np.float32
    assert np.isfinite(found).all() and (found >= 0).all()
    for i in range(2):
        np.testing.assert_allclose(maps(batch[i : i + 1], 2)[0], found[i], rtol=1e-3, atol=1e-6)


def test_eigencam_knows_no_class_and_the_others_do() -> None:
    network, batch = random_network("resnet18", 3), pictures(1)
    for method in METHODS:
        maps = ActivationMaps(network, method)
        same = len({maps(batch, target).tobytes() for target in range(3)}) == 1
        assert same == (method == "eigencam") == (not maps.needs_class)


def test_good_is_the_reverse_of_defective_where_there_is_one_logit() -> None:
    network, batch = random_network("resnet18", 1), pictures(1)
    two = ClassifierNetwork("resnet18", 2).eval()
    two.load_state_dict(network.state_dict() | {
        "head.weight": torch.cat([-network.head.weight, network.head.weight]).detach(),
        "head.bias": torch.zeros(2),
    })  # fmt: skip
    for target in (0, 1):
        np.testing.assert_allclose(
            ActivationMaps(network, "layercam")(batch, target),
            ActivationMaps(two, "layercam")(batch, target),
            rtol=1e-4,
            atol=1e-7,
        )


class Brightness(nn.Module):
    """Give a map of how bright 8×8 pixels are above a half, and one of how dark below."""

    def __init__(self) -> None:
        super().__init__()
        self.copy = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.copy.weight, 1 / 3)
        self.cells = nn.AvgPool2d(8)

    def forward_features(self, batch: Tensor) -> Tensor:
        cells = self.cells(self.copy(batch)) - 0.5
        return torch.cat([F.relu(cells), F.relu(-cells)], 1)


def bright_network() -> ClassifierNetwork:
    """Return a network that takes bright for defective and dark for good."""
    network = ClassifierNetwork("resnet18", 1).eval()
    network.body = Brightness()
    network.mean.zero_()
    network.std.fill_(1.0)
    network.head = nn.Linear(2, 1)
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[4.0, -4.0]]))
        network.head.bias.zero_()
    return network


@pytest.mark.parametrize("layer", [None, "cells", "copy"])
@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_heat_lies_where_a_known_network_looks(method: str, layer: str | None) -> None:
    batch = torch.full((1, 3, HEIGHT, WIDTH), 0.5)
    batch[:, :, 16:24, 40:56] = 1.0
    batch[:, :, 48:56, 8:16] = 0.0
    maps = ActivationMaps(bright_network(), method, layer)
    assert maps.layer == (layer or "")  # cat is no module
    heat = F.interpolate(torch.from_numpy(maps(batch, 1))[None], (HEIGHT, WIDTH))[0, 0].numpy()
    if layer is None:
        expected = np.zeros((HEIGHT, WIDTH), np.float32)
        expected[16:24, 40:56] = heat.max()
        assert heat.max() > 0
        np.testing.assert_array_equal(heat, expected)
    else:
        assert (heat[16:24, 40:56] == heat.max()).all()
        assert heat[48:56, 8:16].max() < heat[16:24, 40:56].min()
    dark = F.interpolate(torch.from_numpy(maps(batch, 0))[None], (HEIGHT, WIDTH))[0, 0].numpy()
    if layer is None:
        assert (dark[48:56, 8:16] == dark.max()).all() and dark[16:24, 40:56].max() == 0.0


def test_eigencam_points_at_what_stands_out() -> None:
    batch = torch.full((1, 3, HEIGHT, WIDTH), 0.5)
    batch[:, :, 16:24, 40:48] = 1.0
    (heat,) = ActivationMaps(bright_network(), "eigencam")(batch, 1)
    assert np.unravel_index(heat.argmax(), heat.shape) == (2, 5)


@pytest.mark.parametrize("name", [*NETWORKS, "vgg11", "legacy_xception"])
def test_the_default_layer_is_the_last_feature_map(name: str) -> None:
    network, batch = ClassifierNetwork(name, 2).eval(), pictures(1)
    layer = feature_layer(network)
    kept: list[Tensor] = []
    hook = network.body.get_submodule(layer).register_forward_hook(lambda *a: kept.append(a[2]))
    with torch.no_grad():
        features = network.features(batch)
    hook.remove()
    torch.testing.assert_close(kept[-1], features)
    named = ActivationMaps(network, "gradcam", layer)(batch, 1)
    np.testing.assert_allclose(named, ActivationMaps(network, "gradcam")(batch, 1))


def test_a_layer_that_is_worked_on_in_place_is_kept_as_it_was() -> None:
    network, batch = random_network("resnet18", 1), pictures(1)
    kept: list[Tensor] = []
    layer = network.body.layer1[0].bn1
    hook = layer.register_forward_hook(lambda *a: kept.append(a[2].clone()))
    with torch.no_grad():
        network.features(batch)
    hook.remove()
    assert (kept[0] < 0).any()  # before the activation that follows in place
    activations, _ = ActivationMaps(network, "gradcam", "layer1.0.bn1")._run(batch)
    torch.testing.assert_close(activations.detach(), kept[0])


@pytest.mark.parametrize(
    ("method", "layer", "message"),
    [
        ("grad-cam", None, r"no method 'grad-cam'\. Did you mean 'gradcam'\?"),
        ("gradcam", "layer5", r"no layer 'layer5'\. Did you mean 'layer4'\? .*layer1"),
        ("gradcam", "", "no layer ''"),
        ("gradcam", "fc", "Name another layer"),
        ("gradcam", "global_pool", "Name another layer"),
    ],
)
def test_unknown_names_are_refused(method: str, layer: str | None, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ActivationMaps(random_network("resnet18", 1), method, layer)


def test_a_layer_too_fine_for_eigencam_is_refused() -> None:
    maps = ActivationMaps(random_network("resnet18", 1), "eigencam", "conv1")
    with pytest.raises(ConfigurationError, match="128x128, too fine"):
        maps(torch.rand(1, 3, 256, 256), 1)
