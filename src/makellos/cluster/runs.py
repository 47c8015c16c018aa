"""Processes of `queue` and `compare` on a cluster: each a task that has a node's cores."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from itertools import pairwise
from pathlib import Path

from makellos.cluster.connection import Cluster, connected
from makellos.errors import MakellosError, StorageError
from makellos.jobs.processes import INTERRUPTED, ProcessRunner, Runners

__all__ = ["ClusterRunner", "runners_on"]

_LOOK_SECONDS = 0.5
_FIT, _FIT_ORDER = "fit", "fit-task.json"  # what a verb, or a step of a comparison, begins with


class ClusterRunner:
    """Run a module as a process on a node, its output added to a log; as `ProcessRunner` does.

    It works in the folder of the caller, which all nodes have to see, as well as the data. It has
    as many cores as the smallest node, and a fit one GPU where the cluster has any, unless it is
    asked to use none. One whose node ends begins anew on another.
    """

    def __init__(self, cluster: Cluster, *, module: str = "makellos") -> None:
        self._cluster = cluster
        self._module = module
        self._stopped = threading.Event()
        self.n_cores = cluster.cores_per_task(most=None)

    @property
    def at_once(self) -> int:
        """Return how many processes the cluster has room for now."""
        return self._cluster.slots(self.n_cores)

    def stop(self) -> None:
        """End all processes; those who wait for them are told that they were interrupted."""
        self._stopped.set()

    def __call__(self, arguments: Sequence[str], log: Path) -> int:
        """Run the process to its end and return its exit code."""
        n_gpus = int(self._cluster.has_gpus() and _may_use_gpu(arguments))
        start = self._cluster.task(_run, n_cores=self.n_cores, n_gpus=n_gpus)
        running = start(self._module, list(arguments), str(log.absolute()), str(Path.cwd()))
        while not self._cluster.ray.wait([running], timeout=_LOOK_SECONDS)[0]:
            if self._stopped.is_set():
                self._cluster.ray.cancel(running)
                return INTERRUPTED
        try:
            return int(self._cluster.result(running, " ".join(arguments[:2])))
        except MakellosError as error:
            with log.open("a", encoding="utf-8") as stream:
                stream.write(f"Error: {error}\n")
            return error.exit_code


@contextmanager
def runners_on(address: str, *, module: str = "makellos") -> Iterator[Runners]:
    """Give what runs processes on the cluster at an address; raises as `connected` does."""
    with connected(address) as cluster:
        runner = ClusterRunner(cluster, module=module)
        yield Runners(runner, at_once=runner.at_once, stop=runner.stop)


def _may_use_gpu(arguments: Sequence[str]) -> bool:
    is_fit = arguments[0] == _FIT or Path(arguments[0]).name == _FIT_ORDER
    devices = [after for option, after in pairwise(arguments) if option == "--device"]
    return is_fit and devices != ["cpu"]


def _run(module: str, arguments: list[str], log: str, folder: str) -> int:
    """Run a process on a node."""
    try:
        os.listdir(Path(log).parent)  # noqa: PTH208 -- only whether it is there
        with chdir(folder):
            return ProcessRunner(module=module)(arguments, Path(log))
    except FileNotFoundError as error:
        raise StorageError(
            f"{platform.node()} does not see {error.filename}. Put data, models and the output "
            "folder on a drive that all nodes have mounted under the same path."
        ) from error
