"""The run directory: losses, TensorBoard, run.json; and looking on changes nothing."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from small_tasks import Run, SmallAutoencoder, SmallGAN, noise_pictures, same_weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from makellos.errors import StorageError
from makellos.training.checkpoints import claim_folder
from makellos.training.logs import Logs, picture_grid
from makellos.training.task import Update


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "losses.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def board(folder: Path) -> EventAccumulator:
    read = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0})
    read.Reload()
    return read


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("left")
    Run(folder, epochs=2).go()
    Run(folder, epochs=4).go(resume=True)
    return folder


def test_files_of_a_run(left: Path) -> None:
    assert sorted(path.name for path in left.iterdir()) == [
        *("best.safetensors", "last.safetensors", "losses.csv", "run.json", "tensorboard")
    ]


def test_losses_have_a_row_per_epoch(left: Path) -> None:
    rows = table(left)
    assert list(rows[0]) == [
        *("epoch", "step", "seconds", "pictures_per_second", "loss", "validation_loss")
    ]
    assert [(int(row["epoch"]), int(row["step"])) for row in rows] == [
        *((1, 3), (2, 6), (3, 9), (4, 12))
    ]
    assert all(0 < float(row["loss"]) < 1 for row in rows)
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_a_row_is_the_mean_over_the_epoch(tmp_path: Path) -> None:
    told: list[float] = []

    class Telling(SmallAutoencoder):
        def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
            losses = super().step(batch, update, number)
            told.append(float(losses["loss"]))
            return losses

    Run(tmp_path, make=Telling, epochs=2).go()
    assert [float(row["loss"]) for row in table(tmp_path)] == pytest.approx(
        [np.mean(told[:3]), np.mean(told[3:])]
    )


def test_a_loss_that_only_some_steps_have(tmp_path: Path) -> None:
    """A critic is trained more often than its generator."""

    class Seldom(SmallAutoencoder):
        def step(self, batch: Tensor, update: Update, number: int) -> dict[str, Tensor]:
            losses = super().step(batch, update, number)
            return losses | ({"seldom": torch.tensor(float(number))} if number in (7, 8) else {})

    Run(tmp_path, make=Seldom, epochs=4).go()
    rows = table(tmp_path)
    assert [row["seldom"] for row in rows] == ["", "", "7.5", ""]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert all(row["validation_loss"] for row in rows)


def test_tensorboard_shows_losses_once(left: Path) -> None:
    read = board(left)
    assert set(read.Tags()["scalars"]) == {
        *("losses/loss", "losses/validation_loss", "pictures_per_second")
    }
    shown = read.Scalars("losses/loss")
    assert [event.step for event in shown] == [1, 2, 3, 4]
    assert [event.value for event in shown] == pytest.approx(
        [float(row["loss"]) for row in table(left)], rel=1e-6
    )


def test_tensorboard_forgets_what_a_killed_run_wrote_after_its_checkpoint(tmp_path: Path) -> None:
    figures = {"epoch": 1, "step": 1, "seconds": 1.0, "pictures_per_second": 1.0}
    for after, value in ((0, 0.5), (0, 0.25)):  # killed in its first epochs, and resumed
        with Logs(tmp_path, after=after) as logs:
            for epoch in (1, 2):
                logs.row({**figures, "epoch": epoch}, {"loss": value})
    assert [event.value for event in board(tmp_path).Scalars("losses/loss")] == [0.25, 0.25]


def test_tensorboard_shows_pictures(left: Path) -> None:
    read = board(left)
    assert set(read.Tags()["images"]) == {"real", "reconstruction"}
    last = read.Images("real")[-1]
    assert last.step == 4
    shown = cv2.imdecode(np.frombuffer(last.encoded_image_string, np.uint8), 0)
    learn, _ = noise_pictures().split(0.2, at_least=2, seed=0)
    expected = picture_grid(learn.batch(range(16)))[0]
    np.testing.assert_allclose(shown / 255, expected, atol=1e-3)


def test_tensorboard_shows_samples_in_their_colours(tmp_path: Path) -> None:
    class Red(SmallAutoencoder):
        def pictures(self, batch: Tensor) -> dict[str, Tensor]:
            red = torch.zeros(2, 3, 16, 16)
            red[:, 0] = 2.0  # beyond what a picture holds
            return {"red": red}

        def samples(self, n: int) -> Tensor:
            return torch.rand(n, 1, 16, 16)

    Run(tmp_path, make=Red, epochs=1).go()
    read = board(tmp_path)
    assert set(read.Tags()["images"]) == {"real", "red", "samples"}
    encoded = np.frombuffer(read.Images("red")[0].encoded_image_string, np.uint8)
    assert cv2.imdecode(encoded, cv2.IMREAD_COLOR)[0, 0].tolist() == [0, 0, 255]  # BGR


def test_a_grid_is_as_square_as_it_gets() -> None:
    batch = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 1, 2, 3) / 5
    grid = picture_grid(batch)
    assert grid.shape == (1, 4, 9)
    np.testing.assert_allclose(grid[0, ::2, ::3], [[0, 0.2, 0.4], [0.6, 0.8, 1.0]], atol=1e-6)


def test_nothing_is_written_without_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Run(None).go()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [None, SmallGAN])
def test_looking_on_changes_nothing_that_is_learned(tmp_path: Path, make: Any) -> None:
    """Logs, checkpoints, samples and validation draw from generators of their own."""
    alone, _ = Run(None, make=make, validates=True, epochs=60).go()
    watched, _ = Run(tmp_path, make=make, validates=True, epochs=60, checkpoint_seconds=0).go()
    assert same_weights(alone, watched)


def test_looking_in_training_mode_changes_nothing(tmp_path: Path) -> None:
    """A task that asks its networks for samples leaves batch norm and modes as they were."""

    class Sampling(SmallAutoencoder):
        def samples(self, n: int) -> Tensor:
            assert not self.network.training
            return self.network(torch.rand(n, 1, 16, 16))

    alone, _ = Run(None, epochs=40).go()
    watched, _ = Run(tmp_path, make=Sampling, epochs=40).go()
    assert same_weights(alone, watched)


def test_draws_of_the_caller_go_on_as_if_nothing_had_been_trained() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    Run(None, epochs=1).go()
    assert torch.equal(torch.rand(3), expected)


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match="left alone"):
        Run(tmp_path).go()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_fresh_run_removes_an_earlier_one(tmp_path: Path) -> None:
    Run(tmp_path, epochs=4).go()
    (tmp_path / "notes.txt").write_text("mine")
    task, _ = Run(tmp_path, epochs=2, seed=5).go()
    assert same_weights(task, Run(None, epochs=2, seed=5).go()[0])
    assert [row["epoch"] for row in table(tmp_path)] == ["1", "2"]
    assert [event.step for event in board(tmp_path).Scalars("losses/loss")] == [1, 2]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_removal_that_was_broken_off_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(tmp_path, epochs=1).go()
    really, left = Path.unlink, [0]

    def unlink(path: Path, missing_ok: bool = False) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        really(path, missing_ok=missing_ok)

    for n_done in range(1, 6):
        left[0] = n_done
        monkeypatch.setattr(Path, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            claim_folder(tmp_path, {}, resume=False)
        monkeypatch.undo()
        assert claim_folder(tmp_path, {}, resume=False) is False
        Run(tmp_path, epochs=1).go()


def test_progress_tells_losses_and_speed() -> None:
    told: list[tuple[str, int, int]] = []
    Run(
        progress=lambda what, done, total: told.append((what, done, total)),
        epochs=2,
        validates=False,
    ).go()
    step, epoch, batch, loss, speed = told[-1][0].split(" · ")
    assert (step, told[-1][1:]) == ("training", (6, 6))
    assert (epoch, batch) == ("epoch 2/2", "batch 3/3")
    assert loss.startswith("loss 0.")
    assert speed.endswith(" pictures/s")


def test_progress_counts_epochs_and_batches_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("makellos.training.loop._PATIENCE_SECONDS", 0.0)
    told: list[str] = []
    Run(progress=lambda what, done, total: told.append(what), epochs=2).go()
    places = [tuple(text.split(" · ")[1:3]) for text in told]
    assert places[:6] == [(f"epoch {i}/2", f"batch {j}/3") for i in (1, 2) for j in (1, 2, 3)]


def test_progress_names_held_out_losses_as_people_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SmallAutoencoder, "called", {"loss": "SSIM loss"})
    told: list[str] = []
    Run(progress=lambda what, done, total: told.append(what), epochs=2).go()
    losses = told[-1].split(" · ")[3:-1]
    assert [loss.rpartition(" ")[0] for loss in losses] == ["SSIM loss", "held-out SSIM loss"]
