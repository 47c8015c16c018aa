"""The registry of detectors, declared parameters and what a user may type."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from mean_picture import MeanPicture

from makellos.detectors import (
    Parameter,
    detector_class,
    detectors,
    make_detector,
    parameter,
    register,
    registry,
)
from makellos.detectors.padim import PaDiM
from makellos.detectors.parameters import KNOWN_AS, SEED, called_here
from makellos.detectors.patchcore import PatchCore
from makellos.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests register is gone afterwards."""
    monkeypatch.setattr(registry, "_registry", detectors())


# Names


def test_detectors_are_listed_by_name() -> None:
    known = detectors()
    assert list(known) == sorted(known)
    assert known["patchcore"] is PatchCore
    assert known["padim"] is PaDiM
    assert all(cls.name == name for name, cls in known.items())


def test_a_detector_registers_itself() -> None:
    class Other(MeanPicture):
        pass

    assert register("other")(Other) is Other
    assert detector_class("other") is Other
    assert Other.name == "other"
    assert type(make_detector("other")) is Other


def test_a_name_is_given_once() -> None:
    with pytest.raises(ConfigurationError, match=r"'padim' is registered twice"):
        register("padim")(MeanPicture)
    assert detector_class("padim") is PaDiM


def test_constructor_and_declaration_must_agree() -> None:
    class Forgets(MeanPicture):
        def __init__(self, *, image_size: int = 128) -> None:
            super().__init__(image_size=image_size)

    with pytest.raises(ConfigurationError, match="constructor and declared parameters differ"):
        register("forgets")(Forgets)
    assert "forgets" not in detectors()


class Declared(MeanPicture):
    """Add two parameters to those that it inherits."""

    seed: int = SEED
    share: float = parameter(0.5, "Of nothing.", within=(0.0, 1.0))


def test_declarations_make_the_constructor() -> None:
    assert list(Declared.parameters) == [*MeanPicture.parameters, "seed", "share"]
    assert register("declared")(Declared) is Declared
    given = {"image_size": 64, "floor": 0.1, "center": "median", "blur": False}
    detector = Declared(**given, seed=3, share=0.25)
    assert detector.get_parameters() == {**given, "seed": 3, "share": 0.25}
    assert Declared().get_parameters()["share"] == 0.5
    with pytest.raises(TypeError, match="unexpected keyword argument 'shere'"):
        Declared(shere=0.25)  # type: ignore[call-arg]
    assert "seed" not in MeanPicture.parameters


def test_a_declaration_without_a_type_is_noticed() -> None:
    class Untyped(MeanPicture):
        seed = SEED

    with pytest.raises(ConfigurationError, match="constructor and declared parameters differ"):
        register("untyped")(Untyped)


@pytest.mark.parametrize(
    ("typed", "meant"), [("patchcor", "patchcore"), ("PatchCore", "patchcore"), ("padin", "padim")]
)
def test_unknown_names_get_a_suggestion(typed: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{typed}.*Did you mean '{meant}'\?.*Known: "):
        detector_class(typed)


def test_names_like_no_other_get_the_list() -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_detector("qqqq")
    assert "Did you mean" not in str(caught.value)
    assert "padim, patchcore" in str(caught.value)


# Presets and parameters


def test_balanced_is_the_constructor_itself() -> None:
    assert make_detector("patchcore").get_parameters() == PatchCore().get_parameters()
    assert make_detector("padim", preset="balanced").get_parameters() == PaDiM().get_parameters()


@pytest.mark.parametrize("name", ["patchcore", "padim"])
@pytest.mark.parametrize("preset", ["fast", "accurate"])
def test_preset_changes_what_it_names(name: str, preset: str) -> None:
    detector = make_detector(name, preset=preset)
    changed = detector_class(name).presets[preset]
    defaults = detector_class(name)().get_parameters()
    assert changed
    assert detector.get_parameters() == {**defaults, **changed}


def test_parameters_override_the_preset() -> None:
    detector = make_detector("patchcore", preset="fast", parameters={"max_image_size": "512"})
    assert detector.get_parameters()["max_image_size"] == 512
    assert detector.get_parameters()["memory_bank_size"] == 4_000


def test_unknown_preset_gets_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match=r"no preset 'acurate'.*Did you mean 'accurate'\?"):
        make_detector("patchcore", preset="acurate")


def test_unknown_parameter_gets_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match=r"no parameter 'layer'.*Did you mean 'layers'\?"):
        make_detector("patchcore", parameters={"layer": "3"})


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("anogan", "nz", "anogan has no parameter 'nz'; it is called 'latent_dim' here: Length"),
        ("vae", "z_dim", "it is called 'latent_dim' here"),
        ("anogan", "lambda", "it is called 'feature_weight' here: Lambda, the weight"),
        ("anogan", "lambda_", "it is called 'feature_weight' here"),
        ("vae", "kl_weight", "it is called 'beta' here"),
        ("autoencoder", "batchSize", "it is called 'batch_size' here"),
        ("fanogan", "LR", "it is called 'learning_rate' here"),
        ("fanogan", "lambda_gp", "it is called 'gradient_penalty' here"),
        ("autoencoder", "base_channels", "it is called 'widths' here"),
        ("fanogan", "ngf", "it is called 'base_width' here"),
        ("fanogan", "ndf", "what comes nearest here is 'base_width' or 'discriminator_width'."),
        ("vae", "betas", "what comes nearest here is 'beta1' or 'beta2'."),
        ("anogan", "n_critic", "it is a parameter of fanogan. Known: "),
        (
            "patchcore",
            "weight_decay",
            "it is a parameter of anogan, autoencoder, classifier, fanogan, vae",
        ),
    ],
)
def test_names_of_tutorials_are_told_by_those_here(name: str, given: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        make_detector(name, parameters={given: "1"})


def test_names_known_elsewhere_are_of_parameters() -> None:
    known = {each for cls in detectors().values() for each in cls.parameters}
    assert set(KNOWN_AS) <= known
    for name, others in KNOWN_AS.items():
        assert name not in others.split()
        assert len(others.split()) == len(set(others.split()))
        assert all(name in called_here(other, [name]) for other in others.split())


def test_seed_reaches_the_detector() -> None:
    assert make_detector("padim", seed=7).get_parameters()["seed"] == 7
    assert make_detector("padim", seed=7, parameters={"seed": "9"}).get_parameters()["seed"] == 9


def test_a_detector_without_seed_is_made_all_the_same() -> None:
    register("mean_picture")(MeanPicture)
    assert "seed" not in make_detector("mean_picture", seed=7).get_parameters()


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("coreset_ratio", "0.25", 0.25),
        ("coreset_ratio", "1e-3", 1e-3),
        ("coreset_ratio", 1, 1),
        ("image_size", "256", 256),
        ("image_size", " 256 ", 256),
        ("image_size", 256, 256),
        ("layers", "2,3", "2,3"),
        ("backbone", "resnet18", "resnet18"),
        ("weights", "C:\\weights=new.pth", "C:\\weights=new.pth"),
    ],
)
def test_text_is_parsed_as_declared(key: str, typed: Any, value: object) -> None:
    assert make_detector("patchcore", parameters={key: typed}).get_parameters()[key] == value


@pytest.mark.parametrize(
    ("key", "value", "accepted"),
    [
        ("coreset_ratio", "a lot", "a number, at least 1e-06, at most 1"),
        ("coreset_ratio", "0", "a number, at least 1e-06, at most 1"),
        ("coreset_ratio", "nan", "a number"),
        ("coreset_ratio", "inf", "at most 1"),
        ("coreset_ratio", True, "a number"),
        ("image_size", "-32", "a whole number, at least 0, at most 4096"),
        ("image_size", "12.5", "a whole number"),
        ("image_size", 12.0, "a whole number"),
        ("image_size", True, "a whole number"),
        ("image_size", None, "a whole number"),
        ("seed", "-1", "a whole number, at least 0"),
        ("layers", 3, "text"),
    ],
)
def test_values_that_are_not_accepted_are_named(key: str, value: object, accepted: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_detector("patchcore", parameters={key: value})
    message = str(caught.value)
    assert f"patchcore: {key} is {value!r}; expected " in message
    assert accepted in message
    assert PatchCore.parameters[key].meaning in message


# Parameters themselves

CHOICE = Parameter(default="mean", meaning="", choices=("mean", "median"))
FLAG = Parameter(default=True, meaning="")
SHARE = Parameter(default=0.5, meaning="", low=0.0, high=1.0)
COUNT = Parameter(default=5, meaning="", low=1)
FREE = Parameter(default=1.0, meaning="")
SIDE = Parameter(default=0, meaning="", low=16, high=512, also=0)
CHANNELS = Parameter(default=0, meaning="", choices=(0, 1, 3))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *((CHOICE, value) for value in ("mean", "median")),
        *((FLAG, value) for value in (True, False)),
        *((SHARE, value) for value in (0.0, 0, 0.3, 1, 1.0)),
        *((COUNT, value) for value in (1, 10**9)),
        *((FREE, value) for value in (-1e9, 3, math.pi)),
        *((SIDE, value) for value in (0, 16, 512)),
        *((CHANNELS, value) for value in (0, 1, 3)),
    ],
)
def test_accepted(parameter: Parameter, value: object) -> None:
    assert parameter.accepts(value)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *((CHOICE, value) for value in ("mode", "", "Mean", 1, None)),
        *((FLAG, value) for value in (1, 0, "true", None)),
        *((SHARE, value) for value in (-0.1, 1.1, math.nan, math.inf, "0.5", True, None)),
        *((COUNT, value) for value in (0, 1.0, "5", True, None)),
        *((FREE, value) for value in ("1", True, None)),
        *((SIDE, value) for value in (-1, 1, 15, 513, 0.0, False, None)),
        *((CHANNELS, value) for value in (2, 4, True, "3")),
    ],
)
def test_refused(parameter: Parameter, value: object) -> None:
    assert not parameter.accepts(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("Yes", True), ("1", True), ("FALSE", False), ("no", False), ("0", False)],
)
def test_flags_are_typed_as_words(text: str, value: bool) -> None:
    assert FLAG.parse(text) is value


@pytest.mark.parametrize(("parameter", "text"), [(FLAG, "perhaps"), (COUNT, "2.5"), (SHARE, "x")])
def test_text_of_another_kind_cannot_be_parsed(parameter: Parameter, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parameter.parse(text)


@pytest.mark.parametrize(
    ("parameter", "phrase"),
    [
        (CHOICE, "'mean' or 'median'"),
        (FLAG, "true or false"),
        (SHARE, "a number, at least 0, at most 1"),
        (COUNT, "a whole number, at least 1"),
        (FREE, "a number"),
        (SIDE, "0, or a whole number from 16 to 512"),
        (CHANNELS, "0, 1 or 3"),
        (Parameter(default="", meaning=""), "text"),
    ],
)
def test_what_is_accepted_is_said(parameter: Parameter, phrase: str) -> None:
    assert parameter.accepted == phrase


@pytest.mark.parametrize("name", detectors())
def test_candidates_of_auto_are_accepted(name: str) -> None:
    cls = detector_class(name)
    made = [make_detector(name, parameters=values).get_parameters() for values in cls.candidates]
    assert all(a != b for i, a in enumerate(made) for b in made[:i])
