"""Where Q/DQ pairs stand for TensorRT: properties that hold for every graph, checked on networks that hypothesis puts together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from export.calibration import Calibration
from export.placement import MIN_CHANNELS
from export.session import open_session
from export.trt_int8 import quantize_trt_int8

SIDE = 4
IMAGES = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


class Net:
    """Writes ONNX, layer by layer. Every method takes and returns the name of a tensor."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[NodeProto] = []
        self.stored: list[TensorProto] = []
        self.channels = {"images": 3}

    def node(self, kind: str, *inputs: str, channels: int, **attributes: object) -> str:
        output = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], f"node_{output}", **attributes))
        self.channels[output] = channels
        return output

    def weight(self, *shape: int) -> str:
        name = f"weight{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(self.rng.normal(size=shape).astype(np.float32), name))
        return name

    def conv(self, x: str, channels: int = 16, groups: int = 1) -> str:
        weights = self.weight(channels, self.channels[x] // groups, 3, 3), self.weight(channels)
        return self.node("Conv", x, *weights, channels=channels, pads=[1] * 4, group=groups)

    def relu(self, x: str) -> str:
        return self.node("Relu", x, channels=self.channels[x])

    def pool(self, x: str) -> str:
        return self.node("MaxPool", x, channels=self.channels[x], kernel_shape=[3, 3], pads=[1] * 4)

    def add(self, x: str, y: str) -> str:
        return self.node("Add", x, y, channels=self.channels[x])

    def concat(self, *parts: str) -> str:
        return self.node("Concat", *parts, channels=sum(self.channels[part] for part in parts), axis=1)

    def residual(self, x: str) -> str:
        return self.relu(self.add(self.conv(self.relu(self.conv(x)), self.channels[x]), x))

    def shortcut(self, x: str) -> str:
        """Both sides end in a convolution; the shortcut's comes last in the graph and first in the sum."""
        main, short = self.conv(self.relu(self.conv(x)), 24), self.conv(x, 24)
        return self.relu(self.add(short, main))

    def depthwise(self, x: str) -> str:
        return self.relu(self.conv(x, self.channels[x], groups=self.channels[x]))

    def narrow(self, x: str) -> str:
        """Squeezed to eight channels and back."""
        return self.relu(self.conv(self.conv(x, 8), 16))

    def fire(self, x: str) -> str:
        """SqueezeNet's: a concatenation, and a pool before the next layer."""
        return self.pool(self.concat(self.relu(self.conv(x)), self.relu(self.conv(x))))

    def dense(self, x: str) -> str:
        """DenseNet's, without norm: concatenations of concatenations."""
        once = self.concat(x, self.relu(self.conv(x)))
        return self.concat(once, self.relu(self.conv(once)))

    def plain(self, x: str) -> str:
        return self.relu(self.conv(x))

    def model(self, x: str) -> ModelProto:
        pooled = self.node("GlobalAveragePool", x, channels=self.channels[x])
        flat = self.node("Flatten", pooled, channels=self.channels[x])
        self.nodes.append(helper.make_node("Gemm", [flat, self.weight(5, self.channels[x]), self.weight(5)], ["logits"], "head", transB=1))
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, "net",
            [value("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])], [value("logits", TensorProto.FLOAT, ["batch", 5])], self.stored,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


BLOCKS: dict[str, Callable[[Net, str], str]] = {
    name: getattr(Net, name) for name in ("plain", "residual", "shortcut", "depthwise", "narrow", "fire", "dense", "pool")
}


def network(*blocks: str) -> ModelProto:
    """A stem of 16 channels, the blocks, a linear head."""
    net = Net()
    x = net.plain("images")
    for name in blocks:
        x = BLOCKS[name](net, x)
    return net.model(x)


def quantized(*blocks: str) -> Graph:
    return Graph(quantize_trt_int8(network(*blocks), Calibration(IMAGES, "minmax"), half=False))


class Graph:
    """A quantized graph to ask questions of."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def of(self, *kinds: str) -> list[NodeProto]:
        return [node for node in self.nodes if node.op_type in kinds]

    def is_pair(self, name: str) -> bool:
        return name in self.maker and self.maker[name].op_type == "DequantizeLinear"

    def scale(self, name: str) -> NDArray[np.float32]:
        return self.stored[self.maker[name].input[1]]

    def weight(self, layer: NodeProto) -> NDArray[np.generic]:
        name = layer.input[1]
        return self.stored[self.maker[name].input[0] if self.is_pair(name) else name]

    def is_wide(self, layer: NodeProto) -> bool:
        groups = next((a.i for a in layer.attribute if a.name == "group"), 1)
        return layer.op_type != "Conv" or self.weight(layer).shape[1] * groups >= MIN_CHANNELS

    def behind_pools(self, name: str) -> NodeProto | None:
        while name in self.maker and self.maker[name].op_type == "MaxPool":
            name = self.maker[name].input[0]
        return self.maker.get(name)


def check_types(graph: Graph) -> None:
    """INT8, zero points of 0, positive stored scales; activations per tensor, weights per output channel; one pair per tensor."""
    sources = []
    for node in graph.of("QuantizeLinear"):
        scale, zero = (graph.stored[name] for name in node.input[1:])
        assert (scale.shape, zero.shape, zero.dtype) == ((), (), np.int8)
        assert scale > 0 and zero == 0
        assert [reader.op_type for reader in graph.readers[node.output[0]]] == ["DequantizeLinear"]
        assert node.input[0] not in graph.stored
        sources.append(node.input[0])
    assert len(sources) == len(set(sources))
    for node in graph.of("DequantizeLinear"):
        if node.input[0] in graph.stored:
            weight, scale, zero = (graph.stored[name] for name in node.input)
            axis = next(a.i for a in node.attribute if a.name == "axis")
            assert weight.dtype == zero.dtype == np.int8
            assert scale.shape == zero.shape == (weight.shape[axis],)
            assert (scale > 0).all()
            assert not zero.any()
            assert np.abs(np.moveaxis(weight, axis, 0).reshape(len(scale), -1).astype(int)).max(axis=1).tolist() == [127] * len(scale)
        else:
            quantizer = graph.maker[node.input[0]]
            assert list(quantizer.input[1:]) == list(node.input[1:])


def check_layers(graph: Graph) -> None:
    """Wide layers read two pairs, narrow ones none; the bias is float; nothing is quantized right behind a layer that a sum follows."""
    for layer in graph.of("Conv", "Gemm"):
        assert [graph.is_pair(name) for name in layer.input[:2]] == [graph.is_wide(layer)] * 2
        assert graph.stored[layer.input[2]].dtype == np.float32


def check_sums(graph: Graph) -> None:
    """The side of the deepest quantized layer is float, the other a pair."""
    for node in graph.of("Add"):
        pairs = [graph.is_pair(name) for name in node.input]
        layers = [
            name in graph.maker
            and graph.maker[name].op_type == "Conv"
            and graph.is_wide(graph.maker[name])
            and len(graph.readers[name]) == 1
            for name in node.input
        ]
        assert sum(pairs) == any(layers)
        if any(pairs):
            assert layers[pairs.index(False)]


def check_concats(graph: Graph) -> None:
    """A quantized tensor out of a Concat, perhaps through pools, has the one scale of all that was joined."""
    for node in graph.of("QuantizeLinear"):
        source = graph.behind_pools(node.input[0])
        if source is not None and source.op_type == "Concat":
            assert all(graph.is_pair(name) for name in source.input)
            assert {float(graph.scale(name)) for name in source.input} == {float(graph.stored[node.input[1]])}


CHECKS = (check_types, check_layers, check_sums, check_concats)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=4))
def test_every_network(blocks: list[str]) -> None:
    graph = quantized(*blocks)
    checker.check_model(graph.model, full_check=True)
    assert next(entry.version for entry in graph.model.opset_import if entry.domain == "") >= 13
    for check in CHECKS:
        check(graph)
    x = np.random.default_rng(0).random((2, 3, SIDE, SIDE), np.float32)
    assert np.isfinite(open_session(graph.model, optimise=False).run(None, {"images": x})[0]).all()


@pytest.mark.parametrize(("block", "pairs"), [("plain", 2), ("residual", 3), ("shortcut", 4), ("depthwise", 2), ("narrow", 2), ("fire", 2)])
def test_number_of_pairs(block: str, pairs: int) -> None:
    """Counted by hand, the head's one included. An identity skip shares the pair of the convolution that reads it."""
    assert len(quantized(block).of("QuantizeLinear")) == pairs


def test_the_image_s_own_layer_stays_float() -> None:
    graph = quantized("plain")
    first, second, head = graph.of("Conv", "Gemm")
    assert [graph.is_pair(layer.input[0]) for layer in (first, second, head)] == [False, True, True]


def test_of_two_convolutions_at_a_sum_the_shortcut_s_is_quantized() -> None:
    """It is the skip side, wherever it stands in the graph or the sum."""
    graph = quantized("shortcut")
    (node,) = graph.of("Add")
    assert [graph.is_pair(name) for name in node.input] == [True, False]


def test_dense_concatenations_have_one_scale() -> None:
    """All that flows into a concatenation of concatenations is one group."""
    graph = quantized("dense", "plain")
    scales = [float(graph.scale(name)) for node in graph.of("Concat") for name in node.input]
    assert len(scales) == 4
    assert len(set(scales)) == 1


def test_the_graph_is_that_of_the_file() -> None:
    """Nothing is added or lost but Q/DQ."""
    before, after = (network("residual", "fire"), quantized("residual", "fire"))
    added = ("QuantizeLinear", "DequantizeLinear")
    assert [n.op_type for n in after.nodes if n.op_type not in added] == [n.op_type for n in before.graph.node]
