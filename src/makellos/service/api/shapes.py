"""What goes in and out of the API, as its description shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import Path, Query
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from makellos.inspection.acceptance import Acceptance
from makellos.service.failures import CODES

__all__ = [
    "Activation",
    "Budget",
    "ErrorBody",
    "Inspections",
    "Json",
    "Kept",
    "NewPerson",
    "NewReview",
    "NewToken",
    "NewVersion",
    "Number",
    "PersonChange",
    "Short",
    "Texts",
    "When",
    "errors",
]

LONGEST = 256  # characters of what is looked up
_NAME = r"^[^\x00-\x1f\x7f-\x9f/\\]+$"
Short = Annotated[str, Field(min_length=1, max_length=LONGEST)]
RecipeName = Annotated[str, Field(min_length=1, max_length=100, pattern=_NAME)]
Number = Annotated[int, Path(ge=1, lt=1 << 63)]
When = Annotated[AwareDatetime | None, Query()]
Role = Literal["viewer", "operator", "engineer", "administrator"]
Decision = Literal["good", "defective"]


class Json(JSONResponse):
    """Answer as JSON in ASCII, which holds whatever text a file name may have."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, ensure_ascii=True, allow_nan=False).encode("ascii")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Error(BaseModel):
    """Say what was refused, by a stable code and in words."""

    code: str
    message: str
    details: Any = None


class ErrorBody(BaseModel):
    """Hold an error."""

    error: Error


class InspectionRow(BaseModel):
    """A part: a row as `makellos inspect` gives it, with what the history adds."""

    model_config = ConfigDict(extra="allow")

    id: int
    time: str
    recipe: str
    recipe_version: int
    serial: str | None
    lot: str | None
    source: str
    review: Decision | None
    fields: dict[str, Any]
    input: str
    verdict: Literal["ok", "look_again", "reject", "unreadable"]
    score: float | None
    p_value: float | None
    threshold: float | None
    regions: list[dict[str, Any]]
    milliseconds: float
    error: str | None


class Inspections(BaseModel):
    """Parts, and where the next page of a history begins: null at its end."""

    inspections: list[InspectionRow]
    before: int | None = None


class BoxIn(_Strict):
    """A place in the picture, in its pixels."""

    x: Annotated[float, Field(ge=0, le=1e6)]
    y: Annotated[float, Field(ge=0, le=1e6)]
    width: Annotated[float, Field(gt=0, le=1e6)]
    height: Annotated[float, Field(gt=0, le=1e6)]


class NewReview(_Strict):
    """What a person says of a part."""

    decision: Decision
    boxes: Annotated[list[BoxIn], Field(max_length=100)] = []
    note: Annotated[str, Field(max_length=2000)] = ""
    blind: bool = False


class Kept(_Strict):
    """Whether retention must leave a part alone."""

    kept: bool


class NewVersion(_Strict):
    """A version of a recipe: a model that the station has, and rules that it is held to."""

    model_hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    acceptance: Acceptance | None = None
    note: Annotated[str, Field(max_length=2000)] = ""
    activate: bool = False


class Activation(_Strict):
    """The version that is to inspect."""

    version: Annotated[int, Field(ge=1, lt=1 << 31)]


class Budget(_Strict):
    """A new false-alarm budget for the model of a recipe."""

    false_alarms: Annotated[float, Field(gt=0, lt=1)]
    note: Annotated[str, Field(max_length=2000)] = ""
    activate: bool = False


class NewPerson(_Strict):
    """A person to be."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=_NAME)]
    password: Annotated[str, Field(min_length=1, max_length=1000)]
    role: Role
    language: Literal["en", "de"] = "en"


class PersonChange(_Strict):
    """What changes of a person; what is left out stays."""

    role: Role | None = None
    password: Annotated[str | None, Field(max_length=1000)] = None
    disabled: bool | None = None


class PasswordChange(_Strict):
    """A password of one's own, and the one that it replaces."""

    present: Annotated[str, Field(max_length=1024)]
    new: Annotated[str, Field(max_length=1024)]


class NewToken(_Strict):
    """A token for a machine."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=_NAME)]
    role: Role


class Texts(BaseModel):
    """An answer whose content the description leaves open."""

    model_config = ConfigDict(extra="allow")


def errors(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the description of the errors that a route may give, and that every one may."""
    by_status: dict[int, list[str]] = {}
    always = ("not_logged_in", "forbidden", "invalid", "too_many_requests", "unknown_host")
    for code in dict.fromkeys([*codes, *always, "unavailable", "storage"]):
        by_status.setdefault(CODES[code].status, []).append(code)
    return {
        status: {"model": ErrorBody, "description": "; ".join(f"`{c}`" for c in found)}
        for status, found in by_status.items()
    }


def listed(name: str, rows: Sequence[Mapping[str, Any]]) -> Json:
    """Answer with rows under a name."""
    return Json({name: list(rows)})
