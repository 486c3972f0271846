"""INT8 for networks that round their activations to few levels themselves, so that they are not rounded twice.

clip(x, 0, 1) on L levels is written Clip, Mul by L, Round, Div by L. Eight bits of the range of x in front of it would take values over the
borders between levels, and a few of those change such a network's answer. Here the network's own levels are the quantizer's: codes k of
k / L in UINT8 with zero point 0, clipped at L. What is added up in between is exact, or rounded where it changes no level:

- weights that are whole multiples of a step have that step;
- biases are moved to the multiple of the sums' step that changes no level (`export.exact.settled_biases`);
- a residual branch that is added to such codes has a range and a step that change no level (`export.exact.branch_range`);
- two branches added up, as at a shortcut with a convolution of its own, have no step in common: there ConvInteger's int32 sums are scaled
  in float. Their weights are stored as UINT8 with zero point 128, for which onnxruntime has fast kernels that never saturate;
- the first layer, which reads the image, and the last, which makes the logits, stay in float.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.calibration import Range
from export.exact import INT8, UINT8, branch_range, codes, settled_biases, weight_steps

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
MAKERS = (*LAYERS, "Add")  # what `quantize_static` gives an output step of its own; that behind a MaxPool is the one before it
REDUCED = 64  # largest code of a weight of 7 bits, as quantize_static has it
ZERO = 128  # of weights in UINT8


@dataclass
class Plan:
    """What is quantized otherwise than by default; nothing where no activation has levels of its own.

    Attributes:
        levels: tensor -> L, for tensors of values k / L.
        floating: names of the nodes that `quantize_static` leaves alone.
        summed: names of those of them that become ConvInteger.
        ranges: tensor -> the range that its codes represent.
        weights: weight -> its step for each output.
        largest: code that a weight may have.
    """

    levels: dict[str, int] = field(default_factory=dict)
    floating: set[str] = field(default_factory=set)
    summed: set[str] = field(default_factory=set)
    ranges: dict[str, Range] = field(default_factory=dict)
    weights: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    largest: int = INT8

    def overrides(self) -> dict[str, list[dict[str, Any]]]:
        """The steps of the weights as `quantize_static` takes them (TensorQuantOverrides)."""
        from onnxruntime.quantization import QuantType

        return {
            name: [{"axis": 0, "quant_type": QuantType.QInt8, "scale": step, "zero_point": 0} for step in steps]
            for name, steps in self.weights.items()
        }


def plan_levels(model: ModelProto, *, reduce_range: bool = False) -> Plan:
    """Find the activations of a folded graph that are rounded to at most 127 levels, and plan for them, in place.

    The operators that round are taken out, codes do it, and biases are moved. A Clip stays where it is not a layer or a sum that makes what
    it clips. More levels are those of UINT8 itself, as for any other activation.
    """
    plan = Plan(levels=_take_levels(model), largest=REDUCED if reduce_range else INT8)
    if plan.levels:
        _Planner(model, plan).fill()
    return plan


def finish_levels(model: ModelProto, plan: Plan) -> None:
    """Put what `quantize_static` cannot write into its result, in place: codes clipped at L, and ConvInteger."""
    if not plan.levels:
        return
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    quantized = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        bare = next((name for name in node.output if name in plan.levels and name not in quantized), None)
        if bare is not None:
            node.output[list(node.output).index(bare)] = f"{bare}_unrounded"
        nodes.append(node)
        if bare is not None:
            nodes += _pair(bare, plan.levels[bare], stored)
        elif node.op_type == "QuantizeLinear" and node.input[0] in plan.levels:
            nodes.append(_clipped(node, plan.levels[node.input[0]], stored))
    makers = {name: node for node in nodes for name in node.output}
    nodes = [part for node in nodes for part in (_in_integers(node, makers, stored, plan) if node.name in plan.summed else (node,))]
    read = {name for node in nodes for name in node.input} | {value.name for value in model.graph.output}
    _replace(model, (node for node in nodes if not read.isdisjoint(node.output)), stored)


def _take_levels(model: ModelProto) -> dict[str, int]:
    """Take out what rounds to levels: tensor -> L, of the tensors that it made."""
    graph = _Graph(model)
    levels: dict[str, int] = {}
    dropped: set[int] = set()
    for clip in graph.nodes:
        chain = graph.chain(clip)
        count = _count(chain, graph) if clip.op_type == "Clip" else None
        if count is None:
            continue
        name, maker = chain[-1].output[0], graph.makers.get(clip.input[0])
        levels[name] = count
        if maker is not None and maker.op_type in MAKERS and graph.only_reader(clip.input[0]) is not None:
            maker.output[list(maker.output).index(clip.input[0])] = name
            dropped |= set(map(id, chain))
        else:
            clip.output[0] = name
            dropped |= set(map(id, chain[1:]))
    if levels:
        _replace(model, (node for node in graph.nodes if id(node) not in dropped), graph.stored)
    return levels


def _count(chain: Sequence[NodeProto], graph: _Graph) -> int | None:
    """L of clip(x, 0, 1) and what follows it, if that is all: Round (of one level), or Mul, Round, Div."""
    clip, *after = chain
    if [graph.number(name) for name in clip.input[1:]] != [0, 1]:
        return None
    if [node.op_type for node in after] == ["Round"]:
        return 1
    if len(after) < 3:
        return None
    multiply, _, divide = after
    factors, count = {graph.number(name) for name in multiply.input} - {None}, graph.number(divide.input[1])
    return int(count) if count is not None and factors == {count} and count == int(count) and 1 <= count <= INT8 else None


class _Graph:
    """Who makes and who reads a tensor."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.readers[name].append(node)
        self.results = {value.name for value in model.graph.output}

    def only_reader(self, name: str) -> NodeProto | None:
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name not in self.results else None

    def chain(self, clip: NodeProto) -> list[NodeProto]:
        """A node with the Round, or the Mul, Round and Div, that alone read what is before them."""
        found = [clip]
        for operator in ("Mul", "Round", "Div"):
            reader = self.only_reader(found[-1].output[0])
            if reader is not None and reader.op_type == operator:
                found.append(reader)
            elif operator != "Mul":
                break
        return found

    def number(self, name: str) -> float | None:
        """A stored scalar."""
        tensor = self.stored.get(name)
        return None if tensor is None or tensor.dims not in ([], [1]) else float(numpy_helper.to_array(tensor).reshape(()))

    def floats(self, name: str) -> NDArray[np.float32]:
        values: NDArray[np.float32] = numpy_helper.to_array(self.stored[name])
        return values


class _Planner:
    def __init__(self, model: ModelProto, plan: Plan) -> None:
        self.model, self.graph, self.plan = model, _Graph(model), plan
        self.levels = dict(plan.levels)
        for node in self.graph.nodes:
            if node.op_type == "MaxPool" and node.input[0] in self.levels:
                self.levels[node.output[0]] = self.levels[node.input[0]]
        self.borders: dict[str, NDArray[np.float64]] = {}  # of the level behind it, by a convolution's output

    def fill(self) -> None:
        for node in self.graph.nodes:
            node.name = node.name or node.output[0]  # quantize_static leaves nodes alone by their names
        self.plan.floating = {node.name for node in _ends(self.graph.nodes)}
        self.plan.floating |= {node.name for node in self.graph.nodes if node.op_type == "Clip" and node.output[0] in self.plan.levels}
        self.plan.ranges = {name: (np.float32(0), np.float32(UINT8 / count)) for name, count in self.plan.levels.items()}
        for name, count in self.plan.levels.items():
            self._before(name, count)
        for node in self.graph.nodes:
            if self._is_convolution(node):
                self._layer(node)

    def _before(self, name: str, count: int) -> None:
        """What is rounded to levels: a convolution, or the sum of two branches."""
        node = self.graph.makers[name]
        if self._is_convolution(node):
            self.borders[name] = (np.arange(count) + 0.5) / count
        elif node.op_type == "Add":
            branches = [side for side in node.input if self._is_branch(side)]
            same = [side for side in node.input if self.levels.get(side) == count]
            if len(branches) == 2:
                self.plan.summed |= {self.graph.makers[side].name for side in branches}
                self.plan.floating |= {node.name, *self.plan.summed}
            elif branches and same:
                self.plan.ranges[branches[0]] = branch_range(count)
                self.borders[branches[0]] = (np.arange(-count, count) + 0.5) / count

    def _is_branch(self, name: str) -> bool:
        """Whether a convolution of codes makes this tensor, for one reader."""
        return name in self.graph.makers and self._is_convolution(self.graph.makers[name]) and self.graph.only_reader(name) is not None

    def _is_convolution(self, node: NodeProto) -> bool:
        """Whether a node is a convolution of codes that does not stay in float."""
        stored = all(name in self.graph.stored for name in node.input[1:])
        return node.op_type == "Conv" and stored and node.input[0] in self.levels and node.name not in self.plan.floating

    def _layer(self, node: NodeProto) -> None:
        """The steps of a convolution's weights, and its bias."""
        weight = self.graph.floats(node.input[1])
        steps = weight_steps(weight, self.plan.largest)
        self.plan.weights[node.input[1]] = steps
        if len(node.input) > 2 and node.output[0] in self.borders:
            units = np.gcd.reduce(np.abs(codes(weight, steps)).reshape(len(weight), -1), axis=1)
            sums = steps.astype(np.float64) / self.levels[node.input[0]]
            moved = settled_biases(self.graph.floats(node.input[2]), sums, units, self.borders[node.output[0]])
            node.input[2] = f"{node.output[0]}_bias"  # of its own: one tensor may serve two layers
            self.model.graph.initializer.append(numpy_helper.from_array(moved, node.input[2]))


def _ends(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """The layers that no other layer comes before, and those that none comes behind."""
    found = []
    for order, sources, results in ((nodes, "input", "output"), (nodes[::-1], "output", "input")):
        passed: set[str] = set()
        for node in order:
            between = not passed.isdisjoint(getattr(node, sources))
            if node.op_type in LAYERS and not between:
                found.append(node)
            if between or node.op_type in LAYERS:
                passed.update(getattr(node, results))
    return found


def _pair(name: str, count: int, stored: dict[str, TensorProto]) -> Iterator[NodeProto]:
    """The codes of a tensor that no integer kernel makes or reads, and back."""
    scale, zero = _store(f"{name}_scale", np.float32(1 / count), stored), _store(f"{name}_zero_point", np.uint8(0), stored)
    quantize = helper.make_node("QuantizeLinear", [f"{name}_unrounded", scale, zero], [f"{name}_codes"], f"{name}_QuantizeLinear")
    clip = _clipped(quantize, count, stored)
    yield from (quantize, clip)
    yield helper.make_node("DequantizeLinear", [clip.output[0], scale, zero], [name], f"{name}_DequantizeLinear")


def _clipped(quantize: NodeProto, count: int, stored: dict[str, TensorProto]) -> NodeProto:
    """What takes a QuantizeLinear's place: its codes, clipped at L."""
    name = quantize.output[0]
    quantize.output[0] = f"{name}_unclipped"
    return helper.make_node("Clip", [quantize.output[0], "", _store(f"levels_{count}", np.uint8(count), stored)], [name], f"{name}_Clip")


def _in_integers(conv: NodeProto, makers: dict[str, NodeProto], stored: dict[str, TensorProto], plan: Plan) -> Iterator[NodeProto]:
    """A convolution as int32 sums, scaled and moved in float."""
    name, dequantize = conv.output[0], makers[conv.input[0]]
    weight: NDArray[np.float32] = numpy_helper.to_array(stored[conv.input[1]])
    steps, along = weight_steps(weight, plan.largest), (-1, *[1] * (weight.ndim - 2))
    step: NDArray[np.float32] = numpy_helper.to_array(stored[dequantize.input[1]])
    moved = (codes(weight, steps) + ZERO).astype(np.uint8)
    inputs = [
        dequantize.input[0],
        _store(f"{name}_weight_quantized", moved, stored),
        dequantize.input[2],
        _store(f"{name}_weight_zero_point", np.uint8(ZERO), stored),
    ]
    sums = helper.make_node("ConvInteger", inputs, [f"{name}_sums"], conv.name)
    sums.attribute.extend(conv.attribute)
    yield sums
    yield helper.make_node("Cast", [f"{name}_sums"], [f"{name}_float"], f"{name}_Cast", to=TensorProto.FLOAT)
    scaled = name if len(conv.input) == 2 else f"{name}_scaled"
    yield helper.make_node("Mul", [f"{name}_float", _store(f"{name}_step", (steps * step).reshape(along), stored)], [scaled], f"{name}_Mul")
    if len(conv.input) > 2:
        bias: NDArray[np.float32] = numpy_helper.to_array(stored[conv.input[2]])
        yield helper.make_node("Add", [scaled, _store(f"{name}_bias", bias.reshape(along), stored)], [name], f"{name}_Add")


def _store(name: str, value: NDArray[np.generic] | np.generic, stored: dict[str, TensorProto]) -> str:
    stored[name] = numpy_helper.from_array(np.asarray(value), name)
    return name


def _replace(model: ModelProto, nodes: Iterable[NodeProto], stored: dict[str, TensorProto]) -> None:
    """Give a graph these nodes, and of the stored tensors those that they read."""
    kept = []
    for node in nodes:  # copies: deleting a graph's nodes empties those that Python still holds
        copy = NodeProto()
        copy.CopyFrom(node)
        kept.append(copy)
    used = {name for node in kept for name in node.input}
    tensors = [tensor for name, tensor in stored.items() if name in used]
    graph = model.graph
    for part, values in ((graph.node, kept), (graph.initializer, [TensorProto.FromString(t.SerializeToString()) for t in tensors])):
        del part[:]
        part.extend(values)
