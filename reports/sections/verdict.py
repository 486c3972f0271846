"""The answer: one sentence, why, and what speaks against it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from harness import __version__
from harness.records import SCHEMA, Claim, Gate, RunRecord, Step, Verdict
from reports.command import command
from reports.elements import Item, Listing, Section, Tone
from reports.format import allowed, clean, percent, points, sentence, shortened
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

STATUS_WORDS = {
    "ok": "ran",
    "crashed": "crashed: the worker's process died",
    "hung": "hung: no answer within the time allowed",
    "nan": "not a number: its logits hold NaN or infinity",
    "refused": "refused: the runtime does not accept the artefact",
    "built": "built ahead of time, not run: there is nothing here to run it on",
}
LOST = "No verdict: record.json is damaged. What could still be read is shown; it decides nothing and must not be signed."
NEWER = (
    "No verdict: record.json is of a newer version ({}); this is edge-harness {}, which reads schema {}. What it can read is shown as that "
    "schema means it; it decides nothing and must not be signed. Use the version that wrote it."
)
MOST_LOST = 1_000
MOST_GATES = 6
FEW, LONG, SHORT = 3, 400, 110  # more points than a few are told in fewer characters, so that a page holds them
LARGER = {"cifar10-sample": "cifar10"}  # data set -> the whole of it


def headline(record: RunRecord) -> str:
    """The verdict as a plain sentence, with the reason of one that nothing may be relied on."""
    if record.verdict is None and record.status == Step.FINISHED:
        return "No verdict: no claim was put to the test."
    if record.verdict is None:
        return f"No verdict yet: the run stopped after the step '{record.status}'."
    worst = decisive(record) if record.verdict == Verdict.UNTRUSTED else None
    return HEADLINES[record.verdict] if worst is None else f"The figures below decide nothing. {worst.reason}"


def answer(run: Run) -> str:
    """The verdict as a word."""
    if run.newer:
        return "RECORD OF A NEWER VERSION"
    return "RECORD DAMAGED" if run.lost else run.record.verdict or "NO VERDICT YET"


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


def more_images(record: RunRecord) -> tuple[str, str, str]:
    """What decides where the images at hand do not: what to know of it, what leads to the command, and the command; or nothing."""
    needed = max((claim.n_required or 0 for claim in record.claims if not claim.control), default=0)
    if not needed:
        return "", "", ""
    options, has = {"--samples": str(needed)}, record.data.n_clean
    if needed <= has:
        return "", "Next:", shlex.join(command(record, options))
    takes = f"It takes {needed:,} images, more than the {has:,} of {record.data.name}."
    if record.data.name in LARGER:
        return takes, "Next:", shlex.join(command(record, options | {"--data": LARGER[record.data.name]}))
    return takes, "With them:", shlex.join(command(record, options))


def called(claim: Claim) -> str:
    """The claim's engine, marked where it is a control."""
    return f"{claim.engine} (control)" if claim.control else claim.engine


def in_words(claim: Claim) -> str:
    """The figures of a claim as one sentence."""
    if claim.twin_robust is None or claim.engine_robust is None or claim.gap is None:
        return f"{claim.engine} at {claim.eps_exact}: {claim.reason}"
    bounds = "" if claim.lower is None else f" (95 % bounds {points(claim.lower, claim.margin)} and {points(claim.upper, claim.margin)})"
    return (
        f"{claim.engine} at {claim.eps_exact}: under the strongest attack on each image "
        f"the twin keeps {percent(claim.twin_robust.accuracy)} and the engine {percent(claim.engine_robust.accuracy)}. "
        f"The gap is {points(claim.gap, claim.margin)} points{bounds}; {allowed(claim.margin)} are allowed. n = {claim.n:,}."
    )


def section(run: Run) -> Section:
    """The verdict, why, and what speaks against it."""
    record = run.record
    if run.lost:
        return _without_verdict(run)
    worst = decisive(record)
    paragraphs = [HEADLINES[record.verdict] if record.verdict else headline(record)]  # why stands below
    if worst is not None and worst.gap is not None:
        paragraphs.append(in_words(worst))
    more, _, words = more_images(record)
    paragraphs += filter(None, (caveat(record), more))
    found = (Listing("Why", _why(record)), Listing("Failed gates", _failed_gates(record)), Listing("What is missing", _missing(run)))
    return Section("verdict", "Verdict", paragraphs, lists=[one for one in found if one.items], code=words, sheet=True)


def _without_verdict(run: Run) -> Section:
    """Of a record that could not be read whole: what is missing, before all."""
    record = run.record
    said = NEWER.format(clean(run.newer), __version__, SCHEMA) if run.newer else LOST
    paragraphs = [said, *filter(None, [run.attempt("what to know of the device", lambda: caveat(record), "")])]
    found = (Listing("What is missing", _missing(run)), Listing("Failed gates", _failed_gates(record)))
    return Section("verdict", "Verdict", paragraphs, lists=[one for one in found if one.items], sheet=True)


def _why(record: RunRecord) -> list[Item]:
    """The reason of each claim; engines that share verdict and reason are named together. All of a long one stands in the evidence."""
    shared: dict[tuple[Verdict, str], list[str]] = {}
    for claim in record.claims:
        shared.setdefault((claim.verdict, claim.reason), []).append(called(claim))
    room = LONG if len(shared) <= FEW else SHORT
    return [Item(f"{_some(engines)}: {verdict}", shortened(reason, room), TONES[verdict]) for (verdict, reason), engines in shared.items()]


def _failed_gates(record: RunRecord) -> list[Item]:
    """Each failed gate once, with the engines where it failed and what the first of them showed; the rest stands in the evidence."""
    failed: dict[str, list[Gate]] = {}
    for gate in record.gates:
        if gate.passed is False:
            failed.setdefault(gate.name, []).append(gate)
    room = LONG if len(failed) <= FEW else SHORT
    items = [
        Item(f"{name} ({_some([gate.engine or 'the whole run' for gate in gates])})", _seen(gates[0], room), "bad")
        for name, gates in failed.items()
    ]
    if len(items) > MOST_GATES:
        items = [*items[:MOST_GATES], Item(f"and {len(items) - MOST_GATES} more", "see Gates and warnings", "bad")]
    return items


def _seen(gate: Gate, room: int) -> str:
    return f"{sentence(shortened(gate.observed, room))} {shortened(gate.remedy, room)}"


def _some(names: Sequence[str]) -> str:
    """The names, or the first of many."""
    return ", ".join(names) if len(names) <= FEW + 1 else f"{', '.join(names[:FEW])} and {len(names) - FEW} more"


def _missing(run: Run) -> list[Item]:
    """What should be there and is not: engines that did not run, files."""
    failed = [engine for engine in run.record.engines if engine.status != "ok"]
    items = [Item(engine.name, f"{sentence(STATUS_WORDS[engine.status])} {shortened(engine.error or '')}", "bad") for engine in failed]
    if run.lost:
        items.append(Item("Left out of record.json", shortened(run.lost, MOST_LOST), "bad"))
    items += [Item(f"Left out: {', '.join(sorted(set(left)))}", fault, "bad") for fault, left in run.faults.items() if left]
    if run.missing:
        items.append(Item("Files", f"figures drawn from them are left out: {shortened(', '.join(run.missing))}", "bad"))
    return items
