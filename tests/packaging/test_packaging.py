"""What is packaged for plants: a unit of systemd and a container file."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
UNIT = PROJECT / "packaging" / "makellos.service"
CONTAINERFILE = PROJECT / "packaging" / "Containerfile"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    # The program that it starts is not installed here: another stands in for it.
    text = UNIT.read_text(encoding="utf-8").replace("/opt/makellos/bin/makellos", "/bin/true")
    copy = tmp_path / "makellos.service"
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if "makellos.service" in line]
    assert complaints == []


def test_what_starts_the_station_is_a_verb_of_makellos() -> None:
    from typer.main import get_command

    from makellos.cli.app import application

    command = get_command(application()).commands["serve"]  # type: ignore[attr-defined]
    options = {name for each in command.params for name in each.opts}
    unit = re.search(r"ExecStart=\S+ (.+)", UNIT.read_text(encoding="utf-8"))
    container = re.findall(r'"([^"]+)"', CONTAINERFILE.read_text(encoding="utf-8").split("CMD")[-1])
    assert unit is not None
    for words in (unit[1].split(), container):
        assert words[0] == "serve"
        assert {word for word in words if word.startswith("--")} <= options


def test_pins_of_the_station_bring_no_pytorch_and_name_no_index() -> None:
    text = (PROJECT / "requirements" / "station.txt").read_text(encoding="utf-8")
    names = set(re.findall(r"^([\w.-]+)==", text, flags=re.MULTILINE))
    assert {"fastapi", "sqlalchemy", "alembic", "psycopg", "openvino", "uvicorn"} <= names
    assert not names & {"torch", "torchvision", "timm", "lightning-fabric"}
    assert "index-url" not in text
