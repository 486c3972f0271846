"""Activation ranges from calibration images, in bounded memory and time.

Own code because onnxruntime's calibrators (1.32) keep every activation of every image until the last one is read, grow their histograms
without bound when a later batch has larger values, and give `entropy` 128 bins for 128 levels, which leaves one candidate: the full range.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto

from export.errors import ExportError
from export.session import open_session, to_input

BUDGET_BYTES = 256 * 2**20  # activations held at once
BINS = 2048  # as in Migacz, "8-bit inference with TensorRT", GTC 2017
PERCENTILE = 99.99  # best for MobileNets in Wu et al. 2020 (arXiv:2004.09602), table 5
MIN_VALUES = 8 * BINS  # with fewer (logits, pooled features) a histogram says nothing about the tail: the range stays min-max
DEAD = 1e-30  # an activation that never exceeds this is zero
ENTROPY_STEP = 8  # bins between two candidate thresholds: 0.4 % of the range

Range = tuple[np.float32, np.float32]
Threshold = Callable[[NDArray[np.int64], bool], int]


@dataclass(frozen=True)
class Calibration:
    """Images (uint8, (n, h, w, c)) and the name of the method that turns activations into ranges."""

    images: NDArray[np.uint8]
    method: str

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ExportError(f"unknown calibration method '{self.method}'. Choices: {', '.join(METHODS)}.")
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or len(self.images) == 0:
            raise ExportError(
                f"calibration images are {self.images.dtype} {self.images.shape}; expected uint8 (n, height, width, channels), n > 0"
            )

    def manifest(self) -> dict[str, Any]:
        """What the artefact's manifest says about it."""
        digest = hashlib.sha256(str(self.images.shape).encode())
        digest.update(self.images.tobytes())
        return {"method": self.method, "n": len(self.images), "sha256": digest.hexdigest()}


def activation_ranges(model: ModelProto, calibration: Calibration) -> dict[str, Range]:
    """Lowest and highest value to represent of every float activation: name -> (low, high).

    Two passes at most: exact minimum and maximum, then (entropy, percentile) a histogram of |x| over the known range, from which a
    threshold t is chosen; the range is that of the data clipped to [-t, t].

    Raises:
        ExportError: an activation is NaN or infinite.
    """
    session = _observing(model)
    ranges: dict[str, Range] = {}
    for name, values in _activations(session, calibration.images):
        low, high = values.min(initial=0), values.max(initial=0)  # zero must be representable, for padding
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ExportError(
                f"activation '{name}' is not finite on the calibration images: the model overflows or its weights are damaged"
            )
        before = ranges.get(name, (low, high))
        ranges[name] = (min(before[0], low), max(before[1], high))
    choose = METHODS[calibration.method]
    if choose is None:
        return ranges
    tops = {name: max(-low, high) for name, (low, high) in ranges.items()}
    counts = {name: np.zeros(BINS, np.int64) for name, top in tops.items() if top > DEAD}
    for name, values in _activations(session, calibration.images):
        if name in counts:
            scaled = np.abs(values.ravel()) * (np.float32(BINS) / tops[name])
            counts[name] += np.bincount(np.minimum(scaled.astype(np.int32), BINS - 1), minlength=BINS)
    for name, histogram in counts.items():
        if histogram.sum() < MIN_VALUES:
            continue
        low, high = ranges[name]
        limit = np.float32(tops[name] * choose(histogram, bool(low < 0)) / BINS)
        ranges[name] = (max(low, -limit), min(high, limit))
    return ranges


def percentile_bin(counts: NDArray[np.int64], signed: bool) -> int:
    """Bins to keep so that they hold `PERCENTILE` of the values."""
    del signed
    share = np.cumsum(counts) / counts.sum()
    return int(np.searchsorted(share, PERCENTILE / 100)) + 1


def entropy_bin(counts: NDArray[np.int64], signed: bool) -> int:
    """Bins to keep so that the quantized distribution loses least: argmin KL(P || Q) over thresholds (Migacz, GTC 2017, slide 31 on).

    P is the clipped distribution, Q the same after merging into the levels that eight bits have for |x|: 128 where x is signed, else 256.
    The bin at zero takes its neighbour's count, as in NVIDIA's pytorch-quantization: after a ReLU it would outweigh all the others.
    """
    levels = 128 if signed else 256
    counts = counts.copy()
    counts[0] = counts[1]
    total, best = counts.sum(), (np.inf, BINS)
    if total == 0:
        return BINS
    for kept in range(levels, BINS + 1, ENTROPY_STEP):
        inside = counts[:kept]
        clipped = inside.astype(np.float64)
        clipped[-1] += counts[kept:].sum()
        starts = np.arange(levels) * kept // levels
        filled = np.add.reduceat(inside > 0, starts, dtype=np.int64)
        mean = np.add.reduceat(inside, starts) / np.maximum(filled, 1)
        merged = np.where(inside > 0, np.repeat(mean, np.diff(starts, append=kept)), 0)
        seen = clipped > 0
        p = clipped[seen] / total
        q = np.maximum(merged[seen] / max(merged.sum(), 1), 1e-9)  # a value that Q cannot express costs much, not infinity
        best = min(best, (float(np.sum(p * np.log(p / q))), kept))
    return best[1]


METHODS: dict[str, Threshold | None] = {"minmax": None, "entropy": entropy_bin, "percentile": percentile_bin}


def _observing(model: ModelProto) -> Any:
    """A session of the graph with every node output as a graph output."""
    watched = ModelProto()
    watched.CopyFrom(model)
    known = {value.name for value in watched.graph.output}
    names = [name for node in watched.graph.node for name in node.output if name and name not in known]
    watched.graph.output.extend(ValueInfoProto(name=name) for name in dict.fromkeys(names))
    return open_session(watched, optimise=False)


def _activations(session: Any, images: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """(name, values) of the input and of every float activation, for one batch of images after the other."""
    source = session.get_inputs()[0].name
    names = [value.name for value in session.get_outputs()]
    one = sum(value.nbytes for value in session.run(None, {source: to_input(images[:1])}))
    batch = int(np.clip(BUDGET_BYTES // max(one, 1), 1, 64))
    for start in range(0, len(images), batch):
        inputs = to_input(images[start : start + batch])
        yield source, inputs
        for name, values in zip(names, session.run(None, {source: inputs}), strict=True):
            if isinstance(values, np.ndarray) and values.dtype == np.float32:
                yield name, values
