"""The trend of a machine: when an alarm lasts, how long before the end, and times in names."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makellos.errors import ConfigurationError, InputError
from makellos.evaluation.trends import Trend, stamp_of_name, times_of_names, trend

LETTERS = {"g": "ok", "l": "look_again", "R": "reject", "u": "unreadable"}
SCORES = {"g": 1.0, "l": 2.0, "R": 9.0, "u": None}


def of(letters: str, lasting: int = 3, times: list[float] | None = None) -> Trend:
    return trend(
        [SCORES[letter] for letter in letters],
        [LETTERS[letter] for letter in letters],
        times,
        lasting=lasting,
    )


@pytest.mark.parametrize(
    ("letters", "first", "n_before"),
    [
        ("ggggg", None, 0),
        ("gggRRR", 3, 0),
        ("RRRRR", 0, 0),
        ("ggRgRRggRRRR", 8, 2),
        ("ggggRR", None, 1),  # too few to tell
        ("gRRRRgg", None, 1),  # back to good
        ("gRRRgRRR", 1, 0),  # a single one missed
        ("gRRRg", 1, 0),
        ("gRRRggRRR", 6, 1),
        ("gglllRRR", 5, 0),  # look again is not rejected
        ("gRuRRR", 1, 0),  # a run goes on across unreadable ones
        ("guRRuRu", 2, 0),
        ("g" + 3 * "R" + 97 * "g" + 1000 * "R", 101, 1),  # long enough afterwards to be 90 %
        ("g" + 100 * "R" + 10 * "g" + 40 * "R", 1, 0),  # a short rest in a long alarm
        ("g" + 100 * "R" + 30 * "g" + 400 * "R", 131, 1),
        ("g" + 20 * "RRRRRRRRRRRRg", 1, 0),  # one of 13 missed
        ("g" + 20 * "RRRRg" + 40 * "R", 61, 12),  # one of 5 missed, until one of 10
        ("", None, 0),
        ("uuu", None, 0),
    ],
)
def test_first_lasting_alarm(letters: str, first: int | None, n_before: int) -> None:
    found = of(letters)
    assert (found.first_alarm, found.n_before) == (first, n_before)
    assert found.n_recordings == len(letters.replace("u", ""))
    expected = None if first is None else len(letters) - 1 - first
    assert found.lead == expected


def test_lasting_says_how_many_make_an_alarm() -> None:
    assert of("ggRRRR", lasting=4).first_alarm == 2
    assert of("ggRRRR", lasting=5).first_alarm is None
    assert of("gRgRRR", lasting=1).first_alarm == 1
    assert of("gggRg", lasting=1).first_alarm is None
    assert of("ggggR", lasting=1).first_alarm == 4


def test_lead_is_in_seconds_to_the_last_recording_readable_or_not() -> None:
    found = of("ggRRRu", times=[0, 10, 20, 40, 80, 160])
    assert found.lead == 140


@given(st.text("gRlu", max_size=40), st.integers(1, 5))
def test_what_holds_for_every_trend(letters: str, lasting: int) -> None:
    found = of(letters, lasting)
    assert np.array_equal(np.isnan(found.indicator), [letter == "u" for letter in letters])
    if found.first_alarm is None:
        return
    since = letters[found.first_alarm :].replace("u", "")
    assert since.startswith("R" * lasting)
    n_missed = len(since.replace("R", ""))
    assert n_missed <= max(1, 0.1 * len(since))
    assert of(letters.replace("u", ""), lasting).n_before == found.n_before
    # What happens before an alarm changes nothing, and neither do more rejected recordings after.
    assert of("g" + letters, lasting).first_alarm == found.first_alarm + 1
    assert of(letters + "RR", lasting).first_alarm <= found.first_alarm


def test_indicator_is_the_median_of_the_last_scores() -> None:
    found = trend([1, 5, 3, None, 9, 9, 9], ["ok"] * 3 + ["unreadable"] + ["ok"] * 3)
    assert found.indicator[:3].tolist() == [1, 3, 3]
    assert math.isnan(found.indicator[3])
    assert found.indicator[4:].tolist() == [4, 5, 9]  # of 1 5 3 9, of 1 5 3 9 9, of 5 3 9 9 9


def test_indicator_of_a_long_record_is_smoother() -> None:
    noise = np.random.default_rng(0).normal(10, 1, 2000)
    spread = np.std(trend(noise.tolist(), ["ok"] * 2000).indicator[50:])
    assert spread < 0.4


@pytest.mark.parametrize(
    ("names", "times"),
    [
        (["2003.10.22.12.06.24", "2003.10.22.12.09.13"], [0, 169]),
        (["a/2024-05-01T10-20-30.csv", "a/2024-05-01T10-20-31.csv"], [0, 1]),
        (["20240501_102030.npz", "20240501_112030.npz"], [0, 3600]),
        (["2024-05-01 10_20_30.wav", "2024-05-02 10_20_30.wav"], [0, 86400]),
        (["m7 20240501T102030Z.csv", "m7 20240501T102040Z.csv"], [0, 10]),
        (["20240501102030.csv", "20240501102031.csv"], [0, 1]),
        (["x_2024-05-01T10-20-30.25.csv", "x_2024-05-01T10-20-30.75.csv"], [0, 0.5]),
        (["2024-05-01T10:00:10.csv", "2024-05-01T10:00:00.csv"], [10, 0]),  # in their order
        (["99999999999999_20240501_102030", "99999999999999_20240501_102031"], [0, 1]),
        (["2024-02-28_23-59-59.txt", "2024-03-01_00-00-00.txt"], [0, 86401]),
        (["20240501_102030.csv"], [0]),
        (["20240501_102030.csv", "20240501_102030.csv"], None),  # the same twice
        (["20240501_102030.csv", "normal.csv"], None),
        (["20240501_102030/1.csv", "20240501_102031/2.csv"], None),  # folders say nothing
        (["20241301_102030.csv", "20241302_102030.csv"], None),  # no month
        (["1.csv", "2.csv"], None),
        (["120240501_1020301.csv"], None),
        ([], None),
    ],
)
def test_times_of_names(names: list[str], times: list[float] | None) -> None:
    assert times_of_names(names) == times


def test_windows_folders_are_left_out_of_a_name() -> None:
    assert stamp_of_name(r"C:\20240501_102030\1.csv") is None


@pytest.mark.parametrize("lasting", [0, -1, 2.5, True])
def test_lasting_is_a_count(lasting: int) -> None:
    with pytest.raises(ConfigurationError, match=r"`lasting` is .* expected a whole number"):
        of("gR", lasting=lasting)


@pytest.mark.parametrize(
    ("scores", "verdicts", "times", "message"),
    [
        ([1.0], ["ok", "ok"], None, "1 scores and 2 verdicts"),
        (
            [1.0],
            ["rejected"],
            None,
            "'rejected' at index 0 is not a verdict. Did you mean 'reject'",
        ),
        ([1.0, None], ["ok", "ok"], None, "score at index 1 is None"),
        ([1.0, math.inf], ["ok", "ok"], None, "score at index 1 is inf"),
        ([1.0, 2.0], ["ok", "ok"], [0.0], r"2 scores and times of shape \(1,\)"),
        ([1.0, 2.0], ["ok", "ok"], [5.0, 5.0], "5 s at index 1 follows 5 s"),
        ([1.0, 2.0], ["ok", "ok"], [0.0, math.nan], "A time is not finite"),
    ],
)
def test_bad_input_is_named(
    scores: list[float | None], verdicts: list[str], times: list[float] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        trend(scores, verdicts, times)
