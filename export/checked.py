"""Reading an ONNX file that may be damaged or hostile. Nothing of it is executed here, and no file is opened but those in its folder."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path, PurePosixPath

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, inliner

from export.errors import ExportError

MAX_BYTES = 2**31 - 1  # what one protobuf message can hold
MIN_OPSET = 7  # onnxruntime promises nothing below
MAX_NODES = 200_000  # after inlining; ten times the largest classifier, and a bound on what nested functions can expand to
MAX_DEPTH = 100  # of functions that call functions: an exporter writes a handful
MIN_INTEGER_CONSTANTS = 9  # operator set
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
STANDARD_DOMAINS = ("", "ai.onnx")


def load_checked(path: Path, own: Collection[str] = ()) -> ModelProto:
    """Read an ONNX file, with its local functions inlined and the weights that lie in a file beside it put inside.

    Args:
        own: operators outside of the standard that it may have, as domain::name.

    Raises:
        ExportError: not a readable file, truncated, not ONNX, larger than 2 GB, with external data that is not in its folder or not of
            the size declared, of an operator set that is not supported, with operators outside the ONNX standard (listed), with
            tensors that do not hold what they declare, or invalid for `onnx.checker`.
    """
    model = parse_onnx(path)
    load_external_data(model, path)
    _check_opset(model, path.name)
    check_size(model, path.name)
    if model.functions:
        model = inliner.inline_local_functions(model)
    _check_operators(model, path.name, own)
    _check_tensors(model, path.name)
    store_integers(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ExportError(f"{path.name} is not a valid ONNX graph: {str(error).strip().splitlines()[0][:300]}") from error
    return model


def refuse_external_data(model: ModelProto, name: str) -> None:
    """Refuse tensors that live in other files: such a file reads whatever path it names.

    Raises:
        ExportError: the first such tensor and where it points.
    """
    for tensor in all_tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "?")
            raise ExportError(
                f"{name}: tensor '{tensor.name}' is stored outside of the file, in '{place}'. Expected all weights in one file. "
                "Save it again with onnx.save(model, path, save_as_external_data=False)."
            )


def load_external_data(model: ModelProto, path: Path) -> None:
    """Put the weights that `path` says lie in files beside it (as PyTorch's exporter writes large and small models) into the model.

    Raises:
        ExportError: a place outside of the file's folder or behind a link, no such file, fewer bytes than the tensor declares, or more
            than 2 GB in all.
    """
    files: dict[str, bytes] = {}
    total = path.stat().st_size
    for tensor in all_tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL and not tensor.external_data:
            continue
        fields = {entry.key: entry.value for entry in tensor.external_data}
        location = fields.get("location", "")
        if location not in files:
            place = _beside(path, location, tensor.name)
            if place.stat().st_size > MAX_BYTES:
                raise ExportError(f"{place} has {place.stat().st_size / 1e9:.1f} GB; models above 2 GB are not supported")
            files[location] = place.read_bytes()
        total += (needed := _bytes_of(tensor, path.name))
        if total > MAX_BYTES:  # many tensors may name the same bytes
            raise ExportError(f"{path.name} and the weights beside it hold {total / 1e9:.1f} GB; models above 2 GB are not supported")
        tensor.raw_data = _part(files[location], fields, needed, f"{path.name}: tensor '{tensor.name}' in '{location}'")
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.DEFAULT


def external_files(model: ModelProto, path: Path) -> list[Path]:
    """The files beside `path` that its weights lie in, as the model names them."""
    entries = (entry for tensor in all_tensors(model) for entry in tensor.external_data)
    return [path.parent / name for name in sorted({entry.value for entry in entries if entry.key == "location"})]


def _beside(path: Path, location: str, tensor: str) -> Path:
    """The file at `location`, relative to the folder of `path`.

    Raises:
        ExportError: it leads out of that folder, is a link or behind one, or is no file.
    """
    parts = PurePosixPath(location).parts
    wanted = f"{path.name}: tensor '{tensor}' is stored outside of the file, in '{location[:200]}'"
    if not parts or ".." in parts or PurePosixPath(location).is_absolute() or "\\" in location or "\0" in location:
        raise ExportError(
            f"{wanted}. Expected a file in the model's folder, or all weights in one file: onnx.save(onnx.load(path), path), "
            "or torch.onnx.export(…, external_data=False)."
        )
    places = [path.parent.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    if any(place.is_symlink() for place in places):
        raise ExportError(f"{wanted}, which is a link. Expected the file itself.")
    if not places[-1].is_file():
        raise ExportError(f"{wanted}, and there is no such file. Put it beside the model: the two belong together.")
    return places[-1]


def _part(data: bytes, fields: dict[str, str], needed: int, what: str) -> bytes:
    """The bytes of one tensor.

    Raises:
        ExportError: offset or length are no numbers, or not those of the tensor and the file.
    """
    offset, length = fields.get("offset", "0"), fields.get("length", str(needed))
    if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in (offset, length)) or int(length) != needed:
        raise ExportError(f"{what} declares offset {offset[:20]} and length {length[:20]}; expected {needed:,} bytes of its shape and type")
    if int(offset) + needed > len(data):
        raise ExportError(
            f"{what} needs bytes up to {int(offset) + needed:,}; the file has {len(data):,}. It is truncated, or another model's."
        )
    return data[int(offset) : int(offset) + needed]


def _bytes_of(tensor: TensorProto, name: str) -> int:
    """How many bytes a tensor of its shape and type takes, packed.

    Raises:
        ExportError: a type without a fixed size.
    """
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError as error:
        raise ExportError(f"{name}: tensor '{tensor.name}' is of no known type ({tensor.data_type})") from error
    if dtype.kind == "O" or min(tensor.dims, default=0) < 0:
        raise ExportError(f"{name}: tensor '{tensor.name}' of shape {tuple(tensor.dims)} cannot be stored outside of the file")
    bits = math.prod(tensor.dims) * onnx_bits(tensor.data_type, dtype.itemsize)
    return int(bits + 7) // 8


def parse_onnx(path: Path) -> ModelProto:
    """Read an ONNX file without checking what the graph says.

    Raises:
        ExportError: not a readable file, larger than 2 GB, truncated, not ONNX, or without a graph.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ExportError(f"{path} is not a file; expected an ONNX file")
        if size > MAX_BYTES:
            raise ExportError(f"{path.name} has {size / 1e9:.1f} GB; ONNX files above 2 GB are not supported")
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:
        if zipfile.is_zipfile(path):
            raise ExportError(f"{path.name} is a zip archive, as torch.save, TorchScript and numpy write; expected an ONNX file") from error
        raise ExportError(f"{path.name} is not an ONNX file, or a truncated one ({size:,} bytes): {error}") from error
    if model.ir_version == 0 or not model.graph.node or not model.graph.output:
        raise ExportError(f"{path.name} is not an ONNX file: it holds no graph ({size:,} bytes)")
    free_negative_sizes(model.graph)
    sort_nodes(model.graph)
    return model


def free_negative_sizes(graph: GraphProto) -> None:
    """A negative size becomes one that may be anything: so PaddlePaddle's exporter writes a free batch, and so onnxruntime reads it."""
    for value in chain(graph.input, graph.output, graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                dim.ClearField("dim_value")


def sort_nodes(graph: GraphProto) -> None:
    """Puts each node behind those whose values it reads, as onnxruntime does: converters to float16 append their casts at the end.

    A graph that is sorted, or goes in a circle, stays as it is.
    """
    maker = {value: place for place, node in enumerate(graph.node) for value in node.output if value}
    needs = {
        place: {maker[value] for part in (node, *_inside(node)) for value in part.input if value in maker} - {place}
        for place, node in enumerate(graph.node)
    }
    if all(before < place for place, found in needs.items() for before in found):
        return
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError:
        return
    nodes = [deepcopy(graph.node[place]) for place in order]
    del graph.node[:]
    graph.node.extend(nodes)


def _inside(node: NodeProto) -> Iterator[NodeProto]:
    """The nodes of a node's subgraphs."""
    return chain.from_iterable(all_nodes(graph) for graph in subgraphs(node.attribute))


def _check_opset(model: ModelProto, name: str) -> None:
    highest = onnx.defs.onnx_opset_version()
    versions = sorted({entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS})
    if len(versions) != 1 or not MIN_OPSET <= versions[0] <= highest:
        got = ", ".join(map(str, versions)) or "none"
        raise ExportError(
            f"{name} uses ONNX operator set {got}; supported are {MIN_OPSET} to {highest}. Export it again with a supported opset_version."
        )


def store_integers(model: ModelProto) -> None:
    """Integers in Constant nodes become stored tensors before operator set 9, where that operator gives floats alone: PyTorch 0.4 wrote its
    sizes so, onnxruntime takes them, and the checker does not."""
    opset = max((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), default=0)
    if opset >= MIN_INTEGER_CONSTANTS:
        return
    constants = [node for node in model.graph.node if node.op_type == "Constant" and len(node.attribute) == len(node.output) == 1]
    integers = [node for node in constants if node.attribute[0].HasField("t") and node.attribute[0].t.data_type not in FLOATS]
    for node in integers:
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        model.graph.node.remove(node)
    if integers:
        model.ir_version = max(model.ir_version, 4)  # before that, every stored tensor is an input too


def _check_operators(model: ModelProto, name: str, own: Collection[str]) -> None:
    others = {f"{node.domain}::{node.op_type}" for node in all_nodes(model.graph) if node.domain not in STANDARD_DOMAINS}
    custom = sorted(others.difference(own))
    if own := [f"{function.domain}::{function.name}" for function in model.functions if f"{function.domain}::{function.name}" in custom]:
        raise ExportError(
            f"{name} calls {', '.join(own[:10])}, functions that it brings for another operator set than its own, where operators may mean "
            "something else. Put them in their places with the tool that wrote it, or export the model again with one opset_version."
        )
    if custom:
        runtimes = any(each.startswith("com.microsoft") for each in custom)
        remedy = (
            " Those of com.microsoft come from onnxruntime, which optimised or quantized it: take the file from before." if runtimes else ""
        )
        raise ExportError(
            f"{name} uses operators outside the ONNX standard: {', '.join(custom[:10])}. Expected standard operators (domain ai.onnx) "
            f"only.{remedy}"
        )


def check_size(model: ModelProto, name: str) -> None:
    """Bound the nodes after inlining, and how deep it goes, without inlining: nested functions can expand without limit, or for ever.

    Raises:
        ExportError: beyond the bounds, or a function that calls itself.
    """
    functions = {(function.domain, function.name, function.overload): function for function in model.functions}
    counted: dict[tuple[str, str, str], tuple[int, int]] = {}
    open_calls: set[tuple[str, str, str]] = set()

    def count(nodes: Iterator[NodeProto]) -> tuple[int, int]:
        """(nodes after inlining, depth of the calls among them)."""
        total, depth = 0, 0
        for node in nodes:
            call = (node.domain, node.op_type, node.overload)
            if call not in functions:
                total += 1
                continue
            if call in open_calls:
                raise ExportError(f"{name}: function '{node.op_type}' calls itself; that is not ONNX")
            if call not in counted and len(open_calls) < MAX_DEPTH:
                open_calls.add(call)
                counted[call] = count(all_nodes(functions[call]))
                open_calls.discard(call)
            inside, below = counted.get(call, (0, MAX_DEPTH))
            total, depth = total + inside, max(depth, below + 1)
            if depth > MAX_DEPTH:
                raise ExportError(f"{name} nests functions more than {MAX_DEPTH} deep; expected a classifier's few. Inline them first.")
        return total, depth

    if (nodes := count(all_nodes(model.graph))[0]) > MAX_NODES:
        raise ExportError(f"{name} expands to {nodes:,} nodes; expected a classifier, at most {MAX_NODES:,}")


def _check_tensors(model: ModelProto, name: str) -> None:
    """Compare what each tensor declares with what it holds, so that no reader allocates or reads past it."""
    for tensor in all_tensors(model):
        try:
            onnx.checker.check_tensor(tensor)
        except onnx.checker.ValidationError as error:
            raise ExportError(f"{name}: tensor '{tensor.name}' is damaged: {str(error).strip().splitlines()[0][:200]}") from error
        if tensor.HasField("raw_data") and len(tensor.raw_data) != _bytes_of(tensor, name):
            shape = tuple(tensor.dims)
            raise ExportError(
                f"{name}: tensor '{tensor.name}' declares shape {shape} but holds {len(tensor.raw_data):,} bytes; the file is damaged"
            )


def onnx_bits(data_type: int, itemsize: int) -> int:
    """Bits per element as stored: sub-byte types are packed."""
    label = TensorProto.DataType.Name(data_type)
    return {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}.get(label, 8 * itemsize)


def all_nodes(body: GraphProto | FunctionProto) -> Iterator[NodeProto]:
    """Every node, with those of subgraphs (If, Loop, Scan)."""
    for node in body.node:
        yield node
        for graph in subgraphs(node.attribute):
            yield from all_nodes(graph)


def subgraphs(attributes: Sequence[AttributeProto]) -> Iterator[GraphProto]:
    """The graphs among a node's attributes (If, Loop, Scan)."""
    for attribute in attributes:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor of the file: initialisers, sparse ones, attributes, in graphs, subgraphs and functions."""
    for body in (model.graph, *model.functions):
        if isinstance(body, GraphProto):
            yield from _graph_tensors(body)
        for node in all_nodes(body):
            for graph in subgraphs(node.attribute):
                yield from _graph_tensors(graph)
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                for sparse in chain([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else [], attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
