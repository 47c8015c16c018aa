"""Check an install without torch, run with its Python: check_base_install.py SCREWS TRAINED…

SCREWS is a folder in the MVTec AD layout. TRAINED are model files that an install with torch fitted
on it, of detectors that train, each file named after its detector.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ABSENT = ("torch", "torchvision", "timm", "onnxscript", "lightning_fabric")
COLUMNS = {
    *("input", "verdict", "score", "p_value", "threshold", "regions", "milliseconds", "error"),
}


def main() -> None:
    """Run every check of this file and print one line for each."""
    screws, *trained = (Path(argument).resolve() for argument in sys.argv[1:])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "screws.makellos"
        checks = {
            "torch and its kin are absent": check_absence,
            "good parts are learned": lambda: check_fit(screws, model),
            "the verbs explain themselves": lambda: check_help(model),
            "every picture has a verdict": lambda: check_inspection(model, screws / "test", folder),
            "trained models are inspected, but for AnoGAN's": lambda: check_trained(
                trained, screws / "test", folder
            ),
            "a model is measured, compared and calibrated": lambda: check_figures(
                model, screws, folder
            ),
            "auto tries what can be fitted, and says what cannot": lambda: check_auto(
                screws, folder
            ),
            "fit says what to install": lambda: check_missing(screws, folder),
        }
        for text, check in checks.items():
            check()
            print(f"ok: {text}")
    print(f"{len(checks)} passed, 0 failed")


def check_absence() -> None:
    found = [name for name in ABSENT if importlib.util.find_spec(name)]
    assert not found, f"{found} can be imported: this is no base install"
    package = importlib.util.find_spec("makellos")
    assert package is not None, "makellos is not installed"
    assert package.origin is not None, "makellos has no file"
    assert Path(package.origin).is_relative_to(sys.prefix), f"{package.origin} is not the install"


def check_help(model: Path) -> None:
    for verb in ("fit", "inspect", "evaluate", "detectors", "info"):
        assert verb in makellos("--help").stdout
        assert f"makellos {verb}" in makellos(verb, "--help").stdout
    listed = makellos("detectors").stdout
    assert "patchcore" in listed
    assert "padim" in listed
    assert makellos("info", str(model)).stdout.strip()


def check_inspection(model: Path, pictures: Path, folder: Path) -> None:
    out = folder / "rows.jsonl"
    makellos("inspect", str(model), str(pictures), "--jsonl", str(out))
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert sorted(Path(row["input"]).name for row in rows) == sorted(
        path.name for path in pictures.rglob("*.png")
    )
    assert len({row["input"] for row in rows}) == len(rows)
    for row in rows:
        assert row.keys() >= COLUMNS, f"{COLUMNS - row.keys()} is missing in {row}"
        assert row["verdict"] in {"ok", "look_again", "reject"}, row
        assert math.isfinite(row["score"]), row
        assert 0 < row["p_value"] <= 1, row
    good = [row["score"] for row in rows if Path(row["input"]).parent.name == "good"]
    bad = [row["score"] for row in rows if Path(row["input"]).parent.name != "good"]
    assert statistics.median(bad) > statistics.median(good)


def check_trained(models: list[Path], pictures: Path, folder: Path) -> None:
    n_pictures = len(list(pictures.rglob("*.png")))
    assert {"anogan", "fanogan"} < {model.stem for model in models}
    for model in models:
        rows, grid = folder / f"{model.stem}.jsonl", folder / f"{model.stem}.png"
        inspecting = ["inspect", str(model), str(pictures), "--jsonl", str(rows)]
        if model.stem == "anogan":
            said = makellos(*inspecting, exit_code=2).stderr
            assert "torch" in said, said
            assert ".[train]" in said, said
        else:
            makellos(*inspecting)
            assert len(rows.read_text(encoding="utf-8").splitlines()) == n_pictures
        if model.stem != "autoencoder":
            makellos("generate", str(model), "-n", "4", "-o", str(grid))
            assert grid.is_file()


def check_fit(screws: Path, model: Path) -> None:
    makellos("fit", str(screws), "-o", str(model))
    assert model.is_file()


def check_figures(model: Path, screws: Path, folder: Path) -> None:
    figures = json.loads(makellos("evaluate", str(model), str(screws), "--json", "-").stdout)
    assert figures["image_auroc"] > 0.5, figures
    out, small = folder / "compared", ["--set", "padim.image_size=128"]
    compared = ["compare", str(screws), "-o", str(out), "--detectors", "patchcore:fast,padim"]
    makellos(*compared, *small)
    assert (out / "compare.html").is_file()
    makellos("calibrate", str(model), "--false-alarms", "0.2")


def check_auto(screws: Path, folder: Path) -> None:
    found, model = folder / "auto.json", folder / "auto.makellos"
    chosen = ["--detector", "auto", "--time-budget", "1", "--json", str(found)]
    said = makellos("fit", str(screws), "-o", str(model), *chosen).stdout
    assert ".[train]" in said, said
    tried = {trial["detector"]: trial for trial in json.loads(found.read_text())["auto"]["trials"]}
    assert tried["student_teacher"]["result"] == "left out", tried
    assert tried["patchcore"]["result"] != "failed", tried


def check_missing(screws: Path, folder: Path) -> None:
    for options in (["--detector", "vae"], ["--set", "backbone=resnet18"]):
        model = folder / "new.makellos"
        done = makellos("fit", str(screws), "-o", str(model), *options, exit_code=2)
        said = " ".join((done.stdout + done.stderr).split())
        assert ".[train]" in said, said
        assert "Traceback" not in said, said
        assert not model.exists()


def makellos(*arguments: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the installed command; fail unless it ends with `exit_code`."""
    command = shutil.which("makellos", path=str(Path(sys.executable).parent))
    assert command, f"{sys.executable} has no makellos command beside it"
    done = subprocess.run(
        [command, *arguments], capture_output=True, text=True, encoding="utf-8", check=False
    )
    said = (
        f"makellos {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    )
    assert done.returncode == exit_code, said
    return done


if __name__ == "__main__":
    main()
