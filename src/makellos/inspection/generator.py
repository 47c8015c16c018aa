"""The generator of a model: from latent vectors to pictures, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from makellos.errors import ModelFileError
from makellos.inspection.graph_check import check_graph
from makellos.inspection.runtimes import import_onnxruntime

__all__ = ["Generator"]


class Generator:
    """Make pictures N×C×H×W float32 in [0, 1] of latent vectors N×`latent_dim` float32."""

    def __init__(self, graph: Path | bytes) -> None:
        """Open an ONNX graph, as a file beside its weights or as bytes.

        Raises `ModelFileError` for one that maps no latent vectors to pictures.
        """
        check_graph(graph, None)
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.load_model_format", "ONNX")
        source = str(graph) if isinstance(graph, Path) else graph
        try:
            self._session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # ONNX Runtime's errors share no base class below Exception.
            raise ModelFileError(
                f"The model's generator cannot be run: {error}. Update onnxruntime, or fit again."
            ) from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 2 or not isinstance(inputs[0].shape[1], int):
            shapes = [node.shape for node in inputs]
            raise ModelFileError(
                f"The model's generator takes {shapes}, not latent vectors N×d. Fit again."
            )
        self._input = inputs[0].name
        self.latent_dim: int = inputs[0].shape[1]

    def __call__(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the pictures of latent vectors."""
        made: NDArray[np.float32] = self._session.run(None, {self._input: latents})[0]
        return np.clip(made, 0.0, 1.0)
