"""Images that need not be in memory: whoever goes through a set takes a slice at a time, so that its memory does not grow with the set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]

PIECE_BYTES = 1 << 25  # of images, taken at a time where nothing else limits them


class ImageStack(Protocol):
    """uint8 images (n, h, w, c): an array, or what reads them when they are asked for. A slice of it is an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, h, w, c)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, piece: slice, /) -> Images: ...


def pieces(stack: ImageStack, size: int = PIECE_BYTES) -> Iterator[slice]:
    """Slices through a stack, each of the largest power of two of images within `size` bytes, at least one: whole batches of a model."""
    fitting = max(1, size // max(1, prod(stack.shape[1:])))
    step = 1 << (fitting.bit_length() - 1)
    return (slice(start, start + step) for start in range(0, len(stack), step))


@dataclass(frozen=True)
class Chosen:
    """The images of an array at `index`, int64 (n,), copied when they are asked for."""

    images: Images
    index: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """See `ImageStack`."""
        return (len(self.index), *self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, piece: slice, /) -> Images:
        return self.images[self.index[piece]]


class Mixed:
    """Images of which each comes from one of several stacks; see `ImageStack`."""

    def __init__(self, stack: ImageStack) -> None:
        """At first all of them come from this one."""
        self.shape = stack.shape
        self._stacks = [stack]
        self._stack, self._row = np.zeros(len(stack), np.int64), np.arange(len(stack))

    def take(self, rows: NDArray[np.intp], stack: ImageStack, theirs: NDArray[np.intp]) -> None:
        """From now on the images at `rows` are those at `theirs` of another stack."""
        self._stack[rows], self._row[rows] = len(self._stacks), theirs
        self._stacks.append(stack)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, piece: slice, /) -> Images:
        found = np.empty((len(self._row[piece]), *self.shape[1:]), np.uint8)
        for place, (stack, row) in enumerate(zip(self._stack[piece], self._row[piece], strict=True)):
            found[place] = self._stacks[stack][row : row + 1][0]
        return found
