"""The public surface: what makellos offers, what importing it costs, and that documents use it."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import makellos
from makellos import errors
from makellos.detectors import registry

PROJECT = Path(__file__).parents[1]
DOCS = PROJECT / "docs"
ROOMS = ("detectors", "evaluation", "sets", "testing", "vibration")
DOCUMENTS = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))
SCRIPTS = sorted(DOCS.rglob("*.py"))


def test_all_names_are_for_type_checkers_as_well() -> None:
    tree = ast.parse(inspect.getsource(makellos))
    shown = {
        alias.asname: f"{node.module}"
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert set(shown) | {"__version__", "list_detectors"} == set(makellos.__all__)
    for name, module in shown.items():
        assert getattr(importlib.import_module(module), name) is getattr(makellos, name)


def test_every_error_is_public() -> None:
    raised = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, makellos.MakellosError)
    }
    assert raised < set(makellos.__all__)


def test_every_detector_is_public() -> None:
    found = makellos.list_detectors()
    assert set(found) >= {"patchcore", "padim", "pyod", "vae", "classifier", "discriminative"}
    for each in found.values():
        assert getattr(makellos, each.__name__) is each


def test_new_detector_is_public_when_it_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    class Brandnew(makellos.PaDiM):
        pass

    with pytest.raises(AttributeError, match="has no attribute 'Brandnew'"):
        _ = makellos.Brandnew  # type: ignore[attr-defined]
    monkeypatch.setitem(registry._registry, "brandnew", Brandnew)
    assert makellos.Brandnew is Brandnew  # type: ignore[attr-defined]


def test_every_public_name_is_in_the_guide() -> None:
    told = set(re.findall(r"`([A-Za-z_]+)`", (DOCS / "guide.md").read_text(encoding="utf-8")))
    assert set(makellos.__all__) - {"__version__"} - told == set()


def test_importing_costs_nothing() -> None:
    code = "import sys, makellos; dir(makellos); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded & {"numpy", "cv2", "pydantic", "torch", "onnx", "openvino"} == set()
    assert {name for name in loaded if name.startswith("makellos.")} == set()


def test_help_begins_with_what_there_is() -> None:
    told = set(re.findall(r"\w+", str(makellos.__doc__)))
    functions = {name for name in makellos.__all__ if inspect.isfunction(getattr(makellos, name))}
    assert {"fit", "inspect", "queue"} < functions
    assert {*functions, *ROOMS, "Inspector", "Detector"} - told == set()


def test_names_can_be_completed() -> None:
    assert {*makellos.__all__, *ROOMS} == set(dir(makellos))


@pytest.mark.parametrize("room", ROOMS)
def test_room_tells_what_is_in_it(room: str) -> None:
    module = getattr(makellos, room)
    assert module is importlib.import_module(f"makellos.{room}")
    assert all(hasattr(module, name) for name in module.__all__)


# Documents import from makellos alone


def code_of(path: Path) -> Iterator[str]:
    """Yield the Python code that a document, a notebook or a script shows."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield text
    elif path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        yield from ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    else:
        yield from re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def deep_imports(code: str) -> list[str]:
    """Return imports of makellos that are not public."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found += [name for name in names if name.startswith("makellos.")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("makellos"):
            public = {*makellos.__all__, *ROOMS} if node.module == "makellos" else set()
            if node.module == "makellos.testing":
                public = set(makellos.testing.__all__)  # type: ignore[attr-defined]
            names = [alias.name for alias in node.names]
            found += [f"{node.module}.{name}" for name in names if name not in public]
    return found


@pytest.mark.parametrize("path", [*DOCUMENTS, *NOTEBOOKS, *SCRIPTS], ids=lambda path: path.name)
def test_documents_import_from_makellos_alone(path: Path) -> None:
    assert [name for code in code_of(path) for name in deep_imports(code)] == []


@pytest.mark.parametrize("path", [*DOCUMENTS, *NOTEBOOKS], ids=lambda path: path.name)
def test_names_in_documents_are_public(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in set(re.findall(r"\bmakellos((?:\.[A-Za-z_]\w*)+)\(", text)):
        first, *others = name[1:].split(".")
        assert first in {*makellos.__all__, *ROOMS}, name
        value = getattr(makellos, first)
        for other in others:
            value = getattr(value, other)
    for room, name in re.findall(r"`makellos\.(?!errors`)(\w+)\.(\w+)", text):
        assert hasattr(getattr(makellos, room), name), f"{room}.{name}"


@pytest.mark.parametrize(
    "code",
    [
        "import makellos.data",
        "from makellos.data.parts import Part",
        "from makellos.vibration import whiten",
        "from makellos import inspection",
        "from makellos.testing import nothing",
    ],
)
def test_deep_import_is_found(code: str) -> None:
    assert len(deep_imports(f"def f():\n    {code}")) == 1


def test_public_import_is_accepted() -> None:
    assert deep_imports("import makellos\nfrom makellos import PatchCore, vibration") == []
    assert deep_imports("from makellos.testing import check_detector") == []
