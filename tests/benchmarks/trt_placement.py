"""Who places Q/DQ pairs for TensorRT best: this project, onnxruntime's quantize_static or nvidia-modelopt? Not a pytest test.

    python tests/benchmarks/trt_placement.py [--modelopt /path/to/a/python/with/nvidia-modelopt[onnx]]

Each quantizes the same float graphs with the same 512 calibration images and min-max ranges. The graph is then simulated by onnxruntime
without optimisation, checked by the lint, and built by TensorRT for RTX. modelopt runs in its own environment, since it brings its own
onnxruntime. The two larger networks are torchvision's, trained on the calibration images for a few minutes: their own accuracy is poor,
and what is compared is how well each quantized graph follows its float twin.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
import torchvision
from numpy.typing import NDArray
from onnx import ModelProto
from torch import nn

from devices.worker.tensorrt import BuildOptions, build_plan
from export.calibration import Calibration, activation_ranges
from export.errors import ExportError
from export.folded import folded
from export.lint import Severity, lint
from export.onnx import export_onnx
from export.session import open_session, to_input
from export.trt_int8 import quantize_trt_int8
from harness.data.dataset import Dataset
from harness.data.load import load_data
from harness.models.load import load_twin

SIDE = 32  # of the images
CLASSES = 10
BATCH = 64

MODELOPT = """
import sys, numpy as np
from modelopt.onnx.quantization import quantize
source, images, target = sys.argv[1:]
quantize(source, quantize_mode="int8", calibration_data=np.load(images), calibration_method="max", calibration_eps=["cpu"],
         high_precision_dtype="fp32", output_path=target, log_level="ERROR")
"""


class Enlarged(nn.Module):
    """A torchvision network for images of 224 pixels, given ones of 32 at `side` pixels, normalised."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network((nn.functional.interpolate(x, (self.side, self.side), mode="bilinear") - 0.45) / 0.25)


def trained(network: nn.Module, side: int, epochs: int, data: Dataset) -> nn.Module:
    """A few minutes of training: far from good, but with the weights and activations of a network that has learnt something."""
    torch.manual_seed(0)
    module = Enlarged(network, side).train()
    x, labels = torch.from_numpy(to_input(data.images)), torch.from_numpy(data.labels)
    x, labels = torch.cat([x, x.flip(3)]), torch.cat([labels, labels])
    steps = epochs * (len(x) // BATCH)
    optimiser = torch.optim.AdamW(module.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(x[index]), labels[index]).backward()
            optimiser.step()
            schedule.step()
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:  # after so few steps the running statistics lag far behind the weights
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for part in x.split(BATCH):
            module(part)
    return module.eval()


def by_quantize_static(model: ModelProto, data: Dataset, folder: Path) -> ModelProto:
    """onnxruntime with its options set as near to TensorRT's rules as they go; the ranges are this project's."""
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData, save_tensors_data

    prepared = folded(model)
    source, ranges, target = folder / "prepared.onnx", folder / "ranges.json", folder / "static.onnx"
    onnx.save(prepared, source)
    found = activation_ranges(prepared, Calibration(data.images, "minmax"))
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, {k: TensorData(lowest=a, highest=b) for k, (a, b) in found.items()}), ranges)
    quantize_static(
        source, target, calibration_cache_path=ranges, op_types_to_quantize=["Conv", "Gemm", "MatMul", "Add"], per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        extra_options={
            "ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, "QDQDisableWeightAdjustForInt32Bias": True,
            "OpTypesToExcludeOutputQuantization": ["Conv", "Gemm", "MatMul", "Add"],
        },
    )  # fmt: skip
    return onnx.load(target)


def by_modelopt(python: str, model: ModelProto, data: Dataset, folder: Path) -> ModelProto:
    """nvidia-modelopt, in its own Python."""
    source, images, target = folder / "source.onnx", folder / "images.npy", folder / "modelopt.onnx"
    onnx.save(model, source)
    np.save(images, to_input(data.images))
    done = subprocess.run([python, "-c", MODELOPT, str(source), str(images), str(target)], capture_output=True, text=True, check=False)
    if not target.exists():
        raise ExportError(f"modelopt wrote no file: {done.stderr.strip().splitlines()[-1:]}")
    return onnx.load(target)


def logits(model: ModelProto, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Node by node, as the file says."""
    session = open_session(model, optimise=False)
    name = session.get_inputs()[0].name
    parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    return np.concatenate([session.run(None, {name: to_input(part)})[0] for part in parts])


def describe(model: ModelProto) -> str:
    """Pairs on activations, weights that are quantized of all, and pairs at sums: on the skip side only / on both / on none."""
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    maker = {name: node for node in graph.node for name in node.output}

    def is_pair(name: str) -> bool:
        return name in maker and maker[name].op_type == "DequantizeLinear"

    activations = sum(node.op_type == "QuantizeLinear" and node.input[0] not in stored for node in graph.node)
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    quantized = sum(is_pair(node.input[0]) and is_pair(node.input[1]) for node in layers)
    sums = Counter(sum(map(is_pair, node.input)) for node in graph.node if node.op_type == "Add" and not stored.intersection(node.input))
    return f"{activations:3} | {quantized} of {len(layers)} | {sums[1]}/{sums[2]}/{sums[0]}"


def built(model: ModelProto, folder: Path) -> str:
    """What TensorRT for RTX and the lint say."""
    path = folder / "candidate.onnx"
    onnx.save(model, path)
    found = Counter(finding.severity for finding in lint(path, "tensorrt"))
    try:
        plan = build_plan(path, folder / "candidate.plan", BuildOptions(target="sm86"))
        said = f"built, {plan.bytes / 2**20:.2f} MiB"
    except ExportError as error:
        said = f"refused: {error}"
    return f"{found[Severity.ERROR]}/{found[Severity.WARNING]} | {said}"


def main() -> None:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modelopt", help="a Python with nvidia-modelopt[onnx]")
    given = parser.parse_args()
    test, calibration = load_data("cifar10-sample", input_shape=(3, SIDE, SIDE), classes=CLASSES, seed=0)
    networks: dict[str, Callable[[], nn.Module]] = {
        "resnet8": lambda: load_twin("resnet8").module,
        "resnet18x16-at": lambda: load_twin("resnet18x16-at").module,
        "MobileNetV3-small": lambda: trained(torchvision.models.mobilenet_v3_small(num_classes=CLASSES), 64, 20, calibration),
        "ResNet-50": lambda: trained(torchvision.models.resnet50(num_classes=CLASSES), 32, 10, calibration),
    }
    tools: dict[str, Callable[[ModelProto, Dataset, Path], ModelProto]] = {
        "this project": lambda model, data, _: quantize_trt_int8(model, Calibration(data.images, "minmax"), half=False),
        "quantize_static": by_quantize_static,
    }
    if given.modelopt:
        tools["modelopt"] = partial(by_modelopt, given.modelopt)
    print("| network | tool | clean, fp32 | clean, simulated | same label | RMS error of logits / RMS | pairs | layers in INT8 |", end="")
    print(" sums: skip/both/none | lint errors/warnings | TensorRT for RTX, sm86 |\n" + "|---" * 11 + "|")
    for name, make in networks.items():
        model = export_onnx(make(), (3, SIDE, SIDE))
        exact = logits(model, test.images)
        right = (exact.argmax(1) == test.labels).mean()
        for tool, quantize in tools.items():
            with tempfile.TemporaryDirectory() as place:
                try:
                    quantized = quantize(ModelProto.FromString(model.SerializeToString()), calibration, Path(place))
                except ExportError as error:
                    print(f"| {name} | {tool} | {error} |", flush=True)
                    continue
                seen = logits(quantized, test.images)
                error = float(np.sqrt(np.mean((seen - exact) ** 2) / np.mean(exact**2)))
                accuracy, same = (seen.argmax(1) == test.labels).mean(), (seen.argmax(1) == exact.argmax(1)).mean()
                figures = f"{right:.1%} | {accuracy:.1%} | {same:.1%} | {error:.3f}"
                print(f"| {name} | {tool} | {figures} | {describe(quantized)} | {built(quantized, Path(place))} |", flush=True)


if __name__ == "__main__":
    main()
