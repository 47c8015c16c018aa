"""Rolling bearings: their geometry, and the rates at which their faults strike.

The formulas are the kinematics of balls that roll without slip between a fixed outer and a turning
inner race (Randall and Antoni, "Rolling element bearing diagnostics: a tutorial", Mechanical
Systems and Signal Processing 25, 2011). Real balls slip by one or two per cent.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass

from makellos.errors import ConfigurationError, suggest

__all__ = ["BEARINGS", "BEARING_RATES", "Bearing", "find_bearing", "parse_bearing"]

BEARING_RATES = ("FTF", "BSF", "2xBSF", "BPFO", "BPFI")
_MM_PER_INCH = 25.4
_EXAMPLE = "n=9,d=7.94,D=39.04,angle=0"


@dataclass(frozen=True)
class Bearing:
    """Hold a bearing's geometry: diameters in mm, the contact angle in degrees.

    `source` says where the figures come from. Raises `ConfigurationError` for a geometry that
    cannot be: fewer than 3 balls, balls too large for their circle, an angle outside [0, 90).
    """

    name: str
    n_balls: int
    ball_diameter: float
    pitch_diameter: float
    contact_angle: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse a geometry that no bearing can have."""
        sound = (
            self.n_balls >= 3
            and self.ball_diameter > 0
            and math.isfinite(self.pitch_diameter)
            and self.n_balls * self.ball_diameter < math.pi * self.pitch_diameter
            and 0 <= self.contact_angle < 90
        )
        if not sound:
            raise ConfigurationError(
                f"The bearing {self.name!r} has {self.n_balls} balls of {self.ball_diameter:g} mm "
                f"on a circle of {self.pitch_diameter:g} mm at {self.contact_angle:g} degrees. "
                "It needs 3 balls or more that fit side by side on the circle, and an angle from "
                f"0 to below 90. Give it as in {_EXAMPLE!r}."
            )

    def frequencies(self, shaft_hz: float) -> dict[str, float]:
        """Compute the rates in Hz at which this bearing's parts turn and its faults strike.

        `FTF`: the cage turns. `BSF`: a ball spins; `2xBSF`: a fault on a ball strikes, once on
        each race per spin. `BPFO`, `BPFI`: the balls pass a place on the outer, the inner race.
        `shaft_hz`: turns of the inner race per second. Raises `ConfigurationError` where it is
        not positive.

        >>> find_bearing("6205").frequencies(1.0)["BPFO"]
        3.58478...
        """
        if not (math.isfinite(shaft_hz) and shaft_hz > 0):
            raise ConfigurationError(
                f"The shaft turns at {shaft_hz} Hz. It must be a positive number: "
                "turns per second, that is rpm / 60."
            )
        ratio = self.ball_diameter / self.pitch_diameter
        inward = ratio * math.cos(math.radians(self.contact_angle))
        spin = (1 - inward**2) / (2 * ratio)
        multiples = {
            "FTF": (1 - inward) / 2,
            "BSF": spin,
            "2xBSF": 2 * spin,
            "BPFO": self.n_balls * (1 - inward) / 2,
            "BPFI": self.n_balls * (1 + inward) / 2,
        }
        return {name: multiple * shaft_hz for name, multiple in multiples.items()}


_CWRU = "Case Western Reserve University Bearing Data Center, bearing information"
_CURTIN = "Forbes, Curtin University, inner and outer race bearing fault vibration measurements"

# Inner dimensions are not standardised: the same designation of another maker may differ.
BEARINGS: tuple[Bearing, ...] = (
    Bearing("6205-2RS JEM SKF", 9, 7.94, 39.04, 0.0, f"{_CWRU} (drive end)"),
    Bearing("6203-2RS JEM SKF", 8, 6.746, 28.499, 0.0, f"{_CWRU} (fan end)"),
    Bearing(
        "ZA-2115 Rexnord",
        16,
        0.331 * _MM_PER_INCH,
        2.815 * _MM_PER_INCH,
        15.17,
        "Qiu, Lee, Lin and Yu, Journal of Sound and Vibration 289, 2006 (the IMS rig)",
    ),
    Bearing(
        "UER204 LDK",
        8,
        7.92,
        34.55,
        0.0,
        "Wang, Lei, Li and Li, IEEE Transactions on Reliability 69, 2020 (the XJTU-SY rig)",
    ),
    Bearing("ER-16K MB", 9, 0.3125 * _MM_PER_INCH, 1.516 * _MM_PER_INCH, 0.0, _CURTIN),
    Bearing(
        "ER-10K MB",
        8,
        0.3125 * _MM_PER_INCH,
        1.319 * _MM_PER_INCH,
        0.0,
        "NPTEL course 112103024 (rotor dynamics), example 15.2: Machinery Fault Simulator",
    ),
)


def find_bearing(name: str) -> Bearing:
    """Return the bearing of `BEARINGS` that `name` means, whatever its case, spaces and suffixes.

    `6205`, `skf 6205` and `6205-2RS/C3` are the same. Raises `ConfigurationError` for an unknown
    name, with close matches.
    """
    wanted = _words(name)
    for bearing in BEARINGS:
        designation, makers = _designation(bearing)
        rest = "".join(word for word in wanted if word not in makers)
        if re.fullmatch(rf"{designation}(?:[a-z].*|2(?:rs|z).*)?", rest):
            return bearing
    known = [bearing.name for bearing in BEARINGS]
    near = difflib.get_close_matches("".join(wanted), [_designation(b)[0] for b in BEARINGS], n=1)
    close = [bearing.name for bearing in BEARINGS if _designation(bearing)[0] in near]
    raise ConfigurationError(
        f"There is no bearing {name!r} in the table. {suggest(close[0] if close else name, known)} "
        f"For any other, give its geometry: {_EXAMPLE!r} (number of balls, diameter of a ball "
        "and of the circle of their centres in mm, contact angle in degrees)."
    )


def parse_bearing(text: str) -> Bearing:
    """Read a bearing: a name of the table, or a geometry such as `n=9,d=7.94,D=39.04,angle=0`.

    `n` is the number of balls, `d` the diameter of a ball and `D` that of the circle of their
    centres in mm, `angle` the contact angle in degrees (0 unless given). Raises
    `ConfigurationError` for an unknown name and for a geometry that is incomplete or cannot be.
    """
    if "=" not in text:
        return find_bearing(text)
    given: dict[str, float] = {}
    for pair in re.split(r"[,;\s]+", re.sub(r"\s*=\s*", "=", text.strip()).strip(",;")):
        key, _, value = pair.partition("=")
        if key not in {"n", "d", "D", "angle"} or key in given:
            raise _unreadable(text, f"{key!r} is unknown or given twice")
        try:
            given[key] = float(value)
        except ValueError:
            raise _unreadable(text, f"{key} is {value!r}, which is not a number") from None
    missing = [key for key in ("n", "d", "D") if key not in given]
    if missing:
        raise _unreadable(text, f"{' and '.join(missing)} is missing")
    if not given["n"].is_integer():
        raise _unreadable(text, f"n is {given['n']:g}, which is not a whole number")
    return Bearing(
        name=text.strip(),
        n_balls=int(given["n"]),
        ball_diameter=given["d"],
        pitch_diameter=given["D"],
        contact_angle=given.get("angle", 0.0),
        source="given by the user",
    )


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def _designation(bearing: Bearing) -> tuple[str, set[str]]:
    first, *more = bearing.name.split()
    stem = "".join(_words(re.sub(r"-2RS$", "", first)))
    return stem, {word.lower() for word in more}


def _unreadable(text: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"The bearing {text!r} cannot be read: {what}. Expected n (number of balls), "
        "d (diameter of a ball) and D (diameter of the circle of their centres) in mm, and angle "
        f"(contact angle in degrees, 0 unless given). Give it as in {_EXAMPLE!r}."
    )
