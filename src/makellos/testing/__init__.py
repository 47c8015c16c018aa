"""The contract of detectors as checks that run on every detector, yours included.

A whole detector with its test stands in ``docs/detectors.md``. All checks at once, where one
message names everything that is broken::

    from makellos.testing import check_detector

    def test_my_detector(tmp_path):
        check_detector(MyDetector, tmp_path)

One test per check, with pytest::

    from makellos.testing import CONTRACT_CHECKS, Workbench

    @pytest.fixture(scope="module")
    def bench(tmp_path_factory):
        return Workbench(MyDetector, tmp_path_factory.mktemp("bench"))

    @pytest.mark.parametrize("check", CONTRACT_CHECKS, ids=lambda check: check.__name__)
    def test_contract(bench, check):
        check(bench)

A check raises `AssertionError` when the detector breaks it, and `unittest.SkipTest`, which pytest
reports as skipped, when it does not apply: checks of the anomaly map where there is none, the
check of cross-fitting for a detector that learns from labels. A detector that takes features gets
feature vectors in place of pictures.
"""

from __future__ import annotations

from makellos.testing.contract import CONTRACT_CHECKS, check_detector
from makellos.testing.workbench import Workbench

__all__ = ["CONTRACT_CHECKS", "Workbench", "check_detector"]
