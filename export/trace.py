"""PyTorch module -> `torch.export` program: the classifier's shapes checked, its batch left free. What every exported file starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.errors import ExportError
from export.quiet import quiet
from export.session import first_line

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

BATCH = "batch"
FIXED_BATCH = "the batch size is fixed inside the model; export it with a dynamic first dimension"

_CAUSES = (
    ("Constraints violated", FIXED_BATCH),
    ("specialized", FIXED_BATCH),
    ("Guard failed", FIXED_BATCH),
    ("data-dependent", "its forward branches on tensor values; use torch.where or a fixed path"),
    ("No ONNX function found", "an operator of it has no ONNX form"),
)


def trace(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[ExportedProgram, int]:
    """Trace a classifier.

    Args:
        module: float32, in eval mode, images (n, c, h, w) in [0, 1] -> logits (n, classes).
        input_shape: (c, h, w).

    Returns:
        The program, first dimension `batch` free, and the number of classes.

    Raises:
        ExportError: the module is in training mode, does not return (n, classes), cannot be traced, or fixes the batch size.
    """
    import torch

    _refuse_training(module)
    example = torch.zeros(2, *input_shape)
    try:
        with quiet(), torch.no_grad():
            classes = _classes(module(example))
            return torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim(BATCH)},), strict=False), classes
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f"cannot export the model. {explain(error)}") from error


def explain(error: BaseException) -> str:
    """The exporter's own words and the likely cause. torch.onnx wraps the failure: the innermost cause says what happened."""
    inner = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    words = f"{error}\n{inner}"
    cause = next(
        (text for key, text in _CAUSES if key.lower() in words.lower()), "its forward does something that torch.export cannot trace"
    )
    return f"{type(inner).__name__}: {first_line(inner).rstrip('.')}. Likely cause: {cause}."


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
