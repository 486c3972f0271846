"""Small safetensors files: sparse tensors as a bit mask and their values, quantized ones as codes and a table, other matrices in float16.

A packed file says so in its metadata (`edge-harness-packed`, the version of this format), and reads back bit for bit what `round_trip`
returns. Version 1, for a tensor NAME one of:

    NAME.mask, NAME.shape, NAME.values     one bit per entry; the entries that are not zero, float16
    NAME.codes, NAME.shape, NAME.levels    as few bits per entry as tell the levels apart; the levels, float32
    NAME.codes, NAME.scale                 int8; one float32 scale per output
    NAME                                   float16, or as it was: integers, vectors, what float16 cannot hold (`fits_half`)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from devices.worker.files import write_whole
from harness.errors import UsageError
from harness.models import grids

KEY, VERSION = "edge-harness-packed", "1"
SPARSE = 0.75  # of the entries non-zero at most: beyond it a mask does not pay
SMALLEST_NORMAL = torch.finfo(torch.float16).tiny  # 2^-14
MAX_ENTRIES = 2**30  # of one tensor: a damaged shape must not take all memory


def pack(weights: dict[str, Tensor], path: Path) -> None:
    """Write `weights` (float32 or integer tensors) as a packed file, whole or not at all.

    Raises:
        OSError: the disk is full (safetensors' own writer raises an error of its own there).
        UsageError: names that the format could not tell from its own.
    """
    stored = _stored(weights)
    if unpack(stored).keys() != weights.keys():
        raise UsageError(f"{path} cannot be packed: its tensors' names end in .mask, .codes, .shape, .values, .levels or .scale")
    write_whole(path, save(stored, metadata={KEY: VERSION}))


def packed_bytes(weights: dict[str, Tensor]) -> int:
    """Bytes of the packed file of `weights`."""
    return len(save(_stored(weights), metadata={KEY: VERSION}))


def is_packed(path: Path) -> bool:
    """Whether a safetensors file is of this format.

    Raises:
        UsageError: it is, in a version that this program does not know.
    """
    with safe_open(path, "pt") as file:
        version = (file.metadata() or {}).get(KEY)
    if version not in (None, VERSION):
        raise UsageError(f"{path} is packed in format {version}; this version reads {VERSION}")
    return version is not None


def unpack(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a packed file, in float32 (integers as they are).

    Raises:
        ValueError: parts that do not fit one another.
    """
    left, weights = dict(stored), {}
    for name in stored:
        base, _, _ = name.rpartition(".")
        for suffixes, read in FORMS:
            parts = [f"{base}.{suffix}" for suffix in suffixes]
            if all(part in left for part in parts):
                weights[base] = _checked(base, read, [left.pop(part) for part in parts])
    return weights | {name: part.float() if part.is_floating_point() else part for name, part in left.items()}


def round_trip(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a packed file of `weights` reads back as: float16 rounding where nothing better fits."""
    return unpack(_stored(weights))


def _stored(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name + suffix: part.contiguous() for name, tensor in weights.items() for suffix, part in _packed(tensor.cpu()).items()}


def _packed(tensor: Tensor) -> dict[str, Tensor]:
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return {"": tensor}
    shape = torch.tensor(tensor.shape, dtype=torch.int32)
    if (values := grids.levels(tensor)) is not None:
        return {
            ".codes": _to_bits(torch.searchsorted(values, tensor.flatten()), grids.width(len(values))),
            ".shape": shape,
            ".levels": values,
        }
    if (grid := grids.int8(tensor)) is not None:
        codes, scale = grid
        return {".codes": codes, ".scale": scale}
    if not fits_half(tensor):
        return {"": tensor}
    if int(tensor.count_nonzero()) <= SPARSE * tensor.numel():
        flat = tensor.flatten()
        return {".mask": _to_bits((flat != 0).long(), 1), ".shape": shape, ".values": flat[flat != 0].half()}
    return {"": tensor.half()}


def fits_half(tensor: Tensor) -> bool:
    """Whether float16 rounds a weight (outputs, inputs, …) no worse than its own precision.

    Nothing is infinite there, and every output's and every input's largest weight, unless zero, is a normal number: below 2^-14 float16
    has ever fewer digits, and a small channel would be rounded away, though a batch norm may give its scale back.
    """
    magnitude = tensor.abs()
    largest = torch.cat([magnitude.transpose(0, dim).flatten(1).amax(1) for dim in (0, 1)]) if tensor.numel() else magnitude.flatten()
    return bool(tensor.half().isfinite().all()) and not bool(((largest > 0) & (largest < SMALLEST_NORMAL)).any())


def _to_bits(codes: Tensor, bits: int) -> Tensor:
    """Codes below 2^bits, (n,), as bytes with the bits of one code beside another, the lowest first."""
    spread = (codes.numpy()[:, None] >> np.arange(bits)) & 1
    return torch.from_numpy(np.packbits(spread.astype(np.uint8).ravel()))


def _from_bits(packed: Tensor, count: int, bits: int) -> Tensor:
    if packed.dtype != torch.uint8 or packed.shape != (math.ceil(count * bits / 8),):
        raise ValueError(f"{count} codes of {bits} bits in {tuple(packed.shape)} {packed.dtype}")
    flat = np.unpackbits(packed.numpy())[: count * bits].reshape(count, bits).astype(np.int64)
    return torch.from_numpy((flat << np.arange(bits)).sum(1))


def _size(shape: Tensor) -> list[int]:
    size = [int(n) for n in shape.flatten()]
    if shape.is_floating_point() or min(size, default=0) < 0 or not 0 <= math.prod(size) <= MAX_ENTRIES:
        raise ValueError(f"a shape of {size}")
    return size


def _from_mask(mask: Tensor, shape: Tensor, values: Tensor) -> Tensor:
    size = _size(shape)
    kept = _from_bits(mask, math.prod(size), 1).bool()
    if values.shape != (int(kept.sum()),):
        raise ValueError(f"{int(kept.sum())} places for {tuple(values.shape)} values")
    flat = torch.zeros(math.prod(size))
    flat[kept] = values.float()
    return flat.view(size)


def _from_levels(codes: Tensor, shape: Tensor, levels: Tensor) -> Tensor:
    size = _size(shape)
    index = _from_bits(codes, math.prod(size), grids.width(len(levels)))
    if levels.ndim != 1 or (len(index) and int(index.max()) >= len(levels)):
        raise ValueError(f"a code beyond {len(levels)} levels")
    return levels.float()[index].view(size)


def _from_scale(codes: Tensor, scale: Tensor) -> Tensor:
    if codes.ndim < 2 or codes.dtype != torch.int8 or scale.shape != codes.shape[:1]:
        raise ValueError(f"{tuple(scale.shape)} scales for {tuple(codes.shape)} codes of {codes.dtype}")
    return codes.float() * grids.per_output(scale.float(), codes)


def _checked(name: str, read: Callable[..., Tensor], parts: list[Tensor]) -> Tensor:
    try:
        return read(*parts)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{name}: {error}") from error


FORMS: tuple[tuple[tuple[str, ...], Callable[..., Tensor]], ...] = (
    (("mask", "shape", "values"), _from_mask),
    (("codes", "shape", "levels"), _from_levels),
    (("codes", "scale"), _from_scale),
)
