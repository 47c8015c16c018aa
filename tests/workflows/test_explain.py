"""Explain: panels of every part, scores of the inspector, and what masks say about the maps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_models import manifest
from torch import Tensor, nn
from torch.nn import functional as F

from makellos.data.pictures import read_picture
from makellos.detectors import Graph
from makellos.detectors.networks.classifier import ClassifierNetwork, Scoring
from makellos.detectors.networks.classifier_weights import weights_of
from makellos.detectors.networks.exporting import export_graph
from makellos.errors import ConfigurationError, InputError, ModelFileError
from makellos.evaluation.localisation import wilson_interval
from makellos.inspection import Aggregation, Inspector, Preprocessing
from makellos.models import explainer as explaining
from makellos.models import pack_members, write_model
from makellos.workflows.explain import explain

SIDE, TEMPERATURE = 64, 1.5
VERDICT, TYPES = ("good", "defective"), ("good", "dent", "scratch")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_classifier(
    path: Path,
    classes: Sequence[str] = VERDICT,
    *,
    channels: int = 3,
    network: ClassifierNetwork | None = None,
    weights: bool = True,
    named: Sequence[str] | None = None,
) -> Path:
    """Write a classifier's model with random weights, or with those of `network`."""
    preprocessing = Preprocessing(height=SIDE, width=SIDE, channels=channels)  # type: ignore[arg-type]
    if network is None:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            network = ClassifierNetwork("resnet18", 1 if len(classes) == 2 else len(classes))
            network.head.weight.normal_()
    network.eval()
    graph = Graph(
        export_graph(
            Scoring(network, TEMPERATURE),
            preprocessing.shape,
            input_name="picture",
            output_names=("anomaly_map", "score", "probabilities"),
        ),
        preprocessing,
        Aggregation(),
        classes=tuple(classes),
        weights=weights_of(network, TEMPERATURE) if weights else None,
    )
    described = manifest(
        detector={
            "name": "classifier",
            "parameters": {
                "backbone": "resnet18",
                "target": "verdict" if len(classes) == 2 else "type",
            },
        },
        preprocessing=preprocessing.model_dump(),
        calibration={
            "scores": [-8.0 - i / 100 for i in range(100)],
            "asked": 0.05,
            "method": "held out",
        },
        classes=list(classes if named is None else named),
        golden=[],
    )
    write_model(path, described, pack_members(graph))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("classifier") / "m.makellos")


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Return a folder of three pictures of different kinds."""
    rng = np.random.default_rng(0)
    for name, shape in (("a.png", (48, 80, 3)), ("more/b.png", (100, 60)), ("c.jpg", (64, 64, 3))):
        write(tmp_path / "parts" / name, rng.integers(0, 256, shape).astype(np.uint8))
    return tmp_path / "parts"


def write(path: Path, picture: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)
    return path


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "layercam", "eigencam"])
def test_every_part_gets_a_panel_and_the_scores_of_the_inspector(
    model: Path, parts: Path, tmp_path: Path, cli: Callable[..., Any], method: str
) -> None:
    told = cli("explain", model, parts, "--method", method, "-o", tmp_path / "out", "--json", "-")
    assert told.code == 0
    found = json.loads(told.out)
    assert (found["n_parts"], found["n_unreadable"], found["trust"]) == (3, 0, None)
    assert (found["method"], found["layer"]) == (method, "layer4")
    wanted = {f"{name}.{method}.png" for name in ("a.png", "c.jpg", "more/b.png")}
    made = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png")}
    assert made == wanted
    inspector = Inspector(model)
    for row in found["parts"]:
        inspection = inspector.inspect(row["input"])
        assert inspection.score == pytest.approx(row["score"], abs=1e-3)
        assert inspection.verdict == row["verdict"]
        assert inspection.threshold == row["threshold"]
        assert inspection.probabilities == pytest.approx(row["probabilities"], abs=1e-4)
        assert row["explained"] == (None if method == "eigencam" else "defective")
        panel = read_picture(Path(row["panel"]))
        assert panel.shape[0] > 320 and panel.shape[1] > 3 * 240
        shown = row["explained"] or max(row["probabilities"], key=row["probabilities"].get)
        line = f"{shown} {row['probabilities'][shown]:.3f}  {row['input']}"
        assert line in told.err


def test_the_likeliest_defect_is_explained_or_the_class_asked_for(
    parts: Path, tmp_path: Path
) -> None:
    model = write_classifier(tmp_path / "types.makellos", TYPES)
    found = explain(model, [parts], output=tmp_path / "out")
    for row in found.parts:
        defects = {name: p for name, p in row.probabilities.items() if name != "good"}
        assert list(row.probabilities) == list(TYPES)
        assert sum(row.probabilities.values()) == pytest.approx(1.0)
        assert row.explained == max(defects, key=lambda name: defects[name])
    asked = explain(model, [parts / "a.png"], output=tmp_path / "out", class_name="good")
    assert [row.explained for row in asked.parts] == ["good"]
    with pytest.raises(ConfigurationError, match=r"'dentt'.*Did you mean 'dent'"):
        explain(model, [parts], output=tmp_path / "new", class_name="dentt")
    assert not (tmp_path / "new").exists()


def test_gray_models_and_named_layers(parts: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    model = write_classifier(tmp_path / "gray.makellos", channels=1)
    told = cli("explain", model, parts, "-o", tmp_path / "out", "--layer", "layer2", "--json", "-")
    assert told.code == 0
    assert json.loads(told.out)["layer"] == "layer2"
    assert "layer layer2" in told.err


def test_bad_pictures_cost_themselves_only(
    model: Path, parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    (parts / "bad.png").write_bytes(b"no picture")
    missing = parts / "gone.png"
    told = cli("explain", model, parts, missing, "-o", tmp_path / "out", "--json", "-")
    assert told.code == 1
    found = json.loads(told.out)
    bad = {Path(row["input"]).name: row for row in found["parts"] if row["error"]}
    assert set(bad) == {"bad.png", "gone.png"}
    assert all(row["verdict"] == "unreadable" and row["score"] is None for row in bad.values())
    assert found["n_unreadable"] == 2 and found["n_parts"] == 5
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3
    assert "unreadable" in told.err and "bad.png" in told.err


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (["--method", "grad-cam"], "Did you mean 'gradcam'?"),
        (["--class", "defect"], "Did you mean 'defective'?"),
        (["--layer", "layer9"], "has no layer 'layer9'"),
        (["--data", "nowhere"], "nowhere does not exist"),
    ],
)
def test_wrong_names_are_told_before_any_work(
    model: Path,
    parts: Path,
    tmp_path: Path,
    cli: Callable[..., Any],
    options: list[str],
    advice: str,
) -> None:
    told = cli("explain", model, parts, "-o", tmp_path / "out", *options)
    assert told.code == 2
    assert advice in told.err
    assert not (tmp_path / "out").exists()


def test_models_of_other_detectors_say_what_shows_where(
    toy_model: Path, parts: Path, cli: Callable[..., Any]
) -> None:
    told = cli("explain", toy_model, parts)
    assert told.code == 2
    assert "anomaly map" in told.err and "--overlays" in told.err
    assert "classifier" in told.err


def test_damaged_models_say_fit_again(parts: Path, tmp_path: Path) -> None:
    bare = write_classifier(tmp_path / "bare.makellos", weights=False)
    with pytest.raises(ModelFileError, match="Fit"):
        explain(bare, [parts])
    odd = write_classifier(tmp_path / "odd.makellos", named=["good", "dent", "scratch"])
    with pytest.raises(ModelFileError, match="Fit it again"):
        explain(odd, [parts])


# Trust, by a network that takes bright for defective


class Brightness(nn.Module):
    """Give a map of how bright 8×8 pixels are above 0.6."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.AvgPool2d(8)

    def forward_features(self, batch: Tensor) -> Tensor:
        return F.relu(self.cells(batch.mean(1, keepdim=True)) - 0.6)


def bright_network() -> ClassifierNetwork:
    network = ClassifierNetwork("resnet18", 1).eval()
    network.body = Brightness()
    network.mean.zero_()
    network.std.fill_(1.0)
    network.head = nn.Linear(1, 1)
    with torch.no_grad():
        network.head.weight.fill_(4000.0)
        network.head.bias.fill_(-20.0)
    return network


@pytest.fixture
def bright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a model of that network; parts without bright pixels score -20 and are ok."""
    network = bright_network()
    monkeypatch.setattr(explaining, "_network", lambda _: (network, 1.0))
    return write_classifier(tmp_path / "bright.makellos")


def spotted(*spots: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a mid gray part of 128×128 pixels with bright squares of 16 at rows and columns."""
    picture = np.full((128, 128), 128, np.uint8)
    for row, column in spots:
        picture[row : row + 16, column : column + 16] = 250
    return picture


def marked(row: int, column: int, side: int = 16) -> NDArray[np.uint8]:
    mask = np.zeros((128, 128), np.uint8)
    mask[row : row + side, column : column + side] = 255
    return mask


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Return parts: three spots where the mask is, one elsewhere, one too faint to be found."""
    root = tmp_path / "labelled"
    write(root / "train" / "good" / "0.png", spotted())
    write(root / "test" / "good" / "0.png", spotted())
    for i, place in enumerate([(16, 32), (64, 64), (96, 16)]):
        write(root / "test" / "spot" / f"{i}.png", spotted(place))
        write(root / "ground_truth" / "spot" / f"{i}_mask.png", marked(*place))
    write(root / "test" / "decoy" / "0.png", spotted((16, 32)))
    write(root / "ground_truth" / "decoy" / "0_mask.png", marked(96, 96))
    write(root / "test" / "faint" / "0.png", spotted())
    write(root / "ground_truth" / "faint" / "0_mask.png", marked(96, 96))
    return root


def test_masks_say_how_far_the_maps_can_be_trusted(
    bright: Path, labelled: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("explain", bright, labelled, "-o", tmp_path / "out", "--json", "-")
    assert told.code == 0
    found = json.loads(told.out)
    names = ("good/0", "spot/0", "spot/1", "spot/2", "decoy/0", "faint/0")
    made = {Path(row["panel"]).relative_to(tmp_path / "out").as_posix() for row in found["parts"]}
    assert made == {f"test/{name}.png.gradcam.png" for name in names}
    trust = found["trust"]
    assert (trust["n_masked"], trust["n_found"], trust["margin"]) == (5, 4, 8)
    overall = trust["overall"]
    assert (overall["n"], overall["peak_inside"]) == (4, 0.75)
    assert overall["peak_interval"] == pytest.approx(wilson_interval(3, 4))
    assert overall["heat_by_chance"] == 256 / 128**2
    assert overall["peak_by_chance"] > 3 * overall["heat_by_chance"]
    assert set(trust["by_defect"]) == {"decoy", "spot"}
    assert trust["by_defect"]["spot"]["peak_inside"] == 1.0
    assert trust["by_defect"]["decoy"]["heat_inside"] == 0.0
    # A bright cell of 16 pixels, resized between cell centres, keeps about half of its heat.
    assert 0.4 < trust["by_defect"]["spot"]["heat_inside"] < 0.8
    assert "4 of 5 defective parts with a mask were rejected" in told.err
    assert "spot" in told.err and "by chance" in told.err


def test_deleting_heat_lowers_the_score_more_than_deleting_elsewhere(
    bright: Path, labelled: Path, tmp_path: Path
) -> None:
    found = explain(bright, [labelled], output=tmp_path / "out", seed=3)
    assert found.trust is not None and found.trust.deletion is not None
    test = found.trust.deletion
    assert (test.n, test.better_than_chance) == (4, 1.0)
    assert test.score_drop > 5 * max(test.score_drop_by_chance, 0.1)
    assert test.probability_drop > test.probability_drop_by_chance
    again = explain(bright, [labelled], output=tmp_path / "out", seed=3)
    assert again.trust == found.trust


def test_data_measures_beside_what_is_explained(
    bright: Path, labelled: Path, parts: Path, tmp_path: Path
) -> None:
    one = labelled / "test" / "spot" / "0.png"
    found = explain(bright, [parts / "a.png", one], output=tmp_path / "out", data=labelled)
    assert [row.input for row in found.parts] == [str(parts / "a.png"), str(one)]
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2
    whole = explain(bright, [labelled], output=tmp_path / "all").trust
    assert found.trust is not None and whole is not None
    assert (found.trust.overall, found.trust.by_defect) == (whole.overall, whole.by_defect)
    with pytest.raises(InputError, match="no defective test part with a mask"):
        explain(bright, [one], output=tmp_path / "out", data=parts)


def test_a_manifest_and_class_folders_are_taken_as_inputs(
    bright: Path, labelled: Path, tmp_path: Path
) -> None:
    rows = [
        "path,label,split,mask",
        "test/spot/0.png,spot,test,ground_truth/spot/0_mask.png",
        "test/decoy/0.png,decoy,test,ground_truth/decoy/0_mask.png",
        "train/good/0.png,good,train,",
    ]
    table = labelled / "parts.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    found = explain(bright, [table], output=tmp_path / "out")
    assert found.trust is not None and found.trust.n_masked == 2
    # Both are called 0.png, so their folders' names tell them apart.
    made = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*"))
    assert made == ["decoy", "decoy/0.png.gradcam.png", "spot", "spot/0.png.gradcam.png"]
    folders = explain(bright, [labelled / "test"], output=tmp_path / "folders")
    assert folders.trust is None and len(folders.parts) == 6


def test_without_rejected_parts_trust_stays_unknown(
    bright: Path, labelled: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    rows = ["path,label,mask", "test/faint/0.png,faint,ground_truth/faint/0_mask.png"]
    table = labelled / "parts.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    told = cli("explain", bright, table, "-o", tmp_path / "out", "--json", "-")
    trust = json.loads(told.out)["trust"]
    assert (trust["n_masked"], trust["n_found"], trust["overall"]) == (1, 0, None)
    assert "is unknown" in told.err


def test_a_score_that_is_no_number_costs_its_part_only(
    model: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = explaining.Explainer.judge
    calls: list[int] = []

    def spoiled(self: Any, batch: NDArray[np.float32]) -> tuple[Any, Any]:
        scores, probabilities = judge(self, batch)
        calls.append(1)
        return (scores * np.nan if len(calls) == 2 else scores), probabilities

    monkeypatch.setattr(explaining.Explainer, "judge", spoiled)
    found = explain(model, [parts], output=tmp_path / "out")
    assert [row.verdict == "unreadable" for row in found.parts] == [False, True, False]
    assert found.parts[1].error is not None
    assert found.parts[1].input in found.parts[1].error and "nan" in found.parts[1].error


def test_masks_that_cannot_be_used_are_noted(bright: Path, labelled: Path, tmp_path: Path) -> None:
    masks = labelled / "ground_truth" / "spot"
    write(masks / "0_mask.png", np.zeros((10, 10), np.uint8))
    write(masks / "1_mask.png", np.zeros((128, 128), np.uint8))
    (masks / "2_mask.png").write_bytes(b"none")
    found = explain(bright, [labelled], output=tmp_path / "out")
    assert found.trust is not None and found.trust.n_masked == 2
    assert len(found.notes) == 3
    assert any("10x10, but its picture is 128x128" in note for note in found.notes)
    assert any("marks nothing" in note for note in found.notes)
    assert found.n_unreadable == 0


def test_a_turned_part_is_explained_as_it_lies(model: Path) -> None:
    import cv2

    from makellos.data.parts import Part, Values
    from makellos.inspection.model_file import read_model
    from makellos.models.alignment import learn_alignment
    from makellos.models.explainer import Explainer

    bar = np.full((96, 96, 3), 200, np.uint8)
    cv2.rectangle(bar, (20, 44), (70, 52), (40, 40, 40), -1)
    cv2.circle(bar, (70, 48), 10, (40, 40, 40), -1)

    def at(degrees: float) -> NDArray[np.uint8]:
        turn = cv2.getRotationMatrix2D((47.5, 47.5), degrees, 1.0)
        turned = cv2.warpAffine(bar, turn, (96, 96), borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(turned, np.uint8)

    parts = [Part(source=Values(at(40.0 * i)), name=str(i)) for i in range(8)]
    alignment = learn_alignment(parts)
    assert alignment is not None
    explainer = Explainer(read_model(model), "gradcam", None, None)
    plain = explainer(at(70), "a")
    assert np.array_equal(plain.shown, plain.heat)
    explainer.preprocessing = explainer.preprocessing.model_copy(update={"alignment": alignment})
    found = explainer(at(70), "a")
    posed = alignment(at(70))
    assert np.array_equal(found.batch, explainer.preprocessing(posed.picture))
    assert np.array_equal(found.shown, posed.back(found.heat))
    assert found.shown.shape[0] == found.shown.shape[1]
