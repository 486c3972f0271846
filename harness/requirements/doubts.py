"""Why a figure is absent, or does not count though it is there."""

from __future__ import annotations

from collections.abc import Callable

from harness.audit.gates import guards
from harness.records import EngineRecord, Gate
from harness.requirements.reading import Question


def no_answer(engine: EngineRecord) -> str:
    """Why an engine has no figure at all; empty: it ran."""
    return "" if engine.status == "ok" else f"The engine {engine.status}: {engine.error or 'no reason was recorded'}."


def failed_gates(question: Question, concern: Callable[[Gate], bool]) -> str:
    """The first gate that failed, concerns the figure and is not permitted to fail, as a sentence; empty: there is none."""
    for gate in question.run.raw.gates:
        if gate.passed is False and gate.name not in question.permitted and concern(gate):
            return f"The gate '{gate.name}' failed: {gate.observed.rstrip('.')}. {gate.remedy}"
    return ""


def of_answers(question: Question) -> str:
    """Why an engine's answers do not count: a gate that guards the verdict failed, or it did not run itself; empty: they do."""
    engine = question.its
    if engine.simulated is not None:
        return "Its answers were simulated, not given by it. Run on the device itself."
    return failed_gates(question, lambda gate: guards(gate) and gate.engine in (None, engine.name))
