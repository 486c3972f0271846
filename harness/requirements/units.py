"""Figures as people write them, with their unit: read into base units, with one clear reason where they cannot be meant."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.errors import unknown
from reports.format import figure

Value = float | tuple[str, ...] | bool

_FIGURE = re.compile(r"\s*([+-]?\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(\S*)\s*")


@dataclass(frozen=True)
class Unit:
    """How limits of one sort are written.

    Attributes:
        base: of the figures in the record, a key of `reports.format.FIGURES`.
        what: is expected, for errors: `a duration such as "20 ms"`.
        parse: what the file holds -> a value in the base unit; ValueError says what is wrong.
        slack: by what share a measured figure may be exceeded in a file that is written from a run; None: rounded outwards only.
    """

    base: str
    what: str
    parse: Callable[[object], Value]
    slack: float | None = None

    def show(self, value: Value) -> str:
        """A value as people read it."""
        return figure(value, self.base)


def quantity(
    base: str, what: str, factors: Mapping[str, float], *, least: float = 0.0, most: float = math.inf, slack: float | None = None
) -> Unit:
    """A unit of figures above 0, from `least` on and below `most`, in base units; `factors`: how it may be written -> in base units."""

    def parse(given: object) -> float:
        match = _FIGURE.fullmatch(given) if isinstance(given, str) else None
        if match is None:
            raise ValueError(f"{given!r} is not {what}")
        unit = match[2].replace("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}")  # which look alike
        if unit not in factors:
            wrong = f"the unit {match[2]!r}" if match[2] else "no unit"
            raise ValueError(f"{given!r} has {wrong}; expected {what} (units: {', '.join(factors)})")
        value = float(match[1]) * factors[unit]
        if not (0 < value < most and round(value, 12) >= least):
            above = f"at least {figure(least, base)}" if least else "above 0"
            below = f" and below {figure(most, base)}" if most < math.inf else ""
            raise ValueError(f"{given!r} cannot be meant; expected {what}, {above}{below}")
        return value

    return Unit(base, what, parse, slack)


def _count(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ValueError(f"{given!r} is not a whole number of at least 1")
    return float(given)


def names(what: str, choices: Callable[[], Mapping[str, object]], *, none: bool = False) -> Unit:
    """Lists of names out of a table; `none`: an empty one means something."""

    def parse(given: object) -> tuple[str, ...]:
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise ValueError(f"{given!r} is not a list of {what}")
        if not given and not none:
            raise ValueError(f"{given!r} requires nothing; expected a list of {what}, or leave the line out")
        for name in given:
            if name not in choices():
                raise ValueError(str(unknown(what.removesuffix("s"), name, choices())))
        return tuple(dict.fromkeys(given))

    return Unit("names", f"a list of {what}", parse)


def _true(given: object) -> bool:
    if given is not True:
        raise ValueError(f"{given!r} requires nothing; expected true, or leave the line out")
    return True


DURATION = quantity("ms", 'a duration such as "20 ms"', {"ms": 1.0, "us": 1e-3, "µs": 1e-3, "ns": 1e-6, "s": 1e3}, slack=0.1)
SIZE = quantity(
    "B", 'a size such as "120 MiB"', {"MiB": 2.0**20, "KiB": 2.0**10, "GiB": 2.0**30, "MB": 1e6, "kB": 1e3, "GB": 1e9, "B": 1.0}, slack=0.1
)  # fmt: skip
RATE = quantity("images/s", 'a rate such as "200 images/s"', {"images/s": 1.0, "image/s": 1.0, "fps": 1.0}, slack=0.1)
ENERGY = quantity("mJ", 'an energy such as "15 mJ"', {"mJ": 1.0, "J": 1e3, "µJ": 1e-3, "uJ": 1e-3}, slack=0.1)
FINEST = 1e-4  # of a share: 0.01 %, or 0.01 points, as fine as a report shows them
SHARE = quantity("share", 'a share such as "75 %"', {"%": 0.01}, least=FINEST, most=1.0)
POINTS = quantity(
    "points",
    'percentage points such as "2 points"',
    {"points": 0.01, "point": 0.01, "pt": 0.01, "pp": 0.01},
    least=FINEST,
    most=1.0,
)
COUNT = Unit("count", "a whole number", _count)
TRUE = Unit("truth", "true", _true)
