"""User data as one .npz: `images` uint8 NHWC and `labels`; optional `calibration_images`, `calibration_labels`, `class_names`.

Only arrays of these names are read, after their headers were found to be what is expected; of the images, only the rows that are wanted.
"""

from __future__ import annotations

import contextlib
import math
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from harness.data.dataset import Dataset, check_label_form, checked_labels
from harness.data.remarks import label_remarks
from harness.errors import NO_ARRAYS, UsageError

KEYS = ("images", "labels", "calibration_images", "calibration_labels", "class_names")
EXPECTED = "expected uint8 (n, height, width, 1 or 3)"
BLOCK_BYTES = 1 << 20  # of images, read at a time
NAMES_BYTES = 1 << 24  # of class names

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# What is asked for in the words of numpy, by the kind of a dtype that images do not have.
_REMEDIES = {
    "f": "In [0, 1]: (images * 255).round().astype('uint8'); standardised: undo the normalisation first. Then save them again.",
    "u": "Of 16 bits (white is 65535): (images // 257).astype('uint8'); in 0..255: images.astype('uint8').",
    "i": "In 0..255: images.astype('uint8'); of more bits, scale them so that white is 255 first.",
    "b": "images.astype('uint8') * 255",
}


@dataclass(frozen=True)
class Header:
    """What an array says of itself."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """The arrays of one .npz, read by name. Use as a context manager.

    Raises:
        UsageError: from every method: missing, unreadable, not an .npz, damaged, or an array holds Python objects.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Archive:
        with self.stack, _readable(self.path):
            if self.path.exists() and not self.path.is_file():
                raise UsageError(f"{self.path} is not a file; expected an .npz with images and labels")
            file = self.stack.enter_context(self.path.open("rb"))
            _check_magic(self.path, file)
            self.zip = self.stack.enter_context(zipfile.ZipFile(file))
            self.names = [name.removesuffix(".npy") for name in self.zip.namelist()]
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def header(self, name: str, *, checked: bool = True) -> Header:
        """Of the array `name`; its values are not looked at. `checked`: there are as many of them as it says."""
        with self._open(name) as (stream, header):
            if checked:
                self._check_size(name, stream, header)
            return header

    def array(self, name: str) -> NDArray[Any]:
        """The whole array `name`."""
        with self._open(name) as (stream, header):
            self._check_size(name, stream, header)
            values = np.frombuffer(bytearray(_exactly(stream, header.nbytes)), header.dtype)
            return values.reshape(header.shape, order="F" if header.fortran else "C")

    def rows(self, name: str) -> Iterator[tuple[int, NDArray[Any]]]:
        """(position of the first, block of rows) of the array `name`, to its end."""
        with self._open(name) as (stream, header):
            self._check_size(name, stream, header)
            if header.fortran:  # its rows are scattered
                yield 0, self.array(name)
                return
            n, *shape = header.shape
            row = math.prod(shape) * header.dtype.itemsize
            step = max(1, BLOCK_BYTES // max(row, 1))
            for start in range(0, n, step):
                count = min(step, n - start)
                yield start, np.frombuffer(_exactly(stream, count * row), header.dtype).reshape(count, *shape)

    def offset(self, name: str) -> int:
        """Where in the file the values of the array `name` begin, which must not be compressed."""
        with self._open(name) as (stream, _):
            info = self.zip.getinfo(f"{name}.npy")
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"array {name} is compressed")
            with self.path.open("rb") as file:
                file.seek(info.header_offset)
                lengths: tuple[int, int] = struct.unpack(
                    "<26x2H", file.read(30)
                )  # of the name and of the extra field in the member's own header
            return info.header_offset + 30 + sum(lengths) + stream.tell()

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], Header]]:
        """The array's bytes after its header, and that."""
        with _readable(self.path), self.zip.open(f"{name}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            if version not in _HEADERS:
                raise ValueError(f"array {name} is of format {version}")
            header = Header(*_HEADERS[version](stream))
            if header.dtype.hasobject:
                raise UsageError(f"{self.path} holds pickled Python objects, which are never loaded; save plain arrays with numpy.savez")
            yield stream, header

    def _check_size(self, name: str, stream: IO[bytes], header: Header) -> None:
        held = self.zip.getinfo(f"{name}.npy").file_size - stream.tell()
        if held != header.nbytes:
            raise ValueError(f"array {name} is {header.dtype} {header.shape}, {header.nbytes:,} bytes; it holds {held:,}")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Every way in which a file can be unreadable, as one line."""
    try:
        yield
    except NO_ARRAYS as error:
        raise UsageError(f"{path} is not a readable .npz: {' '.join(str(error).split()) or type(error).__name__}") from error
    except OSError as error:
        raise UsageError(f"cannot read data {path}: {error.strerror or error}") from error


def _check_magic(path: Path, file: IO[bytes]) -> None:
    """Refuse what numpy would read as something else than a zip."""
    start = file.read(6)
    file.seek(0)
    if start == b"\x93NUMPY":
        raise UsageError(f"{path} is a single .npy array; expected an .npz with images and labels (numpy.savez)")
    if start[:1] == b"\x80":
        raise UsageError(f"{path} holds pickled Python objects, which are never loaded; save plain arrays with numpy.savez")


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError(f"{count - len(content):,} bytes are missing")
    return content


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of an .npz. Raises as `Archive`."""
    with Archive(path) as archive:
        return {name: archive.array(name) for name in archive.names}


def images_shape(path: Path) -> tuple[int, int, int] | None:
    """(channels, height, width) of the images, from their header alone; None where the file is not as `open_npz` expects it."""
    try:
        with Archive(path) as archive:
            shape = archive.header("images", checked=False).shape
    except UsageError:
        return None  # `open_npz` says what is wrong
    return (shape[3], shape[1], shape[2]) if len(shape) == 4 and shape[3] in (1, 3) else None


def check_images(path: Path, key: str, header: Header) -> None:
    """Images must be uint8 (n, height, width, 1 or 3), n > 0.

    Raises:
        UsageError: they are not; says how to convert them.
    """
    shape, dtype = header.shape, header.dtype
    got = f"{path}: {key} are {dtype} {shape}; {EXPECTED}."
    if dtype != np.uint8:
        remedy = _REMEDIES.get(dtype.kind)
        raise UsageError(f"{got} Convert them: {remedy}" if remedy else got)
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        raise UsageError(f"{got} They look channels-first: .transpose(0, 2, 3, 1).")
    if len(shape) == 3:
        raise UsageError(f"{got} Are they grey? Then images[..., None].")
    if len(shape) == 4 and shape[3] == 4:
        raise UsageError(f"{got} Is the last an alpha channel? Then images[..., :3].")
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise UsageError(got)
    if math.prod(shape) == 0:
        raise UsageError(f"{path}: {key} hold no pixel, shape {shape}; {EXPECTED}")


@dataclass(frozen=True)
class Npz:
    """The labelled images of an .npz, not read yet; see `harness.data.dataset.Source`."""

    path: Path
    key: str
    name: str
    shape: tuple[int, ...]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def read(self, *parts: NDArray[np.intp]) -> list[Dataset]:
        """As `Source` has it: one pass over the file."""
        found = [np.empty((len(part), *self.shape[1:]), np.uint8) for part in parts]
        with Archive(self.path) as archive:
            for start, block in archive.rows(self.key):
                for images, part in zip(found, parts, strict=True):
                    here = np.flatnonzero((part >= start) & (part < start + len(block)))
                    images[here] = block[part[here] - start]
        return [
            Dataset(self.name, images, self.labels[part], self.class_names, self.remarks) for images, part in zip(found, parts, strict=True)
        ]


def open_npz(path: Path) -> tuple[Npz, Npz | None]:
    """(the labelled images, its own calibration images or None); no image is read yet.

    Calibration never looks at labels; where the file has none for it they are 0.

    Raises:
        UsageError: see `Archive` and `check_images`; missing or unknown arrays, labels that do not fit.
    """
    with Archive(path) as archive:
        _check_names(path, archive.names)
        names: tuple[str, ...] = ()
        if "class_names" in archive.names:
            if archive.header("class_names").nbytes > NAMES_BYTES:
                raise UsageError(f"{path}: class_names hold more than {NAMES_BYTES >> 20} MiB; expected one name per class")
            with _readable(path):
                names = tuple(_text(name) for name in archive.array("class_names").ravel())
        data = _labelled(archive, "images", "labels", path.stem, names)
        data = replace(data, remarks=tuple(label_remarks(data.labels)))
        if "calibration_images" not in archive.names:
            return data, None
        return data, _labelled(archive, "calibration_images", "calibration_labels", f"{path.stem} (calibration)", names)


def _text(name: np.generic) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _check_names(path: Path, names: list[str]) -> None:
    missing, strange = [key for key in KEYS[:2] if key not in names], [name for name in names if name not in KEYS]
    if missing:
        raise UsageError(
            f"{path} lacks {' and '.join(missing)}; it holds {', '.join(names) or 'nothing'}. "
            f"Expected {', '.join(KEYS[:2])}, optionally {', '.join(KEYS[2:])}."
        )
    if strange:
        raise UsageError(f"{path} holds unknown arrays {', '.join(strange)}. Known: {', '.join(KEYS)}.")


def _labelled(archive: Archive, images: str, labels: str, name: str, class_names: tuple[str, ...]) -> Npz:
    header = archive.header(images)
    check_images(archive.path, images, header)
    n = header.shape[0]
    if labels in archive.names:
        written = archive.header(labels)
        check_label_form(name, written.dtype, written.shape, n)  # before reading what may be of any size
        found = checked_labels(name, archive.array(labels), n)
    else:
        found = np.zeros(n, dtype=np.int64)
    return Npz(archive.path, images, name, header.shape, found, class_names)
