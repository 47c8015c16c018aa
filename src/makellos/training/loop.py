"""The one training loop: batches, steps, checkpoints, logs, early stopping, resuming."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from makellos.data.progress import Progress
from makellos.errors import TrainingError
from makellos.training.checkpoints import (
    BEST,
    LAST,
    claim_folder,
    pack,
    random_states,
    read_checkpoint,
    set_random_states,
    unpack,
    write_checkpoint,
)
from makellos.training.devices import open_fabric
from makellos.training.logs import Logs
from makellos.training.pictures import Pictures
from makellos.training.settings import Training
from makellos.training.task import Task
from makellos.training.watch import N_SAMPLES, CollapseWatch, check_losses

__all__ = ["Augment", "Outcome", "epochs_for", "seeded", "train"]

Augment = Callable[[Tensor], Tensor]
_PATIENCE_SECONDS = 0.2  # between two reports of progress
_N_SHOWN = 16
_N_LOOKS = 12  # times that pictures are written to TensorBoard
_N_REAL = 256  # real pictures that samples are compared with


@dataclass(frozen=True)
class Outcome:
    """Hold how training went: epochs and steps done, the best loss, and what the user must know."""

    n_epochs: int
    n_steps: int
    best_loss: float | None
    losses: dict[str, float]
    notes: list[str]


@dataclass
class _State:
    """Hold where a run is; with the weights and the generators' states it is a checkpoint."""

    epoch: int = 0  # epochs done
    step: int = 0  # steps done
    position: int = 0  # batches done in the epoch that goes on
    best_loss: float | None = None
    stale: int = 0  # epochs since the best loss
    asked: int = 0  # epochs after which the run was done, early or not; 0 while it goes on
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)  # of losses in the epoch that goes on
    losses: dict[str, float] = field(default_factory=dict)  # means of the last epoch
    watch: dict[str, int] = field(default_factory=dict)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators for a while, and leave them afterwards as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def epochs_for(n_steps: int, n_pictures: int, batch_size: int) -> int:
    """Return how many passes over the pictures make about `n_steps` steps."""
    per_epoch = max(1, n_pictures // batch_size)
    return max(1, round(n_steps / per_epoch))


def train(
    task: Task,
    pictures: Pictures,
    *,
    identity: Mapping[str, Any],
    n_epochs: int,
    batch_size: int,
    training: Training,
    progress: Progress,
    label: str = "training",
    augment: Augment | None = None,
    validation: Pictures | None = None,
    patience: int = 0,
) -> Outcome:
    """Train a task's networks on pictures; they end on the processor, in evaluation mode.

    Call it inside `seeded`, with the networks made inside as well. `identity` is what a run must
    share with one that it resumes. With `validation` the weights of the epoch with the lowest
    ``loss`` are kept, and `patience` epochs without a lower one end the training (0: never).

    A run that was killed and resumed ends on one processor with the weights of one that was not,
    bit for bit. Raises `TrainingError` when losses diverge, a generator collapses or memory does
    not suffice; `StorageError` when a checkpoint cannot be written; `ConfigurationError` for a
    device that there is not, and for a run that cannot be resumed.
    """
    run = _Run(task, pictures, batch_size, training, augment, validation)
    known = {**identity, "pictures": pictures.fingerprint(), "shape": list(pictures.shape)}
    run.begin(known)
    try:
        run.go(n_epochs, patience, progress, label)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower():
            raise TrainingError(
                f"The memory of {run.fabric.device} does not suffice for batches of {batch_size} "
                f"pictures of {pictures.shape[1]}x{pictures.shape[2]} pixels. Fit again with "
                f"--set batch_size={max(1, batch_size // 2)} or a smaller image_size."
            ) from error
        raise
    return run.finish()


class _Run:
    def __init__(
        self,
        task: Task,
        pictures: Pictures,
        batch_size: int,
        training: Training,
        augment: Augment | None,
        validation: Pictures | None,
    ) -> None:
        self.task, self.pictures, self.validation = task, pictures, validation
        self.training, self.augment = training, augment
        self.batch_size = min(batch_size, pictures.n)
        self.n_batches = pictures.n // self.batch_size
        self.fabric = open_fabric(training, mixed=task.mixed_precision)
        self.folder: Path | None = training.folder if self.fabric.is_global_zero else None
        self.state = _State()
        self.order = torch.empty(0, dtype=torch.int64)
        self.best: dict[str, Tensor] = {}
        self.best_is_new = False

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Move the networks to the device, and go on from a checkpoint where one is wanted."""
        for network in self.task.networks.values():
            network.to(self.fabric.device, memory_format=torch.channels_last)
        if self.fabric.world_size > 1:
            # Weights are alike already, for all processes share the seed; draws must not be.
            torch.manual_seed(torch.initial_seed() + self.fabric.global_rank)
        folder = self.training.folder
        resumes = False
        if folder is not None:
            if self.fabric.is_global_zero:
                resumes = claim_folder(folder, identity, resume=self.training.resume)
            resumes = self.fabric.broadcast(resumes)
        if folder is not None and resumes:
            self._restore(folder)

    def go(self, n_epochs: int, patience: int, progress: Progress, label: str) -> None:
        """Train until `n_epochs` are done or patience ends."""
        total = n_epochs * self.n_batches
        self.watch = CollapseWatch(self.pictures.batch(range(min(_N_REAL, self.pictures.n))), total)
        if self.state.watch:
            self.watch.restore(self.state.watch)
        if self.state.asked >= n_epochs:
            return
        self._progress, self._label, self._told = progress, label, 0.0
        self._saved = time.monotonic()
        self._began = self._saved - self.state.seconds
        with Logs(self.folder, after=self.state.epoch) as logs:
            while self.state.epoch < n_epochs:
                self._epoch(total)
                self._close_epoch(logs, n_epochs)
                if patience and self.state.stale >= patience:
                    break
                self._save_now_and_then()
        self.state.asked = n_epochs
        progress(self._text(), total, total)
        self._save()

    def finish(self) -> Outcome:
        """Return how it went, with the best weights on the processor."""
        for name, network in self.task.networks.items():
            if self.best:
                prefix = f"network/{name}/"
                kept = {
                    key.removeprefix(prefix): values
                    for key, values in self.best.items()
                    if key.startswith(prefix)
                }
                network.load_state_dict(kept)
            network.to("cpu", memory_format=torch.contiguous_format)
            network.eval()
        self.fabric.barrier()
        samples = self._samples("cpu")
        notes = [] if samples is None else self.watch.notes(samples)
        state = self.state
        return Outcome(state.epoch, state.step, state.best_loss, state.losses, notes)

    def _epoch(self, total: int) -> None:
        state, fabric = self.state, self.fabric
        for network in self.task.networks.values():
            network.train()
        if not state.position:
            self.order = torch.randperm(self.pictures.n)
            self.order = fabric.broadcast(self.order)
            state.sums = {}
        while state.position < self.n_batches:
            start = state.position * self.batch_size
            chosen = self.order[start : start + self.batch_size]
            batch = self.pictures.batch(chosen[fabric.global_rank :: fabric.world_size])
            batch = fabric.to_device(batch).contiguous(memory_format=torch.channels_last)
            if self.augment is not None:
                batch = self.augment(batch)
            with fabric.autocast():
                losses = self.task.step(batch, self._update, state.step)
            figures = {name: float(value) for name, value in losses.items()}
            check_losses(figures, state.step)
            for name, value in figures.items():
                state.sums[name] = state.sums.get(name, 0.0) + value
            state.position += 1
            state.step += 1
            self._tell(total)
            if state.position < self.n_batches:
                self._save_now_and_then()

    def _update(self, loss: Tensor, optimizer: str, *, retain_graph: bool = False) -> None:
        stepped = self.task.optimizers[optimizer]
        weights = [
            values
            for group in stepped.param_groups
            for values in group["params"]
            if values.requires_grad
        ]
        stepped.zero_grad(set_to_none=True)
        # Only these weights' gradients are computed, not those of networks that stand still.
        loss.backward(inputs=weights, retain_graph=retain_graph)
        if self.fabric.world_size > 1:
            for values in weights:
                if values.grad is not None:
                    values.grad = self.fabric.all_reduce(values.grad, reduce_op="mean")
        stepped.step()

    def _close_epoch(self, logs: Logs, n_epochs: int) -> None:
        state = self.state
        state.losses = {name: total / self.n_batches for name, total in state.sums.items()}
        state.epoch, state.position = state.epoch + 1, 0
        for network in self.task.networks.values():
            network.eval()
        losses = dict(state.losses)
        if self.validation is not None:
            losses |= {f"validation_{k}": v for k, v in self._validate(self.validation).items()}
            self._judge(losses.get("validation_loss"))
        self._look_for_collapse()
        state.seconds = time.monotonic() - self._began
        figures = {
            "epoch": state.epoch,
            "step": state.step,
            "seconds": round(state.seconds, 3),
            "pictures_per_second": round(state.step * self.batch_size / state.seconds, 2),
        }
        logs.row(figures, losses)
        every = max(1, n_epochs // _N_LOOKS)
        if logs.shows_pictures and (state.epoch % every == 0 or state.epoch == n_epochs):
            logs.pictures(self._pictures(), state.epoch)

    def _validate(self, validation: Pictures) -> dict[str, float]:
        sums: dict[str, float] = {}
        with self._looking():
            for start in range(0, validation.n, self.batch_size):
                stop = min(start + self.batch_size, validation.n)
                batch = self.fabric.to_device(validation.batch(range(start, stop)))
                batch = batch.contiguous(memory_format=torch.channels_last)
                for name, value in self.task.validate(batch).items():
                    sums[name] = sums.get(name, 0.0) + float(value) * (stop - start)
        means = {name: total / validation.n for name, total in sums.items()}
        check_losses(
            {f"validation {name}": value for name, value in means.items()}, self.state.step
        )
        return means

    def _judge(self, loss: float | None) -> None:
        if loss is None:
            return
        if self.state.best_loss is None or loss < self.state.best_loss:
            self.state.best_loss, self.state.stale = loss, 0
            tensors = pack(self.task.networks, {})["tensors"]
            self.best = {name: values.clone() for name, values in tensors.items()}
            self.best_is_new = True
        else:
            self.state.stale += 1

    def _look_for_collapse(self) -> None:
        if not self.watch.is_due(self.state.step):
            return
        samples = self._samples(self.fabric.device)
        if samples is not None:
            self.watch.look(samples.cpu(), self.state.losses, self.state.step)
            self.state.watch = self.watch.state()

    def _samples(self, device: torch.device | str) -> Tensor | None:
        with self._looking(), torch.device(device):
            return self.task.samples(N_SAMPLES)

    def _pictures(self) -> dict[str, Tensor]:
        real = self.pictures.batch(range(min(_N_SHOWN, self.pictures.n)))
        with self._looking():
            grids = self.task.pictures(self.fabric.to_device(real))
        samples = self._samples(self.fabric.device)
        made = {} if samples is None else {"samples": samples}
        return {"real": real, **grids, **made}

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Look without changing what is drawn later: logs must not change what is learned."""
        with torch.no_grad(), self.fabric.autocast(), torch.random.fork_rng():
            torch.manual_seed(0)
            yield

    def _text(self) -> str:
        state = self.state
        done = max(1, state.position)
        means = {k: v / done for k, v in state.sums.items()} if state.position else state.losses
        pieces = [f"{name} {value:.4g}" for name, value in means.items()]
        seconds = time.monotonic() - self._began
        speed = state.step * self.batch_size / max(seconds, 1e-9)
        return " · ".join([self._label, *pieces, f"{speed:.0f} pictures/s"])

    def _tell(self, total: int) -> None:
        now = time.monotonic()
        if now - self._told >= _PATIENCE_SECONDS:
            self._told = now
            self._progress(self._text(), self.state.step, total)

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved >= self.training.checkpoint_seconds:
            self._save()

    def _save(self) -> None:
        if self.folder is None:
            return
        self.state.seconds = time.monotonic() - self._began
        if self.best_is_new:
            write_checkpoint(self.folder / BEST, self.best, {"loss": self.state.best_loss})
            self.best_is_new = False
        packed = pack(self.task.networks, self.task.optimizers)
        tensors = {**packed["tensors"], **random_states(self.fabric.device), "order": self.order}
        state = {"state": asdict(self.state), "optimizers": packed["optimizers"]}
        write_checkpoint(self.folder / LAST, tensors, state)
        self._saved = time.monotonic()

    def _restore(self, folder: Path) -> None:
        path = folder / LAST
        tensors, data = read_checkpoint(path)
        unpack(tensors, data["optimizers"], self.task.networks, self.task.optimizers, path)
        self.state = _State(**data["state"])
        self.order = tensors["order"]
        if self.state.best_loss is not None:
            self.best, _ = read_checkpoint(folder / BEST)
        set_random_states(tensors, self.fabric.device)
