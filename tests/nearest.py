"""A classifier of 8-pixel images that every CPU answers alike, for whole runs that need no larger network: each takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES, SIDE, IMAGES = 4, 8, 160


def make_nearest(folder: Path) -> tuple[Path, Path]:
    """Images around four centres (`four.npz`), and the linear classifier that names the nearest one (`nearest.onnx`), returned first.

    Its margins are wide of any rounding; images that lean towards another class are robust to less, at most to about 10/255.
    """
    rng = np.random.default_rng(0)
    centres = 128 + rng.integers(-30, 31, (CLASSES, SIDE, SIDE, 3))
    labels = np.arange(IMAGES) % CLASSES
    blend = rng.uniform(0.0, 0.48, (IMAGES, 1, 1, 1))  # how far each leans towards another class
    images = (1 - blend) * centres[labels] + blend * centres[(labels + 1) % CLASSES]
    np.savez(folder / "four.npz", images=np.clip(images.round(), 0, 255).astype(np.uint8), labels=labels)
    flat = centres.transpose(0, 3, 1, 2).reshape(CLASSES, -1) / 255
    weight, bias = 4 * (flat - flat.mean(0)).T, -2 * ((flat - flat.mean(0)) * (flat + flat.mean(0))).sum(1)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["flat"]), helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"])],
        "nearest centre",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in (("weight", weight), ("bias", bias))],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "nearest.onnx")
    return folder / "nearest.onnx", folder / "four.npz"
