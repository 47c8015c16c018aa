"""A cluster: connected to, or started on this machine, and left as it was found."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from makellos.errors import (
    ConfigurationError,
    InputError,
    MakellosError,
    MissingRuntimeError,
    adding,
)

__all__ = ["AUTO", "Cluster", "connected", "require_ray"]

AUTO = "auto"
_LOOPBACK = "127.0.0.1"
_STORE_BYTES = 200 << 20  # of memory for what travels: a model, and reports
_KNOCK_SECONDS = 10.0
_TRIES = 10  # of a task whose process or machine ends
MOST_CORES = 4  # of a task, which bounds the memory as in `inspect`


class Cluster:
    """Carry out functions as tasks on the nodes of a cluster; `ray` is the connected module."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray

    def cores_per_task(self, most: int | None = MOST_CORES) -> int:
        """Return how many cores a task gets: those of the smallest node, and `most` at most."""
        nodes = [n_cores for n_cores in self._cores() if n_cores >= 1]
        return max(1, min([*nodes, *([] if most is None and nodes else [most or 1])]))

    def slots(self, n_cores: int) -> int:
        """Return how many tasks of so many cores the cluster has room for now, at least 1."""
        return max(1, sum(on_node // n_cores for on_node in self._cores()))

    def has_gpus(self) -> bool:
        """Tell whether any node has a GPU."""
        return bool(self.ray.cluster_resources().get("GPU", 0) >= 1)

    def _cores(self) -> list[int]:
        """Return how many cores each node has that is alive."""
        alive = (node for node in self.ray.nodes() if node.get("Alive"))
        return [int(node.get("Resources", {}).get("CPU", 0)) for node in alive]

    def task(
        self, function: Callable[..., Any], *, n_cores: float = 1, n_gpus: float = 0
    ) -> Callable[..., Any]:
        """Return what starts a function as a task and returns a reference to its result.

        A task whose process or machine ends is carried out anew, on any node that has room.
        """
        made = self.ray.remote(
            num_cpus=n_cores, num_gpus=n_gpus, max_retries=_TRIES, retry_exceptions=False
        )
        started: Callable[..., Any] = made(function).remote
        return started

    def result(self, reference: Any, what: str) -> Any:
        """Return the result of a task that ended, or raise the error of ours that it raised.

        Raises `InputError` about `what` it was for where its process ended again and again.
        """
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, MakellosError):
                raise error.cause from None
            raise
        except self.ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()
            raise InputError(
                f"The task for {what} was given up, since its process died {_TRIES + 1} times "
                f"({reason[0] if reason else type(error).__name__}). Check whether the nodes have "
                "enough memory, or leave it out, and run the same command again."
            ) from error


def require_ray() -> Any:
    """Return the module of Ray; raises `MissingRuntimeError` where it is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # else Ray reports to its makers
    try:
        import ray
    except ImportError:
        raise MissingRuntimeError(f"--cluster needs Ray: {adding('cluster')}.") from None
    return ray


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Give the cluster at an address, such as ``10.0.0.1:6379``; it is left afterwards.

    ``auto`` is the one that runs on this machine, or else one that is started here for as long as
    it is needed, without a dashboard; Ray asks for a token there. Nothing is reported to anybody.
    Raises `MissingRuntimeError` without Ray, `ConfigurationError` where no cluster answers.
    """
    ray = require_ray()
    if ray.is_initialized():  # a program that uses Ray itself
        yield Cluster(ray)
        return
    _connect(ray, address)
    try:
        yield Cluster(ray)
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address != AUTO:
        _knock(address)  # Ray itself tries for minutes
    try:
        ray.init(address, **quiet)
    except ConnectionError as error:
        if address != AUTO:
            raise ConfigurationError(_unreachable(address, error)) from error
    except (ValueError, OSError, RuntimeError, AssertionError) as error:
        raise ConfigurationError(_unreachable(address, error)) from error
    else:
        return
    ray.init(
        "local",
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        _node_ip_address=_LOOPBACK,
        _system_config={"enable_metrics_collection": False},  # no port for what nobody reads
        **quiet,
    )


def _knock(address: str) -> None:
    """Raise `ConfigurationError` where nobody answers at an address."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigurationError(
            f"--cluster takes auto, or an address such as 10.0.0.1:6379; received {address!r}."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigurationError(_unreachable(address, error)) from error


def _unreachable(address: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()
    return (
        f"No cluster answers at {address} ({reason[0] if reason else type(error).__name__}). Use "
        "the address that 'ray start --head' printed, such as 10.0.0.1:6379, or 'auto' for this "
        "machine. This machine also needs the cluster's token, and the same versions of Python, "
        "Ray and makellos."
    )
