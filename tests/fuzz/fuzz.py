"""Feed the readers what nobody means to write: fuzz.py [NAME ...] [--seconds 600] [--jobs 1].

Each reader runs in a process of its own, under atheris where it is installed, else with inputs
mutated at random. Failures are every exception but makellos's own, a crash, an input that takes
more than 5 seconds, and more than 1 GB on top of what the reader needs for its first inputs. The
input that failed then lies in build/fuzz/NAME/; `fuzz.py NAME --input FILE` reads it once more.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import importlib.util
import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from target import Target, first_inputs, mutated

HERE = Path(__file__).parent
WORK = Path("build/fuzz")
SECONDS, LIMIT_MB = 5, 1024
_SPARE = 60  # seconds that a reader may take to start and to stop
_SHOWN = 40  # lines of what a failed reader said


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="readers; without, all of them")
    parser.add_argument("--seconds", type=int, default=600, help="for each reader")
    parser.add_argument("--jobs", type=int, default=1, help="readers at a time")
    parser.add_argument("--input", type=Path, help="read this input alone")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return fuzz(given.names[0], given.seconds)
    if given.input is not None:
        accepted = targets()[given.names[0]](given.input.read_bytes())
        print("accepted" if accepted else "refused")
        return 0
    names = given.names or sorted(targets())
    with ThreadPoolExecutor(given.jobs) as pool:
        went_well = list(pool.map(partial(run, seconds=given.seconds), names))
    return int(not all(went_well))


def targets() -> dict[str, Target]:
    """Return the targets of every targets_*.py beside this file, by name."""
    modules = [importlib.import_module(path.stem) for path in sorted(HERE.glob("targets_*.py"))]
    return {target.name: target for module in modules for target in module.TARGETS}


def run(name: str, *, seconds: int) -> bool:
    """Fuzz one reader in a process of its own; tell whether all went well, and say so."""
    command = [sys.executable, __file__, name, "--child", "--seconds", str(seconds)]
    started, log = time.monotonic(), WORK / name / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        try:
            code = subprocess.run(
                command, stdout=stream, stderr=stream, timeout=seconds + _SPARE, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = f"{name}: {'ok' if code == 0 else 'FAILED'} after {time.monotonic() - started:.0f} s"
    shown = said[-1:] if code == 0 else said[-_SHOWN:]
    print("\n    ".join([told, *shown]), flush=True)
    return code == 0


def fuzz(name: str, seconds: int) -> int:
    """Feed one reader in this process for so many seconds; a failure ends the process."""
    if importlib.util.find_spec("atheris") is None:
        return mutate(targets()[name], seconds)
    import atheris

    with atheris.instrument_imports(include=["makellos"]):
        target = targets()[name]
        corpus = WORK / name / "corpus"
        corpus.mkdir(exist_ok=True)
        for number, data in enumerate(first_inputs(target)):
            target(data)
            (corpus / f"first-{number}").write_bytes(data)
        words = WORK / name / "words"
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words or [b"\0"]))
        check_memory = memory_check()
        options = {
            "max_total_time": seconds,
            "timeout": SECONDS,
            "rss_limit_mb": 0,  # peaks are checked after every input
            "max_len": target.max_bytes,
            "dict": words,
            "artifact_prefix": f"{WORK / name}/",
        }

        def read(data: bytes) -> None:
            try:
                target(data)
                check_memory()
            except BaseException:
                (WORK / name / "failed").write_bytes(
                    data
                )  # a process may end before libFuzzer does
                raise

        flags = [f"-{key}={value}" for key, value in options.items()]
        atheris.Setup([name, *flags, str(corpus)], read)
        atheris.Fuzz()  # ends the process
    return 1


def mutate(target: Target, seconds: int) -> int:
    """Feed a target with mutated inputs: what is done where atheris is not to be had."""
    inputs = first_inputs(target)
    for data in inputs:
        target(data)
    check_memory, seed = memory_check(), time.time_ns()
    draw, kept = random.Random(seed), WORK / target.name / "crash"
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        data = mutated(inputs, target.words, draw)[: target.max_bytes]
        kept.write_bytes(data)  # before it can end the process
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        if target(data) and len(inputs) < 1000:
            inputs.append(data)
        faulthandler.cancel_dump_traceback_later()
        check_memory()
        count += 1
    kept.unlink(missing_ok=True)
    print(f"{count} inputs, seed {seed}")
    return 0


def memory_check() -> Callable[[], None]:
    """Return what raises `MemoryError` once this process has taken too much since now."""
    try:
        import resource
    except ImportError:  # Windows
        return lambda: None
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10

    def peak() -> int:
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit)

    most = peak() + LIMIT_MB

    def check() -> None:
        if peak() > most:
            raise MemoryError(f"{peak()} MB, of which {most - LIMIT_MB} before the input")

    return check


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
