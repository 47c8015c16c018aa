"""Detectors and presets side by side on the real sets that MAKELLOS_DATA holds.

Usage: MAKELLOS_DATA=FOLDER python benchmarks/bench_detection.py [OUTPUT.json] [ENTRY…]

An entry is NAME or NAME:PRESET; without one those that need neither labels nor other weights.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from makellos import compare

SETS = ("mvtec_screw", "magnetic_tile", "magnetic_tile/by_tile.csv")
ENTRIES = (
    "patchcore",
    "patchcore:fast",
    "patchcore:accurate",
    "padim",
    "discriminative",
    "student_teacher",
)


def rows_of(data: Path, entries: list[str]) -> list[dict[str, Any]]:
    """Return a row per entry: figures, cost and memory."""
    rows = []
    for one in compare(data, entries, tell=print).entries:
        figures, found = one.figures or {}, {"set": str(data), "detector": one.name}
        if one.state != "done":
            print(f"{data.name}: {one.name}: {one.reason}")
            continue
        low, high = figures["intervals"]["image_auroc"]
        found |= {
            "image_auroc": f"{figures['image_auroc']:.3f} ({low:.3f} to {high:.3f})",
            "pixel_auroc": f"{figures['pixel_auroc']:.3f}",
            "aupro": f"{figures['aupro']:.3f}",
            "aupro_5": f"{figures['aupro_5']:.3f}",
            "missed": f"{figures['miss_rate']:.0%}",
            "false alarms": f"{figures['false_alarm_rate']:.1%}",
            "fit s": f"{(one.fit or {}).get('fit_seconds', 0):.0f}",
            "fit MB": f"{(one.fit or {}).get('peak_mb') or 0:.0f}",
            "ms": f"{figures['inspect_ms_per_part']:.0f}",
            "MB": f"{(one.inspection or {}).get('peak_mb') or 0:.0f}",
        }
        rows.append(found)
        print("| " + " | ".join(found.values()) + " |", flush=True)
    return rows


def main() -> None:
    root = Path(os.environ.get("MAKELLOS_DATA", ""))
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/detection.json")
    rows: list[dict[str, Any]] = []
    for data in (root / name for name in SETS):
        if not os.environ.get("MAKELLOS_DATA") or not data.exists():
            print(f"{data.name}: left out, MAKELLOS_DATA does not hold it")
            continue
        rows += rows_of(data, sys.argv[2:] or list(ENTRIES))
        target.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
