"""The notebooks run from begin to end, and are kept without outputs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BUILD = DOCS / "build.py"
NOTEBOOKS = sorted((DOCS / "notebooks").rglob("*.ipynb"))
# A home, a temporary folder or a drive, as they stand in outputs, tracebacks and settings.
MACHINE_PATH = re.compile(r"/(?:home|root|tmp|Users|private|var|work|mnt)/|\b[A-Za-z]:\\{1,2}\w")


def run_build(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the build in a process of its own: the kernel's libraries warn in many ways."""
    return subprocess.run(
        [sys.executable, str(BUILD), "--small", "-o", str(output), *arguments],
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
    assert {path.stem for path in NOTEBOOKS} >= {"gan", "autoencoders", "bearings"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []
    assert not MACHINE_PATH.search(text)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


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
