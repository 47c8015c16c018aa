"""What many tests need: small parts and models, the command line."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

# A busy machine is slow at times; a test that is right must not fail for it.
settings.register_profile("makellos", settings(), deadline=None)
settings.load_profile("makellos")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data that MAKELLOS_DATA names."""
    folder = Path(os.environ["MAKELLOS_DATA"])
    assert folder.is_dir(), f"MAKELLOS_DATA names {folder}, which is no folder"
    return folder


@dataclass(frozen=True)
class Told:
    """Hold what a run of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def everything(self) -> str:
        return self.out + self.err


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """Run the command line in this process; a run that says "Traceback" or is a bug fails."""
    from makellos.cli import main

    def run(*arguments: object) -> Told:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        told = Told(code, *capsys.readouterr())
        assert "Traceback" not in told.everything
        assert code in (0, 1, 2, 3), told.err
        return told

    return run


@pytest.fixture
def hears_interrupts() -> Iterator[None]:
    """Let the processes that a test starts hear SIGINT, which a shell's background work ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def own_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the ledger of test sets that the tests have, in place of that of who runs them."""
    path = tmp_path_factory.mktemp("own_ledger") / "test-sets.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAKELLOS_LEDGER", str(path))
        yield path


@pytest.fixture(scope="session")
def screws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return rendered screws: 24 good ones to learn from, 6 good and 10 defective to test."""
    from makellos.sets.synthetic_screws import write_screws

    folder = tmp_path_factory.mktemp("screws") / "screws"
    write_screws(folder, n_train=24, n_test_good=6, n_per_defect=2, size=128, seed=0)
    return folder


@pytest.fixture(scope="session")
def screw_model(screws: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a PatchCore model of the screws, small and fast; tests that change it make a copy."""
    from makellos import fit

    path = tmp_path_factory.mktemp("screw_model") / "screws.makellos"
    fit(screws, path, parameters={"image_size": 128}, false_alarms=0.1)
    return path


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """Return the module with the toy detector and its parts."""
    spec = importlib.util.spec_from_file_location(
        "toy_detector", Path(__file__).with_name("toy_detector.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def toy_parts(toy: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return gray parts for the toy detector: 30 to learn from, 10 good and 10 spotted to test."""
    folder: Path = toy.write_parts(tmp_path_factory.mktemp("toy_parts") / "parts")
    return folder


@pytest.fixture(scope="session")
def toy_model(toy: ModuleType, toy_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of the toy detector, which opens at once; tests that change it make a copy."""
    path = tmp_path_factory.mktemp("toy_model") / "toy.makellos"
    with pytest.MonkeyPatch.context() as patch:
        toy.install(patch)
        from makellos import fit

        fit(toy_parts, path, false_alarms=0.1)
    return path
