"""2:4 sparsity, where a file claims it. A TensorRT builder takes dense weights all the same and runs dense kernels."""

from __future__ import annotations

from collections.abc import Iterator

from export.errors import ExportError
from export.lint.finding import Rule, Severity
from export.lint.graph import Graph
from export.lint.stored import with_external
from export.sparsity import SparseLayer, eligible_layers

DENSE_SHARE = 0.25
"""With more of its groups of four broken, nobody meant the layer to be 2:4. With fewer, a pattern was there and has holes."""


def broken(graph: Graph) -> Iterator[tuple[str, str]]:
    """Layers whose pattern has holes after rounding, and files without any 2:4 layer."""
    layers, fault = _layers(graph)
    if fault:
        yield "", f"the weights cannot be checked for 2:4: {fault}."
        return
    for layer in layers:
        if 0 < layer.violations <= DENSE_SHARE * layer.groups:
            yield (
                layer.node or layer.weight,
                f"{layer.violations:,} of {layer.groups:,} groups of 4 have more than 2 non-zeros after rounding.",
            )
    if graph.claims_sparsity and not any(layer.sparse for layer in layers):
        eligible = sum(layer.eligible for layer in layers)
        yield "", f"none of {len(layers)} layers is 2:4 sparse ({eligible} could be)."


def dense(graph: Graph) -> Iterator[tuple[str, str]]:
    """Layers that could be 2:4 sparse and are dense."""
    for layer in _layers(graph)[0]:
        if layer.eligible and layer.violations > DENSE_SHARE * layer.groups:
            yield layer.node or layer.weight, f"dense: {layer.violations:,} of {layer.groups:,} groups of 4 have more than 2 non-zeros."


def ineligible(graph: Graph) -> Iterator[tuple[str, str]]:
    """Layers that cannot be 2:4 sparse."""
    for layer in _layers(graph)[0]:
        if not layer.eligible:
            yield layer.node or layer.weight, f"cannot be 2:4 sparse: {layer.reason}."


def _layers(graph: Graph) -> tuple[list[SparseLayer], str]:
    """Every layer with stored weights where the file claims sparsity, and why they cannot be read."""
    if not graph.claims_sparsity:
        return [], ""
    try:
        return eligible_layers(with_external(graph.model, graph.path.parent)), ""
    except (ExportError, OSError, LookupError, ValueError, TypeError) as error:  # scales that do not fit, damaged tensors
        return [], str(error) or type(error).__name__


RULES = (
    Rule(
        "TRT030", Severity.ERROR, "weights said to be 2:4 sparse are, after rounding",
        "Prune with --method nm24, and keep the mask in quantization (zero point 0).", broken,
    ),
    Rule("TRT031", Severity.INFO, "every layer that can be is 2:4 sparse", "Prune it too, if its time matters.", dense),
    Rule("TRT032", Severity.INFO, "layers that cannot be 2:4 sparse", "It runs dense kernels; nothing to do.", ineligible),
)  # fmt: skip
