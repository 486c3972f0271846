"""`--engine FILE`: an engine of the user's own that is deployed as it is, taken in as an artefact beside those exported here.

An ONNX file is looked into here. A TensorRT plan and a `.pte` are closed: only their runtime on the device can say what they take, so what
is known of them is their bytes, and what they answer.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper

from devices.worker.engines.tensorrt import PLANS
from export.artefact import UNKNOWN, Artefact, load_artefact
from export.checked import all_nodes, all_tensors, external_files, load_external_data, parse_onnx
from export.errors import ExportError
from export.evidence import INTEGER_KERNELS
from export.flavours import write_file
from export.fp16 import has_half
from export.identity import module_sha256
from export.onnx import BATCH
from export.session import first_line, open_session
from harness.errors import UntrustedError, UsageError
from harness.models.kinds import kind_of
from harness.models.load import Twin
from harness.models.onnx_batch import freed, with_stored_sizes
from harness.models.onnx_ends import with_float32_ends
from harness.models.onnx_support import SIZE_INPUTS
from harness.settings import FILE, engine_name

RUNTIMES = {".onnx": "onnxruntime", **dict.fromkeys(PLANS, "tensorrt"), ".pte": "executorch"}
PTE_MARK = slice(4, 6), b"ET"  # of ExecuTorch's FlatBuffers schema: "ET12"
CLOSED = "its graph cannot be read back from the file, so that it cannot be attacked through it (S3): its claim can fail, but not hold"
FEW_BITS = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT2)
INTEGER = INTEGER_KERNELS | {"MatMulNBits", "QuantizeLinear", "DequantizeLinear"}
RECIPE = "Export the float model with a free batch (dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)) and quantize that."


def file_of(flavour: str) -> Path:
    """The file of a flavour `file:PATH`."""
    return Path(flavour.removeprefix(f"{FILE}:"))


def quantized_nodes(model: ModelProto) -> Counter[str]:
    """The operators that compute in integers, or lead there and back, and how many there are of each, in subgraphs and functions too."""
    found = (node.op_type for body in (model.graph, *model.functions) for node in all_nodes(body))
    return Counter(name for name in found if name in INTEGER or name.startswith(("QLinear", "Dynamic")))


def runtime_of(flavour: str) -> str:
    """What runs the file of a flavour `file:PATH` on the device."""
    return RUNTIMES[kind_of(file_of(flavour))]


def check_engine_file(path: Path) -> None:
    """What of an engine's file can be checked without the model.

    Raises:
        UsageError: there is no such file, it is of another kind, or no ONNX graph of one float image input and one output.
    """
    if kind_of(path) not in RUNTIMES:
        raise UsageError(
            f"--engine {path}: expected {', '.join(RUNTIMES)}, which run as they are. "
            "Any other engine runs behind a program of yours: --flavour exec:COMMAND."
        )
    if not path.is_file():
        what = "is not a file" if path.exists() else "there is no such file; a path begins at the folder you are in"
        raise UsageError(f"--engine {path}: {what}")
    if kind_of(path) == ".onnx":
        read_engine(path)
        return
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise UsageError(f"--engine {path}: {error.strerror or error}") from error
    place, mark = PTE_MARK
    if not head or (kind_of(path) == ".pte" and head[place] != mark):
        what = "is empty" if not head else "is no ExecuTorch program, whose fifth and sixth bytes are 'ET'"
        raise UsageError(f"--engine {path} {what}; was it copied whole?")


def read_engine(path: Path) -> ModelProto:
    """The graph of an ONNX file, with weights that lie beside it put inside. Raises UsageError as `check_engine_file`."""
    try:
        model = parse_onnx(path)
        load_external_data(model, path)
    except ExportError as error:
        raise UsageError(f"--engine {path}: {error}") from error
    inputs = _inputs(model)
    kinds = [value.type.tensor_type.elem_type for value in inputs]
    if (
        kinds not in ([TensorProto.FLOAT], [TensorProto.FLOAT16])
        or len(inputs[0].type.tensor_type.shape.dim) != 4
        or len(model.graph.output) != 1
    ):
        raise UsageError(
            f"--engine {path}: expected one input, FLOAT or FLOAT16 (n, channels, height, width) in [0, 1], and one output, the logits; "
            f"got {_described(model)}"
        )
    return model


def check_images(path: Path, twin: Twin) -> tuple[ModelProto, int | None]:
    """The graph of an ONNX file that takes the twin's images, and the batch that it fixes. Raises UsageError as `take_in`."""
    model = read_engine(path)
    batch, *shape = (dim.dim_value if dim.HasField("dim_value") else None for dim in _inputs(model)[0].type.tensor_type.shape.dim)
    if any(size not in (None, wanted) for size, wanted in zip(shape, twin.input_shape, strict=True)):
        raise UsageError(f"--engine {path} takes {_described(model)}; the model {twin.name} takes images of {_by(twin.input_shape)}")
    return model, batch


def take_in(path: Path, twin: Twin, folder: Path) -> Artefact:
    """The file as an artefact of the twin in `folder`: its own bytes, but where weights lie beside it, it fixes its batch, or its images
    or logits are float16, which are cast.

    Raises:
        UsageError: as `check_engine_file`; or it takes other images or names other classes than the twin, or batches of one size alone.
        UntrustedError: `folder` holds an earlier file of that name that had other bytes.
    """
    check_engine_file(path)
    if kind_of(path) != ".onnx":
        return _closed(path, twin, folder)
    model, batch = check_images(path, twin)
    (source,), target = _inputs(model), model.graph.output[0]
    cast = with_float32_ends(model)
    whole = model.SerializeToString(deterministic=True) if cast or _beside(path) else path.read_bytes()
    if batch is not None:
        whole = with_free_batch(model, batch, twin.input_shape, path).SerializeToString(deterministic=True)
    classes = _answers(whole, source.name, twin.input_shape, path).shape[1]
    if classes != twin.classes:
        raise UsageError(f"--engine {path} names {classes} classes, the model {twin.name} {twin.classes}: it is not made of that model")
    options = {} if batch is None else {"freed_batch": batch}
    options |= {"cast_ends": True} if cast else {}
    if any(name.startswith("Dynamic") for name in quantized_nodes(model)):  # dynamic quantization: a scale for all images of a request
        options |= {"one_by_one": True}
    return _saved(path, twin, whole, folder, _precision(model), (source.name, target.name), options)


def _closed(path: Path, twin: Twin, folder: Path) -> Artefact:
    """A file that only its runtime can look into; what it takes and names is found out on the device."""
    try:
        return _saved(path, twin, path.read_bytes(), folder, UNKNOWN, ("", ""), {})
    except (OSError, MemoryError) as error:
        raise UsageError(f"--engine {path}: {getattr(error, 'strerror', None) or error}") from error


def _saved(path: Path, twin: Twin, whole: bytes, folder: Path, precision: str, names: tuple[str, str], options: dict[str, Any]) -> Artefact:
    """The artefact of a user's engine, `whole` its bytes, `names` those of its input and output; its classes are the twin's."""
    stored, sha256 = write_file(whole, folder, path.stem, kind_of(path).removeprefix("."))
    artefact = Artefact(
        flavour=engine_name(f"{FILE}:{path}"),
        path=stored,
        sha256=sha256,
        source_sha256=twin.sha256,
        module_sha256=module_sha256(twin.module),
        precision=precision,
        runtime=RUNTIMES[kind_of(path)],
        input_name=names[0],
        input_shape=twin.input_shape,
        output_name=names[1],
        classes=twin.classes,
        calibration={},
        options=options,
    )
    _refuse_another(artefact, folder)
    artefact.save()
    return artefact


def with_free_batch(model: ModelProto, batch: int, shape: tuple[int, int, int], path: Path) -> ModelProto:
    """The graph with a free batch, where it answers for two batches at once what the file answers for each.

    Raises:
        UsageError: it does not: the size is part of the graph.
    """
    free = with_stored_sizes(model)
    stored = {tensor.name: tensor for tensor in free.graph.initializer}
    for node in free.graph.node:
        for place in SIZE_INPUTS.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] in stored:
                tensor = stored[node.input[place]]
                size = freed(node.op_type, place, numpy_helper.to_array(tensor), batch)
                tensor.CopyFrom(numpy_helper.from_array(size, tensor.name))
    for value in (*_inputs(free), *free.graph.output):
        for first in value.type.tensor_type.shape.dim[:1]:  # an output may be declared without its shape
            first.Clear()
            first.dim_param = BATCH
    del free.graph.value_info[:]
    x = np.random.default_rng(0).random((2 * batch, *shape), np.float32)
    name = _inputs(model)[0].name
    try:
        fixed = open_session(model)
        expected = np.concatenate([fixed.run(None, {name: part})[0] for part in (x[:batch], x[batch:])])
    except Exception as error:  # onnxruntime has a dozen types of its own
        raise UsageError(f"--engine {path} does not run on {batch} image(s) of {_by(shape)}: {first_line(error)}") from error
    try:
        found = open_session(free).run(None, {name: x})[0]
    except Exception as error:
        raise UsageError(f"--engine {path} takes batches of {batch} alone, and this is part of its graph. {RECIPE}") from error
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(np.abs(expected).max())):
        raise UsageError(f"--engine {path} takes batches of {batch} alone, and this is part of its graph. {RECIPE}")
    return free


def _answers(whole: bytes, name: str, shape: tuple[int, int, int], path: Path) -> np.ndarray:
    """The logits (2, classes) of two grey images. Raises UsageError where the file does not run or answers otherwise."""
    try:
        model = ModelProto.FromString(whole)
        found = open_session(model).run(None, {name: np.full((2, *shape), 0.5, np.float32)})[0]
    except Exception as error:
        raise UsageError(f"--engine {path} does not run on two images of {_by(shape)}: {first_line(error)}") from error
    if found.ndim != 2 or len(found) != 2 or found.dtype != np.float32:
        raise UsageError(f"--engine {path} answers {found.dtype} {found.shape} to two images; expected float32 (2, classes), the logits")
    return np.asarray(found)


def _refuse_another(artefact: Artefact, folder: Path) -> None:
    for manifest in folder.glob(f"{artefact.path.name.rpartition('-')[0]}-*.json"):
        earlier = load_artefact(manifest)
        if earlier.flavour == artefact.flavour and earlier.sha256 != artefact.sha256:
            raise UntrustedError(
                f"{artefact.flavour} changed since the run was begun: sha256 {earlier.sha256[:12]}… then, {artefact.sha256[:12]}… now. "
                "Start a new run."
            )


def _inputs(model: ModelProto) -> list[ValueInfoProto]:
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def _beside(path: Path) -> bool:
    return bool(external_files(parse_onnx(path), path))


def _precision(model: ModelProto) -> str:
    stored_as_integers = any(tensor.data_type in FEW_BITS and len(tensor.dims) > 1 for tensor in all_tensors(model))
    if quantized_nodes(model) or stored_as_integers:
        return "int8"
    return "fp16" if has_half(model) else "fp32"


def _described(model: ModelProto) -> str:
    """Its inputs and outputs, for an error."""

    def of(value: ValueInfoProto) -> str:
        kind = value.type.tensor_type
        sizes = ", ".join(str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in kind.shape.dim)
        return f"{value.name} {TensorProto.DataType.Name(kind.elem_type)} ({sizes})"

    return f"{'; '.join(map(of, _inputs(model)))} -> {'; '.join(map(of, model.graph.output))}"


def _by(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))
