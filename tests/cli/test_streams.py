"""Standard streams that are closed, full or not there cost their text, not the work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from makellos.cli.arguments import expanded

MAIN = [sys.executable, "-m", "makellos"]
on_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a shell of POSIX systems")
# How a shell starts a program without one of its streams.
REDIRECTIONS = ["1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-", "1>/dev/full", "2>/dev/full"]
REDIRECTIONS += ["1>/dev/full 2>/dev/full"]


@pytest.fixture
def mixed(toy_parts: Path, tmp_path: Path) -> Path:
    """Return a folder of 20 good parts and a file that is none, which standard error tells."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for path in sorted((toy_parts / "train" / "good").iterdir())[:20]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "text.png").write_text("no picture")
    return folder


def shell(command: list[str], redirection: str) -> int:
    line = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    return subprocess.run(line, check=False, timeout=100, stdin=subprocess.DEVNULL).returncode


@on_posix
@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_all_rows_are_written_without_standard_streams(
    toy_model: Path, mixed: Path, tmp_path: Path, redirection: str
) -> None:
    if "/dev/full" in redirection and not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    out = tmp_path / "out"
    assert shell([*MAIN, "inspect", str(toy_model), str(mixed), "-o", str(out)], redirection) == 1
    rows = [json.loads(line) for line in (out / "inspections.jsonl").read_text().splitlines()]
    assert len(rows) == len((out / "inspections.csv").read_text().splitlines()) - 1 == 21
    assert sorted(path.name for path in out.iterdir()) == ["inspections.csv", "inspections.jsonl"]
    assert shell([*MAIN, "inspect", str(toy_model), str(tmp_path / "none")], redirection) == 1
    assert shell([*MAIN, "info", str(tmp_path / "none")], redirection) == 2


@on_posix
@pytest.mark.parametrize("redirection", ["1>&-", "1>/dev/full"])
@pytest.mark.parametrize("option", ["--csv=-", "--json=-"])
def test_data_that_standard_output_does_not_take_are_an_error(
    toy_model: Path, mixed: Path, tmp_path: Path, redirection: str, option: str
) -> None:
    command = [*MAIN, "inspect", str(toy_model), str(mixed / "000.png"), option]
    assert shell(command, f"{redirection} 2>{tmp_path / 'told'}") == 2
    assert "Error: Standard output cannot be written: " in (tmp_path / "told").read_text()


@on_posix
def test_a_reader_that_leaves_costs_no_row(toy_model: Path, mixed: Path, tmp_path: Path) -> None:
    command = [*MAIN, "inspect", str(toy_model), str(mixed), "-o", str(tmp_path / "out")]
    assert shell(command, "2>&1 | true") == 0
    rows = (tmp_path / "out" / "inspections.jsonl").read_text().splitlines()
    assert len(rows) == 21


WITHOUT = """
import sys
sys.stdout = sys.stderr = sys.stdin = None
from makellos.cli import main
code = main(sys.argv[1:])
assert sys.stdout is None
sys.exit(code)
"""


def test_a_program_without_a_window_does_its_work(
    toy_model: Path, mixed: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    command = ["inspect", str(toy_model), str(mixed), "-o", out, "--overlays"]
    assert subprocess.run([sys.executable, "-c", WITHOUT, *command], check=False).returncode == 1
    assert len((tmp_path / "out" / "inspections.jsonl").read_text().splitlines()) == 21
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 20


def test_a_home_folder_is_found_where_the_shell_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    given = ["inspect", "~", "~/a", "--csv=~/x", "-o~/y", "--set", "a=~/b", "b~", "-", "--json=-"]
    home = str(tmp_path)
    assert expanded(given) == [
        *("inspect", home, f"{home}/a", f"--csv={home}/x", f"-o{home}/y", "--set", "a=~/b", "b~"),
        *("-", "--json=-"),
    ]
    (tmp_path / "~").mkdir()
    assert expanded(["~"]) == ["~"]


def test_wildcards_are_expanded_where_the_shell_leaves_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png", "[c].png", "sub/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    given = ["?.png", "[c].png", "none*", "--csv=*.csv", "**/d.png"]
    found = ["a.png", "b.png", "[c].png", "none*", "--csv=*.csv", str(Path("sub", "d.png"))]
    assert expanded(given, wildcards=True) == found
    assert expanded(given, wildcards=False) == given
