"""What people write by hand: tables of parts, zones and rules, parameters, queues."""

from __future__ import annotations

import io

import numpy as np
from target import Target, written

from makellos.detectors.parameters import read_parameters
from makellos.inspection.zone_files import read_acceptance, read_zones
from makellos.jobs.queue_file import read_queue_file
from makellos.subjects import find_parts

JSON_WORDS = (
    *(b"null", b"NaN", b"-Infinity", b"1e999", b'""', b"\\ud800", b"9" * 400),
    *(b"[" * 50, b'{"a":' * 50),
)

ZONES = b"""{"size": [64, 48], "elsewhere": "inspect", "mm_per_pixel": 0.02, "combine": "tighten",
"zones": [{"name": "edge", "polygon": [[0, 0], [60.5, 0], [60, 40]], "false_alarms": 0.01},
{"ignore": true, "polygon": [[0, 0], [3, 0], [3, 3]]}],
"rules": [{"zone": "edge", "larger_than_mm2": 0.5}, {"more_than": 2}]}"""
RULES = b'{"mm_per_pixel": 0.1, "rules": [{"longer_than_mm": 1.5}]}'
PARAMETERS = b'{"image_size": 256, "coreset_ratio": 0.1, "backbone": "resnet18", "equalise": true}'
PARTS = b"""path,label,split,mask,group
a.png,good,train,,1
"b,c.png",scratch,test,m.png,2
"""
QUEUE = b"""output: out
defaults: &all {false_alarms: 0.05, seed: 1}
runs:
  - data: screws
    detector: padim
    set: {image_size: 128}
  - <<: *all
    data: "screws"
"""


def zones(data: bytes) -> None:
    read_zones(written(data, "zones.json")).zones(0.05)


def parts(data: bytes) -> None:
    for name in ("a.png", "b,c.png", "m.png"):
        written(b"", name)
    find_parts(written(data, "parts.csv"))


def arrays(data: bytes) -> None:
    for part in find_parts(written(data, "set.npz")):
        part.read()


def arrays_saved() -> list[bytes]:
    """Return small sets in NumPy files, packed and not."""
    images, labels = np.arange(72, dtype=np.uint8).reshape(2, 6, 6), np.array([0, 1])
    found = []
    for save, kind in ((np.savez, "u1"), (np.savez_compressed, "f4")):
        stream = io.BytesIO()
        save(stream, x_train=images.astype(kind), y_train=labels, names=np.array(["ok", "dent"]))
        found.append(stream.getvalue())
    stream = io.BytesIO()
    np.save(stream, images)
    return [*found, stream.getvalue()]


TARGETS = [
    Target("zones", zones, lambda: [ZONES, RULES], JSON_WORDS),
    Target(
        "rules",
        lambda data: read_acceptance(written(data, "rules.json"), None, None),
        lambda: [RULES],
        JSON_WORDS,
    ),
    Target(
        "parameters",
        lambda data: read_parameters(written(data, "set.json")),
        lambda: [PARAMETERS],
        JSON_WORDS,
    ),
    Target("arrays", arrays, arrays_saved, (b"'descr': '|O'", b"(-1, 6, 6)", b"<f2", b"labels")),
    Target("parts", parts, lambda: [PARTS, b"\xef\xbb\xbfsep=;\npath;label\na.png;good\n"]),
    Target(
        "queue",
        lambda data: read_queue_file(written(data, "runs.yaml")),
        lambda: [QUEUE],
        (b"*all", b"&a ", b"<<: ", b"!!binary ", b"!!python/object:os.system ", b"- " * 50),
    ),
]
