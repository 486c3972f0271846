"""Freed memory is taken again instead of being mapped anew: seen in the pages that the kernel hands out."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest

from harness.allocator import pages

FAULTS = """
import ctypes, resource, sys
from harness.allocator import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def touch(size=64 << 20):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_blocks_are_taken_again() -> None:
    def faults(*how: str) -> int:
        ran = subprocess.run([sys.executable, "-c", FAULTS, *how], capture_output=True, text=True, check=True)
        return int(ran.stdout)

    assert faults() > 1000, "the default maps a block of 64 MiB each time; else this test says nothing"
    assert faults("keep") < 10


def test_pages_go_back_to_the_system_with_their_array() -> None:
    """In a process that keeps what is freed, as the program does."""
    code = (
        "import resource, numpy as np\n"
        "from harness.allocator import keep_freed_memory, pages\n"
        "def rss():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize() / 2**20\n"
        "keep_freed_memory()\n"
        "before = rss()\n"
        "array = pages((64, 1024, 1024), np.uint8)\n"
        "array[:] = 1\n"
        "held = rss()\n"
        "del array\n"
        "print(round(held - before), round(rss() - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    held, left = map(int, done.stdout.split())
    assert 60 <= held <= 70 and left <= 4


def test_pages_are_zeros_that_can_be_written() -> None:
    array = pages((3, 2), np.float32)
    assert array.shape == (3, 2) and array.dtype == np.float32 and not array.any()
    array[1] = 5
    assert array.tolist() == [[0, 0], [5, 5], [0, 0]] and pages((0, 4), np.uint8).shape == (0, 4)
