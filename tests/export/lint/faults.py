"""One planted fault for each rule: a real exported file, changed in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Exported = dict[str, ModelProto]


@dataclass(frozen=True)
class Fault:
    """A fault: which file it starts from, what is changed, and whether the file claims sparsity."""

    base: str
    plant: Callable[[Graph], None]
    sparse: bool = False

    def planted(self, exported: Exported) -> ModelProto:
        model = ModelProto()
        model.CopyFrom(exported[self.base])
        self.plant(Graph(model))
        return model


class Graph:
    """A graph being changed."""

    def __init__(self, model: ModelProto) -> None:
        self.model, self.graph = model, model.graph

    def layers(self, operator: str = "Conv") -> list[NodeProto]:
        return [node for node in self.graph.node if node.op_type == operator]

    def maker(self, name: str) -> NodeProto:
        return next(node for node in self.graph.node if name in node.output)

    def quantized_layer(self) -> NodeProto:
        """The first convolution with quantized inputs."""
        dequantized = {node.output[0] for node in self.graph.node if node.op_type == "DequantizeLinear"}
        return next(node for node in self.layers() if node.input[1] in dequantized)

    def pair(self, name: str) -> tuple[NodeProto, NodeProto]:
        """(QuantizeLinear, DequantizeLinear) that a tensor comes from."""
        dequantize = self.maker(name)
        return self.maker(dequantize.input[0]), dequantize

    def store(self, name: str, value: NDArray[np.generic] | np.generic, kind: int | None = None) -> str:
        tensor = numpy_helper.from_array(np.asarray(value), name)
        if kind is not None:
            tensor = helper.make_tensor(name, kind, np.shape(value), np.asarray(value, np.float32).ravel().tolist())
        self.graph.initializer.append(tensor)
        return name

    def value(self, name: str) -> NDArray[np.generic]:
        return numpy_helper.to_array(next(tensor for tensor in self.graph.initializer if tensor.name == name))

    def replace(self, name: str, value: NDArray[np.generic]) -> None:
        next(tensor for tensor in self.graph.initializer if tensor.name == name).CopyFrom(numpy_helper.from_array(value, name))

    def insert(self, before: NodeProto, *nodes: NodeProto) -> None:
        place = next(index for index, node in enumerate(self.graph.node) if node.name == before.name)
        for offset, node in enumerate(nodes):
            self.graph.node.insert(place + offset, node)

    def set(self, node: NodeProto, **attributes: object) -> None:
        for name, value in attributes.items():
            for index, old in enumerate(node.attribute):
                if old.name == name:
                    del node.attribute[index]
                    break
            node.attribute.append(helper.make_attribute(name, value))

    def before_output(self, operator: str, *, domain: str = "", after: str = "", **attributes: object) -> NodeProto:
        """A new node between the last one and the output; `after` casts its result back to float."""
        last, output = self.graph.node[-1], self.graph.output[0].name
        last.output[0] = "planted_in"
        made = "planted_out" if after else output
        node = helper.make_node(operator, ["planted_in"], [made], name="planted", domain=domain, **attributes)
        self.graph.node.append(node)
        if after:
            self.graph.node.append(helper.make_node(after, [made], [output], name="planted_after", to=TensorProto.FLOAT))
        return self.graph.node[-2] if after else self.graph.node[-1]


def rescale(g: Graph, name: str, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> None:
    """Another scale for the pair behind one input of a node."""
    quantize, dequantize = g.pair(name)
    scale = g.store("planted_scale", change(g.value(quantize.input[1])))
    quantize.input[1] = dequantize.input[1] = scale


def weights(g: Graph) -> NodeProto:
    return g.maker(g.quantized_layer().input[1])


def activation(g: Graph) -> tuple[NodeProto, NodeProto]:
    return g.pair(g.quantized_layer().input[0])


def zero_point(g: Graph) -> None:
    for node in activation(g):
        node.input[2] = "planted_zero"
    g.store("planted_zero", np.int8(3))


def unsigned_weights(g: Graph) -> None:
    node = weights(g)
    g.replace(node.input[0], np.abs(g.value(node.input[0])).astype(np.uint8))
    g.replace(node.input[2], g.value(node.input[2]).astype(np.uint8))


def integer_bias(g: Graph) -> None:
    layer = g.quantized_layer()
    bias, scale = g.store("planted_bias", np.ones(16, np.int32)), g.store("planted_scale", np.full(16, 1e-3, np.float32))
    g.insert(layer, helper.make_node("DequantizeLinear", [bias, scale], ["planted_float"], name="planted", axis=0))
    layer.input[2] = "planted_float"


def quantized_type(kind: int) -> Callable[[Graph], None]:
    def plant(g: Graph) -> None:
        g.model.opset_import[0].version = 21
        for node in activation(g):
            node.input[2] = "planted_zero"
        g.store("planted_zero", np.float32(0), kind)

    return plant


def computed_scale(g: Graph) -> None:
    quantize, dequantize = activation(g)
    quantize.input[1] = dequantize.input[1] = "planted_scale"
    g.insert(quantize, helper.make_node("ReduceMax", [quantize.input[0]], ["planted_scale"], name="planted", keepdims=0))


def short_scales(g: Graph) -> None:
    node = weights(g)
    for name in node.input[1:3]:
        g.replace(name, g.value(name)[:-1])


def half_quantized(g: Graph) -> None:
    layer = g.quantized_layer()
    layer.input[0] = g.pair(layer.input[0])[0].input[0]


def float_layer(g: Graph) -> None:
    layer = g.layers()[-1]
    layer.input[0] = g.pair(layer.input[0])[0].input[0]
    node = g.maker(layer.input[1])
    scale = g.value(node.input[1]).reshape(-1, 1, 1, 1)
    layer.input[1] = g.store("planted_weight", g.value(node.input[0]).astype(np.float32) * scale)


def both_sides(g: Graph) -> None:
    add = next(node for node in g.layers("Add"))
    side = next(index for index, name in enumerate(add.input) if g.maker(name).op_type == "Conv")
    name = add.input[side]
    scale, zero = g.store("planted_scale", np.float32(0.01)), g.store("planted_zero", np.int8(0))
    g.insert(
        add,
        helper.make_node("QuantizeLinear", [name, scale, zero], ["planted_q"], name="planted_q"),
        helper.make_node("DequantizeLinear", ["planted_q", scale, zero], ["planted_d"], name="planted_d"),
    )
    add.input[side] = "planted_d"


def weight_axis(g: Graph) -> None:
    node = weights(g)
    g.set(node, axis=1)


def channel_scales(g: Graph) -> None:
    quantize, dequantize = activation(g)
    scale = g.store("planted_scale", np.full(16, 0.02, np.float32))
    zero = g.store("planted_zero", np.zeros(16, np.int8))
    for node in (quantize, dequantize):
        node.input[1], node.input[2] = scale, zero
        g.set(node, axis=1)


def narrow(g: Graph) -> None:
    """The first convolution, of 3 channels, quantized like the others."""
    stem = g.layers()[0]
    scale, zero = g.store("planted_scale", np.float32(0.01)), g.store("planted_zero", np.int8(0))
    g.store("planted_weight", np.ones((16, 3, 3, 3), np.int8))
    pair = ("planted_q", "planted_d")
    g.insert(
        stem,
        helper.make_node("QuantizeLinear", [stem.input[0], scale, zero], [pair[0]], name=pair[0]),
        helper.make_node("DequantizeLinear", [pair[0], scale, zero], [pair[1]], name=pair[1]),
        helper.make_node("DequantizeLinear", ["planted_weight", scale, zero], ["planted_w"], name="planted_w"),
    )
    stem.input[0], stem.input[1] = pair[1], "planted_w"


def prune(g: Graph) -> None:
    """2:4 along the input channels of every quantized convolution: the two of four with the smallest magnitude become 0."""
    for node in g.layers():
        maker = g.maker(node.input[1]) if node.input[1] not in {tensor.name for tensor in g.graph.initializer} else None
        if maker is not None:
            weight = np.moveaxis(g.value(maker.input[0]), 1, -1).copy()
            groups = weight.reshape(-1, 4)
            np.put_along_axis(groups, np.argsort(np.abs(groups.astype(int)), axis=1)[:, :2], 0, axis=1)
            g.replace(maker.input[0], np.ascontiguousarray(np.moveaxis(weight, -1, 1)))


def holes(g: Graph) -> None:
    """One group of four with four non-zeros in an otherwise 2:4 network."""
    prune(g)
    node = weights(g)
    weight = g.value(node.input[0]).copy()
    weight[0, :4, 0, 0] = 1
    g.replace(node.input[0], weight)


def dense(g: Graph) -> None:
    prune(g)
    node = weights(g)
    g.replace(node.input[0], np.full_like(g.value(node.input[0]), 5))


def wrong_shape(g: Graph) -> None:
    """A declared shape that its node does not make."""
    name = g.layers()[0].output[0]
    for value in [value for value in g.graph.value_info if value.name == name]:
        g.graph.value_info.remove(value)
    g.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 17, 12, 8]))


def old_opset(g: Graph) -> None:
    g.model.opset_import[0].version = 8


def free_height(g: Graph) -> None:
    g.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def double_input(g: Graph) -> None:
    name = g.graph.input[0].name
    g.graph.input[0].name = "planted"
    g.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    g.graph.node.insert(0, helper.make_node("Cast", ["planted"], [name], name="planted_cast", to=TensorProto.FLOAT))


def shape_input(g: Graph) -> None:
    g.graph.input.append(helper.make_tensor_value_info("planted_shape", TensorProto.INT64, [2]))
    g.before_output("Reshape").input.append("planted_shape")


def second_output(g: Graph) -> None:
    g.graph.output.append(helper.make_tensor_value_info(g.layers()[0].output[0], TensorProto.FLOAT, None))


def dilated_pool(g: Graph) -> None:
    name = g.graph.input[0].name
    first = next(node for node in g.graph.node if name in node.input)
    g.insert(
        first,
        helper.make_node("MaxPool", [name], ["planted"], name="planted_pool", kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 1, 1, 1]),
    )
    first.input[0] = "planted"


def axes_input(g: Graph) -> None:
    node = g.layers("ReduceMean")[0]
    g.graph.input.append(helper.make_tensor_value_info("planted_axes", TensorProto.INT64, [2]))
    node.input[1] = "planted_axes"


def byte_sum(g: Graph) -> None:
    node = g.before_output("Cast", after="Cast", to=TensorProto.UINT8)
    g.insert(g.graph.node[-1], helper.make_node("Add", [node.output[0]] * 2, ["planted_sum"], name="planted_add"))
    g.graph.node[-1].input[0] = "planted_sum"


def swish(g: Graph) -> None:
    g.model.opset_import[0].version = 24
    g.before_output("Swish")


def foreign(g: Graph) -> None:
    g.model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    g.before_output("Gelu", domain="com.microsoft")


def non_zero(g: Graph) -> None:
    g.before_output("NonZero", after="Cast")


def int16(g: Graph) -> None:
    g.before_output("Cast", after="Cast", to=TensorProto.INT16)


# -- onnxruntime ---------------------------------------------------------------------------------------------------------------------


def new_ir(g: Graph) -> None:
    g.model.ir_version = 99


def no_kernel(g: Graph) -> None:
    """Standard, and without a kernel for this type on the CPU."""
    g.before_output("Cast", after="Cast", to=TensorProto.INT16)
    g.insert(g.graph.node[-1], helper.make_node("Max", ["planted_out"] * 2, ["planted_max"], name="planted_max"))
    g.graph.node[-1].input[0] = "planted_max"


def conv_behind_pair(g: Graph) -> NodeProto:
    return g.layers()[0]


def readers(g: Graph, name: str) -> list[NodeProto]:
    return [node for node in g.graph.node if name in node.input]


def float_output(g: Graph) -> None:
    """The pair behind a convolution is taken out."""
    quantize = readers(g, conv_behind_pair(g).output[0])[0]
    dequantize = readers(g, quantize.output[0])[0]
    for node in readers(g, dequantize.output[0]):
        node.input[:] = [quantize.input[0] if name == dequantize.output[0] else name for name in node.input]


def symmetric_relu(g: Graph) -> None:
    """A Relu behind a convolution whose quantization starts below zero."""
    layer = conv_behind_pair(g)
    quantize = readers(g, layer.output[0])[0]
    g.insert(quantize, helper.make_node("Relu", [layer.output[0]], ["planted_relu"], name="planted"))
    quantize.input[0] = "planted_relu"
    dequantize = readers(g, quantize.output[0])[0]
    zero = g.store("planted_zero", np.uint8(128))
    quantize.input[2] = dequantize.input[2] = zero


def float_bias(g: Graph) -> None:
    gemm = g.layers("Gemm")[0]
    gemm.input[2] = g.store("planted_bias", np.zeros(5, np.float32))
    quantize = next((node for node in readers(g, gemm.output[0]) if node.op_type == "QuantizeLinear"), None)
    if quantize is not None:
        output = g.graph.output[0].name
        kept = [node for node in g.graph.node if node.name not in (quantize.name, readers(g, quantize.output[0])[0].name)]
        del g.graph.node[:]
        g.graph.node.extend(kept)
        g.layers("Gemm")[0].output[0] = output


def half_sum(g: Graph) -> None:
    add = g.layers("Add")[0]
    add.input[0] = g.pair(add.input[0])[0].input[0]


def float_layer_ort(g: Graph) -> None:
    """A convolution with stored float weights, on a tensor before its pair."""
    layer = g.layers()[-1]
    layer.input[0] = g.pair(layer.input[0])[0].input[0]
    layer.input[1] = g.store("planted_weight", np.zeros((32, 32, 3, 3), np.float32))


def full_range(g: Graph) -> None:
    node = weights(g)
    g.replace(node.input[0], np.full_like(g.value(node.input[0]), 127))


FAULTS: dict[str, Fault] = {
    "TRT000": Fault("fp32", wrong_shape),
    "ORT000": Fault("fp32", wrong_shape),
    "TRT001": Fault("trt", zero_point),
    "TRT002": Fault("trt", unsigned_weights),
    "TRT003": Fault("trt", integer_bias),
    "TRT004": Fault("trt", quantized_type(TensorProto.INT16)),
    "TRT005": Fault("trt", quantized_type(TensorProto.FLOAT8E4M3FN)),
    "TRT006": Fault("trt", computed_scale),
    "TRT007": Fault("trt", lambda g: rescale(g, g.quantized_layer().input[0], np.negative)),
    "TRT008": Fault("trt", short_scales),
    "TRT020": Fault("trt", half_quantized),
    "TRT021": Fault("trt", float_layer),
    "TRT022": Fault("trt", both_sides),
    "TRT023": Fault("trt", lambda g: rescale(g, g.layers("Concat")[0].input[0], lambda scale: scale * np.float32(2))),
    "TRT024": Fault("trt", weight_axis),
    "TRT025": Fault("trt", channel_scales),
    "TRT026": Fault("trt", narrow),
    "TRT030": Fault("trt", holes, sparse=True),
    "TRT031": Fault("trt", dense, sparse=True),
    "TRT032": Fault("trt", prune, sparse=True),
    "TRT040": Fault("fp32", old_opset),
    "TRT041": Fault("fp32", free_height),
    "TRT042": Fault("fp32", int16),
    "TRT043": Fault("fp32", double_input),
    "TRT044": Fault("fp32", shape_input),
    "TRT045": Fault("fp32", second_output),
    "TRT050": Fault("fp32", lambda g: void(g.before_output("Det"))),
    "TRT051": Fault("fp32", non_zero),
    "TRT052": Fault("fp32", foreign),
    "TRT053": Fault("fp32", swish),
    "TRT054": Fault("fp32", dilated_pool),
    "TRT055": Fault("fp32", axes_input),
    "TRT056": Fault("fp32", byte_sum),
    "ORT001": Fault("fp32", new_ir),
    "ORT002": Fault("fp32", lambda g: void(g.before_output("NoSuchOperator"))),
    "ORT003": Fault("ort", lambda g: rescale(g, g.layers()[1].input[0], np.negative)),
    "ORT004": Fault("fp32", no_kernel),
    "ORT010": Fault("ort", float_output),
    "ORT011": Fault("ort", symmetric_relu),
    "ORT012": Fault("ort", float_bias),
    "ORT013": Fault("ort", half_quantized),
    "ORT014": Fault("ort", half_sum),
    "ORT015": Fault("ort", computed_scale),
    "ORT016": Fault("ort", float_layer_ort),
    "ORT020": Fault("ort", full_range),
}


def void(_: object) -> None:
    """The value of a plant that is one expression."""
