"""The design, enforced: who may import whom, how long code is, what the source never holds."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import statistics
import subprocess
import sys
import textwrap
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from makellos.sets.synthetic_screws import write_screws

PROJECT = Path(__file__).parents[1]
SOURCE = PROJECT / "src" / "makellos"

# The table of the house: who may import whom.
FOR_ALL = {"errors", "storage", "data"}
JUDGING = FOR_ALL | {"calibration", "vibration", "inspection", "drawing", "evaluation", "reports"}
LEARNING = JUDGING | {"detectors", "training", "models"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "storage": {"errors"},
    "data": {"errors", "storage"},
    "vibration": FOR_ALL,
    "sets": FOR_ALL | {"vibration"},
    "calibration": FOR_ALL,
    "inspection": FOR_ALL | {"calibration", "vibration"},
    "drawing": FOR_ALL | {"inspection", "vibration"},
    "training": FOR_ALL,
    "detectors": FOR_ALL | {"inspection", "training", "vibration"},
    "models": FOR_ALL | {"calibration", "detectors", "inspection", "training", "vibration"},
    "evaluation": FOR_ALL | {"calibration"},
    "reports": FOR_ALL | {"drawing", "evaluation", "inspection", "vibration"},
    "testing": FOR_ALL | {"detectors", "inspection", "models", "drawing"},
    "subjects": LEARNING,
    "search": LEARNING | {"subjects"},
    "jobs": LEARNING | {"subjects"},
    "store": JUDGING,
    "service": JUDGING | {"store"},
    "line": JUDGING | {"store", "service"},
    "cluster": FOR_ALL | {"inspection", "jobs", "workflows"},  # the command line imports it
}
MAY_IMPORT["workflows"] = LEARNING | {"subjects", "search", "jobs", "sets"}
# These may import everything: the command line and the two files at the door.
OPEN = {"cli", "__init__", "__main__"}
# The one exception: an engine for detectors that need another runtime looks them up lazily.
LAZY_EXCEPTION = ("inspection", "detectors")

TRAINING = {"torch", "torchvision", "timm", "onnxscript", "lightning", "lightning_fabric"}
# onnx is part of the base install, but loaded where a graph is opened and not before.
FRAMEWORKS = TRAINING | {"onnx"}
GRAPH_READER = "inspection/graph_check.py"  # the one file of the light rooms that loads onnx
FRAMEWORK_FREE = {
    *("errors", "storage", "data", "sets", "vibration", "calibration", "inspection", "drawing"),
    *("evaluation", "reports", "store", "service", "line"),
}
# Rooms of an extra: nothing of the base install imports them, so they import what it brings.
OF_STATION = {"store", "service", "line"}
FRAMEWORK_FOLDERS = ("training/", "detectors/networks/")
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
NAMELESS_ROOMS = {"core", "common", "utils", "util", "misc", "helpers"}


@dataclass(frozen=True)
class Import:
    """One imported module: the file and line it stands in, and when it is carried out."""

    file: str
    line: int
    module: str
    lazy: bool
    type_only: bool

    @property
    def room(self) -> str:
        """Return the room of the importing file."""
        return self.file.partition("/")[0].removesuffix(".py")

    @property
    def target(self) -> str | None:
        """Return the room that is imported, `makellos` for the package itself, or None."""
        package, _, inside = self.module.partition(".")
        if package != "makellos":
            return None
        return inside.partition(".")[0] or "makellos"


def sources(root: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def imports(root: Path, *, names: bool = False) -> Iterator[Import]:
    """Yield every import; with `names` those of names that are files as imports of these."""
    for file, text in sources(root):
        for item in _walk(ast.parse(text), file, root, lazy=False, type_only=False):
            inside = Path(*item.module.split(".")[1:])
            if not names or item.target is None or not (root / inside / "__init__.py").is_file():
                yield item
            else:
                yield from _files_named(ast.parse(text), item, root / inside)


def _files_named(tree: ast.AST, item: Import, folder: Path) -> Iterator[Import]:
    """Yield the files of a room that an import at a line names, and the room for other names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.lineno == item.line:
            for alias in node.names:
                is_file = (folder / f"{alias.name}.py").is_file()
                yield replace(
                    item, module=f"{item.module}.{alias.name}" if is_file else item.module
                )
            return
    yield item


def _walk(node: ast.AST, file: str, root: Path, *, lazy: bool, type_only: bool) -> Iterator[Import]:
    for module, line in _modules(node, file, root):
        yield Import(file, line, module, lazy, type_only)
    lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in ast.iter_child_nodes(node):
        inside = type_only or (guarded and isinstance(node, ast.If) and child in node.body)
        yield from _walk(child, file, root, lazy=lazy, type_only=inside)


def _modules(node: ast.AST, file: str, root: Path) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = ("makellos", *Path(file).parent.parts)
            base = ".".join((*package[: len(package) + 1 - node.level], *filter(None, [base])))
        for alias in node.names:
            # `from makellos import data` names a room, `from makellos.data import Part` does not.
            inside = base == "makellos" and _is_room(root, alias.name)
            if (base, alias.name) != ("makellos", "__version__"):
                yield (f"{base}.{alias.name}" if inside else base), node.lineno
    elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
        for argument in node.args[:1]:
            if isinstance(argument, ast.JoinedStr):
                argument = argument.values[0]  # noqa: PLW2901
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value, node.lineno


def _is_room(root: Path, name: str) -> bool:
    return (root / name).is_dir() or (root / f"{name}.py").is_file()


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func).rpartition(".")[2]


def early_stations(root: Path) -> list[str]:
    """Return imports of the station or the cluster that a base install without them reaches."""
    return [
        f"{item.file}:{item.line} imports {item.module} outside a function"
        for item in imports(root)
        if item.target in OF_STATION | {"cluster"} and item.room not in OF_STATION | {"cluster"}
        if not item.lazy and not item.type_only
    ]


def wrong_directions(root: Path) -> list[str]:
    found, exceptions = [], set()
    for item in imports(root):
        if item.room in OPEN or item.target in {None, item.room}:
            continue
        if item.room not in MAY_IMPORT:
            found.append(f"{item.file}: the room {item.room!r} is not in the table of the house")
        elif item.lazy and (item.room, item.target) == LAZY_EXCEPTION:
            exceptions.add(item.file)
        elif item.target not in MAY_IMPORT[item.room]:
            found.append(f"{item.file}:{item.line} {item.room} may not import {item.module}")
    if len(exceptions) > 1:
        found.append(f"{', '.join(sorted(exceptions))}: one file may look detectors up lazily")
    return found


def early_frameworks(root: Path) -> list[str]:
    """Return imports of torch and its kin at places where they must not or need not be."""
    found = []
    for item in imports(root):
        package = item.module.partition(".")[0]
        if package not in FRAMEWORKS or item.type_only:
            continue
        if package == "onnx" and item.lazy and item.file == GRAPH_READER:
            continue
        if item.room in FRAMEWORK_FREE:
            found.append(f"{item.file}:{item.line} {item.room} never imports {item.module}")
        elif not item.lazy and not item.file.startswith(FRAMEWORK_FOLDERS):
            found.append(f"{item.file}:{item.line} imports {item.module} outside a function")
    return found


def too_long(root: Path) -> list[str]:
    found = []
    for file, text in sources(root):
        if (n_lines := len(text.splitlines())) > 500:
            found.append(f"{file}: {n_lines} lines, 500 are allowed")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 60:
                    found.append(f"{file}:{node.lineno} {node.name}: {length} lines, 60 allowed")
    return found


def dangerous(root: Path) -> list[str]:
    """Return what could run code that a file brings along."""
    found = [
        f"{item.file}:{item.line} imports {item.module}"
        for item in imports(root)
        if item.module.partition(".")[0] in PICKLES
    ]
    for file, text in sources(root):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module == "torch":
                if any(alias.name == "load" for alias in node.names):
                    found.append(f"{file}:{node.lineno} torch.load is called by its full name")
            elif isinstance(node, ast.Call) and (problem := _danger(node)):
                found.append(f"{file}:{node.lineno} {problem}")
    return found


def _danger(node: ast.Call) -> str | None:
    name = ast.unparse(node.func)
    values = {item.arg: ast.unparse(item.value) for item in node.keywords}
    if name.removeprefix("builtins.") in {"eval", "exec"}:
        return f"calls {name}"
    if values.get("allow_pickle", "False") != "False":
        return "allows pickle"
    if name == "torch.load" and values.get("weights_only") != "True":
        return "calls torch.load without weights_only=True"
    return None


def circles(root: Path) -> list[str]:
    """Return groups of files that import each other, directly or on a way around, for types too."""
    files = {
        ".".join(("makellos", *Path(file).with_suffix("").parts)).removesuffix(".__init__"): file
        for file, _ in sources(root)
    }
    below: dict[str, set[str]] = {file: set() for file in files.values()}
    for item in imports(root, names=True):
        if not (item.lazy and (item.room, item.target) == LAZY_EXCEPTION):
            below[item.file].update({files[item.module]} if item.module in files else ())
    found = []
    for file in sorted(below):
        around = {other for other in _reached(below, file) if file in _reached(below, other)}
        if len(around) > 1 and file == min(around):
            found.append(" <-> ".join(sorted(around)))
    return found


def _reached(below: dict[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        more = below[waiting.pop()] - reached
        reached |= more
        waiting += more
    return reached


def nameless_rooms(root: Path) -> list[str]:
    return [
        path.relative_to(root).as_posix()
        for path in sorted(root.rglob("*"))
        if path.stem in NAMELESS_ROOMS and (path.is_dir() or path.suffix == ".py")
    ]


def undeclared(root: Path, project: dict[str, object]) -> list[str]:
    """Return third-party imports that no install of makellos would bring along."""
    base, extras = _declared(project)
    names = importlib.metadata.packages_distributions()
    found = []
    for item in imports(root):
        top = item.module.partition(".")[0]
        if top in sys.stdlib_module_names or top == "makellos":
            continue
        open_to_extras = item.lazy or item.room not in FRAMEWORK_FREE - OF_STATION
        allowed = base | (extras if open_to_extras else set())
        if not {_normal(name) for name in names.get(top, [top])} & allowed:
            found.append(f"{item.file}:{item.line} {top} is no dependency in pyproject.toml")
    return found


def _declared(project: dict[str, object]) -> tuple[set[str], set[str]]:
    def names(lines: list[str]) -> set[str]:
        return {_normal(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in lines}

    dependencies, extras = project["dependencies"], project["optional-dependencies"]
    assert isinstance(dependencies, list)
    assert isinstance(extras, dict)
    users = [line for extra, lines in extras.items() if extra != "dev" for line in lines]
    return names(dependencies), names(users)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# The package itself


@pytest.mark.parametrize(
    "rule",
    [
        wrong_directions,
        early_frameworks,
        early_stations,
        too_long,
        circles,
        dangerous,
        nameless_rooms,
    ],
)
def test_source_keeps_the_rule(rule: Callable[[Path], list[str]]) -> None:
    assert rule(SOURCE) == []


@pytest.mark.needs_torch
def test_imports_are_declared_dependencies() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert undeclared(SOURCE, project) == []


IMPORT_ALL = """
import importlib, sys
import makellos.cli
print("cli:", *sorted(name for name in sys.modules if "." not in name))
for name in {names!r}:
    importlib.import_module(name)
print("all:", *sorted(name for name in sys.modules if "." not in name))
"""


def test_light_rooms_import_without_torch() -> None:
    names = ["makellos", "makellos.detectors"]
    names += [f"makellos.detectors.{path.stem}" for path in (SOURCE / "detectors").glob("*.py")]
    for room in sorted(FRAMEWORK_FREE | {"cli"}):
        files = (SOURCE / room).rglob("*.py")
        names += [
            ".".join(("makellos", *f.relative_to(SOURCE).with_suffix("").parts)) for f in files
        ]
    # Scripts of migrations run inside a migration alone.
    names = sorted({n.removesuffix(".__init__") for n in names if ".migrations." not in n})
    text = run("-c", IMPORT_ALL.format(names=names)).stdout
    loaded = {line.partition(":")[0]: set(line.split()[1:]) for line in text.splitlines()}
    assert sorted(loaded["all"] & FRAMEWORKS) == []
    assert sorted(loaded["cli"] & {"cv2", "openvino", "onnxruntime", *FRAMEWORKS}) == []


# A None in sys.modules makes an import fail as on an install without the package.
WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({missing!r}))
from makellos.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "verb", [["--help"], ["fit", "--help"], ["inspect", "--help"], ["detectors"]]
)
def test_verb_works_on_a_base_install(verb: list[str]) -> None:
    done = run("-c", WITHOUT.format(missing=sorted(FRAMEWORKS)), *verb)
    assert done.stdout.strip()


def test_good_parts_are_learned_on_a_base_install(tmp_path: Path) -> None:
    write_screws(tmp_path / "screws", n_train=12, n_test_good=2, n_per_defect=1, size=64)
    model, rows = tmp_path / "m.makellos", tmp_path / "rows.jsonl"
    script = WITHOUT.format(missing=sorted(TRAINING))
    small = ["--set", "image_size=64", "--false-alarms", "0.2", "--json", "-"]
    done = run("-c", script, "fit", str(tmp_path / "screws"), "-o", str(model), *small)
    assert json.loads(done.stdout)["detector"] == "patchcore"
    pictures = str(tmp_path / "screws" / "test")
    run("-c", script, "inspect", str(model), pictures, "--jsonl", str(rows))
    assert len(rows.read_text(encoding="utf-8").splitlines()) == 7


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        (["--detector", "vae"], "train"),
        (["--detector", "discriminative"], "train"),
        (["--set", "backbone=efficientnet_lite1"], "train"),
        (["--set", "weights=mine.pth"], "train"),
        (["--detector", "pyod"], "signals"),
    ],
)
def test_what_cannot_be_learned_on_a_base_install_is_said_before_parts_are_looked_for(
    options: list[str], extra: str, tmp_path: Path
) -> None:
    script = WITHOUT.format(missing=sorted(TRAINING | {"pyod"}))
    command = [sys.executable, "-c", script, "fit", str(tmp_path / "none"), "-o", "m.makellos"]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert done.returncode == 2
    assert f"pip install '.[{extra}]' in the clone of makellos" in " ".join(done.stderr.split())


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_command_line_starts_fast(option: str) -> None:
    command = "import sys; from makellos.cli import main; sys.exit(main())"
    ratios = []
    # A busy machine may spoil one measurement, hardly three.
    for _ in range(3):
        ours, yardstick = [], []
        for _ in range(5):
            ours.append(seconds("-c", command, option))
            yardstick.append(seconds("-c", "import numpy"))
        ratios.append(statistics.median(ours) / statistics.median(yardstick))
        if ratios[-1] <= 4:
            return
    pytest.fail(f"makellos {option} takes {ratios} times as long as importing numpy, 4 allowed")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


# The rules themselves, on small trees that break them


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("inspection/engines.py", "from makellos.models import write"),
        ("inspection/engines.py", "def f():\n    import makellos.workflows.fit"),
        ("inspection/engines.py", "from makellos import models"),
        ("inspection/engines.py", "from ..models import write"),
        ("inspection/engines.py", "from .. import models"),
        ("inspection/engines.py", "import importlib\nimportlib.import_module('makellos.models')"),
        ("inspection/engines.py", "import_module(f'makellos.models.{name}')"),
        ("inspection/engines.py", "if TYPE_CHECKING:\n    from makellos.models import Model"),
        ("inspection/engines.py", "from makellos.detectors import create"),
        ("data/parts.py", "from makellos.calibration import threshold"),
        ("data/parts.py", "from makellos import fit"),
        ("errors.py", "from makellos.data import parts"),
        ("attic/things.py", "from makellos.data import parts"),
        ("testing.py", "from makellos.workflows import fit"),
        ("models/export.py", "class A:\n    def f(self):\n        from ..cli import main"),
    ],
)
def test_wrong_direction_is_found(tmp_path: Path, file: str, text: str) -> None:
    root = tree(tmp_path, {"models/__init__.py": "", file: text})
    assert len(wrong_directions(root)) == 1


def test_right_directions_are_accepted(tmp_path: Path) -> None:
    files = {
        "models/__init__.py": "from ..detectors import create\nfrom . import export",
        "models/export.py": "import makellos.inspection.reader\nfrom makellos import __version__",
        "inspection/engines.py": "def f():\n    from makellos.detectors import create",
        "cli/__init__.py": "from makellos import workflows, models\nimport makellos.data.parts",
        "testing/contract.py": "from makellos.models import write\nfrom makellos.data import parts",
        "__init__.py": "def __getattr__(name):\n    from makellos.workflows import fit",
        "data/parts.py": "from makellos.errors import InputError\nfrom .pictures import read",
    }
    assert wrong_directions(tree(tmp_path, files)) == []


@pytest.mark.parametrize(
    ("files", "n_found"),
    [
        ({"data/a.py": "from makellos.data.b import x", "data/b.py": "import makellos.data.a"}, 1),
        ({"data/a.py": "from makellos.data import b", "data/b.py": "from .a import x"}, 1),
        (
            {
                "data/a.py": "if TYPE_CHECKING:\n    from makellos.data.b import x",
                "data/b.py": "from makellos.data.c import x",
                "data/c.py": "def f():\n    from makellos.data.a import x",
            },
            1,
        ),
        ({"data/a.py": "from makellos.data.b import x", "data/b.py": "import json"}, 0),
        ({"data/__init__.py": "from makellos.data.a import x", "data/a.py": "import json"}, 0),
        ({"data/__init__.py": "from .a import x", "data/a.py": "from makellos.data import x"}, 1),
    ],
)
def test_circles_are_found(tmp_path: Path, files: dict[str, str], n_found: int) -> None:
    root = tree(tmp_path, {"data/__init__.py": "", **files})
    assert len(circles(root)) == n_found


def test_only_one_file_looks_detectors_up_lazily(tmp_path: Path) -> None:
    lazy = "def f():\n    from makellos.detectors import create"
    root = tree(tmp_path, {"inspection/engines.py": lazy, "inspection/regions.py": lazy})
    assert len(wrong_directions(root)) == 1


@pytest.mark.parametrize(
    ("file", "text", "n_found"),
    [
        ("detectors/patchcore.py", "import torch", 1),
        ("detectors/patchcore.py", "from torch.nn import functional as F", 1),
        ("detectors/patchcore.py", "def f():\n    import torch", 0),
        ("detectors/patchcore.py", "if TYPE_CHECKING:\n    import torch", 0),
        ("detectors/patchcore.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch", 1),
        ("detectors/networks/resnet.py", "import torch", 0),
        ("training/loop.py", "import torch", 0),
        ("inspection/engines.py", "def f():\n    import torch", 1),
        ("data/parts.py", "def f():\n    from torchvision import io", 1),
    ],
)
def test_early_framework_is_found(tmp_path: Path, file: str, text: str, n_found: int) -> None:
    assert len(early_frameworks(tree(tmp_path, {file: text}))) == n_found


@pytest.mark.parametrize(
    ("text", "n_found"),
    [
        ("import pickle", 1),
        ("def f():\n    from joblib import load", 1),
        ("eval('1')", 1),
        ("exec('1')", 1),
        ("model.eval()", 0),
        ("torch.load(path)", 1),
        ("torch.load(path, weights_only=False)", 1),
        ("torch.load(path, weights_only=True)", 0),
        ("from torch import load", 1),
        ("np.load(path, allow_pickle=True)", 1),
        ("np.load(path, allow_pickle=False)", 0),
    ],
)
def test_danger_is_found(tmp_path: Path, text: str, n_found: int) -> None:
    assert len(dangerous(tree(tmp_path, {"data/parts.py": text}))) == n_found


def test_length_is_found(tmp_path: Path) -> None:
    function = "def f():\n" + "    pass\n" * 59
    files = {"a.py": "x = 1\n" * 500, "b.py": "x = 1\n" * 501, "c.py": function}
    files["d.py"] = function + "    pass\n"
    found = too_long(tree(tmp_path, files))
    assert [line.partition(":")[0] for line in found] == ["b.py", "d.py"]


def test_nameless_room_is_found(tmp_path: Path) -> None:
    root = tree(tmp_path, {"data/utils/a.py": "", "common.py": "", "data/commonly.py": ""})
    assert nameless_rooms(root) == ["common.py", "data/utils"]


def test_undeclared_import_is_found(tmp_path: Path) -> None:
    project: dict[str, object] = {
        "dependencies": ["opencv-python-headless>=4; sys_platform == 'linux'", "numpy"],
        "optional-dependencies": {"train": ["torch>=2"], "dev": ["pytest"]},
    }
    files = {
        "data/a.py": "import cv2, numpy, json",
        "data/b.py": "import torch",
        "data/c.py": "import pytest",
        "detectors/d.py": "def f():\n    import torch",
        "detectors/e.py": "import PIL",
    }
    found = undeclared(tree(tmp_path, files), project)
    assert [line.partition(":")[0] for line in found] == [
        "data/b.py",
        "data/c.py",
        "detectors/e.py",
    ]
