"""The packaged weights against timm's network with the weights as they were published."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from torch import nn

from makellos.data.pictures import read_picture
from makellos.detectors.patches import backbones
from makellos.detectors.patches.backbones import BACKBONES, backbone_state, load_backbone
from makellos.detectors.patches.efficientnet_lite import (
    WEIGHTS,
    build_graph,
    fold,
    folded_pairs,
    read_weights,
)
from makellos.inspection.engines import available_engines, open_engine
from makellos.sets.synthetic_screws import write_screws

EXACT = next(choice for choice in available_engines() if choice.precision == "f32")
NETWORK = "tf_efficientnet_lite0"
SIDE = 224
TOOL = Path(__file__).parents[3] / "tools" / "make_backbone_weights.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_backbone_weights", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def published(tool: ModuleType) -> Mapping[str, torch.Tensor]:
    path = backbones._packaged_file(tool.PACKAGE)
    state = torch.load(path, map_location="cpu", weights_only=True)
    names = timm.create_model(NETWORK, pretrained=False).state_dict()
    return dict(zip(names, state.values(), strict=True))


def whole(state: Mapping[str, torch.Tensor]) -> nn.Module:
    network: nn.Module = timm.create_model(NETWORK, pretrained=False)
    network.load_state_dict(state, strict=False)
    return network.eval()


def rounded(state: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return timm's network with norms folded by torch, and kernels rounded by torch."""
    network = whole(state)
    for name, norm in folded_pairs():
        convolution, after = network.get_submodule(name), network.get_submodule(norm)
        fused = nn.utils.fuse_conv_bn_weights(
            *(convolution.weight, None, after.running_mean, after.running_var, after.eps),
            *(after.weight, after.bias),
        )
        convolution.weight = nn.Parameter(fused[0].bfloat16().float())
        after.weight.data.fill_(1)
        after.bias = fused[1]
        after.running_mean.zero_()
        after.running_var.fill_(1 - after.eps)
    network.classifier.weight.data = network.classifier.weight.data.bfloat16().float()
    return network


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Return screws, textures from coarse to fine, gradients and noise, N×3×224×224."""
    folder = tmp_path_factory.mktemp("screws")
    write_screws(folder, n_train=4, n_test_good=0, n_per_defect=1, size=SIDE)
    seen = [read_picture(path) / np.float32(255) for path in sorted(folder.rglob("*.png"))]
    found = [np.broadcast_to(each.reshape(SIDE, SIDE, -1), (SIDE, SIDE, 3)) for each in seen]
    rng = np.random.default_rng(5)
    for cells in (2, 4, 7, 14, 28, 56, 112):
        for _ in range(3):
            texture = rng.uniform(0, 1, (cells, cells, 3)).astype(np.float32)
            found.append(np.kron(texture, np.ones((SIDE // cells, SIDE // cells, 1), np.float32)))
    slope = np.linspace(0, 1, SIDE, dtype=np.float32)
    found.append(np.broadcast_to(slope[:, None, None], (SIDE, SIDE, 3)))
    return np.ascontiguousarray(np.stack(found).transpose(0, 3, 1, 2), np.float32)


def run(graph: bytes, x: np.ndarray) -> list[np.ndarray]:
    engine = open_engine(graph, EXACT, shape=x.shape[1:])
    parts = [engine.run(x[i : i + 4]) for i in range(0, len(x), 4)]
    return [np.concatenate([part[f"layer_{i}"] for part in parts]) for i in range(len(parts[0]))]


def watched(network: nn.Module, names: list[str], x: np.ndarray) -> list[np.ndarray]:
    taken: dict[str, torch.Tensor] = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda _module, _given, out, name=name: taken.__setitem__(name, out)
        )
        for name in names
    ]
    with torch.inference_mode():
        network(2 * torch.from_numpy(x) - 1)
    for hook in hooks:
        hook.remove()
    return [taken[name].numpy() for name in names]


def test_tool_makes_the_packaged_file(tool: ModuleType) -> None:
    original = tool.original_weights()
    packaged = read_weights()
    for name, values in packaged.items():
        if name.endswith(".spread"):
            # Some processors' roots of torch end with another bit; all else is exact everywhere.
            np.testing.assert_allclose(original[name], values, rtol=2**-22)
            original[name] = values
    made = tool.encoded(fold(original))
    assert made == WEIGHTS.read_bytes()
    assert tool.card_of(made) == WEIGHTS.with_suffix(".json").read_text(encoding="utf-8")


@pytest.mark.parametrize("size", [(96, 128), (97, 65)])
def test_every_block_is_that_of_the_published_network(
    size: tuple[int, int], published: Mapping[str, torch.Tensor], pictures: np.ndarray
) -> None:
    """Equal to rounded kernels up to the engine, and to published ones up to that rounding."""
    names = [name for _, name in folded_pairs()]
    blocks = sorted({name.rpartition(".")[0] for name in names} - {""})
    names += [*blocks, *(f"blocks.{i}" for i in range(7))]
    x = pictures[::6, :, : size[0], : size[1]]
    exact = watched(whole(published), names, x)
    coarse = watched(rounded(published), names, x)
    for name, found, near, far in zip(
        names, run(build_graph(names, *size), x), coarse, exact, strict=True
    ):
        scale = far.std()
        # torch folds norms in another order, which turns the rounding of a few weights.
        assert float((found - near).std() / scale) < 1e-3, name
        of_rounding = float((near - far).std() / scale)
        assert float((found - far).std() / scale) <= 1.02 * of_rounding + 1e-5, name
        assert of_rounding < 0.2, name


def test_classes_are_those_of_the_published_network(
    published: Mapping[str, torch.Tensor], pictures: np.ndarray
) -> None:
    (features,) = run(build_graph(["bn2"], SIDE, SIDE), pictures)
    weights = read_weights()
    logits = features.mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"]
    with torch.inference_mode():
        seen = 2 * torch.from_numpy(pictures) - 1
        expected, coarse = (make(published)(seen).numpy() for make in (whole, rounded))
    assert len(set(expected.argmax(1).tolist())) >= 8  # pictures of many kinds
    np.testing.assert_allclose(logits, coarse, atol=5e-3)
    same = logits.argmax(1) == expected.argmax(1)
    first, second = np.sort(expected, axis=1)[:, :-3:-1].T
    clear = first - second > 0.1 * expected.std()  # of nearly even classes rounding decides
    assert clear.mean() > 0.7
    assert same[clear].all()
    assert same.mean() > 0.9
    assert np.abs(logits - expected).mean() < 0.06 * expected.std()


def test_networks_of_torch_have_the_packaged_weights(
    published: Mapping[str, torch.Tensor], pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained further, they begin as the published network: norms and all, but for rounding."""
    monkeypatch.setattr(backbones, "_packaged_file", None)
    state = backbone_state(BACKBONES["efficientnet_lite0"])
    assert state is not None
    assert {*state} == {n for n in published if not n.endswith("num_batches_tracked")}
    for name, values in state.items():
        rtol = 2**-8 if values.ndim > 1 else 1e-5 if name.endswith("running_var") else 0
        torch.testing.assert_close(values, published[name], rtol=rtol, atol=1e-8)
    layers = ("blocks.1", "blocks.5")
    network = load_backbone("efficientnet_lite0", layers=layers, size=(SIDE, SIDE))
    with torch.inference_mode():
        found = network(torch.from_numpy(pictures[:3]))
    for one, other in zip(found, run(build_graph(layers, SIDE, SIDE), pictures[:3]), strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-3, atol=1e-3)
