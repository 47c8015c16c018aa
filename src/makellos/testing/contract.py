"""All checks of the contract, and one call that runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import SkipTest

from makellos.detectors import Detector
from makellos.testing import fit_checks, graph_checks
from makellos.testing.workbench import Workbench

__all__ = ["CONTRACT_CHECKS", "check_detector"]

CONTRACT_CHECKS: tuple[Callable[[Workbench], None], ...] = (
    fit_checks.constructor_only_stores,
    fit_checks.parameters_are_declared,
    fit_checks.ranges_are_enforced,
    fit_checks.unfitted_graph_is_refused,
    fit_checks.too_few_parts_are_refused,
    fit_checks.fit_returns_self,
    fit_checks.progress_is_reported,
    fit_checks.failed_fit_leaves_nothing,
    fit_checks.fit_is_deterministic,
    fit_checks.refit_forgets,
    fit_checks.cross_fit_leaves_folds_out,
    graph_checks.graph_has_the_declared_form,
    graph_checks.map_has_size_and_type,
    graph_checks.outputs_are_finite,
    graph_checks.scores_are_diverse,
    graph_checks.batch_size_makes_no_difference,
    graph_checks.engines_agree,
    graph_checks.model_file_keeps_scores,
    graph_checks.defects_score_above_good,
    graph_checks.defects_are_found_where_they_are,
)


def check_detector(
    detector: type[Detector],
    folder: Path,
    *,
    parameters: Mapping[str, int | float | str | bool] | None = None,
    seed: int = 0,
) -> dict[str, str]:
    """Run every check of the contract on a detector class.

    `folder` receives pictures and model files; `parameters` make the detector small and fast.
    Returns the name of each check with ``kept``, or with the reason why it does not apply. Raises
    `AssertionError` that lists every check the detector breaks.
    """
    bench = Workbench(detector, folder, parameters=parameters, seed=seed)
    results, broken = {}, []
    for check in CONTRACT_CHECKS:
        try:
            check(bench)
            results[check.__name__] = "kept"
        except SkipTest as reason:
            results[check.__name__] = f"does not apply: {reason}"
        except Exception as error:  # noqa: BLE001 -- whatever a detector raises is its fault
            broken.append(f"{check.__name__}: {type(error).__name__}: {error}")
    if broken:
        listed = "\n  ".join(broken)
        n_all = len(CONTRACT_CHECKS)
        raise AssertionError(
            f"{detector.__name__} breaks {len(broken)} of {n_all} checks:\n  {listed}"
        )
    return results
