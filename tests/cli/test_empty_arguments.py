"""Arguments without a character, and paths in lists: what they name, and what they do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import makellos
from makellos.cli.comparing import _names
from makellos.errors import InputError, MissingRuntimeError


def test_empty_path_is_an_error_and_not_the_current_folder(
    toy_model: Path, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = cli("inspect", toy_model, "", "-o", tmp_path / "out")
    assert told.code == 2
    assert f"The argument after '{toy_model}' is empty" in told.err
    assert "the current folder is '.'" in told.err
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="An input is empty"):
        makellos.inspect(toy_model, ["a.png", ""])


def test_home_folder_is_known_in_every_name_of_a_list(
    toy_parts: Path, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert _names("a, ~/b") == ["a", "~/b"]
    told = cli("compare", toy_parts, "--models", f"{toy_parts / 'a'},~/b.makellos")
    assert told.code == 2 and str(toy_parts / "a") in told.err
    (tmp_path / "a.makellos").write_bytes(b"")
    told = cli("compare", toy_parts, "--models", "~/a.makellos,~/b.makellos")
    assert f"The model {tmp_path / 'b.makellos'} does not exist" in told.err


def test_search_says_what_is_missing_before_its_first_trial(
    toy_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(makellos.PaDiM, "packages", lambda _: ("no_such_package",))
    with pytest.raises(MissingRuntimeError, match="no_such_package"):
        makellos.tune(toy_parts, tmp_path / "s", detector="padim", n_trials=1)
    assert not (tmp_path / "s").exists()


def test_one_part_is_counted_as_one(
    toy_parts: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    (tmp_path / "good").mkdir()
    first = sorted((toy_parts / "train" / "good").iterdir())[0]
    (tmp_path / "good" / first.name).write_bytes(first.read_bytes())
    assert cli("data", "check", tmp_path).out.startswith("1 part, ")
