"""Where torch computes gradients: one GPU where there is one, else the CPU. Engines and their measurement know nothing of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

CPU = torch.device("cpu")


@cache
def device() -> torch.device:
    """This process's, chosen once; of several processes that torchrun started, each has a GPU of its own."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else CPU


def name() -> str:
    """The GPU's name, or `cpu`."""
    return torch.cuda.get_device_name(device()) if device().type == "cuda" else "cpu"


@contextmanager
def repeatable() -> Iterator[None]:
    """Convolutions on a GPU in float32 proper, not in TensorFloat-32, and by the same kernels every time. Nothing changes on a CPU."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
