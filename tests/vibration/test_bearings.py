"""Bearings: published multiples, names however they are written, geometries of one's own."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makellos.errors import ConfigurationError
from makellos.vibration.bearings import (
    BEARING_RATES,
    BEARINGS,
    Bearing,
    find_bearing,
    parse_bearing,
)

# As their makers or the rigs' owners publish them, in turns of the shaft.
PUBLISHED = {
    "6205-2RS JEM SKF": {"BPFI": 5.4152, "BPFO": 3.5848, "FTF": 0.39828, "2xBSF": 4.7135},
    "6203-2RS JEM SKF": {"BPFI": 4.9469, "BPFO": 3.0530, "FTF": 0.3817, "2xBSF": 3.9874},
    "ZA-2115 Rexnord": {"BPFI": 8.907, "BPFO": 7.092, "FTF": 0.4433, "2xBSF": 8.395},
    "ER-16K MB": {"BPFI": 5.428, "BPFO": 3.572, "FTF": 0.3969, "BSF": 2.322},
    "UER204 LDK": {"BPFI": 4.917, "BPFO": 3.083},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_rates_are_the_published_multiples_of_the_shaft(name: str) -> None:
    rates = find_bearing(name).frequencies(1.0)
    assert tuple(rates) == BEARING_RATES
    for rate, published in PUBLISHED[name].items():
        assert rates[rate] == pytest.approx(published, rel=1e-3), rate


def test_rates_at_1797_rpm() -> None:
    rates = find_bearing("6205").frequencies(1797 / 60)
    assert rates["BPFO"] == pytest.approx(107.36, abs=0.01)
    assert rates["BPFI"] == pytest.approx(162.19, abs=0.01)


@given(
    n_balls=st.integers(3, 30),
    share=st.floats(0.01, 0.99),
    angle=st.floats(0, 80),
    shaft_hz=st.floats(0.1, 1000),
)
def test_kinematics_hold_for_any_geometry(
    n_balls: int, share: float, angle: float, shaft_hz: float
) -> None:
    pitch = 50.0
    ball = share * math.pi * pitch / n_balls
    if ball >= pitch:
        return
    rates = Bearing("any", n_balls, ball, pitch, angle).frequencies(shaft_hz)
    assert rates["BPFO"] + rates["BPFI"] == pytest.approx(n_balls * shaft_hz)
    assert rates["BPFO"] == pytest.approx(n_balls * rates["FTF"])
    assert rates["2xBSF"] == pytest.approx(2 * rates["BSF"])
    assert 0 < rates["FTF"] < shaft_hz / 2


def test_every_bearing_of_the_table_has_a_source_and_is_found_by_its_name() -> None:
    for bearing in BEARINGS:
        assert bearing.source
        assert find_bearing(bearing.name) is bearing


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("6205", "6205-2RS JEM SKF"),
        ("skf 6205", "6205-2RS JEM SKF"),
        ("6205-2rs", "6205-2RS JEM SKF"),
        ("62052RS", "6205-2RS JEM SKF"),
        ("6205-2Z/C3", "6205-2RS JEM SKF"),
        (" 6203 2RS jem ", "6203-2RS JEM SKF"),
        ("za 2115", "ZA-2115 Rexnord"),
        ("Rexnord ZA2115", "ZA-2115 Rexnord"),
        ("ldk_uer204", "UER204 LDK"),
        ("er16k", "ER-16K MB"),
    ],
)
def test_names_are_found_however_they_are_written(written: str, name: str) -> None:
    assert find_bearing(written).name == name


@pytest.mark.parametrize("written", ["6206", "NU6205", "16205", "62051", "FAG 6205"])
def test_another_bearing_is_not_taken_for_a_known_one(written: str) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean '6205-2RS JEM SKF'"):
        find_bearing(written)


def test_an_unknown_name_says_how_a_geometry_is_given() -> None:
    with pytest.raises(ConfigurationError, match=re.escape("n=9,d=7.94,D=39.04,angle=0")):
        find_bearing("wheel")
    with pytest.raises(ConfigurationError, match="There is no bearing ''"):
        find_bearing("")


@pytest.mark.parametrize(
    "text",
    ["n=9,d=7.94,D=39.04,angle=0", "D = 39.04; d = 7.94; n = 9", "n=9 d=7.94 D=39.04"],
)
def test_a_geometry_is_read(text: str) -> None:
    bearing = parse_bearing(text)
    assert (bearing.n_balls, bearing.ball_diameter, bearing.pitch_diameter) == (9, 7.94, 39.04)
    assert bearing.frequencies(30.0) == find_bearing("6205").frequencies(30.0)


def test_a_contact_angle_counts() -> None:
    straight = parse_bearing("n=16,d=8.4,D=71.5").frequencies(1.0)
    inclined = parse_bearing("n=16,d=8.4,D=71.5,angle=15.17").frequencies(1.0)
    assert inclined["BPFO"] > straight["BPFO"]
    assert inclined["BPFI"] < straight["BPFI"]


def test_a_name_is_read_too() -> None:
    assert parse_bearing("6203") is find_bearing("6203")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n=9,d=7.94", "D is missing"),
        ("n=nine,d=7.94,D=39.04", "n is 'nine'"),
        ("n=9.5,d=7.94,D=39.04", "n is 9.5"),
        ("n=9,d=7.94,D=39.04,alpha=3", "'alpha' is unknown"),
        ("n=9,n=8,d=7.94,D=39.04", "'n' is unknown or given twice"),
        ("n=9,d=39.04,D=7.94", "fit side by side"),
        ("n=2,d=7.94,D=39.04", "3 balls or more"),
        ("n=9,d=-1,D=39.04", "-1 mm"),
        ("n=9,d=nan,D=39.04", "nan mm"),
        ("n=inf,d=7.94,D=39.04", "not a whole number"),
        ("n=9,d=7.94,D=39.04,angle=90", "below 90"),
    ],
)
def test_a_wrong_geometry_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_bearing(text)


@pytest.mark.parametrize("shaft_hz", [0.0, -1.0, math.nan, math.inf])
def test_a_shaft_that_does_not_turn_is_named(shaft_hz: float) -> None:
    with pytest.raises(ConfigurationError, match="rpm / 60"):
        find_bearing("6205").frequencies(shaft_hz)
