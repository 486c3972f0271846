"""Any readable file gets an answer, and nothing outside of its folder is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from faults import FAULTS, Graph, prune
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutants import mutant
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.errors import ExportError
from export.lint import TARGETS, Severity, lint

Exported = dict[str, ModelProto]
Save = Callable[[ModelProto], Path]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    base=st.sampled_from(["fp32", "trt", "ort"]),
    seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=6),
    target=st.sampled_from(TARGETS),
    sparse=st.booleans(),
)
def test_damaged_graphs_get_an_answer(base: str, seeds: list[int], target: str, sparse: bool, exported: Exported, tmp_path: Path) -> None:
    model = exported[base]
    for seed in seeds:
        if model.graph.node:
            model = mutant(model, seed)
    path = tmp_path / "damaged.onnx"
    path.write_bytes(model.SerializeToString())
    if model.graph.node:
        assert isinstance(lint(path, target, sparse=sparse), list)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 255)), min_size=1, max_size=8), target=st.sampled_from(TARGETS))
def test_damaged_bytes_get_an_answer_or_one_line(places: list[tuple[int, int]], target: str, exported: Exported, tmp_path: Path) -> None:
    data = bytearray(exported["trt"].SerializeToString())
    for place, value in places:
        data[place % len(data)] = value
    path = tmp_path / "damaged.onnx"
    path.write_bytes(data)
    try:
        lint(path, target)
    except ExportError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x07", None])
def test_what_is_no_onnx_file_cannot_be_read(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExportError, match=r"file\.onnx"):
        lint(path, "tensorrt")


def outside(model: ModelProto, folder: Path) -> Path:
    """The same file with its weights and scales beside it; onnxruntime wants axes and shapes, 16 bytes, inside."""
    folder.mkdir()
    copy = ModelProto()
    copy.CopyFrom(model)
    onnx.save(copy, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=60)
    return folder / "model.onnx"


@pytest.mark.parametrize("rule", ["TRT001", "TRT007", "TRT008", "TRT023", "TRT030", "ORT020"])
def test_weights_beside_the_file_are_seen(rule: str, exported: Exported, saved: Save, tmp_path: Path) -> None:
    """The same findings as with the weights inside."""
    fault = FAULTS[rule]
    model = fault.planted(exported)
    target = "tensorrt" if rule.startswith("TRT") else "onnxruntime"
    apart = lint(outside(model, tmp_path / "apart"), target, sparse=fault.sparse)
    assert apart == lint(saved(model), target, sparse=fault.sparse)
    assert rule in {finding.rule for finding in apart}


@pytest.mark.parametrize(
    ("location", "reason"),
    [("../secret.bin", "not in the file's folder"), ("/etc/passwd", "not in the file's folder"), ("link.bin", "not in the file's folder"),
     ("gone.bin", "no file 'gone.bin'"), ("", "not in the file's folder"), ("short.bin", "the tensor needs 4,096 from byte 0 on")],
)  # fmt: skip
def test_other_places_are_not_read(location: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(10**4))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "short.bin").write_bytes(bytes(100))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[1024], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "weight"], ["y"])], "g", [value("x", TensorProto.FLOAT, ["batch", 1024])],
        [value("y", TensorProto.FLOAT, ["batch", 1024])], [tensor],
    )  # fmt: skip
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    for target in TARGETS:
        with pytest.raises(ExportError, match=reason):
            lint(path, target, sparse=True)


def test_a_pruned_file_keeps_its_pattern_after_rounding(exported: Exported, saved: Save) -> None:
    model = ModelProto()
    model.CopyFrom(exported["trt"])
    prune(Graph(model))
    assert not [finding for finding in lint(saved(model), "tensorrt", sparse=True) if finding.severity is Severity.ERROR]


def test_a_dense_file_is_no_sparse_one(exported: Exported, saved: Save) -> None:
    path = saved(exported["trt"])
    assert [finding.rule for finding in lint(path, "tensorrt", sparse=True) if finding.severity is Severity.ERROR] == ["TRT030"]
    assert not [finding for finding in lint(path, "tensorrt") if finding.severity is Severity.ERROR]


def test_rules_look_into_subgraphs(saved: Save) -> None:
    """A fault in a branch of an If."""
    value = helper.make_tensor_value_info
    bad = helper.make_node("Det", ["x"], ["inner"], name="hidden")
    branch = helper.make_graph([bad], "branch", [], [value("inner", TensorProto.FLOAT, None)])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["same"])], "other", [], [value("same", TensorProto.FLOAT, None)])
    graph = helper.make_graph(
        [helper.make_node("If", ["flag"], ["y"], name="choice", then_branch=branch, else_branch=other)], "g",
        [value("x", TensorProto.FLOAT, ["batch", 2, 2])], [value("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.array(True), "flag")],
    )  # fmt: skip
    found = lint(saved(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)), "tensorrt")
    assert ("TRT050", "hidden") in {(finding.rule, finding.node) for finding in found}


@pytest.mark.parametrize("target", TARGETS)
def test_integer_constants_of_old_exporters_are_no_fault(target: str, tmp_path: Path) -> None:
    """PyTorch 0.4 wrote the sizes of a view so; runtimes take them."""
    size = helper.make_node("Constant", [], ["size"], value=numpy_helper.from_array(np.array([-1, 12]), "size"))
    nodes = [size, helper.make_node("Reshape", ["images", "size"], ["logits"])]
    value = helper.make_tensor_value_info
    images, logits = value("images", TensorProto.FLOAT, ["n", 3, 2, 2]), value("logits", TensorProto.FLOAT, ["n", 12])
    graph = helper.make_graph(nodes, "old", [images], [logits])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=3), tmp_path / "old.onnx")
    assert [str(found) for found in lint(tmp_path / "old.onnx", target) if found.severity is Severity.ERROR] == []
