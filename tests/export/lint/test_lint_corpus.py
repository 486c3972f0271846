"""The lint passes no file that NVIDIA's parser or builder refuses: torchvision's families, ONNX's light models, every operator test of
ONNX, and random damage to all of them."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from mutants import mutant
from networks import LIGHT, NETWORKS, network
from onnx import ModelProto
from real_tensorrt import RealTensorRT

from export.calibration import Calibration
from export.lint import Severity, lint, rule_for
from export.trt_int8 import quantize_trt_int8

pytestmark = pytest.mark.slow(35)

PROJECT = {"TRT041", "TRT045"}  # rules about what this program feeds a network; TensorRT takes more
MUTANTS, MISSED = (
    160,
    0.03,
)  # of 585 refused mutants of other seeds the lint found 578: what is left needs values that only arithmetic gives
BUILT_EVERY = 40  # building takes a hundred times longer than parsing


def errors(path: Path, target: str = "tensorrt") -> set[str]:
    return {finding.rule for finding in lint(path, target) if finding.severity is Severity.ERROR}


@pytest.fixture(scope="module")
def corpus() -> dict[str, ModelProto]:
    return {name: network(name) for name in NETWORKS} | {path.stem: onnx.load(path) for path in LIGHT}


@pytest.fixture(scope="module")
def quantized(corpus: dict[str, ModelProto]) -> dict[str, ModelProto]:
    """The networks as trt-int8 files."""
    rng = np.random.default_rng(0)
    return {
        name: quantize_trt_int8(corpus[name], Calibration(rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8), "minmax"))
        for name, (_, size) in NETWORKS.items()
    }


@pytest.fixture(scope="module")
def operator_tests() -> dict[str, ModelProto]:
    """ONNX's own tests: about 1,900 graphs of one operator, or of its definition in others."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case.model for case in collect_testcases(None) if case.model is not None}


def test_networks_are_clean_and_accepted(corpus: dict[str, ModelProto], tensorrt: RealTensorRT, tmp_path: Path) -> None:
    assert len(corpus) >= 24
    for name, model in corpus.items():
        path = tmp_path / f"{name}.onnx"
        onnx.save(model, path)
        assert tensorrt.parse(path).taken, name
        assert not errors(path), name
        assert not errors(path, "onnxruntime"), name


def test_quantized_networks_have_their_pairs_where_the_rules_want_them(
    quantized: dict[str, ModelProto], tensorrt: RealTensorRT, tmp_path: Path
) -> None:
    """Two independent answers to where Q/DQ pairs belong: the placement that is written, and the rules."""
    for name, model in quantized.items():
        path = tmp_path / f"{name}.onnx"
        onnx.save(model, path)
        assert tensorrt.parse(path).taken, name
        assert {finding.rule for finding in lint(path, "tensorrt")} <= {"TRT021", "TRT026"}, name


@pytest.mark.parametrize(
    "name", ["light_bvlc_alexnet", "light_squeezenet", "light_vgg19", "light_zfnet512", "convnext", "transposed", "vit"]
)
def test_what_is_clean_can_be_built(name: str, corpus: dict[str, ModelProto], tensorrt: RealTensorRT, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.onnx"
    onnx.save(corpus[name], path)
    answer = tensorrt.build(path)
    assert answer.taken, answer.said


def test_every_operator_test_that_is_refused_is_found(
    operator_tests: dict[str, ModelProto], tensorrt: RealTensorRT, tmp_path: Path
) -> None:
    """None is missed, and the refusal's words name a rule that was found, in nineteen of twenty."""
    path, named, strict = tmp_path / "case.onnx", Counter[bool](), []
    for name, model in operator_tests.items():
        path.write_bytes(model.SerializeToString())
        answer, found = tensorrt.parse(path), errors(path)
        if not answer.taken:
            assert found, f"{name}: {answer.said}"
            named[rule_for(answer.said) in found] += 1
        elif found - PROJECT:
            strict.append(name)
    assert named.total() > 800
    assert named[True] >= 0.95 * named.total()
    assert len(strict) < 0.2 * len(operator_tests)  # what the builder refuses, and more: the next test


def test_operator_tests_that_pass_can_be_built(operator_tests: dict[str, ModelProto], tensorrt: RealTensorRT, tmp_path: Path) -> None:
    path, built = tmp_path / "case.onnx", 0
    for name, model in list(operator_tests.items())[::BUILT_EVERY]:
        path.write_bytes(model.SerializeToString())
        if not errors(path) - PROJECT and "TRT005" not in {finding.rule for finding in lint(path, "tensorrt")}:
            answer, built = tensorrt.build(path), built + 1
            assert answer.taken, f"{name}: {answer.said}"
    assert built > 15


def test_random_damage_is_found(
    corpus: dict[str, ModelProto], quantized: dict[str, ModelProto], tensorrt: RealTensorRT, tmp_path: Path
) -> None:
    """One random change each, sixteen kinds; a crash of the parser counts as a refusal."""
    small = [model for model in (*corpus.values(), *quantized.values()) if model.ByteSize() < 10**6]
    path, refused, missed = tmp_path / "mutant.onnx", 0, []
    for seed in range(MUTANTS):
        model = mutant(small[seed * 7 % len(small)], seed)
        path.write_bytes(model.SerializeToString())
        answer, found = tensorrt.parse(path), errors(path)
        if not answer.taken:
            refused += 1
            if not found:
                missed.append((seed, answer.said))
    assert refused > MUTANTS / 4
    assert len(missed) <= MISSED * refused, missed
