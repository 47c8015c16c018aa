"""Inspection on a real cluster of node processes on this machine, one of which is killed."""

from __future__ import annotations

import importlib.util
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")

N_PARTS = 2000
STORE = 80 << 20


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of many small pictures, of which two cannot be read."""
    folder = tmp_path_factory.mktemp("many")
    for number, picture in enumerate(
        np.random.default_rng(0).integers(0, 255, (N_PARTS, 16, 16), np.uint8)
    ):
        cv2.imwrite(str(folder / f"{number:04}.png"), picture)
    for number in (7, N_PARTS - 1):
        (folder / f"{number:04}.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def nodes() -> Iterator[Any]:
    """Start a cluster of two node processes with a core each; give it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        from ray.cluster_utils import Cluster

        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "object_store_memory": STORE,
                "include_dashboard": False,
            },
        )
        cluster.add_node(num_cpus=1, object_store_memory=STORE)
        try:
            yield cluster
        finally:
            cluster.shutdown()


def inputs_in(folder: Path) -> Counter[str]:
    from pyarrow import parquet

    files = folder.glob("part-*.parquet")
    return Counter(
        name for f in files for name in parquet.read_table(f).column("input").to_pylist()
    )


@pytest.mark.filterwarnings("default")
def test_a_node_that_is_killed_costs_no_row_and_doubles_none(
    toy_model: Path, many: Path, tmp_path: Path, nodes: Any
) -> None:
    from makellos.cluster.inspecting import inspect

    killed: list[int] = []
    unreadable: list[str] = []

    def kill_midway(_step: str, done: int, _total: int | None) -> None:
        if done >= N_PARTS // 4 and not killed:
            killed.append(done)
            nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)

    found = inspect(
        toy_model,
        [many],
        tmp_path / "out",
        address=nodes.address,
        on_unreadable=lambda name, _: unreadable.append(name),
        progress=kill_midway,
    )
    assert killed
    assert killed[0] < N_PARTS
    assert (found.n_parts, found.verdicts["unreadable"]) == (N_PARTS, 2)
    assert sorted(unreadable) == [str(many / f"{n:04}.png") for n in (7, N_PARTS - 1)]
    rows = inputs_in(tmp_path / "out")
    assert rows == Counter(str(path) for path in many.iterdir())


@pytest.mark.filterwarnings("default")
def test_the_command_starts_a_cluster_and_goes_on_where_it_stopped(
    toy_model: Path, many: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    few = [str(path) for path in sorted(many.iterdir())[:120]]
    command = ["inspect", toy_model, *few, "--cluster", "auto", "-o", tmp_path / "out"]
    told = cli(*command)
    assert told.code == 1  # one cannot be read
    assert "120 parts: " in told.out
    assert "Written: 3 Parquet files" in told.out
    assert f"unreadable  {many / '0007.png'}" in told.err
    (tmp_path / "out" / "part-00001-of-00003.parquet").unlink()
    told = cli(*command)
    assert told.code == 1
    assert "3 Parquet files" in told.out
    assert "2 of them from an earlier run" in told.out
    assert sum(inputs_in(tmp_path / "out").values()) == 120


@pytest.mark.filterwarnings("default")
def test_an_address_where_no_cluster_is_says_what_to_give(
    toy_model: Path, many: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("inspect", toy_model, many, "--cluster", "127.0.0.1:9", "-o", tmp_path / "out")
    assert told.code == 2
    assert "No cluster answers at 127.0.0.1:9" in told.err
    told = cli("inspect", toy_model, many, "--cluster", "here", "-o", tmp_path / "out")
    assert told.code == 2
    assert "received 'here'" in told.err
