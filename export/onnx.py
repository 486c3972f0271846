"""PyTorch module -> ONNX, through `torch.export`: one input, one output, dynamic batch, the same bytes every time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import ModelProto, inliner

from export.checked import load_checked
from export.errors import ExportError
from export.quiet import quiet
from export.session import first_line

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BATCH", "INPUT", "OPSET", "OUTPUT", "export_onnx", "load_checked", "strip"]

INPUT, OUTPUT, BATCH = "images", "logits", "batch"
OPSET = 20  # read by every onnxruntime since 1.17 and by TensorRT since 10.0

_CAUSES = (
    ("Constraints violated", "the batch size is fixed inside the model; export it with a dynamic first dimension"),
    ("specialized", "the batch size is fixed inside the model; export it with a dynamic first dimension"),
    ("Guard failed", "the batch size is fixed inside the model; export it with a dynamic first dimension"),
    ("data-dependent", "its forward branches on tensor values; use torch.where or a fixed path"),
    ("No ONNX function found", "an operator of it has no ONNX form"),
)


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

    _refuse_training(module)
    size = sum(p.numel() * p.element_size() for p in (*module.parameters(), *module.buffers()))
    if size > 2**31 - 1:
        raise ExportError(f"the model holds {size / 1e9:.1f} GB of weights; one ONNX file holds at most 2 GB")
    example = torch.zeros(2, *input_shape)
    try:
        with quiet(), torch.no_grad():
            classes = _classes(module(example))
            program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim(BATCH)},), strict=False)
            result = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT], opset_version=OPSET, external_data=False
            )
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f"cannot export the model to ONNX. {_explain(error)}") from error
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
            raise ExportError(f"the exported graph fixes the batch of '{value.name}' to {first.dim_value}: {_CAUSES[0][1]}")
        first.dim_param = BATCH
    last = graph.output[0].type.tensor_type.shape.dim[1]
    last.Clear()
    last.dim_value = classes
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"torch.onnx wrote an invalid graph: {first_line(error)}") from error
    return model


def _refuse_training(module: nn.Module) -> None:
    """Look at the layers that differ in training: the flag of a traced program (`ExportedProgram.module()`) says nothing."""
    from torch.nn.modules.batchnorm import _NormBase
    from torch.nn.modules.dropout import _DropoutNd

    for name, layer in module.named_modules():
        if layer.training and isinstance(layer, (_NormBase, _DropoutNd)):
            raise ExportError(f"the model is in training mode: '{name}' would be exported as it trains. Call model.eval() first.")


def _classes(output: object) -> int:
    import torch

    if not isinstance(output, torch.Tensor) or output.ndim != 2 or output.shape[0] != 2:
        got = f"a tensor {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
        raise ExportError(
            f"for two images the model returns {got}; expected logits (2, classes). Wrap it so that it returns the logits alone."
        )
    return int(output.shape[1])


def _explain(error: BaseException) -> str:
    """The exporter's own words and the likely cause. torch.onnx wraps the failure: the innermost cause says what happened."""
    inner = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    words = f"{error}\n{inner}"
    cause = next(
        (text for key, text in _CAUSES if key.lower() in words.lower()), "its forward does something that torch.export cannot trace"
    )
    return f"{type(inner).__name__}: {first_line(inner).rstrip('.')}. Likely cause: {cause}."
