"""A verdict in words, for the person who signs off."""

from __future__ import annotations

from collections.abc import Sequence

from harness.audit.paired import Paired
from harness.records import Gate, Verdict
from harness.sources import Source


def explain(
    verdict: Verdict,
    found: Paired,
    *,
    failed: Sequence[Gate],
    enough_to_lose: bool,
    needed: int | None,
    family: int,
    another: bool = False,
    missing: Sequence[Source] = (),
) -> str:
    """Why `verdict`, in one or two plain sentences.

    Args:
        verdict: any but ENGINE FAILED.
        found: the paired statistics.
        failed: the gates that made it UNTRUSTED.
        enough_to_lose: the twin's own robust accuracy is above the margin.
        needed: images that would decide.
        family: claims judged together.
        another: a build of the same flavour is further from holding.
        missing: sources without which no better verdict can be earned.
    """
    seen = (
        f"Twin right and engine wrong on {found.twin_only} of {found.n} images, the reverse on {found.engine_only}: "
        f"gap {_points(found.gap, found.margin)} points"
    )
    at_most = f"at most {_points(found.upper, found.margin)}"
    at_least = f"at least {_points(found.lower, found.margin)}"
    margin = f"{found.margin * 100:g}"
    match verdict:
        case Verdict.UNTRUSTED:
            return f"{_failed(failed)}, so no figure here is to be relied on. {seen}, {at_most}, margin {margin}."
        case Verdict.FAILS:
            return f"{seen}, {at_least} with 95 % confidence, above the margin of {margin}."
        case Verdict.HOLDS | Verdict.NOT_REFUTED:
            return f"{seen}, {at_most} with 95 % confidence, margin {margin}." + _but(verdict, found, missing)
        case Verdict.DEGRADED:
            tail = (
                "the engine has lost robustness, and perhaps more than the margin"
                if enough_to_lose
                else "the little robustness there was is lost"
            )
            return f"{seen}, {at_least} and {at_most}, each with 95 % confidence, margin {margin}: {tail}.{_would_decide(needed)}"
        case _ if not enough_to_lose:
            return (
                f"Under attack the twin itself is right on only {found.twin.correct} of {found.n} images, not clearly more than "
                f"the margin of {in_points(found.margin)}: it has too little robustness for a loss to show. "
                "Choose a smaller eps, a more robust model, or more images."
            )
        case _ if found.upper < found.margin:
            alone = f"{at_most} with 95 % confidence taken alone, margin {margin}"
            but = (
                "but another build of the flavour is worse, and the worst counts"
                if another
                else f"but not after correction for {family} claims"
            )
            return f"{seen}, {alone}, {but}.{_would_decide(needed)}"
        case _:
            return f"{seen}, {at_most} with 95 % confidence, not below the margin of {margin}.{_would_decide(needed)}"


def _failed(gates: Sequence[Gate]) -> str:
    names = ", ".join(f"'{gate.name}' ({gate.observed})" for gate in gates)
    return f"{'A gate' if len(gates) == 1 else 'Gates'} failed: {names}"


def _but(verdict: Verdict, found: Paired, missing: Sequence[Source]) -> str:
    worse = " The engine is measurably worse than the twin, by less than the margin." if found.lower > 0 else ""
    absent = "; ".join(f"{source.absent} ({source.id})" for source in missing)
    return worse + (f" No better verdict can be earned: {absent}." if verdict is Verdict.NOT_REFUTED and missing else "")


def _would_decide(needed: int | None) -> str:
    return "" if needed is None else f" About {needed:,} images would decide."


def in_points(margin: float) -> str:
    """A margin with its unit: `2 points`."""
    text = f"{margin * 100:g}"
    return f"{text} point{'' if text == '1' else 's'}"


def _points(value: float, margin: float) -> str:
    """Percentage points to one decimal, or to as many as keep the figure on its own side of zero and of the margin."""
    for digits in (1, 2, 3):
        rounded = round(100 * value, digits)
        if all(rounded != round(100 * edge, digits) or value == edge for edge in (0.0, margin)):
            break
    return f"{rounded:.{digits}f}"
