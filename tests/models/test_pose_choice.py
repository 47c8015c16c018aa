"""Whether parts are turned, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import pytest

from makellos.data.parts import Part, Values
from makellos.data.progress import no_progress
from makellos.detectors import Detector, make_detector
from makellos.detectors.patchcore import PatchCore
from makellos.models import alignment
from makellos.models.alignment import PoseChoice, choose_pose, learn_alignment
from makellos.models.exporting import around_the_graph


def pin(degrees: float, side: int = 160, *, deep: bool = False) -> Part:
    """Return a dark pin with a head at one end, turned about the middle."""
    drawn = np.full((160, 160, 3), 200, np.uint8)
    cv2.rectangle(drawn, (30, 74), (120, 86), (50, 50, 50), -1)
    cv2.circle(drawn, (120, 80), 18, (40, 40, 40), -1)
    turn = cv2.getRotationMatrix2D((79.5, 79.5), degrees, 1.0)
    turned = cv2.warpAffine(drawn, turn, (160, 160), borderMode=cv2.BORDER_REPLICATE)
    small = np.asarray(cv2.resize(turned, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    pixels = small.astype(np.uint16) * 16 if deep else small
    return Part(source=Values(pixels), name=f"{degrees}")


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PoseChoice]:
    """Return a function that chooses for parts whose patches look as if they lay at any angle."""
    monkeypatch.setattr(alignment, "lie_at_any_angle", lambda *_: True)

    def chosen(parts: list[Part], asked: str | None, detector: str = "padim") -> PoseChoice:
        return choose_pose(parts, asked, cast(Detector, make_detector(detector)), no_progress)

    return chosen


AROUND = [37.0 * i for i in range(12)]


@pytest.mark.parametrize(("asked", "detector"), [(None, "padim"), ("auto", "patchcore")])
def test_parts_at_any_angle_are_turned(
    choose: Callable[..., PoseChoice], asked: str | None, detector: str
) -> None:
    found = choose([pin(each) for each in AROUND], asked, detector)
    assert found.alignment is not None
    assert found.note.startswith("These parts lie at any angle")
    assert "--align none" in found.note


def test_parts_that_lie_a_little_aslant_are_left(choose: Callable[..., PoseChoice]) -> None:
    aslant = [pin(each) for each in np.linspace(-20, 20, 12)]
    assert choose(aslant, None) == PoseChoice()
    found = choose(aslant, "auto")
    assert found.alignment is None
    assert "are not turned" in found.note


def test_pictures_as_small_as_digits_are_left(choose: Callable[..., PoseChoice]) -> None:
    small = [pin(each, side=64) for each in AROUND]
    found = choose(small, None)
    assert found.alignment is None
    assert "this small" in found.note
    assert choose(small, "rotate").alignment is not None


def test_who_asks_for_none_is_told_what_it_costs(choose: Callable[..., PoseChoice]) -> None:
    found = choose([pin(each) for each in AROUND], "none")
    assert found.alignment is None
    assert "compares places" in found.note
    assert "--align auto" in found.note


@pytest.mark.parametrize("asked", [None, "none"])
def test_detectors_that_need_no_pose_leave_parts_unless_asked(
    choose: Callable[..., PoseChoice], asked: str | None
) -> None:
    assert choose([pin(each) for each in AROUND], asked, "patchcore") == PoseChoice()


def test_a_part_that_takes_little_of_a_large_picture_is_cut_out(
    choose: Callable[..., PoseChoice],
) -> None:
    found = choose([pin(each, side=640) for each in AROUND], None, "patchcore")
    assert found.alignment is not None
    assert found.alignment.way == "rotate"
    assert not found.alignment.refined
    assert "--align none" in found.note
    height, width = found.alignment(pin(70.0, side=640).read()).picture.shape[:2]
    assert height * width < 0.35 * 640 * 640
    assert height * width > 360 * 140  # the pin and its head


def test_what_would_be_cut_off_with_the_ground_leaves_a_part_in_doubt() -> None:
    found = learn_alignment([pin(each, side=640) for each in AROUND], "rotate", refined=False)
    assert found is not None
    one = pin(20.0, side=640).read()
    assert found(one).is_sure
    two = np.full((960, 640, 3), 200, np.uint8)
    two[:640] = np.minimum(two[:640], one)
    two[320:] = np.minimum(two[320:], pin(-50.0, side=640).read())
    seen = found(np.ascontiguousarray(two[160:800]))  # cut as large as the others
    assert not seen.is_sure
    assert "several parts" in seen.notes[0]


@pytest.mark.parametrize(
    ("change", "detector"),
    [
        (lambda drawn: drawn, "padim"),  # needs one pose, and has its own rules
        (lambda drawn: drawn[::2, ::2], "patchcore"),  # small: it is fast already
        (lambda drawn: np.full_like(drawn, 200), "patchcore"),  # no part
        (lambda drawn: drawn[120:520, 80:560], "patchcore"),  # takes most of it
    ],
    ids=["one pose", "small", "no part", "fills"],
)
def test_other_pictures_are_seen_whole(
    choose: Callable[..., PoseChoice],
    change: Callable[[Any], Any],
    detector: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alignment, "lie_at_any_angle", lambda *_: False)
    drawn = [change(pin(each, side=640).read()) for each in np.linspace(-20, 20, 12)]
    parts = [Part(source=Values(np.ascontiguousarray(each)), name="part") for each in drawn]
    assert choose(parts, None, detector) == PoseChoice()


@pytest.mark.parametrize("n", [0, 7])
def test_few_parts_are_seen_whole(choose: Callable[..., PoseChoice], n: int) -> None:
    few = [pin(each, side=640) for each in AROUND[:n]]
    assert choose(few, None, "patchcore") == PoseChoice()


def test_a_crop_that_saves_too_little_is_not_made(
    choose: Callable[..., PoseChoice], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [pin(each, side=640) for each in AROUND]
    assert choose(parts, None, "patchcore").alignment is not None
    monkeypatch.setattr(alignment, "_SAVING", 0.1)  # it takes more
    assert choose(parts, None, "patchcore") == PoseChoice()


def test_the_crop_has_room_for_parts_of_any_length() -> None:
    def drawn(length: int, degrees: float) -> Part:
        picture = np.full((800, 800, 3), 200, np.uint8)
        cv2.rectangle(picture, (400 - length // 2, 380), (400 + length // 2, 420), (50, 50, 50), -1)
        cv2.circle(picture, (400 + length // 2, 400), 50, (40, 40, 40), -1)
        turn = cv2.getRotationMatrix2D((399.5, 399.5), degrees, 1.0)
        border = cv2.BORDER_REPLICATE
        turned = cv2.warpAffine(picture, turn, (800, 800), borderMode=border)
        return Part(source=Values(np.asarray(turned, np.uint8)), name=f"{length}")

    parts = [drawn(560 if i % 5 == 0 else 440, each) for i, each in enumerate(AROUND * 2)]
    found = choose_pose(parts, None, PatchCore(), no_progress)
    assert found.alignment is not None
    for part in parts:
        aligned = found.alignment(part.read())
        assert aligned.beyond < 0.02
        # Nothing of the part lies along the edges of the crop.
        edges = [
            aligned.picture[:, 0],
            aligned.picture[:, -1],
            aligned.picture[0],
            aligned.picture[-1],
        ]
        assert min(int(edge.min()) for edge in edges) > 150


def test_where_all_of_a_picture_counts_it_is_seen_whole() -> None:
    parts = [pin(each, side=640) for each in AROUND]
    for background, whole in (("count", True), ("look_again", False), ("ignore", False)):
        found = choose_pose(parts, None, PatchCore(background=background), no_progress)
        assert (found == PoseChoice()) == whole


def test_pictures_of_fewer_bits_than_their_file_have_outlines() -> None:
    found = learn_alignment([pin(each, deep=True) for each in AROUND])
    assert found is not None
    assert found.way == "rotate"


def test_a_detector_learns_from_turned_parts(
    toy: Any, tmp_path: Any, cli: Callable[..., Any]
) -> None:
    good = tmp_path / "set" / "train" / "good"
    good.mkdir(parents=True)
    for i, each in enumerate(AROUND * 2):
        cv2.imwrite(str(good / f"{i:02}.png"), pin(each + i).read())
    shapes: set[tuple[int, ...]] = set()
    with pytest.MonkeyPatch.context() as patch:
        kind = toy.install(patch)
        learn = kind._learn

        def watched(self: Any, parts: Any, *others: Any, **named: Any) -> Any:
            shapes.update(part.read().shape for part in parts)
            return learn(self, parts, *others, **named)

        patch.setattr(kind, "_learn", watched)
        model = tmp_path / "m.makellos"
        told = cli("fit", tmp_path / "set", "-o", model, "--align", "rotate")
        assert told.code == 0, told.err
    assert len(shapes) == 1
    height, width, _ = shapes.pop()
    assert width > 1.5 * height


def test_who_exports_a_model_of_parts_cut_out_is_told_how_to_fit_it() -> None:
    found = learn_alignment([pin(each, side=640) for each in AROUND], "rotate", refined=False)
    manifest = SimpleNamespace(
        preprocessing=SimpleNamespace(alignment=found, compares=None),
        acceptance=None,
        signal=None,
        tiling=None,
        zones=None,
        background=None,
        calibration=SimpleNamespace(by_class=None),
    )
    (left,) = around_the_graph(cast(Any, manifest))
    assert "--align none" in left
