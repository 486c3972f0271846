"""What the worker does beside a job: it reads the device's state, watches it at rest, lets it cool, and samples while it is timed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from devices.worker.engines import RefusedError
from devices.worker.environment import Load
from devices.worker.observed import observe
from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry import thermal
from devices.worker.telemetry.now import Sensors
from devices.worker.telemetry.sampler import Sampler
from devices.worker.telemetry.series import Telemetry
from devices.worker.telemetry.source import AbsentError, Sample

Tell = Callable[[str, int, int], None]

_ASK_S = 1.0


def _bind(cpus: tuple[int, ...]) -> None:
    try:
        os.sched_setaffinity(0, cpus)
    except (OSError, ValueError, OverflowError) as error:
        there = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise RefusedError(f"cpu.affinity of the profile is {list(cpus)}; this process may use CPUs {there} here: {error}") from error


class Monitor:
    """One engine's observation. Nothing is observed unless the clock is `real`, and nothing sampled unless it is `timed`.

    Attributes:
        before: the state when it began, see `devices.worker.observed`.
    """

    def __init__(self, watch: Watch, *, real: bool, timed: bool) -> None:
        self._watch, self._real = watch, real
        self._timed = real and timed
        self._reader = Reader()
        self._sampler: Sampler | None = None
        self._sensors = Sensors(watch, self._reader)
        self._idle_ns = (0, 0)
        self.before: dict[str, Any] = {}
        self.load = Load()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def begin(self) -> None:
        """Bind the process to its CPUs, read the state, start the sampler, then rest for the idle time. Before any runtime is imported."""
        if self._watch.affinity:
            _bind(self._watch.affinity)
        if self._real:
            self.before = observe(self._reader, self._watch)
        if self._timed:
            self._sampler = Sampler(self._watch, self._reader)
        start = time.perf_counter_ns()
        self.load = Load(self._watch.idle_s if self._timed else 0.0, self._reader)
        self._idle_ns = (start, time.perf_counter_ns())

    def cool(self, tell: Tell) -> None:
        """Wait until no sensor is hotter than the start temperature, at most for the cooldown. Whether it was enough is judged later."""
        limit_c = self._watch.start_temperature_c
        if not self._timed or limit_c is None:
            return
        try:
            sensors = thermal.open_source(self._reader, self._watch)
        except AbsentError:
            return
        total = round(self._watch.cooldown_s)
        begin = time.monotonic()
        while max(sensors.sample().values(), default=limit_c) > limit_c and (waited := time.monotonic() - begin) < self._watch.cooldown_s:
            tell("cooling", min(round(waited), total), total)
            time.sleep(min(_ASK_S, self._watch.cooldown_s - waited))

    def stop(self) -> Telemetry | None:
        """End the sampling; what was sampled, None where nothing was."""
        sampler, self._sampler = self._sampler, None
        return sampler.stop(self._idle_ns) if sampler else None

    def after(self) -> dict[str, Any]:
        """The state now."""
        return observe(self._reader, self._watch) if self._real else {}

    def now(self) -> Sample:
        """Temperatures, clocks and power at this moment; nothing where no sensor is there, or under a synthetic clock."""
        return self._sensors.read() if self._real else {}

    def machine(self) -> dict[str, Any]:
        """The machine's other work, from `begin` to now; nothing under a synthetic clock."""
        return self.load.describe() if self._real else {}
