"""ExecuTorch's Python API, for the order and the arguments of the engine's calls: a "program" is 8 bytes of header and an ONNX file.

Names, arguments and refusals are those of its API reference; nothing here says anything of ExecuTorch's numbers. As there, a program of a
fixed batch takes no other, metadata give the largest, and the memory of an output is used again by the next call.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

FLOAT = 6
LARGEST = 4  # of a batch that the file leaves open


class Runtime:
    @staticmethod
    def get() -> Runtime:
        return Runtime()

    def load_program(self, data: Path) -> Program:
        content = Path(data).read_bytes()
        if content[4:6] != b"ET":
            raise RuntimeError("loading program failed with error 0x23")
        return Program(content[8:])


class Program:
    method_names = frozenset({"forward"})

    def __init__(self, onnx: bytes) -> None:
        self.onnx = onnx

    def load_method(self, name: str) -> Method | None:
        return Method(ort.InferenceSession(self.onnx, providers=["CPUExecutionProvider"])) if name in self.method_names else None


class Method:
    def __init__(self, session: ort.InferenceSession) -> None:
        self.session = session
        batch, *shape = session.get_inputs()[0].shape
        self.fixed = isinstance(batch, int)
        self.metadata = Metadata((batch if self.fixed else LARGEST, *shape))
        self.memory: np.ndarray | None = None

    def execute(self, inputs: Any) -> list[torch.Tensor]:
        (images,) = inputs
        most = self.metadata.shape[0]
        if len(images) > most or (self.fixed and len(images) != most):
            raise RuntimeError("set_input() for method 'forward' failed with error 0x12")
        logits = self.session.run(None, {self.session.get_inputs()[0].name: images.numpy()})[0]
        if self.memory is None or self.memory.shape != logits.shape:
            self.memory = np.empty_like(logits)
        self.memory[:] = logits
        return [torch.from_numpy(self.memory)]


class Metadata:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def num_inputs(self) -> int:
        return 1

    def num_outputs(self) -> int:
        return 1

    def input_tensor_meta(self, index: int) -> TensorInfo:
        assert index == 0
        return TensorInfo(self.shape)


class TensorInfo:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def sizes(self) -> tuple[int, ...]:
        return self.shape

    def dtype(self) -> int:
        return FLOAT
