"""Comparing: the same parts for all, steps as processes, a failure that costs itself alone."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import pytest
from filelock import lock_descriptor
from sklearn.metrics import roc_auc_score

import makellos
from makellos.cli import main
from makellos.errors import ConfigurationError, InputError, MissingRuntimeError, StorageError
from makellos.jobs.records import ResultsFolder
from makellos.reports.formats import MISSING
from makellos.workflows.compare_steps import PICTURES


@dataclass(frozen=True)
class Run:
    """Hold what one comparison by real processes left, and the models that it was given."""

    code: int
    data: dict[str, Any]
    folder: Path
    models: tuple[Path, Path]

    def entry(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(e for e in self.data["entries"] if e["name"] == name)
        return found

    def page(self) -> str:
        page = (self.folder / "compare.html").read_text(encoding="utf-8")
        return " ".join(re.sub(r"<[^>]+>", " ", page).split())


@pytest.fixture(scope="module")
def run(toy_model: Path, toy_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Compare one that is fitted, one that cannot be, and two models that differ in budget."""
    root = tmp_path_factory.mktemp("comparison")
    lenient = root / "lenient.makellos"
    makellos.calibrate(toy_model, false_alarms=0.5, output=lenient)
    arguments = ["compare", str(toy_parts), "--detectors", f"padim:fast,pyod,{toy_model}"]
    arguments += ["--models", str(lenient), "-o", str(root / "out"), "--against", "toy"]
    arguments += ["--set", "padim.image_size=32", "--set", "padim:fast.n_features=9"]
    arguments += ["--false-alarms", "0.2", "--seed", "3", "--json", str(root / "told.json")]
    code = main(arguments)
    data = json.loads((root / "told.json").read_text(encoding="utf-8"))
    return Run(code, data, root / "out", (toy_model, lenient))


def test_one_that_fails_costs_itself_alone(run: Run) -> None:
    states = {entry["name"]: entry["state"] for entry in run.data["entries"]}
    assert run.code == 1
    assert states == {"padim:fast": "done", "pyod": "failed", "toy": "done", "lenient": "done"}
    reason = run.entry("pyod")["reason"]
    assert reason.startswith("fit: ") and "holds pictures" in reason
    assert "holds pictures" in (run.folder / "pyod" / "log.txt").read_text(encoding="utf-8")
    assert "1 failed : pyod." in run.page() and "holds pictures" in run.page()
    assert [each["name"] for each in run.data["differences"]] == ["padim:fast", "lenient"]


def test_a_detector_is_fitted_as_asked(run: Run) -> None:
    padim = run.entry("padim:fast")
    assert padim["parameters"] == {"image_size": "32", "n_features": "9"}
    fitted = makellos.Inspector(padim["model"])
    assert fitted.manifest.detector.parameters["image_size"] == 32
    assert fitted.manifest.detector.parameters["n_features"] == 9
    assert fitted.manifest.detector.parameters["max_image_size"] == 256  # of the preset
    assert fitted.manifest.training.seed == 3
    assert fitted.calibration.asked == 0.2
    assert padim["fit"]["n_learned"] == padim["fit"]["n_calibration"] == 30


def test_figures_are_those_of_evaluate(run: Run, toy_parts: Path) -> None:
    for model in run.models:
        entry, alone = run.entry(model.stem), makellos.evaluate(model, toy_parts, seed=3)
        for key in alone.keys() - {"inspect_ms_per_part"}:
            assert entry["figures"][key] == json.loads(json.dumps(alone[key])), key
        assert (run.folder / entry["report"]).is_file()
        assert entry["model_mb"] == pytest.approx(model.stat().st_size / 1e6, abs=1e-3)


def test_inspection_is_measured_in_a_process_without_torch(run: Run) -> None:
    for name in ("padim:fast", "toy", "lenient"):
        inspection = run.entry(name)["inspection"]
        assert inspection["loads_torch"] is False
        assert inspection["n_inspected"] == 20
        assert 0.05 < inspection["first_verdict_seconds"] < 60
        if sys.platform != "win32":
            assert 30 < inspection["peak_mb"] < 1000
    assert run.entry("toy")["fit"] is None
    assert run.entry("padim:fast")["fit"]["loads_torch"] is False


@pytest.mark.needs_torch
def test_a_detector_that_trains_loads_torch_to_fit_alone(toy_parts: Path, toy_model: Path) -> None:
    small = {"vae": {"image_size": 16, "epochs": 1}}
    results = makellos.compare(
        toy_parts, ["vae"], models=[toy_model], parameters=small, false_alarms=0.2
    )
    fitted, inspection = results.entries[0].fit, results.entries[0].inspection
    assert fitted is not None and inspection is not None
    assert (fitted["loads_torch"], inspection["loads_torch"]) == (True, False)
    if sys.platform != "win32":
        assert fitted["peak_mb"] > 1.5 * inspection["peak_mb"]


def test_differences_are_of_the_same_parts(run: Run, toy_parts: Path) -> None:
    found = run.data["differences"][1]
    assert (found["name"], found["against"]) == ("lenient", "toy")
    assert (found["n_good"], found["n_defective"], found["n_groups"]) == (10, 10, None)
    spotted = sorted((toy_parts / "test" / "spotted").glob("*.png"))
    toy, lenient = np.array(
        [
            [makellos.Inspector(model).inspect(path).verdict == "reject" for path in spotted]
            for model in run.models
        ]
    )
    assert found["image_auroc"]["value"] == 0 and found["image_auroc"]["within_chance"]
    assert found["miss_rate"]["value"] == pytest.approx(toy.mean() - lenient.mean())
    assert found["n_found_alone"] == (lenient & ~toy).sum() > 0
    assert found["n_missed_alone"] == 0
    assert "image AUROC is the same as that of toy" in found["sentence"]


def test_files_are_written_and_say_the_same(run: Run) -> None:
    files = {"compare.csv", "compare.html", "compare.json", ".lock", ".run.lock"}
    folders = {"lenient", "padim-fast", "pyod", "toy"}
    assert {path.name for path in run.folder.iterdir()} == files | folders
    assert json.loads((run.folder / "compare.json").read_text(encoding="utf-8")) == run.data
    text = (run.folder / "compare.csv").read_text(encoding="utf-8")
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(text))}
    assert list(rows) == [entry["name"] for entry in run.data["entries"]]
    assert float(rows["toy"]["aupro_5"]) == run.entry("toy")["figures"]["aupro_5"]
    assert rows["pyod"]["image_auroc"] == ""
    assert " ".join(run.data["differences"][1]["sentence"].split()) in run.page()
    assert "budgets differ" in run.page()
    assert "None of them loads PyTorch to inspect" in run.page()


# Steps that need no process: scores of parts in groups, made up.

LABELS = ["good"] * 8 + ["dent"] * 8
GROUPS = [f"g{i // 2}" for i in range(16)]


class Steps:
    """Carry steps out by making up what a process would leave."""

    def __init__(self, scores: dict[str, Sequence[float]], fails: str = "") -> None:
        self.scores, self.fails = scores, fails
        self.done: list[tuple[str, str]] = []
        self.drawn: list[tuple[int | None, int]] = []

    def __call__(self, arguments: Sequence[str], log: Path) -> int:
        task = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
        name = Path(task["model"]).stem
        self.drawn.append((task["n_good"], task["seed"]))
        self.done.append((task["step"], name))
        if self.fails == f"{task['step']} {name}":
            with log.open("a", encoding="utf-8") as stream:
                stream.write("Reading.\nError: No memory left for it.\n")
            return 2
        target = Path(task["result"])
        if task["step"] == "fit":
            Path(task["model"]).write_bytes(b"model of " + name.encode())
            result: dict[str, Any] = {"fit_seconds": 2.0, "notes": []}
        elif task["step"] == "rank":
            result = {"detector": name, "n_good": 8, "n_defective": 8, "image_auroc": 0.6}
        elif task["step"] == "inspect":
            result = {"first_verdict_seconds": 0.5, "n_inspected": 16}
        else:
            result = self.evaluated(name, target)
        target.write_text(json.dumps({**result, "peak_mb": 100.0, "loads_torch": False}))
        return 0

    def evaluated(self, name: str, target: Path) -> dict[str, Any]:
        scores = self.scores[name]
        bad = np.array([label != "good" for label in LABELS])
        figures = {
            "detector": name,
            "n_good": 8,
            "n_defective": 8,
            "image_auroc": float(roc_auc_score(bad, scores)),
            "miss_rate": float(np.mean(np.array(scores)[bad] <= 1)),
            "intervals": {},
            "false_alarms": 0.1,
            "notes": [],
        }
        picture = np.frombuffer(b"\xff\xd8\xff" + name.encode(), np.uint8)
        pictures = {f"{kind}{i}": picture for kind in ("part", "overlay") for i in range(16)}
        np.savez(target.with_name(PICTURES), **pictures)  # type: ignore[arg-type]
        return {
            "figures": figures,
            "parts": [
                {
                    "input": f"{label}/{i}.png",
                    "label": label,
                    "group": GROUPS[i],
                    "score": scores[i],
                    "verdict": "reject" if scores[i] > 1 else "ok",
                    "damage_area": None,
                }
                for i, label in enumerate(LABELS)
            ],
        }


GOOD = [0.1 * i for i in range(8)] + [1.5 + 0.1 * i for i in range(8)]
WORSE = [*GOOD[:8], *([0.35] * 4), *GOOD[12:]]
THIRD = [*GOOD[:8], *GOOD[8:12], *([0.0] * 4)]


def test_best_is_what_others_are_held_against_group_by_group(
    toy_parts: Path, tmp_path: Path
) -> None:
    steps = Steps({"padim": WORSE, "patchcore": GOOD, "pyod": THIRD})
    said: list[str] = []
    results = makellos.compare(
        toy_parts,
        ["padim", "patchcore", "pyod"],
        output=tmp_path,
        execute=steps,
        tell=said.append,
    )
    assert steps.done == [
        (step, name)
        for name in ("padim", "patchcore", "pyod")
        for step in ("fit", "evaluate", "inspect")
    ]
    assert results.against == "patchcore"
    padim, pyod = results.differences
    assert (padim.n_groups, padim.n_missed_alone, padim.n_found_alone) == (8, 4, 0)
    assert padim.image_auroc is not None and padim.image_auroc["value"] == pytest.approx(-0.25)
    assert padim.miss_rate is not None and padim.miss_rate["value"] == pytest.approx(0.5)
    # Two of the four groups of defective parts are missed: drawn whole, 0 to 4 of 4.
    assert padim.miss_rate["interval"] == (0.0, 1.0)
    assert any("few groups (4 with damage, 4 without)" in note for note in results.notes)
    assert "misses 4 that patchcore finds" in padim.sentence
    text = (tmp_path / "compare.csv").read_text(encoding="utf-8")
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(text))}
    assert [rows[name]["miss_rate"] for name in steps.scores] == ["0.5", "0.0", "0.5"]
    assert [rows["padim"][f"miss_difference{end}"] for end in ("", "_low")] == ["0.5", "0.0"]
    assert said[-1] == "[3/3] pyod: done in 0 s, missed 50.0%, image AUROC 0.531"
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "8 defective parts are rejected by some detectors and not by others" in page
    assert page.count('alt="What') == 3 * 8
    assert pyod.n_missed_alone == 4


def test_unreadable_parts_of_one_are_left_out_of_its_difference_alone(toy_parts: Path) -> None:
    steps = Steps({"padim": GOOD, "patchcore": GOOD, "pyod": WORSE})
    made = steps.evaluated

    def evaluated(name: str, target: Path) -> dict[str, Any]:
        result = made(name, target)
        if name == "pyod":
            result["parts"][8].update(score=None, verdict="unreadable")
        return result

    steps.evaluated = evaluated  # type: ignore[method-assign]
    results = makellos.compare(toy_parts, ["padim", "patchcore", "pyod"], execute=steps)
    assert [(each.name, each.n_defective) for each in results.differences] == [
        ("patchcore", 8),
        ("pyod", 7),
    ]


class FewSteps(Steps):
    """Make up figures of fits from few parts: the more, the better, and more to be promised."""

    def evaluated(self, name: str, target: Path) -> dict[str, Any]:
        n_good, draw = (int(word) for word in re.findall(r"\d+", name))
        self.scores[name] = GOOD
        result = super().evaluated(name, target)
        result["figures"] |= {
            "image_auroc": 1 - 1 / (n_good + draw),
            "miss_rate": draw / 4,
            "false_alarm_rate": 0.125,
            "false_alarms": 1 / (n_good + 1),
        }
        return result


def test_fits_from_few_good_parts_are_summed_up_by_number(
    toy_parts: Path, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = FewSteps({})
    monkeypatch.setattr("makellos.workflows.compare.ProcessRunner", lambda *_, **__: steps)
    arguments = ["--detectors", "patchcore", "--n-good", "16,1,4", "--draws", 2, "--seed", 5]
    told = cli("compare", toy_parts, *arguments, "-o", tmp_path, "--json", "-")
    assert told.code == 0, told.err
    found = json.loads(told.out)
    rows = found["few_good"]
    assert [(each["n_good"], each["n_draws"]) for each in rows] == [(1, 2), (4, 2), (16, 2)]
    assert [each["false_alarms"] for each in rows] == [None, 0.2, pytest.approx(1 / 17)]
    assert rows[0]["miss_rate"] is None and rows[0]["image_auroc"]["mean"] == 0.6
    assert rows[1]["miss_rate"] == {"mean": 0.375, "lowest": 0.25, "highest": 0.5}
    assert rows[2]["image_auroc"]["highest"] == pytest.approx(1 - 1 / 18)
    assert steps.done[:3] == [
        ("rank", "patchcore-1-good-1"),
        ("rank", "patchcore-1-good-2"),
        ("fit", "patchcore-4-good-1"),
    ]
    assert ("inspect", "patchcore-4-good-1") not in steps.done
    assert set(steps.drawn) == {(n, seed) for n in (1, 4, 16) for seed in (5, 6)}
    assert found["differences"] == [] and found["against"] is None
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    seen = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "Missed by patchcore 37.5 % with 16 good parts" in seen
    assert f"1 nothing {MISSING} {MISSING} 0.600 0.600 to 0.600 4 20 % 37.5 % 25 % to 50 %" in seen
    assert page.count('class="promise"') == 1 and 'id="disputed"' not in page
    assert "can promise" in told.err
    assert "37.5 % (25 % to 50 %)" in " ".join(told.err.split())


def test_few_good_parts_are_fitted_and_ranked_by_real_processes(toy_parts: Path) -> None:
    results = makellos.compare(
        toy_parts, ["padim"], n_good=[2, 4], draws=1, parameters={"padim": {"image_size": 32}}
    )
    assert [entry.state for entry in results.entries] == ["done", "done"], results.entries
    two, four = results.few_good
    assert (two.false_alarms, four.false_alarms) == (None, pytest.approx(0.2))
    assert two.image_auroc is not None and 0 <= two.image_auroc.mean <= 1
    assert results.entries[1].fit is not None and results.entries[1].fit["n_learned"] == 4


@pytest.mark.parametrize("step", ["fit", "evaluate", "inspect"])
def test_whatever_step_fails_is_named(toy_parts: Path, tmp_path: Path, step: str) -> None:
    steps = Steps({"padim": GOOD, "patchcore": WORSE}, fails=f"{step} padim")
    results = makellos.compare(toy_parts, ["padim", "patchcore"], output=tmp_path, execute=steps)
    padim, patchcore = results.entries
    assert (padim.state, padim.reason) == ("failed", f"{step}: No memory left for it.")
    assert patchcore.state == "done"
    assert results.against == "patchcore"
    assert results.differences == []


def test_what_is_done_is_written_when_the_next_is_interrupted(
    toy_parts: Path, tmp_path: Path
) -> None:
    steps = Steps({"padim": GOOD})

    def execute(arguments: Sequence[str], log: Path) -> int:
        if len(steps.done) == 3:
            raise KeyboardInterrupt
        return steps(arguments, log)

    with pytest.raises(KeyboardInterrupt):
        makellos.compare(toy_parts, ["padim", "patchcore"], output=tmp_path, execute=execute)
    data = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"))
    assert [entry["state"] for entry in data["entries"]] == ["done", "waiting"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detectors", "patchcor,padim"], "patchcore"),
        (["--detectors", "patchcore"], "at least two; received only 'patchcore'"),
        ([], "at least two; received none"),
        (["--detectors", "patchcore,patchcore"], "patchcore is named twice"),
        (["--detectors", "patchcore,padim:quick"], "quick"),
        (["--detectors", "patchcore,padim", "--set", "image_size=64"], "DETECTOR.KEY=VALUE"),
        (["--detectors", "patchcore,padim", "--set", "vae.epochs=2"], "'vae', which is not"),
        (["--detectors", "patchcore,padim", "--set", "padim.image_side=64"], "image_size"),
        (["--detectors", "patchcore,padim", "--against", "padm"], "Did you mean 'padim'"),
        (["--detectors", "patchcore,nowhere.makellos"], "nowhere.makellos does not exist"),
        (["--detectors", "patchcore,padim", "--false-alarms", "2"], "2"),
        (["--detectors", "patchcore,padim", "--seed", "-1"], "seed is -1"),
        (["--detectors", "patchcore", "--n-good", "4,many"], "whole numbers with commas"),
        (["--detectors", "patchcore", "--n-good", "0,4"], "good parts is 0; expected"),
        (["--detectors", "patchcore", "--n-good", "4,31"], "has 30 good parts to learn from, few"),
        (["--n-good", "4,31"], "has 30 good parts to learn from, few"),
        (["--detectors", "patchcore", "--n-good", "4", "--draws", "0"], "draws is 0; expected 1"),
    ],
)
def test_wrong_usage_is_explained_before_anything_is_fitted(
    toy_parts: Path, tmp_path: Path, cli: Callable[..., Any], arguments: list[str], message: str
) -> None:
    told = cli("compare", toy_parts, *arguments, "-o", tmp_path / "out")
    assert told.code == 2
    assert message in told.err
    assert not (tmp_path / "out").exists()


def test_what_this_install_cannot_fit_is_said_before_anything_is_fitted(
    toy_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(makellos.PaDiM, "packages", lambda _: ("no_such_package",))
    with pytest.raises(MissingRuntimeError, match=r"no_such_package, .*\.\[train\]"):
        makellos.compare(toy_parts, ["patchcore", "padim"], output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_data_and_outputs_are_refused(
    toy_parts: Path, toy_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(toy_parts / "train", tmp_path / "parts" / "train")
    with pytest.raises(InputError, match="has no test parts"):
        makellos.compare(tmp_path / "parts", ["patchcore", "padim"])
    shutil.copytree(toy_parts / "test", tmp_path / "tested" / "test")
    with pytest.raises(InputError, match="no good parts to learn from"):
        makellos.compare(tmp_path / "tested", ["patchcore", "padim"])
    (tmp_path / "compare.json").write_text("{}")
    with pytest.raises(StorageError, match="it is left alone"):
        makellos.compare(toy_parts, ["patchcore", "padim"], output=tmp_path)
    with pytest.raises(ConfigurationError, match="named twice"):
        makellos.compare(toy_parts, models=[toy_model, toy_model])


def test_two_comparisons_do_not_share_a_folder(toy_parts: Path, tmp_path: Path) -> None:
    steps = Steps({"patchcore": GOOD, "padim": GOOD})

    def again(arguments: Sequence[str], log: Path) -> int:
        with pytest.raises(StorageError, match="Another comparison is running in"):
            makellos.compare(toy_parts, ["patchcore", "padim"], output=tmp_path, execute=steps)
        return steps(arguments, log)

    makellos.compare(toy_parts, ["patchcore", "padim"], output=tmp_path, execute=again)
    makellos.compare(toy_parts, ["patchcore", "padim"], output=tmp_path, execute=steps)


def test_runs_keep_the_folder_locked_when_their_comparison_is_killed(
    toy_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []

    def runner(inherited: BinaryIO, *, module: str) -> Steps:
        held.append((Path(inherited.name), module))
        return Steps({"patchcore": GOOD, "padim": GOOD})

    monkeypatch.setattr("makellos.workflows.compare.ProcessRunner", runner)
    makellos.compare(toy_parts, ["patchcore", "padim"], output=tmp_path)
    assert held == [(tmp_path / ".run.lock", "makellos.workflows.compare_steps")]
    told: list[str] = []
    folder = ResultsFolder(tmp_path, "comparison", "another folder")
    with (tmp_path / ".run.lock").open("ab") as left:
        lock_descriptor(left.fileno())
        threading.Timer(0.3, left.close).start()
        with folder.alone(told.append):
            pass
    assert told == [
        f"A run that a killed comparison left in {tmp_path} is still going; waiting for it."
    ]


def test_folder_that_cannot_be_used_costs_itself_alone(toy_parts: Path, tmp_path: Path) -> None:
    (tmp_path / "padim").write_text("a file")
    steps = Steps({"patchcore": GOOD})
    results = makellos.compare(toy_parts, ["padim", "patchcore"], output=tmp_path, execute=steps)
    assert [entry.state for entry in results.entries] == ["failed", "done"]
    assert "padim cannot be used: " in str(results.entries[0].reason)


def test_model_that_a_fit_would_replace_is_kept(
    toy_model: Path, toy_parts: Path, tmp_path: Path
) -> None:
    steps = Steps({"patchcore": GOOD, "toy": GOOD})
    makellos.compare(toy_parts, ["patchcore"], models=[toy_model], output=tmp_path, execute=steps)
    before = tmp_path / "patchcore" / "patchcore.makellos"
    shutil.copy(toy_model, before)
    with pytest.raises(ConfigurationError, match="would be replaced by the fit of patchcore"):
        makellos.compare(toy_parts, ["patchcore"], models=[before], output=tmp_path)
    assert before.read_bytes() == toy_model.read_bytes()


def test_models_of_one_name_are_told_apart(
    toy: ModuleType, toy_model: Path, toy_parts: Path, tmp_path: Path
) -> None:
    twin = shutil.copy(toy_model, tmp_path / toy_model.name)
    steps = Steps({"toy": GOOD})
    results = makellos.compare(toy_parts, models=[toy_model, twin], execute=steps)
    assert [entry.name for entry in results.entries] == ["toy", "toy-2"]
