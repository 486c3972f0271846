"""TensorRT's Python API without a GPU, for the order and the arguments of the engine's calls.

A "plan" holds the ONNX file, which onnxruntime computes on the addresses that the context was given (host memory, see standin_cuda.c).
Methods, their results and their refusals are those of NVIDIA's Python API reference; nothing here says anything of TensorRT's numbers.
"""

from __future__ import annotations

import ctypes
import enum
import json
from typing import Any

import numpy as np
import onnxruntime as ort

__version__ = "10.3.0"
float32 = np.dtype(np.float32)


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class LayerInformationFormat(enum.Enum):
    JSON = 1


class Severity(enum.Enum):
    ERROR = 1


class ILogger:
    def __init__(self) -> None:
        self.constructed = True


class IProfiler:
    def __init__(self) -> None:
        self.constructed = True


class Runtime:
    def __init__(self, logger: Any) -> None:
        assert isinstance(logger, ILogger) and logger.constructed
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if plan.startswith(b"plan:"):
            return Engine(plan[5:])
        self.logger.log(Severity.ERROR, "The engine cannot run on this GPU, which has compute capability 9.0.")
        return None


class Engine:
    def __init__(self, onnx: bytes) -> None:
        self.session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        self.tensors = [*((value, TensorIOMode.INPUT) for value in self.session.get_inputs())]
        self.tensors += [(value, TensorIOMode.OUTPUT) for value in self.session.get_outputs()]
        self.num_io_tensors = len(self.tensors)

    def _of(self, name: str) -> tuple[Any, TensorIOMode]:
        return next(found for found in self.tensors if found[0].name == name)

    def get_tensor_name(self, index: int) -> str:
        return str(self.tensors[index][0].name)

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._of(name)[1]

    def get_tensor_dtype(self, name: str) -> np.dtype[Any]:
        return float32

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self._of(name)[0].shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert profile == 0
        return [(batch, *self.get_tensor_shape(name)[1:]) for batch in (1, 2, Context.LARGEST)]

    def create_execution_context(self) -> Context:
        return Context(self)

    def create_engine_inspector(self) -> Inspector:
        return Inspector()


class Inspector:
    execution_context: Context | None = None

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        assert form is LayerInformationFormat.JSON
        assert self.execution_context is not None and self.execution_context.shape is not None, "shapes are unknown without a context"
        layers = [
            {"Name": "gemm", "LayerType": "gemm", "TacticName": "sm80_xmma_gemm_i8i8_i8i32_f32_tn_n", "Metadata": "[ONNX Layer: gemm]"}
        ]
        return json.dumps({"Layers": layers, "Bindings": ["picture", "scores"]})


class Context:
    LARGEST = 4

    def __init__(self, engine: Engine) -> None:
        self.engine, self.addresses, self.shape = engine, dict[str, int](), None
        self.profiler: Any = None

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        fixed = self.engine.get_tensor_shape(name)[0]
        if shape[0] > self.LARGEST or fixed not in (-1, shape[0]):
            return False
        self.shape = tuple(shape)
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream > 1 << 16, "a stream's handle"
        (feed,), (out,) = self.engine.session.get_inputs(), self.engine.session.get_outputs()
        images = np.ctypeslib.as_array(ctypes.cast(self.addresses[feed.name], ctypes.POINTER(ctypes.c_float)), self.shape)
        (logits,) = self.engine.session.run([out.name], {feed.name: images})
        ctypes.memmove(self.addresses[out.name], np.ascontiguousarray(logits).ctypes.data, logits.nbytes)
        if self.profiler is not None:
            assert self.profiler.constructed, "the binding needs IProfiler.__init__"
            self.profiler.report_layer_time("gemm", 0.5)
        return True
