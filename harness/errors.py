"""The tree of this project's own exceptions. Raised where the fault is seen, caught once, in `harness.cli`."""

from __future__ import annotations

import difflib
import errno
import lzma
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable

# What zipfile, its decompressors and numpy raise, besides OSError, for bytes that are no .npz or .npy. RuntimeError: encrypted;
# TokenError: numpy reads a header that is none as that of Python 2; SystemError: text with numbers beyond Unicode's.
NO_ARRAYS = (
    ValueError, EOFError, KeyError, MemoryError, RecursionError, NotImplementedError, RuntimeError, SyntaxError, TypeError, OverflowError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError, SystemError,
)  # fmt: skip


NO_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|bad_?alloc|failed to allocate memory|could not create a primitive$"
    r"|failed to map segment from shared object",
    re.IGNORECASE,
)
"""What PyTorch, oneDNN, onnxruntime, C++ and the loader of libraries say where memory ends."""
# What the system says of a file that is not there, and zipfile of one that is cut off; of others that it could not be read.
_OF_THE_CONTENT = (None, errno.ENOENT, errno.ENOTDIR, errno.EINVAL)


class HarnessError(Exception):
    """Anything the harness reports in one line instead of a traceback. `exit_code` is the process's."""

    exit_code = 2


class UsageError(HarnessError):
    """Wrong usage or input: the user can mend it. Exit code 2."""


class UntrustedError(HarnessError):
    """The run cannot support a verdict (a stored file changed, two runs are unlike). Exit code 3."""

    exit_code = 3


def unknown(kind: str, got: str, choices: Iterable[str]) -> UsageError:
    """The error for a name that is in no table: what came, the nearest names, every choice."""
    names = sorted(choices)
    near = difflib.get_close_matches(got, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"unknown {kind} '{got}'.{hint} Choices: {', '.join(names)}.")


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that this computer has no memory left, or a limit on what this program may have (a container's, `ulimit -v`)."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError | ImportError) and NO_MEMORY.search(str(error)) is not None)


def unreadable(error: BaseException) -> bool:
    """Whether a file could not be read, which says nothing of what it holds: no permission, a failing disk, too many open files."""
    return isinstance(error, OSError) and error.errno not in _OF_THE_CONTENT
