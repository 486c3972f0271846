"""What several sets aimed at one module share: its fast forms, and its answers to the clean images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.attacks.batch_size import batch_size
from harness.attacks.clean import Clean, Mask, judged, zero_gradient
from harness.attacks.gradient import SAMPLE, fast, frozen_eval, in_float32
from harness.attacks.target import Engine, Guided, Pair
from harness.data.dataset import Dataset, to_tensor


class Forms:
    """Each form is chosen once, on the first images of the data, so that a resumed set is made with the one it was begun with.

    The module's weights must not change meanwhile.
    """

    def __init__(self, module: nn.Module, data: Dataset, answers: NDArray[np.float32] | None = None) -> None:
        """`answers`: the module's logits for the clean images of `data`, (n, classes), where they are known."""
        self._module, self._data, self._answers = module, data, answers
        self._forms: dict[bool, nn.Module] = {}
        self._zero = np.zeros(len(data), np.bool_)
        self._asked = np.zeros(len(data), np.bool_)

    def get(self, *, bf16: bool) -> nn.Module:
        """See `harness.attacks.gradient.fast`."""
        if bf16 not in self._forms:
            self._forms[bf16] = self._chosen(bf16)
        return self._forms[bf16]

    def clean(self, index: NDArray[np.intp], *, gradient: bool) -> Clean | None:
        """What the module answers to the clean images at `index`, its loss `gradient` among it; None where that is not known.

        Raises:
            UsageError: as `harness.attacks.clean.judge`.
        """
        if self._answers is None:
            return None
        right, margin = judged(torch.from_numpy(self._answers[index]), self._data.labels[index])
        return Clean(right, margin, self._zero_gradient(index) if gradient else np.zeros_like(right))

    def _zero_gradient(self, index: NDArray[np.intp]) -> Mask:
        """Each image is asked about once, for all sets."""
        fresh = index[~self._asked[index]]
        if len(fresh):
            form = self.get(bf16=True)
            with frozen_eval(self._module):
                self._zero[fresh] = zero_gradient(in_float32(form), self._data.images[fresh], self._data.labels[fresh])
            self._asked[fresh] = True
        return self._zero[index]

    def _chosen(self, bf16: bool) -> nn.Module:
        """An engine has no other form; where a module guides it, the module may have one, and each of a pair."""
        if isinstance(self._module, Engine):
            return self._module
        if isinstance(self._module, Guided):
            return Guided(self._module.engine, self._part(self._module.guide, bf16))
        if isinstance(self._module, Pair):
            return Pair(self._part(self._module.stays, bf16), self._part(self._module.falls, bf16))
        images = self._data.images
        return fast(self._module, to_tensor(images[: min(SAMPLE, batch_size(self._module, images))]), bf16=bf16)

    def _part(self, module: nn.Module, bf16: bool) -> nn.Module:
        return Forms(module, self._data).get(bf16=bf16)
