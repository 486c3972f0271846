"""A float graph that is another network is told of everything that is made of it, which eight bits or half of them would hide."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import cli


class Pooling(nn.Module):
    """torch's ONNX exporter leaves the divisor out (2.14), without a word."""

    def __init__(self, divisor: int | None) -> None:
        super().__init__()
        self.conv, self.head, self.divisor = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5), divisor

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(self.conv(x), 3, 2, 1, divisor_override=self.divisor)
        logits: Tensor = self.head(pooled.mean((2, 3)))
        return logits


@pytest.mark.parametrize("divisor", [None, 7])
@pytest.mark.parametrize("flavour", ["ort-int8", "trt-fp16"])
def test_a_graph_that_the_exporter_changed_is_told(
    flavour: str, divisor: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    program = torch.export.export(Pooling(divisor).eval(), (torch.rand(2, 3, 16, 16),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, tmp_path / "pooling.pt2")
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(60) % 5)
    words = [str(tmp_path / "pooling.pt2"), "--data", str(tmp_path / "data.npz"), "--flavour", flavour, "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["harness", "export", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code in ((0, None) if divisor is None else (3,))
    assert (
        ("NO PARITY: " in (said := capsys.readouterr().err)) == ("of the float graph that it is made of" in said) == (divisor is not None)
    )
    assert {path.name.rpartition("-")[0] for path in (tmp_path / "out").iterdir()} == {flavour}
