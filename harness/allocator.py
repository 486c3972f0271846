"""The C library's allocator, told to keep what is freed.

A step of an attack or of a training takes and frees the same large blocks as the step before. glibc maps each of them anew, and the kernel
clears its pages again: on a CPU that is a fifth of a small network's time.

Source: mallopt(3), M_MMAP_MAX and M_TRIM_THRESHOLD.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """From now on this process takes large blocks from its heap and gives none back: its memory stays at its peak.

    Engines are measured in processes of their own, which this does not reach. Nothing happens where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def pages(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros on pages of its own, which go back to the system with it.

    For what is as large as a set of images and goes away again: on a heap that is kept, each would leave a hole that the next does not fit.
    """
    import numpy as np  # not with the command line

    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), dtype, math.prod(shape)).reshape(shape)
