"""The notebooks run from begin to end, and the outputs that they are kept with are fresh."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BUILD = DOCS / "build.py"
NOTEBOOKS = sorted((DOCS / "notebooks").rglob("*.ipynb"))
# A home, a temporary folder or a drive, as they stand in outputs, tracebacks and settings.
MACHINE_PATH = re.compile(r"/(?:home|root|tmp|Users|private|var|work|mnt)/|\b[A-Za-z]:\\{1,2}\w")


def run_build(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the build in a process of its own: the kernel's libraries warn in many ways."""
    return subprocess.run(
        [sys.executable, str(BUILD), "--quick", "-o", str(output), *arguments],
        cwd=output,
        # Threads of small networks wait for each other, for long where a machine does other work.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=280,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", BUILD)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Whoever installs what runs notebooks has PyTorch as well.
@pytest.mark.needs_torch
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_without_warning(path: Path, tmp_path: Path) -> None:
    done = run_build(tmp_path, "--only", path.stem)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / f"{path.stem}.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r"""(?:src|href)=["']?(?!data:|https://(?:arxiv|doi)\.org/)\w""", page)
    assert page.count('src="data:image/png') >= 5
    assert not MACHINE_PATH.search(re.sub(r"base64,[\w+/=\n]+", "", page))


@pytest.mark.needs_torch
def test_models_are_built(tmp_path: Path) -> None:
    done = run_build(tmp_path, "--only", "models")
    assert done.returncode == 0, done.stdout + done.stderr
    models = tmp_path / "models"
    names = {path.name for path in models.iterdir()}
    assert names == {
        *("anogan.makellos", "autoencoder.makellos", "fanogan.makellos", "vae.makellos"),
        *("anogan.png", "fanogan.png", "vae.png"),
        "screws",
    }


def test_notebooks_are_there() -> None:
    assert {path.stem for path in NOTEBOOKS} >= {
        "gan",
        "autoencoders",
        "bearings",
        "classifier",
        "transfer",
    }


# What is kept


MOST_BYTES = 700_000
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]|\d+(?:\.\d+)?%\|")  # and bars of progress


def faults_of(notebook: Any, build: ModuleType) -> list[str]:
    """Say what is wrong with the outputs that a notebook is kept with."""
    faults = []
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    sources = [SimpleNamespace(cell_type="code", source="".join(cell["source"])) for cell in code]
    if notebook["metadata"].get(build.CODE_HASH) != build.code_hash(SimpleNamespace(cells=sources)):
        faults.append("its code was changed since it was executed: run `make notebooks-store`")
    if [cell["execution_count"] for cell in code] != list(range(1, len(code) + 1)):
        faults.append("its cells were not executed once, from first to last")
    outputs = [output for cell in code for output in cell["outputs"]]
    for output in outputs:
        text = "".join(output.get("text", "")) + str(output.get("data", {}).get("text/markdown"))
        if output["output_type"] == "error" or output.get("name") == "stderr":
            faults.append(f"a cell failed or warned: {output}")
        if CONTROL.search(text):
            faults.append(f"control characters in {text!r}")
    if sum("image/png" in output.get("data", {}) for output in outputs) < 3:
        faults.append("it shows fewer than three pictures")
    return faults


@pytest.mark.needs_torch
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_outputs_are_fresh(path: Path, build: ModuleType) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert faults_of(notebook, build) == []
    assert not MACHINE_PATH.search(re.sub(r'"image/png": "[^"]+"', "", text))
    assert len(text.encode()) < MOST_BYTES
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"] == {"name": "python"}


@pytest.mark.needs_torch
def test_stale_outputs_are_found(build: ModuleType) -> None:
    kept = json.loads((DOCS / "notebooks" / "gan.ipynb").read_text(encoding="utf-8"))
    first = next(i for i, cell in enumerate(kept["cells"]) if cell["cell_type"] == "code")
    changed, added, without, barred = (copy.deepcopy(kept) for _ in range(4))
    changed["cells"][first]["source"] += ["# changed"]
    added["cells"].append(kept["cells"][first])
    without["cells"][first]["execution_count"] = None
    bar = {"output_type": "stream", "name": "stdout", "text": ["\r 50%|#####     |"]}
    barred["cells"][first]["outputs"] = [bar]
    assert "was changed" in faults_of(changed, build)[0]
    assert "was changed" in faults_of(added, build)[0]
    assert "not executed" in faults_of(without, build)[0]
    assert "control characters" in faults_of(barred, build)[0]


@pytest.mark.needs_torch
def test_stored_notebook_is_fresh(build: ModuleType, tmp_path: Path) -> None:
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    draws = "import matplotlib.pyplot as plt\n_ = plt.imshow([[0, 1]])"
    cells = [new_markdown_cell("# A"), *(new_code_cell(draws) for _ in range(3))]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(new_notebook(cells=cells)), encoding="utf-8")
    build.build_notebook(path, tmp_path, quick=False, keep=True)
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert faults_of(stored, build) == []
    assert "<title>A</title>" in (tmp_path / "a.html").read_text(encoding="utf-8")


# What the build refuses


@pytest.mark.needs_torch
@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("stream", {"name": "stderr", "text": "Deprecated"}, "cell 2 warns:\nDeprecated"),
        ("error", {"ename": "KeyError", "evalue": "'a'"}, "cell 2: KeyError: 'a'"),
    ],
)
def test_warning_and_error_are_refused(
    build: ModuleType, kind: str, values: dict[str, str], message: str
) -> None:
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    fine = new_code_cell(outputs=[new_output("stream", name="stdout", text="fine")])
    build.check_outputs(new_notebook(cells=[fine]), "made.ipynb")
    wrong = new_code_cell(outputs=[new_output(kind, **values)])
    with pytest.raises(build.NotebookError) as caught:
        build.check_outputs(new_notebook(cells=[fine, wrong]), "made")
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["/home/a/b", '"C:\\\\Users"', "/var/x", "D:\\data"])
def test_machine_paths_are_found(text: str) -> None:
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize("text", ["docs/notebooks", "p: q", "https://arxiv.org/abs/1"])
def test_other_text_is_no_machine_path(text: str) -> None:
    assert not MACHINE_PATH.search(text)
