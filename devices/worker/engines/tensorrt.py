"""TensorRT on this machine's GPU: the ONNX file is built into an engine here, by a process of its own, checked to be ours, and run through
the CUDA driver. A plan that the user built is run as it is; TensorRT itself refuses one that was built for another GPU or version.

Where the time of a call goes is read from CUDA events around the copies and the engine; from the clock of the caller it is one call,
copies and all. The engine is called as an application would: one stream, no CUDA graph.

TensorRT 10.3 (JetPack 6) to 11, and TensorRT for RTX: the calls used here are the same in all of them. What differs is in the builder.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.worker.build import build_apart, kept_plan
from devices.worker.cuda import Buffer, Cuda, DriverError
from devices.worker.engines import Loaded, NotRunError, RefusedError
from devices.worker.engines.pieces import in_pieces
from devices.worker.files import sha256_file
from devices.worker.reader import Reader
from devices.worker.spec import RuntimeOptions
from devices.worker.tensorrt import UNSHOWN, BuildError, BuildOptions, TensorrtPlan, Watch, build_plan, load_library, log_of
from devices.worker.trtexec import cross_check

PLANS = (".plan", ".engine", ".trt")  # an engine that is built already
PROFILED_PASSES = 20
GIVEN = "given"  # in the place of a target: whoever built the plan knows it
PARTS = ("host_to_device", "compute", "device_to_host")
AHEAD = "sm86"  # what is built where nothing can run: Ampere, the nearest to Jetson Orin that can be built for ahead of time


class TensorRt:
    """An ONNX file built into a TensorRT engine (`devices.worker.engines.Engine`)."""

    def __init__(self) -> None:
        self.watch: Watch = lambda step, done, total: None

    def load(self, artefact: Path, options: RuntimeOptions, optimised_graph: Path | None = None) -> Loaded:
        """Build the engine, or take the one that was built of this file before; where asked, write its layers and their times."""
        try:
            library = load_library()
            build = BuildOptions(batches=options.batches, sparse=options.sparse)
            self._cuda = _gpu(artefact, build, self._told)
            if artefact.suffix in PLANS:
                plan, built_ns = given_plan(artefact, library), 0
            else:
                plan, built_ns = _plan(artefact, build, self._identity(library), options.build, self._told)
        except BuildError as error:
            raise RefusedError(str(error)) from error
        before = self._cuda.free_bytes()
        self._open(library, plan, options)
        loaded = Loaded(
            library.__version__,
            {
                "library": plan.library,
                "plan_sha256": plan.sha256,
                "plan_bytes": plan.bytes,
                "build_seconds": round(plan.seconds, 1),
                "build": plan.options,
                "build_warnings": list(plan.warnings),
                "cuda_graph": False,
                **self._cuda.describe(),
            },
            self._parts,
            max(before - self._cuda.free_bytes(), 0),
            built_ns,
        )
        if optimised_graph is not None:
            opinion = cross_check(plan.path, self._names[0], (self._usual, *self._shape))
            graph = {**self._layers(library), "trtexec": opinion}
            optimised_graph.with_suffix(".json").write_text(json.dumps(graph), encoding="utf-8")
        return loaded

    def _told(self, phase: str, done: int, total: int) -> None:
        self.watch(f"build ({phase})", done, total)

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """One blocking call; more images than the engine was built for go in several."""
        self._spent = dict.fromkeys(PARTS, 0)
        return in_pieces(self._call, batch, self._shape, self._least, self._most)

    def close(self) -> None:
        """Free the engine, the buffers and the stream."""
        del self._context, self._engine, self._runtime
        for buffer in (self._input, self._output):
            buffer.free()
        for event in self._events:
            self._cuda.drop(event)
        self._cuda.close()

    def _identity(self, library: Any) -> dict[str, str]:
        """What a plan and its kernels' times belong to. Every Jetson Orin calls its GPU by one name: the board tells them apart."""
        board = Reader().text("/proc/device-tree/model")
        return {"library": library.__name__, "version": library.__version__, "board": board, **self._cuda.describe()}

    def _open(self, library: Any, plan: TensorrtPlan, options: RuntimeOptions) -> None:
        """Deserialise a plan that is known to be ours, and make room for the largest batch."""
        log = log_of(library)
        log.forget()
        self._runtime = library.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(plan.read())
        if self._engine is None:
            reason = "; ".join(log.errors) or "it gave no reason; is this still the same GPU?"
            whose = "this plan; one runs on the GPU and version it was built for" if plan.target == GIVEN else "the engine it built itself"
            raise RefusedError(f"{plan.library} {library.__version__} cannot load {whose}: {reason}")
        self._context = self._engine.create_execution_context()
        self._names = _check_tensors(library, self._engine, options)
        taken, answered = (tuple(self._engine.get_tensor_shape(name)) for name in self._names)
        if len(taken) != 4 or len(answered) != 2 or min(*taken[1:], answered[1]) < 1:
            raise RefusedError(f"the engine turns {taken} into {answered}; expected images (n, c, h, w) into logits (n, classes)")
        self._least, self._usual, self._most = options.batches if plan.target != GIVEN else _batches(self._engine, self._names[0], taken[0])
        self._shape, classes = taken[1:], int(answered[1])
        self._input = Buffer(self._cuda, self._most * int(np.prod(self._shape)))
        self._output = Buffer(self._cuda, self._most * classes)
        self._classes = classes
        for name, buffer in zip(self._names, (self._input, self._output), strict=True):
            self._context.set_tensor_address(name, buffer.device)
        self._events = [self._cuda.event() for _ in range(len(PARTS) + 1)]
        self._spent = dict.fromkeys(PARTS, 0)

    def _call(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        cuda, events, sent, fetched = self._cuda, self._events, images.size, len(images) * self._classes
        self._set_batch(len(images))
        self._input.host[:sent] = images.reshape(-1)
        cuda.record(events[0])
        cuda.send(self._input, sent)
        cuda.record(events[1])
        if not self._context.execute_async_v3(cuda.stream):
            raise RuntimeError(f"TensorRT could not start the engine for a batch of {len(images)}")
        cuda.record(events[2])
        cuda.fetch(self._output, fetched)
        cuda.record(events[3])
        cuda.wait()
        for part, start, end in zip(PARTS, events, events[1:], strict=False):
            self._spent[part] += cuda.elapsed_ns(start, end)
        return self._output.host[:fetched].reshape(len(images), self._classes).copy()

    def _set_batch(self, size: int) -> None:
        if not self._context.set_input_shape(self._names[0], (size, *self._shape)):
            raise RuntimeError(f"the engine does not take a batch of {size}; it was built for up to {self._most}")

    def _parts(self) -> dict[str, int]:
        return dict(self._spent)

    def _layers(self, library: Any) -> dict[str, Any]:
        """What `export.evidence_tensorrt` reads: the inspector's layers at the usual batch, and their times in trtexec's form."""
        images = np.zeros((self._usual, *self._shape), np.float32)
        self._set_batch(len(images))
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        information = json.loads(inspector.get_engine_information(library.LayerInformationFormat.JSON))
        profiler = _make_profiler(library)
        self._context.profiler = profiler
        for _ in range(PROFILED_PASSES):
            self._call(images)
        self._context.profiler = None
        rows = [{"name": name, "averageMs": spent / PROFILED_PASSES} for name, spent in profiler.spent_ms.items()]
        return {"inspector": information, "profile": [{"count": PROFILED_PASSES}, *rows]}


def _gpu(artefact: Path, build: BuildOptions, watch: Watch) -> Cuda:
    """The GPU; where there is none, build what can be built, so that the answer says how far the file came.

    Raises:
        NotRunError: built ahead of time.
        BuildError: the file cannot be built.
        RefusedError: nothing here builds without a GPU.
    """
    try:
        return Cuda()
    except DriverError as error:
        needed = f"{error}. Run it where there is an NVIDIA GPU with its driver, such as a Jetson with JetPack"
        if artefact.suffix in PLANS:
            raise RefusedError(f"TensorRT is here, but nothing to run this plan on: {needed}.") from error
        try:
            load_library(ahead=True)
        except BuildError:
            raise RefusedError(f"TensorRT is here, but nothing to run on: {needed}.") from error
        plan = build_plan(artefact, artefact.with_suffix(f".{AHEAD}.plan"), replace(build, target=AHEAD), watch=watch)
        built = f"built ahead of time for {plan.target} by {plan.library} {plan.version}: {plan.bytes:,} bytes in {plan.seconds:.0f} s"
        built += f"; {UNSHOWN}" if build.sparse else ""
        raise NotRunError(f"{built}; not run: {needed}.") from error


def given_plan(file: Path, library: Any) -> TensorrtPlan:
    """A plan that the user built, of which only its bytes are known."""
    return TensorrtPlan(file, sha256_file(file), "", library.__name__, library.__version__, GIVEN, {}, 0, 0.0, ())


def _batches(engine: Any, name: str, batch: int) -> tuple[int, int, int]:
    """Smallest, usual and largest batch of an engine: of its first profile, or the one that it fixes."""
    if batch > 0:
        return batch, batch, batch
    least, usual, most = (int(next(iter(shape))) for shape in engine.get_tensor_profile_shape(name, 0))
    return least, usual, most


def _plan(artefact: Path, build: BuildOptions, identity: dict[str, str], number: int, watch: Watch) -> tuple[TensorrtPlan, int]:
    """The plan of this file, built now unless it was before; and the nanoseconds that took."""
    start = time.perf_counter_ns()
    plan, new = kept_plan(artefact, build, identity, number, partial(build_apart, watch=watch))
    return plan, time.perf_counter_ns() - start if new else 0


def _check_tensors(library: Any, engine: Any, options: RuntimeOptions) -> tuple[str, str]:
    """The names of the one input and output, float32 both; any names, where the options give none."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    seen = {name: (engine.get_tensor_mode(name).name, engine.get_tensor_dtype(name)) for name in names}
    own = sorted(names, key=lambda name: seen[name][0])  # INPUT is before OUTPUT
    named = tuple(own) if len(own) == 2 and not options.input_name else (options.input_name, options.output_name)
    wanted = {named[0]: ("INPUT", library.float32), named[1]: ("OUTPUT", library.float32)}
    if seen != wanted:
        found = ", ".join(f"{mode.lower()} '{name}' {dtype}" for name, (mode, dtype) in seen.items())
        raise RefusedError(f"the engine has {found}; expected input '{named[0]}' and output '{named[1]}', float32")
    return named


def _make_profiler(library: Any) -> Any:
    """Adds up the time of every layer. Its class can only be made once the library is there."""

    class Profiler(library.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            library.IProfiler.__init__(self)
            self.spent_ms: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.spent_ms[layer_name] = self.spent_ms.get(layer_name, 0.0) + ms

    return Profiler()
