"""The classifier: classes, steps, what stays frozen, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from makellos.data.parts import Part
from makellos.detectors import Graph, detector_class, make_detector
from makellos.errors import ConfigurationError, InputError
from makellos.models.partition import split_parts
from makellos.training import Training

pytestmark = pytest.mark.needs_torch

SMALL: dict[str, Any] = {
    "backbone": "mobilenetv3_small_100",
    "weights": "none",
    "image_size": 32,
    "unfreeze": 3,
    "epochs": 3,
    "head_epochs": 3,
    "batch_size": 8,
}


def write(folder: Path, label: str, n: int, *, seed: int = 0, **given: Any) -> list[Part]:
    """Noise, with a bright bar where scratched and a dark disc where spotted, and their masks."""
    rng = np.random.default_rng([seed, len(label)])
    parts = []
    for i in range(n):
        picture = rng.normal(120, 8, (40, 40)).clip(0, 255).astype(np.uint8)
        mask = np.zeros_like(picture)
        x, y = (int(v) for v in rng.integers(8, 32, 2))
        if label == "scratch":
            cv2.line(mask, (x - 6, y), (x + 6, y), 255, 2)
            picture[mask > 0] = 250
        if label == "spot":
            cv2.circle(mask, (x, y), 4, 255, -1)
            picture[mask > 0] = 10
        name = f"{label}-{seed}-{i:02d}.png"
        cv2.imwrite(str(folder / name), picture)
        known: dict[str, Any] = {"source": folder / name, "name": name, "label": label}
        if label != "good":
            cv2.imwrite(str(folder / f"{name}.mask.png"), mask)
            known["mask"] = folder / f"{name}.mask.png"
        parts.append(Part(**known, **given))
    return parts


@pytest.fixture
def parts(tmp_path: Path) -> list[Part]:
    return [
        *write(tmp_path, "good", 16),
        *write(tmp_path, "scratch", 8),
        *write(tmp_path, "spot", 8),
    ]


def outputs(graph: Graph, parts: Sequence[Part]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(graph.onnx, providers=["CPUExecutionProvider"])
    pictures = [cv2.imread(str(part.path), cv2.IMREAD_GRAYSCALE) for part in parts]
    batch = np.concatenate([graph.preprocessing(picture) for picture in pictures])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"picture": batch}), strict=True))


def fitted(parts: Sequence[Part], *, training: Training | None = None, **changes: Any) -> Any:
    detector = make_detector("classifier", parameters={**SMALL, **changes})
    return detector.fit(parts, training=training)


@pytest.mark.parametrize("head", ["linear", "dense"])
@pytest.mark.parametrize(
    ("target", "classes"),
    [("verdict", ("good", "defective")), ("type", ("good", "scratch", "spot"))],
)
def test_score_and_probabilities_say_the_same(
    parts: list[Part], target: str, classes: tuple[str, ...], head: str
) -> None:
    graph = fitted(parts, target=target, head=head).graph()
    assert graph.classes == classes
    found = outputs(graph, parts[::4])
    probabilities = found["probabilities"].astype(np.float64)
    assert probabilities.shape == (8, len(classes))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    bad = probabilities[:, 1:].sum(1)
    np.testing.assert_allclose(found["score"], np.log(bad / probabilities[:, 0]), rtol=1e-3)
    assert found["anomaly_map"].ndim == 3
    assert (found["anomaly_map"] >= 0).all()


def test_it_learns_to_tell_them_apart(parts: list[Part], tmp_path: Path) -> None:
    # Brightness alone tells these apart, which a network with random weights finds.
    detector = fitted(
        parts,
        target="type",
        epochs=40,
        unfreeze=-1,
        learning_rate=0.01,
        backbone_learning_rate=0.003,
        brightness=0.0,
    )
    fresh = [*write(tmp_path, "good", 6, seed=1), *write(tmp_path, "spot", 6, seed=1)]
    found = outputs(detector.graph(), fresh)
    assert found["score"][6:].min() > found["score"][:6].max()
    assert (found["probabilities"][6:].argmax(1) == 2).mean() > 0.8


def _weights(parts: Sequence[Part], **changes: Any) -> dict[str, NDArray[np.float32]]:
    weights = fitted(parts, **changes).graph().weights
    assert weights is not None
    return dict(weights)


@pytest.mark.parametrize("head", ["linear", "dense"])
def test_only_unfrozen_stages_change_and_never_batch_norm_statistics(
    parts: list[Part], head: str
) -> None:
    head_only, last_two = (_weights(parts, head=head, unfreeze=n) for n in (0, 2))
    changed = {name for name in head_only if not np.array_equal(head_only[name], last_two[name])}
    # The first step is the same in both, so what differs was learned in the second.
    stages = {name.split(".")[1] + name.split(".")[2] for name in changed if "blocks" in name}
    assert "head.weight" in changed
    assert stages
    assert stages <= {"blocks4", "blocks5"}
    assert not [name for name in changed if "running" in name]


@pytest.mark.parametrize("head", ["linear", "dense"])
@pytest.mark.parametrize("backbone", ["vgg16", "xception", "resnet50"])
def test_networks_train_a_step_and_come_back_from_their_weights(
    parts: list[Part], backbone: str, head: str
) -> None:
    import torch

    from makellos.detectors.networks.activation_maps import METHODS, ActivationMaps
    from makellos.detectors.networks.classifier import Scoring
    from makellos.detectors.networks.classifier_weights import rebuild

    detector = fitted(
        [*parts[:4], *parts[16:20]],
        backbone=backbone,
        head=head,
        epochs=1,
        head_epochs=1,
        unfreeze=1,
        batch_size=4,
        image_size=64,
    )
    graph = detector.graph()
    assert graph.weights is not None
    network, temperature = rebuild(detector.network_.network, graph.weights)
    batch = np.random.default_rng(0).random((2, *graph.preprocessing.shape), np.float32)
    with torch.no_grad():
        again = Scoring(network, temperature)(torch.from_numpy(batch))
    session = onnxruntime.InferenceSession(graph.onnx, providers=["CPUExecutionProvider"])
    ours = session.run(["anomaly_map", "score", "probabilities"], {"picture": batch})
    for expected, found in zip(again, ours, strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)
    for method in METHODS:
        heat = ActivationMaps(network, method)(torch.from_numpy(batch), 1)
        assert heat.shape[0] == 2
        assert np.isfinite(heat).all()
        assert (heat >= 0).all()


def test_standardised_pictures_have_no_exposure(parts: list[Part]) -> None:
    detector = fitted(parts, standardise="picture", epochs=1, head="linear")
    session = onnxruntime.InferenceSession(
        detector.graph().onnx, providers=["CPUExecutionProvider"]
    )
    batch = np.random.default_rng(0).random((2, *detector.preprocessing_.shape), np.float32)
    bright, dark = (
        session.run(["score"], {"picture": each.astype(np.float32)})[0]
        for each in (batch, 0.5 * batch + 0.1)
    )
    np.testing.assert_allclose(bright, dark, atol=0.05)
    plain = fitted(parts, epochs=1).graph()
    session = onnxruntime.InferenceSession(plain.onnx, providers=["CPUExecutionProvider"])
    assert session.run(["score"], {"picture": batch})[0] != pytest.approx(bright, abs=1e-3)


def test_weights_come_from_a_local_file(parts: list[Part], tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    whole = timm.create_model("mobilenetv3_small_100", pretrained=False)
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    weights = _weights(parts, weights=str(tmp_path / "weights.safetensors"), unfreeze=0)
    stem = whole.state_dict()["conv_stem.weight"].numpy()
    np.testing.assert_array_equal(weights["body.conv_stem.weight"], stem)


def test_validation_parts_are_not_learned_from(parts: list[Part], tmp_path: Path) -> None:
    held_out = write(tmp_path, "spot", 4, seed=3, split="val")
    detector = make_detector("classifier", parameters=SMALL)
    learn, validation = detector._apart([*parts, *held_out])
    assert {part.name for part in held_out} <= {part.name for part in validation}
    assert not {part.name for part in learn} & {part.name for part in validation}
    assert {part.label for part in validation} >= {"good", "spot"}


def test_groups_lie_on_one_side(tmp_path: Path) -> None:
    parts = []
    for i, label in enumerate(["good"] * 12 + ["spot"] * 12):
        parts += write(tmp_path, label, 2, seed=i, group=f"tile{i % 8}")
    learn, validation = make_detector("classifier", parameters=SMALL)._apart(parts)
    assert validation
    assert not {part.group for part in learn} & {part.group for part in validation}


def test_a_broken_off_run_goes_on_to_the_same_weights(parts: list[Part], tmp_path: Path) -> None:
    class Broken(Exception):
        pass

    def breaks(epoch: int, _losses: object) -> None:
        if epoch == 2:
            raise Broken

    whole = fitted(parts, training=Training(folder=tmp_path / "whole")).graph()
    run = Training(folder=tmp_path / "run", checkpoint_seconds=0, on_epoch=breaks)
    with pytest.raises(Broken):
        fitted(parts, training=run)
    resumed = fitted(parts, training=Training(folder=tmp_path / "run", resume=True)).graph()
    assert whole.weights is not None
    assert resumed.weights is not None
    for name, values in whole.weights.items():
        np.testing.assert_array_equal(values, resumed.weights[name])


@pytest.mark.parametrize("patience", [0, 2])
def test_the_best_epoch_is_kept_where_patience_asks_for_it(
    parts: list[Part], tmp_path: Path, patience: int
) -> None:
    fitted(parts, patience=patience, training=Training(folder=tmp_path / "run"))
    assert (tmp_path / "run" / "network" / "best.safetensors").exists() == (patience > 0)


def test_a_checkpoint_of_another_head_is_not_gone_on_from(
    parts: list[Part], tmp_path: Path
) -> None:
    epochs: list[int] = []
    run = Training(folder=tmp_path / "run", on_epoch=lambda epoch, _: epochs.append(epoch))
    fitted(parts, training=run)
    fitted(parts, training=replace(run, resume=True))
    assert epochs == [1, 2, 3]  # all was done already
    # As after a kill in the first step: the second step's checkpoint is older than the head.
    (tmp_path / "run" / "head" / "last.safetensors").unlink()
    fitted(parts, training=replace(run, resume=True))
    assert epochs == [1, 2, 3, 1, 2, 3]


def test_scores_are_computed_in_full_precision_alone(parts: list[Part]) -> None:
    from makellos.inspection.engines import available_engines

    graph = fitted(parts, epochs=1).graph()
    assert {engine.precision for engine in graph.recipe().engines()} == {"f32"}
    assert replace(graph, exact=False).recipe().engines() == available_engines()


def test_masks_teach_where_to_look() -> None:
    """The pointing loss is the heat outside of the mask: none where all of it lies inside."""
    import torch

    from makellos.detectors.networks.classifier import ClassifierNetwork
    from makellos.detectors.networks.classifier_training import FineTuneTask, Settings

    torch.manual_seed(0)
    network = ClassifierNetwork("resnet10t", 1, stride=8)
    network.unfreeze(-1)
    task = FineTuneTask(
        network,
        torch.ones(2),
        balance=torch.ones(2),
        learning_rate=0.01,
        n_channels=1,
        settings=Settings(
            unfreeze=-1,
            epochs=8,
            n_steps=8,
            head_epochs=1,
            batch_size=4,
            learning_rate=0.01,
            backbone_learning_rate=0.001,
            weight_decay=0.0,
            dropout=0.0,
            label_smoothing=0.0,
            pointing=1.0,
            flips="none",
            quarter_turns=False,
            rotation=0.0,
            shear=0.0,
            zoom=0.0,
            brightness=0.0,
            patience=0,
        ),
    )
    task.n_steps = 8
    batch = torch.rand(4, 2, 64, 64)
    batch[:, 1] = 0
    batch[2:, 1, 8:16, 40:48] = 1  # one place of 8×8, in the defective two
    task.targets = torch.tensor([0, 0, 1, 1])

    def update(loss: torch.Tensor, name: str, *, retain_graph: bool = False) -> None:
        task.optimizers[name].zero_grad()
        loss.backward()
        task.optimizers[name].step()

    losses = [task.step(batch, update, number) for number in range(8)]
    assert float(losses[0]["pointing"]) == pytest.approx(np.log(64), rel=0.1)  # by chance
    assert float(losses[-1]["pointing"]) < float(losses[0]["pointing"]) - 0.4
    task.targets = torch.tensor([0, 0, 0, 0])
    assert float(task.step(batch, update, 7)["pointing"]) == 0


@pytest.mark.parametrize("masked", ["learned", "held out"])
def test_masks_on_one_side_alone_do_no_harm(parts: list[Part], tmp_path: Path, masked: str) -> None:
    others = write(tmp_path, "spot", 4, seed=5, split="val")
    others += write(tmp_path, "scratch", 4, seed=5, split="val")
    bare = others if masked == "learned" else parts
    kept = parts if masked == "learned" else others
    assert fitted([*kept, *(replace(part, mask=None) for part in bare)]).graph().onnx


def test_a_mask_of_another_size_is_named(parts: list[Part]) -> None:
    cv2.imwrite(str(parts[-1].mask), np.full((7, 9), 255, np.uint8))
    with pytest.raises(InputError, match="9x7, but its picture is 40x40"):
        fitted(parts)


@pytest.mark.parametrize("imbalance", ["sample", "none"])
def test_rare_classes_by_other_means(parts: list[Part], imbalance: str) -> None:
    assert fitted(parts, imbalance=imbalance, epochs=1, unfreeze=1).graph().onnx


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 16}, "image_size is 16"),
        ({"channels": 2}, "channels is 2"),
        ({"output_stride": 5}, "output_stride is 5"),
        ({"backbone": "vgg16", "output_stride": 8, "head": "linear"}, "output_stride at 0"),
        ({"backbone": "no_such_network"}, "no backbone 'no_such_network'"),
        ({"backbone": "vit_tiny_patch16_224"}, "Choose a convolutional network"),
    ],
)
def test_wrong_settings_are_named(parts: list[Part], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fitted(parts, **changes)


def test_no_move_takes_a_defect_out_of_the_picture() -> None:
    import torch

    from makellos.detectors.networks.fine_tuning import LabelledAugmentation

    torch.manual_seed(0)
    batch = torch.rand(256, 2, 64, 64)
    batch[:, 1] = 0
    batch[:128, 1, 0:4, 30:34] = 1  # at the border, whence moves take it away
    moved = LabelledAugmentation(1, flips="none", quarter_turns=False, zoom=0.3, brightness=0.0)(
        batch
    )
    seen = moved[:128, 1].sum((1, 2)) / 16
    assert float(seen.min()) > 0.69
    assert not torch.equal(moved[:128, 0], batch[:128, 0])
    assert all(not torch.equal(a, b) for a, b in zip(moved[128:], batch[128:], strict=True))


@pytest.mark.parametrize("shape", [(64, 64), (48, 96)])
def test_pictures_turn_and_shear_by_at_most_their_angles(shape: tuple[int, int]) -> None:
    import torch

    from makellos.detectors.networks.fine_tuning import LabelledAugmentation

    torch.manual_seed(0)
    height, width = shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = rows - (height - 1) / 2, columns - (width - 1) / 2
    lying = ((y.abs() < 1.6) & (x.abs() < 18)).float()
    standing = ((x.abs() < 1.6) & (y.abs() < 18)).float()

    def angles(line: torch.Tensor, **largest: float) -> torch.Tensor:
        augment = LabelledAugmentation(
            1, flips="none", quarter_turns=False, zoom=0.0, brightness=0.0, **largest
        )
        moved = augment(torch.stack([line, line]).expand(200, 2, height, width))
        assert torch.allclose(moved[:, 0], moved[:, 1])  # the mask goes with the picture
        weights = moved[:, 0] / moved[:, 0].sum((1, 2), keepdim=True)
        xx, xy, yy = ((weights * each).sum((1, 2)) for each in (x * x, x * y, y * y))
        return torch.rad2deg(torch.atan2(2 * xy, xx - yy) / 2)

    turned = angles(lying, rotation=30.0)
    assert 26 < float(turned.abs().max()) < 31
    assert abs(float(turned.mean())) < 4
    # A shear leaves lines along one axis, and slants those along the other.
    assert float(angles(lying, shear=20.0).abs().max()) < 1
    assert 17 < float((90 - angles(standing, shear=20.0).abs()).max()) < 21


def test_places_are_judged_where_defects_have_masks(parts: list[Part]) -> None:
    def is_dense(parts: Sequence[Part], **changes: Any) -> bool:
        return any(name.startswith("neck.") for name in _weights(parts, epochs=1, **changes))

    bare = [replace(part, mask=None) for part in parts]
    assert is_dense(parts)
    assert not is_dense(bare)
    assert not is_dense(parts, pointing=0.0)
    assert is_dense(bare, head="dense")
    assert not is_dense(parts, head="linear")


CROSS = {"unfreeze": 0, "head_epochs": 2, "target": "type"}


def test_heads_of_a_cross_fit_have_not_seen_their_folds(parts: list[Part], tmp_path: Path) -> None:
    """Neither a part of the fold nor, in the fold of its turn, a defective one of no fold."""

    def graphs(parts: Sequence[Part]) -> list[Graph]:
        detector = make_detector("classifier", parameters={**SMALL, **CROSS, "standardise": "none"})
        folds = [*(i % 5 for i in range(16)), *[-1] * 16]
        return [*detector.cross_fit(parts, folds), detector.graph()]

    def changed(number: int) -> list[int]:
        other = replace(parts[number], source=tmp_path / "other.png")
        after = graphs([*parts[:number], other, *parts[number + 1 :]])
        pairs = zip(before, after, strict=True)
        return [i for i, (a, b) in enumerate(pairs) if not _same(a, b, "neck.mix.weight")]

    cv2.imwrite(str(tmp_path / "other.png"), np.full((40, 40), 200, np.uint8))
    before = graphs(parts)
    assert len(before) == 6
    assert changed(3) == [0, 1, 2, 4, 5]
    assert len(changed(20)) == 5


def _same(first: Graph, second: Graph, name: str) -> bool:
    assert first.weights is not None
    assert second.weights is not None
    return bool(np.array_equal(first.weights[name], second.weights[name]))


def test_it_cross_fits_where_features_can_be_shared(parts: list[Part]) -> None:
    def cross_fits(parts: Sequence[Part], **changes: Any) -> bool:
        return make_detector("classifier", parameters=changes).cross_fits_on(parts)

    assert cross_fits(parts)
    assert not cross_fits(parts, unfreeze=2)
    assert not cross_fits([replace(part, mask=None) for part in parts])  # unfreezes stages
    assert not cross_fits(parts[:20])  # a fold could leave nothing defective to learn from
    one_group = [part if part.is_good else replace(part, group="one") for part in parts]
    assert not cross_fits(one_group)


def test_parts_of_split_val_are_learned_from_as_well_where_all_calibrate(
    parts: list[Part],
) -> None:
    calibrate = [replace(part, split="val") for part in parts[:4]]
    learnable = [*parts[4:24], *(replace(part, split="val") for part in parts[24:])]
    shares = make_detector("classifier")
    found = split_parts(learnable, calibrate, shares, 0.2, 0)
    assert found.method == "cross-fitted"
    assert {part.name for part in found.learn} == {part.name for part in parts}
    assert {part.split for part in found.learn} == {"train"}
    assert [part.is_good for part in found.learn] == [True] * 16 + [False] * 16
    assert found.calibrate == found.learn[:16]
    other = make_detector("classifier", parameters={"unfreeze": 2})
    held_out = split_parts(learnable, calibrate, other, 0.2, 0)
    assert (held_out.method, held_out.calibrate) == ("split val", calibrate)
    # Half of them rejected by mistake: two parts promise it, and sixteen are plenty.
    plenty = split_parts(learnable, parts[:16], shares, 0.5, 0)
    assert plenty.method == "split val"


def test_copies_of_one_picture_are_drawn_one_an_epoch() -> None:
    import torch

    from makellos.training.pictures import Pictures

    pictures = Pictures(np.zeros((3, 1, 2, 2), np.uint8)).labelled(np.array([0, 1, 2]))
    rows = np.arange(12, dtype=np.float16).reshape(12, 1, 1, 1)
    some = pictures.shown_as(rows, np.array([2, 0]), n_copies=4, known_as="some")
    torch.manual_seed(0)
    seen = set()
    for _ in range(50):
        order = some.order()
        values = some.batch(order).flatten().tolist()
        assert sorted(int(value) // 4 for value in values) == [0, 2]
        targets = some.targets(order)
        assert targets is not None
        assert targets.tolist() == [int(value) // 4 for value in values]
        seen.update(values)
    assert some.n == 2
    assert seen == {0, 1, 2, 3, 8, 9, 10, 11}


def test_features_computed_once_are_those_of_the_network() -> None:
    import torch

    from makellos.detectors.networks.dense_classifier import DenseNetwork, mask_cover
    from makellos.detectors.networks.fine_tuning import LabelledAugmentation
    from makellos.detectors.networks.frozen_features import FrozenFeatures
    from makellos.training.pictures import Pictures

    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (3, 2, 48, 64), np.uint8)  # gray, and a mask
    network = DenseNetwork("mobilenetv3_small_100", 1).eval()
    mirrors = LabelledAugmentation(1, flips="both", quarter_turns=False, zoom=0.0, brightness=0.0)
    pictures = Pictures(values).labelled(np.array([0, 1, 1]))
    frozen = FrozenFeatures(network, pictures, 1, mirrors.copy, lambda *_: None)
    rows = frozen.of(np.arange(3)).batch(range(12))
    for number, axes in enumerate([(), (2,), (3,), (2, 3)]):
        batch = torch.from_numpy(values).float().div(255).flip(axes)
        own = rows[number::4]
        with torch.no_grad():
            shown = network.shown(batch[:, :1])
        for found, expected in zip(frozen.layout.maps(own), shown, strict=True):
            torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01)
        cover = frozen.layout.covered(own)
        torch.testing.assert_close(cover, mask_cover(batch[:, 1:], (3, 4)), rtol=0, atol=1e-3)
    expected = network(torch.from_numpy(values[:, :1]).float().div(255)).detach().double().numpy()
    np.testing.assert_allclose(frozen.logits(network, np.arange(3)), expected, rtol=0.01, atol=1e-3)


def test_one_class_alone_and_a_class_of_one_picture_are_refused(parts: list[Part]) -> None:
    with pytest.raises(InputError, match="good"):
        fitted(parts[:16])
    with pytest.raises(InputError, match="spot"):
        fitted(parts[:25], target="type")


def test_it_says_that_it_needs_labels() -> None:
    assert detector_class("classifier").learns == "labels"
