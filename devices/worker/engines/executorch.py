"""A `.pte` program on ExecuTorch's own Python runtime, with whatever kernels and delegates (XNNPACK …) were lowered into it.

The runtime takes and returns torch tensors, so PyTorch is needed beside it; both are imported when an engine is loaded.
API: https://docs.pytorch.org/executorch/stable/runtime-python-api-reference.html
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.worker.engines import Loaded, RefusedError
from devices.worker.engines.pieces import in_pieces
from devices.worker.spec import RuntimeOptions

METHOD = "forward"
FLOAT = 6  # of torch's ScalarType, as the program's metadata gives it
MISSING = "Install it for the Python that runs the worker: pip install executorch torch (it brings no PyTorch of its own)."


class ExecuTorch:
    """The method `forward` of a program (`devices.worker.engines.Engine`)."""

    def load(self, artefact: Path, options: RuntimeOptions, optimised_graph: Path | None = None) -> Loaded:
        """Load the program. Its graph is not written: the runtime shows none, and its number of threads is its own choice."""
        del options, optimised_graph
        self._torch, runtime = _import()
        try:
            self._program = runtime.Runtime.get().load_program(artefact)
            self._method = self._program.load_method(METHOD)
        except Exception as error:  # RuntimeError with the runtime's error code, ValueError, or what a delegate raises
            raise RefusedError(f"ExecuTorch will not load {artefact.name}: {' '.join(str(error).split())}") from error
        if self._method is None:
            names = ", ".join(sorted(self._program.method_names)) or "none"
            raise RefusedError(f"{artefact.name} has no method '{METHOD}'; it has {names}")
        self._shape, self._most = self._input(artefact.name)
        self._least = 1 if self._most == 1 or self._takes(1) else self._most
        batch = f"1 to {self._most}" if self._least == 1 < self._most else f"{self._most} alone"
        return Loaded(importlib.metadata.version("executorch"), {"method": METHOD, "batches": batch, "threads": "its own choice"})

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calls of as many images as the program takes; the last one filled up where it takes no fewer."""
        return in_pieces(self._call, batch, self._shape, self._least, self._most)

    def close(self) -> None:
        """Drop the program."""
        del self._method, self._program

    def _call(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._method.execute([self._torch.from_numpy(images)])[0].numpy().copy()  # its memory is used again
        return logits

    def _input(self, name: str) -> tuple[tuple[int, ...], int]:
        """(channels, height, width) of the images and the largest batch. Raises RefusedError: it takes something else."""
        told = self._method.metadata
        if told.num_inputs() != 1 or told.num_outputs() != 1:
            raise RefusedError(f"{name} has {told.num_inputs()} inputs and {told.num_outputs()} outputs; expected one of each")
        tensor = told.input_tensor_meta(0)
        batch, *shape = tensor.sizes()
        if tensor.dtype() != FLOAT or len(shape) != 3:
            raise RefusedError(f"{name} takes a tensor of {tuple(tensor.sizes())}, type {tensor.dtype()}; expected float32 (n, c, h, w)")
        return tuple(shape), int(batch)

    def _takes(self, n: int) -> bool:
        """Whether the batch is free: its metadata gives the largest one alone."""
        try:
            return len(self._call(np.zeros((n, *self._shape), np.float32))) == n
        except RuntimeError:
            return False


def _import() -> tuple[Any, Any]:
    """PyTorch and ExecuTorch's runtime. Raises RefusedError: one of them cannot be imported."""
    try:
        with _without_compiler():
            return importlib.import_module("torch"), importlib.import_module("executorch.runtime")
    except (ImportError, OSError, RuntimeError) as error:
        raise RefusedError(f"ExecuTorch's runtime is not here: {' '.join(str(error).split())}. {MISSING}") from error


@contextmanager
def _without_compiler() -> Iterator[None]:
    """The runtime imports all of the compiler, two thirds of a start, for one kind of warning. An empty package lends that alone."""
    compiler = "executorch.exir"
    found = None if compiler in sys.modules else importlib.util.find_spec(compiler)
    if found is None:  # it is there already, or another ExecuTorch has none
        yield
        return
    lent = ModuleType(compiler)
    lent.__path__ = list(found.submodule_search_locations or ())
    sys.modules[compiler] = lent
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name == compiler or name.startswith(f"{compiler}.")]:
            del sys.modules[name]  # whoever wants the compiler itself gets it
