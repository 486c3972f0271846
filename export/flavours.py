"""The table of flavours: every deployable form of a model. A new one is one function, in a small file, and one entry here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from export import trt_int8
from export.artefact import Artefact, load_artefact, sha256_file
from export.calibration import Calibration
from export.checked import load_checked
from export.errors import ExportError
from export.fp16 import to_fp16
from export.int8 import LAYOUT, REDUCED_LAYOUT, quantize_int8
from export.onnx import INPUT, OPSET, OUTPUT, export_onnx
from export.own_weights import with_own_weights
from export.session import EXACT_INTEGERS
from export.trt_int8 import quantize_trt_int8, quantize_trt_int8_sparse

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Flavour:
    """One deployable form.

    Attributes:
        name: its key in `FLAVOURS`.
        precision: what it claims: fp32, fp16, int8.
        runtime: the runtime it is meant for.
        description: one line for people.
        build: the float32 graph of the twin -> the graph of this flavour; None where the file is no ONNX graph but the twin's saved
            program (`export.pt2`).
        calibrated: whether `build` reads the calibration images.
        options: for the manifest: what `build` was told and, as `session_config`, what the runtime must be told.
    """

    name: str
    precision: str
    runtime: str
    description: str
    build: Callable[[ModelProto, Calibration], ModelProto] | None
    calibrated: bool
    options: dict[str, Any]


_ALL = (
    Flavour("onnx-fp32", "fp32", "onnxruntime", "ONNX, float32, dynamic batch", lambda model, _: model, False, {}),
    Flavour("ort-int8", "int8", "onnxruntime", "ONNX Q/DQ in the layout of onnxruntime's integer CPU kernels", quantize_int8, True, LAYOUT),
    Flavour(
        "ort-int8-rr", "int8", "onnxruntime", "as ort-int8 with weights of 7 bits: the same answers on every CPU",
        partial(quantize_int8, reduce_range=True), True, REDUCED_LAYOUT,
    ),
    Flavour(
        "ort-int8-precise", "int8", "onnxruntime", "the graph of ort-int8, run with session.x64quantprecision=1: exact without VNNI too",
        lambda model, calibration: with_own_weights(quantize_int8(model, calibration)), True, {**LAYOUT, "session_config": EXACT_INTEGERS},
    ),
    Flavour("trt-fp32", "fp32", "tensorrt", "ONNX, float32; TensorRT builds its engine on the device", lambda model, _: model, False, {}),
    Flavour("trt-fp16", "fp16", "tensorrt", "as trt-fp32 in float16, float32 input and output", to_fp16, False, {}),
    Flavour(
        "trt-int8", "int8", "tensorrt", "ONNX Q/DQ placed by TensorRT's rules, the rest in float16",
        quantize_trt_int8, True, trt_int8.LAYOUT,
    ),
    Flavour(
        "trt-int8-fp32", "int8", "tensorrt", "as trt-int8 with the rest in float32",
        partial(quantize_trt_int8, half=False), True, trt_int8.FLOAT_LAYOUT,
    ),
    Flavour(
        "trt-int8-sparse", "int8", "tensorrt", "as trt-int8, of 2:4 sparse weights: the builder may take sparse kernels",
        quantize_trt_int8_sparse, True, trt_int8.SPARSE_LAYOUT,
    ),
    Flavour(
        "torch-trt", "fp32", "torch-tensorrt", "PyTorch program (.pt2), float32; Torch-TensorRT compiles it on a GPU host",
        None, False, {},
    ),
)  # fmt: skip
FLAVOURS: dict[str, Flavour] = {flavour.name: flavour for flavour in _ALL}


def export_flavour(
    module: nn.Module,
    flavour: str,
    *,
    input_shape: tuple[int, int, int],
    source_sha256: str,
    calibration_images: NDArray[np.uint8],
    calibration_method: str,
    folder: Path,
    cache_fp32: Artefact | None = None,
) -> Artefact:
    """Write one flavour of a twin, with its manifest, into `folder`.

    The file is named after its content; the same twin, calibration and options give the same file, and where `folder` holds it already it
    is not made again. It appears whole or not at all.

    Args:
        module: the twin: float32, eval mode, images (n, c, h, w) in [0, 1] -> logits (n, classes).
        flavour: a key of `FLAVOURS`.
        input_shape: (c, h, w).
        source_sha256: of the twin's weights file.
        calibration_images: uint8 (n, h, w, c); unused where the flavour is not calibrated.
        calibration_method: a key of `export.calibration.METHODS`.
        folder: is made where it does not exist.
        cache_fp32: the `onnx-fp32` artefact of the same twin, which saves exporting it again; unused where the file is no ONNX graph.

    Raises:
        ExportError: unknown flavour or method, images of another shape, a module that cannot be exported or quantized, a folder that
            cannot be written.
    """
    from export import pt2  # PyTorch is imported where something is exported, not where a name is looked up
    from export.identity import module_sha256

    if flavour not in FLAVOURS:
        raise ExportError(f"unknown flavour '{flavour}'. Choices: {', '.join(FLAVOURS)}.")
    kind = FLAVOURS[flavour]
    calibration = Calibration(calibration_images, calibration_method)
    channels, height, width = input_shape
    if kind.calibrated and calibration_images.shape[1:] != (height, width, channels):
        raise ExportError(
            f"calibration images are {calibration_images.shape[1:]}; the model takes {(height, width, channels)} (height, width, channels)"
        )
    made: dict[str, Any] = {
        "source_sha256": source_sha256,
        "module_sha256": module_sha256(module),
        "input_shape": input_shape,
        "calibration": calibration.manifest() if kind.calibrated else {},
        "options": {**pt2.LAYOUT, **kind.options} if kind.build is None else {"opset": OPSET, **kind.options},
    }
    # A saved program that lies there is not trusted: loading one may run code, and the parity check and the device will.
    if kind.build is not None and (artefact := _stored(folder, flavour, made)) is not None:
        return artefact
    if kind.build is None:
        content, classes = pt2.export_pt2(module, input_shape)
    else:
        float_graph = export_onnx(module, input_shape) if cache_fp32 is None else _cached(cache_fp32, made)
        graph = kind.build(float_graph, calibration)
        content, classes = graph.SerializeToString(deterministic=True), graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    path, sha256 = write_file(content, folder, flavour, "onnx" if kind.build else "pt2")
    artefact = Artefact(
        flavour=flavour,
        path=path,
        sha256=sha256,
        precision=kind.precision,
        runtime=kind.runtime,
        input_name=INPUT,
        output_name=OUTPUT,
        classes=classes,
        **made,
    )
    artefact.save()
    return artefact


def _stored(folder: Path, flavour: str, made: dict[str, Any]) -> Artefact | None:
    """The intact artefact in `folder` that was made of the same twin, calibration and options, if there is one."""
    for manifest in sorted(folder.glob(f"{flavour}-*.json")):
        with contextlib.suppress(ExportError):
            found = load_artefact(manifest)
            if found.flavour == flavour and all(getattr(found, key) == value for key, value in made.items()):
                return found
    return None


def _cached(artefact: Artefact, made: dict[str, Any]) -> ModelProto:
    same = all(getattr(artefact, key) == made[key] for key in ("source_sha256", "module_sha256", "input_shape"))
    if artefact.flavour != "onnx-fp32" or not same:
        raise ExportError(f"{artefact.path.name} ({artefact.flavour}) is not the onnx-fp32 export of this twin")
    if sha256_file(artefact.path) != artefact.sha256:
        raise ExportError(f"{artefact.path} changed since it was exported. Export it again.")
    return load_checked(artefact.path)


def write_file(content: bytes, folder: Path, flavour: str, suffix: str) -> tuple[Path, str]:
    """Save under a name that carries the content's hash: `FLAVOUR-1234567890ab.SUFFIX`. Raises ExportError."""
    temporary = folder / f".{flavour}-{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        sha256 = sha256_file(temporary)
        return temporary.replace(folder / f"{flavour}-{sha256[:12]}.{suffix}"), sha256
    except OSError as error:
        raise ExportError(f"cannot write {flavour} into {folder}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
