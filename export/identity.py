"""Which network a module is: one hash over all that its answers follow from."""

from __future__ import annotations

import hashlib
import re
from itertools import chain
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


def module_sha256(module: nn.Module) -> str:
    """SHA-256 over the structure as printed, and each parameter's and buffer's name, dtype, shape and bytes.

    The hash of a weights file does not tell twins apart: the same file can be read with another normalisation or architecture.
    """
    structure = re.sub(r"0x[0-9a-f]+", "", repr(module))  # addresses of functions change from process to process
    digest = hashlib.sha256(structure.encode())
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
