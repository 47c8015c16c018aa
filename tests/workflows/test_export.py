"""Exporting: graphs for other runtimes, a folder that judges by itself, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from makellos import Coverage, Inspector, calibrate, export, fit
from makellos.errors import ConfigurationError, InputError, ModelFileError, StorageError
from makellos.inspection.engines import EngineChoice
from makellos.inspection.model_file import read_model
from makellos.inspection.preprocessing import Preprocessing
from makellos.models.standalone.verdict import Model, read_picture, resize, to_gray
from makellos.models.writing import rewrite_manifest
from makellos.workflows import export as exporting
from makellos.workflows.calibrate import Counted

OLD = Path(__file__).parents[1] / "inspection" / "version_0_1"
ONNX = EngineChoice("onnxruntime", "f32")
# Runs the program of a folder where nothing but NumPy, ONNX Runtime and Pillow can be imported.
ALONE = """
import os, runpy, sys
for name in ("makellos", "cv2", "torch", "onnx", "openvino", "scipy", "pydantic"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def alone(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", ALONE, str(folder / "verdict.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def assert_same(folder: Path, model: Path, files: list[Path]) -> list[dict[str, Any]]:
    """Assert that the program of a folder judges as makellos does; return its rows."""
    done = alone(folder, *files)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    inspector = Inspector(model, engine=ONNX)
    for row, path in zip(rows, files, strict=True):
        found = inspector.inspect(path)
        assert row["input"] == str(path)
        assert row["score"] == pytest.approx(found.score, rel=2e-4, abs=1e-6)
        assert (row["verdict"], row["p_value"]) == (found.verdict, found.p_value)
        assert row["threshold"] == found.threshold
    return rows


@pytest.fixture(scope="session")
def patchcore_model(screws: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "patchcore.makellos"
    parameters = {"image_size": 64, "background": "count"}
    fit(screws, path, parameters=parameters, false_alarms=0.1)
    return path


@pytest.fixture(scope="session")
def padim_model(screws: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "padim.makellos"
    parameters = {"image_size": 64, "background": "count"}
    upright = Coverage(align="none")
    fit(screws, path, detector="padim", parameters=parameters, false_alarms=0.1, coverage=upright)
    return path


def test_program_judges_as_makellos_does(toy_model: Path, toy_parts: Path, tmp_path: Path) -> None:
    summary = export(toy_model, tmp_path / "toy")
    assert (summary.format, summary.not_in_the_graph) == ("folder", [])
    files = sorted((toy_parts / "test").rglob("*.png"))
    rows = assert_same(tmp_path / "toy", toy_model, files)
    assert {row["verdict"] for row in rows} >= {"ok", "reject"}
    checked = alone(tmp_path / "toy", "--check")
    assert (checked.returncode, checked.stdout) == (0, "All 6 golden parts have their verdicts.\n")


@pytest.mark.parametrize("fixture", ["patchcore_model", "padim_model", "screw_model"])
def test_program_judges_detectors(
    fixture: str, screws: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model: Path = request.getfixturevalue(fixture)
    export(model, tmp_path / "folder")
    assert_same(tmp_path / "folder", model, sorted((screws / "test").rglob("*.png")))


def test_program_knows_weights_and_the_band_to_look_at_again(
    toy_model: Path, toy_parts: Path, tmp_path: Path
) -> None:
    model = tmp_path / "m.makellos"
    good, files = toy_parts / "test" / "good", sorted((toy_parts / "test").rglob("*.png"))
    calibrate(
        toy_model,
        good,
        false_alarms=0.1,
        look_again=0.45,
        counted=Counted(earlier_weight=0.3),
        output=model,
    )
    export(model, tmp_path / "folder", format="folder")
    rows = assert_same(tmp_path / "folder", model, files)
    assert {row["verdict"] for row in rows} == {"ok", "look_again", "reject"}


def test_program_reads_what_makellos_reads(toy_model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    gray = rng.integers(100, 156, (70, 150), np.uint8)
    colour = rng.integers(100, 156, (200, 90, 3), np.uint8)
    files = [tmp_path / f"{i}.png" for i in range(4)]
    cv2.imwrite(str(files[0]), gray)
    cv2.imwrite(str(files[1]), colour)
    cv2.imwrite(str(files[2]), gray.astype(np.uint16) * 257)
    cv2.imwrite(str(files[3]), np.dstack([colour, np.full((200, 90), 7, np.uint8)]))
    export(toy_model, tmp_path / "toy")
    assert_same(tmp_path / "toy", toy_model, files)
    np.save(tmp_path / "array.npy", gray)
    model = Model(tmp_path / "toy")
    assert model.inspect_file(tmp_path / "array.npy").score == model.inspect(gray).score


def test_program_names_what_it_cannot_read(toy_model: Path, tmp_path: Path) -> None:
    export(toy_model, tmp_path / "toy")
    (tmp_path / "text.png").write_text("no picture")
    wide = np.zeros((20, 20, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), wide)
    done = alone(tmp_path / "toy", tmp_path / "text.png", tmp_path / "deep.png", tmp_path / "none")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (1, "")
    assert {row["verdict"] for row in rows} == {"unreadable"}
    assert "16 bits" in rows[1]["error"]
    assert alone(tmp_path / "toy").returncode == 2


def test_check_of_a_folder_finds_other_scores(toy_model: Path, tmp_path: Path) -> None:
    export(toy_model, tmp_path / "toy")
    facts = json.loads((tmp_path / "toy" / "model.json").read_text())
    facts["golden"][0]["score"] = 9.0
    (tmp_path / "toy" / "model.json").write_text(json.dumps(facts))
    checked = alone(tmp_path / "toy", "--check")
    assert checked.returncode == 1
    assert "golden/00.npy: score" in checked.stdout


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("size", "target"),
    [
        ((64, 96), (32, 48)),
        ((100, 130), (64, 64)),
        ((40, 50), (64, 96)),
        ((40, 200), (64, 64)),
        ((96, 64), (32, 64)),
        ((1, 1), (16, 16)),
        ((64, 64), (64, 64)),
    ],
)
def test_program_resizes_as_makellos_does(
    kind: type[Any], size: tuple[int, int], target: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    for shape in (size, (*size, 3)):
        picture = rng.integers(0, np.iinfo(kind).max, shape, endpoint=True).astype(kind)
        expected = Preprocessing(height=target[0], width=target[1]).resize(picture)
        found: NDArray[Any] = resize(picture, *target)
        assert found.dtype == kind
        difference = np.abs(found.astype(int) - expected.astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.02
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    assert (to_gray(picture) == gray).all()


def test_orientation_of_a_camera_is_applied(tmp_path: Path) -> None:
    from PIL import Image

    picture = np.arange(48, dtype=np.uint8).reshape(6, 8)
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    from makellos import read_picture as ours

    assert (read_picture(tmp_path / "turned.png") == ours(tmp_path / "turned.png")).all()


def test_onnx_file_holds_all(toy_model: Path, toy_parts: Path, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    target = tmp_path / "toy.onnx"
    summary = export(toy_model, target)
    assert summary.files == [str(target)]
    assert summary.n_bytes == target.stat().st_size
    stored = onnx.load(target, load_external_data=False)
    # No tensor still says that it lies in another file.
    assert not any(tensor.external_data for tensor in stored.graph.initializer)
    told = {each.key: each.value for each in stored.metadata_props}
    facts = json.loads(told["makellos"])
    inspector = Inspector(toy_model, engine=ONNX)
    assert facts["calibration"]["threshold"] == inspector.threshold
    picture = sorted((toy_parts / "test").rglob("*.png"))[0]
    batch = inspector.manifest.preprocessing(cv2.imread(str(picture), cv2.IMREAD_UNCHANGED))  # type: ignore[arg-type]
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    (found,) = session.run(["anomaly_map"], {"picture": batch})
    expected = inspector.inspect(picture)
    assert float(found.max()) == pytest.approx(expected.score)


def test_openvino_format_gives_the_same_scores(toy_model: Path, tmp_path: Path) -> None:
    summary = export(toy_model, tmp_path / "toy.xml")
    assert [Path(each).name for each in summary.files] == ["toy.bin", "toy.xml"]
    assert all(name.startswith("openvino") for name in summary.runtimes)
    assert summary.runtimes["openvino f32"] < 1e-3
    export(toy_model, tmp_path / "toy.xml")  # replaces its own


def test_verb_says_what_was_tested(
    toy_model: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("export", toy_model, "-o", tmp_path / "toy", "--json", "-")
    assert told.code == 0
    found = json.loads(told.out)
    assert found["runtimes"]["onnxruntime f32"] < 1e-3
    assert "verdict.py PICTURE" in told.err


@pytest.mark.parametrize(
    ("name", "words"), [("zones", "zones"), ("vibration", "windows and views of recordings")]
)
def test_folder_is_refused_where_it_would_judge_otherwise(
    name: str, words: str, tmp_path: Path
) -> None:
    model = OLD / f"{name}.makellos"
    with pytest.raises(ConfigurationError, match=words):
        export(model, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    summary = export(model, tmp_path / "graph.onnx")
    assert any(words in each for each in summary.not_in_the_graph)


def test_score_that_is_no_graph_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="scores with pyod"):
        export(OLD / "features.makellos", tmp_path / "f.onnx")


def test_flip_is_refused_and_nothing_is_written(toy_model: Path, tmp_path: Path) -> None:
    model = Path(shutil.copy(toy_model, tmp_path / "m.makellos"))
    read = read_model(model)
    golden = [each.model_copy(update={"score": 9.0}) for each in read.manifest.golden]
    rewrite_manifest(read, read.manifest.model_copy(update={"golden": golden}), model)
    for target in ("a.onnx", "a.xml", "folder"):
        with pytest.raises(ModelFileError, match="do not keep their verdicts"):
            export(model, tmp_path / target)
    assert not list((tmp_path / "folder").iterdir())
    assert {each.name for each in tmp_path.rglob("*") if each.is_file()} == {"m.makellos"}


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("a.bin", {"format": "onnx"}, "must end in .onnx"),
        ("a", {"format": "tflite"}, "expected one of"),
        ("a.onnx", {"precision": "int4"}, "expected f32 or int8"),
        ("a.onnx", {"precision": "int8"}, "--data GOOD"),
        ("a.onnx", {"data": "parts"}, "is for --precision int8"),
    ],
)
def test_wrong_usage_is_refused(
    toy_model: Path, tmp_path: Path, target: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        export(toy_model, tmp_path / target, **options)
    assert not list(tmp_path.iterdir())


def test_foreign_files_are_left_alone(toy_model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="holds other files"):
        export(toy_model, tmp_path, format="folder")
    (tmp_path / "a.onnx").write_text("mine")
    with pytest.raises(StorageError, match="is left alone"):
        export(toy_model, tmp_path / "a.onnx")


def test_weights_of_another_are_left_alone(toy_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_text("mine")
    with pytest.raises(StorageError, match=r"a\.bin exists and was not exported by makellos"):
        export(toy_model, tmp_path / "a.xml")
    assert [each.name for each in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_text() == "mine"


@pytest.mark.parametrize("name", ["a.onnx", "a.xml"])
def test_graph_of_another_is_left_alone(name: str, toy_model: Path, tmp_path: Path) -> None:
    with read_model(toy_model).unpacked() as folder:
        shutil.copy(folder / "graph.onnx", tmp_path / "a.onnx")
    (tmp_path / "a.xml").write_text("<?xml version='1.0'?><net name='mine'/>")
    before = (tmp_path / name).read_bytes()
    with pytest.raises(StorageError, match="was not exported by makellos"):
        export(toy_model, tmp_path / name)
    assert (tmp_path / name).read_bytes() == before


def test_onnx_file_and_folder_replace_their_own(toy_model: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "a.onnx", "folder", "folder"):
        export(toy_model, tmp_path / name)
    golden = tmp_path / "folder" / "golden"
    facts = json.loads((tmp_path / "folder" / "model.json").read_text())
    facts["golden"] += [{"file": "golden/90.npy"}, {"file": "../a.onnx"}, {"file": 3}, None]
    (tmp_path / "folder" / "model.json").write_text(json.dumps(facts))
    (golden / "90.npy").write_text("older")
    (golden / "notes.txt").write_text("mine")
    export(toy_model, tmp_path / "folder")
    names = [f"{i:02d}.npy" for i in range(6)]
    assert sorted(each.name for each in golden.iterdir()) == [*names, "notes.txt"]
    assert (tmp_path / "a.onnx").is_file()


@pytest.mark.parametrize("text", ['{"layers": 3}', "[1]", "no json", ""])
def test_model_of_another_program_is_left_alone(text: str, toy_model: Path, tmp_path: Path) -> None:
    (tmp_path / "golden").mkdir()
    for name in ("model.json", "golden/00.npy"):
        (tmp_path / name).write_text(text)
    with pytest.raises(StorageError, match="holds other files"):
        export(toy_model, tmp_path, format="folder")
    assert (tmp_path / "golden" / "00.npy").read_text() == text


def test_golden_part_of_another_is_left_alone(toy_model: Path, tmp_path: Path) -> None:
    export(toy_model, tmp_path / "a")
    facts = json.loads((tmp_path / "a" / "model.json").read_text())
    del facts["golden"][5]
    (tmp_path / "a" / "model.json").write_text(json.dumps(facts))
    with pytest.raises(StorageError, match=r"05\.npy exists and was not exported"):
        export(toy_model, tmp_path / "a")


# int8


def test_int8_takes_good_parts(toy_model: Path, toy_parts: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((toy_parts / "train" / "good").iterdir())[:5]:
        shutil.copy(path, few)
    with pytest.raises(InputError, match="holds 5 good parts"):
        export(toy_model, tmp_path / "a.onnx", precision="int8", data=few)
    with pytest.raises(ModelFileError, match="no products"):
        export(toy_model, tmp_path / "a.onnx", precision="int8", data=toy_parts)


def test_model_of_f32_alone_is_not_exported_in_int8(
    toy_model: Path, toy_parts: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copy(toy_model, tmp_path / "m.makellos"))
    read = read_model(model)
    engine = read.manifest.engine.model_copy(update={"exact": True})
    rewrite_manifest(read, read.manifest.model_copy(update={"engine": engine}), model)
    with pytest.raises(ConfigurationError, match="computes in f32 alone"):
        export(model, tmp_path / "a.onnx", precision="int8", data=toy_parts)


def test_int8_is_written_where_all_verdicts_are_kept(
    toy_model: Path, toy_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []

    def same(graph: bytes, batches: list[Any], operations: tuple[str, ...]) -> bytes:
        heard.append(len(batches))
        return graph

    monkeypatch.setattr(exporting, "quantised", same)
    summary = export(toy_model, tmp_path / "a.onnx", precision="int8", data=toy_parts)
    # The thirty that the model has seen give ranges, the ten good ones of the test split test.
    assert (heard, summary.n_tested) == ([30], 10)
    assert summary.gain["bytes"]["before"] == summary.gain["bytes"]["after"]
    assert summary.gain["onnxruntime f32 ms"]["after"] > 0


def test_int8_is_refused_where_held_out_parts_change(
    patchcore_model: Path, screws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "OPERATIONS", (("Conv",),))
    with pytest.raises(ModelFileError, match=r"because verdicts flip.*MB in place of"):
        export(patchcore_model, tmp_path / "a.onnx", precision="int8", data=screws)
    assert not list(tmp_path.iterdir())
