"""The first start: from no model to the first verdict."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Form, UploadFile
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from makellos.data.pictures import PICTURE_SUFFIXES, decode_picture
from makellos.errors import ConfigurationError, InputError
from makellos.service.messages import said
from makellos.service.pages.modelling import check_recipe_name, sent_to
from makellos.service.pages.page import Engineer, Operator, Page
from makellos.service.pages.processing import processes
from makellos.service.pages.rendering import back_to
from makellos.service.queue import NewPart
from makellos.storage import storage_errors, write_bytes

__all__ = ["router"]

router = APIRouter(prefix="/start", include_in_schema=False)
DEMO = "screws"
_FOLDER = "start"  # in the store's
_EXAMPLES = 3  # of each kind
_FEWEST = 10  # pictures to learn from
_MOST = 5000
PRESETS = ("fast", "balanced", "accurate")
_BATCH = re.compile(r"[0-9a-f]{16}")
_DAY = 86_400.0  # seconds
_N_DEMO, _SIDE_DEMO = 100, 512


@router.get("", response_class=HTMLResponse)
def start(page: Operator) -> HTMLResponse:
    """Lead from no model to the first verdict."""
    recipes = page.station.pool.names()
    process = processes(page).latest("fit")
    has_demo = DEMO in recipes and bool(_examples(page))
    return page.render(
        "start.html",
        recipes=recipes,
        process=process,
        examples=[path.parent.name for path in _examples(page)] if has_demo else [],
        n_parts=page.store.newest(),
        presets=PRESETS,
        fewest=_FEWEST,
        demo=DEMO,
    )


@router.post("/demo")
def demo(page: Engineer) -> Response:
    """Render screws and learn what good ones look like."""
    processes(page).check_free()  # before what it learns from is taken away
    folder = _room(page) / "demo"
    with storage_errors(f"{folder} cannot be replaced"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    pictures, made = folder / "screws", folder / "screws.makellos"
    rendered = ["--n-train", str(_N_DEMO), "--n-test-good", "4", "--n-per-defect", "2"]
    verbs = [
        ["data", "synth", "-o", str(pictures), *rendered, "--size", str(_SIDE_DEMO)],
        _fit_verb(pictures, made, "fast", 0.05),
    ]
    processes(page).start(
        "fit",
        verbs,
        person=page.name,
        then=lambda: _take_in(page, made, DEMO),
        about={"recipe": DEMO, "demo": True},
    )
    return back_to("/start")


@router.post("/pictures")
async def take_pictures(
    page: Engineer, files: list[UploadFile], batch: Annotated[str, Form()] = ""
) -> JSONResponse:
    """Keep good pictures until they are learned from; `batch` is what the first answer said."""
    if not batch:
        batch = secrets.token_hex(8)
        if processes(page).is_free:  # or it may be learning from one
            await run_in_threadpool(_tidy, _room(page))
    folder = _batch(page, batch)
    n_kept, refused = 0, []
    for file in files:
        content = await file.read()
        name = PurePosixPath((file.filename or "").replace("\\", "/")).name[:100]
        try:
            await run_in_threadpool(_keep, folder, name, content)
            n_kept += 1
        except InputError as error:
            refused.append({"name": name, "reason": said(str(error), page.language)})
    return JSONResponse({"batch": batch, "kept": n_kept, "refused": refused})


@router.post("/fit")
def fit(
    page: Engineer,
    batch: Annotated[str, Form()],
    name: Annotated[str, Form()],
    preset: Annotated[str, Form()] = "balanced",
    false_alarms: Annotated[float, Form()] = 1.0,
) -> Response:
    """Learn from the pictures of a batch; the budget is in percent."""
    recipe = check_recipe_name(name)
    folder = _batch(page, batch)
    n_pictures = sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
    if n_pictures < _FEWEST:
        raise InputError(
            f"{n_pictures} pictures were received; at least {_FEWEST} good parts are needed to "
            "learn from, and a hundred or more for a budget of 1 %."
        )
    if preset not in PRESETS:
        raise ConfigurationError(f"{preset!r} is not a preset; expected {', '.join(PRESETS)}.")
    if not 0 < false_alarms <= 50:
        raise ConfigurationError(f"The budget is {false_alarms:g} %; expected up to 50 %.")
    made = folder.with_suffix(".makellos")
    processes(page).start(
        "fit",
        [_fit_verb(folder, made, preset, false_alarms / 100)],
        person=page.name,
        then=lambda: _take_in(page, made, recipe),
        about={"recipe": recipe, "demo": False},
    )
    return sent_to(page, "/start")


@router.post("/examples")
def inspect_examples(page: Operator) -> Response:
    """Inspect a few of the rendered screws that the demo's model has not seen."""
    parts = [
        NewPart(f"{path.parent.name}-{path.name}", path.read_bytes(), source="page")
        for path in _examples(page)
    ]
    if not parts:
        raise InputError("The rendered screws are gone; start the demo again.")
    page.station.judge(DEMO, parts)
    return back_to("/")


def _room(page: Page) -> Path:
    folder: Path = page.store.folder / _FOLDER
    with storage_errors(f"{folder} cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _batch(page: Page, batch: str) -> Path:
    if not _BATCH.fullmatch(batch):
        raise InputError("These pictures are no longer here; choose them again.")
    return _room(page) / batch


def _keep(folder: Path, name: str, content: bytes) -> None:
    suffix = Path(name).suffix.lower()
    if suffix not in PICTURE_SUFFIXES:
        raise InputError(f"{name} is not a picture.")
    decode_picture(content, name)
    with storage_errors(f"{folder} cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    if sum(1 for _ in folder.iterdir()) >= _MOST:
        raise InputError(f"{_MOST:,} pictures are enough; this one was left out.")
    # In the order in which they came; several may come at once.
    write_bytes(folder / f"{time.time_ns()}-{secrets.token_hex(4)}{suffix}", content)


def _tidy(room: Path) -> None:
    """Remove batches that were begun more than a day ago, and what was made of them."""
    for path in room.iterdir():
        if not _BATCH.fullmatch(path.name.partition(".")[0]):
            continue
        with suppress(OSError):  # gone meanwhile, or not to be removed: it does no harm
            if time.time() - path.stat().st_mtime <= _DAY:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _examples(page: Page) -> list[Path]:
    """Return a few rendered screws, good and damaged, that nothing was learned from."""
    folder = page.store.folder / _FOLDER / "demo" / "screws" / "test"
    kinds = sorted(folder.iterdir()) if folder.is_dir() else []
    good = [path for kind in kinds if kind.name == "good" for path in sorted(kind.glob("*.png"))]
    bad = [path for kind in kinds if kind.name != "good" for path in sorted(kind.glob("*.png"))[:1]]
    return [*good[:_EXAMPLES], *bad[: 2 * _EXAMPLES]]


def _fit_verb(data: Path, made: Path, preset: str, false_alarms: float) -> list[str]:
    budget = f"{false_alarms:g}"
    return ["fit", str(data), "-o", str(made), "--preset", preset, "--false-alarms", budget]


def _take_in(page: Page, made: Path, recipe: str) -> None:
    page.station.add_model(made, person=page.name, recipe=recipe, note="First model")
    made.unlink(missing_ok=True)
    shutil.rmtree(made.with_suffix(".makellos.run"), ignore_errors=True)
