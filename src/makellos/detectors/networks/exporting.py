"""From a torch module to an ONNX graph with any number of parts in a batch."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["export_generator", "export_graph", "traced"]

_OPSET = 17


def export_graph(
    module: nn.Module,
    shape: Sequence[int],
    output_names: Sequence[str],
    *,
    input_name: str = "picture",
    leave_out: Collection[str] = (),
) -> bytes:
    """Return a module as an ONNX graph, in evaluation mode and float32.

    `shape` is that of one input without the batch: C, H, W of a picture or (d,) of a latent. The
    module returns a tensor, or a tuple of as many as there are `output_names`; the first axis of
    each is the batch, which the module asks for by ``batch.shape[0]``: ``len(batch)`` would be that
    of the example for ever. Outputs named in `leave_out` are not part of the graph. The module
    itself stays as it is.
    """
    frozen = copy.deepcopy(module).to("cpu", torch.float32, memory_format=torch.contiguous_format)
    frozen = frozen.eval()
    kept = [i for i, name in enumerate(output_names) if name not in leave_out]
    if len(kept) < len(output_names):
        frozen, output_names = _Chosen(frozen, kept), [output_names[i] for i in kept]
    with _quietly(), torch.no_grad():
        return traced(frozen, torch.full((2, *shape), 0.5), input_name, output_names)


def traced(
    module: nn.Module, example: Tensor, input_name: str, output_names: Sequence[str]
) -> bytes:
    """Return what a module does to an example as an ONNX graph, for any number in a batch.

    The tracing exporter takes a second where the newer one takes ten.
    """
    stream = io.BytesIO()
    torch.onnx.export(
        module,
        (example,),
        stream,
        input_names=[input_name],
        output_names=list(output_names),
        dynamic_axes={name: {0: "n"} for name in (input_name, *output_names)},
        opset_version=_OPSET,
        dynamo=False,
    )
    return stream.getvalue()


def export_generator(module: nn.Module, latent_dim: int) -> bytes:
    """Return what makes pictures of latents N×d as an ONNX graph."""
    return export_graph(module, (latent_dim,), ("picture",), input_name="latent")


class _Chosen(nn.Module):  # type: ignore[misc]
    """Return some of a module's outputs alone."""

    def __init__(self, module: nn.Module, kept: Sequence[int]) -> None:
        super().__init__()
        self.module, self.kept = module, kept

    def forward(self, batch: Tensor) -> tuple[Tensor, ...]:
        outputs = self.module(batch)
        return tuple(outputs[i] for i in self.kept)


@contextmanager
def _quietly() -> Iterator[None]:
    # The exporter warns about itself and about every constant; none of it concerns the user.
    log = logging.getLogger("torch.onnx")
    level, caching = log.level, torch.is_autocast_cache_enabled()
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
        torch.set_autocast_cache_enabled(caching)  # the exporter leaves it turned off
