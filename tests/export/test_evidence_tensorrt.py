"""TensorRT's own words about its engine: read for 10 and 11, joined with times and ONNX nodes, never overstated."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import ModelProto

from export.artefact import Artefact
from export.errors import ExportError
from export.evidence_tensorrt import kernel_shares, read_layers, read_profile, tensorrt_evidence
from export.macs import MacNode, mac_nodes

FOLDER = Path(__file__).parent / "tensorrt"
DENSE = "sm80_xmma_fprop_implicit_gemm_i8i8_i8i32_f32_nhwckrsc_nhwc_tilesize128x128x64"
SPARSE = "sm80_xmma_fprop_sparse_conv_interleaved_i8i8_i8i32_f32_tilesize128x128x128_sptensor16x8x64"
HALF = "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize128x64x64"

Plant = Callable[[ModelProto, str], Artefact]


def recorded(name: str) -> Any:
    return json.loads((FOLDER / name).read_text())


def node(name: str, macs: int) -> MacNode:
    return MacNode(name, macs, frozenset())


NODES_10 = [node("stem", 100), node("depthwise", 50), node("wide", 600), node("narrow", 200), node("/head/Gemm", 50)]
NODES_11 = [node("stem", 100), node("wide", 800), node("/head/Gemm", 100)]


def test_tensorrt_10_layer_by_layer() -> None:
    layers = read_layers(recorded("layers-10.json"))
    assert [(layer.kind, layer.sparse) for layer in layers] == [
        ("movement", False),
        ("int8", False),
        ("int8", False),  # no kernel name: by its types
        ("int8", True),
        ("fp16", False),  # sparse weights, but no sparse kernel
        ("unknown", False),
    ]


def test_tensorrt_11_layer_by_layer() -> None:
    layers = read_layers(recorded("layers-11.json"))
    assert [(layer.kind, layer.sparse) for layer in layers] == [
        ("unknown", False),
        ("int8", False),
        ("int8", True),
        ("unknown", False),
        ("fp16", False),
    ]


def test_shares_of_layers_time_and_macs_are_those_counted_by_hand() -> None:
    shares = kernel_shares(read_layers(recorded("layers-10.json")), read_profile(recorded("profile.json")), NODES_10)
    seen = {kind: (share.layers, share.time, share.macs) for kind, share in shares.items()}
    assert seen == {
        "movement": pytest.approx((1 / 6, 0.05, 0.0)),
        "int8": pytest.approx((3 / 6, 0.65, 0.75)),
        "fp16": pytest.approx((1 / 6, 0.20, 0.20)),
        "unknown": pytest.approx((1 / 6, 0.10, 0.05)),
        "sparse": pytest.approx((1 / 6, 0.40, 0.60)),
    }


def test_without_a_profile_the_time_is_unknown_and_the_rest_stands() -> None:
    shares = kernel_shares(read_layers(recorded("layers-11.json")), {}, NODES_11)
    assert {share.time for share in shares.values()} == {None}
    assert (shares["int8"].macs, shares["sparse"].macs, shares["fp16"].macs) == pytest.approx((0.9, 0.8, 0.1))


def test_time_of_a_layer_that_the_inspector_does_not_list_is_unknown() -> None:
    profile = read_profile([*recorded("profile.json"), {"name": "somewhere else", "averageMs": 0.2}])
    shares = kernel_shares(read_layers(recorded("layers-10.json")), profile, NODES_10)
    assert shares["unknown"].time == pytest.approx((0.02 + 0.2) / 0.4)
    assert sum(share.time or 0 for kind, share in shares.items() if kind != "sparse") == pytest.approx(1)


def test_macs_of_a_node_that_no_layer_names_are_unknown() -> None:
    shares = kernel_shares(read_layers(recorded("layers-11.json")), {}, [*NODES_11, node("vanished", 1000)])
    assert shares["unknown"].macs == pytest.approx(0.5)


def test_a_node_that_two_layers_could_run_differently_is_unknown() -> None:
    one = {"Name": "wide", "LayerType": "conv", "TacticName": DENSE}
    other = {"Name": "wide + relu", "LayerType": "conv", "TacticName": HALF}
    shares = kernel_shares(read_layers({"Layers": [one, other]}), {}, [node("wide", 10)])
    assert (shares["unknown"].macs, shares["int8"].macs) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("tactic", "kind", "sparse"),
    [
        ("volta_int8x4_icudnn_int8x4_128x32_relu_xregs_small_c32_nn_v1", "int8", False),
        ("sm80_xmma_fprop_avdt_dense_int8int8_int8int32_int8", "int8", False),
        ("ampere_scudnn_128x64_relu_small_nn_v1", "fp32", False),
        ("sm80_xmma_fprop_implicit_gemm_tf32tf32_tf32f32_f32_nhwckrsc_nchw", "tf32", False),
        ("cutlass_80_tensorop_s1688gemm_128x128_16x5_tn_align4", "tf32", False),
        ("cutlass_80_tensorop_f16_s1688gemm_f16_128x128_nn_align8", "fp16", False),
        ("cutlass_80_tensorop_f16_s16816gemm_relu_f16_256x128_32x3_nn_align8", "fp16", False),
        ("sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x64x64", "fp16", False),
        ("sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nchwkcrs_nchw_tilesize64x64x8", "fp32", False),
        ("sm80_xmma_fprop_implicit_gemm_interleaved_i8f32_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32", "int8", False),
        ("sm72_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32", "int8", False),
        ("trt_turing_int8_i8816cudnn_int8_256x64_ldg16_relu_medium_t1", "int8", False),
        ("ampere_sgemm_32x32_sliced1x4_tn", "fp32", False),
        ("sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "bf16", False),
        ("sm89_xmma_gemm_e4m3e4m3_e4m3f32_f32_tn_n", "fp8", False),
        ("turing_h1688cudnn_256x64_ldg8_relu_exp_medium_nhwc_tn_v1", "fp16", False),
        (SPARSE, "int8", True),
        ("", "unknown", False),
    ],
)
def test_kernel_names(tactic: str, kind: str, sparse: bool) -> None:
    (layer,) = read_layers({"Layers": [{"Name": "a", "LayerType": "conv", "TacticName": tactic}]})
    assert (layer.kind, layer.sparse) == (kind, sparse)


def test_types_hidden_by_dynamic_shapes_are_unknown() -> None:
    tensor = {"Name": "x", "Dimensions": [-1, 3], "Format/Datatype": "N/A due to dynamic shapes"}
    (layer,) = read_layers({"Layers": [{"Name": "a", "LayerType": "CudaPooling", "Inputs": [tensor]}]})
    assert layer.kind == "unknown"


@pytest.mark.parametrize("inspector", [None, [], {}, {"Layers": []}, {"Layers": "no"}])
def test_what_is_no_engine_information_is_refused(inspector: Any) -> None:
    with pytest.raises(ExportError, match="no engine information"):
        read_layers(inspector)


def test_an_engine_built_without_detail_says_how_to_build_it() -> None:
    with pytest.raises(ExportError, match=r"names only, such as 'stem \+ relu'.*detailed profiling verbosity"):
        read_layers({"Layers": ["stem + relu", "head"], "Bindings": ["images"]})


@pytest.mark.parametrize(
    "rows",
    [7, [3], [{"name": "a"}], [{"name": "a", "averageMs": "soon"}], [{"name": "a", "averageMs": "nan"}], [{"name": "a", "averageMs": -1}]],
)
def test_what_is_no_profile_is_refused(rows: Any) -> None:
    with pytest.raises(ExportError, match="no layer profile"):
        read_profile(rows)


@pytest.fixture
def artefact(graph: ModelProto, planted: Plant) -> Artefact:
    return planted(graph, "int8")


def engine(folder: Path, artefact: Artefact, tactics: list[str]) -> Path:
    """What the worker would save of an engine that runs the artefact's layers with these kernels, each 1 ms."""
    names = [found.name for found in mac_nodes(artefact.path)]
    layers = [{"Name": name, "LayerType": "CaskConvolution", "TacticName": tactic} for name, tactic in zip(names, tactics, strict=True)]
    path = folder / "layers.json"
    path.write_text(json.dumps({"inspector": {"Layers": layers}, "profile": [{"name": name, "averageMs": 1.0} for name in names]}))
    return path


def test_the_label_is_earned(tmp_path: Path, artefact: Artefact) -> None:
    found = tensorrt_evidence(engine(tmp_path, artefact, [DENSE] * 4), artefact)
    assert (found.label, found.integer_mac_share, found.kernels) == ("int8", 1.0, {"CaskConvolution": 4})
    assert found.shares["int8"].time == 1.0
    assert "100.0% of the layers, 100.0% of the time and 100.0% of the MACs in INT8 kernels" in found.note


@pytest.mark.parametrize(
    ("tactics", "label"),
    [
        ([HALF] * 4, "int8 claimed, fp16 kernels"),
        ([""] * 4, "int8 claimed, not verified"),
        ([DENSE, HALF, "", ""], "int8 claimed, not verified"),
    ],
)
def test_the_label_is_withheld(tmp_path: Path, artefact: Artefact, tactics: list[str], label: str) -> None:
    by_hand = [12 * 8 * 16 * 27, 6 * 4 * 16 * 9, 6 * 4 * 24 * 16, 24 * 5]
    found = tensorrt_evidence(engine(tmp_path, artefact, tactics), artefact)
    assert found.label == label
    assert found.integer_mac_share == pytest.approx(sum(m for m, t in zip(by_hand, tactics, strict=True) if t == DENSE) / sum(by_hand))


def test_sparse_needs_a_sparse_kernel_not_only_sparse_weights(tmp_path: Path, artefact: Artefact) -> None:
    sparse = replace(artefact, options={"sparse": True})
    without = tensorrt_evidence(engine(tmp_path, sparse, [DENSE] * 4), sparse)
    assert (without.claimed, without.label) == ("int8 2:4", "int8, 2:4 claimed, no sparse kernel")
    proved = tensorrt_evidence(engine(tmp_path, sparse, [DENSE, DENSE, SPARSE, DENSE]), sparse)
    assert proved.label == proved.claimed == "int8 2:4"
    assert "25.0% of the layers, 25.0% of the time" in proved.note
    assert proved.shares["sparse"].layers == 0.25


def test_a_float_claim_is_held_against_its_kernels_too(tmp_path: Path, graph: ModelProto, planted: Plant) -> None:
    half = planted(graph, "fp16")
    assert tensorrt_evidence(engine(tmp_path, half, [HALF] * 4), half).label == "fp16"
    assert tensorrt_evidence(engine(tmp_path, half, ["ampere_scudnn_128x64"] * 4), half).label == "fp16 claimed, fp32 kernels"


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"inspector": {"Layers": ["a"]}, "profile": []}'])
def test_a_missing_or_damaged_file_proves_nothing(tmp_path: Path, artefact: Artefact, content: str | None) -> None:
    path = tmp_path / "layers.json"
    if content is not None:
        path.write_text(content)
    found = tensorrt_evidence(path, artefact)
    assert (found.label, found.integer_mac_share, found.shares) == ("int8 claimed, not verified", None, {})
    assert "cannot be read" in found.note
