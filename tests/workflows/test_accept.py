"""Accept: the record, its schema and page, parts that are known, and the ledger of test sets."""

from __future__ import annotations

import html
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from makellos import (
    ConfigurationError,
    InputError,
    StorageError,
    accept,
    calibrate,
    evaluate,
    read_model,
)
from makellos.drawing import write_picture
from makellos.evaluation.acceptance_record import AcceptanceRecord
from makellos.inspection.manifest import VerificationRecord
from makellos.models.provenance import Contents, identity
from makellos.models.writing import rewrite_manifest
from makellos.workflows.ledger import default_ledger, enter, history

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "acceptance.schema.json"
RECORD = TypeAdapter(AcceptanceRecord)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger" / "tests.jsonl"


def test_schema_is_as_published() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RECORD.json_schema(mode="serialization"),
    }
    text = json.dumps(schema, indent=1) + "\n"
    if os.environ.get("MAKELLOS_RENEW_GOLDEN"):
        SCHEMA.parent.mkdir(exist_ok=True)
        SCHEMA.write_text(text, encoding="utf-8")
    assert SCHEMA.read_text(encoding="utf-8") == text


def fits_schema(written: str) -> None:
    """Raise where JSON is not as the schema says, or says more."""
    record = RECORD.validate_json(written)
    assert json.loads(json.dumps(asdict(record))) == json.loads(written)
    if find_spec("jsonschema"):  # which comes with the notebooks' environment alone
        validator = import_module("jsonschema").Draft202012Validator
        validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(json.loads(written))


def test_record_page_and_rows_are_written(
    cli: Callable[..., Any], toy_model: Path, toy_parts: Path, tmp_path: Path, ledger: Path
) -> None:
    target, folder = tmp_path / "a.json", tmp_path / "out"
    told = cli("accept", toy_model, toy_parts, "-o", folder, "--json", target, "--ledger", ledger)
    assert told.code == 0
    written = target.read_text(encoding="utf-8")
    fits_schema(written)
    figures = evaluate(toy_model, toy_parts)
    record = json.loads(written)
    assert record == json.loads((folder / "acceptance.json").read_text(encoding="utf-8"))
    assert (record["figures"]["n_good"], record["figures"]["n_defective"]) == (10, 10)
    assert record["figures"]["miss_rate"]["share"] == figures.miss_rate
    assert record["figures"]["false_alarm_rate"]["share"] == figures.false_alarm_rate
    assert record["image_auroc"] == figures.image_auroc
    assert record["history"] == {"ledger": str(ledger), "n_times_before": 0, "others": []}
    assert record["known"] == {"learned": [], "calibrated": []}
    rows = (folder / "tested.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 21
    page = html.unescape((folder / "acceptance.html").read_text(encoding="utf-8"))
    assert record["data"]["fingerprint"] in page and record["model"]["identity"] in page
    assert all(sentence in page for sentence in record["not_tested"])
    assert "http" not in page.split("</head>")[1]


def test_runtime_that_failed_is_not_called_left_out(
    cli: Callable[..., Any], toy_model: Path, toy_parts: Path, tmp_path: Path, ledger: Path
) -> None:
    model, read = tmp_path / "m.makellos", read_model(toy_model)
    record = VerificationRecord(
        at="now",
        machine="here",
        released=False,
        n_golden=6,
        not_run={"openvino bf16": "no bf16"},
        failed={"onnxruntime f32": "broken"},
    )
    rewrite_manifest(read, read.manifest.model_copy(update={"verification": record}), model)
    folder = tmp_path / "out"
    told = cli("accept", model, toy_parts, "-o", folder, "--ledger", ledger)
    assert told.code == 0
    fits_schema((folder / "acceptance.json").read_text(encoding="utf-8"))
    page = html.unescape((folder / "acceptance.html").read_text(encoding="utf-8"))
    assert "not run: openvino bf16; failed: onnxruntime f32" in page
    assert "or one fails" in page


def test_sizes_are_measured_on_masks(screw_model: Path, screws: Path, ledger: Path) -> None:
    record = accept(screw_model, screws, mm_per_pixel=0.02, ledger=ledger)
    found = record.figures.detection
    assert (found.unit, found.mm_per_pixel, found.n_unknown) == ("mm", 0.02, 0)
    assert found.overall.n == 10
    assert found.overall.largest is not None and 0.02 < found.overall.largest < 128 * 0.02 * 1.42
    assert sum(each.missed.n for each in record.figures.by_size) == 10
    pixels = accept(screw_model, screws, ledger=ledger).figures.detection
    assert (pixels.unit, pixels.mm_per_pixel) == ("px", None)
    assert pixels.overall.largest == pytest.approx(found.overall.largest / 0.02)


def with_parts(folder: Path, toy_parts: Path, rows: list[str]) -> Path:
    shutil.copytree(toy_parts, folder)
    (folder / "parts.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "parts.csv"


def files_of(folder: Path, label: str) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in (folder / "test" / label).iterdir())


def test_known_parts_are_named(toy_model: Path, toy_parts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(toy_parts, folder)
    learned = sorted((folder / "train" / "good").iterdir())[0]
    shutil.copy(learned, folder / "test" / "good" / "seen before.png")
    record = accept(toy_model, folder, ledger=tmp_path / "l.jsonl")
    known = (*record.known.learned, *record.known.calibrated)
    assert known == ("test/good/seen before.png",)
    (first, *_) = record.reservations
    assert first.about == "known parts" and "seen before.png" in first.text


def test_parts_that_a_model_was_calibrated_with_are_known(
    toy_model: Path, toy_parts: Path, tmp_path: Path, ledger: Path
) -> None:
    calibrated = tmp_path / "calibrated.makellos"
    calibrate(toy_model, toy_parts / "test" / "good", output=calibrated, false_alarms=0.2)
    record = accept(calibrated, toy_parts, ledger=ledger)
    assert record.known.learned == ()
    assert len(record.known.calibrated) == 10
    assert "calibrated with" in record.reservations[0].text


def test_judges_are_studied(toy_model: Path, toy_parts: Path, tmp_path: Path, ledger: Path) -> None:
    good, bad = files_of(toy_parts, "good"), files_of(toy_parts, kind_of(toy_parts))
    rows = ["path,label,judge,split"]
    for path, truth in [*((p, "good") for p in good), *((p, "spot") for p in bad)]:
        rows += [f"{path},{truth},,test", f"{path},{truth},Ann,test"]
        rows += [f"{path},good,Ben,test", f"{path},{truth},Ben,test"]
    record = accept(toy_model, with_parts(tmp_path / "s", toy_parts, rows), ledger=ledger)
    study = record.figures.study
    assert study is not None and (study.n_parts, study.n_by_majority) == (20, 0)
    ann, ben, system = study.judges
    assert (ann.name, ann.kappa, ann.rating) == ("Ann", 1.0, "acceptable")
    assert (ben.n_judgements, ben.miss_rate.share, ben.rating) == (40, 0.5, "unacceptable")
    assert system.is_system
    assert system.miss_rate.n_hit == record.figures.miss_rate.n_hit
    fits_schema(json.dumps(asdict(record)))


def kind_of(folder: Path) -> str:
    return next(p.name for p in (folder / "test").iterdir() if p.name != "good")


def test_judges_tell_the_truth_where_no_row_does(
    toy_model: Path, toy_parts: Path, tmp_path: Path, ledger: Path
) -> None:
    rows = ["path,label,judge"]
    for path in [*files_of(toy_parts, "good"), *files_of(toy_parts, kind_of(toy_parts))]:
        label = "good" if "/good/" in path else "spot"
        rows += [f"{path},{label},Ann", f"{path},{label},Ben"]
    record = accept(toy_model, with_parts(tmp_path / "s", toy_parts, rows), ledger=ledger)
    assert (record.figures.n_good, record.figures.n_defective) == (10, 10)
    assert "truth" in {each.about for each in record.reservations}


def test_wrong_size_of_a_pixel(toy_model: Path, toy_parts: Path) -> None:
    with pytest.raises(ConfigurationError, match="above 0"):
        accept(toy_model, toy_parts, mm_per_pixel=0)


def test_unreadable_parts_count_nowhere(
    toy_model: Path, toy_parts: Path, tmp_path: Path, ledger: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(toy_parts, folder)
    (folder / "test" / "good" / "broken.png").write_bytes(b"no picture")
    record = accept(toy_model, folder, ledger=ledger)
    assert [each.input for each in record.unreadable] == ["test/good/broken.png"]
    assert record.figures.n_good == 10
    assert "unreadable" in {each.about for each in record.reservations}


# The ledger


def other_model(model: Path, folder: Path, name: str, false_alarms: float) -> Path:
    target = folder / name
    calibrate(model, output=target, false_alarms=false_alarms)
    return target


def test_second_model_on_the_same_parts_is_marked(
    toy_model: Path, toy_parts: Path, tmp_path: Path, ledger: Path
) -> None:
    renamed = tmp_path / "renamed"
    shutil.copytree(toy_parts, renamed)
    for i, path in enumerate(sorted((renamed / "test" / "good").iterdir())):
        path.rename(path.with_name(f"other name {-i}.png"))
    first = accept(toy_model, toy_parts, ledger=ledger)
    again = accept(shutil.copy(toy_model, tmp_path / "copy.makellos"), renamed, ledger=ledger)
    assert again.data.fingerprint == first.data.fingerprint
    assert again.model.identity == first.model.identity
    assert (again.history.n_times_before, again.history.others) == (1, ())
    assert "history" not in {each.about for each in again.reservations}
    second = other_model(toy_model, tmp_path, "second.makellos", 0.2)
    third = other_model(toy_model, tmp_path, "third.makellos", 0.3)
    record = accept(second, renamed, ledger=ledger)
    (before,) = record.history.others
    assert (before.identity, before.n_shared) == (first.model.identity, 20)
    record = accept(third, toy_parts, ledger=ledger)
    told = next(each.text for each in record.reservations if each.about == "history")
    assert "third model judged on these parts" in told and "second.makellos" in told


def test_parts_that_were_added_make_another_set(
    toy_model: Path, toy_parts: Path, tmp_path: Path, ledger: Path
) -> None:
    first = accept(toy_model, toy_parts, ledger=ledger)
    folder = tmp_path / "more"
    shutil.copytree(toy_parts, folder)
    write_picture(folder / "test" / "good" / "new.png", np.full((32, 32), 7, np.uint8))
    record = accept(other_model(toy_model, tmp_path, "second.makellos", 0.2), folder, ledger=ledger)
    assert record.data.fingerprint != first.data.fingerprint
    assert record.history.others[0].n_shared == 20
    assert any("(20 of these 21)" in each.text for each in record.reservations)


def test_another_label_makes_another_set(
    toy_model: Path, toy_parts: Path, tmp_path: Path, ledger: Path
) -> None:
    first = accept(toy_model, toy_parts, ledger=ledger)
    folder = tmp_path / "relabelled"
    shutil.copytree(toy_parts, folder)
    (folder / "test" / kind_of(folder)).rename(folder / "test" / "another")
    record = accept(toy_model, folder, ledger=ledger)
    assert record.data.fingerprint != first.data.fingerprint
    assert record.history.n_times_before == 0


def test_ledger_remembers_the_most_parts_that_a_model_was_judged_on(
    toy_model: Path, screw_model: Path, tmp_path: Path
) -> None:
    mine, other = read_model(toy_model).manifest, read_model(screw_model).manifest
    sums = tuple(f"{i:012d}" for i in range(4))
    path = tmp_path / "tests.jsonl"
    for day, n in enumerate((2, 3, 1), start=1):
        tested = Contents(f"{n:064d}", sums[:n])
        enter(path, tested, other, file="m", at=datetime(2026, 1, day, tzinfo=UTC))
    (before,) = history(path, Contents("f" * 64, sums), mine).others
    assert (before.n_shared, before.first, before.last) == (3, "2026-01-01", "2026-01-03")


def test_ledger_that_is_none_stops_before_the_work(
    toy_model: Path, toy_parts: Path, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text("{}\n", encoding="utf-8")
    with pytest.raises(StorageError, match="no ledger of test sets: line 1"):
        accept(toy_model, toy_parts, ledger=path)
    assert path.read_text(encoding="utf-8") == "{}\n"


def test_ledger_is_the_one_that_is_named_or_that_of_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MAKELLOS_LEDGER", str(tmp_path / "shared.jsonl"))
    assert default_ledger() == tmp_path / "shared.jsonl"
    monkeypatch.delenv("MAKELLOS_LEDGER")
    assert default_ledger().name == "test-sets.jsonl"
    assert default_ledger().is_relative_to(Path.home())


def test_evaluation_of_a_locked_set_is_counted(
    toy_model: Path,
    toy_parts: Path,
    tmp_path: Path,
    ledger: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAKELLOS_LEDGER", str(ledger))
    other = other_model(toy_model, tmp_path, "other.makellos", 0.3)
    assert not any("locked" in note for note in evaluate(other, toy_parts).notes)
    assert not ledger.exists()
    accept(toy_model, toy_parts)
    assert any("locked since" in note for note in evaluate(other, toy_parts).notes)
    (told,) = accept(toy_model, toy_parts).history.others
    assert told.file == "other.makellos"
    ledger.write_text("broken\n", encoding="utf-8")
    assert any("cannot be told" in note for note in evaluate(other, toy_parts).notes)


def test_no_test_part(toy_model: Path, tmp_path: Path, ledger: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        accept(toy_model, tmp_path / "empty", ledger=ledger)
    assert not ledger.exists()


def test_what_was_noted_in_a_file_makes_no_other_model(toy_model: Path) -> None:
    manifest = read_model(toy_model).manifest
    noted = manifest.model_copy(update={"created": "later", "parity": {}, "versions": {}})
    assert identity(noted) == identity(manifest)
    budget = manifest.calibration.model_copy(update={"asked": 0.2})
    assert identity(manifest.model_copy(update={"calibration": budget})) != identity(manifest)
