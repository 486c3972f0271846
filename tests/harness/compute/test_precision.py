"""bfloat16 autocast: what it leaves in float32, and when it does nothing; and convolutions that oneDNN computes out of bounds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.compute.precision import arithmetic, native_bf16

pytestmark = pytest.mark.slow(20)

needs_bf16 = pytest.mark.skipif(not native_bf16(), reason="this CPU has no bfloat16 arithmetic")
IMAGES = torch.linspace(-1, 1, 2 * 4 * 8 * 8).reshape(2, 4, 8, 8)


@needs_bf16
@pytest.mark.parametrize(
    ("groups", "stride", "kind"),
    [(1, 1, torch.bfloat16), (1, 2, torch.bfloat16), (4, 1, torch.bfloat16), (4, 2, torch.float32), (2, (1, 2), torch.float32)],
)
def test_only_strided_grouped_convolutions_stay_in_float32(groups: int, stride: int | tuple[int, int], kind: torch.dtype) -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 4, 3, stride, 1, groups=groups)
    named = {"stride": stride, "padding": 1, "groups": groups}
    expected = convolution(IMAGES)
    with arithmetic("cpu"):
        found, again = convolution(IMAGES.bfloat16()), F.conv2d(IMAGES, convolution.weight, convolution.bias, **named)
        assert torch.is_autocast_enabled("cpu")
    assert found.dtype == again.dtype == kind
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(again.float(), expected, rtol=0.02, atol=0.02)


@needs_bf16
def test_a_mode_ends_with_its_block_even_after_an_error() -> None:
    convolution = nn.Conv2d(4, 4, 3, 2, 1, groups=4)
    with pytest.raises(ZeroDivisionError), arithmetic("cpu"):
        raise ZeroDivisionError
    with torch.autocast("cpu", torch.bfloat16):
        assert convolution(IMAGES).dtype == torch.bfloat16


def test_not_enabled_or_without_the_arithmetic_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.ones(2, 2)
    with arithmetic("cpu", bf16=False):
        assert (matrix @ matrix).dtype == torch.float32
    monkeypatch.setattr("harness.compute.precision.native_bf16", lambda _: False)
    with arithmetic("cpu"):
        assert (matrix @ matrix).dtype == torch.float32


NARROW_TRAINING = """
import itertools, sys, torch
from torch import nn
from torch.nn import functional as F
from harness.compute.precision import arithmetic

around = arithmetic if sys.argv[1] == "guarded" else lambda _: torch.autograd.set_detect_anomaly(False)
shapes = itertools.product((2, 3, 5, 7, 8), (1, 8, 9), (2, (1, 2), (2, 1)), ((8, 8), (12, 20)), (True, False), (1, 2))
for inputs, outputs, stride, size, frozen, groups in shapes:
    layer = nn.Conv2d(groups * inputs, groups * outputs, 1, stride, groups=groups).to(memory_format=torch.channels_last)
    exact = nn.Conv2d(groups * inputs, groups * outputs, 1, stride, groups=groups).double()
    exact.load_state_dict(layer.state_dict())
    x = torch.rand(16, groups * inputs, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    with around("cpu"):
        found = layer.requires_grad_(not frozen)(x).float()
    expected = exact(x.double())
    torch.testing.assert_close(found.double(), expected, rtol=2e-2, atol=2e-2)
    asked = [x] if frozen else [x, layer.weight, layer.bias]
    wanted = [x] if frozen else [x, exact.weight, exact.bias]
    for a, b in zip(torch.autograd.grad(found.sum(), asked), torch.autograd.grad(expected.sum(), wanted)):
        torch.testing.assert_close(a.double(), b.double(), rtol=2e-2, atol=2e-2)
print("whole")
"""


@pytest.mark.parametrize("isa", [{}, {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}], ids=["own", "avx2"])
def test_no_narrow_convolution_writes_out_of_bounds(isa: dict[str, str]) -> None:
    """In a process of its own, which it would end: with torch's own convolution and AVX2, it does."""
    done = subprocess.run(
        [sys.executable, "-c", NARROW_TRAINING, "guarded"], env=os.environ | isa, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "whole"), done.stderr
