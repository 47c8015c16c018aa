"""Processes of queue and compare on a real cluster of node processes on this machine."""

from __future__ import annotations

import importlib.util
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray"),
    pytest.mark.filterwarnings("default"),  # Ray's own
]

SHOWS = """
import os, sys
print(sys.argv[1:], os.getcwd(), os.environ.get("CUDA_VISIBLE_DEVICES"))
sys.exit(7)
"""
WAITS = """
import sys, time
from pathlib import Path
Path(sys.argv[1]).write_text("begun")
time.sleep(120)
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Start a cluster of two node processes with a core each, and a GPU, as they say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        small = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 << 20}
        made = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
        try:
            made.add_node(**small)
            yield made
        finally:
            made.shutdown()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Write a module where processes find it, in the folder that they work in."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def test_a_process_works_in_our_folder_and_a_fit_has_a_gpu(
    nodes: Any, module: Callable[[str, str], str], tmp_path: Path
) -> None:
    from makellos.cluster.runs import runners_on

    with runners_on(nodes.address, module=module("shows", SHOWS)) as runners:
        assert runners.at_once == 2
        told = []
        for arguments in (["fit", "x"], ["fit", "x", "--device", "cpu"], ["evaluate", "x"]):
            log = tmp_path / "log.txt"
            log.unlink(missing_ok=True)
            assert runners.execute(arguments, log) == 7
            told.append(log.read_text().strip())
    assert [line.partition("]")[0] for line in told] == [
        "['fit', 'x'",
        "['fit', 'x', '--device', 'cpu'",
        "['evaluate', 'x'",
    ]
    assert all(str(tmp_path) in line for line in told)
    assert told[0].endswith(" 0")
    assert not told[1].endswith(" 0")
    assert not told[2].endswith(" 0")


def test_a_folder_that_a_node_does_not_see_is_named(
    nodes: Any, module: Callable[[str, str], str], tmp_path: Path
) -> None:
    from makellos.cluster.runs import _run
    from makellos.errors import StorageError

    with pytest.raises(StorageError, match=r"does not see .*all nodes"):
        _run(module("shows", SHOWS), [], str(tmp_path / "none" / "log.txt"), str(tmp_path))


def test_what_is_stopped_ends_and_says_so(
    nodes: Any, module: Callable[[str, str], str], tmp_path: Path
) -> None:
    from makellos.cluster.runs import runners_on
    from makellos.jobs.processes import INTERRUPTED

    begun, codes = tmp_path / "begun", list[int]()
    with runners_on(nodes.address, module=module("waits", WAITS)) as runners:
        thread = threading.Thread(
            target=lambda: codes.append(runners.execute([str(begun)], tmp_path / "log.txt"))
        )
        thread.start()
        for _ in range(600):
            if begun.exists():
                break
            thread.join(0.1)
        runners.stop()
        thread.join(60)
    assert codes == [INTERRUPTED]


def test_queue_and_compare_give_what_they_give_without(
    nodes: Any, toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    small = "{image_size: 32}"
    runs = "".join(
        f"  - {{name: {name}, detector: padim, seed: {seed}, set: {small}}}\n"
        for seed, name in enumerate(("first", "second", "third"))
    )
    head = f"output: night\ndefaults: {{data: {toy_parts}, false_alarms: 0.1}}\nruns:\n"
    (tmp_path / "runs.yaml").write_text(head + runs, encoding="utf-8")
    told = cli("queue", tmp_path / "runs.yaml", "--cluster", nodes.address)
    assert told.code == 0, told.everything
    results = json.loads((tmp_path / "night" / "results.json").read_text(encoding="utf-8"))
    assert [(run["name"], run["state"]) for run in results["runs"]] == [
        ("first", "done"),
        ("second", "done"),
        ("third", "done"),
    ]
    again = cli("queue", tmp_path / "runs.yaml")
    assert again.out.count("already done") == 3
    compare = ["compare", toy_parts, "--detectors", "padim,patchcore"]
    compare += ["--set", "padim.image_size=32", "--set", "patchcore.image_size=32"]
    compare += ["--false-alarms", "0.1", "--cluster", nodes.address]
    told = cli(*compare, "-o", tmp_path / "side")
    assert told.code == 0, told.everything
    assert (tmp_path / "side" / "padim" / "padim.makellos").is_file()
    assert not list((tmp_path / "side").glob(".steps-*"))
    told = cli(*compare)
    assert told.code == 2
    assert "Name it with -o" in told.err
