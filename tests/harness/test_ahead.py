"""`harness export --aot`: engines built here by the real builder, and never said to have run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from quick_engines import make_linear

from devices.worker.tensorrt import BuildOptions, build_plan, verify_plan
from export.artefact import load_artefact, sha256_file
from export.errors import ExportError
from harness import cli
from harness.records import Parity
from harness.stages.ahead import build_ahead, of_sparsity
from harness.stages.export import Exported

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'edge-harness[aot]'")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["harness", "export", "resnet8", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    code = stop.value.code
    out, err = capsys.readouterr()
    return code if isinstance(code, int) else 0, out, err


def test_engines_lie_beside_their_artefact(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two engines of one flavour, sealed, of the ONNX file that was written; a builder's rejection names the lint rule."""
    out, data = tmp_path / "out", tmp_path / "data.npz"
    np.savez(data, images=np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8), labels=np.arange(60) % 10)
    words = ("--flavour", "trt-int8", "--flavour", "ort-int8", "--aot", "sm86", "--builds", "2", "--json", "--out", str(out))
    code, printed, said = run(capsys, monkeypatch, *words, "--data", str(data))
    assert said.count("built ahead of time for sm86 (Ampere), not run") == 2
    artefact, other, *plans = json.loads(printed)
    assert code == (0 if artefact["parity"]["passed"] and other["parity"]["passed"] else 3), "the images are noise"
    assert [plan["target"] for plan in plans] == ["sm86", "sm86"]
    assert [plan["run"] for plan in plans] == [False, False]
    for plan in plans:
        assert verify_plan(Path(plan["path"])).sha256 == plan["sha256"]
        assert plan["onnx_sha256"] == artefact["sha256"]
    rejection(Path(artefact["path"]), tmp_path)


def rejection(path: Path, folder: Path) -> None:
    good = load_artefact(path.with_suffix(".json"))
    model = onnx.load(path)
    scale = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("_zero_point") and not tensor.dims)
    scale.raw_data = b"\x05"
    onnx.save(model, path)
    parity = Parity(n=1, max_logit_error=0, top1_agreement=1, passed=True, limit="")
    planted = Exported(good.__class__(**{**vars(good), "sha256": sha256_file(path)}), parity)
    with pytest.raises(ExportError, match=r"Non-zero zero point is not supported.*It is rule TRT001\."):
        build_ahead([planted], "sm86", 1, folder, print)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--flavour", "trt-int8", "--aot", "sm87"), "Jetson Orin's SM 8.7 is not among them: build on the device"),
        (("--aot", "sm86"), "none of the flavours onnx-fp32, ort-int8 is for it. Add one of trt-fp32, trt-fp16"),
        (("--flavour", "trt-fp16", "--aot", "sm86", "--builds", "0"), "--builds 0: expected a whole number of at least 1"),
        (("--flavour", "trt-int8-sparse", "--aot", "sm86"), "harness compress MODEL --method nm24"),
    ],
)
def test_wrong_words_are_one_line(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, printed, said = run(capsys, monkeypatch, *words, "--out", str(tmp_path / "out"))
    assert (code, printed) == (2, "")
    assert message in said
    assert "Traceback" not in said


def test_without_the_extra_it_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before any work: no folder is made."""
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    code, _, said = run(capsys, monkeypatch, "--flavour", "trt-fp16", "--aot", "sm86", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "pip install 'edge-harness[aot]'" in said
    assert not (tmp_path / "out").exists()


def test_a_plan_that_may_use_sparse_kernels_shows_none_by_its_size(tmp_path: Path) -> None:
    file = make_linear(tmp_path).path
    dense, sparse = (
        build_plan(file, tmp_path / f"{name}.plan", BuildOptions((1, 2, 4), sparse=name == "sparse", target="sm86"))
        for name in ("dense", "sparse")
    )
    assert of_sparsity(dense, [dense, sparse]) == ""
    alone = "sparse.plan: sparse kernels were permitted; that any is used is not shown before it runs on its GPU."
    assert of_sparsity(sparse, [sparse]) == alone
    assert of_sparsity(sparse, [dense, sparse]) == f"{alone} It is as large as dense.plan, which has none."
