"""An ONNX file as PyTorch reads it, held against onnxruntime's answers by the file itself: a twin that differs is another network."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.session import open_session
from harness.errors import UsageError
from harness.models.onnx_graph import OnnxGraph
from harness.models.onnx_straight import INTEGERS
from harness.models.onnx_support import OPERATOR
from harness.models.probe import PROBES, TOLERANCE

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}  # of images, as onnxruntime names them
ROUNDING = {"QuantizeLinear", "Round", "Floor", "Ceil", "Sign"}
# Of the largest logit. Half the bits round otherwise in every kernel; a value beside a step may fall on its other side, and moves the rest.
HALF_TOLERANCE, STEP_TOLERANCE = 0.05, 0.5
ROUNDING_ROOM = 10  # of the distance between the graph's own answers in float32 and in float64: a deep network may magnify what is rounded


def check_answers(path: Path, graph: OnnxGraph, shape: tuple[int, int, int]) -> None:
    """Compare the two on random images. A file that onnxruntime does not run is not judged.

    Args:
        path: of the file; what it names beside it was looked at when it was read.
        graph: of that file, in eval mode.
        shape: (channels, height, width) of its input.

    Raises:
        UsageError: of most images the answers are apart by more than rounding explains.
    """
    images = torch.rand(graph.batch or PROBES, *shape, generator=torch.Generator().manual_seed(1))
    try:
        session = open_session(str(path), optimise=False)
        source = session.get_inputs()[0]
        expected = np.asarray(session.run(None, {source.name: images.numpy().astype(TYPES[source.type])})[0])
        with torch.no_grad():
            found = graph(images).float().numpy()
    except Exception:  # noqa: BLE001 - onnxruntime has a dozen types of its own; what the twin cannot run, its probe says
        return
    largest = max(float(np.abs(expected).max(initial=0)), TOLERANCE) if expected.dtype.kind == "f" else np.nan
    if not np.isfinite(largest):
        return
    if found.shape == expected.shape:
        apart = _apart(found, expected.astype(np.float32))
        if apart <= _tolerance(graph) * largest:
            return
        if apart <= min(ROUNDING_ROOM * _rounding(graph, images, found), STEP_TOLERANCE * largest):
            return
        seen = f"logits {apart:.3g} apart, the largest is {largest:.3g}"
    else:
        seen = f"logits of shape {found.shape}, there {expected.shape}"
    raise UsageError(
        f"{path} read into PyTorch answers otherwise than onnxruntime does by the file itself ({seen}): the twin would be another "
        "network. One of its operators means something else there. Save the network as .pt2, or export it without that operator, and "
        "please report it."
    )


def _rounding(graph: OnnxGraph, images: Tensor, found: NDArray[np.float32]) -> float:
    """How far its answers, `found`, are from those in float64; 0 of a graph that does not compute in it."""
    try:
        with torch.no_grad():
            return _apart(found, deepcopy(graph).double()(images.double()).numpy())
    except (RuntimeError, TypeError, ValueError):
        return 0.0


def _apart(found: NDArray[np.float32], expected: NDArray[np.floating]) -> float:
    """The largest difference of an image's logits, of the image in the middle."""
    return float(np.median(np.abs(found - expected).reshape(len(found), -1).max(axis=1)))


def _tolerance(graph: OnnxGraph) -> float:
    """By what is computed from the images: the sizes that exporters cast and round are exact."""
    steps = [step.function.args[0] for step in graph.steps if isinstance(step.function, partial)]
    made = [attributes for attributes in steps if isinstance(attributes, dict)]  # not those of arithmetic on sizes
    targets = {attributes["to"] for attributes in made if attributes[OPERATOR] == "Cast"}
    if targets & set(INTEGERS) or any(attributes[OPERATOR] in ROUNDING for attributes in made):
        return STEP_TOLERANCE
    return HALF_TOLERANCE if graph.widened else TOLERANCE
