"""PyTorch module -> saved `torch.export` program (.pt2), for a runtime that compiles PyTorch itself; and back, to prove it.

`torch.export.load` may run code from the file (see `harness.models.pt2`), so only a file that this process wrote is ever opened here.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.artefact import Artefact, sha256_file
from export.errors import ExportError
from export.session import first_line
from export.trace import trace

if TYPE_CHECKING:
    from torch.export import ExportedProgram

LAYOUT = {"torch": str(torch.__version__)}
"""For the manifest: the format belongs to PyTorch's version."""


class _Named(nn.Module):
    """The twin, its input called as in every artefact (`export.onnx.INPUT`): a program takes the name from its forward."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits


def export_pt2(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[bytes, int]:
    """Export a classifier: the bytes of the file, and the number of classes.

    Args:
        module: float32, in eval mode, images (n, c, h, w) in [0, 1] -> logits (n, classes).
        input_shape: (c, h, w).

    Returns:
        A program of one input `images` whose first dimension is free, in PyTorch's operators (aten). It names no path of this machine,
        and the same module gives the same bytes: PyTorch's archive has no dates.

    Raises:
        ExportError: as `export.trace.trace`, or PyTorch cannot save the program.
    """
    program, classes = trace(_Named(module), input_shape)
    _strip(program)
    file = io.BytesIO()
    try:
        torch.export.save(program, file)
    except Exception as error:
        raise ExportError(f"torch.export cannot save the program: {first_line(error)}") from error
    return file.getvalue(), classes


def open_pt2(artefact: Artefact) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The program of an artefact that this process exported: images, float32 (n, c, h, w) -> logits, float32 (n, classes).

    Raises:
        ExportError: the file changed since, or PyTorch cannot load it; from the function: PyTorch cannot run it.
    """
    if sha256_file(artefact.path) != artefact.sha256:
        raise ExportError(f"{artefact.path} changed since it was exported. Export it again.")
    try:
        network = torch.export.load(artefact.path).module()
    except Exception as error:
        raise ExportError(f"PyTorch cannot load {artefact.path.name}: {first_line(error)}") from error

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            with torch.inference_mode():
                logits: NDArray[np.float32] = network(torch.from_numpy(batch)).numpy()
        except Exception as error:
            raise ExportError(f"PyTorch cannot run {artefact.path.name}: {first_line(error)}") from error
        return logits

    return run


def _strip(program: ExportedProgram) -> None:
    """Remove where in the source each operator was called, in place: it differs between machines."""
    for graph in program.graph_module.modules():
        if isinstance(graph, torch.fx.GraphModule):
            for node in graph.graph.nodes:
                node.meta.pop("stack_trace", None)
