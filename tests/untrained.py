"""An untrained ResNet-8 of four classes and random images, for runs in which it does not matter what is answered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from harness.models.zoo import ARCHITECTURES


def make_untrained(folder: Path) -> list[str]:
    """Write both into a folder; the words that name them on the command line."""
    torch.manual_seed(0)
    save_file(ARCHITECTURES["resnet8"](4).state_dict(), folder / "net.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "data.npz", images=images, labels=np.arange(40) % 4)
    return ["--model", str(folder / "net.safetensors"), "--arch", "resnet8", "--data", str(folder / "data.npz")]
