"""Measure the inspection station under load, as several clients post parts to it.

    python benchmarks/bench_station.py --parts screws/test --model screws.makellos

The service, the clients and the decoding to compare with are processes of their own. `--overload`
posts without waiting for answers at twice the rate just measured; `--kill N` ends the service N
times by SIGKILL while it works, and looks at what was stored.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

CLIENTS = 8
BOUNDARY = "makellos-bench"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def main() -> None:
    """Run what was asked for, print a table and write JSON."""
    given = arguments()
    if given.drive:
        print(json.dumps(asyncio.run(drive(given))))
        return
    if given.decode:
        print(json.dumps(decode(given)))
        return
    with tempfile.TemporaryDirectory(prefix="bench-station-") as folder:
        found = killed(given, Path(folder)) if given.kill else measured(given, Path(folder))
    for name, value in found.items():
        print(f"{name:32} {value:.4g}" if isinstance(value, float) else f"{name:32} {value}")
    given.json.write_text(json.dumps(found, indent=1))


def arguments() -> argparse.Namespace:
    """Return what was typed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--count", type=int, default=0, help="parts instead of seconds")
    parser.add_argument("--rate", type=float, default=0.0, help="parts/s; 0: as fast as answers")
    parser.add_argument("--overload", action="store_true")
    parser.add_argument("--kill", type=int, default=0)
    parser.add_argument("--port", type=int, default=8471)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/bench_station.json"))
    parser.add_argument("--drive", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--decode", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def measured(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return rates, latencies and memory under load, beside decoding alone."""
    decoding = helper(given, "--decode")
    service = started(given, folder)
    try:
        helper(given, "--drive", seconds=5.0)  # warm
        before = memory(service)
        load = helper(given, "--drive", rate=given.rate)
        found = {
            "parts/s": load["rate"],
            "p50 ms": load["p50"],
            "p95 ms": load["p95"],
            "decoding alone, parts/s": decoding["rate"],
            "share of decoding": load["rate"] / decoding["rate"],
            "answers": load["codes"],
            "memory before MB": before,
            "memory after MB": memory(service),
        }
        if given.overload:
            over = helper(given, "--drive", rate=2 * load["rate"])
            found["overload: parts/s asked"] = 2 * load["rate"]
            found["overload: answers"] = over["codes"]
            found["overload: stored parts/s"] = over["rate"]
            load["ids"] += over["ids"]
    finally:
        service.send_signal(signal.SIGTERM)
        code = service.wait(60)
    found["exit code"] = code
    found["answered, not stored"] = len(set(load["ids"]) - stored_ids(folder))
    return found


def killed(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return what is stored after the service was killed under load several times."""
    answered: list[str] = []
    ids: list[int] = []
    n_starts = 0
    for number in range(given.kill):
        service = started(given, folder)
        n_starts += 1
        start = ["--start", str(number * 1_000_000)]
        command = [*own(given), "--drive", "--seconds", "8", *start]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        time.sleep(1.5 + 0.13 * number)
        service.kill()
        service.wait()
        told = json.loads(load.communicate()[0])
        answered += told["keys"]
        ids += told["ids"]
    service = started(given, folder)
    service.send_signal(signal.SIGTERM)
    service.wait(60)
    keys = dict(stored(folder, "select key, inspection_id from inspection_keys"))
    rows = stored_ids(folder)
    hashed = [hashlib.sha256(key.encode()).hexdigest() for key in answered]
    return {
        "kills": given.kill,
        "starts without repair": n_starts,
        "answered": len(answered),
        "answered, not stored": sum(keys.get(key) not in rows for key in hashed),
        "answered with another number": sum(
            keys.get(key) != number for key, number in zip(hashed, ids, strict=True)
        ),
        "stored": len(rows),
        "stored twice": len(rows) - len(set(keys.values())),
        "pictures missing": missing_pictures(folder),
    }


def own(given: argparse.Namespace) -> list[str]:
    """Return the command of this program with what was given."""
    places = ["--parts", str(given.parts), "--model", str(given.model), "--port", str(given.port)]
    return [sys.executable, __file__, *places]


def helper(
    given: argparse.Namespace, kind: str, *, rate: float = 0.0, seconds: float | None = None
) -> dict[str, Any]:
    """Run this program as another process and return what it says."""
    lasts = given.seconds if seconds is None else seconds
    count = [] if seconds is not None or not given.count else ["--count", str(given.count)]
    options = [kind, "--seconds", str(lasts), "--rate", str(rate), *count]
    done = subprocess.run([*own(given), *options], check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def started(given: argparse.Namespace, folder: Path) -> subprocess.Popen[str]:
    """Return the service, once it is ready."""
    program = [sys.executable, "-m", "makellos", "serve", str(given.model)]
    options = ["--port", str(given.port), "--store", str(folder / "station")]
    service = subprocess.Popen([*program, *options], stdout=subprocess.PIPE, text=True)
    if service.stdout is None:
        raise RuntimeError("the service has no output")
    for line in service.stdout:
        if line.startswith("Stop with"):
            return service
    raise RuntimeError(f"the service ended with {service.wait()}")


def memory(service: subprocess.Popen[str]) -> float:
    """Return the resident memory of a process in MB; 0 where the system does not tell."""
    try:
        text = Path(f"/proc/{service.pid}/statm").read_text()
    except OSError:
        return 0.0
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def stored(folder: Path, query: str) -> list[Any]:
    """Return what a query of the database of the station gives."""
    import sqlite3

    database = sqlite3.connect(folder / "station" / "station.db")
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def stored_ids(folder: Path) -> set[int]:
    """Return the numbers of all stored parts."""
    return {number for (number,) in stored(folder, "select id from inspections")}


def missing_pictures(folder: Path) -> int:
    """Return how many pictures of stored parts are not there, or are others."""
    there = {path.stem: path for path in (folder / "station" / "pictures").rglob("*.*")}
    there |= {path.name: path for path in (folder / "station" / "pictures").rglob("*")}
    wanted = {name for (name,) in stored(folder, "select distinct picture from inspections")}

    def is_right(name: str) -> bool:
        path = there.get(name)
        return path is not None and hashlib.sha256(path.read_bytes()).hexdigest() == name

    return sum(not is_right(name) for name in wanted)


def pictures(given: argparse.Namespace) -> list[bytes]:
    """Return the files of all parts."""
    return [path.read_bytes() for path in sorted(given.parts.rglob("*.png"))]


def decode(given: argparse.Namespace) -> dict[str, float]:
    """Return how many pictures a second all cores decode that do nothing else."""
    from concurrent.futures import ThreadPoolExecutor

    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    parts = pictures(given)

    def one(content: bytes) -> Any:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, parts))
        started, n = time.perf_counter(), 0
        while time.perf_counter() - started < min(given.seconds, 5.0):
            n += len(list(pool.map(one, parts)))
        return {"rate": n / (time.perf_counter() - started)}


class Driver:
    """Post parts as clients that wait for each answer, or at a rate of their own."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.parts = given, pictures(given)
        self.number = given.start
        self.codes: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.ids: list[int] = []
        self.keys: list[str] = []

    async def client(self, until: float) -> None:
        """Post one part after another over one connection."""
        streams: Streams | None = None
        while time.perf_counter() < until and not self._is_done():
            self.number += 1
            streams = await self.post(self.number, streams)
            if streams is None and self.codes["broken"] > 20:
                return

    def _is_done(self) -> bool:
        return bool(self.given.count) and self.number - self.given.start >= self.given.count

    async def post(self, number: int, streams: Streams | None) -> Streams | None:
        """Post a part; return the connection, None where it broke."""
        content, key = self.parts[number % len(self.parts)], f"bench-{number}"
        begun = time.perf_counter()
        try:
            if streams is None:
                streams = await asyncio.open_connection("127.0.0.1", self.given.port)
            status, body = await exchanged(streams, request(key, content))
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.codes["broken"] += 1
            return None
        self.codes[str(status)] += 1
        if status == 201:
            self.seconds.append(time.perf_counter() - begun)
            self.ids.append(json.loads(body)["inspections"][0]["id"])
            self.keys.append(f"api:{key}:0")
        return streams

    async def at_rate(self, until: float) -> None:
        """Post parts at a rate, whether they are answered or not."""
        tasks: set[asyncio.Task[None]] = set()
        idle: list[Streams] = []
        begun, n = time.perf_counter(), 0

        async def one(number: int) -> None:
            streams = await self.post(number, idle.pop() if idle else None)
            if streams is not None:
                idle.append(streams)

        while time.perf_counter() < until and not self._is_done():
            self.number += 1
            n += 1
            task = asyncio.create_task(one(self.number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(max(0.0, begun + n / self.given.rate - time.perf_counter()))
        await asyncio.gather(*tasks)


async def drive(given: argparse.Namespace) -> dict[str, Any]:
    """Post for some seconds and return what came back."""
    driver = Driver(given)
    begun = time.perf_counter()
    until = begun + (1e9 if given.count else given.seconds)
    if given.rate:
        await driver.at_rate(until)
    else:
        await asyncio.gather(*(driver.client(until) for _ in range(CLIENTS)))
    spent = time.perf_counter() - begun
    waits = sorted(1000 * each for each in driver.seconds) or [0.0]
    return {
        "rate": len(driver.seconds) / spent,
        "p50": statistics.median(waits),
        "p95": waits[min(len(waits) - 1, int(0.95 * len(waits)))],
        "codes": dict(driver.codes),
        "ids": driver.ids,
        "keys": driver.keys,
    }


def request(key: str, content: bytes) -> bytes:
    """Return the bytes of a request with a picture."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="part.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    body = head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    lines = (
        "POST /api/inspections HTTP/1.1\r\nHost: localhost\r\n"
        f"Idempotency-Key: {key}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return lines.encode() + body


async def exchanged(streams: Streams, sent: bytes) -> tuple[int, bytes]:
    """Send a request over a connection and return status and body of the answer."""
    reader, writer = streams
    writer.write(sent)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split(" ", 2)[1])
    length = int(head.split("content-length:", 1)[1].split("\r\n", 1)[0])
    return status, await reader.readexactly(length)


if __name__ == "__main__":
    main()
