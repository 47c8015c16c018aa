"""Parameters of detectors as data: default, accepted values, meaning; and those that many share."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from makellos.data.files import read_json
from makellos.errors import ConfigurationError

__all__ = [
    "KNOWN_AS",
    "Parameter",
    "Value",
    "called_here",
    "known_elsewhere",
    "parameter",
    "read_parameters",
]

Value = int | float | str | bool
Given = TypeVar("Given", bound=Value)


# What tutorials, papers and other tools call parameters; the best known name comes first. Case,
# hyphens and underscores make no difference.
KNOWN_AS = {
    "latent_dim": "nz z_dim latent_size z code_size noise_dim bottleneck z_size n_z latent "
    "latents latent_vector_size encoding_dim embedding_dim n_latent latent_channels",
    "base_width": "ngf ndf base_channels width n_filters filters nf hidden_channels features_g "
    "features_d g_conv_dim d_conv_dim gen_hidden_dim channels_base",
    "discriminator_width": "ndf features_d d_conv_dim dis_hidden_dim",
    "width": "base_channels base_width ngf n_filters filters nf hidden_channels",
    "hidden_widths": "hidden_dim hidden_dims h_dim hidden_size widths units intermediate_dim",
    "widths": "base_channels hidden_dims hidden_channels width base_width filters n_filters flc "
    "channels_list",
    "hidden_units": "hidden_dim hidden_size hidden_dims",
    "epochs": "n_epochs num_epochs max_epochs epoch niter n_epoch nb_epochs n_iter iterations",
    "encoder_epochs": "n_epochs_encoder e_epochs",
    "head_epochs": "freeze_epochs frozen_epochs warmup_epochs",
    "n_steps": "iterations n_iter search_steps search_iterations ano_iterations z_iterations k_opt",
    "steps": "iterations n_iter n_steps max_steps num_steps",
    "batch_size": "batch bs mini_batch_size train_batch_size",
    "learning_rate": "lr lr_g lr_d g_lr d_lr gen_lr dis_lr lr_gen lr_disc init_lr lr0 eta",
    "encoder_learning_rate": "lr_e e_lr encoder_lr lr_encoder",
    "search_learning_rate": "lr_z z_lr lr_search search_lr ano_lr",
    "backbone_learning_rate": "lr_backbone backbone_lr fine_tune_lr finetune_lr",
    "beta1": "betas b1 adam_beta1 momentum gen_betas dis_betas",
    "beta2": "betas b2 adam_beta2",
    "weight_decay": "wd decay l2 l2_reg weight_regularization",
    "n_critic": "critic_iterations critic_iters d_steps n_dis critic_steps disc_iters d_iters "
    "n_discriminator k",
    "gradient_penalty": "lambda_gp gp gp_weight gp_lambda lambda_term",
    "feature_weight": "lambda λ ano_para lambda_ano lambda_d lamb lam anogan_lambda",
    "kappa": "lambda feature_weight κ k",
    "beta": "kl_weight kld_weight kl_beta lambda_kl kl kl_coef kl_loss_weight beta_kl β",
    "n_samples": "n_draws mc_samples num_samples monte_carlo_samples l_samples",
    "likelihood": "loss recon_loss reconstruction_loss criterion decoder_type",
    "loss": "criterion loss_fn recon_loss reconstruction_loss",
    "gan": "gan_mode gan_type",
    "encoder_training": "izi ziz izi_f encoder_mode",
    "augmentation": "augment diffaugment ada diff_augment",
    "patience": "early_stopping early_stop early_stopping_patience",
    "dropout": "dropout_rate drop_rate dropout_p p_drop",
    "unfreeze": "fine_tune_at n_unfrozen freeze freeze_layers trainable_layers",
    "flips": "flip horizontal_flip hflip random_flip mirror",
    "rotation": "degrees rotate random_rotation rotation_range",
    "brightness": "color_jitter jitter brightness_range",
    "zoom": "zoom_range scale random_crop",
    "image_size": "imgsz img_size input_size size resize im_size isize input_shape crop_size "
    "resolution",
    "channels": "nc n_channels in_channels img_channels input_channels num_channels image_channels",
    "backbone": "model arch architecture encoder base_model",
    "coreset_ratio": "coreset coreset_sampling_ratio sampling_ratio",
    "num_neighbors": "k neighbors n_neighbors",
    "n_neighbors": "k neighbors num_neighbors",
    "method": "algorithm model",
    "seed": "random_state manual_seed random_seed",
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """Hold what is declared of a parameter: default, accepted range or choices, and meaning.

    `also` is a number outside of the range that is accepted as well. `search` is what `makellos
    tune` searches: lowest and highest number, `logarithmic` or not, or some of the choices; empty
    for a parameter that is not searched.
    """

    default: Value
    meaning: str
    low: float | None = None
    high: float | None = None
    also: float | None = None
    choices: tuple[Value, ...] = ()
    search: tuple[Value, ...] = ()
    logarithmic: bool = False

    @property
    def accepted(self) -> str:
        """Return a phrase that says which values are accepted."""
        if self.choices and type(self.default) is int:
            *others, last = map(str, self.choices)
            return f"{', '.join(others)} or {last}"
        if self.choices:
            return " or ".join(repr(choice) for choice in self.choices)
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        if self.also is not None:
            return (
                f"{self.also:g}, or {kind[type(self.default)]} from {self.low:g} to {self.high:g}"
            )
        bounds = [f"at least {self.low:g}"] if self.low is not None else []
        bounds += [f"at most {self.high:g}"] if self.high is not None else []
        return ", ".join([kind[type(self.default)], *bounds])

    def accepts(self, value: object) -> bool:
        """Tell whether `value` has the kind of the default and lies in the range."""
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or (self.choices and value not in self.choices):
            return False
        if not isinstance(value, int | float) or value == self.also:
            return True
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def parse(self, text: str) -> Value:
        """Return the value that a user typed; raises `ValueError` when it is of another kind."""
        kind = type(self.default)
        if kind is bool:
            words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            if text.lower() not in words:
                raise ValueError(text)
            return words[text.lower()]
        return kind(text)


def parameter(
    default: Given,
    meaning: str,
    *,
    within: tuple[float | None, float | None] = (None, None),
    choices: tuple[Given, ...] = (),
    search: tuple[Given, ...] = (),
    logarithmic: bool = False,
) -> Given:
    """Declare a parameter in a detector's class: ``steps: int = parameter(200, "Of training.")``.

    `within` are the lowest and the highest number accepted; the rest is as in `Parameter`, which is
    what this returns: to a type checker it is a value of the parameter's kind, as `Detector` makes
    it one.
    """
    low, high = within
    declared = Parameter(
        default=default,
        meaning=meaning,
        low=low,
        high=high,
        choices=choices,
        search=search,
        logarithmic=logarithmic,
    )
    return cast("Given", declared)


MAP_MAXIMUM, AUTO = "map_maximum", "auto"
SEED = parameter(0, "Random seed.", within=(0, None))
BACKBONE = parameter("efficientnet_lite0", "Pretrained network, by its timm name.")
WEIGHTS = parameter("", "Local file of the backbone's weights; empty: its usual source.")
LAYERS = parameter(
    "",
    "Stages or modules to embed, fine to coarse, such as 3,4 or blocks.3,blocks.4; empty: the "
    "backbone's default.",
    search=("", "3,4", "2,3,4"),
)
IMAGE_SIZE = parameter(
    0, "Width and height of the input; 0: as the pictures need.", within=(0, 4096)
)
PATCH_SIZE = parameter(
    3, "Width and height of a patch, in cells averaged.", within=(1, 15), search=(1, 5)
)
MEMORY_BANK_SIZE = parameter(5_000, "Most patches kept per layer.", within=(1, 1_000_000))
BACKGROUND = parameter(
    "look_again",
    "What an oddity beside the part does, if the good pictures show a background: ignore, "
    "look_again (if it is odder than what lies beside good parts) or count in full.",
    choices=("ignore", "look_again", "count"),
)
CHANNELS = parameter(0, "1: grey, 3: colour, 0: as the pictures are.", choices=(0, 1, 3))
WEIGHT_DECAY = parameter(0.0, "Adam's weight decay (L2).", within=(0.0, 1.0))
DISCRIMINATOR_WIDTH = parameter(
    0, "Channels of the discriminator's finest layer; 0: as base_width.", within=(0, 512)
)
EQUALISE = parameter(default=True, meaning="Scale the score of a faint part by its contrast.")


def transformer(default: str) -> str:
    """Declare the backbone of a detector that takes a vision transformer."""
    return parameter(default, "Pretrained vision transformer, by its timm name.")


def largest_side(default: int, *, search: tuple[int, int]) -> int:
    """Declare the side that pictures are kept within where `IMAGE_SIZE` follows them."""
    meaning = "Longest side of the input when image_size is 0."
    return parameter(default, meaning, within=(64, 4096), search=search)


def side_from(least: int, most: int, *, otherwise: str) -> int:
    """Declare the side of a network's input that follows small pictures alone."""
    meaning = (
        f"Width and height of the input; 0: small pictures as they are, others {otherwise}×"
        f"{otherwise}, or as many pixels in their proportions where all are of one size."
    )
    declared = Parameter(default=0, low=least, high=most, also=0, meaning=meaning)
    return cast("int", declared)


def epochs_making(n_steps: int) -> int:
    """Declare the passes over the parts, by default as many as make `n_steps` steps."""
    return parameter(0, f"Passes over the parts; 0: about {n_steps} steps.", within=(0, 1_000_000))


def batch_of(default: int, *, least: int = 1) -> int:
    """Declare the size of a batch."""
    return parameter(default, "Parts per training step.", within=(least, 4096))


def logarithmic(
    default: Given, meaning: str, *, within: tuple[float, float], search: tuple[Given, Given]
) -> Given:
    """Declare a number that is searched by its logarithm."""
    return parameter(default, meaning, within=within, search=search, logarithmic=True)


def rate(default: float, meaning: str, *, search: tuple[float, float]) -> float:
    """Declare a learning rate."""
    return logarithmic(default, meaning, within=(1e-7, 1.0), search=search)


def beta1(default: float, meaning: str = "Adam's first beta, its momentum.") -> float:
    """Declare the first beta of Adam."""
    return parameter(default, meaning, within=(0.0, 0.9999))


def beta2(default: float, meaning: str = "Adam's second beta.") -> float:
    """Declare the second beta of Adam."""
    return parameter(default, meaning, within=(0.0, 0.999999))


def whole_numbers(name: str, text: str, *, most: int) -> tuple[int, ...]:
    """Return the numbers of a text such as ``512,256``; `name` is of detector and parameter.

    Raises `ConfigurationError` unless there are 1 to `most`, each from 1 to 9999.
    """
    pieces = [piece.strip() for piece in text.split(",")]
    if len(pieces) <= most and all(re.fullmatch(r"[1-9]\d{0,3}", piece) for piece in pieces):
        return tuple(int(piece) for piece in pieces)
    raise ConfigurationError(
        f"{name} is {text!r}; expected 1 to {most} whole numbers from 1 to 9999 between commas, "
        "such as 32,64,128."
    )


def called_here(name: str, known: Iterable[str]) -> list[str]:
    """Return those of the parameters `known` that others call `name`, the likeliest first.

    >>> called_here("z_dim", ["latent_dim", "epochs"]), called_here("batchSize", ["batch_size"])
    (['latent_dim'], ['batch_size'])
    """
    own = [each for each in known if _bare(each) == _bare(name)]
    return own or [
        each
        for each, others in KNOWN_AS.items()
        if each in set(known) and _bare(name) in map(_bare, others.split())
    ]


def known_elsewhere(known: Collection[str], *, most: int) -> dict[str, list[str]]:
    """Return what others call the parameters `known`: up to `most` names each, the first known."""
    found = {}
    for each in known:
        others = [other for other in KNOWN_AS.get(each, "").split() if other not in known]
        if others:
            found[each] = others[:most]
    return found


def _bare(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def read_parameters(path: Path) -> dict[str, Any]:
    """Return the parameters that a JSON file holds; raise `ConfigurationError` for another file."""
    found = read_json(path, ConfigurationError, "Give a JSON file of parameters.")
    if not isinstance(found, dict):
        raise ConfigurationError(f'{path} must hold an object such as {{"image_size": 512}}.')
    return found
