"""Version numbers against ranges such as ">=36.2,<37": the numbers between dots are compared, whatever follows them is not."""

from __future__ import annotations

import operator
import re
from itertools import zip_longest

from devices.host.errors import DeviceError

_OPERATORS = {">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt}
_CONDITION = re.compile(r"\s*(>=|<=|==|>|<)\s*(\d+(?:\.\d+)*)\s*")
_LEADING = re.compile(r"\D*(\d{1,9}(?:\.\d{1,9})*)")


def satisfies(version: str, wanted: str) -> bool:
    """Whether `version` meets every comma-separated condition of `wanted`: "36.4.3" meets ">=36.2,<37", "10.3" meets "==10.3.0".

    Raises:
        DeviceError: there is no number in `version`, or `wanted` is not a range.
    """
    found = _LEADING.match(version)
    if not found:
        raise DeviceError(f"version {version!r} has no number; expected one such as 36.4.3")
    return all(_OPERATORS[symbol](_compare(found[1], bound), 0) for symbol, bound in conditions(wanted))


def conditions(wanted: str) -> list[tuple[str, str]]:
    """The conditions of a range, each its symbol and its version.

    Raises:
        DeviceError: it is not a range.
    """
    found = [_CONDITION.fullmatch(part) for part in wanted.split(",")]
    if None in found:
        raise DeviceError(f"{wanted!r} is no version range; expected conditions such as '>=36.2,<37'")
    return [(match[1], match[2]) for match in found if match]


def _compare(left: str, right: str) -> int:
    """-1, 0 or 1; the shorter version is filled with zeros."""
    for a, b in zip_longest(map(int, left.split(".")), map(int, right.split(".")), fillvalue=0):
        if a != b:
            return -1 if a < b else 1
    return 0
