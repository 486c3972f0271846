"""Hop 5: one job per artefact goes to the device and comes back with raw values."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from devices.job import INFER_BATCH, SILENCE_LIMIT_S, LatencyPlan, Options, make_job
from devices.profile import load_profile
from devices.quota import usable_cpus
from devices.result import Result
from devices.run import run_job
from export.artefact import Artefact
from harness import simulation
from harness.hops.attack import GATE, AdversarialSet
from harness.hops.export import Exported
from harness.hops.subject import Subject
from harness.progress import Track
from harness.settings import Settings
from harness.simulation import is_simulated

JOBS = "jobs"
CLEAN = "clean"

# An emulated CPU is some 30 times slower: smaller batches speak more often, and silence means nothing for half an hour.
EMULATED_BATCH = 4
EMULATED_SILENCE_S = 1800.0

BUILDERS = ("tensorrt", "torch-tensorrt")  # they say nothing until the engine is built, which may take as long


@dataclass(frozen=True)
class Measured:
    """One engine: the artefact, and what came back from the device. `folder` holds the result's files.

    `simulated`: it came from this computer, which stood in for the engine (see `harness.simulation`).
    """

    exported: Exported
    result: Result
    folder: Path
    simulated: bool = False


def measure(
    subject: Subject, settings: Settings, exported: list[Exported], sets: list[AdversarialSet], folder: Path, say: Callable[[str], None]
) -> list[Measured]:
    """Run every artefact on the device, each in a fresh process, over the clean images and every replayed set.

    An engine whose finished result is in the run folder is not run again.

    Raises:
        DeviceError: the device cannot be reached. What an engine does wrong is in its result.
    """
    images = {CLEAN: subject.test.images, **{s.key: s.images for s in sets if s.record.source != GATE}}
    emulated = subject.profile.emulated
    scenario = "" if emulated or settings.scenario is None else settings.scenario
    plan = LatencyPlan(CLEAN, () if emulated else settings.batches, settings.plan.measure_s, settings.plan.warmup_s, scenario=scenario)
    here = usable_cpus()
    measured = []
    for part in exported:
        artefact, place = part.artefact, folder / JOBS / part.artefact.flavour
        simulated = is_simulated(artefact.runtime, subject.profile)
        slow = emulated and not simulated
        job = make_job(
            place,
            flavour=artefact.flavour,
            runtime=simulation.RUNTIME if simulated else artefact.runtime,
            artefact=artefact.path,
            options=_options(artefact, settings, settings.threads or (here if simulated else subject.profile.cpu.threads or 1), simulated),
            images=images,
            latency=plan,
            infer_batch=EMULATED_BATCH if slow else INFER_BATCH,
            seed=settings.seed,
            silence_limit_s=EMULATED_SILENCE_S if slow or artefact.runtime in BUILDERS else SILENCE_LIMIT_S,
        )
        with _Steps(artefact.flavour) as steps:
            profile = load_profile(simulation.DEVICE) if simulated else subject.profile
            result = run_job(profile, job, place, steps, say, classes=subject.twin.classes)
        say(f"{artefact.flavour} {'simulated, not run' if simulated else f'on {subject.profile.name}'}: {outcome(result)}")
        measured.append(Measured(part, result, place, simulated))
    return measured


def _options(artefact: Artefact, settings: Settings, threads: int, simulated: bool) -> Options:
    if simulated:
        return Options(artefact.input_name, artefact.output_name, threads, simulation.GRAPH_OPTIMISATION)
    timed = sorted(settings.batches) or [INFER_BATCH]
    return Options(
        artefact.input_name,
        artefact.output_name,
        threads,
        session_config=artefact.session_config,
        batches=(1, timed[len(timed) // 2], max(*timed, INFER_BATCH)),
        sparse=bool(artefact.options.get("sparse")),
    )


def outcome(result: Result) -> str:
    """One engine's result in a line: median latency per batch size, or what went wrong."""
    medians = (f"batch {batch}: {np.median(t.latency_ns) / 1e6:.3g} ms" for batch, t in sorted(result.timings.items()))
    return ", ".join([result.status, *medians]) if result.error is None else f"{result.status}: {result.error}"


def unit(step: str) -> str:
    """What a step counts: images that are classified, bytes that are sent, or the milliseconds of a timed step."""
    return (
        "images"
        if step.startswith("inference")
        else "B"
        if step == "upload"
        else "ms"
        if "batch" in step or step.startswith("LoadGen")
        else "parts"
    )


def remove_jobs(folder: Path) -> None:
    """Delete the job folders of a finished run: everything in them is in the record, the samples and the timings."""
    shutil.rmtree(folder / JOBS, ignore_errors=True)


class _Steps:
    """Shows the worker's progress: one `Track` after the other."""

    def __init__(self, flavour: str) -> None:
        self.flavour, self.step, self.done = flavour, "", 0
        self.stack = ExitStack()
        self.track: Track | None = None

    def __enter__(self) -> _Steps:
        return self

    def __call__(self, step: str, done: int, total: int) -> None:
        if step != self.step or self.track is None:
            self.stack.close()
            self.step, self.done = step, 0
            self.track = self.stack.enter_context(Track(f"{self.flavour}: {step}", total, unit=unit(step), summary=False))
        self.track.advance(done - self.done)
        self.done = done

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stack.__exit__(kind, value, trace)
