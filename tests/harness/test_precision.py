"""bfloat16 autocast: what it leaves in float32, and when it does nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.precision import bfloat16, native_bf16

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
    with bfloat16("cpu"):
        found, again = convolution(IMAGES.bfloat16()), F.conv2d(IMAGES, convolution.weight, convolution.bias, **named)
        assert torch.is_autocast_enabled("cpu")
    assert found.dtype == again.dtype == kind
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(again.float(), expected, rtol=0.02, atol=0.02)


@needs_bf16
def test_a_mode_ends_with_its_block_even_after_an_error() -> None:
    convolution = nn.Conv2d(4, 4, 3, 2, 1, groups=4)
    with pytest.raises(ZeroDivisionError), bfloat16("cpu"):
        raise ZeroDivisionError
    with torch.autocast("cpu", torch.bfloat16):
        assert convolution(IMAGES).dtype == torch.bfloat16


def test_not_enabled_or_without_the_arithmetic_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.ones(2, 2)
    with bfloat16("cpu", enabled=False):
        assert (matrix @ matrix).dtype == torch.float32
    monkeypatch.setattr("harness.precision.native_bf16", lambda _: False)
    with bfloat16("cpu"):
        assert (matrix @ matrix).dtype == torch.float32
