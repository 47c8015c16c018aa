"""Recipes: their versions, what another budget would have done, swapping and bringing back."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, UploadFile
from fastapi.responses import HTMLResponse, Response
from starlette.concurrency import run_in_threadpool

from makellos.errors import ConfigurationError, InputError
from makellos.inspection.acceptance import Acceptance
from makellos.service.pages.charts import budget_chart
from makellos.service.pages.page import Engineer, Page, Viewer
from makellos.service.pages.parts import ModelFacts, model_facts, view
from makellos.service.pages.rendering import back_to
from makellos.service.recalibrating import recalibrated
from makellos.store import Filter, NotFoundError, RecipeVersion, StoredInspection

__all__ = ["BUDGETS", "Outcome", "check_recipe_name", "outcome", "router"]

router = APIRouter(include_in_schema=False)
BUDGETS = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03),
    *(0.04, 0.05, 0.075, 0.1, 0.15, 0.2),
)
_LOOKED_BACK = 1000  # parts
_SHOWN = 12  # parts that flip
_NAME = re.compile(r"[\w][\w .+-]{0,63}", re.UNICODE)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Outcome:
    """Count what a budget does to parts: by verdict, and what a person has said of those."""

    reject: int
    look_again: int
    good_rejected: int
    defects_missed: int


def outcome(
    parts: Sequence[StoredInspection], budget: float, facts: ModelFacts
) -> tuple[Outcome, list[str]]:
    """Return what a budget would have done to parts, by their stored p-values, and each verdict.

    A part that a rule of the recipe rejects, is rejected under every budget.
    """
    limit = budget + _beside(budget, facts)
    verdicts = []
    for part in parts:
        p_value = part.p_value if part.p_value is not None else 1.0
        by_rule = bool(part.result.get("broken_rules")) and part.verdict == "reject"
        if by_rule or p_value <= budget * (1 + 1e-9):
            verdicts.append("reject")
        else:
            verdicts.append("look_again" if p_value <= limit * (1 + 1e-9) else "ok")
    pairs = list(zip(parts, verdicts, strict=True))
    found = Outcome(
        reject=verdicts.count("reject"),
        look_again=verdicts.count("look_again"),
        good_rejected=sum(v == "reject" and part.decision == "good" for part, v in pairs),
        defects_missed=sum(v == "ok" and part.decision == "defective" for part, v in pairs),
    )
    return found, verdicts


def _beside(budget: float, facts: ModelFacts) -> float:
    """Return the share to look at again beside a budget: twice that, or what the model fixes."""
    beside = facts.look_again_limit - facts.budget
    return 2 * budget if abs(beside - 2 * facts.budget) < 1e-9 else beside


def check_recipe_name(name: str) -> str:
    """Return the name of a recipe; raises `InputError` for one that no file and page can bear."""
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name[:80]!r} is no name for a recipe; expected up to 64 letters, digits, blanks or "
            "any of . + - _, beginning with a letter or digit."
        )
    return name


@router.get("/models", response_class=HTMLResponse)
def models(page: Viewer) -> HTMLResponse:
    """Show all recipes."""
    store = page.store
    recipes = []
    for name in store.recipes.names():
        versions = store.recipes.versions(name)
        active = next((each for each in versions if each.active), None)
        shown = active or versions[-1]
        recipes.append(
            {
                "name": name,
                "version": shown,
                "active": active is not None,
                "n_versions": len(versions),
                "facts": model_facts(store, shown.model_hash),
                "failed": page.station.pool.failed.get(name),
            }
        )
    return page.render("models.html", recipes=recipes)


@router.post("/models")
async def add_model(
    page: Engineer,
    files: UploadFile,
    name: Annotated[str, Form()],
    note: Annotated[str, Form()] = "",
) -> Response:
    """Take a model file in as a recipe, or as a new version of one."""
    recipe = check_recipe_name(name)
    with tempfile.TemporaryDirectory(prefix="new-", dir=page.store.folder) as folder:
        path = Path(folder) / "model.makellos"
        with path.open("wb") as out:
            while chunk := await files.read(_CHUNK):
                out.write(chunk)
        await run_in_threadpool(
            page.station.add_model,
            path,
            person=page.name,
            recipe=recipe,
            acceptance=_rules(page, recipe),
            note=note[:500],
            file_name=(files.filename or "")[:200],
        )
    return sent_to(page, f"/models/{quote(recipe)}")


def sent_to(page: Page, path: str) -> Response:
    """Send the browser to a page, also where htmx asked."""
    if page.is_fragment:
        return Response(status_code=204, headers={"HX-Redirect": path})
    return back_to(path)


@router.get("/models/{name}", response_class=HTMLResponse)
def model(page: Viewer, name: str) -> HTMLResponse:
    """Show a recipe: versions, provenance, and the budget slider."""
    store = page.store
    versions = sorted(store.recipes.versions(name), key=lambda each: -each.version)
    if not versions:
        raise NotFoundError(f"There is no recipe {name!r}.")
    active = next((each for each in versions if each.active), versions[0])
    facts = model_facts(store, active.model_hash)
    return page.render(
        "model.html",
        name=name,
        versions=[(each, model_facts(store, each.model_hash)) for each in versions],
        active=active,
        facts=facts,
        stored=store.recipes.model(active.model_hash),
        failed=page.station.pool.failed.get(name),
        **(_budget_values(page, active, facts, facts.budget) if facts is not None else {}),
    )


@router.get("/models/{name}/budget", response_class=HTMLResponse)
def budget(page: Viewer, name: str, step: int) -> HTMLResponse:
    """Return what another budget would have done to the last parts."""
    active = page.store.recipes.active(name)
    facts = model_facts(page.store, active.model_hash)
    if facts is None:
        raise NotFoundError(f"The model of recipe {name!r} cannot be read.")
    steps = _steps(facts)
    asked = steps[max(0, min(step, len(steps) - 1))]
    values = _budget_values(page, active, facts, asked)
    return page.render("budget.html", name=name, facts=facts, active=active, **values)


@router.post("/models/{name}/budget")
def apply_budget(page: Engineer, name: str, false_alarms: Annotated[float, Form()]) -> Response:
    """Calibrate the recipe's model for another budget, as a new version."""
    active = page.store.recipes.active(name)
    facts = model_facts(page.store, active.model_hash)
    if not 0 < false_alarms <= 0.5:
        raise ConfigurationError(
            f"The budget is {false_alarms:g}; expected a share above 0 and up to 0.5."
        )
    former = "" if facts is None else f"{100 * facts.budget:g} %"
    recalibrated(
        page.station,
        name,
        false_alarms,
        person=page.name,
        note=f"{former} → {100 * false_alarms:g} %",
        activate=True,
    )
    return back_to(f"/models/{quote(name)}")


@router.post("/models/{name}/activate")
def activate(page: Engineer, name: str, version: Annotated[int, Form()]) -> Response:
    """Let another version inspect from now on."""
    page.station.activate(name, version, person=page.name)
    return back_to(f"/models/{quote(name)}")


def _rules(page: Page, recipe: str) -> Acceptance | None:
    """Return the rules of the version that is in use, which a new one keeps."""
    try:
        rules = page.store.recipes.active(recipe).acceptance
    except NotFoundError:
        return None
    return None if rules is None else Acceptance.model_validate(rules)


def _steps(facts: ModelFacts) -> list[float]:
    possible = {each for each in BUDGETS if each >= facts.smallest_budget * (1 - 1e-9)}
    return sorted({*possible, facts.budget})


def _budget_values(
    page: Page, active: RecipeVersion, facts: ModelFacts, asked: float
) -> dict[str, Any]:
    history = page.store.history(Filter(recipe=active.name), before=None, limit=_LOOKED_BACK)
    parts = [part for part in history if part.p_value is not None]
    now, before = outcome(parts, facts.budget, facts)
    then, after = outcome(parts, asked, facts)
    flips = [
        (part, old, new) for part, old, new in zip(parts, before, after, strict=True) if old != new
    ]
    steps = _steps(facts)
    values = [part.p_value for part in parts if part.p_value is not None]
    return {
        "asked": asked,
        "step": steps.index(asked),
        "n_steps": len(steps),
        "n_parts": len(parts),
        "now": now,
        "then": then,
        "flips": [(view(page.store, part, page.words), *both) for part, *both in flips[:_SHOWN]],
        "n_flips": len(flips),
        "chart": budget_chart(values, facts.budget, asked, steps),
    }
