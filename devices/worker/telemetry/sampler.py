"""The sampler: a forked process that asks every source once a period while this one is timed, and hands everything over at the end.

A process, not a thread: it takes no turn of the interpreter's lock that a timed call waits for. It is forked before the runtime is
imported, and writes nothing while it samples. It ends when its parent does.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import subprocess
import time
from dataclasses import dataclass, field

from devices.worker.reader import Reader
from devices.worker.spec import Watch
from devices.worker.telemetry import PROVIDERS
from devices.worker.telemetry.series import Telemetry, columns
from devices.worker.telemetry.source import AbsentError, Poll, Sample, Stream

Rows = list[tuple[int, Sample]]

_BLOCK = 1 << 16


class Sampler:
    """Samples from construction to `stop`, in a process of its own; nothing at all where no provider is asked for."""

    def __init__(self, watch: Watch, reader: Reader) -> None:
        self._watch, self._pid, self._answer, self._stop = watch, 0, -1, -1
        if not watch.providers:
            return
        (self._answer, answer), (stop, self._stop) = os.pipe(), os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _child(watch, reader, stop, answer, closed=(self._answer, self._stop))
        os.close(answer)
        os.close(stop)

    def stop(self, idle_ns: tuple[int, int]) -> Telemetry | None:
        """End the sampling and take over what was sampled; None where there was none, or the sampler died.

        Args:
            idle_ns: begin and end of the time before anything was loaded, for the record.
        """
        if self._pid == 0:
            return None
        os.close(self._stop)
        with os.fdopen(self._answer, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(self._pid, 0)
        self._pid = 0
        if not answer:
            return None
        answered = json.loads(answer)
        series = {name: columns([(at, sample) for at, sample in rows]) for name, rows in answered["rows"].items() if rows}
        silent = {name: "it gave no sample" for name, rows in answered["rows"].items() if not rows}
        return Telemetry(self._watch.period_ms, answered["cpu_share"], idle_ns, series, answered["absent"] | silent)


def _child(watch: Watch, reader: Reader, stop: int, answer: int, closed: tuple[int, ...]) -> None:
    """Life of the forked process. It never returns, and no error of it reaches the parent: the answer then is empty."""
    try:
        gc.disable()  # a collection would visit, and so copy, the parent's memory
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (1, 2):
            os.dup2(null, fd)
        for fd in closed:
            os.close(fd)
        with os.fdopen(answer, "wb") as pipe:
            pipe.write(json.dumps(_sample(watch, reader, stop)).encode())
    finally:
        os._exit(0)


@dataclass
class _Live:
    """A stream at work: its process, the text after its last line end, and what a line means."""

    name: str
    process: subprocess.Popen[bytes]
    stream: Stream
    rest: bytes = b""


@dataclass
class _Open:
    """The sources that are there, what they gave, and why the others are not."""

    polls: dict[str, Poll] = field(default_factory=dict)
    live: list[_Live] = field(default_factory=list)
    rows: dict[str, Rows] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def _sample(watch: Watch, reader: Reader, stop: int) -> dict[str, object]:
    """Sample until the other end of `stop` is closed."""
    begin, period_ns = time.perf_counter_ns(), watch.period_ms * 1_000_000
    sources = _open(watch, reader)
    turn = begin
    with selectors.DefaultSelector() as selector:
        selector.register(stop, selectors.EVENT_READ, None)
        for live in sources.live:
            selector.register(live.process.stdout, selectors.EVENT_READ, live)  # type: ignore[arg-type]
        stopped = False
        while not stopped:
            for name, poll in sources.polls.items():
                sources.rows[name].append((time.perf_counter_ns(), poll.sample()))
            turn = max(turn + period_ns, time.perf_counter_ns())
            while not stopped and (left_ns := turn - time.perf_counter_ns()) > 0:
                for key, _ in selector.select(left_ns / 1e9):
                    stopped = stopped or key.data is None
                    if key.data is not None and not _take(key.data, sources.rows[key.data.name]):
                        selector.unregister(key.fileobj)
    for name, poll in sources.polls.items():  # one more: what is timed last then lies between two samples
        sources.rows[name].append((time.perf_counter_ns(), poll.sample()))
    for live in sources.live:
        live.process.kill()
        live.process.wait()
    spent = os.times()
    cpu_s = spent.user + spent.system + spent.children_user + spent.children_system
    return {"rows": sources.rows, "absent": sources.absent, "cpu_share": cpu_s / ((time.perf_counter_ns() - begin) / 1e9)}


def _open(watch: Watch, reader: Reader) -> _Open:
    sources = _Open()
    for name in watch.providers:
        try:
            source = importlib.import_module(PROVIDERS[name]).open_source(reader, watch)
            if isinstance(source, Stream):
                sources.live.append(_Live(name, reader.stream(source.command), source))
            else:
                sources.polls[name] = source
            sources.rows[name] = []
        except AbsentError as error:
            sources.absent[name] = str(error)
        except OSError as error:
            sources.absent[name] = f"it cannot be started: {error}"
    return sources


def _take(live: _Live, rows: Rows) -> bool:
    """Read what a stream printed; False at its end."""
    assert live.process.stdout is not None  # noqa: S101 - it is a pipe
    block = os.read(live.process.stdout.fileno(), _BLOCK)
    now = time.perf_counter_ns()
    *lines, live.rest = (live.rest + block).split(b"\n")
    rows += [(now, sample) for line in lines if (sample := live.stream.parse(line.decode(errors="replace")))]
    return bool(block)
