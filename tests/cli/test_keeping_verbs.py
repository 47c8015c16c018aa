"""The verbs history and users, on a station of a few parts."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from makellos.cli import keeping
from makellos.inspection import Inspection
from makellos.inspection.regions import Region
from makellos.store import NewInspection, Store

Cli = Callable[..., Any]
PASSWORD = "correct horse"  # noqa: S105 -- of nobody
HOSTILE = "=1+1\x1b[2J<script>\udc80\x00.png"


@pytest.fixture
def station(tmp_path: Path) -> Path:
    """Return a station with five parts, the last one with a name that is an attack."""
    folder = tmp_path / "station"
    store = Store.open(folder)
    region = Region(x=1, y=2, width=3, height=4, area=9, peak=3.5)
    found = [
        Inspection("a.png", "ok", 1.0, 0.5, 2.0, anomaly_map=np.zeros((2, 2), np.float32)),
        Inspection("b.png", "reject", 3.0, 0.001, 2.0, regions=(region,)),
        Inspection("c.png", "look_again", 1.9, 0.02, 2.0),
        Inspection("d.png", "unreadable", error="it is no picture"),
        Inspection(HOSTILE, "ok", 1.0, 0.5, 2.0),
    ]
    store.record(
        [
            NewInspection(
                inspection=each,
                recipe="screws",
                recipe_version=1,
                model_hash="0" * 64,
                picture=b"%d" % number,
                serial=f"S{number}",
                lot="L1" if number < 3 else None,
                fields={"line": 2},
            )
            for number, each in enumerate(found)
        ]
    )
    store.review(3, person="anna", decision="good")
    store.close()
    return folder


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    (tmp_path / "password.txt").write_text(f"{PASSWORD}\n")
    return tmp_path / "password.txt"


def ids(cli: Cli, station: Path, *options: str) -> list[int]:
    told = cli("history", "--store", station, "--json", "-", *options)
    assert told.code == 0, told.err
    return [row["id"] for row in json.loads(told.out)]


def test_history_lists_the_newest_first(cli: Cli, station: Path) -> None:
    told = cli("history", "--store", station)
    lines = told.out.splitlines()
    header = "id time (UTC) verdict score review recipe serial lot input"
    assert lines[0].split() == header.split()
    assert [line.split()[0] for line in lines[1:]] == ["5", "4", "3", "2", "1"]
    assert "\x1b" not in told.everything
    assert "good" in lines[3]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--verdict", "reject"], [2]),
        (["--review", "good"], [3]),
        (["--review", "any"], [3]),
        (["--review", "none"], [5, 4, 2, 1]),
        (["--serial", "S0"], [1]),
        (["--lot", "L1"], [3, 2, 1]),
        (["--text", "A.PNG"], [1]),
        (["--text", "s4"], [5]),
        (["--lot", "L1", "--verdict", "ok"], [1]),
        (["--recipe", "nuts"], []),
        (["--source", "api", "--limit", "2"], [5, 4]),
        (["--since", "2020-01-01", "--until", "2020-01-02"], []),
        (["--since", "2020-01-01T00:00:00+01:00"], [5, 4, 3, 2, 1]),
    ],
)
def test_history_filters(cli: Cli, station: Path, options: list[str], expected: list[int]) -> None:
    assert ids(cli, station, *options) == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--verdict", "rejected"], "Did you mean 'reject'?"),
        (["--review", "bad"], "Known: any, defective, good, none."),
        (["--since", "yesterday"], "Write it like"),
        (["--csv", "-", "--json", "-"], "cannot share standard output"),
    ],
)
def test_wrong_filters_are_explained(
    cli: Cli, station: Path, options: list[str], said: str
) -> None:
    told = cli("history", "--store", station, *options)
    assert told.code == 2
    assert said in told.err


def test_rows_are_those_of_inspect_with_what_the_history_adds(
    cli: Cli, station: Path, tmp_path: Path
) -> None:
    told = cli("history", "--store", station, "--csv", "-", "--json", tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())
    table = list(csv.DictReader(io.StringIO(told.out)))
    assert list(table[0])[:4] == ["id", "time", "recipe", "recipe_version"]
    assert {"input", "verdict", "score", "p_value", "threshold", "regions", "error"} <= set(rows[0])
    assert [row["id"] for row in table] == ["5", "4", "3", "2", "1"]
    assert json.loads(table[3]["regions"]) == rows[3]["regions"]
    assert json.loads(table[3]["fields"]) == {"line": 2}
    assert table[0]["input"].startswith("'=1+1\\x1b")


def test_rows_as_parquet(cli: Cli, station: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    told = cli("history", "--store", station, "--parquet", tmp_path / "rows.parquet")
    assert told.out == "5 rows.\n"
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert table.column("id").to_pylist() == [5, 4, 3, 2, 1]
    assert table.column("verdict").to_pylist()[3] == "reject"


def test_file_of_another_kind_is_left_alone(cli: Cli, station: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("mine")
    told = cli("history", "--store", station, "--csv", tmp_path / "notes.csv")
    assert told.code == 2
    assert "left alone" in told.err
    assert cli("history", "backup", tmp_path / "notes.csv", "--store", station).code == 2
    assert (tmp_path / "notes.csv").read_text() == "mine"


@pytest.mark.parametrize("words", [[], ["verify"], ["backup", "s.zip"]])
def test_no_station_is_made_by_looking(cli: Cli, tmp_path: Path, words: list[str]) -> None:
    told = cli("history", *words, "--store", tmp_path / "none")
    assert told.code == 2
    assert "There is no station" in told.err
    assert not (tmp_path / "none").exists()


def test_verify_tells_by_its_exit_code(cli: Cli, station: Path) -> None:
    told = cli("history", "verify", "--store", station)
    assert (told.code, "intact: 1 entry." in told.out) == (0, True)
    store = Store.open(station)
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE audit_log SET person = 'x'")
    store.close()
    told = cli("history", "--store", station, "verify", "--json", "-")
    assert told.code == 1
    assert json.loads(told.out)["fault"] == 1


def test_back_up_and_restore(cli: Cli, station: Path, tmp_path: Path) -> None:
    archive = tmp_path / "s.zip"
    assert cli("history", "backup", archive, "--store", station).code == 0
    assert cli("history", "backup", archive, "--store", station).code == 0
    told = cli("history", "restore", archive, "--store", tmp_path / "second")
    assert told.out == "Restored 5 parts and 6 files.\n"
    assert ids(cli, tmp_path / "second") == ids(cli, station)
    told = cli("history", "restore", archive, "--store", station)
    assert told.code == 2
    assert "already" in told.err
    (tmp_path / "text.zip").write_text("no archive")
    told = cli("history", "restore", tmp_path / "text.zip", "--store", tmp_path / "third")
    assert told.code == 2
    assert "not a backup of a station" in told.err


def test_people_are_added_listed_and_changed(cli: Cli, tmp_path: Path, password_file: Path) -> None:
    where = ("--store", tmp_path / "new")
    given = ("--password-file", password_file)
    assert cli("users", "add", "anna", "--role", "administrator", *given, *where).code == 0
    assert cli("users", "add", "bert", "--role", "viewer", *given, *where).code == 0
    assert cli("users", "role", "bert", "operator", *where).code == 0
    assert cli("users", "disable", "bert", *where).code == 0
    told = cli("users", "list", *where, "--json", "-")
    people = [(each["name"], each["role"], each["disabled"]) for each in json.loads(told.out)]
    assert people == [("anna", "administrator", False), ("bert", "operator", True)]
    assert PASSWORD not in told.out
    assert "argon2" not in told.out
    assert cli("users", "disable", "bert", "--undo", *where).code == 0
    password_file.write_text("another horse")
    assert cli("users", "password", "bert", *given, *where).code == 0
    store = Store.open(tmp_path / "new")
    assert store.people.check_password("bert", PASSWORD) is None
    assert store.people.check_password("bert", "another horse") is not None
    assert PASSWORD not in str(store.audit.entries())
    store.close()


@pytest.mark.parametrize(
    ("words", "password", "said"),
    [
        (["add", "anna", "--role", "viewer"], PASSWORD, "already"),
        (["add", "bert", "--role", "boss"], PASSWORD, "no role 'boss'"),
        (["add", " bert", "--role", "viewer"], PASSWORD, "spaces"),
        (["add", "b\x1b[2J", "--role", "viewer"], PASSWORD, "invisible"),
        (["add", "bert", "--role", "viewer"], "short", "10 to 1,024 characters"),
        (["add", "bert", "--role", "viewer"], "aaaaaaaaaaaaaaa", "too easy"),
        (["add", "bert", "--role", "viewer", "--language", "fr"], PASSWORD, "en or de"),
        (["password", "carl"], PASSWORD, "no person 'carl'"),
        (["role", "anna", "viewer"], None, "last administrator"),
        (["disable", "anna"], None, "last administrator"),
    ],
)
def test_wrong_words_about_people_are_explained(
    cli: Cli,
    tmp_path: Path,
    password_file: Path,
    words: list[str],
    password: str | None,
    said: str,
) -> None:
    where = ("--store", tmp_path / "new")
    first = ("users", "add", "anna", "--role", "administrator", "--password-file", password_file)
    assert cli(*first, *where).code == 0
    password_file.write_text(password or "")
    given = () if password is None else ("--password-file", password_file)
    told = cli("users", *words, *given, *where)
    assert told.code == 2
    assert said in told.err
    assert len(json.loads(cli("users", "list", *where, "--json", "-").out)) == 1


def test_password_is_asked_for_twice(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter([PASSWORD, "else", PASSWORD, PASSWORD])
    monkeypatch.setattr(keeping.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(keeping.getpass, "getpass", lambda prompt: next(said))
    add = ("users", "add", "anna", "--role", "viewer", "--store", tmp_path / "new")
    told = cli(*add)
    assert told.code == 2
    assert "passwords differ" in told.err
    assert cli(*add).code == 0


def test_without_anybody_to_ask_the_option_is_named(cli: Cli, tmp_path: Path) -> None:
    told = cli("users", "add", "anna", "--role", "viewer", "--store", tmp_path / "new")
    assert told.code == 2
    assert "--password-file" in told.err


BASE = """
import sys
sys.modules.update(dict.fromkeys(["sqlalchemy", "argon2"]))
from makellos.cli import main
codes = [main(words.split()) for words in ("history", "history verify", "users list")]
sys.exit(codes != [2, 2, 2])
"""


def test_base_install_says_what_to_add() -> None:
    done = subprocess.run([sys.executable, "-c", BASE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("pip install '.[station]'") == 3
