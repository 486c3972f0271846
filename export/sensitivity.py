"""How far a network's own answers move when its sums are rounded otherwise.

Another runtime adds the same products in another order. In a smooth network that moves a logit by a millionth; where activations are
rounded to a few levels, a value at a border falls to the other side, and what it moves is a whole level. An artefact cannot be nearer to
its twin than the twin is to itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from export.scale import apart
from export.session import to_input

DRAWS = 4
BATCH = 32
# The error of a float32 sum of K products that are added pairwise, as vector units do, is of the order sqrt(log2 K) 2^-24 of it (Higham,
# "Accuracy and Stability of Numerical Algorithms", 2002, section 4.2); K is that of the second factor, a weight (out, in, ...) or a
# matrix (in, out).
UNIT = 2.0**-24
aten = torch.ops.aten
SUMS = {aten.convolution.default: 1, aten.mm.default: 1, aten.bmm.default: 1, aten.addmm.default: 2}


class _Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds the error of another order of summation to every convolution and matrix product."""

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        place = SUMS.get(function)
        if place is None or not isinstance(result, Tensor) or result.dtype != torch.float32:
            return result
        factor: Tensor = args[place]
        terms = factor[0].numel() if function is aten.convolution.default else factor.shape[-2]
        noise = torch.randn(result.shape, generator=self.generator)
        unit = 1 if function is aten.convolution.default else result.ndim - 1  # each has sums of a size of its own
        size = result.square().mean([place for place in range(result.ndim) if place != unit], keepdim=True).sqrt()
        return result + noise * (UNIT * math.log2(terms + 1) ** 0.5 * size)


def own_error(module: nn.Module, images: NDArray[np.uint8]) -> float:
    """The largest change of a logit (as `export.scale.apart` has it), over the images and `DRAWS` draws of rounding errors.

    Args:
        module: float32, in eval mode, images (n, c, h, w) in [0, 1] -> logits (n, classes).
        images: uint8 (n, h, w, c), n > 0.
    """
    largest = 0.0
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(to_input(images[start : start + BATCH]))
            logits = module(batch)
            for seed in range(DRAWS):
                with _Rounding(seed):
                    moved = module(batch)
                largest = max(largest, float(apart(logits.numpy(), moved.numpy()).max()))
    return largest
