"""The session on the device: `python worker.pyz FOLDER` loads one engine and answers what it is asked, until its input ends.

A request is one line of JSON, an answer one line of JSON, each with raw bytes behind it where it says so. It is protocol 1 of the user's
own engines (docs/engines-of-your-own.md) with more operations: `OPERATIONS` has all of them. Lines with a `step` are progress.

Needs the Python of the device (>= 3.10), numpy and the runtime; nothing else is imported.
"""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.worker.caller import end_with_caller
from devices.worker.engines import Loaded, NotRunError, RefusedError, make_engine
from devices.worker.environment import describe_machine, resident_bytes
from devices.worker.files import FULL
from devices.worker.loadgen import drive
from devices.worker.monitor import Monitor
from devices.worker.peaks import SECONDS, cpu_peaks
from devices.worker.spec import FRESH, EngineSpec, FormatError
from devices.worker.timing import Stopwatch, make_clock, once, until_idle
from devices.worker.wire import ClosedError, Wire

Message = dict[str, Any]
Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

PROTOCOL = 1
LOADGEN = "loadgen"
OPTIMISED_GRAPH = "optimised"
IDLE_LIMIT_S = 6 * 3600.0  # a session that nobody asks for so long was forgotten
SYNTHETIC_BASELINE_BYTES, SYNTHETIC_PEAK_BYTES = 32 << 20, 64 << 20


def main(arguments: list[str]) -> int:
    """Serve the engine in the folder `arguments[0]` on standard input and output. Exit code 0: it was closed, or said why it cannot run."""
    out = os.dup(1)
    os.dup2(2, 1)  # what a runtime prints is no answer
    wire = Wire(0, out)
    end_with_caller(0)
    folder = Path(arguments[0])
    try:
        spec = EngineSpec.load(folder)
        with Monitor(spec.watch, real=not spec.synthetic_clock, timed=spec.timed) as monitor:
            Session(spec, folder, wire, monitor).serve()
    except ClosedError:
        return 1
    except NotRunError as error:
        wire.send({"protocol": PROTOCOL, "status": "built", "error": one_line(error)})
    except (FormatError, RefusedError) as error:
        wire.send({"protocol": PROTOCOL, "status": "refused", "error": one_line(error)})
    except Exception as error:  # noqa: BLE001 - whatever the runtime raises is this engine's result
        wire.send(
            {"protocol": PROTOCOL, "status": "crashed", "error": full_disk(error, folder) or f"{type(error).__name__}: {one_line(error)}"}
        )
    return 0


class Session:
    """One loaded engine and what it remembers between requests."""

    def __init__(self, spec: EngineSpec, folder: Path, wire: Wire, monitor: Monitor) -> None:
        self._spec, self._folder, self._wire, self._monitor = spec, folder, wire, monitor
        self._artefact = spec.artefact.verify(folder)
        monitor.begin()
        self._baseline = resident_bytes(peak=False)
        self._clock = make_clock(spec.synthetic_clock, spec.seed)
        self._engine = make_engine(spec.runtime)
        if hasattr(self._engine, "watch"):
            self._engine.watch = self.tell
        if hasattr(self._engine, "sleeps"):
            self._engine.sleeps = not spec.timed
        self.tell("load", 0, 1)
        start = self._clock()
        self._options = replace(spec.options, build=spec.build)
        self._loaded = self._engine.load(self._artefact, self._options)
        self._load_ns = self._clock() - start
        self._pool: Images = np.zeros((1, *spec.shape), np.uint8)
        self._watches: dict[tuple[int, bool], Stopwatch] = {}

    def serve(self) -> None:
        """Say what was loaded, then answer one request after the other until `close`.

        Raises:
            ClosedError: the caller is gone.
        """
        start = self._clock()
        classes = self._infer(self._pool).shape[1]
        self._first_ns = self._clock() - start
        self._wire.send(
            {
                "protocol": PROTOCOL,
                "name": self._spec.runtime,
                "version": self._loaded.version,
                "shape": list(self._spec.shape),
                "classes": classes,
                "output": "logits",
                "measure": True,
                "loaded": self._describe(),
            }
        )
        while True:
            request = self._request()
            if request["op"] == "close":
                self._engine.close()
                return
            OPERATIONS[request["op"]](self, request)

    def _request(self) -> Message:
        if (line := self._wire.line(IDLE_LIMIT_S)) is None:
            raise ClosedError(f"nothing was asked for {IDLE_LIMIT_S:g} s")
        request: Message = json.loads(line)
        return request

    def tell(self, step: str, done: int, total: int) -> None:
        """Progress of what takes long."""
        self._wire.send({"step": step, "done": done, "total": total})

    def ask(self, request: Message) -> None:
        """`n` images follow; answered by `n` rows of logits."""
        logits = self._infer(self._images(request["n"]))
        self._wire.send({"n": len(logits)})
        self._wire.write(np.ascontiguousarray(logits, "<f4").tobytes())

    def pool(self, request: Message) -> None:
        """`n` images follow, those that are fed in turn while timing."""
        self._pool, self._watches = self._images(request["n"]), {}
        self._wire.send({"n": len(self._pool)})

    def measure(self, request: Message) -> None:
        """`repeats` timed calls of `batch` images, other ones at every call (or the same ones, with `same`): `ns`, `start_ns`, `parts`."""
        watch = self._stopwatch(request["batch"], request.get("same", False))
        gc.collect()
        gc.disable()
        ns = watch.run(request["repeats"])
        gc.enable()
        self._wire.send({"ns": list(ns), "start_ns": list(watch.starts), "parts": {name: list(part) for name, part in watch.parts.items()}})

    def timed(self, request: Message) -> None:
        """The answers of timed calls of `batch` images: `offsets` into the pool, and the rows of logits one after the other."""
        answers = self._stopwatch(request["batch"], same=False).answers
        self._reply({"offsets": list(answers)}, logits=np.concatenate(list(answers.values())).astype("<f4").tobytes() if answers else b"")

    def idle(self, request: Message) -> None:
        """Wait until the engine's threads sleep, so that the next one to be timed has all processors."""
        if not self._spec.synthetic_clock:
            until_idle()
        self._wire.send({})

    def only_asked(self, request: Message) -> None:
        """Nothing is timed from now on: an engine that has threads which spin between calls is loaded again, with threads that sleep."""
        if not getattr(self._engine, "sleeps", True):
            self._engine.close()
            self._engine.sleeps = True  # type: ignore[attr-defined]
            self._engine.load(self._artefact, self._options)
            self._watches = {}
        self._wire.send({})

    def memory(self, request: Message) -> None:
        """Bytes before the runtime was imported, and the peak above them until now."""
        baseline: int | None
        peak: int | None
        if self._spec.synthetic_clock:
            baseline, peak = SYNTHETIC_BASELINE_BYTES, SYNTHETIC_BASELINE_BYTES + SYNTHETIC_PEAK_BYTES
        else:
            baseline, peak = self._baseline, resident_bytes(peak=True)
        above = None if baseline is None or peak is None else peak - baseline
        self._wire.send({"baseline_bytes": baseline, "peak_bytes": above, "device_bytes": self._loaded.device_bytes})

    def cool(self, request: Message) -> None:
        """Wait until the device is cool enough to be timed."""
        self._monitor.cool(self.tell)
        self._wire.send({})

    def rest(self, request: Message) -> None:
        """End the sampling: what was sampled, the state of the device now, and the machine's other work meanwhile."""
        telemetry = self._monitor.stop()
        arrays = io.BytesIO()
        if telemetry is not None:
            values: dict[str, Any] = telemetry.arrays()
            np.savez_compressed(arrays, **values)
        facts = (
            None
            if telemetry is None
            else {
                "period_ms": telemetry.period_ms,
                "cpu_share": telemetry.cpu_share,
                "idle_ns": telemetry.idle_ns,
                "absent": telemetry.absent,
            }
        )
        message = {"telemetry": facts, "after": self._monitor.after(), "machine": self._monitor.machine()}
        self._reply(message, telemetry=arrays.getvalue())

    def now(self, request: Message) -> None:
        """What the device's sensors say at this moment. It takes a little time: not to be asked between calls that are timed."""
        self._wire.send({"now": self._monitor.now()})

    def evidence(self, request: Message) -> None:
        """The graph that the runtime really runs, from a second engine: writing it in the measured one would cost it time and memory.

        `equal`: the second engine gives the same bits on the pool.
        """
        for stale in self._folder.glob(f"{OPTIMISED_GRAPH}.*"):
            stale.unlink()
        again = make_engine(self._spec.runtime)
        again.load(self._artefact, self._options, self._folder / f"{OPTIMISED_GRAPH}.onnx")
        head = to_input(self._pool[: self._spec.batch])
        equal = bool(np.array_equal(again.infer(head), self._engine.infer(head)))
        again.close()
        written = next(self._folder.glob(f"{OPTIMISED_GRAPH}.*"), None)
        self._reply({"equal": equal if written else None}, **({written.name: written.read_bytes()} if written else {}))

    def loadgen(self, request: Message) -> None:
        """Let MLPerf LoadGen drive the engine for `seconds`: its word, and its logs; `absent`: why it cannot."""
        place = self._folder / LOADGEN
        shutil.rmtree(place, ignore_errors=True)
        start = spoken = time.monotonic()

        def beat(_: int) -> None:
            nonlocal spoken
            if time.monotonic() - spoken >= 1:
                spoken = time.monotonic()
                self.tell(f"LoadGen {request['scenario']}", round(1e3 * (spoken - start)), round(1e3 * request["seconds"]))

        try:
            found = drive(self._engine.infer, to_input(self._pool), request["scenario"], request["seconds"], place, beat)
        except RefusedError as error:
            self._reply({"absent": one_line(error)})
            return
        logs = {path.name: path.read_bytes() for path in sorted(place.iterdir())}
        self._reply({"drive": asdict(found)}, **logs)

    def peaks(self, request: Message) -> None:
        """What this CPU reaches; nothing where an accelerator computes, or no real time is read."""
        real = self._spec.runtime == "onnxruntime" and not self._spec.synthetic_clock
        if real:
            until_idle()
        self._wire.send({"peaks": cpu_peaks(self._spec.options.threads, min(SECONDS, request["seconds"])) if real else {}})

    def _describe(self) -> Message:
        spec, loaded = self._spec, self._loaded
        plan_sha256 = loaded.options.get("plan_sha256") or _digest(spec.artefact.sha256, loaded)
        return {
            "options": loaded.options,
            "plan_sha256": plan_sha256,
            "environment": describe_machine() | {"threads": spec.options.threads},
            "before": self._monitor.before,
            "load_ns": self._load_ns - loaded.build_ns,
            "build_ns": loaded.build_ns,
            "first_ns": self._first_ns,
            "synthetic": spec.synthetic_clock,
        }

    def _infer(self, images: Images) -> Floats:
        """Logits, `batch` images at a time.

        Raises:
            RefusedError: the output is not (n, classes).
        """
        parts = []
        for first in range(0, len(images), self._spec.batch):
            chunk = images[first : first + self._spec.batch]
            logits = self._engine.infer(to_input(chunk))
            if logits.ndim != 2 or len(logits) != len(chunk):
                raise RefusedError(f"the output for {len(chunk)} images has shape {logits.shape}; expected logits ({len(chunk)}, classes)")
            parts.append(np.asarray(logits, np.float32))
        return np.concatenate(parts)

    def _images(self, n: int) -> Images:
        size = n * int(np.prod(self._spec.shape))
        return np.frombuffer(b"".join(self._wire.read(size)), np.uint8).reshape(n, *self._spec.shape)

    def _stopwatch(self, batch: int, same: bool) -> Stopwatch:
        if (batch, same) not in self._watches:
            clock = make_clock(self._spec.synthetic_clock, self._spec.seed, batch)
            infer = once(self._engine.infer) if self._spec.synthetic_clock else self._engine.infer
            self._watches[batch, same] = Stopwatch(infer, _batches(self._pool, batch, 1 if same else FRESH), clock, self._loaded.parts)
        return self._watches[batch, same]

    def _reply(self, message: Message, **blobs: bytes) -> None:
        """An answer with files behind it, in the order of `blobs`."""
        self._wire.send({**message, "blobs": {name: len(raw) for name, raw in blobs.items()}})
        for raw in blobs.values():
            self._wire.write(raw)


OPERATIONS: dict[str, Callable[[Session, Message], None]] = {
    name: getattr(Session, name)
    for name in ("ask", "pool", "measure", "timed", "idle", "only_asked", "memory", "cool", "now", "rest", "evidence", "loadgen", "peaks")
}


def to_input(images: Images) -> Floats:
    """uint8 (n, h, w, c) -> float32 (n, c, h, w) in [0, 1], C-contiguous: the same division as the twin's."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)


def one_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return " ".join(str(error).split())


def full_disk(error: Exception, folder: Path) -> str:
    """Of a write that found no room: where, and what makes some; "" of any other error."""
    if not isinstance(error, OSError) or error.errno not in FULL:
        return ""
    place = (error.filename or folder.resolve(), os.strerror(error.errno))
    return f"{place[0]}: {place[1]} on the device. Make room there: `harness devices clean` throws away what earlier runs left"


def _batches(images: Images, size: int, count: int) -> list[Floats]:
    """`count` different inputs of `size` images: views into one array, each starting one image later."""
    pool = to_input(images[np.arange(size + count - 1) % len(images)])
    return [pool[first : first + size] for first in range(count)]


def _digest(artefact_sha256: str, loaded: Loaded) -> str:
    """What really runs, for a runtime that keeps no plan: the file, the runtime's version and its options."""
    return hashlib.sha256(json.dumps([artefact_sha256, loaded.version, loaded.options], sort_keys=True, default=str).encode()).hexdigest()
