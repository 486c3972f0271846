"""Small safetensors files: sparse tensors as a bit mask and their values, quantized ones as codes and a table, the rest in float16.

A packed file says so in its metadata (`edge-harness-packed`, the version of this format), and reads back bit for bit what `round_trip`
returns. Version 1: NAME.mask + NAME.shape + NAME.values; NAME.codes + NAME.shape + NAME.levels; NAME.codes + NAME.scale; or NAME.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.errors import UsageError

KEY, VERSION = "edge-harness-packed", "1"
SPARSE = 0.75  # of the entries non-zero at most: beyond it a mask does not pay
GRID = 127  # symmetric INT8


def pack(weights: dict[str, Tensor], path: Path) -> None:
    """Write `weights` (float32 or integer tensors) as a packed file."""
    stored: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        stored |= {name + suffix: part.contiguous() for suffix, part in _packed(tensor).items()}
    save_file(stored, path, metadata={KEY: VERSION})


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
    """The tensors of a packed file, in float32 (integers as they are)."""
    weights = {}
    for name, part in stored.items():
        base, _, suffix = name.rpartition(".")
        if suffix == "mask":
            weights[base] = _from_mask(part, stored[f"{base}.shape"], stored[f"{base}.values"])
        elif suffix == "codes" and f"{base}.levels" in stored:
            weights[base] = _from_levels(part, stored[f"{base}.shape"], stored[f"{base}.levels"])
        elif suffix == "codes":
            scale = stored[f"{base}.scale"]
            weights[base] = part.float() * scale.view(-1, *[1] * (part.ndim - 1))
        elif f"{base}.codes" not in stored and f"{base}.mask" not in stored:
            weights[name] = part.float() if part.is_floating_point() else part
    return weights


def round_trip(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a packed file of `weights` reads back as: float16 rounding where nothing better fits."""
    stored = {name + suffix: part for name, tensor in weights.items() for suffix, part in _packed(tensor).items()}
    return unpack(stored)


def _packed(tensor: Tensor) -> dict[str, Tensor]:
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return {"": tensor}
    shape = torch.tensor(tensor.shape, dtype=torch.int32)
    values = torch.unique(tensor)
    if len(values) <= 2**8 < tensor.numel():
        bits = max(1, (len(values) - 1).bit_length())
        codes = torch.searchsorted(values, tensor.flatten())
        return {".codes": _to_bits(codes, bits), ".shape": shape, ".levels": values}
    scale = tensor.flatten(1).abs().amax(1) / GRID
    codes = (tensor / scale.clamp_min(1e-12).view(-1, *[1] * (tensor.ndim - 1))).round()
    if torch.allclose(codes * scale.view(-1, *[1] * (tensor.ndim - 1)), tensor, rtol=1e-5, atol=0):
        return {".codes": codes.to(torch.int8), ".scale": scale}
    if int(tensor.count_nonzero()) <= SPARSE * tensor.numel():
        flat = tensor.flatten()
        return {".mask": _to_bits((flat != 0).long(), 1), ".shape": shape, ".values": flat[flat != 0].half()}
    return {"": tensor.half()}


def _to_bits(codes: Tensor, bits: int) -> Tensor:
    """Codes below 2^bits, (n,), as bytes with the bits of one code beside another."""
    spread = (codes.numpy()[:, None] >> np.arange(bits)) & 1
    return torch.from_numpy(np.packbits(spread.astype(np.uint8).ravel()))


def _from_bits(packed: Tensor, count: int, bits: int) -> Tensor:
    flat = np.unpackbits(packed.numpy())[: count * bits].reshape(count, bits).astype(np.int64)
    return torch.from_numpy((flat << np.arange(bits)).sum(1))


def _from_mask(mask: Tensor, shape: Tensor, values: Tensor) -> Tensor:
    size = [int(n) for n in shape]
    flat = torch.zeros(int(np.prod(size)))
    flat[_from_bits(mask, flat.numel(), 1).bool()] = values.float()
    return flat.view(size)


def _from_levels(codes: Tensor, shape: Tensor, levels: Tensor) -> Tensor:
    size = [int(n) for n in shape]
    bits = max(1, (len(levels) - 1).bit_length())
    return levels[_from_bits(codes, int(np.prod(size)), bits)].view(size)
