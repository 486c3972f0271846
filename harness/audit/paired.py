"""Twin and engine on the same images, and what a paired test makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from harness.audit.metrics import Right, flips
from harness.audit.statistics import ALPHA, n_required, share, tango, tango_p
from harness.records import Share

RULE_OF_THREE = 3


@dataclass(frozen=True)
class Paired:
    """The paired statistics of n images. Every figure but the counts is a share.

    Attributes:
        n: images.
        twin, engine: how many each has right.
        twin_only, engine_only: the discordant images.
        margin: what the gap is compared with.
        lower, upper: Tango's one-sided bounds of the gap, at 95 % where nothing else is asked for.
        p_value: one-sided, of "gap >= margin"; below 5 % exactly where `upper` < `margin`.
    """

    n: int
    twin: Share
    engine: Share
    twin_only: int
    engine_only: int
    margin: float
    lower: float
    upper: float
    p_value: float

    @property
    def gap(self) -> float:
        """p_twin - p_engine."""
        return (self.twin_only - self.engine_only) / self.n

    def more_images(self, alpha: float = ALPHA) -> int | None:
        """Images that would tell the gap from the margin, at the gap and discordance seen. None where the two are equal.

        Below three discordant images the discordance is taken as 3 / n, its 95 % upper bound where none was seen (the rule
        of three, Hanley & Lippman-Hand 1983, JAMA 249:1743-1745): none in few images is no promise of none in many.
        """
        psi = min(max(self.twin_only + self.engine_only, RULE_OF_THREE) / self.n, 1.0)
        return n_required(psi, self.gap, self.margin, alpha=alpha)


def pair(twin_right: Right, engine_right: Right, margin: float, confidence: float = 1 - ALPHA) -> Paired:
    """The statistics of two bool (n,) arrays over the same images; both bounds one-sided at `confidence`.

    Raises:
        ValueError: the arrays are not of one length, or empty.
    """
    table, n = flips(twin_right, engine_right), len(twin_right)
    lower, upper = tango(table.twin_only, table.engine_only, n, confidence)
    return Paired(
        n=n,
        twin=share(table.both_right + table.twin_only, n),
        engine=share(table.both_right + table.engine_only, n),
        twin_only=table.twin_only,
        engine_only=table.engine_only,
        margin=margin,
        lower=lower,
        upper=upper,
        p_value=tango_p(table.twin_only, table.engine_only, n, margin),
    )
