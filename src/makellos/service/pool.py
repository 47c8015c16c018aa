"""The models that are loaded: one for each recipe, exchanged while others go on inspecting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from makellos.errors import MakellosError, suggest
from makellos.inspection import Inspector
from makellos.inspection.acceptance import Acceptance
from makellos.inspection.engines import default_workers
from makellos.service.failures import Refusal
from makellos.store import RecipeVersion, Store

__all__ = ["Loaded", "Pool", "open_inspector"]


@dataclass(frozen=True, eq=False)
class Loaded:
    """Hold a recipe and what inspects with it.

    Whoever inspects holds one of these until the part is done: a model that was exchanged in the
    meantime goes when the last of its parts has.
    """

    recipe: RecipeVersion
    inspector: Inspector

    @property
    def takes_pictures(self) -> bool:
        """Tell pictures from recordings."""
        return self.inspector.manifest.signal is None

    @property
    def false_alarms(self) -> float:
        """Return the budget: the share of good parts that may be rejected."""
        return float(self.inspector.calibration.false_alarms)


def open_inspector(path: Path, acceptance: Acceptance | None) -> Inspector:
    """Open a model so that all cores inspect, one part each, and with what tells of a drift."""
    return Inspector(path, workers=default_workers(), acceptance=acceptance, statistics=True)


class Pool:
    """Hold the loaded models by recipe, as the store says which versions are active.

    A model that cannot be opened costs its own recipe alone: `failed` says why.
    """

    def __init__(
        self,
        store: Store,
        opener: Callable[[Path, Acceptance | None], Inspector] = open_inspector,
    ) -> None:
        self._store, self._opener = store, opener
        self._loaded: dict[str, Loaded] = {}
        self.failed: dict[str, str] = {}
        self._exchanging = threading.Lock()

    def names(self) -> list[str]:
        """Return the recipes that can be used."""
        return sorted(self._loaded)

    def all(self) -> list[Loaded]:
        """Return all that is loaded."""
        return [self._loaded[name] for name in self.names()]

    def get(self, name: str | None) -> Loaded:
        """Return a recipe by name, or the only one.

        Raises `Refusal` where there is none, or several and none is named.
        """
        loaded = self._loaded
        if name is None and len(loaded) == 1:
            (only,) = loaded.values()
            return only
        if name is not None and name in loaded:
            return loaded[name]
        if name is not None and name in self.failed:
            raise Refusal("unavailable", f"Recipe {name!r} cannot be used: {self.failed[name]}")
        if not loaded:
            raise Refusal("no_recipe", "There is no recipe yet. Add a model to inspect with.")
        if name is None:
            raise Refusal(
                "recipe_needed",
                f"Name the recipe in the field 'recipe'. Known: {', '.join(self.names())}.",
                details=self.names(),
            )
        raise Refusal("not_found", f"There is no recipe {name!r}. {suggest(name, self.names())}")

    def refresh(self) -> None:
        """Load what became active, and let go what is not; others go on inspecting meanwhile."""
        with self._exchanging:
            active = {each.name: each for each in self._store.recipes.all_active()}
            for name, recipe in active.items():
                standing = self._loaded.get(name)
                if standing is not None and standing.recipe.version == recipe.version:
                    continue
                try:
                    opened = self.open(recipe)
                except MakellosError as error:
                    self.failed[name] = str(error)
                    self._loaded = {k: v for k, v in self._loaded.items() if k != name}
                    continue
                self.failed.pop(name, None)
                self._loaded = {**self._loaded, name: opened}
            self._loaded = {k: v for k, v in self._loaded.items() if k in active}
            self.failed = {k: v for k, v in self.failed.items() if k in active}

    def open(self, recipe: RecipeVersion) -> Loaded:
        """Open a version of a recipe; raises what `Inspector` does."""
        rules = recipe.acceptance
        acceptance = None if rules is None else Acceptance.model_validate(rules)
        path = self._store.recipes.model(recipe.model_hash).path
        return Loaded(recipe, self._opener(path, acceptance))
