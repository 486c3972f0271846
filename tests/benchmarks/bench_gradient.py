"""How far is a gradient of the images from what its convolutions alone take, and what does the exported graph read back cost?

    python tests/benchmarks/bench_gradient.py [--model resnet18x16-at] [--images 64] [--rounds 15] [--threads 1]

The twin and the STE twin of its ort-int8 artefact, each in the fast form that attacks use, in float32 and, where the CPU has it, bfloat16;
and the twin's convolutions one by one, forward and backward to their inputs, channels-last. All in turns, medians. Limits: the convolutions
are at least 60 % of the twin's gradient; a float32 gradient of the STE twin costs at most 1.5 of the twin's. Not a pytest test.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from machine import machine_line
from torch import Tensor, nn

from export.flavours import export_flavour
from harness.attacks.gradient import FastForm, fast, frozen_eval, loss_gradient
from harness.compute.precision import native_bf16
from harness.data.dataset import to_tensor
from harness.data.load import load_data
from harness.models.load import load_twin
from harness.models.onnx_graph import read_onnx

SHARE, RATIO = 0.6, 1.5


def gradient(module: nn.Module, images: Tensor) -> Callable[[], object]:
    """A gradient of the cross-entropy against the class that is named."""

    def once() -> Tensor:
        x = images.clone().requires_grad_()
        logits = module(x)
        return loss_gradient(logits, logits.argmax(1), x)

    return once


def convolutions(form: FastForm, images: Tensor, dtype: torch.dtype) -> Callable[[], object]:
    """Every convolution of a form, forward and backward to its input, on tensors of the sizes it has there."""
    calls: list[tuple[Tensor, Tensor, nn.Conv2d]] = []

    def note(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        x, out = (t.detach().to(dtype).contiguous(memory_format=torch.channels_last) for t in (given[0], output))
        calls.append((x, torch.randn_like(out), layer))

    hooks = [layer.register_forward_hook(note) for layer in form.modules() if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        form(images)
    for hook in hooks:
        hook.remove()
    weights = [layer.weight.detach().to(dtype).contiguous(memory_format=torch.channels_last) for _, _, layer in calls]

    def once() -> None:
        for (x, out, layer), weight in zip(calls, weights, strict=True):
            told = (layer.stride, layer.padding, layer.dilation)
            torch.ops.aten.convolution(x, weight, None, *told, False, [0, 0], layer.groups)
            torch.ops.aten.convolution_backward(out, x, weight, None, *told, False, [0, 0], layer.groups, [True, False, False])

    return once


def main() -> None:
    """Print every time and ratio; exit code 1 where one misses its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18x16-at")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine_line(options.threads))
    twin = load_twin(options.model)
    data, calibration = load_data("cifar10-sample", input_shape=twin.input_shape, classes=twin.classes, seed=0)
    images = to_tensor(data.images[: options.images])
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stderr(io.StringIO()):
        artefact = export_flavour(
            twin.module, "ort-int8", input_shape=twin.input_shape, source_sha256=twin.sha256, calibration_images=calibration.images,
            calibration_method="minmax", folder=Path(place),
        )  # fmt: skip
        graph = read_onnx(artefact.path).eval()
    work: dict[str, Callable[[], object]] = {}
    for name, bf16 in (("float32", False), ("bfloat16", True))[: 1 + native_bf16()]:
        form, ste = fast(twin.module, images, bf16=bf16), fast(graph, images, bf16=bf16)
        assert isinstance(form, FastForm)
        work |= {f"twin, {name}": gradient(form, images), f"STE twin, {name}": gradient(ste, images)}
        work[f"convolutions alone, {name}"] = convolutions(form, images, torch.bfloat16 if bf16 else torch.float32)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    with frozen_eval(twin.module), frozen_eval(graph):
        for _ in range(2 + options.rounds):
            for name, once in work.items():
                started = time.perf_counter()
                once()
                seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(spent[2:]) for name, spent in seconds.items()}
    for name, spent in median.items():
        print(f"{name}: {1e3 * spent:.1f} ms for {options.images} images, {options.images / spent:,.0f} images/s")
    missed = False
    for name in ("float32", "bfloat16")[: 1 + native_bf16()]:
        share = median[f"convolutions alone, {name}"] / median[f"twin, {name}"]
        missed |= share < SHARE
        print(f"convolutions of the twin's gradient, {name}: {share:.0%} (limit {SHARE:.0%})   {'ok' if share >= SHARE else 'MISSED'}")
    ratio = median["STE twin, float32"] / median["twin, float32"]
    missed |= ratio > RATIO
    print(f"STE twin / twin, float32: {ratio:.2f} (limit {RATIO:g})   {'ok' if ratio <= RATIO else 'MISSED'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
