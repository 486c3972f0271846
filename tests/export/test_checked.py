"""ONNX files that are damaged or hostile: one clear `ExportError`, never another exception, never another file."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.checked import load_checked
from export.errors import ExportError
from export.quiet import quiet
from export.session import open_session

Build = Callable[..., ModelProto]
NODE = helper.make_node
FIXTURE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(path: Path, content: bytes | ModelProto) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def test_reads_a_good_file(tmp_path: Path, graph: ModelProto, small_model: Build) -> None:
    for model in (graph, small_model()):
        assert load_checked(write(tmp_path / "good.onnx", model)) == model


@pytest.mark.parametrize("ir_version", [3, 6])
@pytest.mark.parametrize("opset", [7, 8, 9])
def test_integer_constants_of_old_exporters_are_read(opset: int, ir_version: int, tmp_path: Path, small_model: Build) -> None:
    """As PyTorch 0.4 wrote a view: x.view(-1, 4)."""
    size = NODE("Constant", [], ["size"], value=numpy_helper.from_array(np.array([-1, 4]), "size"))
    model = small_model(size, NODE("Reshape", ["images", "size"], ["logits"]), opset=opset)
    model.ir_version = ir_version
    read = load_checked(write(tmp_path / "old.onnx", model))
    images = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    np.testing.assert_array_equal(open_session(read).run(None, {"images": images})[0], images.reshape(2, 4))


@given(share=st.floats(0, 1, exclude_max=True))
@FIXTURE
def test_every_truncation_is_an_error(share: float, tmp_path: Path, graph: ModelProto) -> None:
    data = graph.SerializeToString()
    with pytest.raises(ExportError):
        load_checked(write(tmp_path / "cut.onnx", data[: int(share * len(data))]))


@given(places=st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 255)), min_size=1, max_size=4))
@FIXTURE
def test_a_damaged_file_loads_or_is_an_error(places: list[tuple[int, int]], tmp_path: Path, small_model: Build) -> None:
    data = bytearray(small_model().SerializeToString())
    for position, mask in places:
        data[position % len(data)] ^= mask
    path = write(tmp_path / "flipped.onnx", bytes(data))
    try:
        load_checked(path)
    except ExportError as error:
        assert path.name in str(error)


@pytest.mark.parametrize("content", [b"", b"hello, this is text", pickle.dumps({"a": 1}), b"\x00" * 64, b"PK\x03\x04zip"], ids=repr)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"not an ONNX file"):
        load_checked(write(tmp_path / "other.onnx", content))


def test_an_archive_is_told_as_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.onnx", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(ExportError, match=r"other\.onnx is a zip archive, as torch\.save, TorchScript and numpy write"):
        load_checked(tmp_path / "other.onnx")


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="No such file"):
        load_checked(tmp_path / "absent.onnx")
    with pytest.raises(ExportError, match="not a file"):
        load_checked(tmp_path)


def external(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


@pytest.mark.parametrize(
    "location", ["absent.bin", "../secret.bin", "/etc/passwd", "inner/../../secret.bin", "link.bin", "there/w.bin", ""]
)
@pytest.mark.parametrize("place", ["initializer", "constant", "subgraph", "function"])
def test_external_data_is_refused_wherever_it_hides(location: str, place: str, tmp_path: Path, small_model: Build) -> None:
    (tmp_path.parent / "secret.bin").write_bytes(bytes(16))
    (tmp_path / "link.bin").symlink_to(tmp_path.parent / "secret.bin")
    (tmp_path / "there").symlink_to(tmp_path.parent)
    constant = NODE("Constant", [], ["w"], value=external(location))
    branch = helper.make_graph([constant, NODE("Identity", ["w"], ["out"])], "branch", [], [helper.make_tensor_value_info("out", 1, [4])])
    flatten = NODE("Flatten", ["images"], ["logits"])
    if place == "initializer":
        model = small_model(flatten, initializer=(external(location),))
    elif place == "constant":
        model = small_model(constant, flatten)
    elif place == "subgraph":
        model = small_model(NODE("If", ["c"], ["o"], then_branch=branch, else_branch=branch), flatten)
    else:
        model = small_model(NODE("Local", ["images"], ["logits"], domain="mine"), domains=("mine",))
        model.functions.append(
            helper.make_function("mine", "Local", ["x"], ["y"], [constant, NODE("Flatten", ["x"], ["y"])], model.opset_import)
        )
    with pytest.raises(ExportError, match=r"outside of the file") as caught:
        load_checked(write(tmp_path / "external.onnx", model))
    assert location in str(caught.value)


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 300))
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    with quiet():
        torch.onnx.export(
            network, (torch.rand(2, 3, 4, 4),), tmp_path / "model.onnx", dynamo=True, dynamic_shapes=shapes, external_data=True
        )
    assert (tmp_path / "model.onnx.data").exists()
    loaded = load_checked(tmp_path / "model.onnx")
    weight = next(tensor for tensor in loaded.graph.initializer if list(tensor.dims) == [300, 48])
    np.testing.assert_array_equal(numpy_helper.to_array(weight), network[1].weight.detach().numpy())


@pytest.mark.parametrize(("key", "value"), [("length", "20"), ("offset", "1"), ("offset", "-4"), ("length", "9" * 30), ("offset", "x")])
def test_weights_beside_the_file_that_are_not_as_declared_are_refused(key: str, value: str, tmp_path: Path, small_model: Build) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    tensor = external("weights.bin")
    tensor.external_data.add(key=key, value=value)
    with pytest.raises(ExportError, match=r"tensor 'w' in 'weights.bin' (declares|needs)"):
        load_checked(write(tmp_path / "external.onnx", small_model(NODE("Flatten", ["images"], ["logits"]), initializer=(tensor,))))


@pytest.mark.parametrize("opset", [1, 6, 999])
def test_unsupported_operator_sets(opset: int, tmp_path: Path, small_model: Build) -> None:
    with pytest.raises(ExportError, match=rf"operator set {opset}; supported are 7 to \d+"):
        load_checked(write(tmp_path / "old.onnx", small_model(opset=opset)))


def test_custom_operators_are_listed(tmp_path: Path, small_model: Build) -> None:
    nodes = [
        NODE("Gelu", ["images"], ["a"], domain="com.microsoft"),
        NODE("Evil", ["a"], ["b"], domain="org.evil"),
        NODE("Flatten", ["b"], ["logits"]),
    ]
    with pytest.raises(ExportError, match=r"com\.microsoft::Gelu, org.evil::Evil.* onnxruntime, which optimised or quantized it: "):
        load_checked(write(tmp_path / "custom.onnx", small_model(*nodes, domains=("com.microsoft", "org.evil"))))


def test_local_functions_are_inlined(tmp_path: Path, small_model: Build) -> None:
    model = small_model(NODE("Twice", ["images"], ["t"], domain="mine"), NODE("Flatten", ["t"], ["logits"]), domains=("mine",))
    model.functions.append(
        helper.make_function("mine", "Twice", ["x"], ["y"], [NODE("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 20)])
    )
    loaded = load_checked(write(tmp_path / "functions.onnx", model))
    assert [node.op_type for node in loaded.graph.node] == ["Add", "Flatten"]
    assert not loaded.functions


def test_a_function_of_another_operator_set_is_called_that(tmp_path: Path, small_model: Build) -> None:
    """It was said to be an operator outside of the standard."""
    model = small_model(NODE("Old", ["images"], ["t"], domain="mine"), NODE("Flatten", ["t"], ["logits"]), domains=("mine",))
    body = [NODE("Softmax", ["x"], ["y"])]  # over other axes before operator set 13
    model.functions.append(helper.make_function("mine", "Old", ["x"], ["y"], body, [helper.make_opsetid("", 11)]))
    with pytest.raises(ExportError, match="calls mine::Old, functions that it brings for another operator set than its own"):
        load_checked(write(tmp_path / "functions.onnx", model))


def function(name: str, *calls: str) -> onnx.FunctionProto:
    """A local function that calls others, one after the other."""
    names = ["x", *(f"v{i}" for i in range(len(calls) - 1)), "y"]
    nodes = [NODE(call, [names[i]], [names[i + 1]], domain="mine") for i, call in enumerate(calls)]
    return helper.make_function("mine", name, ["x"], ["y"], nodes, [helper.make_opsetid("", 20), helper.make_opsetid("mine", 1)])


def test_a_function_that_calls_itself_is_refused(tmp_path: Path, small_model: Build) -> None:
    model = small_model(NODE("A", ["images"], ["logits"], domain="mine"), domains=("mine",))
    model.functions.extend([function("A", "B"), function("B", "A")])
    with pytest.raises(ExportError, match="calls itself"):
        load_checked(write(tmp_path / "loop.onnx", model))


@pytest.mark.parametrize("order", [1, -1], ids=["outermost first", "innermost first"])
def test_functions_nested_too_deep_are_refused(order: int, tmp_path: Path, small_model: Build) -> None:
    """A chain of 3,000 in a file of 400 kB: a recursion of that depth ends Python, or the process."""
    chain = [f"F{i}" for i in range(3000)]
    calls = [NODE(name, ["images"], [f"of {name}"], domain="mine") for name in chain[::order]]
    model = small_model(*calls, NODE("Flatten", ["images"], ["logits"]), domains=("mine",))
    model.functions.extend(function(name, *chain[i + 1 : i + 2]) for i, name in enumerate(chain))
    with pytest.raises(ExportError, match="nests functions more than 100 deep"):
        load_checked(write(tmp_path / "deep.onnx", model))


def test_functions_that_multiply_are_refused(tmp_path: Path, small_model: Build) -> None:
    """40 functions, each calling the next twice: 2^40 nodes in a file of four kilobytes."""
    model = small_model(NODE("F0", ["images"], ["logits"], domain="mine"), domains=("mine",))
    model.functions.extend(function(f"F{i}", f"F{i + 1}", f"F{i + 1}") for i in range(40))
    with pytest.raises(ExportError, match="expands to"):
        load_checked(write(tmp_path / "bomb.onnx", model))


def test_a_tensor_that_declares_more_than_it_holds(tmp_path: Path, small_model: Build) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.dims[0] = 10**12
    model = small_model(NODE("Flatten", ["images"], ["logits"]), initializer=(tensor,))
    with pytest.raises(ExportError, match="'w'"):
        load_checked(write(tmp_path / "lies.onnx", model))


def test_invalid_graph(tmp_path: Path, small_model: Build) -> None:
    with pytest.raises(ExportError, match="not a valid ONNX graph"):
        load_checked(write(tmp_path / "invalid.onnx", small_model(NODE("Add", ["images", "nowhere"], ["logits"]))))


def test_the_operator_set_may_be_named_twice(graph: ModelProto, tmp_path: Path) -> None:
    """As skl2onnx and tools that merge graphs leave it; onnxruntime takes it."""
    twice = ModelProto()
    twice.CopyFrom(graph)
    twice.opset_import.extend(entry for entry in graph.opset_import if not entry.domain)
    onnx.save(twice, tmp_path / "twice.onnx")
    assert [node.op_type for node in load_checked(tmp_path / "twice.onnx").graph.node] == [node.op_type for node in graph.graph.node]
