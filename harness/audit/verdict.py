"""The verdict on each claim "the engine keeps the twin's robust accuracy to within a margin", and on the run.

The rule, with L and U Tango's one-sided 95 % bounds of the gap, in this order:

    ENGINE FAILED            the engine gave no usable output
    UNTRUSTED                a gate that guards the verdict failed (but where it only doubts the attacks, and FAILS is next)
    FAILS                    L > margin
    HOLDS                    U < margin, still so after Holm over the claims, and the twin had that much to lose;
                             NOT REFUTED BY TRANSFER where the engine itself was not attacked
    DEGRADED                 L > 0
    INCONCLUSIVE             otherwise

The claims are those of the engines in question. The float engine that stands beside quantized ones is a control: it is judged by
itself, outside Holm's family, and an undecided control does not count in the run's verdict. A verdict must not depend on it being there.

Holm stands on one side only. The error that matters is the signature under a broken engine, so the favourable verdicts
need the Holm-adjusted p-value of "gap >= margin" below 5 %: the chance of any unjust one among all claims of a run stays
below 5 %. The builds of one flavour are one member of the family, by the largest of their p-values: the flavour keeps its
robustness only if each of them does, and such an intersection-union test needs no adjustment of its own (Berger 1982,
Technometrics 24:295-300). FAILS and DEGRADED use the plain bounds: adjusting them would hide a broken engine better the more
engines are tested.

"Had that much to lose" is the assay sensitivity of a non-inferiority trial (ICH E10, section 1.5): where the twin's own robust
accuracy is not above the margin (lower end of its 95 % interval), no engine could lose the margin, and U < margin says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.audit.gates import guards, refutable
from harness.audit.metrics import Right
from harness.audit.paired import Paired, pair
from harness.audit.reasons import explain, in_points
from harness.audit.statistics import ALPHA, bootstrap_ratio, holm, mcnemar_p, share
from harness.records import Claim, Gate, Verdict
from harness.sources import Source

SIMULATED = "Simulated, not run: this foretells the engine's answer and does not replace it. "


@dataclass(frozen=True)
class Comparison:
    """What one claim rests on: twin and engine on the same n images, worst case over the sources.

    Attributes:
        engine: its name.
        eps_exact: the radius as a fraction, e.g. "8/255".
        twin_right: bool (n,), from `metrics.worst_case`.
        engine_right: bool (n,); None where the engine gave no usable output.
        sources: ids of the attack sources, e.g. {"S1", "S3"}.
        missing: sources without which the claim cannot hold, see `harness.sources.lacking`.
        error: what happened to the engine where `engine_right` is None.
        simulated: the engine's answers were foretold, not given by it: the favourable verdict is then never HOLDS.
        control: the float engine beside quantized ones.
        flavour: whose builds share one p-value, the worst; empty: the engine stands alone.
    """

    engine: str
    eps_exact: str
    twin_right: Right
    engine_right: Right | None
    sources: frozenset[str]
    missing: tuple[Source, ...] = ()
    error: str = ""
    simulated: bool = False
    control: bool = False
    flavour: str = ""


def claims(comparisons: Sequence[Comparison], gates: Sequence[Gate], margin: float) -> list[Claim]:
    """Judge every claim of a run together: Holm's adjustment needs them all. In the order given, the control last.

    A gate without an engine counts for every claim, one with an engine for that engine's claims.

    Raises:
        ValueError: `margin` is not in (0, 1), or twin and engine do not hold the same images.
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin is {margin}; expected a share in (0, 1), e.g. 0.02 for two points")
    families = ([one for one in comparisons if not one.control], [one for one in comparisons if one.control])
    return [claim for family in families for claim in _family(family, gates, margin)]


def _family(comparisons: Sequence[Comparison], gates: Sequence[Gate], margin: float) -> list[Claim]:
    """Claims that share one adjustment."""
    found = [None if one.engine_right is None else pair(one.twin_right, one.engine_right, margin) for one in comparisons]
    members = [one.flavour or str(place) for place, one in enumerate(comparisons)]
    worst: dict[str, float] = {}
    for member, one in zip(members, found, strict=True):
        if one is not None:
            worst[member] = max(one.p_value, worst.get(member, 0.0))
    adjusted = dict(zip(worst, holm(list(worst.values())), strict=True))
    return [
        _engine_failed(comparison, margin)
        if one is None or comparison.engine_right is None
        else _judge(
            comparison,
            comparison.engine_right,
            one,
            adjusted[member],
            len(adjusted),
            gates,
            another=worst[member] > one.p_value,
        )
        for member, comparison, one in zip(members, comparisons, found, strict=True)
    ]


def overall(claims: Sequence[Claim]) -> Verdict:
    """The run's verdict: that of its worst claim, an undecided control left out; INCONCLUSIVE where nothing was claimed."""
    order = list(Verdict)
    counted = (claim.verdict for claim in claims if not (claim.control and claim.verdict is Verdict.INCONCLUSIVE))
    return max(counted, key=order.index, default=Verdict.INCONCLUSIVE)


def _judge(
    comparison: Comparison,
    engine_right: Right,
    found: Paired,
    p_adjusted: float,
    family: int,
    gates: Sequence[Gate],
    *,
    another: bool,
) -> Claim:
    """The claim on one engine. `another`: a build of the same flavour has a larger p-value, which is the flavour's."""
    failed = [gate for gate in gates if gate.passed is False and guards(gate) and gate.engine in (None, comparison.engine)]
    if found.lower > found.margin:
        failed = [gate for gate in failed if not refutable(gate)]
    enough_to_lose = found.twin.ci95[0] > found.margin
    shown = p_adjusted < ALPHA
    adaptive = not comparison.missing and not comparison.simulated
    verdict = Verdict.UNTRUSTED if failed else _verdict(found, kept=shown and enough_to_lose, adaptive=adaptive)
    undecided = not failed and enough_to_lose and not shown and found.lower <= found.margin
    # Below the margin the level is that of Holm's first step; above it FAILS is what more images would show, without Holm.
    needed = found.more_images(ALPHA / family if found.gap < found.margin else ALPHA) if undecided else None
    relative = bootstrap_ratio(comparison.twin_right, engine_right, seed=0)
    return Claim(
        statement=_statement(comparison, found.margin),
        engine=comparison.engine,
        control=comparison.control,
        verdict=verdict,
        eps_exact=comparison.eps_exact,
        twin_robust=found.twin,
        engine_robust=found.engine,
        gap=found.gap,
        lower=found.lower,
        upper=found.upper,
        margin=found.margin,
        n=found.n,
        sources=sorted(comparison.sources),
        n_required=needed,
        p_value=p_adjusted,
        mcnemar_p=mcnemar_p(found.twin_only, found.engine_only),
        relative_robustness=relative[0] if relative else None,
        relative_ci95=relative[1] if relative else None,
        reason=(SIMULATED if comparison.simulated else "")
        + explain(
            verdict,
            found,
            failed=failed,
            enough_to_lose=enough_to_lose,
            needed=needed,
            family=family,
            another=another,
            missing=comparison.missing,
        ),
    )


def _verdict(found: Paired, *, kept: bool, adaptive: bool) -> Verdict:
    if found.lower > found.margin:
        return Verdict.FAILS
    if kept:
        return Verdict.HOLDS if adaptive else Verdict.NOT_REFUTED
    return Verdict.DEGRADED if found.lower > 0 else Verdict.INCONCLUSIVE


def _engine_failed(comparison: Comparison, margin: float) -> Claim:
    n = len(comparison.twin_right)
    return Claim(
        statement=_statement(comparison, margin),
        engine=comparison.engine,
        control=comparison.control,
        verdict=Verdict.ENGINE_FAILED,
        eps_exact=comparison.eps_exact,
        twin_robust=share(int(comparison.twin_right.sum()), n) if n else None,
        engine_robust=None,
        gap=None,
        lower=None,
        upper=None,
        margin=margin,
        n=n,
        sources=sorted(comparison.sources),
        n_required=None,
        p_value=None,
        mcnemar_p=None,
        relative_robustness=None,
        relative_ci95=None,
        reason=f"The engine gave no usable output: {(comparison.error or 'no reason was recorded').rstrip('.')}.",
    )


def _statement(comparison: Comparison, margin: float) -> str:
    engine = f"{comparison.engine} (simulated)" if comparison.simulated else comparison.engine
    return f"{engine} keeps the twin's robust accuracy at eps {comparison.eps_exact} to within {in_points(margin)}"
