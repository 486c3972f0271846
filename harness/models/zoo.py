"""The architectures this project trains and the networks it ships. One table each."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.models import mobilenet, resnet, wide_resnet

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = Path(__file__).parent / "weights"

ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "resnet8": resnet.resnet8,
    **{f"resnet18x{width}": partial(resnet.cifar_resnet18, width) for width in (16, 24, 32, 64)},
    **{f"wrn-{depth}-{widen}": partial(wide_resnet.WideResNet, depth, widen) for depth, widen in ((28, 1), (28, 4), (28, 10), (34, 10))},
    "mobilenetv2-cifar": partial(mobilenet.CifarMobileNetV2, 1.0),
    **{f"mobilenetv2-cifar-x{width}": partial(mobilenet.CifarMobileNetV2, width) for width in (0.25, 0.5)},
}


def cards(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """The networks shipped: name -> model card. A network is NAME.safetensors with its card NAME.json, and nothing else.

    Args:
        folder: where they lie; the package's own by default.
    """
    cards = sorted((folder or WEIGHTS).glob("*.json"), key=lambda path: path.stem)
    return {path.stem: json.loads(path.read_text()) for path in cards if path.with_suffix(".safetensors").is_file()}


def weights_file(name: str) -> Path:
    """The weights of a network shipped."""
    return WEIGHTS / f"{name}.safetensors"
