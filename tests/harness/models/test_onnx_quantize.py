"""A pair of QuantizeLinear and DequantizeLinear in one step: the bits of the two, their gradient, and only where they are a pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor

from harness.models.onnx_graph import OnnxGraph
from harness.models.onnx_quantize import LIMITS, dequantize, fake_quantize, quantize
from harness.models.straight import rounding_left_out
from harness.models.variants import QuantizedReLU

TYPES = {"int8": torch.int8, "uint8": torch.uint8, "int16": torch.int16, "uint16": torch.uint16}
AXIS = {"one scale": None, "a scale per channel": 1, "a scale per row": 2}


def pair(kind: str, axis: int | None, size: int) -> tuple[Tensor, Tensor]:
    """Scale and zero point; a scale of a third is exact nowhere."""
    count = 1 if axis is None else size
    scale = (torch.arange(count) + 1) / 300 if TYPES[kind].itemsize == 1 else (torch.arange(count) + 1) / 30000
    zero = (torch.arange(count) * 7 + 3).to(TYPES[kind])
    return (scale[0], zero[0]) if axis is None else (scale, zero)


@pytest.mark.parametrize("axis", AXIS)
@pytest.mark.parametrize("kind", TYPES)
def test_one_step_has_the_bits_and_the_gradient_of_the_two(kind: str, axis: str) -> None:
    place = AXIS[axis]
    x = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=torch.channels_last)
    scale, zero = pair(kind, place, x.shape[place or 0])
    halves = (torch.arange(6) + 0.5) * (scale if place is None else scale.max())  # ties, rounded to even
    x[0, 0, 0] = halves
    attributes: dict[str, Any] = {} if place is None else {"axis": place}
    results = []
    for step in (
        lambda x: dequantize(attributes, quantize(attributes, x, scale, zero), scale, zero),
        lambda x: fake_quantize(attributes, x, scale, zero),
    ):
        y = x.clone().requires_grad_()
        result = step(y)
        (gradient,) = torch.autograd.grad((result * torch.linspace(-1, 1, 6)).sum(), y)
        results.append((result.detach(), gradient, step(x)))
    (apart, its, plain), (together, gradient, alone) = results
    assert torch.equal(apart, together) and torch.equal(plain, alone) and torch.equal(apart, alone)
    torch.testing.assert_close(gradient, its, rtol=1e-6, atol=0)
    assert bool((gradient == 0).any()) and bool((gradient != 0).any())


def test_the_bounds_themselves_pass_the_gradient_and_nothing_beyond_does() -> None:
    x = torch.tensor([-129.0, -128.4, -128.0, 0.0, 127.0, 127.4, 128.0, float("nan")]).requires_grad_()
    result = fake_quantize({}, x, torch.tensor(1.0), torch.tensor(0, dtype=torch.int8))
    (gradient,) = torch.autograd.grad(result.sum(), x)
    assert gradient.tolist()[:-1] == [0, 1, 1, 1, 1, 1, 0]


def graph(nodes: list[Any], scale: float = 0.02) -> ModelProto:
    stored = {"s": np.float32(scale), "z": np.int8(3), "same": np.float32(scale), "other": np.float32(2 * scale)}
    used = {key for node in nodes for key in node.input}
    return helper.make_model(
        helper.make_graph(
            nodes,
            "pairs",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "k"])],
            [numpy_helper.from_array(np.asarray(value), key) for key, value in stored.items() if key in used],
        ),
        opset_imports=[helper.make_opsetid("", 20)], ir_version=10,
    )  # fmt: skip


N = helper.make_node
Q, FLAT = N("QuantizeLinear", ["x", "s", "z"], ["q"]), N("Flatten", ["a"], ["y"])
PAIRS = {
    "a pair": ([Q, N("DequantizeLinear", ["q", "s", "z"], ["a"]), FLAT], True),
    "an equal scale of another name": ([Q, N("DequantizeLinear", ["q", "same", "z"], ["a"]), FLAT], True),
    "two readers": (
        [Q, *(N("DequantizeLinear", ["q", "s", "z"], [k]) for k in "bc"), N("Add", ["b", "c"], ["a"]), FLAT],
        True,
    ),
    "another scale": ([Q, N("DequantizeLinear", ["q", "other", "z"], ["a"]), FLAT], False),
    "no zero point behind it": ([Q, N("DequantizeLinear", ["q", "s"], ["a"]), FLAT], False),
    "a step in between": ([Q, N("Reshape", ["q", "shape"], ["r"]), N("DequantizeLinear", ["r", "s", "z"], ["a"]), FLAT], False),
}


@pytest.mark.parametrize("case", PAIRS)
def test_a_graph_has_one_step_where_they_are_a_pair(case: str) -> None:
    nodes, together = PAIRS[case]
    model = graph(nodes)
    if "r" in {name for node in nodes for name in node.output}:
        model.graph.initializer.append(numpy_helper.from_array(np.array([0, 3, 16]), "shape"))
    network = OnnxGraph(model).eval()
    assert any(getattr(step.function, "func", None) is fake_quantize for step in network.steps) == together
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 3
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    np.testing.assert_array_equal(network(x).detach().numpy(), session.run(None, {"x": x.numpy()})[0])


@pytest.mark.parametrize("bits", range(1, 8))
def test_codes_that_are_clipped_are_those_of_the_network_and_so_is_their_gradient(bits: int) -> None:
    """QuantizeLinear by 1 / L, Clip at L and DequantizeLinear, as one step and another, against clip(x, 0, 1) on L levels."""
    count, own = 2**bits - 1, QuantizedReLU(bits)
    scale, zero = torch.tensor(1 / count), torch.tensor(0, dtype=torch.uint8)
    x = torch.linspace(-1.497, 2.5, 4001)
    results = []
    for step in (own, lambda x: dequantize({}, quantize({LIMITS: (None, count)}, x, scale, zero), scale, zero)):
        y = x.clone().requires_grad_()
        step(y).sum().backward()
        with rounding_left_out():
            smooth = step(x)
        assert torch.equal(step(x), step(y))
        results.append((step(x), y.grad, smooth))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("lowest", "highest"), [(None, 3), (1, None), (2, 40), (None, None)])
def test_a_clip_of_codes_is_read_with_them(lowest: int | None, highest: int | None) -> None:
    names = ["low" if lowest is not None else "", "high" if highest is not None else ""]
    model = graph([Q, N("Clip", ["q", *names], ["c"]), N("DequantizeLinear", ["c", "s", "z"], ["a"]), FLAT])
    kept = {"low": lowest, "high": highest}
    kind = {tensor.name: tensor.data_type for tensor in model.graph.initializer}["z"]
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v, dtype), k) for k, v in kept.items() if v is not None)
    network = OnnxGraph(model).eval()
    assert [getattr(step.function, "func", None) for step in network.steps][:2] == [quantize, dequantize]
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 3
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    np.testing.assert_array_equal(network(x).detach().numpy(), session.run(None, {"x": x.numpy()})[0])
