"""Queues of fits: mistakes told with their lines, what a second start does, what runs leave."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from makellos.detectors.vae import VAE
from makellos.errors import ConfigurationError, InputError, MissingRuntimeError, StorageError
from makellos.jobs.processes import ProcessRunner, failure
from makellos.jobs.queue_plan import read_plan
from makellos.jobs.records import ResultsFolder
from makellos.reports.queue import QueueReport, render_queue
from makellos.reports.ranked import ComparedRun
from makellos.training import Training
from makellos.workflows.fit import fit
from makellos.workflows.queue import QueueResults, plan_queue, queue

SMALL_VAE = "detector: vae, set: {image_size: 16, epochs: 1, batch_size: 4}, false_alarms: 0.2"


def write_parts(folder: Path, *, n: int = 12, n_test: int = 4) -> Path:
    """Write gray parts: good ones to learn from, good and spotted ones to test."""
    rng = np.random.default_rng(0)
    counts = {"train/good": n, "test/good": n_test, "test/spot": n_test}
    for kind, count in counts.items():
        if count:
            (folder / kind).mkdir(parents=True)
        for i in range(count):
            picture = rng.normal(128, 6, (32, 32))
            if kind.endswith("spot"):
                picture[8:16, 8:16] += 60
            image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
            image.save(folder / kind / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what a VAE trains with as installed: the processes that need it are made up."""
    monkeypatch.setattr(VAE, "packages", lambda self: ())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with data: `parts` to learn from and test, `good` without tests."""
    write_parts(tmp_path / "parts")
    write_parts(tmp_path / "good", n_test=0)
    return tmp_path


@pytest.fixture
def write(place: Path) -> Callable[[str], Path]:
    """Return a function that writes a queue's file."""

    def write(text: str) -> Path:
        (place / "runs.yaml").write_text(text, encoding="utf-8")
        return place / "runs.yaml"

    return write


class Clock:
    """Give moments that lie a second apart."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment


class Makellos:
    """Stand for the processes: keep the commands, leave what a verb would leave.

    `says` maps ``fit NAME`` or ``evaluate NAME`` to the exit code and output of a failure, or to
    an exception.
    """

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.says: dict[str, tuple[int, str] | BaseException] = {}
        self.auroc = 0.9

    @property
    def verbs(self) -> list[str]:
        return [f"{words[0]} {self.model(words).stem}" for words in self.commands]

    def model(self, words: Sequence[str]) -> Path:
        return Path(words[words.index("-o") + 1] if words[0] == "fit" else words[1])

    def __call__(self, arguments: Sequence[str], log: Path) -> int:
        self.commands.append(list(arguments))
        model, target = self.model(arguments), Path(arguments[arguments.index("--json") + 1])
        said = self.says.get(f"{arguments[0]} {model.stem}")
        if isinstance(said, BaseException):
            raise said
        if said is not None:
            with log.open("a", encoding="utf-8") as stream:
                stream.write(said[1])
            return said[0]
        if arguments[0] == "fit":
            model.write_bytes(b"model")
            target.write_text(json.dumps({"fit_seconds": 2.5}))
            return 0
        figures = {
            "image_auroc": self.auroc,
            "miss_rate": 0.2,
            "false_alarm_rate": 0.1,
            "accuracy": 0.85,
            "inspect_ms_per_part": 3.0,
            "intervals": {"image_auroc": [self.auroc - 0.1, min(1, self.auroc + 0.05)]},
            "notes": [],
        }
        target.write_text(json.dumps(figures))
        (target.parent / "report.html").write_text("<html></html>")
        return 0


@pytest.fixture
def makellos() -> Makellos:
    return Makellos()


@pytest.fixture
def start(place: Path, makellos: Makellos) -> Callable[..., QueueResults]:
    """Return a function that starts the queue of a file's text."""

    def start(text: str | None = None, **options: Any) -> QueueResults:
        if text is not None:
            (place / "runs.yaml").write_text(text, encoding="utf-8")
        makellos.commands.clear()
        return queue(place / "runs.yaml", execute=makellos, clock=Clock(), **options)

    return start


def mistakes(file: Path) -> list[str]:
    """Return the lines that name the mistakes of a file."""
    with pytest.raises(ConfigurationError) as caught:
        read_plan(file)
    head, *lines = str(caught.value).splitlines()
    assert re.fullmatch(rf"{re.escape(str(file))} has .* Correct the lines?:", head)
    return [line.strip() for line in lines if line.startswith("  line")]


# What the file says


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("runs:\n  - {data: nowhere}", 2, "nowhere does not exist"),
        ("runs:\n  - {data: runs.yaml}", 2, "not a CSV manifest"),
        ("runs:\n  - detector: vae", 2, "the run has no data"),
        ("runs:\n  - data:\n    detector: vae", 2, "the run has no data"),
        ("runs:\n  - data: [a]", 2, "data is a list; expected text"),
        ("runs:\n  - data: good\n    evaluate: true", 3, "has no test parts"),
        ("runs:\n  - data: parts\n    detektor: vae", 3, "a run has no key 'detektor'. Did you"),
        ("runs:\n  - data: parts\n    detector: patchcor", 3, "Did you mean 'patchcore'?"),
        ("runs:\n  - data: parts\n    preset: fsat", 3, "Did you mean 'fast'?"),
        ("runs:\n  - data: parts\n    set: 3", 3, "set is '3'; expected lines of"),
        ("runs:\n  - data: parts\n    set:\n      size: 3", 4, "patchcore has no parameter 'size'"),
        ("runs:\n  - data: parts\n    set:\n      image_size: -1", 4, "image_size is '-1'"),
        ("runs:\n  - data: parts\n    set:\n      image_size: [1]", 4, "image_size in set is a l"),
        (
            "runs:\n  - data: parts\n    detector: vae\n    set:\n      network: x",
            5,
            "network is 'x'; expected",
        ),
        ("runs:\n  - data: parts\n    config: no.json", 3, "no.json does not exist"),
        ("runs:\n  - data: parts\n    config: list.json", 3, "must hold an object"),
        ("runs:\n  - data: parts\n    config: bad.json", 3, "has no parameter 'colour'"),
        ("runs:\n  - data: parts\n    false_alarms: 0.6", 3, "budget is 0.6; expected a share"),
        ("runs:\n  - data: parts\n    false_alarms: 0", 3, "budget is 0; expected a share"),
        ("runs:\n  - data: parts\n    false_alarms: few", 3, "'few'; expected a share"),
        ("runs:\n  - data: parts\n    false_alarms: '0.1'", 3, "'0.1'; expected a share"),
        ("runs:\n  - data: parts\n    seed: -1", 3, "The seed is -1"),
        ("runs:\n  - data: parts\n    seed: 1.5", 3, "seed is '1.5'; expected a whole number"),
        ("runs:\n  - data: parts\n    device: gpu", 3, "There is no device 'gpu'"),
        ("runs:\n  - data: parts\n    device: cuda", 3, "patchcore trains no network"),
        ("runs:\n  - data: parts\n    white_level: 70000", 3, "The white level is 70000"),
        ("runs:\n  - data: parts\n    evaluate: maybe", 3, "'maybe'; expected true or false"),
        ("runs:\n  - data: parts\n    evaluate: 1", 3, "'1'; expected true or false"),
        ("runs:\n  - data: parts\n    name: a/b", 3, "it contains '/'"),
        ("runs:\n  - data: parts\n    name: ..", 3, "it begins with a dot"),
        ("runs:\n  - data: parts\n    name: CON", 3, "the name is reserved"),
        ("runs:\n  - data: parts\n    name: results.json", 3, "the name is reserved"),
        (f"runs:\n  - data: parts\n    name: {'x' * 101}", 3, "longer than 100 characters"),
        ('runs:\n  - data: parts\n    name: "a\\0"', 3, "expected text"),
        ("runs:\n  - data: parts\n    data: parts", 3, "data is given twice, first in line 2"),
        ("runs:\n  - data: parts\n  - data: ./parts/", 3, "too. Give the run a name."),
        (
            "runs:\n  - {data: parts, name: A}\n  - {data: good, name: a}",
            3,
            "run in line 2 has the name",
        ),
        ("runs: [{data: parts}, {data: parts}]", 1, "run in line 1 has the name"),
        ("runs:\n  -\n  - data: parts", 2, "a run is empty"),
        ("runs:\n  - parts", 2, "a run is 'parts'; expected lines of 'key: value'"),
        ("runs:\n  - [a]: 1\n    data: parts", 2, "a list is not a key"),
        ("runs: []", 1, "there are no runs"),
        ("runs: parts", 1, "there are no runs"),
        ("output: night", 1, "there are no runs"),
        ("", 1, "the file is empty"),
        ("- data: parts", 1, "the file is a list"),
        ("runs:\n  - data: parts\njobs: 2", 3, "the file has no key 'jobs'"),
        ("runs:\n  - data: parts\noutput: runs.yaml", 3, "is a file"),
        ("runs:\n  - data: parts\noutput: runs.yaml/night", 3, "runs.yaml is a file"),
        ("defaults:\n  name: x\nruns:\n  - data: parts", 2, "defaults has no key 'name'"),
        ("defaults:\n  seed: a\nruns:\n  - data: parts", 2, "seed is 'a'"),
        ("defaults:\n  seed: -2\nruns:\n  - data: parts\n  - data: good", 2, "The seed is -2"),
        ("runs:\n  - data: parts\n   detector: vae", 3, "not valid YAML"),
        ("runs:\n\t- data: parts", 2, "not valid YAML: found character '\\t'"),
        ("runs:\n  - data: 'parts", 2, "not valid YAML"),
        ("runs:\n  - data: *parts", 2, "not valid YAML: found undefined alias"),
        ("runs:\n  - data: parts\n---\nruns: 1", 3, "not valid YAML"),
        ("runs:\n  - data: pa\x07rts", 2, "YAML does not allow the character '\\x07'"),
        ("[" * 5000, 1, "nested too deeply"),
    ],
)
def test_a_mistake_is_named_with_its_line(
    write: Callable[[str], Path], place: Path, text: str, line: int, told: str
) -> None:
    (place / "list.json").write_text("[1]")
    (place / "bad.json").write_text('{"colour": 1}')
    found = mistakes(write(text))
    assert len(found) == 1, found
    assert found[0].startswith(f"line {line}: ")
    assert told in found[0]
    assert not (place / "night").exists()


def test_what_this_install_cannot_fit_is_a_mistake(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VAE, "packages", lambda _: ("no_such_package",))
    (told,) = mistakes(write("runs:\n  - data: parts\n  - data: good\n    detector: vae"))
    assert told.startswith("line 4: This needs no_such_package, ")
    assert "'.[train]' in the clone" in told


@pytest.mark.needs_torch
@pytest.mark.parametrize("detector", ["patchcore", "padim", "discriminative", "classifier"])
def test_networks_that_cannot_be_had_are_mistakes(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, detector: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = f"runs:\n  - data: parts\n    detector: {detector}\n    set:\n      "
    for setting, reason in (
        ("backbone: vgg61", "There is no backbone 'vgg61'. Did you mean 'vgg"),
        ("backbone: mobilenetv3_small_050", "HF_HUB_OFFLINE is set"),
        ("backbone: resnet10t_unpublished", "There is no backbone"),
        ("weights: gone.safetensors", "gone.safetensors do not exist"),
    ):
        (told,) = mistakes(write(run + setting))
        assert reason in told


def test_text_that_is_not_utf_8_is_named_with_its_line(place: Path) -> None:
    (place / "runs.yaml").write_bytes("runs:\n  - data: größe".encode("latin-1"))
    assert "not UTF-8" in mistakes(place / "runs.yaml")[0]
    assert mistakes(place / "runs.yaml")[0].startswith("line 2: ")


def test_missing_file_and_missing_yaml(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no\.yaml does not exist"):
        read_plan(place / "no.yaml")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingRuntimeError, match="yaml"):
        read_plan(place / "runs.yaml")


ALL_WRONG = """\
output: night
runs:
  - data: nowhere
    detector: vae
    set: {epochs: -1}
  - data: parts
    detector: patchcor
    seed: -3
    jobs: 2
  - {data: parts, name: fine}
"""


def test_all_mistakes_are_named_at_once(write: Callable[[str], Path], place: Path) -> None:
    file = write(ALL_WRONG)
    assert [line.partition(":")[0] for line in mistakes(file)] == [
        *("line 3", "line 5", "line 7", "line 8", "line 9")
    ]
    with pytest.raises(ConfigurationError, match=r"5 mistakes.*--keep-going"):
        raise_flat(file)
    plan = read_plan(file, keep_going=True)
    assert [run.job is not None for run in plan.runs] == [False, False, True]


def raise_flat(file: Path) -> None:
    """Raise the error of a file in one line."""
    try:
        read_plan(file)
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace("\n", " ")) from None


def test_keep_going_needs_a_run_without_mistakes(write: Callable[[str], Path]) -> None:
    file = write("runs:\n  - data: nowhere")
    with pytest.raises(ConfigurationError, match="does not exist") as caught:
        read_plan(file, keep_going=True)
    assert "--keep-going" not in str(caught.value)
    file = write("runs:\n  - data: nowhere\n  - data: parts\njobs: 2")
    with pytest.raises(ConfigurationError, match="2 mistakes"):
        read_plan(file, keep_going=True)


def test_entries_become_commands(
    start: Callable[..., QueueResults], makellos: Makellos, place: Path
) -> None:
    (place / "best.json").write_text('{"latent_dim": 5}')
    start(
        "defaults: {false_alarms: 2e-1, detector: vae, set: {epochs: 3, beta: 2}}\n"
        "runs:\n"
        "  - data: parts\n"
        "    set: {epochs: 1e1}\n"
        "  - {name: deep, data: good, preset: fast, seed: 4, device: cpu, config: best.json,\n"
        "     set: {epochs: 5}, white_level: 4095, skip_unreadable: yes}\n".replace("1e1", "10")
    )
    fit_one, evaluate, fit_two = makellos.commands
    folder = place / "runs"
    model = str(folder / "parts-vae" / "parts-vae.makellos")
    assert fit_one == [
        *("fit", str((place / "parts").resolve()), "-o", model, "--detector", "vae"),
        *("--preset", "balanced", "--false-alarms", "0.2", "--seed", "0", "--device", "auto"),
        *("--set", "epochs=10", "--set", "beta=2"),
        *("--json", str(folder / "parts-vae" / "fit.json")),
    ]
    assert evaluate[:3] == ["evaluate", model, str((place / "parts").resolve())]
    assert evaluate[3:5] == ["-o", str(folder / "parts-vae")]
    assert fit_two[fit_two.index("--preset") + 1] == "fast"
    assert fit_two[fit_two.index("--config") + 1] == str((place / "best.json").resolve())
    assert fit_two[fit_two.index("--seed") + 1] == "4"
    assert fit_two[fit_two.index("--white-level") + 1] == "4095"
    assert "--skip-unreadable" in fit_two


# What a start does

THREE = """\
output: night
runs:
  - {name: one, data: parts, detector: vae}
  - {name: two, data: parts}
  - {name: three, data: good}
"""


def states(results: QueueResults) -> list[str]:
    return [record.state for record in results.runs]


def stored(place: Path) -> dict[str, Any]:
    return dict(json.loads((place / "night" / "results.json").read_text(encoding="utf-8")))


def test_a_failed_run_costs_itself_alone(
    start: Callable[..., QueueResults], makellos: Makellos, place: Path
) -> None:
    makellos.says["fit one"] = (2, "learning\nError: training diverged.\nTake a lower rate.\n")
    makellos.says["evaluate two"] = (-9, "")
    told: list[str] = []
    results = start(THREE, tell=told.append)
    assert states(results) == ["failed", "failed", "done"]
    assert results.runs[0].reason == "fit: training diverged.\nTake a lower rate."
    assert results.runs[1].reason == "evaluate: killed by signal 9 (out of memory?)"
    assert results.runs[2].fit == {"fit_seconds": 2.5}
    assert results.runs[2].figures is None  # no test parts, nothing to evaluate on
    assert stored(place) == results.model_dump(mode="json")
    assert told[1] == "[1/3] one: failed, fit: training diverged.\nTake a lower rate."
    log = (place / "night" / "one" / "log.txt").read_text(encoding="utf-8")
    assert "$ makellos fit " in log
    assert "Error: training diverged." in log
    page = (place / "night" / "queue.html").read_text(encoding="utf-8")
    assert "training diverged." in page


def test_second_start_skips_what_is_done_and_tries_what_failed(
    start: Callable[..., QueueResults], makellos: Makellos
) -> None:
    makellos.says["fit one"] = (2, "Error: no room.\n")
    makellos.says["evaluate two"] = (2, "Error: a mask is broken.\n")
    start(THREE)
    makellos.says.clear()
    results = start()
    assert makellos.verbs == ["fit one", "evaluate one", "evaluate two"]  # two is fitted already
    assert "--resume" not in makellos.commands[0]
    assert states(results) == ["done"] * 3
    assert results.runs[0].reason is None
    assert results.runs[1].report == "two/report.html"
    again = start()
    assert makellos.commands == []
    assert again.runs == results.runs


@pytest.mark.parametrize(
    ("change", "runs_again"),
    [
        ("{name: two, data: parts, seed: 1}", True),
        ("{name: two, data: good}", True),
        ("{name: two, data: parts, set: {image_size: 64}}", True),
        ("{name: two, data: parts, false_alarms: 0.1}", True),
        ("{name: two, data: parts, detector: padim}", True),
        ("{name: two, data: ./parts, seed: 0, preset: balanced, detector: patchcore}", False),
        ("{name: two, data: parts, evaluate: false}", False),
    ],
)
def test_changed_entry_runs_again(
    start: Callable[..., QueueResults], makellos: Makellos, change: str, runs_again: bool
) -> None:
    start(THREE)
    results = start(THREE.replace("{name: two, data: parts}", change))
    assert ("fit two" in makellos.verbs) is runs_again
    assert {verb.partition(" ")[2] for verb in makellos.verbs} <= {"two"}
    assert states(results) == ["done"] * 3


def test_evaluation_that_is_asked_for_later_needs_no_fit(
    start: Callable[..., QueueResults], makellos: Makellos
) -> None:
    start("output: night\nruns:\n  - {name: one, data: parts, evaluate: false}")
    assert makellos.verbs == ["fit one"]
    results = start("output: night\nruns:\n  - {name: one, data: parts}")
    assert makellos.verbs == ["evaluate one"]
    assert (results.runs[0].figures or {})["image_auroc"] == 0.9


def test_model_that_is_gone_is_fitted_again(
    start: Callable[..., QueueResults], makellos: Makellos, place: Path
) -> None:
    start(THREE)
    (place / "night" / "two" / "two.makellos").unlink()
    start()
    assert makellos.verbs == ["fit two", "evaluate two"]


def test_run_that_was_left_out_for_a_while_is_still_known(
    start: Callable[..., QueueResults], makellos: Makellos
) -> None:
    start(THREE)
    without = "".join(line for line in THREE.splitlines(keepends=True) if "two" not in line)
    assert [record.name for record in start(without).others] == ["two"]
    start(THREE)
    assert makellos.commands == []


def test_interrupted_training_goes_on(
    start: Callable[..., QueueResults], makellos: Makellos, place: Path
) -> None:
    makellos.says["fit one"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        start(THREE)
    assert [run["state"] for run in stored(place)["runs"]] == ["waiting"] * 3
    run = place / "night" / "one" / "one.makellos.run"
    run.mkdir()
    makellos.says.clear()
    start_without_checkpoint = plan_queue(place / "runs.yaml")[1]
    assert [step.todo for step in start_without_checkpoint] == ["fit"] * 3
    (run / "last.safetensors").touch()
    assert [step.todo for step in plan_queue(place / "runs.yaml")[1]] == ["resume", "fit", "fit"]
    start()
    assert "--resume" in makellos.commands[0]
    assert "--resume" not in makellos.commands[2]


def test_killed_queue_goes_on_and_a_changed_entry_begins_anew(
    start: Callable[..., QueueResults], makellos: Makellos, place: Path
) -> None:
    class KilledError(BaseException):
        pass

    makellos.says["fit one"] = KilledError()
    with pytest.raises(KilledError):
        start(THREE)
    assert [run["state"] for run in stored(place)["runs"]] == ["running", "waiting", "waiting"]
    run = place / "night" / "one" / "one.makellos.run"
    run.mkdir()
    (run / "last.safetensors").touch()
    changed = THREE.replace("detector: vae", "detector: vae, set: {epochs: 9}")
    (place / "runs.yaml").write_text(changed)
    assert plan_queue(place / "runs.yaml")[1][0].todo == "fit"
    (place / "runs.yaml").write_text(THREE)
    assert plan_queue(place / "runs.yaml")[1][0].todo == "resume"


def test_model_of_another_entry_is_not_taken_for_this_one(
    start: Callable[..., QueueResults], makellos: Makellos, place: Path
) -> None:
    start(THREE)
    makellos.says["fit two"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        start(THREE.replace("{name: two,", "{name: two, seed: 5,"))
    makellos.says.clear()
    start()  # the model of seed 0 is still there
    assert makellos.verbs == ["fit two", "evaluate two"]


@pytest.mark.parametrize("broken_off", [(-9, ""), (130, "\nInterrupted.\n")])
def test_checkpoint_that_cannot_be_used_any_more_begins_anew(
    start: Callable[..., QueueResults], makellos: Makellos, place: Path, broken_off: tuple[int, str]
) -> None:
    makellos.says["fit one"] = broken_off
    assert start(THREE).runs[0].resumable
    run = place / "night" / "one" / "one.makellos.run"
    run.mkdir()
    (run / "last.safetensors").touch()
    makellos.says["fit one"] = (2, "Error: another run. Fit without --resume to start over.\n")
    results = start()
    fits = [words for words in makellos.commands if words[0] == "fit"]
    assert ["--resume" in words for words in fits] == [True, False]
    assert states(results)[0] == "failed"
    assert not results.runs[0].resumable


def test_keep_going_records_what_is_wrong(
    start: Callable[..., QueueResults], makellos: Makellos
) -> None:
    results = start(ALL_WRONG, keep_going=True)
    assert states(results) == ["failed", "failed", "done"]
    assert makellos.verbs == ["fit fine", "evaluate fine"]
    assert results.runs[0].reason is not None
    assert results.runs[0].reason.startswith("line 3: ")
    assert "line 5: vae: epochs is '-1'" in results.runs[0].reason


def test_results_of_something_else_are_left_alone(
    start: Callable[..., QueueResults], makellos: Makellos, place: Path
) -> None:
    (place / "night").mkdir()
    (place / "night" / "results.json").write_text('{"mine": 1}')
    with pytest.raises(StorageError, match="left alone"):
        start(THREE)
    assert [path.name for path in (place / "night").iterdir()] == ["results.json"]
    assert makellos.commands == []


def test_folder_of_a_run_that_cannot_be_used(
    start: Callable[..., QueueResults], place: Path
) -> None:
    (place / "night").mkdir()
    (place / "night" / "two").write_text("a file")
    results = start(THREE)
    assert states(results) == ["done", "failed", "done"]
    assert "cannot be used" in str(results.runs[1].reason)


def test_two_queues_do_not_share_a_folder(start: Callable[..., QueueResults], place: Path) -> None:
    another = pytest.raises(StorageError, match="Another queue is running")
    folder = ResultsFolder(place / "night", "queue", "another 'output'")
    with folder.alone(lambda text: None), another:
        start(THREE)
    start(THREE)


@pytest.mark.parametrize(
    ("code", "told", "reason"),
    [
        (2, "a\nError: first.\nb\nError: last\n  line two.\n", "last\n  line two."),
        (70, "Unexpected error: X: y\nThis is", "Unexpected error: X: y\nThis is"),
        (1, "Fatal Python error\nsegmentation\n\n", "segmentation"),
        (1, "", "ended with exit code 1 and said nothing"),
        (-9, "Error: no", "killed by signal 9 (out of memory?)"),
        (-15, "", "killed by signal 15 (SIGTERM)"),
        (130, "\nInterrupted.\n", "stopped before it was done"),
        (-99, "", "killed by signal 99 (unknown)"),
    ],
)
def test_reason_of_a_failure(code: int, told: str, reason: str) -> None:
    assert failure(code, told) == reason


def test_process_writes_its_output_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    assert ProcessRunner()(["info", "größe.makellos"], log) == 2
    before, error = log.read_text(encoding="utf-8").splitlines()
    assert before == "before"
    assert error.startswith("Error: größe.makellos does not exist")


@pytest.mark.needs_torch
def test_training_that_was_broken_off_goes_on_in_a_process(place: Path) -> None:
    """Break a training off with a checkpoint, and see the next start keep its epochs."""
    file = place / "runs.yaml"
    file.write_text(f"output: night\nruns:\n  - {{name: vae, data: good, {SMALL_VAE}}}\n")
    settings = {"image_size": 16, "epochs": 1, "batch_size": 4}

    def break_off(arguments: Sequence[str], log: Path) -> int:
        n_steps = 0

        def progress(what: str, done: int, total: int | None) -> None:
            nonlocal n_steps
            n_steps += what.startswith("training")
            if n_steps == 2:
                raise KeyboardInterrupt

        data, model = Path(arguments[1]), Path(arguments[3])
        where = Training(checkpoint_seconds=0, device="cpu")
        options: dict[str, Any] = {"parameters": settings, "false_alarms": 0.2}
        fit(data, model, detector="vae", training=where, progress=progress, **options)
        return 0

    with pytest.raises(KeyboardInterrupt):
        queue(file, execute=break_off)
    assert plan_queue(file)[1][0].todo == "resume"
    results = queue(file)
    assert states(results) == ["done"]
    log = (place / "night" / "vae" / "log.txt").read_text(encoding="utf-8")
    assert log.count("--resume") == 1
    assert plan_queue(file)[1][0].todo == "nothing"


# The page


def compared(name: str, auroc: float | None = None, **changes: Any) -> ComparedRun:
    spread = None if auroc is None else [auroc - 0.02, auroc + 0.005]
    figures = {
        "image_auroc": auroc,
        "miss_rate": None if auroc is None else 1 - auroc,
        "false_alarms": 0.01,
        "intervals": {"image_auroc": spread, "miss_rate": spread and [1 - x for x in spread[::-1]]},
    }
    options: dict[str, Any] = {
        "data": "screws",
        "detector": "vae",
        "settings": "",
        "state": "done",
        "reason": None,
        "report": None if auroc is None else f"{name}/report.html",
        "log": f"{name}/log.txt",
        "fit_seconds": 10.0,
        "figures": {} if auroc is None else figures,
    }
    return ComparedRun(name=name, **options | changes)


def rendered(*runs: ComparedRun) -> str:
    return render_queue(QueueReport("night", "runs.yaml", "today", runs))


def test_page_ranks_and_links_and_asks_for_nothing() -> None:
    page = rendered(
        compared("low", 0.8),
        compared("best run", 0.95),
        compared("near", 0.94),
        compared("plain"),
        compared("bad", state="failed", reason="fit: <no> room", fit_seconds=None),
    )
    body = page[page.index('<table class="sortable') :]
    places = [body.index(f">{name}</a>") for name in ("best run", "near", "low", "plain", "bad")]
    assert places == sorted(places)
    assert 'href="best%20run/report.html"' in page
    assert 'href="plain/log.txt"' in page
    assert "fit: &lt;no&gt; room" in page
    assert "best run is ahead; the intervals do not say whether it is better than" in page
    assert "cannot be told apart" not in page
    assert "overlapping bars do not mean that they are equal" in page
    assert not re.search(r'(?:src|href)="(?:https?:|//)', page)
    assert "<b>4</b>" in page
    assert "prefers-color-scheme: dark" in page


def missing(name: str, missed: float, auroc: float, budget: float = 0.01) -> ComparedRun:
    span = [missed / 2, min(1.0, 2 * missed)]
    figures = {"miss_rate": missed, "image_auroc": auroc, "false_alarms": budget}
    return compared(name, auroc, figures={**figures, "intervals": {"miss_rate": span}})


def order_of(page: str) -> list[str]:
    body = page[page.index('<table class="sortable') :]
    return re.findall(r"<tr><td><a [^>]*>([^<]+)</a>", body)


def test_fewest_missed_comes_first_and_auroc_decides_between_equal_ones() -> None:
    page = rendered(missing("b", 0.2, 0.99), missing("c", 0.1, 0.8), missing("a", 0.1, 0.9))
    assert order_of(page) == ["a", "c", "b"]
    assert '<span class="verb">Fewest missed</span> <b>10\u202f%</b>' in page
    assert "a misses no fewer than c, and ranks parts better; the intervals do not say" in page
    assert "The run that misses the fewest comes first" in page


def test_runs_that_promise_different_budgets_are_ranked_by_auroc() -> None:
    page = rendered(missing("a", 0.1, 0.8, budget=0.05), missing("b", 0.2, 0.9))
    assert order_of(page) == ["b", "a"]
    assert '<span class="verb">Highest image AUROC</span> <b>0.900</b>' in page
    assert "Runs that promise different budgets do not compare in what they miss" in page


def test_page_compares_only_runs_on_the_same_data() -> None:
    page = rendered(compared("a", 0.9), compared("b", 0.7, data="tiles"))
    assert page.count('<svg class="chart on-wide"') == 2
    assert "is ahead" not in page


@pytest.mark.parametrize(
    "runs",
    [
        [compared("a", 1.0)],
        [compared("a", 0.0)],
        [compared("a")],
        [compared("a", state="waiting", fit_seconds=None, log=None)],
        [compared("a", 0.3, fit_seconds=0.0), compared("b", 0.3, figures={"image_auroc": 0.2})],
    ],
)
def test_page_of_few_figures(runs: list[ComparedRun]) -> None:
    page = rendered(*runs)
    assert not re.search(r'="-?(?:nan|inf)', page)
    for x in re.findall(r'<circle[^>]* cx="([^"]+)"', page):
        assert 0 <= float(x) <= 1080


def test_a_tilde_is_the_home_folder(
    start: Callable[..., QueueResults], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(place))
    results = start("output: ~/night\nruns:\n  - data: ~/parts\n")
    assert [record.state for record in results.runs] == ["done"]
    assert (place / "night" / "results.json").is_file()
