"""Straight-through gradients: a step forward, the derivative of something smooth backward (Bengio et al., 2013, arXiv:1308.3432)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_LEFT_OUT = ContextVar("rounding is left out", default=False)


@contextmanager
def rounding_left_out() -> Iterator[None]:
    """Inside, whatever steps is the smooth thing in its place, forward too: rounding the identity, a sign the ramp from -1 to 1."""
    before = _LEFT_OUT.set(True)
    try:
        yield
    finally:
        _LEFT_OUT.reset(before)


def left_out() -> bool:
    """Whether this is inside `rounding_left_out`."""
    return _LEFT_OUT.get()


class _StraightThrough(torch.autograd.Function):
    """The second argument forward, the gradient of the first backward."""

    @staticmethod
    def forward(context: Any, smooth: Tensor, stepped: Tensor) -> Tensor:
        return stepped.view_as(stepped)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def straight_through(smooth: Tensor, stepped: Tensor) -> Tensor:
    """`stepped`, whose gradient goes to `smooth`, of the same shape. Where no gradient is asked for, `stepped` alone: nothing of this is
    in an exported graph."""
    if left_out():
        return smooth
    if not smooth.requires_grad:
        return stepped
    result: Tensor = _StraightThrough.apply(smooth, stepped)
    return result


def straight_round(x: Tensor) -> Tensor:
    """Rounding forward (halves to even), the identity backward."""
    return straight_through(x, x.detach().round())


def straight_floor(x: Tensor) -> Tensor:
    """Rounding down forward, the identity backward."""
    return straight_through(x, x.detach().floor())


def straight_ceil(x: Tensor) -> Tensor:
    """Rounding up forward, the identity backward."""
    return straight_through(x, x.detach().ceil())


def straight_sign(x: Tensor) -> Tensor:
    """The sign forward, backward the derivative of clip(x, -1, 1) (Hubara et al., "Binarized Neural Networks", 2016, equation 4)."""
    return straight_through(F.hardtanh(x), x.detach().sign()) if x.requires_grad or left_out() else x.sign()


def straight_cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A float cast to an integer type and back: rounding towards zero forward, the identity backward. x keeps its type."""
    return straight_through(x, x.detach().to(dtype).to(x.dtype))


def straight_trunc(x: Tensor) -> Tensor:
    """Rounding towards zero forward, the identity backward."""
    return straight_through(x, x.detach().trunc())


class Role(Enum):
    """What an operator does to a value that a graph holds as integers for a while: makes it, passes it on, makes it float again."""

    ENTER, PASS, LEAVE, OTHER = range(4)


@dataclass(frozen=True)
class Passage:
    """One node of a graph, as `integers_that_return` sees it.

    Attributes:
        narrow: it makes integers of less than 32 bits.
        outgrows: its result may lie outside of the range of such: a sum, a product.
    """

    role: Role
    inputs: Sequence[str]
    output: str
    narrow: bool = False
    outgrows: bool = False


def integers_that_return(nodes: Sequence[Passage], results: set[str]) -> set[str]:
    """Outputs of the casts to integers whose value comes back as a float, whatever lies between.

    No gradient passes through an integer tensor. These can be carried as floats (exact up to 2**24) by `straight_cast`; any other, an
    index or a mask, stays what the file says. So do narrow ones that something is added to: bytes go round, which floats do not.

    Args:
        nodes: of the graph, in order.
        results: the graph's outputs, which no cast follows.
    """
    readers: dict[str, list[Passage]] = defaultdict(list)
    for node in nodes:
        for key in node.inputs:
            readers[key].append(node)
    wide, narrow = (_returning(nodes, readers, results, outgrows) for outgrows in (True, False))
    return {node.output for node in nodes if node.role is Role.ENTER and node.output in (narrow if node.narrow else wide)}


def _returning(nodes: Sequence[Passage], readers: dict[str, list[Passage]], results: set[str], outgrows: bool) -> set[str]:
    """The outputs whose value comes back as a float; `outgrows`: nodes that may leave the range of their type pass it on too."""
    returning: set[str] = set()

    def returns(reader: Passage) -> bool:
        passed = reader.role in (Role.PASS, Role.ENTER) and reader.output in returning  # integers may be cast to others
        return (reader.role is Role.LEAVE or passed) and (outgrows or not reader.outgrows)

    for node in reversed(nodes):
        after = readers[node.output]
        if node.output not in results and after and all(map(returns, after)):
            returning.add(node.output)
    return returning


def finite_gradient(x: Tensor) -> Tensor:
    """`x`, to which a NaN or infinite gradient is 0.

    For operators with a point where the derivative has a pole (a root at 0): 0 is PyTorch's own choice for a norm at 0, and one
    such value would make the gradient of the whole image NaN.
    """
    if not x.requires_grad:
        return x
    alias = x.view_as(x)
    alias.register_hook(lambda gradient: gradient.nan_to_num(0.0, 0.0, 0.0))  # type: ignore[no-untyped-call]
    return alias
