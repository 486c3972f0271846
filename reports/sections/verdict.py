"""The answer: one sentence, then one row per claim."""

from __future__ import annotations

import shlex

from harness.records import Claim, RunRecord, Share, Step, Verdict
from reports.command import command
from reports.elements import Cell, Section, Table, Tone, table
from reports.format import NONE, count, estimate, percent, points, significant
from reports.run import Run

HEADLINES: dict[Verdict, str] = {
    Verdict.HOLDS: "The robustness claim holds on this device.",
    Verdict.NOT_REFUTED: "Nothing here refutes the robustness claim; transferred attacks alone cannot confirm it.",
    Verdict.INCONCLUSIVE: "These images do not decide the robustness claim.",
    Verdict.UNTRUSTED: "A gate failed: the figures below decide nothing.",
    Verdict.DEGRADED: "The engine is less robust than its twin; whether by more than the margin is open.",
    Verdict.FAILS: "The robustness claim fails on this device.",
    Verdict.ENGINE_FAILED: "An engine did not run, so its claim has no answer.",
}
TONES: dict[Verdict, Tone] = {
    Verdict.HOLDS: "good",
    Verdict.NOT_REFUTED: "good",
    Verdict.INCONCLUSIVE: "warn",
    Verdict.UNTRUSTED: "warn",
    Verdict.DEGRADED: "bad",
    Verdict.FAILS: "bad",
    Verdict.ENGINE_FAILED: "bad",
}


LARGER = {"cifar10-sample": "cifar10"}  # data set -> the whole of it


def headline(record: RunRecord) -> str:
    """The verdict as a plain sentence."""
    if record.verdict is None and record.status == Step.FINISHED:
        return "No verdict: no claim was put to the test."
    if record.verdict is None:
        return f"No verdict yet: the run stopped after the step '{record.status}'."
    worst = decisive(record) if record.verdict == Verdict.UNTRUSTED else None
    return HEADLINES[record.verdict] + ("" if worst is None else f" {worst.reason}")


def tag(record: RunRecord) -> str:
    """What every chapter must say about the device: `SYNTHETIC`, `EMULATED`, both, or nothing."""
    return ", ".join(word for word, so in (("SYNTHETIC", record.device.synthetic), ("EMULATED", record.device.emulated)) if so)


def caveat(record: RunRecord) -> str:
    """The tag as a sentence, or nothing."""
    synthetic = "SYNTHETIC: this device is made up; none of its figures was measured." if record.device.synthetic else ""
    emulated = "EMULATED: numerics only; latency, throughput, load time and memory in use are withheld." if record.device.emulated else ""
    source = record.device.recorded_from
    recorded = f"RECORDED: state and telemetry of the device were read from recorded files in {source}." if source else ""
    return " ".join(filter(None, (synthetic, emulated, recorded, _not_run(record))))


def _not_run(record: RunRecord) -> str:
    """The engines that stand in the report without having run, in a sentence; nothing where there is none."""
    simulated = [engine.name.partition(" (")[0] for engine in record.engines if engine.simulated is not None]
    if not simulated:
        return ""
    return f"NOT RUN: the answers of {', '.join(simulated)} were computed on this computer, not by the engine itself."


def decisive(record: RunRecord) -> Claim | None:
    """The claim that made the overall verdict: of those that share it, the one with the largest gap, a control last."""
    same = [claim for claim in record.claims if claim.verdict == record.verdict]
    return max(same, key=lambda claim: (not claim.control, claim.gap if claim.gap is not None else -1.0), default=None)


def more_images(record: RunRecord) -> str:
    """The command that would decide what the images at hand do not, or nothing."""
    needed = max((claim.n_required or 0 for claim in record.claims if not claim.control), default=0)
    if not needed:
        return ""
    options = {"--samples": str(needed)}
    short = needed > record.data.n_clean
    if short and record.data.name in LARGER:
        options["--data"] = LARGER[record.data.name]
    elsewhere = f"It takes more than the {record.data.n_clean:,} images of {record.data.name}. " if short else ""
    return f"{elsewhere}Next: {shlex.join(command(record, options))}"


def called(claim: Claim) -> str:
    """The claim's engine, marked where it is a control."""
    return f"{claim.engine} (control)" if claim.control else claim.engine


def in_words(claim: Claim) -> str:
    """The figures of a claim as one sentence."""
    if claim.twin_robust is None or claim.engine_robust is None or claim.gap is None:
        return f"{claim.engine} at {claim.eps_exact}: {claim.reason}"
    bounds = "" if claim.lower is None else f" (95 % bounds {points(claim.lower)} and {points(claim.upper)})"
    return (
        f"{claim.engine} at {claim.eps_exact}: under the strongest attack on each image "
        f"the twin keeps {percent(claim.twin_robust.accuracy)} and the engine {percent(claim.engine_robust.accuracy)}. "
        f"The gap is {points(claim.gap)} points{bounds}; {100 * claim.margin:.1f} are allowed. n = {claim.n:,}."
    )


def section(run: Run) -> Section:
    """The verdict."""
    record = run.record
    worst = decisive(record)
    paragraphs = [headline(record)]
    if worst is not None:
        paragraphs.append(in_words(worst))
    if caveat(record):
        paragraphs.append(caveat(record))
    if more_images(record):
        paragraphs.append(more_images(record))
    if run.missing:
        paragraphs.append(f"Files of this run are missing, and figures drawn from them are left out: {', '.join(run.missing)}.")
    return Section("verdict", "Verdict", paragraphs, [_answers(record), _reasons(record)] if record.claims else [])


def _answers(record: RunRecord) -> Table:
    return table(
        "Claims",
        ("Engine", "Verdict", "ε", "Twin, worst case", "Engine, worst case", "Gap", "Bounds", "Margin", "n", "n to decide", "p"),
        [
            (
                called(claim),
                Cell(claim.verdict, TONES[claim.verdict]),
                claim.eps_exact,
                _share(claim.twin_robust),
                _share(claim.engine_robust),
                points(claim.gap),
                NONE if claim.lower is None else f"[{points(claim.lower)}, {points(claim.upper)}]",
                f"{100 * claim.margin:.1f}",
                count(claim.n),
                count(claim.n_required),
                significant(claim.p_value),
            )
            for claim in record.claims
        ],
        numbers=range(3, 11),
        note="Worst case: an image counts where the model has it right when clean and under every attack of that radius. Gap: twin less "
        "engine, in percentage points; bounds are one-sided 95 % (Tango). UNTRUSTED: a gate that guards the verdict failed. FAILS: the "
        "lower bound is above the margin. HOLDS: the upper bound is below the margin, still so after Holm's correction for the number of "
        "claims; the twin had that much to lose (the lower end of its own interval is above the margin); and the STE twin and the engine "
        "itself were attacked. Without those attacks: NOT REFUTED BY TRANSFER. DEGRADED: the lower bound is above 0. INCONCLUSIVE: none of "
        "these. Control: the float engine beside quantized ones, judged by itself; undecided, it does not count. "
        "n to decide: images needed at the disagreement seen. p: of a gap at least as large as the margin, Holm-adjusted.",
    )


def _reasons(record: RunRecord) -> Table:
    return table(
        "Reasons",
        ("Engine", "Claim", "Why this verdict", "Engine / twin", "McNemar's p"),
        [
            (called(c), c.statement, c.reason, estimate(c.relative_robustness, c.relative_ci95), significant(c.mcnemar_p))
            for c in record.claims
        ],
        numbers=(3, 4),
        note="Engine / twin: the engine's worst-case accuracy as a share of the twin's, with its 95 % interval (paired bootstrap). "
        "McNemar's p: exact, two-sided, of no gap at all, not corrected. Neither decides: a large p is no evidence that the two are equal.",
    )


def _share(share: Share | None) -> str:
    return NONE if share is None else estimate(share.accuracy, share.ci95)
