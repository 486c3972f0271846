"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from harness.validate.ground import Ground

Outcome = Literal["confirmed", "refuted", "undecided", "not comparable", "not run"]


@dataclass(frozen=True)
class Finding:
    """The answer to one check.

    Attributes:
        outcome: of the statement, on these networks. "undecided": too few images to tell. "not comparable": another network, attack or
            n; the figures stand side by side.
        ours: this program's own figure, with n and its interval.
        why: what decides, or what was lacking and how to get it.
    """

    outcome: Outcome
    ours: str
    why: str


@dataclass(frozen=True)
class Check:
    """One published statement.

    Attributes:
        name: for `--only`.
        statement: what was published.
        figure: the published figure.
        source: who published it, where.
        answer: computes this program's own.
    """

    name: str
    statement: str
    figure: str
    source: str
    answer: Callable[[Ground], Finding]
