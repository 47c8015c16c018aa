"""Readers hold against what fuzzing found, and a few mutated inputs; `make fuzz` tries more."""

from __future__ import annotations

import random

import pytest
from fuzz import targets
from target import FOUND, first_inputs, mutated

TARGETS = targets()


def test_everything_found_has_a_target() -> None:
    assert {folder.name for folder in FOUND.glob("*/")} <= TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_reader_takes_its_first_inputs(name: str) -> None:
    target = TARGETS[name]
    assert [target(data) for data in target.seeds()] == [True] * len(target.seeds())


@pytest.mark.parametrize("name", TARGETS)
def test_reader_takes_or_refuses_what_was_found_and_what_is_mutated(name: str) -> None:
    target, draw = TARGETS[name], random.Random(0)
    inputs = first_inputs(target)
    for data in (*inputs, *(mutated(inputs, target.words, draw) for _ in range(20))):
        target(data)
