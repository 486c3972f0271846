"""Tensors that lie outside of the ONNX file: read only from the file's own folder, and only as many bytes as the tensor has."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.checked import all_tensors, onnx_bits
from export.errors import ExportError

MAX_BYTES = 2**31 - 1  # what one model can hold once its tensors are inside


def check_external(model: ModelProto, folder: Path, name: str) -> None:
    """Look at where every external tensor lies, without reading it.

    Raises:
        ExportError: it names a place outside of the folder, a file that is not there, or more bytes than that file has.
    """
    for tensor in all_tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            try:
                _place(tensor, folder)
            except (ValueError, OSError) as error:
                raise ExportError(
                    f"{name}: the values of tensor '{tensor.name}' cannot be read: {error}. "
                    "Expected a data file beside the ONNX file; copy both together, or save the model in one file."
                ) from error


def read_external(tensor: TensorProto, folder: Path) -> NDArray[Any]:
    """The values of one external tensor.

    Raises:
        ValueError, OSError: as `check_external`, or a type that numpy cannot hold.
    """
    path, offset, size = _place(tensor, folder)
    with path.open("rb") as file:
        file.seek(offset)
        raw = file.read(size)
    return numpy_helper.to_array(TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=raw))


def with_external(model: ModelProto, folder: Path) -> ModelProto:
    """The same model with every external tensor inside; the model itself where there is none.

    Raises:
        ExportError: together they are larger than one model can be.
        ValueError, OSError: as `read_external`.
    """
    outside = [tensor for tensor in all_tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
    if not outside:
        return model
    total = sum(_place(tensor, folder)[2] for tensor in outside)
    if total > MAX_BYTES:
        raise ExportError(f"{total / 1e9:.1f} GB of external weights; at most 2 GB are read at once")
    filled = ModelProto()
    filled.CopyFrom(model)
    for tensor in all_tensors(filled):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.raw_data = np.ascontiguousarray(read_external(tensor, folder)).tobytes()
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
    return filled


def _place(tensor: TensorProto, folder: Path) -> tuple[Path, int, int]:
    """(file, offset, bytes) of an external tensor.

    Raises:
        ValueError: the file lies elsewhere or is too short.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    path = (folder / location).resolve()
    if not location or "\0" in location or not path.is_relative_to(folder.resolve()):
        raise ValueError(f"they are said to lie in '{location}', which is not in the file's folder")
    if not path.is_file():
        raise ValueError(f"there is no file '{location}' beside it")
    offset, size = int(entries.get("offset", 0)), _bytes(tensor)
    if offset < 0 or offset + size > path.stat().st_size:
        raise ValueError(f"'{location}' has {path.stat().st_size:,} bytes; the tensor needs {size:,} from byte {offset:,} on")
    return path, offset, size


def _bytes(tensor: TensorProto) -> int:
    try:
        itemsize: int = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError as error:
        raise ValueError(f"its type {tensor.data_type} is unknown") from error
    if any(size < 0 for size in tensor.dims):
        raise ValueError(f"its shape {tuple(tensor.dims)} is negative")
    elements: int = prod(tensor.dims)
    return (elements * onnx_bits(tensor.data_type, itemsize) + 7) // 8
