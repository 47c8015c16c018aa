"""Build what the docs offer beside text: executed notebooks as HTML, and models ready to try.

Usage: python docs/build.py [-o FOLDER] [--quick | --store] [--only NAME]...

Writes FOLDER/NAME.html for every notebook and FOLDER/models/; `--quick` takes seconds in place of
minutes and learns next to nothing. `--store` executes notebooks and keeps them, with their outputs,
where they lie.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import importlib
import io
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from PIL import Image

import makellos

DOCS = Path(__file__).resolve().parent
NOTEBOOKS = DOCS / "notebooks"
MODELS = "models"
FALSE_ALARMS = 0.05
# Of each detector: its parameters at full size, and at a size that only shows that it runs. Damage
# is small on these screws, so those that score the whole picture take their map's maximum instead.
DETECTORS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "anogan": (
        {"image_size": 64, "base_width": 16, "epochs": 150, "batch_size": 32},
        {"base_width": 4, "latent_dim": 8, "epochs": 2, "batch_size": 8, "n_steps": 3},
    ),
    "fanogan": (
        {"image_size": 64, "score": "map_maximum"},
        {"base_width": 4, "latent_dim": 8, "epochs": 2, "encoder_epochs": 1, "batch_size": 8},
    ),
    "autoencoder": (
        {"image_size": 128, "epochs": 60},
        {"widths": "4,8", "latent_dim": 8, "epochs": 2},
    ),
    "vae": (
        {"image_size": 64, "score": "map_maximum"},
        {"latent_dim": 4, "epochs": 2, "batch_size": 8},
    ),
}
SCREWS = (
    {"size": 160, "n_train": 300, "n_test_good": 20, "n_per_defect": 6},
    {"size": 64, "n_train": 22, "n_test_good": 2, "n_per_defect": 1},
)
# The key of a notebook's metadata that holds the hash of the code that made its outputs.
CODE_HASH = "code_sha256"
N_COLOURS = 64  # of a stored picture
# tqdm, which others bring along, asks for widgets that no page shows.
_QUIET = "ignore:IProgress not found"

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{code}
body {{ margin: 0 auto; max-width: 56rem; padding: 2rem 1.25rem 4rem; color: #1d2023;
  background: #fff; font: 1.0625rem/1.6 system-ui, sans-serif; overflow-wrap: break-word; }}
h1 {{ font-size: 1.9rem; line-height: 1.2; }}
h2 {{ margin-top: 2.5rem; font-size: 1.35rem; }}
a {{ color: #0b5cad; }}
a.anchor-link, .prompt {{ display: none; }}
pre, code {{ font: .875rem/1.5 ui-monospace, Consolas, Menlo, monospace; }}
pre {{ margin: 0; overflow-x: auto; }}
.highlight {{ padding: .75rem 1rem; border: 1px solid #e2e2dc; border-radius: 6px;
  background: #f5f5f1; }}
.output {{ margin: .75rem 0 1.5rem; }}
.output pre {{ padding: .25rem 1rem; white-space: pre-wrap; }}
img {{ max-width: 100%; height: auto; }}
blockquote {{ margin: 1rem 0; padding: .25rem 1rem; border-left: 3px solid #c9c9c0; }}
table {{ display: block; width: max-content; max-width: 100%; overflow-x: auto;
  border-collapse: collapse; }}
th, td {{ padding: .3rem .8rem; border-bottom: 1px solid #e2e2dc; text-align: left; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


class NotebookError(Exception):
    """Say which cell of which notebook went wrong, and how."""


def execute(path: Path, folder: Path, *, quick: bool) -> NotebookNode:
    """Return the notebook executed in `folder`; raises `NotebookError` for errors and warnings."""
    # A kernel that is the first to use matplotlib would warn that it looks for fonts.
    importlib.import_module("matplotlib.font_manager")
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, "PYTHONWARNINGS": _QUIET}
    environment["MAKELLOS_NOTEBOOKS"] = "quick" if quick else "small"
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        # A kernel warns that its messages, which stay on this machine, are not encrypted.
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        raise NotebookError(f"{path.name}: {error}") from error
    check_outputs(notebook, path.name)
    return notebook


def check_outputs(notebook: NotebookNode, name: str) -> None:
    """Raise `NotebookError` when a cell failed or wrote a warning."""
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                raise NotebookError(f"{name}, cell {number}: {output.ename}: {output.evalue}")
            if output.output_type == "stream" and output.name == "stderr":
                raise NotebookError(f"{name}, cell {number} warns:\n{output.text}")


def code_hash(notebook: NotebookNode) -> str:
    """Return a hash of all code cells, in their order."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def store(notebook: NotebookNode, path: Path) -> None:
    """Write an executed notebook in few bytes, with the hash of the code that it is the result of.

    What differs from machine to machine, such as the version of Python, is left out.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = with_few_colours(output["data"]["image/png"])
                output["data"].pop("text/plain", None)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata[CODE_HASH] = code_hash(notebook)
    nbformat.write(notebook, path)


def with_few_colours(encoded: str) -> str:
    """Return a picture, PNG in base64, with a palette: a third of the bytes."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    kept = io.BytesIO()
    picture.quantize(N_COLOURS).save(kept, "PNG", optimize=True)
    return base64.b64encode(kept.getvalue()).decode()


def render(notebook: NotebookNode) -> str:
    """Return a page that needs no internet and no script."""
    exporter = HTMLExporter(template_name="basic")
    body, resources = exporter.from_notebook_node(notebook)
    code = "\n".join(resources["inlining"]["css"])
    found = re.search(r"^# (.+)$", notebook.cells[0].source, flags=re.MULTILINE)
    title = found[1] if found else "makellos"
    return PAGE.format(title=html.escape(title), code=code, body=body)


def build_notebook(path: Path, output: Path, *, quick: bool, keep: bool) -> None:
    """Execute a notebook and write it as HTML; `keep` its outputs in the notebook as well."""
    with TemporaryDirectory(prefix="makellos-", ignore_cleanup_errors=True) as folder:
        notebook = execute(path, Path(folder), quick=quick)
    if keep:
        store(notebook, path)
    (output / f"{path.stem}.html").write_text(render(notebook), encoding="utf-8")


def build_models(output: Path, *, quick: bool) -> None:
    """Fit every detector on one set of screws; keep the models, samples and test screws."""
    folder = output / MODELS
    shutil.rmtree(folder, ignore_errors=True)
    screws = folder / "screws"
    makellos.sets.write_screws(screws, **SCREWS[quick])
    for name, sizes in DETECTORS.items():
        model = folder / f"{name}.makellos"
        makellos.fit(
            screws, model, detector=name, parameters=sizes[quick], false_alarms=FALSE_ALARMS
        )
        shutil.rmtree(folder / f"{model.name}.run")
        figures = makellos.evaluate(model, screws)
        print(f"{model}: image AUROC {figures['image_auroc']:.3f}, ", end="")
        print(f"{figures['miss_rate']:.0%} of the damaged screws missed")
        if name != "autoencoder":  # which makes no pictures by itself
            makellos.generate(model, folder / f"{name}.png", n=4 if quick else 36)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what is asked for; return 1 when a notebook fails."""
    notebooks = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    names = [*notebooks, MODELS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/docs"), metavar="FOLDER")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="in seconds, learning next to nothing")
    how.add_argument(
        "--store", action="store_true", help="keep the notebooks' outputs where they lie; no models"
    )
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=str(names))
    chosen = parser.parse_args(arguments)
    chosen.output.mkdir(parents=True, exist_ok=True)
    for name in chosen.only or (notebooks if chosen.store else names):
        try:
            if name == MODELS:
                build_models(chosen.output, quick=chosen.quick)
            else:
                path = NOTEBOOKS / f"{name}.ipynb"
                build_notebook(path, chosen.output, quick=chosen.quick, keep=chosen.store)
                print(chosen.output / f"{name}.html")
        except NotebookError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
