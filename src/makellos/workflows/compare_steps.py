"""The steps of a comparison, each a process of its own so that memory and imports are its own.

A process is started with the name of a JSON file that says what to do and where to write the
result. It ends with the exit code of the verbs, and says in their words what went wrong.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from makellos.data.few import drawn_good
from makellos.errors import InputError, MakellosError
from makellos.jobs.processes import INTERRUPTED, ending_as_interrupted
from makellos.subjects import find_parts

__all__ = ["PICTURES", "main"]

PICTURES = "pictures.npz"
_N_INSPECTED = 24  # parts: memory no longer grows, and decoding and inference have both peaked


def main(arguments: list[str]) -> int:
    """Carry out the step that a file names, and return its exit code."""
    task = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        with ending_as_interrupted():
            result = _STEPS[task["step"]](task)
    except KeyboardInterrupt:
        return INTERRUPTED
    except MakellosError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_code
    measured = {"peak_mb": _peak_mb(), "loads_torch": "torch" in sys.modules}
    text = json.dumps({**result, **measured}, allow_nan=False)
    Path(task["result"]).write_text(text, encoding="utf-8")
    return 0


def _read_by(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the data are read, where that was asked for."""
    return {name: task.get(name) for name in ("good", "keys")}


def _fit(task: Mapping[str, Any]) -> dict[str, Any]:
    from makellos.workflows.fit import fit

    names = ("data", "model", "detector", "preset", "parameters", "false_alarms", "seed", "n_good")
    return asdict(fit(**{name: task[name] for name in names}, **_read_by(task)))


def _evaluate(task: Mapping[str, Any]) -> dict[str, Any]:
    from makellos.workflows.evaluate import evaluated

    done = evaluated(
        task["model"], task["data"], output=task["output"], seed=task["seed"], **_read_by(task)
    )
    rows = [
        {
            "input": test.item.input,
            "label": test.item.label,
            "group": test.outcome.group,
            "score": test.item.score,
            "verdict": test.item.verdict,
            "damage_area": test.item.damage_area,
        }
        for test in done.tested
    ]
    if task["output"] is not None:
        pictures = {
            f"{kind}{i}": np.frombuffer(encoded, np.uint8)
            for i, test in enumerate(done.tested)
            for kind, encoded in (("part", test.item.picture), ("overlay", test.item.overlay))
        }
        np.savez(Path(task["result"]).with_name(PICTURES), **pictures)  # type: ignore[arg-type]
    return {"figures": done.figures, "parts": rows}


def _rank(task: Mapping[str, Any]) -> dict[str, Any]:
    """Rank the test parts by a detector that learned from too few parts to be calibrated."""
    from makellos.detectors import make_detector
    from makellos.evaluation import auroc
    from makellos.models import score_parts

    names = ("preset", "parameters", "seed")
    detector = make_detector(task["detector"], **{name: task[name] for name in names})
    parts = drawn_good(find_parts(task["data"], **_read_by(task)), task["n_good"], task["seed"])
    parts.require_pictures("compare --n-good")
    began, tested = time.perf_counter(), parts.test()
    detector.fit(parts.good() if detector.learns == "good" else parts.labelled())
    seconds, recipe = time.perf_counter() - began, detector.graph().recipe()
    scores = [scored.score for scored in score_parts(recipe, recipe.engines()[0], tested)]
    defective = np.array([not part.is_good for part in tested])
    return {
        "detector": detector.name,
        "n_good": int((~defective).sum()),
        "n_defective": int(defective.sum()),
        "image_auroc": auroc(scores, defective),
        "fit_seconds": round(seconds, 2),
    }


def _inspect(task: Mapping[str, Any]) -> dict[str, Any]:
    from makellos.inspection import Inspector
    from makellos.inspection.engines import default_workers

    parts = find_parts(Path(task["data"]), **_read_by(task)).test()[:_N_INSPECTED]
    if not parts:
        raise InputError(f"{task['data']} has no test parts. Put them into test/good.")
    # As many at once as `makellos inspect` works on, which is what memory depends on.
    inspector = Inspector(task["model"], workers=min(default_workers(), len(parts)))
    first_verdict = None
    for _ in inspector.inspect_many(parts):
        if first_verdict is None:
            first_verdict = time.time() - task["started"]
    return {"first_verdict_seconds": first_verdict, "n_inspected": len(parts)}


_STEPS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "fit": _fit,
    "evaluate": _evaluate,
    "rank": _rank,
    "inspect": _inspect,
}


def _peak_mb() -> float | None:
    """Return the largest resident size of this process so far in MB; None where unknown."""
    if sys.platform == "win32":
        return None
    try:
        # Not ru_maxrss: Linux lets a process inherit it from the one that started it.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1.024e-3
    except (OSError, StopIteration, ValueError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts bytes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
