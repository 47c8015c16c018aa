"""The one training loop: batches, steps, checkpoints, logs, early stopping, resuming."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from makellos.data.progress import Progress
from makellos.errors import HelperProcessError, MakellosError, StorageError, TrainingError
from makellos.training.checkpoints import (
    BEST,
    LAST,
    check_identity,
    claim_folder,
    pack,
    read_checkpoint,
    unpack,
    weights_of,
    write_checkpoint,
)
from makellos.training.devices import open_fabric, precision_of
from makellos.training.logs import Logs
from makellos.training.pictures import Pictures
from makellos.training.random_state import random_states, seeded, set_random_states
from makellos.training.settings import Training
from makellos.training.sharing import (
    average,
    average_buffers,
    draw_apart,
    mean_over_processes,
    of_the_first,
    shared_out,
)
from makellos.training.task import Task
from makellos.training.watch import N_SAMPLES, CollapseWatch, check_losses, check_weights

__all__ = ["Augment", "Outcome", "epochs_for", "seeded", "train"]

Augment = Callable[[Tensor], Tensor]
_PATIENCE_SECONDS = 0.2  # between two reports of progress
_N_SHOWN = 16
_N_LOOKS = 12  # times that pictures are written to TensorBoard
_N_UNREAD = 20  # steps whose losses stay on a GPU: to read them waits for it
# What torch says where it has no class of its own for memory that does not suffice.
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")


@dataclass(frozen=True)
class Outcome:
    """Hold how training went: epochs and steps done, the best loss, and what the user must know.

    `went_on` is False where a resumed run had nothing left to do. What builds on these networks
    can be resumed only then: otherwise its checkpoint is of other networks.
    """

    n_epochs: int
    n_steps: int
    best_loss: float | None
    losses: dict[str, float]
    notes: list[str]
    went_on: bool = field(default=True, compare=False)


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
    counts: dict[str, int] = field(default_factory=dict)  # of steps that had these losses
    losses: dict[str, float] = field(default_factory=dict)  # means of the last epoch
    watch: dict[str, int] = field(default_factory=dict)


@dataclass
class _Stored:
    """Hold what a run goes on from."""

    path: Path
    tensors: dict[str, Tensor]
    optimizers: dict[str, Any]
    state: _State
    best: dict[str, Tensor]


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
    keep_best: bool = True,
) -> Outcome:
    """Train a task's networks on pictures; they end on the processor, in evaluation mode.

    Call it inside `seeded`, with the networks made inside as well. `identity` is what a run must
    share with one that it resumes. With `validation` the weights of the epoch with the lowest
    ``loss`` are kept, and `patience` epochs without a lower one end the training (0: never).
    Without `keep_best` the last weights are kept, and `validation` is for the log alone.

    A run that was killed and resumed ends on one processor with the weights of one that was not,
    bit for bit. Raises `TrainingError` when losses diverge, a generator collapses or memory does
    not suffice; `StorageError` when a checkpoint cannot be written; `ConfigurationError` for a
    device that there is not, and for a run that cannot be resumed.
    """
    run = _Run(task, pictures, batch_size, training, augment, validation)
    run.keep_best = keep_best
    known = {
        **identity,
        "batch_size": batch_size,
        "pictures": pictures.fingerprint(),
        "shape": list(pictures.shape),
        "validation": None if validation is None else validation.fingerprint(),
    }
    try:
        run.begin(json.loads(json.dumps(known, default=str)))
        run.go(n_epochs, patience, progress, label)
        return run.finish()
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        height, width = pictures.shape[1:]
        advice = f"--set batch_size={run.batch_size // 2} or " if run.batch_size > 1 else ""
        raise TrainingError(
            f"{run.fabric.device} does not have enough memory for batches of {run.batch_size} "
            f"pictures of {height}x{width} pixels. Fit again with {advice}a smaller image_size. "
            "The last checkpoint is intact."
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error).lower() for words in _NO_MEMORY)


def _figure(value: float) -> str:
    """Return three digits of a figure, and the whole of a large one.

    >>> _figure(0.12345), _figure(1234.5), _figure(-0.00001)
    ('0.123', '1234', '-1e-05')
    """
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


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
        self.fabric = open_fabric(training, mixed=task.mixed_precision)
        self.batch_size = shared_out(min(batch_size, pictures.n), self.fabric.world_size)
        self.n_batches = pictures.n // self.batch_size
        self.folder = training.folder if self.fabric.is_global_zero else None
        self.state = _State()
        self.n_before = 0  # steps of the run that is resumed
        self.order = torch.empty(0, dtype=torch.int64)
        self.best: dict[str, Tensor] = {}
        self.best_is_new = False
        self.keep_best = True
        self.held_out_loss: float | None = None  # of the last epoch
        # Losses of steps that were not read yet, for reading waits for the device.
        self.unread: list[dict[str, Tensor]] = []

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Move the networks to the device, and go on from a checkpoint where one is wanted."""
        self.identity = identity
        for network in self.task.networks.values():
            network.to(self.fabric.device, memory_format=torch.channels_last)
        stored: _Stored | None = None
        failure: MakellosError | None = None
        if self.folder is not None:
            try:
                stored = self._stored(self.folder)
            except MakellosError as error:
                failure = error
        if of_the_first(self.fabric, failure is not None):
            raise failure or HelperProcessError("The first process says why.")
        stored = of_the_first(self.fabric, stored)
        if stored is not None:
            self._restore(stored)
        # Weights are alike already, for all processes share the seed; draws must not be.
        draw_apart(self.fabric.global_rank, self.state.step)

    def go(self, n_epochs: int, patience: int, progress: Progress, label: str) -> None:
        """Train until `n_epochs` are done or patience ends."""
        self.task.n_steps = total = n_epochs * self.n_batches
        some = np.linspace(0, self.pictures.n - 1, min(N_SAMPLES, self.pictures.n)).astype(np.intp)
        self.watch = CollapseWatch(self.pictures.subset(some).batch(range(len(some))), total)
        if self.state.watch:
            self.watch.restore(self.state.watch)
        if self.state.asked >= n_epochs:
            return
        self._progress, self._label, self._told = progress, label, 0.0
        self._n_epochs = n_epochs
        self._writing = 0.0  # seconds that the last checkpoint took
        self._saved = self._read_at = time.monotonic()
        self._began = self._saved - self.state.seconds
        with Logs(self.folder, after=self.state.epoch) as logs:
            while self.state.epoch < n_epochs and not 0 < patience <= self.state.stale:
                self._epoch(total)
                self._close_epoch(logs, n_epochs)
                self._save_now_and_then()
        self.state.asked = n_epochs
        progress(self._text(), total, total)
        self._save()

    def finish(self) -> Outcome:
        """Return how it went, with the best weights on the processor."""
        for name, network in self.task.networks.items():
            if self.best and self.keep_best:
                network.load_state_dict(weights_of(self.best, name))
            network.to("cpu", memory_format=torch.contiguous_format)
            network.eval()
        samples = self._samples("cpu")
        self.fabric.barrier()
        notes = [] if samples is None else self.watch.notes(samples)
        state = self.state
        went_on = state.step > self.n_before
        return Outcome(state.epoch, state.step, state.best_loss, state.losses, notes, went_on)

    def _epoch(self, total: int) -> None:
        state = self.state
        for network in self.task.networks.values():
            network.train()
        if not state.position:
            self.order = of_the_first(self.fabric, self.pictures.order())
            state.sums, state.counts = {}, {}
        while state.position < self.n_batches:
            batch = self._batch()
            with precision_of(self.fabric):
                losses = self.task.step(batch, self._update, state.step)
            self.unread.append({name: value.detach() for name, value in losses.items()})
            state.position += 1
            state.step += 1
            if self._reads_now():
                self._read_losses()
                self._look_for_collapse()
                self._tell(total)
                if state.position < self.n_batches:
                    self._save_now_and_then()

    def _batch(self) -> Tensor:
        start = self.state.position * self.batch_size
        together = self.order[start : start + self.batch_size]
        chosen = together[self.fabric.global_rank :: self.fabric.world_size]
        self._set_targets(self.pictures, chosen)
        batch = self.pictures.batch(chosen)
        batch = self.fabric.to_device(batch).contiguous(memory_format=torch.channels_last)
        return batch if self.augment is None else self.augment(batch)

    def _set_targets(self, pictures: Pictures, chosen: Tensor | range) -> None:
        targets = pictures.targets(chosen)
        self.task.targets = None if targets is None else self.fabric.to_device(targets)

    def _reads_now(self) -> bool:
        """Tell whether to read the losses; several processes must do so at the same steps."""
        if self.fabric.world_size > 1 or self.fabric.device.type == "cpu":
            return True
        late = time.monotonic() - self._read_at >= _PATIENCE_SECONDS
        return late or len(self.unread) >= _N_UNREAD or self.state.position == self.n_batches

    def _read_losses(self) -> None:
        state, fabric = self.state, self.fabric
        first = state.step - len(self.unread)
        names = [(first + i, name) for i, losses in enumerate(self.unread) for name in losses]
        values = [value for losses in self.unread for value in losses.values()]
        if fabric.device.type != "cpu" or fabric.world_size > 1:
            together = torch.stack([value.float() for value in values])
            figures: list[float] = mean_over_processes(fabric, together).tolist()
        else:
            figures = [float(value) for value in values]
        for (step, name), figure in zip(names, figures, strict=True):
            check_losses({name: figure}, step)
            state.sums[name] = state.sums.get(name, 0.0) + figure
            state.counts[name] = state.counts.get(name, 0) + 1
        self.unread, self._read_at = [], time.monotonic()

    def _means(self) -> dict[str, float]:
        return {name: total / self.state.counts[name] for name, total in self.state.sums.items()}

    def _update(self, loss: Tensor, optimizer: str, *, retain_graph: bool = False) -> None:
        stepped = self.task.optimizers[optimizer]
        weights = [
            values
            for group in stepped.param_groups
            for values in group["params"]
            if values.requires_grad
        ]
        stepped.zero_grad(set_to_none=True)
        with torch.autocast(self.fabric.device.type, enabled=False):
            # Only these weights' gradients are computed, not those of networks that stand still.
            loss.backward(inputs=weights, retain_graph=retain_graph)
            average(self.fabric, [values.grad for values in weights if values.grad is not None])
            stepped.step()

    def _close_epoch(self, logs: Logs, n_epochs: int) -> None:
        state = self.state
        state.losses = self._means()
        state.epoch, state.position = state.epoch + 1, 0
        average_buffers(self.fabric, self.task.networks.values())
        losses = dict(state.losses)
        if self.validation is not None:
            losses |= {f"validation_{k}": v for k, v in self._validate(self.validation).items()}
            self.held_out_loss = losses.get("validation_loss")
            if self.keep_best and "validation_loss" in losses:
                self._judge(losses["validation_loss"])
        state.seconds = max(time.monotonic() - self._began, 1e-3)
        figures = {
            "epoch": state.epoch,
            "step": state.step,
            "seconds": round(state.seconds, 3),
            "pictures_per_second": round(state.step * self.batch_size / state.seconds, 2),
        }
        logs.row(figures, losses)
        if self.training.on_epoch is not None:
            self.training.on_epoch(state.epoch, losses)
        every = max(1, n_epochs // _N_LOOKS)
        if logs.shows_pictures and (state.epoch % every == 0 or state.epoch == n_epochs):
            logs.pictures(self._pictures(), state.epoch)

    def _validate(self, validation: Pictures) -> dict[str, float]:
        with self._looking():
            means = self.task.validate_all(self._held_out(validation))
        check_losses(
            {f"validation {name}": value for name, value in means.items()}, self.state.step
        )
        # All processes must come to the same end.
        return of_the_first(self.fabric, means)

    def _held_out(self, validation: Pictures) -> Iterator[Tensor]:
        for start in range(0, validation.n, self.batch_size):
            chosen = range(start, min(start + self.batch_size, validation.n))
            self._set_targets(validation, chosen)
            batch = self.fabric.to_device(validation.batch(chosen))
            yield batch.contiguous(memory_format=torch.channels_last)

    def _judge(self, loss: float) -> None:
        if self.state.best_loss is None or loss < self.state.best_loss:
            self.state.best_loss, self.state.stale = loss, 0
            self.best = pack(self.task.networks, {})["tensors"]
            self.best_is_new = True
        else:
            self.state.stale += 1

    def _look_for_collapse(self) -> None:
        if not self.watch.is_due(self.state.step):
            return
        self.watch.last_step = self.state.step
        samples = self._samples(self.fabric.device)
        if samples is not None:
            self.watch.look(samples.cpu(), self._means(), self.state.step)
        self.state.watch = self.watch.state()

    def _samples(self, device: torch.device | str) -> Tensor | None:
        with self._looking(), torch.device(device):
            return self.task.samples(N_SAMPLES)

    def _pictures(self) -> dict[str, Tensor]:
        if self.pictures.shape[0] not in (1, 3):
            return {}  # features, not pictures
        real = self.pictures.batch(range(min(_N_SHOWN, self.pictures.n)))
        with self._looking():
            grids = self.task.pictures(self.fabric.to_device(real))
        samples = self._samples(self.fabric.device)
        made = {} if samples is None else {"samples": samples}
        return {"real": real, **grids, **made}

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Evaluate without changing what is drawn later: logs must not change what is learned."""
        device = self.fabric.device
        drawn = random_states(device)
        networks = self.task.networks.values()
        modes = [(module, module.training) for network in networks for module in network.modules()]
        for network in networks:
            network.eval()
        try:
            with torch.no_grad(), precision_of(self.fabric):
                torch.manual_seed(0)
                yield
        finally:
            set_random_states(drawn, device)
            for module, mode in modes:
                module.training = mode

    def _text(self) -> str:
        state = self.state
        called = self.task.called
        losses = [f"{called.get(name, name)} {_figure(v)}" for name, v in self._means().items()]
        if self.held_out_loss is not None:
            losses.append(f"held-out {called.get('loss', 'loss')} {_figure(self.held_out_loss)}")
        seconds = time.monotonic() - self._began
        speed = _figure(state.step * self.batch_size / max(seconds, 1e-9))
        epoch = f"epoch {state.epoch + (state.position > 0)}/{self._n_epochs}"
        batch = f"batch {state.position or self.n_batches}/{self.n_batches}"
        return " · ".join([self._label, epoch, batch, *losses, f"{speed} pictures/s"])

    def _tell(self, total: int) -> None:
        now = time.monotonic()
        if now - self._told >= _PATIENCE_SECONDS:
            self._told = now
            self._progress(self._text(), self.state.step, total)

    def _save_now_and_then(self) -> None:
        # Of a large network on a slow disk, writing takes a twentieth of the time at most.
        wanted = self.training.checkpoint_seconds
        pause = max(wanted, 20 * self._writing) if wanted else 0.0
        if time.monotonic() - self._saved >= pause:
            self._save()

    def _save(self) -> None:
        check_weights(self.task.networks, self.state.step)
        begun = self._saved = time.monotonic()
        if self.folder is None:
            return
        self.state.seconds = self._saved - self._began
        if self.best_is_new:
            write_checkpoint(self.folder / BEST, self.best, {"loss": self.state.best_loss})
            self.best_is_new = False
        packed = pack(self.task.networks, self.task.optimizers)
        tensors = {**packed["tensors"], **random_states(self.fabric.device), "order": self.order}
        data = {
            "identity": self.identity,
            "state": asdict(self.state),
            "optimizers": packed["optimizers"],
        }
        write_checkpoint(self.folder / LAST, tensors, data)
        self._saved = time.monotonic()
        self._writing = self._saved - begun

    def _stored(self, folder: Path) -> _Stored | None:
        """Return what the checkpoint to go on from holds; None where training begins anew."""
        if not claim_folder(folder, self.identity, resume=self.training.resume):
            return None
        tensors, data = read_checkpoint(folder / LAST)
        try:
            check_identity(data["identity"], self.identity, folder / LAST)
            state = _State(**data["state"])
        except (KeyError, TypeError) as error:
            raise StorageError(
                f"{folder / LAST} is a checkpoint of another version of makellos ({error}). Fit "
                "without --resume to start over."
            ) from error
        best = {} if state.best_loss is None else read_checkpoint(folder / BEST)[0]
        return _Stored(folder / LAST, tensors, data["optimizers"], state, best)

    def _restore(self, stored: _Stored) -> None:
        task = self.task
        unpack(stored.tensors, stored.optimizers, task.networks, task.optimizers, stored.path)
        self.state, self.best = stored.state, stored.best
        self.n_before = self.state.step
        self.order = stored.tensors["order"]
        set_random_states(stored.tensors, self.fabric.device)
