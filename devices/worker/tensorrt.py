"""ONNX -> TensorRT engine, by NVIDIA's own parser and builder: TensorRT 10.3 (JetPack 6) to 11, and TensorRT for RTX.

The network is strongly typed: its precision is what the file says, as TensorRT 11 has it alone. TensorRT builds for the GPU it finds;
TensorRT for RTX also builds ahead of time, on a machine without one, for a named compute capability.

It travels to devices, which build their own engines: numpy at most, Python 3.10 on, and the library imported when it is called.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from devices.worker.errors import BuildError
from devices.worker.files import sha256_file
from devices.worker.plan import TensorrtPlan, verify_plan, write_plan

if TYPE_CHECKING:
    import tensorrt

__all__ = [
    "TARGETS",
    "BuildError",
    "BuildOptions",
    "RejectedError",
    "TensorrtPlan",
    "build_plan",
    "build_plans",
    "load_library",
    "log_of",
    "verify_plan",
]

# TensorRT for RTX 1.7 has no float32 matrix product for Turing: there, of networks with a linear layer, only trt-fp16 is built.
TARGETS = {"sm75": "Turing", "sm80": "A100", "sm86": "Ampere", "sm89": "Ada", "sm120": "Blackwell", "sm121": "GB10"}
ORIN = "sm87"
THIS_GPU = "gpu"
NEEDS_GPU = "needs an NVIDIA GPU and its driver, and finds none"
MAX_WARNINGS = 20
UNSHOWN = "sparse kernels were permitted; that any is used is not shown before it runs on its GPU"

Watch = Callable[[str, int, int], None]


class RejectedError(BuildError):
    """The parser or the builder refused the network.

    Attributes:
        words: what it said.
        node: name of the ONNX node it said it of; empty where it named none.
    """

    def __init__(self, file: Path, words: str, node: str, library: str) -> None:
        self.words, self.node = words, node
        place = f" at node '{node}'" if node else ""
        super().__init__(f"{library} rejects {file.name}{place}: {words}. See `harness lint {file} --target tensorrt`.")


@dataclass(frozen=True)
class BuildOptions:
    """What a build is told.

    Attributes:
        batches: smallest, usual and largest batch of the one optimization profile; unused where the file fixes the batch.
        sparse: permit sparse kernels for 2:4 weights.
        target: a key of `TARGETS` to build ahead of time, None to build for the GPU in this machine.
        workspace_bytes: the most a kernel may take as scratch memory; None: all there is.
        timing_cache: a file of measured kernel times, read and written, which makes later builds fast and alike. TensorRT for RTX has none.
    """

    batches: tuple[int, int, int] = (1, 8, 32)
    sparse: bool = False
    target: str | None = None
    workspace_bytes: int | None = None
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.target is not None and self.target not in TARGETS:
            orin = " The Jetson Orin's SM 8.7 is not among them: build on the device." if self.target == ORIN else ""
            choices = ", ".join(f"{name} ({what})" for name, what in TARGETS.items())
            raise BuildError(f"cannot build ahead of time for '{self.target}'.{orin} Choices: {choices}.")
        if not 1 <= self.batches[0] <= self.batches[1] <= self.batches[2]:
            raise BuildError(f"batches {self.batches}: expected smallest <= usual <= largest, from 1 on")
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise BuildError(f"workspace of {self.workspace_bytes} bytes: expected at least 1")


def load_library(*, ahead: bool = False) -> ModuleType:
    """TensorRT, or else TensorRT for RTX; with `ahead`, TensorRT for RTX, the only one that builds without a GPU.

    Raises:
        BuildError: not installed, or it cannot be imported; names what brings it.
    """
    reasons = []
    for name in ("tensorrt_rtx",) if ahead else ("tensorrt", "tensorrt_rtx"):
        try:
            library = importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - besides ImportError, what loading its libraries raises
            reasons.append(f"{name}: {error}")
            continue
        if hasattr(library, "Builder"):  # not a package of type stubs
            return library
        reasons.append(f"{name}: holds no builder")
    if ahead:
        remedy = "Building ahead of time needs TensorRT for RTX: pip install 'edge-harness[aot]'."
    else:
        remedy = (
            "On a Jetson it comes with JetPack (sudo apt install python3-libnvinfer; a virtual environment needs --system-site-packages); "
            "on a PC: pip install 'edge-harness[tensorrt]'."
        )
    raise BuildError(f"TensorRT cannot be imported ({'; '.join(reasons)}). {remedy}")


def build_plans(onnx: Path, folder: Path, options: BuildOptions, *, count: int = 1, watch: Watch | None = None) -> list[TensorrtPlan]:
    """Build `count` engines of one file, as NAME-TARGET.plan, NAME-TARGET-2.plan …: builders are not deterministic.

    Raises:
        BuildError: as `build_plan`, or a count below 1.
    """
    if count < 1:
        raise BuildError(f"{count} builds: expected at least 1")
    base = f"{onnx.stem}-{options.target or THIS_GPU}"
    names = [base if number == 1 else f"{base}-{number}" for number in range(1, count + 1)]
    return [build_plan(onnx, folder / f"{name}.plan", options, watch=watch) for name in names]


def build_plan(onnx: Path, out: Path, options: BuildOptions, *, watch: Watch | None = None) -> TensorrtPlan:
    """Build an engine of an ONNX file with one input, and write it with its sealed manifest.

    Args:
        onnx: the file; its weights inside.
        out: the engine's file.
        options: what the builder is told.
        watch: is told of progress: phase, steps done, steps in all.

    Raises:
        RejectedError: the parser or the builder refuses the network.
        BuildError: TensorRT or its GPU is missing, or a file cannot be read or written.
    """
    library = load_library(ahead=options.target is not None)
    rtx = library.__name__ == "tensorrt_rtx"
    start = time.monotonic()
    try:
        source, digest = onnx.read_bytes(), sha256_file(onnx)
    except OSError as error:
        raise BuildError(f"cannot read {onnx}: {error.strerror or error}") from error
    log = log_of(library)
    log.forget()
    builder = _make_builder(library, log)
    network = builder.create_network(_strongly_typed(library))
    _parse(library, network, log, source, onnx)
    config = builder.create_builder_config()
    _configure(library, config, options)
    _add_profile(library, builder, config, network, options.batches)
    if options.timing_cache is not None and not rtx:
        load_cache(config, options.timing_cache)
    monitor = _make_monitor(library, watch)
    if monitor is not None:
        config.progress_monitor = monitor
    built: tensorrt.IHostMemory | None = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.interrupted:
        raise KeyboardInterrupt
    if built is None:
        reason = "; ".join(log.errors) or "it gave no reason"
        if "cudaError" in reason or "CUDA initialization" in reason:
            raise BuildError(f"{_title(library)} {NEEDS_GPU}: {reason}")
        raise RejectedError(onnx, reason, "", _title(library))
    if options.timing_cache is not None and not rtx:
        save_cache(config, options.timing_cache)
    write_plan(out, memoryview(built))
    plan = TensorrtPlan(
        path=out,
        sha256=sha256_file(out),
        onnx_sha256=digest,
        library=library.__name__,
        version=library.__version__,
        target=options.target or THIS_GPU,
        options={
            "strongly_typed": True,
            "tf32": False,
            "sparse": options.sparse,
            "batches": list(options.batches),
            "workspace_bytes": options.workspace_bytes,
            "timing_cache": options.timing_cache is not None and not rtx,
        },
        layers=network.num_layers,
        seconds=time.monotonic() - start,
        warnings=tuple(log.warnings[:MAX_WARNINGS]),
    )
    plan.save()
    return plan


def load_cache(config: tensorrt.IBuilderConfig, path: Path) -> None:
    """Give a build the kernel times in `path`; an empty cache where there is no such file, or TensorRT finds it is not for this GPU."""
    stored = path.read_bytes() if path.exists() else b""
    taken: bool = config.set_timing_cache(config.create_timing_cache(stored), ignore_mismatch=False)
    if not taken:
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def save_cache(config: tensorrt.IBuilderConfig, path: Path) -> None:
    """Write the kernel times of a build.

    Raises:
        BuildError: the file cannot be written.
    """
    write_plan(path, memoryview(config.get_timing_cache().serialize()))


def _make_builder(library: ModuleType, log: Any) -> tensorrt.Builder:
    try:
        builder: tensorrt.Builder = library.Builder(log)
    except Exception as error:  # pybind's TypeError for a null pointer, or the CUDA runtime's own
        raise BuildError(f"{_title(library)} {NEEDS_GPU}: {'; '.join(log.errors) or error}") from error
    return builder


def _strongly_typed(library: ModuleType) -> int:
    """The network's flags. Where TensorRT has no other kind of network, there is no flag."""
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(library: ModuleType, network: tensorrt.INetworkDefinition, log: Any, source: bytes, file: Path) -> None:
    parser: tensorrt.OnnxParser = library.OnnxParser(network, log)
    parsed: bool = parser.parse(source)
    if not parsed:
        if parser.num_errors == 0:
            raise RejectedError(file, "; ".join(log.errors) or "it gave no reason", "", _title(library))
        error = parser.get_error(0)
        raise RejectedError(file, _words(error.desc()), error.node_name(), _title(library))
    if network.num_inputs != 1 or network.num_outputs != 1:
        reason = f"it has {network.num_inputs} inputs and {network.num_outputs} outputs; expected one of each"
        raise RejectedError(file, reason, "", _title(library))


def _words(text: str) -> str:
    """The parser's own words in one line, without the echo that a missing driver leaves in them."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "catchCudaError" not in line]
    return " · ".join(lines).rstrip(".")


def _configure(library: ModuleType, config: tensorrt.IBuilderConfig, options: BuildOptions) -> None:
    config.profiling_verbosity = library.ProfilingVerbosity.DETAILED  # the inspector then names every layer's kernel
    config.clear_flag(library.BuilderFlag.TF32)  # on by default: ten bits of mantissa under the name of float32
    if options.sparse:
        config.set_flag(library.BuilderFlag.SPARSE_WEIGHTS)
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if hasattr(library, "ComputeCapability"):  # TensorRT for RTX, whose own default is an engine for every GPU it knows
        capability = getattr(library.ComputeCapability, options.target.upper() if options.target else "CURRENT", None)
        rtx: Any = config  # the published stubs are TensorRT's
        rtx.num_compute_capabilities = 1
        if capability is None or not rtx.set_compute_capability(capability, 0):
            raise BuildError(f"{_title(library)} cannot build for {options.target or 'this machine: it finds no GPU'}")


def _add_profile(
    library: ModuleType,
    builder: tensorrt.Builder,
    config: tensorrt.IBuilderConfig,
    network: tensorrt.INetworkDefinition,
    batches: tuple[int, int, int],
) -> None:
    """The range of a free batch; every other dimension must be fixed."""
    value = network.get_input(0)
    shape = tuple(value.shape[axis] for axis in range(len(value.shape)))
    if -1 in shape[1:]:
        raise BuildError(f"input '{value.name}' has the shape {shape}; expected one free dimension, the batch. Export it with fixed sizes.")
    if shape[0] == -1:
        profile = builder.create_optimization_profile()
        least, usual, most = (library.Dims((batch, *shape[1:])) for batch in batches)
        profile.set_shape(value.name, least, usual, most)
        config.add_optimization_profile(profile)


def _title(library: ModuleType) -> str:
    name = "TensorRT for RTX" if library.__name__ == "tensorrt_rtx" else "TensorRT"
    return f"{name} {library.__version__}"


@cache
def log_of(library: ModuleType) -> Any:
    """The process's one logger, which keeps what matters and prints nothing: TensorRT goes on with the first that it is given.

    `warnings` and `errors` are its lines since `forget()`. Its class can only be made once the library is there.
    """

    class Log(library.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.warnings: list[str] = []
            self.errors: list[str] = []

        def forget(self) -> None:
            self.warnings.clear()
            self.errors.clear()

        def log(self, severity: Any, message: str) -> None:
            kept = {"WARNING": self.warnings, "ERROR": self.errors, "INTERNAL_ERROR": self.errors}.get(severity.name)
            if kept is not None and (line := _words(message)) and line not in kept:
                kept.append(line)

    return Log()


def _make_monitor(library: ModuleType, watch: Watch | None) -> Any:
    """Tells `watch` of the outermost phase, and stops the build on Ctrl-C. None where nobody watches."""
    if watch is None:
        return None

    class Monitor(library.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self.phase, self.steps, self.interrupted = "", 0, False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.phase, self.steps = phase_name, num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                if watch is not None and phase_name == self.phase:
                    watch(phase_name, step + 1, self.steps)
            except KeyboardInterrupt:  # an exception must not cross the builder's own frames
                self.interrupted = True
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            del phase_name

    return Monitor()
