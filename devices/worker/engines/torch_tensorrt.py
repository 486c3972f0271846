"""A saved PyTorch program (.pt2) compiled by Torch-TensorRT, on a GPU host: what TensorRT cannot take stays in PyTorch.

A second way to the same kernels, without ONNX in between. torch and torch_tensorrt are imported when an engine is loaded: the latter
fails to import where there is no driver. `torch.export.load` may run code from the file, so only a job's own artefact comes here, which
the worker has checked against its hash.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.worker.engines import Loaded, RefusedError
from devices.worker.spec import RuntimeOptions

PARTS = ("host_to_device", "compute", "device_to_host")


class TorchTensorRt:
    """A .pt2 program in PyTorch with TensorRT engines inside (`devices.worker.engines.Engine`)."""

    def load(self, artefact: Path, options: RuntimeOptions, optimised_graph: Path | None = None) -> Loaded:
        """Compile the program for the GPU. Its graph is not written: its engines are within PyTorch's own."""
        del optimised_graph
        self._torch, compiler = _import()
        torch = self._torch
        try:
            program = torch.export.load(artefact)
        except Exception as error:  # zipfile's, pickle's, or PyTorch's own
            raise RefusedError(f"{artefact.name} is no saved torch.export program (.pt2): {error}") from error
        self._check(program, options)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # what stays in PyTorch is float32 as well
        before = torch.cuda.memory_reserved()
        least, usual, most = options.batches
        shape = tuple(program.example_inputs[0][0].shape)[1:]
        spec = compiler.Input(
            min_shape=(least, *shape), opt_shape=(usual, *shape), max_shape=(most, *shape), dtype=torch.float32, name=options.input_name
        )
        try:
            self._module = compiler.dynamo.compile(program, arg_inputs=[spec], disable_tf32=True)
        except Exception as error:  # TensorRT's, or the compiler's own
            raise RefusedError(f"torch_tensorrt {compiler.__version__} cannot compile {artefact.name}: {error}") from error
        self._most = most
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(len(PARTS) + 1)]
        self._spent = dict.fromkeys(PARTS, 0)
        built_with = {
            "torch": torch.__version__,
            "batches": list(options.batches),
            "gpu": torch.cuda.get_device_name(),
            "compute_capability": ".".join(map(str, torch.cuda.get_device_capability())),
            "tensorrt_engines": sum("TensorRT" in type(module).__name__ for module in self._module.modules()),
        }
        return Loaded(compiler.__version__, built_with, self._parts, max(torch.cuda.memory_reserved() - before, 0))

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """One blocking call; more images than it was compiled for go in several."""
        self._spent = dict.fromkeys(PARTS, 0)
        return np.concatenate([self._call(batch[first : first + self._most]) for first in range(0, len(batch), self._most)])

    def close(self) -> None:
        """Free the module and PyTorch's memory on the GPU."""
        del self._module
        self._torch.cuda.empty_cache()

    def _call(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        torch, events = self._torch, self._events
        with torch.inference_mode():
            events[0].record()
            there = torch.from_numpy(images).to("cuda", copy=True)
            events[1].record()
            logits = self._module(there)
            events[2].record()
            here: NDArray[np.float32] = logits.to("cpu").numpy()
            events[3].record()
        torch.cuda.synchronize()
        for part, start, end in zip(PARTS, events, events[1:], strict=False):
            self._spent[part] += round(start.elapsed_time(end) * 1e6)
        return here

    def _parts(self) -> dict[str, int]:
        return dict(self._spent)

    def _check(self, program: Any, options: RuntimeOptions) -> None:
        inputs, outputs = (list(names) for names in (program.graph_signature.user_inputs, program.graph_signature.user_outputs))
        if inputs != [options.input_name] or len(outputs) != 1:
            raise RefusedError(
                f"the program has inputs {inputs} and {len(outputs)} outputs; expected '{options.input_name}' and one output"
            )


def _import() -> tuple[Any, Any]:
    """torch and torch_tensorrt, with a GPU they can use.

    Raises:
        RefusedError: one is missing or cannot be imported, or there is no GPU.
    """
    try:
        torch = importlib.import_module("torch")
        if not torch.cuda.is_available():
            raise RefusedError("PyTorch finds no NVIDIA GPU with its driver; torch-tensorrt runs nowhere else. Nothing was run.")
        return torch, importlib.import_module("torch_tensorrt")
    except RefusedError:
        raise
    except Exception as error:  # besides ImportError, what loading TensorRT's libraries raises
        raise RefusedError(f"torch_tensorrt cannot be imported: {error}. Install it beside PyTorch: pip install torch-tensorrt.") from error
