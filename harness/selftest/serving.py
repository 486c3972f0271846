"""Engines in this process, for the self-test: each in a thread at the other end of a pair of pipes, where an engine's process would be.

The sessions that ask them are the real ones, and an engine of an artefact is served by the worker's own code.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.host.channel import END_S, Channel, Exit
from devices.worker import serve
from devices.worker.engines import Engine, Loaded
from devices.worker.monitor import Monitor
from devices.worker.spec import EngineSpec, RuntimeOptions
from devices.worker.wire import ClosedError, Wire

Floats = NDArray[np.float32]
Answer = Callable[[Floats], Floats]
"""Images in [0, 1], float32 (n, channels, height, width) -> logits, float32 (n, classes)."""
Deploy = Callable[[Answer], Answer]
"""What a deployment makes of an engine's answers; called when the engine is opened, so that it may remember until it is closed."""


class Thread(Channel):
    """A program that runs in a thread: `run` talks over its end of the wire until it is closed."""

    def __init__(self, run: Callable[[Wire], None]) -> None:
        (self._in, theirs), (there, self._out) = os.pipe(), os.pipe()
        self.remote, self._said = False, ""
        self._wire = Wire(self._in, self._out)
        self._thread = threading.Thread(target=self._guarded, args=(run, there, theirs), daemon=True)
        self._thread.start()

    def end(self, wait_s: float = END_S) -> Exit:
        """Close its input and wait for it."""
        os.close(self._out)
        self._thread.join(wait_s)
        hung = self._thread.is_alive()
        os.close(self._in)
        return Exit(1 if self._said else 0, hung, (self._said,) if self._said else ())

    def _guarded(self, run: Callable[[Wire], None], read: int, write: int) -> None:
        try:
            run(Wire(read, write, serve.IDLE_LIMIT_S))
        except ClosedError:
            pass
        except Exception as error:  # noqa: BLE001 - as a process would end: its last line is told
            self._said = f"{type(error).__name__}: {serve.one_line(error)}"
        finally:
            os.close(write)
            os.close(read)


def of_artefact(spec: EngineSpec, folder: Path, deploy: Deploy) -> Callable[[Wire], None]:
    """The worker's session with the engine in `folder`, whose answers go through `deploy`."""

    def run(wire: Wire) -> None:
        with Monitor(spec.watch, real=not spec.synthetic_clock, timed=spec.timed) as monitor:
            _Deployed(spec, folder, wire, monitor, deploy).serve()

    return run


class _Deployed(serve.Session):
    def __init__(self, spec: EngineSpec, folder: Path, wire: Wire, monitor: Monitor, deploy: Deploy) -> None:
        super().__init__(spec, folder, wire, monitor)
        self._engine = _Changed(self._engine, deploy)


class _Changed:
    """A loaded engine whose answers are changed."""

    def __init__(self, engine: Engine, deploy: Deploy) -> None:
        self._engine, self._answer = engine, deploy(engine.infer)

    def load(self, artefact: Path, options: RuntimeOptions, optimised_graph: Path | None = None) -> Loaded:
        return self._engine.load(artefact, options, optimised_graph)

    def infer(self, batch: Floats) -> Floats:
        return np.ascontiguousarray(self._answer(batch), np.float32)

    def close(self) -> None:
        self._engine.close()


def of_function(hello: dict[str, Any], answer: Answer, deploy: Deploy) -> Callable[[Wire], None]:
    """A user's own engine (protocol 1): `hello` is its first line, `deploy(answer)` answers.

    With `"measure": true` it times itself, on a clock that runs `pace` times as fast as the true one, and computes a `part` of the images;
    of no more images than `idle` nothing.
    """

    def run(wire: Wire) -> None:
        engine = deploy(answer)
        said = dict(hello)
        pace, part, idle = said.pop("pace", 1.0), said.pop("part", 1.0), said.pop("idle", 0)
        wire.send({"protocol": serve.PROTOCOL, "name": "own", "version": "1", "output": "logits", **said})
        last = np.zeros((1, *hello["shape"]), np.uint8)
        while (line := wire.line(serve.IDLE_LIMIT_S)) is not None:
            request = json.loads(line)
            if request["op"] == "close":
                return
            if request["op"] == "measure":
                inputs = serve.to_input(last[np.arange(math.ceil(part * request["batch"])) % len(last)])
                timed = engine if request["batch"] > idle else _nothing
                wire.send({"ns": [_timed(timed, inputs, pace) for _ in range(request["repeats"])]})
                continue
            last = np.frombuffer(b"".join(wire.read(request["n"] * int(np.prod(hello["shape"])))), np.uint8).reshape(-1, *hello["shape"])
            logits = engine(serve.to_input(last))
            wire.send({"n": len(logits)})
            labels = said.get("output") == "labels"
            wire.write(logits.argmax(1).astype("<i4").tobytes() if labels else np.ascontiguousarray(logits, "<f4").tobytes())

    return run


def _timed(engine: Answer, inputs: Floats, pace: float) -> int:
    start = time.perf_counter_ns()
    engine(inputs)
    return max(round(pace * (time.perf_counter_ns() - start)), 1)


def _nothing(images: Floats) -> Floats:
    return images


def remembering(engine: Answer, same: Callable[[Floats], NDArray[np.bool_]], most: int = 500) -> Answer:
    """An engine that keeps its first images with their answers, and gives such an answer again where it takes an image for the same.

    Args:
        same: the change from the nearest image that it knows, (n, values) without sign -> bool (n,).
        most: images that it keeps.
    """
    known, answers = np.zeros((0, 1), np.float32), np.zeros((0, 10), np.float32)

    def answer(images: Floats) -> Floats:
        nonlocal known, answers
        flat, logits = images.reshape(len(images), -1), engine(images).copy()
        if len(known):
            nearest = ((known**2).sum(1) - 2 * flat @ known.T).argmin(1)
            again = same(np.abs(flat - known[nearest]))
            logits[again] = answers[nearest[again]]
        if len(known) < most:
            known, answers = np.concatenate([known, flat]) if len(known) else flat, np.concatenate([answers, logits])
        return logits

    return answer
