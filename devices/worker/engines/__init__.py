"""Runtimes behind one small contract. Knows no clock, no job and no accuracy: an artefact goes in, logits come out.

A new runtime is one file of about 100 lines and one line in `ENGINES`; it is imported only when a job names it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from devices.worker.spec import RuntimeOptions


class RefusedError(Exception):
    """The runtime is absent, or will not take this artefact or these options. The message names the remedy."""


class NotRunError(Exception):
    """The engine was built ahead of time, and there is nothing here to run it on. The message says what was built and what is missing."""


class Loaded(NamedTuple):
    """What the runtime says of itself once loaded.

    Attributes:
        version: of the runtime.
        options: every option as it really has it.
        parts: nanoseconds of each part of the last `infer` (`host_to_device`, `compute`, `device_to_host`), for an engine with memory of
            its own.
        device_bytes: what it took of that memory.
        build_ns: of the time that loading took, what went into building the engine.
    """

    version: str
    options: dict[str, Any]
    parts: Callable[[], dict[str, int]] | None = None
    device_bytes: int | None = None
    build_ns: int = 0


class Engine(Protocol):
    """An artefact loaded by a runtime. Every call blocks until its result is there.

    One that takes long to build may have an attribute `watch`: it is set before `load`, and takes a step, parts done, parts in all. One
    whose threads spin between calls may have an attribute `sleeps`: set before `load` where nothing is timed, it has them sleep instead.
    """

    def load(self, artefact: Path, options: RuntimeOptions, optimised_graph: Path | None = None) -> Loaded:
        """Load `artefact`; where the runtime can, write what it will really run to `optimised_graph`, with the suffix of its format.

        Raises:
            RefusedError: it will not.
            NotRunError: it was built, and cannot run here.
        """

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images in [0, 1], float32 (n, channels, height, width), C-contiguous -> logits, float32 (n, classes)."""

    def close(self) -> None:
        """Free what `load` took."""


ENGINES = {
    "onnxruntime": "devices.worker.engines.onnxruntime:OnnxRuntime",
    "tensorrt": "devices.worker.engines.tensorrt:TensorRt",
    "torch-tensorrt": "devices.worker.engines.torch_tensorrt:TorchTensorRt",
    "executorch": "devices.worker.engines.executorch:ExecuTorch",
}


def make_engine(runtime: str) -> Engine:
    """A fresh, unloaded engine; imports the runtime.

    Args:
        runtime: a key of `ENGINES`, or `package.module:Class` of a package that is installed on the device.

    Raises:
        RefusedError: no such runtime, or it is not installed here.
    """
    if runtime not in ENGINES and ":" not in runtime:
        raise RefusedError(f"unknown runtime '{runtime}'. Choices: {', '.join(ENGINES)}.")
    module, _, name = ENGINES.get(runtime, runtime).partition(":")
    try:
        engine: Engine = getattr(importlib.import_module(module), name)()
    except ImportError as error:
        raise RefusedError(
            f"the runtime {runtime} cannot be imported on the device: {error}. Install it for the Python that runs the worker."
        ) from error
    return engine
