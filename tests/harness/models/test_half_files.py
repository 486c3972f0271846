"""A file that computes in half the bits becomes a twin of float32: half of them have no gradient where the network is sure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional as F

from export.fp16 import has_half
from export.onnx import export_onnx
from harness.errors import UsageError
from harness.models.load import load_twin

torch.manual_seed(0)
WEIGHT = torch.randn(5, 3 * 8 * 8)
SMALL = 1e-9  # of a cross-entropy's gradient where the network is sure; float16 ends at 6e-8


class Half(nn.Module):
    """Float32 in and out, half the bits between."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(WEIGHT.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.flatten(1).to(self.weight.dtype), self.weight).float()


def as_onnx(dtype: torch.dtype, path: Path) -> None:
    """Written by hand: onnxruntime has no bfloat16 on every CPU, and the file is read all the same."""
    kind = {torch.float16: TensorProto.FLOAT16, torch.bfloat16: TensorProto.BFLOAT16, torch.float64: TensorProto.DOUBLE}[dtype]
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["half"], to=kind),
        helper.make_node("Gemm", ["half", "weight"], ["result"], transB=1),
        helper.make_node("Cast", ["result"], ["logits"], to=TensorProto.FLOAT),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])
    weight = helper.make_tensor("weight", kind, WEIGHT.shape, WEIGHT.flatten().tolist())
    graph = helper.make_graph(nodes, "half", [images], [logits], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def as_pt2(dtype: torch.dtype, path: Path) -> None:
    example = (torch.rand(2, 3, 8, 8),)
    torch.export.save(torch.export.export(Half(dtype).eval(), example, dynamic_shapes=({0: torch.export.Dim("n")},)), path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("write", "name"), [(as_onnx, "half.onnx"), (as_pt2, "half.pt2")])
def test_a_file_of_half_the_bits_is_a_twin_of_float32(
    write: Callable[[torch.dtype, Path], None], name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    path = tmp_path / name
    write(dtype, path)
    twin = load_twin(str(path))
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits, expected = twin.module(x), x.flatten(1) @ WEIGHT.to(dtype).float().T
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(SMALL * logits.sum(), x)
    torch.testing.assert_close(gradient[0].flatten() / SMALL, WEIGHT.to(dtype).float().sum(0), rtol=1e-4, atol=1e-4)
    assert "half" in twin.remarks[0] and "computes in float32" in twin.remarks[0]
    exported = export_onnx(twin.module, twin.input_shape)
    assert not has_half(exported), "what is called fp32 computes in float32"


@pytest.mark.parametrize(("write", "name"), [(as_onnx, "double.onnx"), (as_pt2, "double.pt2")])
def test_a_file_of_float64_is_refused(write: Callable[[torch.dtype, Path], None], name: str, tmp_path: Path) -> None:
    """Its `onnx-fp32` computed in float64, and its `ort-int8` had not one integer."""
    write(torch.float64, tmp_path / name)
    with pytest.raises(UsageError, match=rf"{name} has '.*weight' in float64; expected float32. Export model.float\(\)"):
        load_twin(str(tmp_path / name))


def test_a_file_of_float32_has_no_remark(tmp_path: Path) -> None:
    as_pt2(torch.float32, tmp_path / "whole.pt2")
    assert load_twin(str(tmp_path / "whole.pt2")).remarks == ()
