"""The engines of a run, opened on the device and held open until everything has been asked of them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from devices.host.profile import DeviceProfile, load_profile
from devices.host.session import EngineError, EngineId, EngineSession, Progress
from devices.host.station import Station, Wanted, own_engine
from devices.host.transports import LOCAL
from devices.worker.quota import usable_cpus
from devices.worker.spec import BATCH, RuntimeOptions
from export.artefact import UNKNOWN, Artefact
from harness.measurement import simulation
from harness.measurement.simulation import is_simulated
from harness.progress import Track, beside
from harness.settings import OWN, Settings, engine_name, is_own
from harness.stages.export import Exported
from harness.stages.gauge import Gauge
from harness.stages.subject import Subject

Opener = Callable[[tuple[int, int, int], int], AbstractContextManager[EngineSession]]  # shape (h, w, c) and classes of the twin
LATENCY, LOADGEN = "latency", "LoadGen"  # begin the names of steps in which an engine is timed
ENGINES = "engines"  # folder of what travels to the device
BUILT_ALIKE = ("onnxruntime",)  # runtimes that make the same engine each time: a later build has other legal settings instead
OTHER_LEVELS = ("all", "extended")  # of onnxruntime's graph optimisation: below these it runs no integer kernels


@dataclass(frozen=True)
class Engine:
    """One engine of a run.

    Attributes:
        id: its name.
        flavour: as the user asked for it.
        exported: the artefact and its parity; None for the user's own engine.
        simulated: this computer stands in for it (see `harness.measurement.simulation`).
    """

    id: EngineId
    flavour: str
    exported: Exported | None
    simulated: bool = False

    @property
    def name(self) -> str:
        """In the record."""
        return str(self.id)

    @property
    def runtime(self) -> str:
        """What runs it on the device."""
        return OWN if self.exported is None else self.exported.artefact.runtime

    @property
    def variant(self) -> int:
        """Above 0, it runs with other settings than those asked for: its answers count, its time does not."""
        return self.id.build if self.runtime in BUILT_ALIKE else 0

    @property
    def own_graph(self) -> bool:
        """Whether its graph is another than the twin's, or may be: it has quantizers, or was not made here."""
        return self.exported is not None and (self.exported.given or self.exported.artefact.precision == "int8")

    @property
    def closed(self) -> bool:
        """Whether nothing is known of it but its bytes and its answers: neither here nor anew can it be made of them."""
        return self.exported is None or self.exported.artefact.precision == UNKNOWN

    @property
    def one_by_one(self) -> bool:
        """Whether its file is asked for one image at a time, see `Artefact.one_by_one`."""
        return self.exported is not None and self.exported.artefact.one_by_one


@dataclass
class Engines:
    """Those that are open, by name, and why the others are not.

    Attributes:
        look: reads the device's sensors for the live line; to be called only while no engine is timed.
    """

    all: Sequence[Engine]
    sessions: dict[str, EngineSession] = field(default_factory=dict)
    failed: dict[str, EngineError] = field(default_factory=dict)
    look: Callable[[], None] = lambda: None


def started_here(engine: Engine, profile: DeviceProfile) -> str:
    """That a user's own engine runs on this computer, where the run's device is another or an emulated one; else nothing."""
    if engine.exported is not None or profile.transport == LOCAL:
        return ""
    return (
        f"It was started on this computer, not on {profile.name}: its answers and times are of what it runs on. Choose --device host, "
        "or let the program itself ask the device."
    )


def plan_engines(subject: Subject, settings: Settings, exported: Sequence[Exported]) -> list[Engine]:
    """Every engine that the run asks for, in the order of its flavours."""
    of_flavour = {part.artefact.flavour: part for part in exported}
    found = []
    for flavour in dict.fromkeys(settings.flavour_names):
        if is_own(flavour):
            found.append(Engine(EngineId(engine_name(flavour)), flavour, None))
        else:
            name = engine_name(flavour)
            part = of_flavour[name]
            simulated = is_simulated(part.artefact.runtime, subject.profile)
            once = simulated or part.artefact.precision == UNKNOWN
            found += [Engine(EngineId(name, build), name, part, simulated) for build in range(1 if once else settings.each_built)]
    return found


Make = Callable[[Engine, Progress], AbstractContextManager[EngineSession]]
"""From an engine to its session, which is not entered yet. Raises EngineError: there is none."""


@contextmanager
def on_device(
    engines: Sequence[Engine],
    subject: Subject,
    settings: Settings,
    folder: Path,
    say: Callable[[str], None],
    given: Mapping[str, Opener] | None = None,
) -> Iterator[Make]:
    """What makes sessions with engines on the device, each in a process of its own; `given`: how each `python:NAME` is opened.

    They are sent first. Raises as `open_engines`.
    """
    with ExitStack() as stack:
        stations = _stations(engines, subject, settings, folder, say, stack)

        def make(engine: Engine, steps: Progress) -> AbstractContextManager[EngineSession]:
            if engine.exported is None:
                return _own_session(engine, subject, given or {}, steps)
            return stations[engine.simulated].session(engine.id, steps)

        yield make


Where = Callable[[Sequence[Engine], Subject, Settings, Path, Callable[[str], None]], AbstractContextManager[Make]]


@contextmanager
def open_engines(
    engines: Sequence[Engine],
    subject: Subject,
    settings: Settings,
    folder: Path,
    say: Callable[[str], None],
    where: Where = on_device,
) -> Iterator[Engines]:
    """Open every engine and hold it open. One that will not load is a result, and stops no other.

    Raises:
        DeviceError: the device cannot be reached.
    """
    with ExitStack() as stack:
        opened = Engines(engines)
        there = [engine.name for engine in engines if engine.exported is not None and not engine.simulated]
        gauge = Gauge(opened.sessions, there, emulated=subject.profile.emulated)
        opened.look = gauge.look
        stack.enter_context(beside(gauge))
        make = stack.enter_context(where(engines, subject, settings, folder, say))
        for engine in engines:
            with Steps(engine.name) as steps:
                try:
                    if here := started_here(engine, subject.profile):
                        say(f"{engine.name}: {here}")
                    session = opened.sessions[engine.name] = stack.enter_context(make(engine, steps))
                    check_fit(session, subject)
                    gauge.look()
                except EngineError as error:
                    opened.failed[engine.name] = error
                    opened.sessions.pop(engine.name, None)
                    say(f"{engine.name}: {error.status}: {error}")
        yield opened


def _own_session(
    engine: Engine, subject: Subject, given: Mapping[str, Opener], progress: Progress
) -> AbstractContextManager[EngineSession]:
    """An engine of the user's own: a program, or what `harness.bench` was given."""
    if engine.flavour.startswith(f"{OWN}:"):
        return own_engine(engine.name, shlex.split(engine.flavour.removeprefix(f"{OWN}:")), progress)
    if engine.flavour not in given:
        raise EngineError("refused", "it was a Python object that harness.bench was given, and is not here. Call harness.bench again.")
    channels, height, width = subject.twin.input_shape
    return given[engine.flavour]((height, width, channels), subject.twin.classes)


def check_fit(session: EngineSession, subject: Subject) -> None:
    """Refuse an engine for other images or classes than the twin's.

    Raises:
        EngineError: `refused`.
    """
    channels, height, width = subject.twin.input_shape
    wanted, found = ((height, width, channels), subject.twin.classes), (session.shape, session.hello.classes)
    if wanted != found:
        raise EngineError(
            "refused",
            f"it takes images of {found[0]} (height, width, channels) and names {found[1]} classes; the model {wanted[0]} and {wanted[1]}",
        )


def _stations(
    engines: Sequence[Engine], subject: Subject, settings: Settings, folder: Path, say: Callable[[str], None], stack: ExitStack
) -> Mapping[bool, Station]:
    """The device, and this computer where it stands in for engines, with the engines' folders sent; by `simulated`."""
    found: dict[bool, Station] = {}
    channels, height, width = subject.twin.input_shape
    for simulated in sorted({engine.simulated for engine in engines if engine.exported is not None}):
        profile = load_profile(simulation.DEVICE) if simulated else subject.profile
        place = folder / ENGINES / ("simulated" if simulated else "device")
        found[simulated] = stack.enter_context(Station(profile, place, settings.seed, say))
        here = usable_cpus()
        threads = settings.threads or (here if simulated else profile.cpu.threads or 1)
        wanted = {
            engine.id: Wanted(
                engine.flavour,
                simulation.RUNTIME if simulated else engine.runtime,
                engine.exported.artefact.path,
                runtime_options(engine.exported.artefact, settings, threads, simulated, engine.variant),
                (height, width, channels),
                timed=not simulated and not engine.variant and bool(settings.batches),
                one_by_one=engine.one_by_one,
            )
            for engine in engines
            if engine.exported is not None and engine.simulated == simulated
        }
        with Steps(profile.name) as steps:
            found[simulated].send(wanted, steps)
    return found


def runtime_options(artefact: Artefact, settings: Settings, threads: int, simulated: bool, variant: int = 0) -> RuntimeOptions:
    """What the runtime of an artefact is told; of a later `variant`, another number of threads, another level of optimisation, or both."""
    if simulated:
        return RuntimeOptions(artefact.input_name, artefact.output_name, threads, simulation.GRAPH_OPTIMISATION)
    timed = sorted(settings.batches) or [BATCH]
    return RuntimeOptions(
        artefact.input_name,
        artefact.output_name,
        (max(threads // 2, 1) if threads > 1 else 2) if variant % 2 else threads,
        OTHER_LEVELS[variant // 2 % len(OTHER_LEVELS)],
        session_config=artefact.session_config,
        batches=(1, timed[len(timed) // 2], max(*timed, BATCH)),
        sparse=bool(artefact.options.get("sparse")),
    )


class Steps:
    """Shows an engine's progress, one `Track` after the other, as long as it is entered: opened again later, it shows none."""

    def __init__(self, name: str) -> None:
        self._name, self._step, self._done, self._over = name, "", 0, False
        self._stack = ExitStack()
        self._track: Track | None = None

    def __enter__(self) -> Steps:
        return self

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if self._over:
            return
        if step != self._step or self._track is None:
            self._stack.close()
            self._step, self._done = step, 0
            track = Track(f"{self._name}: {step}", total, unit=unit(step), summary=False, still=step.startswith((LATENCY, LOADGEN)))
            self._track = self._stack.enter_context(track)
        self._track.advance(done - self._done)
        self._done = done

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._over = True
        self._stack.__exit__(kind, value, trace)


def unit(step: str) -> str:
    """What a step counts: bytes that are sent, rounds of timing, milliseconds of LoadGen, or parts."""
    return "B" if step == "upload" else "rounds" if step.startswith(LATENCY) else "ms" if step.startswith(LOADGEN) else "parts"
