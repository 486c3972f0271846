"""The fast forms of a module that several sets are aimed at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from harness.attacks.batch_size import batch_size
from harness.attacks.gradient import SAMPLE, fast
from harness.attacks.target import Engine, Guided, Pair
from harness.data.dataset import to_tensor


class Forms:
    """Each form is chosen once, on the first images of the data, so that a resumed set is made with the one it was begun with.

    The module's weights must not change meanwhile.
    """

    def __init__(self, module: nn.Module, images: NDArray[np.uint8]) -> None:
        """`images`: uint8 (n, h, w, c), of the whole data."""
        self._module, self._images = module, images
        self._forms: dict[bool, nn.Module] = {}

    def get(self, *, bf16: bool) -> nn.Module:
        """See `harness.attacks.gradient.fast`."""
        if bf16 not in self._forms:
            self._forms[bf16] = self._chosen(bf16)
        return self._forms[bf16]

    def _chosen(self, bf16: bool) -> nn.Module:
        """An engine has no other form; where a module guides it, the module may have one, and each of a pair."""
        if isinstance(self._module, Engine):
            return self._module
        if isinstance(self._module, Guided):
            return Guided(self._module.engine, self._part(self._module.guide, bf16))
        if isinstance(self._module, Pair):
            return Pair(self._part(self._module.stays, bf16), self._part(self._module.falls, bf16))
        sample = to_tensor(self._images[: min(SAMPLE, batch_size(self._module, self._images))])
        return fast(self._module, sample, bf16=bf16)

    def _part(self, module: nn.Module, bf16: bool) -> nn.Module:
        return Forms(module, self._images).get(bf16=bf16)
