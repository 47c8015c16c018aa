"""Models and recipes: versions stay, one of each recipe is in use."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from makellos.errors import StorageError
from makellos.store import NotFoundError, Store


@pytest.fixture
def model(store: Store, tmp_path: Path) -> str:
    (tmp_path / "m.makellos").write_bytes(b"model")
    return store.recipes.add_model(tmp_path / "m.makellos", person="eva", detector="padim").hash


def test_model_is_copied_once_under_its_hash(store: Store, model: str, tmp_path: Path) -> None:
    assert model == hashlib.sha256(b"model").hexdigest()
    kept = store.recipes.model(model)
    assert kept.path == store.folder / "models" / f"{model}.makellos"
    assert kept.path.read_bytes() == b"model"
    again = store.recipes.add_model(tmp_path / "m.makellos", person="otto", detector="padim")
    assert again == kept
    assert len(store.recipes.models()) == len(store.audit.entries()) == 1


def test_lost_model_file_is_brought_back(store: Store, model: str, tmp_path: Path) -> None:
    store.recipes.model(model).path.unlink()
    store.recipes.add_model(tmp_path / "m.makellos", person="eva", detector="padim")
    assert store.recipes.model(model).path.read_bytes() == b"model"


def test_model_that_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        store.recipes.add_model(tmp_path / "none", person="eva", detector="padim")
    with pytest.raises(NotFoundError, match="no model"):
        store.recipes.add("screws", "0" * 64, person="eva")


def test_one_version_is_in_use(store: Store, model: str) -> None:
    rules = {"rules": [{"more_than": 3}]}
    first = store.recipes.add("screws", model, person="eva", activate=False)
    assert (first.version, first.active) == (1, True)
    second = store.recipes.add("screws", model, person="eva", acceptance=rules, note="stricter")
    third = store.recipes.add("screws", model, person="eva", activate=False)
    assert (second.active, third.active) == (True, False)
    assert store.recipes.active("screws") == second
    assert store.recipes.active("screws").acceptance == rules
    back = store.recipes.activate("screws", 1, person="otto")
    assert (back.version, back.active) == (1, True)
    assert [each.active for each in store.recipes.versions("screws")] == [False, False, True]
    entry = store.audit.entries()[0]
    assert (entry.person, entry.action, entry.subject) == ("otto", "recipe_activated", "screws")
    assert entry.details == {"before": 2, "version": 1}


def test_unknown_recipe_and_version_are_named(store: Store, model: str) -> None:
    store.recipes.add("screws", model, person="eva")
    with pytest.raises(NotFoundError, match="Did you mean 'screws'"):
        store.recipes.active("screw")
    with pytest.raises(NotFoundError, match="no version 2"):
        store.recipes.activate("screws", 2, person="eva")
    assert store.recipes.active("screws").version == 1


def test_settings_of_people_are_logged_and_those_of_the_program_not(store: Store) -> None:
    store.settings.put("retention", {"days": 30}, "eva")
    store.settings.put("retention", {"days": 60}, "eva")
    store.settings.put("drift", [1.5, None], None)
    assert store.settings.get("retention") == {"days": 60}
    assert store.settings.get("drift") == [1.5, None]
    assert store.settings.get("else", 7) == 7
    assert [entry.details["value"]["days"] for entry in store.audit.entries()] == [60, 30]
