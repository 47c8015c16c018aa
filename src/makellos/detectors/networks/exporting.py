"""From a torch module to an ONNX graph with any number of parts in a batch."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["export_graph"]

_OPSET = 17


def export_graph(
    module: nn.Module, shape: Sequence[int], *, input_name: str, output_names: Sequence[str]
) -> bytes:
    """Return a module as an ONNX graph, in evaluation mode and float32.

    `shape` is that of one input without the batch: C, H, W of a picture or (d,) of a latent. The
    module returns a tensor, or a tuple of as many as there are `output_names`; the first axis of
    each is the batch, which the module asks for by ``batch.shape[0]``: ``len(batch)`` would be that
    of the example for ever. The module itself stays as it is.
    """
    frozen = copy.deepcopy(module).to("cpu", torch.float32, memory_format=torch.contiguous_format)
    frozen = frozen.eval()
    example = torch.full((2, *shape), 0.5)
    batch = {name: {0: "n"} for name in (input_name, *output_names)}
    stream = io.BytesIO()
    with _quietly(), torch.no_grad():
        torch.onnx.export(
            frozen,
            (example,),
            stream,
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_axes=batch,
            opset_version=_OPSET,
            dynamo=False,
        )
    return stream.getvalue()


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
