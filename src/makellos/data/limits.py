"""Texts and lists of limited length, for files that anybody may have written.

A list ends at its first mistake: one error, and not one for each of a million entries.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

__all__ = ["Count", "Counts", "Name", "Names", "Numbers", "Side", "Text", "Values", "Whole"]

_MANY = 4_000_000
Name = Annotated[str, Field(max_length=10_000)]
Text = Annotated[str, Field(max_length=100_000)]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Whole = Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)]
Side = Annotated[int, Field(ge=1, le=1 << 31)]  # of a picture, in pixels
Counts = Annotated[tuple[Count, ...], Field(max_length=_MANY, fail_fast=True)]
Names = Annotated[list[Name], Field(max_length=_MANY, fail_fast=True)]
Numbers = Annotated[list[float], Field(max_length=_MANY, fail_fast=True)]
# Parameters of a detector, by name.
Values = Annotated[dict[Name, bool | Whole | float | Name], Field(max_length=1000)]
