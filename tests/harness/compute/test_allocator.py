"""Freed memory is taken again instead of being mapped anew: seen in the pages that the kernel hands out."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, sys
from harness.compute.allocator import keep_freed_memory
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_what_is_kept_can_be_given_back() -> None:
    """Holes too, which lie below what is still used."""
    code = (
        "import resource, numpy as np\n"
        "from harness.compute.allocator import give_back, keep_freed_memory\n"
        "def rss():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize() / 2**20\n"
        "keep_freed_memory()\n"
        "before = rss()\n"
        "hole, used = np.ones(64 << 20, np.uint8), np.ones(1 << 20, np.uint8)\n"
        "del hole\n"
        "kept = rss()\n"
        "give_back()\n"
        "print(round(kept - before), round(rss() - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert kept >= 60 and left <= 4
