"""Half precision with explicit types: float32 in and out, float16 between, and the input's normalisation in float32.

Own code because onnxruntime's converter (1.32) rounds the input to float16 before the nodes that are to stay in float32, and leaves the
graph out of order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.calibration import Calibration
from export.checked import all_nodes, all_tensors
from export.errors import ExportError
from export.folded import folded
from export.onnx import strip
from export.session import first_line

LARGEST = float(np.finfo(np.float16).max)
HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
MASKING = frozenset({"Add", "Where"})  # whose low numbers keep an attention from what it must not see
LOWEST = -3e38  # float32's own, as exporters write it, or -infinity
MASKED = -LARGEST / 2  # a score that is added to it stays within the range
INSTEAD = "Use trt-fp32 or trt-int8-fp32."
LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "QuantizeLinear", "DequantizeLinear"})  # and where integers begin
FLOAT32_INPUTS = {("Resize", 2)}  # the scales, which ONNX has in float32 alone


def to_fp16(model: ModelProto, _: Calibration) -> ModelProto:
    """Convert a float32 graph; a strongly typed network follows these types to the letter.

    What lies before the first layer with weights stays in float32: near 1, float16 has steps of 1/2048, an eighth of a grey level, and
    normalisation would multiply that error.

    Raises:
        ExportError: a weight beyond float16's range (65,504), or an operator that has no float16 form.
    """
    return in_half(folded(model))


def in_half(model: ModelProto) -> ModelProto:
    """`to_fp16` of a graph that is folded already, or quantized: its integers stay, the scales that dequantize them become float16 too.

    The graph is changed in place; a quantized one is of opset 19 or later, the first with float16 pairs. Raises ExportError as `to_fp16`.
    """
    converted = strip(_Converter(model).convert())
    try:
        onnx.checker.check_model(converted, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"an operator of this network has no float16 form: {first_line(error)}. {INSTEAD}") from error
    return converted


def before_layers(graph: GraphProto) -> list[int]:
    """Positions of the nodes that no layer with weights comes before."""
    behind: set[str] = set()
    found = []
    for index, node in enumerate(graph.node):
        if node.op_type in LAYERS or behind.intersection(node.input):
            behind.update(node.output)
        else:
            found.append(index)
    return found


class _Converter:
    def __init__(self, model: ModelProto) -> None:
        self.model, self.graph = model, model.graph
        self.early = frozenset(before_layers(model.graph))
        self.stored = {tensor.name: tensor for tensor in self.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        known = (*inferred.input, *inferred.value_info)
        floats = {value.name for value in known if value.type.tensor_type.elem_type == TensorProto.FLOAT}
        made = {name for index in self.early for name in self.graph.node[index].output}
        self.single = floats & (made | {value.name for value in self.graph.input})
        self.added: dict[str, TensorProto] = {}
        self.cast: set[str] = set()

    def convert(self) -> ModelProto:
        nodes = [part for index, node in enumerate(self.graph.node) for part in self._converted(index, node)]
        nodes += self._outputs(nodes)
        del self.graph.node[:], self.graph.value_info[:]
        self.graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in (*self.graph.initializer, *self.added.values()) if tensor.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        return self.model

    def _converted(self, index: int, node: NodeProto) -> Iterator[NodeProto]:
        if index not in self.early:
            for place, name in enumerate(node.input):
                if name in self.single:
                    node.input[place] = _half(name)
                    if name not in self.cast:
                        self.cast.add(name)
                        yield _cast(name, _half(name), TensorProto.FLOAT16)
                elif name in self.stored and (node.op_type, place) not in FLOAT32_INPUTS:
                    node.input[place] = self._weight(self.stored[name], mask=node.op_type in MASKING)
            _change_attributes(node)
        yield node

    def _weight(self, tensor: TensorProto, *, mask: bool) -> str:
        """The name of a stored tensor in float16; in a `mask` the lowest number of float32, or -infinity, is a low number of float16."""
        if tensor.data_type != TensorProto.FLOAT:
            return tensor.name
        values = numpy_helper.to_array(tensor)
        if mask:
            values = np.where(values <= LOWEST, np.float32(MASKED), values)
        if (top := float(np.abs(values).max(initial=0))) > LARGEST:
            raise ExportError(f"weight '{tensor.name}' reaches {top:.3g}; float16 ends at {LARGEST:,.0f}. {INSTEAD}")
        self.added[tensor.name] = numpy_helper.from_array(values.astype(np.float16), _half(tensor.name))
        return _half(tensor.name)

    def _outputs(self, nodes: list[NodeProto]) -> Iterator[NodeProto]:
        """Back to float32, under the graph's own output names."""
        for value in self.graph.output:
            if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name not in self.single:
                for node in nodes:
                    for names in (node.input, node.output):
                        for place, name in enumerate(names):
                            if name == value.name:
                                names[place] = _half(name)
                yield _cast(_half(value.name), value.name, TensorProto.FLOAT)


def has_half(model: ModelProto) -> bool:
    """Whether a graph stores numbers in float16 or bfloat16, or computes in it."""
    bodies = (model.graph, *model.functions)
    casts = (node for body in bodies for node in all_nodes(body) if node.op_type == "Cast")
    made = (attribute.i for node in casts for attribute in node.attribute if attribute.name == "to")
    return any(tensor.data_type in HALVES for tensor in all_tensors(model)) or any(kind in HALVES for kind in made)


def widened(model: ModelProto) -> ModelProto:
    """A copy of a graph that computes in float32 what it computed in float16 or bfloat16, with the same weights.

    For gradients: below 6e-8 float16 has none, and of a confident network most lie there.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    for half in HALVES:
        for node in copy.graph.node:
            _change_attributes(node, half, TensorProto.FLOAT)
        for tensor in copy.graph.initializer:
            _retype(tensor, half, TensorProto.FLOAT)
    del copy.graph.value_info[:]
    return copy


def _change_attributes(node: NodeProto, old: int = TensorProto.FLOAT, new: int = TensorProto.FLOAT16) -> None:
    """Types that a node names itself: a Cast's target, a constant."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == old:
            attribute.i = new
        elif node.op_type in ("Constant", "ConstantOfShape"):
            _retype(attribute.t, old, new)


def _retype(tensor: TensorProto, old: int, new: int) -> None:
    if tensor.data_type == old:
        values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(new))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _half(name: str) -> str:
    return f"{name}_fp16"


def _cast(source: str, target: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], f"{target}_Cast", to=to)
