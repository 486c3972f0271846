"""What a user would write without this project: Foolbox's PGD, AutoAttack's APGD-CE and APGD-DLR, onnxruntime in float32 and default INT8.

    python tests/benchmarks/plain_script.py MODEL.pt2 DATA.npz N [--cascade] [--no-engines]

Attacks on the PyTorch model, clean and transferred accuracy of both engines, and their latency in a loop. One JSON line. With --cascade
both APGDs run in one AutoAttack evaluator, which leaves out the images that an earlier attack fooled.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import foolbox
import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from pyautoattack import AutoAttack
from torch import Tensor, nn

EPS, BATCH = 8 / 255, 128
PGD_STEPS, APGD_STEPS = 20, 50
CALIBRATION, BATCH_SIZES, LOOP_S = 256, (1, 8, 32), 2.0


class Model(nn.Module):
    """A saved program, whose own `eval` refuses to be called."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.program = torch.export.load(path).module()
        for parameter in self.program.parameters():
            parameter.requires_grad_(False)
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        return self.program(x)

    def train(self, mode: bool = True) -> Model:
        """Nothing in the program has a mode."""
        return self


class Calibration(CalibrationDataReader):
    """The first images, 32 at a time."""

    def __init__(self, x: Tensor) -> None:
        self.batches = iter([{"x": part.numpy()} for part in x[:CALIBRATION].split(32)])

    def get_next(self) -> dict[str, Any] | None:
        """The next batch."""
        return next(self.batches, None)


def attacked(model: Model, x: Tensor, y: Tensor, cascade: bool) -> dict[str, Tensor]:
    """The adversarial images of each attack."""
    wrapped, pgd = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), foolbox.attacks.LinfPGD(steps=PGD_STEPS)
    batches = zip(x.split(BATCH), y.split(BATCH), strict=True)
    found = {"pgd": torch.cat([pgd(wrapped, images, labels, epsilons=EPS)[1] for images, labels in batches])}
    names = ["apgd-ce", "apgd-dlr"]
    for group in [names] if cascade else [[name] for name in names]:
        evaluator = AutoAttack(model, norm="Linf", eps=EPS, version="custom", attacks=group, device="cpu", seed=0)
        evaluator.apgd.n_iter, evaluator.apgd.n_restarts = APGD_STEPS, 1
        images = evaluator.run_standard_evaluation(x, y, batch_size=BATCH)
        found["+".join(group)] = images[0] if isinstance(images, tuple) else images
    return found


def engine(path: str, x: Tensor, y: Tensor, sets: dict[str, Tensor]) -> dict[str, Any]:
    """Accuracy on clean and adversarial images, and the median latency."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def accuracy(images: Tensor) -> float:
        named = np.concatenate([session.run(None, {"x": part.numpy()})[0].argmax(1) for part in images.split(BATCH)])
        return float((named == y.numpy()).mean())

    found: dict[str, Any] = {"clean": accuracy(x)} | {name: accuracy(images) for name, images in sets.items()}
    for size in BATCH_SIZES:
        batch, times = {"x": x[:size].numpy()}, []
        for _ in range(20):
            session.run(None, batch)
        until = time.perf_counter() + LOOP_S
        while time.perf_counter() < until:
            started = time.perf_counter()
            session.run(None, batch)
            times.append(time.perf_counter() - started)
        found[f"p50_ms_{size}"] = 1e3 * float(np.median(times))
    return found


def main() -> None:
    """Print one JSON line."""
    started = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("n", type=int)
    parser.add_argument("--cascade", action="store_true")
    parser.add_argument("--no-engines", action="store_true")
    options = parser.parse_args()
    model, data = Model(options.model), np.load(options.data)
    x = torch.from_numpy(data["images"][: options.n]).permute(0, 3, 1, 2).contiguous().float() / 255
    y = torch.from_numpy(data["labels"][: options.n]).long()
    with contextlib.redirect_stdout(io.StringIO()):
        sets = attacked(model, x, y, options.cascade)
    with torch.no_grad():
        right = {name: torch.cat([model(part).argmax(1) for part in images.split(BATCH)]) == y for name, images in sets.items()}
    found: dict[str, Any] = {name: float(kept.float().mean()) for name, kept in right.items()}
    found["worst"] = float(torch.stack(list(right.values())).all(0).float().mean())
    found["attacks_s"] = time.perf_counter() - started
    if not options.no_engines:
        with tempfile.TemporaryDirectory() as place:
            fp32, int8 = str(Path(place) / "fp32.onnx"), str(Path(place) / "int8.onnx")
            names: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamic_shapes": ({0: torch.export.Dim("n")},)}
            torch.onnx.export(model, (x[:2],), fp32, dynamo=True, external_data=False, verbose=False, **names)
            quantize_static(fp32, int8, Calibration(x))
            found |= {"onnx-fp32": engine(fp32, x, y, sets), "ort-int8": engine(int8, x, y, sets)}
    found["total_s"] = time.perf_counter() - started
    print(json.dumps(found))


if __name__ == "__main__":
    main()
