"""One engine's part of the record: what its measurement gave, what it proves, and the floor under it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from devices.host.profile import DeviceProfile, load_profile
from export.artefact import Artefact
from export.evidence import Evidence, precision_evidence
from export.evidence_tensorrt import claim, tensorrt_evidence
from harness.answers import Matrix
from harness.audit.statistics import share
from harness.measurement import latency as figures
from harness.measurement import simulation
from harness.measurement.peaks import declared_peaks, measured_peaks
from harness.measurement.roofline import Peaks, Work, floor, peak_arithmetic
from harness.records import CrossCheck, EngineRecord, Floor, KernelShare, Latency, LoadGen, Memory, PrecisionEvidence, Roofline
from harness.stages.device import observed, telemetry_record, with_conditions
from harness.stages.engines import started_here
from harness.stages.measured import LOADGEN, Measured, information, timing_arrays
from harness.stages.subject import Subject

READERS: dict[str, Callable[[Path, Artefact], Evidence]] = {"onnxruntime": precision_evidence, "tensorrt": tensorrt_evidence}
"""Runtime -> what reads the evidence it leaves behind."""
VARIED = "another number of threads, or another level of graph optimisation, than asked for (see its options)"
BELOW_FLOOR = 0.9  # the floor is an estimate
DISAGREEMENT = 0.1  # of computing time, between this run and another program


def engine_records(
    subject: Subject, measured: Sequence[Measured], matrix: Matrix, lost: Mapping[str, str], batches: Sequence[int], folder: Path
) -> list[EngineRecord]:
    """Every engine's record; raw timings are copied into the run folder.

    Args:
        subject: of the run.
        measured: what the device returned.
        matrix: everyone's answers.
        lost: engines that gave up while they were asked, and why.
        batches: sizes that the run times, or would on the device itself.
        folder: of the run.
    """
    cpu = measured_peaks(m.facts.peaks for m in measured)
    return [_engine(subject, m, measured, matrix, lost.get(m.engine.name), _roofline(subject, m, cpu, batches), folder) for m in measured]


def _engine(
    subject: Subject, m: Measured, everyone: Sequence[Measured], matrix: Matrix, lost: str | None, roofline: Roofline | None, folder: Path
) -> EngineRecord:
    engine, facts = m.engine, m.facts
    artefact = None if engine.exported is None else engine.exported.artefact
    latency = {}
    for batch, timing in sorted(m.timings.items()):
        raw = f"timings/{engine.name}-b{batch}.npz"
        (folder / "timings").mkdir(exist_ok=True)
        np.savez_compressed(folder / raw, **timing_arrays(timing))
        latency[str(batch)] = with_conditions(figures.summarise(timing, batch, raw), subject.profile, m, everyone, batch)
    timed = not subject.profile.emulated  # an emulator's time and memory say nothing of the device: withheld
    answered = m.ok and lost is None and matrix.has(engine.name)
    right = matrix.right(engine.name) if answered else None
    opinion = _cross_check(m)
    return EngineRecord(
        flavour=engine.flavour,
        build=engine.id.build,
        name=engine.name,
        runtime=engine.runtime,
        runtime_version=None if engine.simulated else facts.runtime_version,
        options=facts.options,
        artefact_sha256=artefact.sha256 if artefact else facts.plan_sha256,
        plan_sha256=facts.plan_sha256,
        status="crashed" if lost is not None else facts.status,
        error=lost or facts.error,
        simulated=f"{simulation.SIMULATION} ({simulation.RUNTIME} {facts.runtime_version})" if engine.simulated else None,
        varied=VARIED if engine.variant else None,
        parity=engine.exported.parity if engine.exported else None,
        precision_evidence=_evidence(m),
        load_ms=facts.load_ns / 1e6 if timed and facts.load_ns is not None else None,
        first_ms=facts.first_ns / 1e6 if timed and facts.first_ns is not None else None,
        latency=latency,
        memory=Memory(
            artefact_bytes=artefact.bytes if artefact else None,
            baseline_bytes=facts.memory.baseline_bytes if timed else None,
            peak_bytes=facts.memory.peak_bytes if timed else None,
            device_bytes=facts.memory.device_bytes if timed else None,
        ),
        roofline=roofline,
        cross_check=opinion,
        loadgen=_loadgen(subject.profile, m, everyone, folder),
        telemetry=telemetry_record(m, folder),
        clean=None if right is None else share(int(right.sum()), len(right)),
        warnings=[simulation.WARNING]
        if engine.simulated
        else [
            *filter(None, [started_here(engine, subject.profile)]),
            *figures.warnings(m.facts, m.timings, _others(latency)),
            *_too_fast(latency, roofline),
            *_disagreement(latency, opinion),
        ],
    )


def _others(latency: Mapping[str, Latency]) -> float | None:
    """The largest share of the CPU time that other programs took while a batch size was timed; None where nobody looked."""
    shares = [found.conditions.others_share for found in latency.values() if found.conditions is not None]
    return max((share for share in shares if share is not None), default=None)


def _loadgen(profile: DeviceProfile, m: Measured, everyone: Sequence[Measured], folder: Path) -> LoadGen | None:
    """What LoadGen said, and why it does not count; its logs are copied into the run folder."""
    if (drive := m.facts.drive) is None:
        return None
    logs = f"{LOADGEN}/{m.engine.name}"
    shutil.copytree(m.folder / LOADGEN, folder / logs, dirs_exist_ok=True)
    window = None if drive.window_ns is None else (drive.window_ns[0], drive.window_ns[1])
    _, invalid = observed(profile, m, everyone, window)
    said = drive.model_dump(include={"scenario", "valid", "figures"})
    return LoadGen.model_validate({**said, "invalid": invalid, "logs": logs})


def _too_fast(latency: dict[str, Latency], roofline: Roofline | None) -> list[str]:
    """Batch sizes whose median is clearly below the floor: nothing can compute that fast, or the floor is wrong."""
    floors = roofline.floors if roofline is not None else {}
    return [
        f"Batch {batch}: the median is {found.p50 / floors[batch].ms:.2f}x the floor that the processor's peaks allow. Either answers are "
        "not computed, or the peaks were measured while other programs ran: stop them and measure again."
        for batch, found in latency.items()
        if batch in floors and found.p50 < BELOW_FLOOR * floors[batch].ms
    ]


def _cross_check(m: Measured) -> CrossCheck | None:
    """What trtexec measured of the engine on the device, where it is there (see `devices.worker.trtexec`)."""
    if m.engine.runtime != "tensorrt" or m.engine.simulated or m.facts.graph is None:
        return None
    opinion = information((m.folder / m.facts.graph).read_bytes()).trtexec
    if not opinion.parts_ns:
        return None
    found = {name: figures.spread(np.array(values, np.int64)) for name, values in opinion.parts_ns.items()}
    return CrossCheck(tool="trtexec", batch=opinion.batch, n=len(opinion.parts_ns["compute"]), parts=found)


def _disagreement(latency: dict[str, Latency], opinion: CrossCheck | None) -> list[str]:
    """Where two programs time the same engine and do not agree."""
    own = latency[str(opinion.batch)].parts.get("compute") if opinion and str(opinion.batch) in latency else None
    if opinion is None or own is None or not own.p50:
        return []
    ratio = opinion.parts["compute"].p50 / own.p50
    if abs(ratio - 1) <= DISAGREEMENT:
        return []
    return [
        f"Batch {opinion.batch}: {opinion.tool} measures {ratio:.2f}x the computing time that this run saw on the same engine. "
        "Fix the clocks and measure again."
    ]


def _evidence(m: Measured) -> PrecisionEvidence | None:
    """What the runtime really ran. A simulation, and a build that was not run, prove nothing of the kernels, and say so."""
    if m.engine.exported is None:
        return None
    artefact = m.engine.exported.artefact
    unproved = simulation.NOT_RUN if m.engine.simulated else "built ahead of time, not run" if m.facts.status == "built" else None
    if unproved is not None:
        claimed = claim(artefact)
        label = f"{claimed}, {'simulated' if m.engine.simulated else 'built, not run'}"
        return PrecisionEvidence(claimed=claimed, label=label, integer_mac_share=None, kernels={}, note=unproved)
    if m.facts.graph is None or artefact.runtime not in READERS:
        return None
    seen = READERS[artefact.runtime](m.folder / m.facts.graph, artefact)
    shares = {kind: KernelShare(layers=s.layers, time=s.time, macs=s.macs) for kind, s in seen.shares.items()}
    return PrecisionEvidence(
        claimed=seen.claimed,
        label=seen.label,
        integer_mac_share=seen.integer_mac_share,
        kernels=seen.kernels,
        note=seen.note,
        shares=shares,
    )


def _roofline(subject: Subject, m: Measured, cpu: Peaks | None, batches: Sequence[int]) -> Roofline | None:
    """The floor under an engine on the device itself: from peaks measured there, else from those its profile declares."""
    if subject.profile.synthetic_clock or m.engine.exported is None or m.engine.closed:
        return None
    artefact, twin = m.engine.exported.artefact, subject.twin
    peaks = cpu if m.facts.peaks else declared_peaks(load_profile(subject.profile.name), artefact.runtime)
    sparse = bool(artefact.options.get("sparse"))
    fastest = None if peaks is None else peak_arithmetic(peaks, artefact.precision, sparse)
    if peaks is None or fastest is None:
        return None
    work = Work(twin.macs, twin.parameters, twin.input_shape, twin.classes)
    floors = {str(batch): floor(work, peaks, batch, artefact.precision, sparse) for batch in sorted(set(batches))}
    return Roofline(
        arithmetic=fastest[0],
        operations_per_s=fastest[1],
        bytes_per_s=peaks.bytes_per_s,
        cache_bytes=peaks.cache_bytes,
        source=peaks.source,
        floors={batch: Floor(ms=found.ns / 1e6, bound=found.bound) for batch, found in floors.items() if found is not None},
    )
