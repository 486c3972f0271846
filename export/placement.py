"""Where a graph gets Q/DQ pairs so that TensorRT runs its layers in INT8.

TensorRT fuses what it finds between pairs, so their place decides which kernels it can take (NVIDIA, "Working with Quantized Types",
section "Q/DQ Placement Recommendations"):

- the input of every layer with weights is quantized, its output is not: the next layer's input is;
- at a residual Add the skip side is quantized and the side of the convolution is not, so that convolution and Add become one kernel;
- where a quantized tensor comes out of a Concat, so do the Concat's inputs, and all share one scale: nothing is requantized;
- convolutions of fewer than 16 input channels stay in float: INT8 tensor cores take 16 at least, and the image's own layer is the most
  sensitive to rounding.

Own code because quantize_static cannot quantize one side of an Add alone, and nvidia-modelopt, which places much the same, brings its own
onnxruntime; docs/qdq-placement.md compares the three.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto

MIN_CHANNELS = 16
SAME_VALUES = frozenset({"MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""What hands values on unchanged: quantizing before and after it is the same."""

Edge = tuple[int, int]  # position of a node in the graph, and of one of its inputs


@dataclass(frozen=True)
class Placement:
    """What is quantized.

    Attributes:
        layers: position of a node with weights -> the axis of its weight's output channels.
        edges: the inputs that read a quantized activation.
        scales: tensor -> name of the group of tensors that has one scale with it; a tensor alone is its own group.
    """

    layers: dict[int, int]
    edges: frozenset[Edge]
    scales: dict[str, str]


def place(model: ModelProto) -> Placement:
    """Choose the layers and activations of a float graph to quantize. The graph must be folded: weights are initialisers."""
    return _Placer(model).place()


def output_channels(node: NodeProto, stored: dict[str, TensorProto]) -> int | None:
    """The axis of a weight's output channels, or None where the node is no layer with weights that TensorRT has in INT8.

    Conv (O, I/g, *kernel) · ConvTranspose (I, O, *kernel) of one group · Gemm (O, I) or (I, O) · MatMul (I, O).
    """
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or node.input[0] in stored or node.input[1] not in stored:
        return None
    flags = {attribute.name: attribute.i for attribute in node.attribute}
    shape, groups = stored[node.input[1]].dims, flags.get("group", 1)
    if stored[node.input[1]].data_type != TensorProto.FLOAT or len(shape) < 2:
        return None
    if node.op_type == "Conv":
        return 0 if shape[1] * groups >= MIN_CHANNELS else None
    if node.op_type == "ConvTranspose":
        return 1 if groups == 1 and shape[0] >= MIN_CHANNELS else None
    if node.op_type == "Gemm":
        return None if flags.get("transA") else 0 if flags.get("transB") else 1
    return 1 if len(shape) == 2 else None


class _Placer:
    def __init__(self, model: ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.maker = {name: index for index, node in enumerate(self.nodes) for name in node.output}
        self.readers: dict[str, int] = defaultdict(int)
        for node in self.nodes:
            for name in node.input:
                self.readers[name] += 1
        for value in model.graph.output:
            self.readers[value.name] += 1
        self.group: dict[str, str] = {}

    def place(self) -> Placement:
        axes = ((index, output_channels(node, self.stored)) for index, node in enumerate(self.nodes))
        layers = {index: axis for index, axis in axes if axis is not None}
        edges = {(index, 0) for index in layers}
        edges |= set(self._skips(layers))
        edges |= self._concats(edges)
        tensors = {self.nodes[index].input[place] for index, place in edges}
        return Placement(layers, frozenset(edges), {name: self._find(name) for name in tensors})

    def _skips(self, layers: dict[int, int]) -> Iterator[Edge]:
        """The skip side of every Add of two activations, one of which a quantized layer makes for this Add alone."""
        depth = self._depths(layers)
        for index, node in enumerate(self.nodes):
            if node.op_type != "Add" or any(name in self.stored for name in node.input):
                continue
            fused = [side for side, name in enumerate(node.input) if self.maker.get(name) in layers and self.readers[name] == 1]
            if fused:
                # where both sides are such layers, the shortcut is the one with fewer layers behind it
                main = max(fused, key=lambda side: (depth[node.input[side]], self.maker[node.input[side]]))
                yield index, 1 - main

    def _depths(self, layers: dict[int, int]) -> dict[str, int]:
        """Layers with weights on the longest way from the input to each tensor."""
        depth: dict[str, int] = defaultdict(int)
        for index, node in enumerate(self.nodes):
            below = max((depth[name] for name in node.input), default=0) + (index in layers)
            depth.update(dict.fromkeys(node.output, below))
        return depth

    def _concats(self, edges: set[Edge]) -> set[Edge]:
        """The inputs of every Concat that a quantized tensor comes out of, with one scale across each."""
        found: set[Edge] = set()
        tensors = [self.nodes[index].input[place] for index, place in sorted(edges)]
        while tensors:
            name = tensors.pop()
            index = self._source(name)
            node = None if index is None else self.nodes[index]
            if index is None or node is None or node.op_type != "Concat" or any(part in self.stored for part in node.input):
                continue
            for place, part in enumerate(node.input):
                self._join(part, name)
                if (index, place) not in found:
                    found.add((index, place))
                    tensors.append(part)
        return found

    def _source(self, name: str) -> int | None:
        """The node that made the values of a tensor, before whatever hands them on unchanged."""
        while (index := self.maker.get(name)) is not None and self.nodes[index].op_type in SAME_VALUES:
            name = self.nodes[index].input[0]
        return index

    def _find(self, name: str) -> str:
        while self.group.get(name, name) != name:
            name = self.group[name]
        return name

    def _join(self, one: str, other: str) -> None:
        self.group[self._find(one)] = self._find(other)
