"""Looking through 200,000 stored inspections, on SQLite and PostgreSQL.

Every filter of the history, and every two of them together, each with a value that many parts have,
one that few have and one that none has: how long the first page of 50 takes, and one that begins in
the middle. PostgreSQL is a server of its own, started with the tests' helper; it is left out where
none is installed. `--n 20000` is quick.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from makellos.store import Filter, Store
from makellos.store.tables import (
    inspection_rows,
    inspection_words,
    inspection_zones,
    inspections,
    reviews,
)

N_PARTS = 200_000
PAGE = 50
REPEATS = 3
START, SECOND = 1_790_000_000_000_000, 1_000_000
SERVER = Path(__file__).parents[1] / "tests" / "store" / "postgres_server.py"
OUTPUT = Path(__file__).with_suffix(".json")
REGION = {"x": 10, "y": 20, "width": 30, "height": 40, "area": 700, "peak": 3.5, "zone": "thread"}


def parts(n: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Yield the columns of n parts, a second apart."""
    for number in range(1, n + 1):
        # The last recipe ended early: its parts are far from the newest.
        early = number < n / 50
        recipe = "gone" if early else chance.choices(("screws", "nuts", "pins"), (70, 25, 5))[0]
        weights = (95, 3, 1.9, 0.1)
        verdict = chance.choices(("ok", "look_again", "reject", "unreadable"), weights)[0]
        decided = verdict == "look_again" and chance.random() < 0.5
        yield {
            "id": number,
            "time": START + number * SECOND,
            "recipe": recipe,
            "recipe_version": 1,
            "model_hash": "ab" * 32,
            "serial": f"SN{number:08d}",
            "lot": f"L{number // 500:04d}",
            "source": chance.choices(("api", "page", "watch:line"), (90, 0.1, 9.9))[0],
            "verdict": verdict,
            "score": chance.random(),
            "p_value": chance.random(),
            "threshold": 2.0,
            "milliseconds": 12.5,
            "picture": f"{number:064x}",
            "map": f"{number + 1:064x}",
            "decision": chance.choice(("good", "good", "defective")) if decided else None,
        }


def fill(store: Store, n: int) -> None:
    chance = random.Random(0)  # noqa: S311 -- no secret
    with store._database.writing() as connection:
        made = parts(n, chance)
        while some := list(itertools.islice(made, 5000)):
            wide, texts, zones, words = [], [], [], []
            for part in some:
                name = f"camera 1/{part['id']:08d}.png"
                row = {name: part[name] for name in ("verdict", "score", "p_value", "threshold")}
                found = part["verdict"] in {"reject", "look_again"}
                row |= {"input": name, "regions": [REGION] * (2 if found else 0), "notes": []}
                text = f"{name}\n{part['serial']}\n{part['lot']}".casefold()
                fields = {"line": 2, "shift": "early"}
                of_part = {"inspection_id": part["id"], "input": name, "error": None}
                wide.append({**of_part, "fields": fields, "row": row})
                texts.append({"inspection_id": part["id"], "words": text})
                if found:
                    zone = chance.choices(("thread", "head", "tip"), (90, 9.5, 0.5))[0]
                    zones.append({"inspection_id": part["id"], "zone": zone})
                if part["decision"]:
                    said = {"inspection_id": part["id"], "time": part["time"], "person": "anna"}
                    said |= {"decision": part["decision"], "boxes": [], "note": ""}
                    words.append({**said, "blind": False})
            for table, rows in (
                (inspections, some),
                (inspection_rows, wide),
                (inspection_words, texts),
                (inspection_zones, zones),
                (reviews, words),
            ):
                if rows:
                    connection.execute(table.insert(), rows)


def values(n: int) -> dict[str, list[Any]]:
    """Return values of each filter: of many parts, of few, of none."""
    middle, end = START + n // 2 * SECOND, START + n * SECOND
    return {
        "recipe": ["screws", "gone", "none"],
        "verdict": ["ok", "reject", "unreadable"],
        "decision": ["good", "defective"],
        "serial": [f"SN{n // 2:08d}", "none"],
        "lot": [f"L{n // 1000:04d}", "L0001", "none"],
        "zone": ["thread", "tip", "none"],
        "source": ["api", "page", "none"],
        "since": [START, middle, end - 60 * SECOND],
        "until": [end, middle, START + 60 * SECOND],
        "text": ["camera", f"{n // 2 + 7:06d}", "nowhere"],
        "reviewed": [True, False],
    }


def questions(n: int) -> Iterator[tuple[tuple[str, ...], Filter]]:
    known = values(n)
    yield (), Filter()
    for names in itertools.chain(
        itertools.combinations(known, 1), itertools.combinations(known, 2)
    ):
        for given in itertools.product(*(known[name] for name in names)):
            yield names, Filter(**dict(zip(names, given, strict=True)))


def measured(store: Store, n: int) -> list[dict[str, Any]]:
    """Return what each question took in ms: the median of some repeats, for two pages."""
    found = []
    for names, wanted in questions(n):
        for before in (None, n // 2):
            times = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                rows = store.history(wanted, before=before, limit=PAGE)
                times.append((time.perf_counter() - start) * 1e3)
            asked = {name: getattr(wanted, name) for name in names}
            took = statistics.median(times)
            found.append({"asked": asked, "before": before, "n": len(rows), "ms": took})
    return found


def others(store: Store, n: int) -> dict[str, float]:
    """Return what else pages ask for, in ms."""
    shift = START + (n - 8 * 3600) * SECOND

    def of(ask: Any) -> float:
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            ask()
            times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times)

    return {
        "one part": of(lambda: store.inspection(n // 2)),
        "counts of a shift": of(lambda: store.counts(shift, START + n * SECOND)),
        "counts of a shift and recipe": of(
            lambda: store.counts(shift, START + n * SECOND, "screws")
        ),
        "queue of reviews": of(lambda: store.to_review("anna")),
    }


def table(figures: dict[str, Any]) -> str:
    lines = ["| database | question | questions | median ms | worst ms | worst is |"]
    lines.append("|---|---|---|---|---|---|")
    for kind, result in figures.items():
        for title, n_names in (("no filter", 0), ("one filter", 1), ("two filters", 2)):
            some = [each for each in result["questions"] if len(each["asked"]) == n_names]
            worst = max(some, key=lambda each: each["ms"])
            told = ", ".join(f"{name}={value}" for name, value in worst["asked"].items())
            told += "" if worst["before"] is None else " from the middle"
            median = statistics.median(each["ms"] for each in some)
            lines.append(
                f"| {kind} | {title} | {len(some)} | {median:.1f} | {worst['ms']:.0f} | {told} |"
            )
        for title, took in result["others"].items():
            lines.append(f"| {kind} | {title} | 1 | {took:.1f} | | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=N_PARTS)
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    figures = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places: dict[str, dict[str, Any]] = {"SQLite": {"address": folder / "sqlite"}}
        spec = importlib.util.spec_from_file_location("postgres_server", SERVER)
        if spec is not None and spec.loader is not None:
            helper = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(helper)
            if (programs := helper.server_programs()) is not None:
                server = stack.enter_context(helper.running(programs, durable=True))
                address = helper.new_database(server)
                places["PostgreSQL"] = {"address": address, "pictures": folder / "postgres"}
        for kind, place in places.items():
            store = Store.open(**place)
            fill(store, given.n)
            store.close()
            store = Store.open(**place)  # as a station that begins its day
            if kind == "PostgreSQL":
                with store._database.writing() as connection:
                    connection.exec_driver_sql("ANALYZE")  # its autovacuum does so within minutes
            figures[kind] = {
                "questions": measured(store, given.n),
                "others": others(store, given.n),
            }
            store.close()
            if kind == "SQLite":
                print(f"{(folder / 'sqlite' / 'station.db').stat().st_size / 1e6:.0f} MB")
    print(table(figures))
    given.output.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
