"""Evidence of precision: which share of the arithmetic onnxruntime really runs in integers, read from its own optimised graph."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto

from export.artefact import Artefact
from export.fp16 import HALVES
from export.macs import MacNode, mac_nodes
from export.session import first_line

MIN_INTEGER_SHARE = 0.9
"""Below this share of integer MACs a file is not called INT8. Leaving the first and the last layer in float is usual and costs a few
per cent of the MACs; with more than a tenth in float, speed and rounding are no longer those of an INT8 network."""

MIN_HALF_SHARE = 0.5
"""Below this share of MACs with float16 weights a file is not called FP16; products of two activations have none."""

INTEGER_KERNELS = frozenset(
    {"QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QAttention"}
)
FLOAT_KERNELS = frozenset(
    {
        "Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulNBits", "Einsum",
        "Attention", "MultiHeadAttention",
    }
)  # fmt: skip

_GENERATED = re.compile(r"(_token_\d+)+$")  # what onnxruntime appends to the name of a node it rewrites


@dataclass(frozen=True)
class KernelShare:
    """What part of an engine runs in one kind of kernel: of its layers, of the measured time (None without a profile), of its MACs."""

    layers: float
    time: float | None
    macs: float


@dataclass(frozen=True)
class Evidence:
    """What the optimised graph, or the engine's inspector, shows.

    Attributes:
        claimed: the artefact's precision.
        label: the precision that may be printed; the claimed one only where the evidence supports it.
        integer_mac_share: share of convolution and linear MACs in integer kernels, None where it could not be read.
        kernels: operator of the optimised graph -> how many.
        note: what was found, in a sentence.
        shares: kind of kernel -> its shares, where the runtime tells its layers apart (see `export.evidence_tensorrt`).
    """

    claimed: str
    label: str
    integer_mac_share: float | None
    kernels: dict[str, int]
    note: str
    shares: dict[str, KernelShare] = field(default_factory=dict)


def precision_evidence(optimized_graph: Path, artefact: Artefact) -> Evidence:
    """Read onnxruntime's optimised graph of an artefact.

    MACs are those of the artefact's own nodes. A kernel of the optimised graph is matched to its node by name, which onnxruntime
    keeps, or by its weight; an integer kernel that matches none counts nothing, so the share is never overstated.

    Args:
        optimized_graph: the file that a session on the device saved (`optimized_model_filepath`).
        artefact: the file which that session had loaded.

    Raises:
        ExportError: the artefact itself cannot be read. A missing or damaged optimised graph gives a share of None.
    """
    nodes = mac_nodes(artefact.path)
    try:
        graph = onnx.load(optimized_graph, load_external_data=False).graph
    except Exception as error:  # noqa: BLE001 - protobuf's DecodeError, OSError, ValueError
        return Evidence(
            artefact.precision, label(artefact.precision, None), None, {}, f"the optimised graph cannot be read: {first_line(error)}"
        )
    kernels = dict(Counter(node.op_type for node in graph.node).most_common())
    integer, unmatched = _macs(nodes, [node for node in graph.node if node.op_type in INTEGER_KERNELS])
    total = sum(node.macs for node in nodes)
    share = integer / total if total and graph.node else None
    note = _note(graph, share, unmatched)
    if artefact.precision != "fp16" or share is None:
        return Evidence(artefact.precision, label(artefact.precision, share), share, kernels, note)
    half = _macs(nodes, _half_kernels(graph))[0] / total
    return Evidence("fp16", label("fp16", share, half), share, kernels, f"{note}; {half:.1%} in kernels with float16 weights")


def label(claimed: str, share: float | None, half: float | None = None) -> str:
    """The precision that may be printed for a claimed one, given the share of integer MACs, and of those in half precision where known."""
    if claimed == "fp16" and half is not None and half < MIN_HALF_SHARE:
        return "fp16 claimed, float32 kernels"
    if claimed != "int8":
        return claimed if not share else f"{claimed} claimed, {share:.0%} integer kernels"
    if share is None:
        return "int8 claimed, not verified"
    return claimed if share >= MIN_INTEGER_SHARE else "int8 claimed, float kernels"


def _half_kernels(graph: GraphProto) -> list[NodeProto]:
    """The float kernels that read a stored float16 or bfloat16 tensor: what a CPU has no such kernel for is cast to float32 on loading."""
    half = {tensor.name for tensor in graph.initializer if tensor.data_type in HALVES}
    return [node for node in graph.node if node.op_type in FLOAT_KERNELS and half.intersection(node.input)]


def _macs(nodes: list[MacNode], kernels: list[NodeProto]) -> tuple[int, list[str]]:
    """MACs in some of a graph's kernels, and those of them that match no node of the artefact. Each node counts once."""
    left = dict(enumerate(nodes))
    total, unmatched = 0, []
    for kernel in kernels:
        name = _GENERATED.sub("", kernel.name)
        found = [place for place, node in left.items() if name and node.name == name][:1]
        found = found or [place for place, node in left.items() if node.weights.intersection(kernel.input)]
        if not found:
            unmatched.append(kernel.name or kernel.op_type)
        total += sum(left.pop(place).macs for place in found)
    return total, unmatched


def _note(graph: GraphProto, share: float | None, unmatched: list[str]) -> str:
    if share is None:
        return "the optimised graph holds no convolution or matrix product"
    integer = sum(node.op_type in INTEGER_KERNELS for node in graph.node)
    floating = sum(node.op_type in FLOAT_KERNELS for node in graph.node)
    text = f"{share:.1%} of the MACs run in integer kernels ({integer} integer, {floating} float kernels)"
    if unmatched:
        text += f"; not counted, because they match no layer of the artefact: {', '.join(unmatched[:5])}"
    return text
