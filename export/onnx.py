"""PyTorch module -> ONNX, through `torch.export`: one input, one output, dynamic batch, the same bytes every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import ModelProto, inliner

from export.checked import load_checked
from export.errors import ExportError
from export.quiet import quiet
from export.session import first_line
from export.trace import BATCH, FIXED_BATCH, explain, trace

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BATCH", "INPUT", "OPSET", "OUTPUT", "export_onnx", "load_checked", "strip"]

INPUT, OUTPUT = "images", "logits"
OPSET = 20  # read by every onnxruntime since 1.17 and by TensorRT since 10.0


def export_onnx(module: nn.Module, input_shape: tuple[int, int, int]) -> ModelProto:
    """Export a classifier.

    Args:
        module: float32, in eval mode, images (n, c, h, w) in [0, 1] -> logits (n, classes).
        input_shape: (c, h, w).

    Returns:
        A checked graph of opset 20, input `images`, output `logits`, first dimension `batch` free. It names no path of this machine,
        and the same module gives the same bytes.

    Raises:
        ExportError: the module is in training mode, does not return (n, classes), cannot be traced or translated, fixes the batch
            size, or holds more than 2 GB.
    """
    import torch

    size = sum(p.numel() * p.element_size() for p in (*module.parameters(), *module.buffers()))
    if size > 2**31 - 1:
        raise ExportError(f"the model holds {size / 1e9:.1f} GB of weights; one ONNX file holds at most 2 GB")
    program, classes = trace(module, input_shape)
    try:
        with quiet(), torch.no_grad():
            result = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT], opset_version=OPSET, external_data=False
            )
    except Exception as error:
        raise ExportError(f"cannot export the model to ONNX. {explain(error)}") from error
    if result is None:
        raise ExportError("torch.onnx returned no program")
    return _finish(result.model_proto, classes)


def strip(model: ModelProto) -> ModelProto:
    """Remove what differs between machines and runs, in place: stack traces, source paths, tool versions, unused domains."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info, *model.functions):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.producer_name, model.producer_version = "edge-harness", ""
    used = {node.domain for node in graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(sorted(kept, key=lambda entry: entry.domain))
    return model


def _finish(model: ModelProto, classes: int) -> ModelProto:
    graph = strip(model).graph
    if model.functions:
        model = inliner.inline_local_functions(model)
        graph = model.graph
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise ExportError(f"the exported graph has {len(graph.input)} inputs and {len(graph.output)} outputs; expected one of each")
    for value in (graph.input[0], graph.output[0]):
        first = value.type.tensor_type.shape.dim[0]
        if first.HasField("dim_value"):
            raise ExportError(f"the exported graph fixes the batch of '{value.name}' to {first.dim_value}: {FIXED_BATCH}")
        first.dim_param = BATCH
    last = graph.output[0].type.tensor_type.shape.dim[1]
    last.Clear()
    last.dim_value = classes
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"torch.onnx wrote an invalid graph: {first_line(error)}") from error
    return model
