"""Files: hashed, and written whole or not at all. Standard library only, Python >= 3.10: the agent has no numpy."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)  # what the system says of a write that found no room


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_whole(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file, whole or not at all; its folder is made where there is none.

    Raises:
        OSError: names the file, also where the disk is full, of which the system's error names none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
