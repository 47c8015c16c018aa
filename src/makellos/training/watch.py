"""Training that goes wrong: losses that are no numbers, and generators that collapse."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn

from makellos.errors import TrainingError

__all__ = ["N_SAMPLES", "CollapseWatch", "check_losses", "check_weights"]

EXPLODED = 1e8
# Samples whose spread is below this share of the real pictures' spread are all alike.
ALIKE = 0.1
N_SAMPLES = 64
_IN_A_ROW = 3
_WARM_UP = 0.2  # share of training in which a generator may still be without form
_ZERO_LOSS = 0.01
_MIN_STEPS = 50  # between two looks,
_LOOK_SHARE = 0.05  # and this share of training
_AFTER_DIVERGING = (
    "The last checkpoint dates from before. Fit again with a lower learning rate, such as --set "
    "learning_rate=0.0001, or with --precision f32."
)


def check_losses(losses: Mapping[str, float], step: int) -> None:
    """Raise `TrainingError` when a loss is no number or beyond all bounds."""
    for name, value in losses.items():
        if not math.isfinite(value) or abs(value) > EXPLODED:
            what = f"is {value:g}" if not math.isfinite(value) else f"has grown to {value:.3g}"
            called = name if name == "loss" else f"{name} loss"
            raise TrainingError(
                f"Training diverged: the {called} {what} at step {step}. {_AFTER_DIVERGING}"
            )


def check_weights(networks: Mapping[str, nn.Module], step: int) -> None:
    """Raise `TrainingError` when weights are no numbers, before a checkpoint keeps them."""
    for name, network in networks.items():
        if not all(bool(values.isfinite().all()) for values in network.state_dict().values()):
            raise TrainingError(
                f"Training diverged: the weights of the {name} are no longer finite at step "
                f"{step}. {_AFTER_DIVERGING}"
            )


def _spread(pictures: Tensor) -> float:
    """Return the mean standard deviation per pixel of pictures N×C×H×W."""
    return float(pictures.float().std(0).mean()) if len(pictures) > 1 else 0.0


def _ratio(samples: Tensor, real_spread: float) -> float:
    return _spread(samples) / real_spread if real_spread > 1e-6 else 1.0


class CollapseWatch:
    """Look at a generator's samples now and then, and say when it has collapsed."""

    def __init__(self, real: Tensor, n_steps: int) -> None:
        self._real_spread = _spread(real)
        self._first = _WARM_UP * n_steps
        self._between = max(_MIN_STEPS, _LOOK_SHARE * n_steps)
        self.n_alike = 0
        self.n_zero = 0
        self.last_step = 0

    def state(self) -> dict[str, int]:
        """Return what a checkpoint keeps."""
        return {"n_alike": self.n_alike, "n_zero": self.n_zero, "last_step": self.last_step}

    def restore(self, state: Mapping[str, int]) -> None:
        """Go on from the state of a checkpoint."""
        self.n_alike, self.n_zero = state["n_alike"], state["n_zero"]
        self.last_step = state["last_step"]

    def is_due(self, step: int) -> bool:
        """Tell whether enough steps passed since the last look."""
        return step - self.last_step >= self._between and step >= self._first

    def look(self, samples: Tensor, losses: Mapping[str, float], step: int) -> None:
        """Count looks in a row at which samples are alike, and at which the critic's loss is zero.

        Raises `TrainingError` at the third in a row whose samples are alike.
        """
        self.last_step = step
        ratio = _ratio(samples, self._real_spread)
        self.n_alike = self.n_alike + 1 if ratio < ALIKE else 0
        self.n_zero = self.n_zero + 1 if losses.get("discriminator", 1.0) < _ZERO_LOSS else 0
        if self.n_alike >= _IN_A_ROW:
            raise TrainingError(
                f"The generator collapsed at step {step}: its samples vary only {ratio:.0%} as "
                f"much as real parts do; below {ALIKE:.0%} they are all alike. It would judge "
                "every part against one picture, so no model is written. Fit again with another "
                "seed, more parts, a lower learning rate, or --detector fanogan, whose WGAN-GP "
                "collapses less often."
            )

    def notes(self, samples: Tensor) -> list[str]:
        """Say at the end of training what is wrong with the generator."""
        found = []
        ratio = _ratio(samples, self._real_spread)
        if ratio < ALIKE:
            found.append(
                f"The generator's samples are almost all alike (they vary only {ratio:.0%} as much "
                "as real parts do): it has collapsed, or was hardly trained. Train longer, or with "
                "another seed."
            )
        if self.n_zero >= _IN_A_ROW:
            found.append(
                "The discriminator's loss is zero: it tells generated parts from real ones every "
                "time, so the generator learns nothing more from it. Look at samples with "
                "'makellos generate'; more parts or fewer epochs help."
            )
        return found
