"""An export whose graph cannot be read back into PyTorch leaves the twin's sets and those on the engine itself."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness import cli
from harness.records import RunRecord, Verdict


class Masked(nn.Module):
    """Assigns to where a mask says: in ONNX the places are found by NonZero, whose result has a size of its own for every image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        h[h < 0.1] = 0
        logits: Tensor = self.head(h.mean((2, 3)))
        return logits


def test_the_run_goes_on_without_sets_on_its_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    network = Masked().eval()
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    with torch.no_grad():
        labels = network(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).argmax(1).numpy()
    program = torch.export.export(network, (torch.rand(2, 3, 16, 16),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, tmp_path / "masked.pt2")
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    words = ["--model", str(tmp_path / "masked.pt2"), "--data", str(tmp_path / "data.npz"), "--out", str(tmp_path / "run")]
    words += ["--device", "null", "--samples", "16", "--attack", "fgsm", "--batch", "1", "--eps", "2/255"]
    monkeypatch.setattr(sys, "argv", ["harness", "bench", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 3
    said = capsys.readouterr().err
    assert "its graph cannot be attacked (S3), so that its claim can fail but not hold" in said and "read back: NonZero." in said
    assert "Supported: " not in said
    record = RunRecord.load(tmp_path / "run")
    assert {attack.source for attack in record.attacks} == {"S0", "S1", "S4", "gate"}
    claim = next(claim for claim in record.claims if claim.engine == "ort-int8")
    assert claim.sources == ["S1", "S4"] and claim.verdict is not Verdict.HOLDS
