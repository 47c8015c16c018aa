"""Reading of formats whose libraries are written in C in a process of its own.

A damaged or hostile file may make such a library crash, hang or fill the memory: it then costs that
process, which is started anew, and not the run. The process serves many files, and ends with the
one that started it. What it answers is checked like a file.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from makellos.errors import InputError, MissingRuntimeError
from makellos.vibration._columns import MAX_SAMPLES, NUMBERS, Column

__all__ = ["MEMORY", "READER", "Answer", "ReaderProcess", "received", "send"]

_SECONDS, _BYTES_PER_SECOND = 20.0, 5e6  # what reading may take
MEMORY = 5 << 28  # bytes
_ERRORS: dict[str, type[Exception]] = {
    "InputError": InputError,
    "MissingRuntimeError": MissingRuntimeError,
    "MemoryError": MemoryError,
}
_START = (
    "import sys; sys.path[:] = {path!r}\n"
    "from makellos.vibration._foreign_files import serve; serve()"
)


@dataclass(frozen=True)
class Answer:
    """Hold the arrays that a file holds, with names and units, and texts by name."""

    columns: list[Column]
    facts: dict[str, str]


class ReaderProcess:
    """Read files in another process, one after the other, from any thread."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Leave the process to the one that this one was forked from."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """End the process; the next file starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def read(self, kind: str, path: Path) -> Answer:
        """Return what a file holds; raises what the reader of this kind raises.

        `InputError` also where it took too long, or the process ended.
        """
        seconds = _SECONDS + path.stat().st_size / _BYTES_PER_SECOND
        with self._lock:
            process = self._process = self._running()
            late = threading.Event()

            def end() -> None:
                late.set()
                process.kill()

            timer = threading.Timer(seconds, end)
            timer.daemon = True
            timer.start()
            try:
                return _asked(process, kind, path.absolute())
            except (EOFError, OSError) as error:
                self.close()
                reason = (
                    f"took longer than {seconds:.0f} s" if late.is_set() else "crashed the reader"
                )
                raise InputError(
                    f"{path} {reason}, so it is damaged, or was made to do so. Copy it again (a "
                    "broken copy?) or export it again."
                ) from error
            except BaseException as error:
                if not isinstance(error, (*_ERRORS.values(), _ToldError)):
                    self.close()  # something of its answer may still be on its way
                raise
            finally:
                timer.cancel()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        environment = {
            **os.environ,
            "OPENBLAS_NUM_THREADS": "1",  # each thread takes memory
            "HDF5_PLUGIN_PRELOAD": "::",  # no filters from elsewhere
        }
        return subprocess.Popen(  # noqa: S603 - nothing of it is from outside
            [sys.executable, "-c", _START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )


class _ToldError(ValueError):
    """Say what the reader found wrong with a file."""


READER = ReaderProcess()
atexit.register(READER.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=READER.forget)


def _asked(process: subprocess.Popen[bytes], kind: str, path: Path) -> Answer:
    if process.stdin is None or process.stdout is None:
        raise EOFError
    send(process.stdin, {"kind": kind, "path": str(path)})
    header = received(process.stdout)
    if "error" in header:
        text = str(header.get("text"))
        raise _ERRORS.get(str(header["error"]), _ToldError)(text)
    columns, left = [], MAX_SAMPLES
    for name, unit, code, shape in header["arrays"]:
        n, dtype = math.prod(shape), np.dtype(code)
        if dtype.kind not in (*NUMBERS, "U") or not 0 <= n <= left or dtype.itemsize > 1 << 16:
            raise EOFError
        left -= n
        values = np.empty(n, dtype)
        _fill(process.stdout, values.view(np.uint8).data)
        columns.append(Column(name=name, values=values.reshape(shape), unit=unit))
    return Answer(columns, header["facts"])


def send(stream: Any, header: dict[str, Any]) -> None:
    """Write a header, as JSON with its length before it."""
    encoded = json.dumps(header).encode()
    stream.write(struct.pack("<I", len(encoded)) + encoded)
    stream.flush()


def received(stream: Any) -> dict[str, Any]:
    """Read a header that `send` wrote; raises `EOFError` where there is none."""
    (size,) = struct.unpack("<I", _fill(stream, memoryview(bytearray(4))))
    if size > 1 << 24:
        raise EOFError
    header: dict[str, Any] = json.loads(bytes(_fill(stream, memoryview(bytearray(size)))))
    return header


def _fill(stream: Any, target: memoryview) -> memoryview:
    done = 0
    while done < len(target):
        n = stream.readinto(target[done:])
        if not n:
            raise EOFError
        done += n
    return target
