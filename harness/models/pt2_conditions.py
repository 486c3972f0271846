"""Under which conditions a saved program is still the network that was saved: a branch of Python on an image's size is not in its graph.

PyTorch writes them beside the graph as text, such as `L['x'].size()[2] <= 16`, and checks them when it runs a program. They are read here
as arithmetic of sizes, never run as Python.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

HEIGHT, WIDTH = 2, 3  # axes of the input
LONGEST = 1000  # characters of a condition: what is nested without end is not parsed
OF_AN_AXIS = re.compile(r"\.size\(\)\[(\d+)\]")
SYMBOL = re.compile(r"(?:Symbol\('(\w+)'.*\)|(\w+))")

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.USub: operator.neg, ast.Not: operator.not_,
}  # fmt: skip


@dataclass(frozen=True)
class Conditions:
    """What the sizes of a program's input must fulfil.

    Attributes:
        texts: arithmetic of sizes, as PyTorch writes it.
        ranges: (lowest, highest) by axis, None where there is no bound.
    """

    texts: tuple[str, ...]
    ranges: Mapping[int, tuple[int | None, int | None]]

    def broken_by(self, channels: int, height: int, width: int) -> str:
        """The first condition that images of another size do not fulfil, or that cannot be understood; "" where there is none."""
        sizes = {1: channels, HEIGHT: height, WIDTH: width}
        for axis, (low, high) in self.ranges.items():
            name = {HEIGHT: "height", WIDTH: "width"}.get(axis)
            if name is not None and not (low or 0) <= sizes[axis] <= (sizes[axis] if high is None else high):
                return f"a {name} of {low or 0} to {'any' if high is None else high}"
        return next((text for text in self.texts if _concerns(text) and not _holds(text, sizes)), "")


def conditions(stored: dict[str, Any], sizes: list[dict[str, Any]]) -> Conditions:
    """Those of a program, from its JSON and the sizes of its input there.

    Raises:
        ValueError, and others that a damaged file causes: bounds that are no numbers.
    """
    ranges = {}
    for axis, size in enumerate(sizes):
        symbol = SYMBOL.fullmatch(size.get("as_expr", {}).get("expr_str", ""))
        if symbol is not None and (bounds := stored.get("range_constraints", {}).get(symbol[1] or symbol[2])) is not None:
            low, high = bounds["min_val"], bounds["max_val"]
            if not all(bound is None or isinstance(bound, int) for bound in (low, high)):
                raise ValueError(f"a size of {str(low)[:40]} to {str(high)[:40]}")
            ranges[axis] = (low, high)
    return Conditions(tuple(map(str, stored.get("guards_code") or ())), ranges)


def _concerns(text: str) -> bool:
    """Whether a condition is one on the images' height or width."""
    return any(axis in (str(HEIGHT), str(WIDTH)) for axis in OF_AN_AXIS.findall(text))


def _holds(text: str, sizes: Mapping[int, int]) -> bool:
    if len(text) > LONGEST:
        return False
    try:
        return bool(_value(ast.parse(text, mode="eval").body, sizes))
    except (SyntaxError, ValueError, KeyError, ZeroDivisionError, RecursionError, MemoryError):
        return False


def _value(node: ast.AST, sizes: Mapping[int, int]) -> int | bool:
    """Of arithmetic and comparisons of numbers and sizes. Raises ValueError or KeyError for anything else."""
    match node:
        case ast.Constant(value=int() as number):
            return number
        case ast.Subscript(value=ast.Call(func=ast.Attribute(attr="size"), args=[], keywords=[]), slice=ast.Constant(value=int() as axis)):
            return sizes[axis]
        case ast.BinOp(left=left, op=sign, right=right):
            return OPERATORS[type(sign)](_value(left, sizes), _value(right, sizes))  # type: ignore[no-any-return]
        case ast.UnaryOp(op=sign, operand=only):
            return OPERATORS[type(sign)](_value(only, sizes))  # type: ignore[no-any-return]
        case ast.Compare(left=left, ops=signs, comparators=others):
            values = [_value(part, sizes) for part in (left, *others)]
            return all(OPERATORS[type(sign)](one, two) for sign, one, two in zip(signs, values, values[1:], strict=False))
        case ast.BoolOp(op=sign, values=parts):
            return (all if isinstance(sign, ast.And) else any)(_value(part, sizes) for part in parts)
    raise ValueError(type(node).__name__)
