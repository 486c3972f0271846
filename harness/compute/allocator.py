"""The C library's allocator, told to keep what is freed.

A step of an attack or of a training takes and frees the same large blocks as the step before. glibc maps each of them anew, and the kernel
clears its pages again: on a CPU that is a fifth of a small network's time.

Source: mallopt(3), M_MMAP_MAX and M_TRIM_THRESHOLD.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """From now on this process takes large blocks from its heap and gives none back before `give_back`.

    Engines are measured in processes of their own, which this does not reach. Nothing happens where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def give_back() -> None:
    """Return to the system what is kept and free at this moment: between two pieces of work, whose blocks are of other sizes.

    Else each leaves holes that the next does not fit, and memory grows with the number of pieces. Nothing happens where the C library is
    not glibc.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
