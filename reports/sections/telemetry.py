"""What the device did while it was timed: the conditions of every measurement, the energy of an inference, and the sensors behind them."""

from __future__ import annotations

from collections.abc import Iterator

from harness.records import Conditions, EngineRecord, Latency, RunRecord
from reports.elements import Cell, Section, Table, table
from reports.format import NONE, count, percent, significant
from reports.run import Run

INVALID = "INVALID"


def section(run: Run) -> Section:
    """Conditions, energy and sampling; where nothing was sampled, that."""
    record = run.record
    watched = [engine for engine in record.engines if engine.telemetry]
    if not watched:
        why = ": the device is emulated" if record.device.emulated else ": its clock is made up" if record.device.synthetic else ""
        return Section("telemetry", "Latency round by round", [f"Nothing was sampled beside the timing{why}. No energy is given."])
    paragraphs, tables = [], [_conditions(record)]
    if any(latency.energy for _, _, latency in _measured(record)):
        tables.append(_energy(record))
    else:
        paragraphs.append(f"No energy is given: no power sensor was sampled over a whole measurement. {_absent_sensors(watched)}")
    if any(latency.invalid for _, _, latency in _measured(record)):
        paragraphs.append("A measurement that does not count is INVALID: its latency and its energy are withheld, its samples are shown.")
    return Section("telemetry", "Latency round by round", paragraphs, [*tables, _sampling(watched)])


def _measured(record: RunRecord) -> Iterator[tuple[EngineRecord, str, Latency]]:
    for engine in record.engines:
        for batch in sorted(engine.latency, key=int):
            yield engine, batch, engine.latency[batch]


def _conditions(record: RunRecord) -> Table:
    return table(
        "Conditions of each measurement",
        ("Engine", "Batch", "Counts", "Other programs", "Hypervisor", "Temperature (°C)", "Clock (MHz)", "Throttled", "Why not"),
        [
            (
                engine.name,
                batch,
                Cell(INVALID, "bad") if latency.invalid else Cell("yes", "good"),
                *_seen(latency.conditions),
                "; ".join(latency.invalid) or NONE,
            )
            for engine, batch, latency in _measured(record)
        ],
        numbers=range(1, 2),
        note="Shares are of the time of the CPUs that the job may use, while the batch size was timed. Temperature: the hottest sensor at "
        "the beginning, and the largest rise of any. Clock: medians of the first and of the last quarter of the time. A dash, or no "
        "column: no sensor tells.",
    )


def _seen(seen: Conditions | None) -> tuple[str, str, str, str, str]:
    if seen is None:
        return (NONE,) * 5
    start, rise = seen.start_temperature_c, seen.temperature_rise_c
    warmth = NONE if start is None else f"{start:.1f}{'' if rise is None else f', {rise:+.1f}'.replace('-', '−')}"
    first, last = seen.clock_first_hz, seen.clock_last_hz
    clock = NONE if first is None or last is None else f"{first / 1e6:,.0f} to {last / 1e6:,.0f} ({seen.clock})"
    throttled = NONE if seen.throttled is None else "; ".join(seen.throttled) or "no"
    if seen.quota_throttled:
        throttled = f"{throttled}; by its CPU quota in {seen.quota_throttled} of {seen.quota_periods} periods"
    return percent(seen.others_share), percent(seen.steal_share), warmth, clock, throttled


def _energy(record: RunRecord) -> Table:
    return table(
        "Energy of one inference",
        ("Engine", "Batch", "Gross (mJ)", "Less rest (mJ)", "Mean power (W)", "At rest (W)", "Inferences", "Sensor"),
        [(engine.name, batch, *_used(latency)) for engine, batch, latency in _measured(record) if latency.energy is not None],
        numbers=range(1, 7),
        note="The integral of the power over the timed calls, divided by their images. Less rest: less what the device drew before "
        "anything was loaded, over the same time.",
    )


def _used(latency: Latency) -> tuple[str | Cell, ...]:
    energy = latency.energy
    assert energy is not None  # noqa: S101 - the caller chose those that have one
    if latency.invalid:
        return Cell(INVALID, "bad"), NONE, NONE, NONE, count(energy.inferences), energy.sensor
    figures = (energy.gross_mj, energy.net_mj, energy.mean_w, energy.idle_w)
    return *(significant(value) for value in figures), count(energy.inferences), energy.sensor


def _sampling(engines: list[EngineRecord]) -> Table:
    """Every provider of every engine; one that is absent for the same reason everywhere stands once."""
    rows, absent = [], dict[tuple[str, str], list[str]]()
    for engine in engines:
        telemetry = engine.telemetry
        if telemetry is None:
            continue
        how = f"every {telemetry.period_ms} ms; all sampling took {percent(telemetry.cpu_share)} of one CPU"
        rows += [(engine.name, provider, count(samples), how) for provider, samples in telemetry.samples.items()]
        for reason in telemetry.absent.items():
            absent.setdefault(reason, []).append(engine.name)
    rows += [(", ".join(flavours), provider, NONE, f"absent: {why}") for (provider, why), flavours in absent.items()]
    return table(
        "Sensors",
        ("Engine", "Provider", "Samples", "How"),
        rows,
        numbers=(2,),
        note="Sampled by a process of its own beside the timing. Raw samples: timings/*-telemetry.npz.",
        fold=True,
    )


def _absent_sensors(engines: list[EngineRecord]) -> str:
    """Why the providers that measure power gave none; each reason once."""
    found = {
        f"{provider}: {why}"
        for engine in engines
        if engine.telemetry
        for provider, why in engine.telemetry.absent.items()
        if provider in ("rapl", "ina3221", "tegrastats", "nvidia-smi")
    }
    return " ".join(f"{text}." for text in sorted(found))
