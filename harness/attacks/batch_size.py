"""How many images at a time: as many as a budget of memory allows, the same number each time."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.attacks.gradient import frozen_eval
from harness.compute.placement import device

# By the kind of device that makes the gradients: bytes that a batch may keep, and more images than are any faster.
BUDGET = {"cpu": 2**30, "cuda": 2**33}
LARGEST = {"cpu": 128, "cuda": 1024}
# Of each image, as floats, that are there at once under Auto-PGD: clean, iterates, best, momentum, gradients, what is judged. Measured at
# 224 px on a network of two small convolutions: 25 to 33 times the images beside its activations.
IMAGE_COPIES = 28

_SIZES: WeakKeyDictionary[nn.Module, dict[tuple[str, int, int, int], int]] = WeakKeyDictionary()  # counting takes a forward pass


def batch_size(module: nn.Module, images: NDArray[np.uint8]) -> int:
    """The largest power of two, up to `LARGEST`, for which activations and copies of the images of a batch stay within `BUDGET`.

    Follows from the module, the images' size and the kind of device, never from the memory that happens to be free: a resumed set
    needs the batches that it was begun with.

    Args:
        images: uint8 (n, h, w, c).
    """
    height, width, channels = images.shape[1:]
    kind = device().type
    sizes = _SIZES.setdefault(module, {})
    if (known := (kind, channels, height, width)) not in sizes:
        of_one = activation_bytes(module, (channels, height, width)) + IMAGE_COPIES * 4 * channels * height * width
        sizes[known] = min(LARGEST[kind], 1 << max(int(BUDGET[kind] // of_one).bit_length() - 1, 0))
    return sizes[known]


def activation_bytes(module: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Bytes that the forward pass of one image, (c, h, w), keeps for the image's gradient.

    Counted where autograd saves them, not at the outputs of layers: a network read from a file has no layers, and many of a layer's
    outputs are overwritten.
    """
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, Tensor] = {}  # storage -> a tensor on it, which keeps the storage from being used again

    def keep(tensor: Tensor) -> Tensor:
        if (storage := tensor.untyped_storage().data_ptr()) not in weights:
            kept[storage] = tensor.detach()
        return tensor.detach()

    image = torch.zeros(1, *input_shape).requires_grad_()
    with frozen_eval(module), torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(image.clone())  # a copy, since a network may change its input in place
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
