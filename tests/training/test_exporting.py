"""Modules exported to ONNX give what torch gives, for any number of parts."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from openvino import Core
from torch import Tensor, nn

from makellos.detectors.networks.exporting import export_graph

Arrays = list[NDArray[np.float32]]


def by_onnx_runtime(graph: bytes, batch: NDArray[np.float32]) -> Arrays:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: batch}))


def by_openvino(graph: bytes, batch: NDArray[np.float32]) -> Arrays:
    core = Core()
    compiled = core.compile_model(
        core.read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return [np.asarray(values) for values in compiled(batch).values()]


class Scoring(nn.Module):
    """Give a map and a score, by layers that differ between training and evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(), nn.Dropout(0.5)
        )
        self.up = nn.ConvTranspose2d(8, 3, 4, 2, 1)
        self.head = nn.Linear(8, 1)

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layers(batch)
        gap = (torch.sigmoid(self.up(features)) - batch).square().mean(1)
        pooled = features.mean((2, 3)).reshape(batch.shape[0], -1)
        return gap, self.head(pooled).flatten()


@pytest.fixture(scope="module")
def scoring() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        module = Scoring()
        for _ in range(3):
            module(torch.rand(8, 3, 20, 32))  # running means that are not the first ones
    return module.to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def graph(scoring: nn.Module) -> bytes:
    return export_graph(
        scoring, (3, 20, 32), input_name="picture", output_names=["anomaly_map", "score"]
    )


@pytest.mark.parametrize("run", [by_onnx_runtime, by_openvino])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_graph_gives_what_torch_gives(
    scoring: nn.Module, graph: bytes, run: Callable[[bytes, NDArray[np.float32]], Arrays], n: int
) -> None:
    batch = torch.rand(n, 3, 20, 32, generator=torch.Generator().manual_seed(n))
    with torch.no_grad():
        expected = copy.deepcopy(scoring).eval()(batch)
    found = run(graph, batch.numpy())
    assert [values.shape for values in found] == [(n, 20, 32), (n,)]
    for values, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, wanted, atol=1e-5)


@pytest.mark.parametrize("run", [by_onnx_runtime, by_openvino])
def test_a_generator_takes_latents(
    run: Callable[[bytes, NDArray[np.float32]], Arrays],
) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        module = nn.Sequential(
            nn.Linear(5, 32),
            nn.ReLU(),
            nn.Unflatten(1, (2, 4, 4)),
            nn.ConvTranspose2d(2, 1, 4, 2, 1),
        )
    made = export_graph(module, (5,), input_name="latent", output_names=["picture"])
    latents = torch.linspace(-2, 2, 15).reshape(3, 5)
    (found,) = run(made, latents.numpy())
    np.testing.assert_allclose(found, module(latents).detach(), atol=1e-5)


def test_a_graph_names_what_goes_in_and_out(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    assert [value.name for value in model.graph.input] == ["picture"]
    assert [value.name for value in model.graph.output] == ["anomaly_map", "score"]
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "n"
    assert [entry.version for entry in model.opset_import if not entry.domain] == [17]


def test_the_module_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    module = Scoring().to(memory_format=torch.channels_last).to(torch.bfloat16)
    module.up.eval()
    before = copy.deepcopy(module.state_dict())
    made = export_graph(module, (3, 16, 16), input_name="x", output_names=["a", "b"])
    assert onnx.load_from_string(made).graph.input[0].type.tensor_type.elem_type == 1  # float32
    assert module.training
    assert not module.up.training
    assert module.layers[0].weight.is_contiguous(memory_format=torch.channels_last)
    for name, values in module.state_dict().items():
        assert values.dtype == before[name].dtype
        assert torch.equal(values, before[name])
    assert capsys.readouterr() == ("", "")
