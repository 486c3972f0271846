"""ONNX's own operator tests, read as networks: each float input in turn becomes the image, and the answer is the standard's."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper

from harness.errors import UsageError
from harness.models.onnx_graph import OnnxGraph
from harness.models.onnx_operators import OPERATORS

# Not as the standard has it, on purpose.
OTHERWISE = {
    "test_resize_downsample_scales_linear_align_corners": "ends meet ends, as in onnxruntime and PyTorch",
    "test_resize_downsample_scales_cubic_align_corners": "the same",
    "test_dynamicquantizelinear_min_adjusted": "the first axis is the batch, and each image has a scale of its own",
}
FEWEST = 1700  # answers of about 3,000: what is not implemented is refused


class Case(NamedTuple):
    """A test of ONNX with its inputs and outputs by name."""

    name: str
    model: ModelProto
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


class Answer(NamedTuple):
    """Ours, and the standard's."""

    name: str
    ours: np.ndarray
    theirs: np.ndarray


def cases() -> Iterator[Case]:
    """All of float32 tensors whose operators are in the table."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    for case in found:
        if case.model is None or not case.data_sets or any(n.op_type not in OPERATORS or n.domain for n in case.model.graph.node):
            continue
        ends = [[value.name for value in values] for values in (case.model.graph.input, case.model.graph.output)]
        inputs, outputs = (dict(zip(names, values, strict=False)) for names, values in zip(ends, case.data_sets[0], strict=True))
        if all(isinstance(value, np.ndarray) for value in (*inputs.values(), *outputs.values())):
            yield Case(case.name, case.model, inputs, outputs)


def networks(case: Case) -> Iterator[tuple[str, ModelProto, np.ndarray, np.ndarray]]:
    """A network of one image for each float input and each output: its name, itself, the image and the answer."""
    for image in (key for key, value in case.inputs.items() if value.dtype == np.float32 and value.size):
        stored = {key: value for key, value in case.inputs.items() if key != image} | {
            "its/shape": np.array(case.inputs[image].shape, np.int64),
            "row": np.array([1, -1], np.int64),
        }
        for name, value in case.outputs.items():
            nodes = [
                helper.make_node("Reshape", ["the/image", "its/shape"], [image]),
                *case.model.graph.node,
                helper.make_node("Cast", [name], ["as/float"], to=TensorProto.FLOAT),
                helper.make_node("Reshape", ["as/float", "row"], ["the/logits"]),
            ]
            ends = [
                [helper.make_tensor_value_info(end, TensorProto.FLOAT, shape)]
                for end, shape in (("the/image", [1, 1, 1, case.inputs[image].size]), ("the/logits", [1, value.size]))
            ]
            tensors = [*case.model.graph.initializer, *(numpy_helper.from_array(tensor, key) for key, tensor in stored.items())]
            model = helper.make_model(helper.make_graph(nodes, "test", *ends, tensors), opset_imports=case.model.opset_import)
            yield f"{case.name}: {image} -> {name}", model, case.inputs[image], value


@pytest.fixture(scope="module")
def answered() -> dict[str, list[Answer]]:
    """By operator. What is not implemented is refused, and is not here; of a case written out in other operators the last one's."""
    found = defaultdict[str, list[Answer]](list)
    for case in cases():
        for name, model, image, theirs in networks(case) if case.name not in OTHERWISE else ():
            with suppress(UsageError, NotImplementedError):
                network = OnnxGraph(model).eval().requires_grad_(False)
                ours = network(torch.from_numpy(image.reshape(1, 1, 1, -1).copy()))
                found[case.model.graph.node[-1].op_type].append(Answer(name, np.asarray(ours, np.float32), theirs.astype(np.float32)))
    return found


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_the_answer_is_the_standards(answered: dict[str, list[Answer]], operator: str) -> None:
    for name, ours, theirs in answered.get(operator, []):
        np.testing.assert_allclose(ours, theirs.reshape(1, -1), rtol=1e-3, atol=1e-5, err_msg=name)


def test_most_are_answered(answered: dict[str, list[Answer]]) -> None:
    count = sum(map(len, answered.values()))
    assert count > FEWEST
