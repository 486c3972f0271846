"""Any number of images through an engine whose file fixes how many go into one call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from devices.worker.engines import RefusedError

Floats = NDArray[np.float32]


def in_pieces(call: Callable[[Floats], Floats], images: Floats, shape: tuple[int, ...], least: int, most: int) -> Floats:
    """Logits (n, classes) of images (n, c, h, w), C-contiguous, in calls of `least` to `most`; a short last one is filled up with zeros.

    Raises:
        RefusedError: images of another shape than (channels, height, width) = `shape`.
    """
    if images.shape[1:] != shape:
        raise RefusedError(f"the engine takes images of {'x'.join(map(str, shape))}, the model {'x'.join(map(str, images.shape[1:]))}")
    answers = []
    for first in range(0, len(images), most):
        part = images[first : first + most]
        filled = np.concatenate([part, np.zeros((least - len(part), *shape), np.float32)]) if len(part) < least else part
        answers.append(call(filled)[: len(part)])
    return answers[0] if len(answers) == 1 else np.concatenate(answers)
