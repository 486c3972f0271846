"""Batch norms folded into the convolutions before them, for as long as a network is attacked.

In evaluation mode a batch norm scales and shifts each channel: the convolution can do that. Measured on two cores with AVX512-BF16
(resnet18x16, 128 images, bfloat16), the gradient of the images takes 60 ms instead of 75.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]
_PAIRS: WeakKeyDictionary[nn.Module, list[Pair]] = WeakKeyDictionary()


@contextmanager
def folded(network: nn.Module) -> Iterator[None]:
    """Inside, a network in evaluation mode answers the same, up to rounding, and faster. Its weights must not change meanwhile.

    What cannot be traced, and every batch norm that does not follow a convolution alone, stays as it is.
    """
    inner = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    if inner not in _PAIRS:
        _PAIRS[inner] = pairs(inner)
    done: list[nn.Module] = []
    try:
        for conv, norm in _PAIRS[inner]:
            _fold(conv, norm)
            done += [conv, norm]
        yield
    finally:
        for layer in done:
            del layer.forward


def pairs(network: nn.Module) -> list[Pair]:
    """Each convolution whose output goes to one batch norm and nowhere else; both called once."""
    try:
        graph = _Tracer().trace(network)
    except Exception:  # noqa: BLE001  # whatever a forward pass raises that does not run on proxies
        return []
    layers = dict(network.named_modules())
    called = [layers[str(node.target)] for node in graph.nodes if node.op == "call_module"]
    found = []
    for node in graph.nodes:
        if node.op != "call_module" or not node.args or not isinstance(before := node.args[0], fx.Node) or before.op != "call_module":
            continue
        conv, norm = layers[str(before.target)], layers[str(node.target)]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.affine and norm.track_running_stats:
            alone = len(before.users) == 1 and called.count(conv) == called.count(norm) == 1
            found += [(conv, norm)] if alone else []
    return found


class _Tracer(fx.Tracer):
    """Looks into containers alone: a layer with its own control flow is one step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        layer = isinstance(m, nn.Conv2d | nn.BatchNorm2d) or not any(True for _ in m.children())
        return layer or super().is_leaf_module(m, module_qualified_name)


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """w' = w g / sqrt(v + eps), b' = b_norm + (b - mean) g / sqrt(v + eps), on the instances: their classes' own forward comes back."""
    assert norm.running_var is not None and norm.running_mean is not None  # noqa: S101  # `pairs`
    with torch.no_grad():
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight = (conv.weight * scale.view(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
        bias = norm.bias - norm.running_mean * scale
        if conv.bias is not None:
            bias = bias + conv.bias * scale
    conv.forward = lambda input: conv._conv_forward(input, weight, bias)  # type: ignore[method-assign]
    norm.forward = lambda input: input  # type: ignore[method-assign]
