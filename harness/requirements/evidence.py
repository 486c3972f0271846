"""How much evidence there is: images, builds, sources, a real device, gates."""

from __future__ import annotations

from fractions import Fraction

from harness.records import EngineRecord, RunRecord
from harness.requirements.accuracy import primary_radius
from harness.requirements.doubts import no_answer
from harness.requirements.reading import Question, Reading, absent
from harness.settings import FILE, engine_name
from harness.sources import OWN_GRAPH, SOURCES, complete, deciding
from reports.format import several


def images(question: Question) -> Reading:
    """Images that were attacked."""
    record = question.run.raw
    return Reading(float(record.data.n)) if record.attacks else absent("Nothing was attacked in this run. Run `harness bench`.")


def builds(question: Question) -> Reading:
    """Engines of the same flavour that were built anew and ran."""
    if reason := no_answer(question.its):
        return absent(reason)
    flavour = question.its.flavour
    ran = [engine for engine in question.run.raw.engines if engine.flavour == flavour and engine.status == "ok"]
    return Reading(float(len(ran)), reason="Run with --builds for more.")


def sources(question: Question) -> Reading:
    """The sources whose sets, at the run's radius, count for the engine; those that cannot concern it count as there."""
    engine, eps = question.its, primary_radius(question)
    if reason := no_answer(engine):
        return absent(reason)
    if eps is None:
        return absent("Nothing was attacked in this run. Run `harness bench`.")
    found = complete(deciding(question.run.matrix.columns, engine.name, Fraction(eps)), engine.name)
    idle = set() if own_graph(engine, question.run.raw) else {s.id for s in SOURCES.values() if s.needed == OWN_GRAPH} - found
    note = f"{', '.join(sorted(idle))} does not concern an engine without a graph of its own." if idle else ""
    return Reading(tuple(sorted(found | idle)), reason=note)


def hardware(question: Question) -> Reading:
    """Whether the engine itself ran, on the device itself."""
    engine, device = question.its, question.run.raw.device
    if reason := no_answer(engine):
        return absent(reason)
    other = {"made up": device.synthetic, "emulated": device.emulated, "recorded": device.recorded_from is not None}
    why = [word for word, so in other.items() if so] + (["not where the engine ran: it was simulated"] if engine.simulated else [])
    return Reading(not why, reason=f"The device is {' and '.join(why)}." if why else "")


def gates(question: Question) -> Reading:
    """The gates that failed, of the run and of the engines in question."""
    whose = {None, *(engine.name for engine in question.engines)}
    concerned = [gate for gate in question.run.raw.gates if gate.engine in whose]
    if not concerned:
        return absent("No gate was tested in this run.")
    failed = dict.fromkeys(gate.name for gate in concerned if gate.passed is False)
    open_ = sum(gate.passed is None for gate in concerned)
    return Reading(tuple(failed), reason=f"{several(open_, 'gate')} not tested or left open." if open_ else "")


def own_graph(engine: EngineRecord, record: RunRecord) -> bool:
    """Whether an engine's graph may be another than the twin's: it has quantizers, or was not made here."""
    given = [engine_name(flavour) for flavour in record.settings.get("flavours") or () if flavour.startswith(f"{FILE}:")]
    return quantized(engine) or engine.flavour in given


def quantized(engine: EngineRecord) -> bool:
    """Whether an engine's graph has quantizers, as far as its record tells."""
    return engine.precision_evidence is not None and engine.precision_evidence.claimed == "int8"
