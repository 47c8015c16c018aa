"""Inspect on a cluster: shards as tasks, each of them carried out anew where its machine ends.

These are tasks and no Dataset of Ray Data. Its writers name files by the task that wrote them, so
that a second run cannot tell what is done; and what its pool of actors was given waits for that
very actor, whose machine may be gone, while those that are left hold all cores. A task goes to any
node, and to one that joined later.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

from makellos import __version__
from makellos.cluster.connection import connected, require_ray
from makellos.data.progress import Progress, no_progress
from makellos.errors import ConfigurationError
from makellos.inspection.engines import EngineChoice
from makellos.workflows.inspect import InspectSummary, RuleOverrides
from makellos.workflows.shards import (
    Manner,
    Shard,
    ShardInspector,
    ShardPlan,
    ShardReport,
    plan_shards,
)

__all__ = ["ClusterSummary", "inspect"]

_LOOK_SECONDS = 1.0  # so that an interrupt is heard
_AHEAD = 2  # tasks that are given for each that the cluster has room for


@dataclass
class ClusterSummary(InspectSummary):
    """Hold the counts of all shards, of which `n_earlier` are of an earlier run."""

    output: str = ""
    n_shards: int = 0
    n_earlier: int = 0


@dataclass(frozen=True)
class _Carried:
    """Take a model to the nodes; `reference` is to its content, kept once per node."""

    plan: str
    manner: Manner = field(compare=False)
    n_cores: int
    version: str
    reference: tuple[Any, ...] = field(compare=False)


def inspect(
    model: Path | str,
    inputs: Iterable[Path | str],
    output: Path | str,
    *,
    address: str,
    engine: EngineChoice | None = None,
    rpm: float | None = None,
    held_to: RuleOverrides | None = None,
    statistics: bool = False,
    on_unreadable: Callable[[str, str], None] | None = None,
    progress: Progress | None = None,
) -> ClusterSummary:
    """Inspect on the cluster at an address, and write the rows as shards into the folder `output`.

    Every input gets exactly one row, in the order of the inputs. What an earlier run of the same
    model on the same inputs finished in the folder stays as it is. `on_unreadable` is called with
    the name and the error of each input that could not be read; the other arguments are those of
    `plan_shards` and `connected`, which also say what is raised.
    """
    plan = plan_shards(
        model, inputs, output, engine=engine, rpm=rpm, held_to=held_to, statistics=statistics
    )
    require_ray()
    done, shards = plan.begin(), plan.shards()
    summary = ClusterSummary(
        noun=plan.noun,
        masks_left_out=plan.masks_left_out,
        output=str(plan.output),
        n_shards=len(shards),
        n_earlier=len(done),
    )
    finished = {report.number for report in done}
    missing = [shard for shard in shards if shard.number not in finished]
    tell = progress or no_progress
    for report in chain(done, _carried_out(address, plan, missing)):
        report.add_to(summary)
        tell("inspecting", summary.n_parts, len(plan.inputs))
        if on_unreadable is not None:
            for name, error in report.unreadable:
                on_unreadable(name, error)
    plan.sweep()
    return summary


def _carried_out(address: str, plan: ShardPlan, shards: Sequence[Shard]) -> Iterator[ShardReport]:
    """Yield the reports of shards as they are done; none needs no cluster."""
    if not shards:
        return
    with connected(address) as cluster:
        ray, n_cores, waiting = cluster.ray, cluster.cores_per_task(), iter(shards)
        start = cluster.task(_inspect_shard, n_cores=n_cores)
        # In a tuple, so that a node asks for it once and not with every task.
        reference = (ray.put(plan.model),)
        carried = _Carried(plan.digest, plan.manner, n_cores, __version__, reference)
        running: dict[Any, Shard] = {}
        while True:
            room = max(0, _AHEAD * cluster.slots(n_cores) - len(running))
            running.update((start(shard, carried), shard) for shard in islice(waiting, room))
            if not running:
                return
            done, _ = ray.wait(list(running), timeout=_LOOK_SECONDS)
            for each in done:
                shard = running.pop(each)
                yield cluster.result(each, f"{shard.inputs[0]} to {shard.inputs[-1]}")


def _inspect_shard(shard: Shard, carried: _Carried) -> ShardReport:
    """Inspect a shard on a node."""
    return _opened(carried)(shard)


@lru_cache(maxsize=1)
def _opened(carried: _Carried) -> ShardInspector:
    """Return what inspects on this node: opened by the first task of a process, for all others."""
    if carried.version != __version__:
        raise ConfigurationError(
            f"{platform.node()} has makellos {__version__}; the machine that runs the command has "
            f"{carried.version}. Install the same version on all machines."
        )
    import ray

    return ShardInspector(ray.get(carried.reference[0]), carried.manner, carried.n_cores)
