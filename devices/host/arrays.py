"""Arrays out of .npz files that came from elsewhere: nothing is unpickled, and no more memory is taken than the file has bytes.

numpy and the standard library only, Python >= 3.10.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from devices.worker.spec import FormatError

MOST_BYTES = 1 << 30  # of all arrays in one file
MOST_ARRAYS = 1000


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file by name.

    Raises:
        FormatError: it is damaged, too large, or holds anything but numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MOST_ARRAYS or sum(member.file_size for member in members) > MOST_BYTES:
                raise ValueError(f"it holds {len(members)} arrays, or too many bytes; at most {MOST_ARRAYS} and {MOST_BYTES >> 20} MiB")
            names = [member.filename.removesuffix(".npy") for member in members]
            if len(set(names)) < len(names):
                raise ValueError("it holds one name twice")
            return dict(zip(names, (_member(archive, member) for member in members), strict=True))
    except Exception as error:
        raise FormatError(f"{path.name} is damaged: {error}") from error


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        return _array(file, member.file_size)


def _array(file: IO[bytes], size: int) -> NDArray[Any]:
    """One array in .npy form whose file has `size` bytes: the header must account for every one of them."""
    if size > MOST_BYTES:
        raise ValueError(f"it has {size >> 20} MiB; at most {MOST_BYTES >> 20} are read")
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("it is of another version of the format than 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "iuf":
        raise ValueError(f"it holds {dtype}; expected numbers")
    needed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or file.tell() + needed != size:
        raise ValueError(f"its header promises {dtype} {shape}, which is not what its {size} bytes hold")
    return np.frombuffer(file.read(needed), dtype).reshape(shape, order="F" if fortran else "C")
