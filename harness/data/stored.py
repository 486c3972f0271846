"""Images of .npz files that are read when they are asked for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from harness.data.npz import Archive
from harness.errors import UsageError
from harness.stack import Images


class StoredImages:
    """The arrays `images`, uint8 (n, h, w, c), of one or more .npz files that are not compressed, one after the other."""

    def __init__(self, paths: Sequence[Path], of_one: tuple[int, ...]) -> None:
        """Look at the files' headers.

        Args:
            paths: of the files. They must stay as they are.
            of_one: the shape of one image.

        Raises:
            UsageError: a file is missing or damaged, or holds other images.
        """
        self._paths, self._offsets, self._starts = list(paths), [], [0]
        for path in paths:
            with Archive(path) as archive:
                header, offset = archive.header("images"), archive.offset("images")
            if header.dtype != np.uint8 or header.fortran or header.shape[1:] != of_one:
                raise UsageError(f"{path} holds {header.dtype} {header.shape}; expected uint8 images of {of_one}")
            self._offsets.append(offset)
            self._starts.append(self._starts[-1] + header.shape[0])
        self.shape: tuple[int, ...] = (self._starts[-1], *of_one)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, piece: slice, /) -> Images:
        start, stop, step = piece.indices(len(self))
        if step != 1:
            raise ValueError("stored images are read in their order")
        found = np.empty((max(stop - start, 0), *self.shape[1:]), np.uint8)
        done = 0
        while done < len(found):
            number = bisect_right(self._starts, start + done) - 1
            first, last = start + done, min(stop, self._starts[number + 1])
            self._read(number, first - self._starts[number], found[done : last - start])
            done = last - start
        return found

    def _read(self, number: int, row: int, into: Images) -> None:
        """Fill an array with the rows of a file from `row` on."""
        path = self._paths[number]
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(self._offsets[number] + row * prod(self.shape[1:]))
                complete = file.readinto(into.data.cast("B")) == into.nbytes
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
        if not complete:
            raise UsageError(f"{path} became shorter while it was read")
