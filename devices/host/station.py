"""A device held for one run: the engines' folders travel once, then each is opened as a session as often as one likes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from devices.host.channel import Channel
from devices.host.errors import DeviceError
from devices.host.pack import worker_archive
from devices.host.profile import DeviceProfile
from devices.host.session import ANSWER_S, EngineError, EngineId, EngineSession, Limits, Progress
from devices.host.transports import Say, Transport, connect
from devices.worker.spec import BATCH, EngineSpec, RuntimeOptions, lay_out

WORKER = "worker.pyz"

# An emulated CPU is some 30 times slower: smaller batches answer more often, and silence means nothing for half an hour.
EMULATED_BATCH = 4
EMULATED_LIMITS = Limits(load_s=3600.0, answer_s=1800.0)
OWN_LIMITS = Limits(load_s=ANSWER_S)  # a user's own engine tells of its progress where it takes long


@dataclass(frozen=True)
class Wanted:
    """An engine that a run will open.

    Attributes:
        flavour, runtime, options: as in `EngineSpec`.
        artefact: the model file.
        shape: height, width, channels of an image.
        timed: it will be measured.
        one_by_one: it gets one image at a time where nothing is timed.
    """

    flavour: str
    runtime: str
    artefact: Path
    options: RuntimeOptions
    shape: tuple[int, int, int]
    timed: bool = True
    one_by_one: bool = False


class Station:
    """One device and the folder of engines that goes there. A context manager: inside, nobody else has the device.

    Args:
        profile: the device.
        folder: for the engines; those of an earlier process are used again where nothing changed.
        seed: of a synthetic clock.
        say: called with a line when there is something to know.

    Raises:
        DeviceError: the device cannot be reached.
    """

    def __init__(self, profile: DeviceProfile, folder: Path, seed: int, say: Say | None = None) -> None:
        self.profile, self._folder, self._seed, self._say = profile, folder, seed, say
        self._batch = EMULATED_BATCH if profile.emulated else BATCH
        self._transport: Transport | None = None
        self._there = ""

    def __enter__(self) -> Self:
        self._transport = connect(self.profile, self._say).__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._transport is not None:
            self._transport.__exit__(kind, value, trace)

    def send(self, engines: Mapping[EngineId, Wanted], progress: Progress) -> None:
        """Lay the engines out and bring them to the device, before any is opened."""
        assert self._transport is not None  # noqa: S101 - inside the context
        profile = self.profile
        for engine, wanted in engines.items():
            place = self._folder / str(engine)
            EngineSpec(
                flavour=wanted.flavour,
                runtime=wanted.runtime,
                artefact=lay_out(place, wanted.artefact),
                options=wanted.options,
                shape=wanted.shape,
                batch=1 if wanted.one_by_one else self._batch,
                build=engine.build,
                seed=self._seed,
                device=profile.name,
                synthetic_clock=profile.synthetic_clock,
                timed=wanted.timed and not profile.emulated,
                watch=profile.watch,
            ).save(place)
        (self._folder / WORKER).write_bytes(worker_archive())
        self._there = self._transport.put(self._folder, progress)

    def session(self, engine: EngineId, progress: Progress) -> EngineSession:
        """A session with an engine that was sent; enter it to load the engine."""

        def open_channel() -> Channel:
            assert self._transport is not None  # noqa: S101 - inside the context
            return self._transport.open([*self._transport.python, f"../{WORKER}", "."], f"{self._there}/{engine}")

        limits = EMULATED_LIMITS if self.profile.emulated else Limits()
        return EngineSession(engine, open_channel, self._batch, limits, progress)


def own_engine(name: str, command: list[str], progress: Progress, batch: int = BATCH, limits: Limits = OWN_LIMITS) -> EngineSession:
    """A session with the user's own engine: any program that speaks protocol 1 on its pipes (docs/engines-of-your-own.md).

    One that cannot be started is refused, as one that will not load is: other engines of the run go on.
    """

    def start() -> Channel:
        try:
            return Channel(command, None)
        except DeviceError as error:
            raise EngineError("refused", str(error)) from error

    return EngineSession(EngineId(name), start, batch, limits, progress, own=True)
