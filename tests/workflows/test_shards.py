"""Shards: one row per input whatever happens, written once, taken up by a later run."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import makellos
from makellos.errors import ConfigurationError, InputError, StorageError
from makellos.workflows.shards import ShardInspector, ShardPlan, ShardReport, plan_shards

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("fsspec") is None or importlib.util.find_spec("pyarrow") is None,
    reason="needs fsspec and pyarrow",
)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 120 pictures, of which two cannot be read."""
    folder = tmp_path_factory.mktemp("many")
    drawn = np.random.default_rng(0).integers(0, 255, (120, 16, 16), np.uint8)
    for number, picture in enumerate(drawn):
        cv2.imwrite(str(folder / f"{number:03}.png"), picture)
    for number in (7, 90):
        (folder / f"{number:03}.png").write_bytes(b"no picture")
    return folder


def run(plan: ShardPlan, most: int | None = None) -> list[ShardReport]:
    """Carry out the shards that are missing, or the first `most` of them."""
    finished = {report.number for report in plan.begin()}
    inspector = ShardInspector(plan.model, plan.manner)
    missing = [shard for shard in plan.shards() if shard.number not in finished]
    return [inspector(shard) for shard in missing[:most]]


def rows(folder: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    files = sorted(folder.glob("part-*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def test_every_input_has_one_row_which_is_that_of_inspect(
    toy_model: Path, many: Path, tmp_path: Path
) -> None:
    from pyarrow import parquet

    reports = run(plan_shards(toy_model, [many], tmp_path / "out"))
    assert [sum(report.verdicts.values()) for report in reports] == [50, 50, 20]
    assert [name for report in reports for name, _ in report.unreadable] == [
        str(many / "007.png"),
        str(many / "090.png"),
    ]
    makellos.inspect(toy_model, many, outputs=_outputs(parquet=tmp_path / "plain.parquet"))
    plain = parquet.read_table(tmp_path / "plain.parquet")
    first = parquet.read_table(tmp_path / "out" / "part-00000-of-00003.parquet")
    assert first.schema.equals(plain.schema)
    wanted, found = plain.to_pylist(), rows(tmp_path / "out")
    for row in (*wanted, *found):
        row.pop("milliseconds")
    assert found == wanted


def _outputs(**files: Path) -> Any:
    from makellos.workflows.inspect import Outputs

    return Outputs(**files)


def test_a_later_run_does_what_is_missing_alone(
    toy_model: Path, many: Path, tmp_path: Path
) -> None:
    plan = plan_shards(toy_model, [many], tmp_path / "out")
    run(plan, most=2)
    kept = tmp_path / "out" / "part-00000-of-00003.parquet"
    (tmp_path / "out" / "part-00001-of-00003.parquet").write_bytes(b"PAR1 cut off")
    before = kept.stat().st_mtime_ns
    again = plan_shards(toy_model, [many], tmp_path / "out")
    assert [report.number for report in run(again)] == [1, 2]
    assert kept.stat().st_mtime_ns == before
    earlier = again.begin()
    assert sum(sum(report.verdicts.values()) for report in earlier) == 120
    assert sum(report.verdicts["unreadable"] for report in earlier) == 2
    assert len(rows(tmp_path / "out")) == 120


@pytest.mark.parametrize("changed", ["model", "inputs", "manner", "unknown"])
def test_a_folder_of_another_run_is_refused(
    changed: str, toy_model: Path, many: Path, tmp_path: Path
) -> None:
    out, inputs = tmp_path / "out", sorted(many.glob("*.png"))[:60]
    run(plan_shards(toy_model, inputs, out), most=1)
    model, asked = toy_model, dict[str, Any]()
    if changed == "model":
        model = tmp_path / "other.makellos"
        makellos.calibrate(toy_model, false_alarms=0.3, output=model)
    if changed == "inputs":
        inputs.append(many / "100.png")
    if changed == "manner":
        asked = {"statistics": True}
    if changed == "unknown":
        (out / "shards.json").unlink()
    with pytest.raises(StorageError, match="Choose another folder"):
        plan_shards(model, inputs, out, **asked).begin()


def test_inputs_are_named_as_they_were_given_wherever_they_are_inspected(
    toy_model: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(many.parent)
    plan = plan_shards(toy_model, [many.name], tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    reports = run(plan, most=1)
    assert reports[0].verdicts["unreadable"] == 1
    assert rows(tmp_path / "out")[0]["input"] == str(Path(many.name, "000.png"))


def test_the_same_names_in_another_folder_are_other_inputs(
    toy_model: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(many.parent)
    run(plan_shards(toy_model, [many.name], tmp_path / "out"), most=1)
    other = tmp_path / "later" / many.name
    other.mkdir(parents=True)
    for path in many.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(other.parent)
    with pytest.raises(StorageError, match="another list of inputs"):
        plan_shards(toy_model, [many.name], tmp_path / "out").begin()


@pytest.fixture
def memory(many: Path) -> Iterator[str]:
    """Return an address that holds the pictures, and files that are none."""
    import fsspec

    files = fsspec.filesystem("memory")
    for path in many.iterdir():
        files.pipe_file(f"/parts/inner/{path.name}", path.read_bytes())
    files.pipe_file("/parts/notes.txt", b"none")
    files.pipe_file("/parts/.hidden/a.png", b"none")
    yield "memory://parts"
    files.store.clear()


def test_addresses_are_read_and_written(toy_model: Path, memory: str, many: Path) -> None:
    import fsspec
    from pyarrow import parquet

    plan = plan_shards(toy_model, [memory], "memory://rows/out")
    assert plan.inputs[0] == "memory://parts/inner/000.png"
    assert len(plan.inputs) == 120
    run(plan)
    files = fsspec.filesystem("memory")
    names = sorted(name.rpartition("/")[2] for name in files.ls("/rows/out", detail=False))
    assert names == [*(f"part-0000{n}-of-00003.parquet" for n in range(3)), "shards.json"]
    with files.open("/rows/out/part-00000-of-00003.parquet") as stream:
        found = parquet.read_table(stream).to_pylist()
    plain = [makellos.Inspector(toy_model).inspect(many / f"{n:03}.png") for n in (0, 1)]
    assert [row["score"] for row in found[:2]] == [each.score for each in plain]
    assert found[7]["error"].startswith("memory://parts/inner/007.png ")
    assert [report.number for report in plan.begin()] == [0, 1, 2]


def test_a_draft_that_a_killed_writer_left_is_no_shard(toy_model: Path, memory: str) -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    plan = plan_shards(toy_model, [memory], "memory://rows/out")
    run(plan)
    files.pipe_file("/rows/out/.part-00000-of-00003.parquet.0123456789ab.partial", b"PAR1")
    assert len(plan.begin()) == 3
    plan.sweep()
    assert not [name for name in files.ls("/rows/out", detail=False) if "partial" in name]


def test_a_parquet_file_lists_inputs(toy_model: Path, many: Path, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    paths = [str(many / "003.png"), "near.png", "memory://parts/a.png"]
    table = pyarrow.table({"path": paths, "lot": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "list.parquet")
    plan = plan_shards(toy_model, [tmp_path / "list.parquet"], tmp_path / "out")
    assert plan.inputs == (paths[0], f"{tmp_path}/near.png", paths[2])
    parquet.write_table(table.drop_columns(["path"]), tmp_path / "list.parquet")
    with pytest.raises(InputError, match="no column 'path'; it has lot"):
        plan_shards(toy_model, [tmp_path / "list.parquet"], tmp_path / "out")


@pytest.mark.parametrize("name", ["camera:0", "film.mp4", "array.npy"])
def test_what_has_many_rows_is_refused(name: str, toy_model: Path, tmp_path: Path) -> None:
    (tmp_path / name).touch() if ":" not in name else None
    given = name if ":" in name else tmp_path / name
    with pytest.raises(ConfigurationError, match="Inspect it without --cluster"):
        plan_shards(toy_model, [given], tmp_path / "out")


def test_the_plan_is_data(toy_model: Path, many: Path, tmp_path: Path) -> None:
    plan = plan_shards(toy_model, [many], tmp_path / "out")
    plan.begin()
    assert json.loads((tmp_path / "out" / "shards.json").read_text()) == plan.record


def test_wrong_use_says_what_to_do(
    toy_model: Path, many: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli("inspect", toy_model, many, "--cluster", "auto")
    assert (told.code, "-o is missing: --cluster" in told.err) == (2, True)
    told = cli("inspect", toy_model, many, "--cluster", "auto", "-o", tmp_path, "--csv", "a.csv")
    assert told.code == 2
    assert "--csv cannot be combined with --cluster" in told.err
