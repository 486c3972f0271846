"""Figures of time and energy, from raw timings: they count where the conditions did, on a device with a real clock."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from harness.audit.statistics import calls_needed, mean_bounds, quantile_bounds
from harness.records import EngineRecord, Latency, RunRecord
from harness.requirements.doubts import failed_gates, no_answer
from harness.requirements.reading import Bounds, Question, Reading, absent

GATES = ("timed outputs", "repeated inputs", "device state")
FEWEST_ROUNDS = 3  # from which rounds are the sample; below, the calls are
QUIETER = "Fix the clocks and stop other programs, or measure for longer (--tier qualify)."


@dataclass(frozen=True)
class Calls:
    """Every timed call of one engine at one batch size: milliseconds (n,), and the round of each (n,)."""

    batch: int
    latency: Latency
    ms: NDArray[np.float64]
    round: NDArray[np.int64]

    def rounds(self) -> list[NDArray[np.float64]]:
        """The calls of each round."""
        return [self.ms[self.round == number] for number in np.unique(self.round)]


def latency(question: Question) -> Reading:
    """A percentile of one call. Its interval reaches from the best to the worst round where that is wider than what chance alone allows."""
    calls = calls_of(question)
    if isinstance(calls, Reading):
        return calls
    rank = float(Fraction(question.options["percentile"].removeprefix("p")) / 100)  # 99.9 / 100 in floats is more than 0.999
    by_round = [_quantile(one, rank) for one in calls.rounds()]

    def bounds(confidence: float) -> Bounds:
        lower, upper = quantile_bounds(calls.ms, rank, confidence)
        return (None if lower is None else min(lower, *by_round), None if upper is None else max(upper, *by_round))

    def more(_limit: float, alpha: float) -> str:
        needed, had = calls_needed(rank, 1 - alpha), len(calls.ms)
        if had < needed:
            return f"{had:,} calls are too few for a bound of {question.options['percentile']}: {needed:,} would do (--tier qualify)."
        return f"Calls or rounds lie on both sides of the limit. {QUIETER}"

    return Reading(_quantile(calls.ms, rank), bounds, more, doubt=doubt(question, calls.latency))


def throughput(question: Question) -> Reading:
    """Images per second, batch / mean latency; its interval is that of the mean over rounds."""
    calls = calls_of(question)
    if isinstance(calls, Reading):
        return calls
    by_round = np.array([one.mean() for one in calls.rounds()])
    sample = by_round if len(by_round) >= FEWEST_ROUNDS else calls.ms

    def per_second(ms: float | None) -> float | None:
        return None if ms is None or ms <= 0 else calls.batch / ms * 1e3

    def bounds(confidence: float) -> Bounds:
        fast, slow = mean_bounds(sample, confidence)
        return per_second(slow), per_second(fast)

    value = calls.batch / float(sample.mean()) * 1e3
    return Reading(value, bounds, lambda _limit, _alpha: f"The rounds differ too much. {QUIETER}", doubt=doubt(question, calls.latency))


def energy(question: Question) -> Reading:
    """Energy of one image as drawn, all of the device's rest included."""
    found = _timed(question)
    if isinstance(found, Reading):
        return found
    if found.energy is None:
        return absent("No power sensor was sampled over the whole measurement. `harness devices probe` says which a device has.")
    return Reading(found.energy.gross_mj, doubt=doubt(question, found), reason=f"One integral over {found.energy.sensor}.")


def load_time(question: Question) -> Reading:
    """From the start of loading to a session that answers."""
    engine = question.its
    if reason := no_time(question.run.raw, engine):
        return absent(reason)
    if engine.load_ms is None:
        return absent("The engine did not tell how long it loaded.")
    return Reading(engine.load_ms, reason="One load.")


def no_time(record: RunRecord, engine: EngineRecord) -> str:
    """Why no duration and no memory of an engine can be had from this run; empty: they can."""
    if reason := no_answer(engine):
        return reason
    if record.device.synthetic:
        return "The device is made up, its clock and memory with it. Run on a real one."
    if record.device.emulated:
        return "The device is emulated: time and memory there say nothing of it. Run on the device itself."
    return "It was simulated, not run. Run on the device itself." if engine.simulated is not None else ""


def _timed(question: Question) -> Latency | Reading:
    engine, batch = question.its, str(question.options["batch"])
    if reason := no_time(question.run.raw, engine):
        return absent(reason)
    if batch not in engine.latency:
        return absent(f"Batch {batch} was not timed; these were: {', '.join(engine.latency) or 'none'}. Run with --batch {batch}.")
    return engine.latency[batch]


def calls_of(question: Question) -> Calls | Reading:
    """The raw calls at the batch size that the question names, or why there are none."""
    found = _timed(question)
    if isinstance(found, Reading):
        return found
    ms, rounds = question.run.latency_ms(found), question.run.rounds(found)
    if ms is None or not len(ms):
        return absent(f"{found.raw} is missing from the run folder, or holds no call.")
    return Calls(question.options["batch"], found, ms, np.zeros(len(ms), np.int64) if rounds is None else rounds)


def doubt(question: Question, found: Latency) -> str:
    """Why a measurement does not count; empty: it does."""
    if found.invalid and "conditions" not in question.permitted:
        return f"The measurement is INVALID: {found.invalid[0]}"
    return failed_gates(question, lambda gate: gate.name in GATES and gate.engine == question.its.name)


def _quantile(values: NDArray[np.float64], rank: float) -> float:
    """As in the record: the median in the middle, others an observed value."""
    return float(np.median(values) if rank == 0.5 else np.quantile(values, rank, method="inverted_cdf"))
