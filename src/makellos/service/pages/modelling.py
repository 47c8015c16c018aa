"""Recipes: their versions, what another budget would have done, swapping and bringing back."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
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
from makellos.service.processes import Processes
from makellos.service.recalibrating import recalibrated
from makellos.store import Filter, NotFoundError, RecipeVersion, StoredInspection

__all__ = ["BUDGETS", "Outcome", "Ranking", "check_recipe_name", "outcome", "ranking", "router"]

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
    parts: Sequence[StoredInspection],
    budget: float,
    facts: ModelFacts,
    judged_by: Mapping[str, ModelFacts] | None = None,
) -> tuple[Outcome, list[str]]:
    """Return what a budget would have done to parts, by their stored p-values, and each verdict.

    A part that a rule of the recipe rejects is rejected under every budget; one to look at again
    for another reason than its p-value, such as its pose, stays so. `judged_by` are the models by
    hash that judged parts, if not that of `facts`: their p-values must mean the same.
    """
    models = judged_by or {}
    limit = budget + _beside(budget, facts)
    verdicts = [_verdict(part, budget, limit, models.get(part.model_hash, facts)) for part in parts]
    pairs = list(zip(parts, verdicts, strict=True))
    found = Outcome(
        reject=verdicts.count("reject"),
        look_again=verdicts.count("look_again"),
        good_rejected=sum(v == "reject" and part.decision == "good" for part, v in pairs),
        defects_missed=sum(v == "ok" and part.decision == "defective" for part, v in pairs),
    )
    return found, verdicts


def _verdict(part: StoredInspection, budget: float, limit: float, own: ModelFacts) -> str:
    """Return the verdict under a budget; `own` is the model that judged the part."""
    if part.p_value is None or _is_ruled_out(part):
        return part.verdict
    stored = str(part.result.get("calibrated_verdict") or part.verdict)
    if math.isclose(budget, own.budget) and math.isclose(limit, own.look_again_limit):
        return stored
    found = _by_p_value(part.p_value, budget, limit)
    explained = _by_p_value(part.p_value, own.budget, own.look_again_limit)
    is_odd = stored == "look_again" and explained == "ok"
    return "look_again" if is_odd and found == "ok" else found


def _by_p_value(p_value: float, budget: float, limit: float) -> str:
    if p_value <= budget * (1 + 1e-9):
        return "reject"
    return "look_again" if p_value <= limit * (1 + 1e-9) else "ok"


def _is_ruled_out(part: StoredInspection) -> bool:
    return bool(part.result.get("broken_rules")) and part.verdict == "reject"


def _beside(budget: float, facts: ModelFacts) -> float:
    """Return the share to look at again beside a budget: twice that, or what the model fixes."""
    beside = facts.look_again_limit - facts.budget
    return 2 * budget if abs(beside - 2 * facts.budget) < 1e-9 else beside


def check_recipe_name(name: str) -> str:
    """Return the name of a recipe; raises `InputError` for one that no file and page can bear."""
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name[:80]!r} cannot name a recipe; expected up to 64 letters, digits, spaces or "
            "any of . + - _, beginning with a letter or digit."
        )
    return name


@dataclass(frozen=True)
class Ranking:
    """Hold how well a model's scores rank defective parts above good ones, and on which parts."""

    auroc: float
    on: str


def ranking(page: Page, recipe: str, model_hash: str) -> list[Ranking]:
    """Return the AUROCs that are known of a model: of locked sets, and of the search at its fit.

    Of each set the latest comparison counts.
    """
    found: dict[str, float] = {}
    facts = model_facts(page.store, model_hash)
    family = None if facts is None else facts.family
    base = {each.version: each.model_hash for each in page.store.recipes.versions(recipe)}

    def is_it(other: str | None) -> bool:
        """Tell whether a model ranks as this one does: it is the same but for its budget."""
        of = None if other is None else model_facts(page.store, other)
        return other == model_hash or (of is not None and of.family == family)

    for candidate in page.store.candidates.all(recipe):  # the newest first
        side = "after" if is_it(candidate.model_hash) else ""
        comparison = candidate.details.get("comparison") or {}
        if is_it(base.get(int(comparison.get("version") or 0))):
            side = "before"
        for each in comparison.get("regression", ()) if side else ():
            value = each[side].get("auroc")  # comparisons of earlier versions have none
            if value is not None:
                found.setdefault(str(each["set"]), float(value))
    rows = [Ranking(value, name) for name, value in found.items()]
    if facts is not None and facts.auroc is not None:
        rows.append(Ranking(facts.auroc, page.words.gettext("defects planted during the fit")))
    return rows


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
                "ranking": ranking(page, name, shown.model_hash),
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
            file_name=PurePosixPath((files.filename or "").replace("\\", "/")).name[:200] or None,
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
        ranking=ranking(page, name, active.model_hash),
        changing=_budgets(page, name).latest("budget") if active.active else None,
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

    def work(hear: Callable[[str], None]) -> None:
        recalibrated(
            page.station,
            name,
            false_alarms,
            person=page.name,
            note=f"{former} → {100 * false_alarms:g} %",
            activate=True,
            hear=hear,
        )

    _budgets(page, name).call("budget", work, person=page.name, about={"asked": false_alarms})
    return back_to(f"/models/{quote(name)}")


@router.get("/models/{name}/budget/progress", response_class=HTMLResponse)
def budget_progress(page: Viewer, name: str) -> Response:
    """Return how far a new budget is; htmx loads the page anew when it has ended."""
    process = _budgets(page, name).latest("budget")
    if process is None or process.status != "running":
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    return page.render("budget_progress.html", name=name, changing=process)


def _budgets(page: Page, recipe: str) -> Processes:
    """Return what changes the budgets of a recipe, one after another."""
    of_recipes: dict[str, Processes] = page.request.app.state.budgets
    page.store.recipes.active(recipe)  # there is one of this name
    return of_recipes.setdefault(recipe, Processes())


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
    steps = _steps(facts)
    place = {"asked": asked, "step": steps.index(asked), "n_steps": len(steps)}
    if _rules_alone(active):
        return {**place, "rules_alone": True}
    history = page.store.history(Filter(recipe=active.name), before=None, limit=_LOOKED_BACK)
    versions, judged_by = _comparable(page, active, facts)
    parts = [each for each in history if each.p_value is not None]
    parts = [each for each in parts if each.recipe_version in versions]
    now, before = outcome(parts, facts.budget, facts, judged_by)
    then, after = outcome(parts, asked, facts, judged_by)
    flips = [
        (part, old, new) for part, old, new in zip(parts, before, after, strict=True) if old != new
    ]
    values = [0.0 if _is_ruled_out(part) else part.p_value or 0.0 for part in parts]
    return {
        **place,
        "rules_alone": False,
        "n_parts": len(parts),
        "n_looked_back": len(history),
        "now": now,
        "then": then,
        "flips": [(view(page.store, part, page.words), *both) for part, *both in flips[:_SHOWN]],
        "n_flips": len(flips),
        "chart": budget_chart(values, facts.budget, asked, steps),
    }


def _rules_alone(active: RecipeVersion) -> bool:
    """Tell whether p-values decide nothing: the rules replace the threshold."""
    if active.acceptance is None:
        return False
    rules = Acceptance.model_validate(active.acceptance)
    return bool(rules.rules) and rules.combine == "replace"


def _comparable(
    page: Page, active: RecipeVersion, facts: ModelFacts
) -> tuple[set[int], dict[str, ModelFacts]]:
    """Return the versions whose p-values and rules are those of the active one, and their models.

    They differ by their budget alone.
    """
    versions, models = set[int](), dict[str, ModelFacts]()
    for each in page.store.recipes.versions(active.name):
        of = model_facts(page.store, each.model_hash)
        if of is not None and of.family == facts.family and each.acceptance == active.acceptance:
            versions.add(each.version)
            models[each.model_hash] = of
    return versions, models
