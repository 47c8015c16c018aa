"""Model files: whole ones, and each kind of member with hashes that agree."""

from __future__ import annotations

import json
import sys
import zipfile
from functools import cache
from pathlib import Path

from target import Target, written

from makellos.inspection import Inspector, read_model

INSPECTION = Path(__file__).parents[1] / "inspection"
sys.path.append(str(INSPECTION))

from small_models import (  # noqa: E402 -- beside the tests of inspection
    cell_graph,
    forge,
    score_graph,
    small_members,
    write_small_model,
)

PATH = "model.makellos"
# The first byte of an input says which member of which stored model it takes the place of.
PLACES = (
    ("zones", "zones.png"),
    ("vibration", "good_spectra.safetensors"),
    ("features", "weights.safetensors"),
    ("features", "golden/00.npy"),
    ("zones", "golden/00.png"),
)
MANIFESTS = ("pictures", "zones", "vibration", "features")


@cache
def stored(name: str) -> dict[str, bytes]:
    with zipfile.ZipFile(INSPECTION / "version_0_1" / f"{name}.makellos") as archive:
        return {each: archive.read(each) for each in archive.namelist()}


def whole(data: bytes) -> None:
    read_model(written(data, PATH)).check()


def whole_seeds() -> list[bytes]:
    path = written(b"", PATH)
    return [write_small_model(path, graph).read_bytes() for graph in (cell_graph(), score_graph())]


def manifest(data: bytes) -> None:
    members = dict(stored(MANIFESTS[data[0] % len(MANIFESTS)] if data else "pictures"))
    del members["manifest.json"]
    read_model(forge(written(b"", PATH), members, data[1:])).check()


def manifest_seeds() -> list[bytes]:
    return [bytes([i]) + stored(name)["manifest.json"] for i, name in enumerate(MANIFESTS)]


def member(data: bytes) -> None:
    name, place = PLACES[data[0] % len(PLACES)] if data else PLACES[0]
    members = {**stored(name), place: data[1:]}
    said = json.loads(members.pop("manifest.json"))
    del said["members"]
    path = forge(written(b"", PATH), members, said)
    read_model(path).check()
    if name == "features":
        Inspector(path)


def member_seeds() -> list[bytes]:
    return [bytes([i]) + stored(name)[place] for i, (name, place) in enumerate(PLACES)]


def graph(data: bytes) -> None:
    path = forge(written(b"", PATH), {**small_members(), "graph.onnx": data})
    read_model(path).check()


def graph_seeds() -> list[bytes]:
    return [cell_graph(), score_graph(), small_members()["graph.onnx"]]


TARGETS = [
    Target("model-file", whole, whole_seeds, max_bytes=1 << 17),
    Target("manifest", manifest, manifest_seeds, (b"null", b"NaN", b"1e999", b"[" * 99), 1 << 15),
    Target("members", member, member_seeds, max_bytes=1 << 17),
    Target(
        "graphs",
        graph,
        graph_seeds,
        (b"Expand", b"Tile", b"Reshape", b"Pad", b"Resize", b"Range", b"Loop", b"strides", b"pads"),
    ),
]
