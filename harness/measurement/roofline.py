"""The roofline: no processor is faster than its arithmetic and its memory allow. Gives a floor under a latency, always an estimate.

Source: Williams, Waterman & Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009.

Everything is counted so that the floor errs downwards: every multiply-accumulate at the highest rate that the artefact's precision allows,
each weight, input and output moved once, activations between layers never (they may stay in a cache), and nothing at all for what fits
into the largest cache. (One exception: a Winograd convolution needs fewer multiplications than are counted; INT8 kernels do not use it.)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

# The arithmetic that may run a precision: an INT8 engine may leave layers in float where that is faster. TF32 is
# off in what is built here, and may be on in a plan that the user built: the floor errs downwards.
ARITHMETIC = {"fp32": ("fp32", "tf32"), "fp16": ("fp32", "tf32", "fp16"), "int8": ("fp32", "tf32", "fp16", "int8")}
WEIGHT_BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0}
SPARSE = "-sparse"  # a key of `Peaks.operations_per_s` with 2:4 weights, e.g. int8-sparse
SPARSE_BYTES = 0.5  # of a dense weight; the positions of the non-zeros come on top


@dataclass(frozen=True)
class Peaks:
    """What a processor reaches at most.

    Attributes:
        operations_per_s: by arithmetic (fp32, tf32, fp16, int8, int8-sparse …); a multiply-accumulate is two operations.
        bytes_per_s: to and from memory; None: not known.
        cache_bytes: the largest cache; None: not known, and memory sets no floor.
        source: where the figures come from, with the power mode where there is one.
    """

    operations_per_s: dict[str, float]
    bytes_per_s: float | None
    cache_bytes: int | None
    source: str


@dataclass(frozen=True)
class Work:
    """What one image costs: multiply-accumulates, weights, and numbers in and out (as float32)."""

    macs: int
    weights: int
    input_shape: tuple[int, int, int]
    classes: int

    def moved_bytes(self, batch: int, precision: str, sparse: bool) -> float:
        """Bytes that must be moved at least: the weights once, input and output of every image."""
        weight = WEIGHT_BYTES[precision] * (SPARSE_BYTES if sparse else 1)
        return self.weights * weight + 4 * batch * (prod(self.input_shape) + self.classes)


@dataclass(frozen=True)
class Floor:
    """No call can be faster. `ns` is the larger of the two; `bound` says which."""

    compute_ns: float
    memory_ns: float

    @property
    def ns(self) -> float:
        """Nanoseconds of one call."""
        return max(self.compute_ns, self.memory_ns)

    @property
    def bound(self) -> Literal["arithmetic", "memory"]:
        """What sets the floor."""
        return "memory" if self.memory_ns > self.compute_ns else "arithmetic"


def peak_arithmetic(peaks: Peaks, precision: str, sparse: bool = False) -> tuple[str, float] | None:
    """The fastest arithmetic that an artefact of this precision may use, and its operations per second; None where no figure is known."""
    names = [f"{name}{suffix}" for name in ARITHMETIC[precision] for suffix in (("", SPARSE) if sparse else ("",))]
    known = {name: peaks.operations_per_s[name] for name in names if peaks.operations_per_s.get(name)}
    return max(known.items(), key=lambda item: item[1]) if known else None


def floor(work: Work, peaks: Peaks, batch: int, precision: str, sparse: bool = False) -> Floor | None:
    """The least time of one call of `batch` images; None where the peaks do not say.

    Args:
        work: of one image.
        peaks: of the processor, in the power mode it runs in.
        batch: images per call, >= 1.
        precision: of the artefact, a key of `ARITHMETIC`.
        sparse: its weights are 2:4 sparse.
    """
    fastest = peak_arithmetic(peaks, precision, sparse)
    if fastest is None:
        return None
    memory_ns = 0.0
    if peaks.bytes_per_s and peaks.cache_bytes is not None:
        memory_ns = max(0.0, work.moved_bytes(batch, precision, sparse) - peaks.cache_bytes) / peaks.bytes_per_s * 1e9
    return Floor(2 * work.macs * batch / fastest[1] * 1e9, memory_ns)
