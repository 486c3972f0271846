"""Reads a saved `torch.export` program without `torch.export.load`.

That function runs what the file says: it unpickles sample inputs, weights and constants (falling back to `weights_only=False`),
evaluates the text of every symbolic size as Python (sympy), and resolves a node's target to any attribute of `torch`, `os` included
(torch 2.14, torch/export/pt2_archive/_package.py and torch/_export/serde/serialize.py). Here the graph is read as the JSON it is, only
the operators of `pt2_operators` are called, weights are read as raw bytes, sizes are never evaluated.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UsageError, out_of_memory
from harness.models.interpreter import GraphInterpreter, Instruction, Ref
from harness.models.kinds import SAVE_AGAIN
from harness.models.odd_signs import Call, odd_signs
from harness.models.pt2_conditions import Conditions, conditions
from harness.models.pt2_operators import check_kinds, checked_int, find_operator, is_layer
from harness.models.pt2_sizes import check_sizes
from harness.models.pt2_straight import cast, names_in, returning_casts
from harness.models.weights import refuse_non_finite

SCHEMA_MAJOR = 8

REMEDY_OPERATORS = "Others often go when the program is saved after .run_decompositions()."

VIEWS = 4  # times a file's size that its tensors may take, as views of the same bytes

# Numbers of torch/_export/serde/schema.py.
DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
OTHER_DTYPES = {
    9: "complex32", 10: "complex64", 11: "complex128", 28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2", 31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip
HALVES = (torch.float16, torch.bfloat16)
MEMORY_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}

PROBABILITIES = {"softmax", "_softmax", "sigmoid", "sigmoid_"}
# Behind them it is one still: scaled, shifted, moved, or a part of it.
PASSING_ENDS = {
    "add", "add_", "sub", "sub_", "rsub", "neg", "slice", "select", "narrow", "index", "index_select", "transpose", "permute", "t",
    "unsqueeze", "split", "split_with_sizes", "chunk", "cat", "mul", "mul_", "div", "div_", "clamp", "clamp_", "clamp_min", "clamp_max",
    "clip", "view", "_unsafe_view", "reshape", "flatten", "squeeze", "alias", "clone", "contiguous", "detach", "to", "_to_copy",
}  # fmt: skip
ASSERTIONS = re.compile(r"torch\.ops\.aten\.(_assert_\w+|sym_constrain_range\w*)\.\w+")


@dataclass(frozen=True)
class Program:
    """A program that was read.

    Attributes:
        input_shape: (channels, height, width) that it was saved with.
        fixed: which of these sizes it takes only as they are; the others are symbolic.
        probabilities: the operator that it ends in, a softmax or sigmoid; "" where it ends in none.
        conditions: that other sizes must fulfil.
    """

    network: GraphInterpreter
    input_shape: tuple[int, int, int]
    fixed: tuple[bool, bool, bool]
    probabilities: str
    conditions: Conditions


def read_pt2(path: Path) -> Program:
    """Read a `.pt2` file. No code of it runs and nothing is unpickled. Half precision becomes float32 (see `onnx_graph.read_onnx`).

    Raises:
        UsageError: unreadable, not such a file, of another version, holding pickles, or using an operator that is not accepted (all
            of them are listed).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(Archive(path, archive))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise UsageError(f"{path} is not a torch.export program: {error}. {SAVE_AGAIN}.") from error
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError, RecursionError, StopIteration) as error:
        if out_of_memory(error):
            raise
        raise UsageError(f"{path} is damaged: {type(error).__name__} {str(error).splitlines()[:1]}. {SAVE_AGAIN}.") from error


class Archive:
    """The records of one `.pt2` zip. Records are stored, never compressed, so none can be larger than the file."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self.archive = path, archive
        names = archive.namelist()
        self.root, self.names = names[0].split("/")[0] if names else "", frozenset(names)
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise UsageError(f"{path} has compressed records, which torch.export.save does not write. {SAVE_AGAIN}.")

    def has(self, name: str) -> bool:
        """Whether there is such a record."""
        return f"{self.root}/{name}" in self.names

    def read(self, name: str) -> bytes:
        """The bytes of one record.

        Raises:
            UsageError: there is none.
        """
        if not self.has(name):
            raise UsageError(f"{self.path} is not a torch.export program of this version: it lacks {name}. {SAVE_AGAIN}.")
        return self.archive.read(f"{self.root}/{name}")

    def json(self, name: str) -> Any:
        """One record, parsed."""
        return json.loads(self.read(name))

    def tensors(self, folder: str) -> dict[str, Tensor]:
        """The weights or constants: raw bytes with a table of dtype, size, stride and offset. Names of one view share its tensor.

        Raises:
            UsageError: one of them is pickled, or they claim to be larger than the file.
        """
        largest = self.path.stat().st_size
        records: dict[str, bytearray] = {}
        views: dict[str, Tensor] = {}
        found: dict[str, Tensor] = {}
        held = 0
        for name, entry in self.json(f"data/{folder}/model_{folder}_config.json")["config"].items():
            record, view = entry["path_name"], json.dumps(entry, sort_keys=True)
            if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", record):
                raise UsageError(f"{self.path}: '{name}' is stored as a pickle, which is never loaded. {SAVE_AGAIN}.")
            if record not in records:
                records[record] = bytearray(self.read(f"data/{folder}/{record}"))
            if view not in views:
                tensor = _view(records[record], entry["tensor_meta"], largest, f"{self.path}: '{name}'")
                views[view] = nn.Parameter(tensor) if entry["is_param"] and tensor.is_floating_point() else tensor
                held += tensor.nbytes
            found[name] = views[view]
            if held > VIEWS * largest:
                raise UsageError(f"{self.path} makes {held:,} bytes of weights from {largest:,}: damaged or hostile. {SAVE_AGAIN}.")
        return found


def _view(raw: bytearray, meta: dict[str, Any], largest: int, name: str) -> Tensor:
    """A tensor out of raw bytes; PyTorch refuses sizes and strides that lead outside of them.

    Raises:
        UsageError: of more than `largest` bytes. A stride of 0, or no byte at all, would let a small file allocate anything.
    """
    dtype = _dtype(meta["dtype"], name)
    size, stride = ([item["as_int"] for item in meta[key]] for key in ("sizes", "strides"))
    if (needed := math.prod(size) * dtype.itemsize) > largest:
        raise UsageError(
            f"{name} claims {needed:,} bytes, shape {tuple(size)}, in a file of {largest:,}: damaged or hostile. {SAVE_AGAIN}."
        )
    if not raw:
        return torch.zeros(size, dtype=_wide(dtype))
    flat = torch.frombuffer(raw, dtype=dtype)
    return flat.as_strided(size, stride, meta["storage_offset"]["as_int"]).clone(memory_format=torch.contiguous_format).to(_wide(dtype))


def _dtype(number: int, what: str) -> torch.dtype:
    """The type of that number in a file.

    Raises:
        UsageError: `what` is of one that no tensor may have here.
    """
    if number in OTHER_DTYPES:
        expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES.values())
        raise UsageError(f"{what} is of type {OTHER_DTYPES[number]}, which is not read from a .pt2; expected {expected}.")
    return DTYPES[number]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in HALVES else dtype


def _read(archive: Archive) -> Program:
    stored = archive.json("models/model.json")
    version = stored["schema_version"]
    if version["major"] != SCHEMA_MAJOR:
        raise UsageError(
            f"{archive.path} has schema {version['major']}.{version['minor']}; this version reads {SCHEMA_MAJOR}. {SAVE_AGAIN}."
        )
    module = stored["graph_module"]
    graph, signature = module["graph"], module["signature"]
    source, weights = _inputs(archive, signature["input_specs"])
    result = _output(archive, signature["output_specs"])
    dtypes = {name: DTYPES[meta["dtype"]] for name, meta in graph["tensor_values"].items() if meta["dtype"] in DTYPES}
    _check_finite(archive.path, graph["nodes"], weights)
    steps = _steps(archive.path, graph["nodes"], dtypes, result)
    sizes = graph["tensor_values"][source]
    shape, fixed = _input_sizes(archive, sizes)
    network, ends_in = GraphInterpreter(steps, weights, source, result), _probabilities(graph["nodes"], result)
    network.widened = any(dtype in HALVES for dtype in dtypes.values())
    program = Program(network, shape, fixed, ends_in, conditions(stored, sizes["sizes"]))
    check_sizes(archive.path, program.network, program.input_shape, sizes["sizes"][0].get("as_int"))
    return program


def _check_finite(path: Path, nodes: list[dict[str, Any]], weights: dict[str, Tensor]) -> None:
    """Refuse weights that are not finite; infinity is accepted in a buffer or constant that no layer reads, such as a mask."""
    in_layers = {name for node in nodes if is_layer(node["target"]) for item in node["inputs"] for name in names_in(item["arg"])}
    for name, tensor in weights.items():
        refuse_non_finite({name: tensor}, str(path), infinite=name not in in_layers and not isinstance(tensor, nn.Parameter))


def _probabilities(nodes: list[dict[str, Any]], result: str) -> str:
    """The operator that makes probabilities, scaled ones too, of what a program returns; "" where none does."""
    made = {name: node for node in nodes for output in node["outputs"] for name in names_in(output)}
    node = made.get(result)
    while node is not None and _name(node) in PASSING_ENDS:
        sources = [made[name] for item in node["inputs"] for name in names_in(item["arg"]) if name in made]
        node = sources[0] if len(sources) == 1 else None  # of two factors one may be a gate
    return _name(node) if node is not None and _name(node) in PROBABILITIES else ""


def _name(node: dict[str, Any]) -> str:
    """Of the operator that a node calls, without its overload."""
    return str(node["target"]).removeprefix("torch.ops.aten.").split(".")[0]


def _inputs(archive: Archive, specs: list[dict[str, Any]]) -> tuple[str, dict[str, Tensor]]:
    """(name of the image input, graph name -> weight)."""
    stored = archive.tensors("weights") | archive.tensors("constants")
    images: list[str] = []
    weights: dict[str, Tensor] = {}
    for spec in specs:
        ((kind, value),) = spec.items()
        if kind == "user_input":
            images.append(value["arg"]["as_tensor"]["name"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            weights[value["arg"]["name"]] = stored[value[f"{kind}_name"]]
        else:
            raise UsageError(f"{archive.path} has an input of kind {kind}; expected images and weights alone")
    if len(images) != 1:
        raise UsageError(f"{archive.path} takes {len(images)} inputs; expected one, the images")
    return images[0], weights


def _output(archive: Archive, specs: list[dict[str, Any]]) -> str:
    kinds = [next(iter(spec)) for spec in specs]
    if kinds != ["user_output"]:
        raise UsageError(
            f"{archive.path} returns {', '.join(kinds)}; expected the logits alone. Export it in eval mode, wrapped to return one tensor."
        )
    name: str = specs[0]["user_output"]["arg"]["as_tensor"]["name"]
    return name


def _input_sizes(archive: Archive, meta: dict[str, Any]) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """(c, h, w) of the saved input, where a size is symbolic the one it was traced with; and which of them are not symbolic."""
    sizes = [item["as_int"] if "as_int" in item else item["as_expr"]["hint"]["as_int"] for item in meta["sizes"]]
    dtype = _dtype(meta["dtype"], f"{archive.path}: the input")
    if len(sizes) != 4 or dtype != torch.float32:
        raise UsageError(
            f"{archive.path} takes {dtype} {tuple(sizes)}; expected float32 images (n, channels, height, width): save the program of "
            "model.float()."
        )
    channels, height, width = ("as_int" in item for item in meta["sizes"][1:])
    return (sizes[1], sizes[2], sizes[3]), (channels, height, width)


def _steps(path: Path, nodes: list[dict[str, Any]], dtypes: dict[str, torch.dtype], result: str) -> list[Instruction]:
    nodes = [node for node in nodes if not ASSERTIONS.fullmatch(node["target"])]
    refused = sorted({node["target"] for node in nodes if find_operator(node["target"]) is None})
    if refused:
        more = f" and {len(refused) - 8} more" if len(refused) > 8 else ""
        raise UsageError(
            f"{path} calls {', '.join(refused[:8])}{more}; only operators of torch.ops.aten that classifiers are made of are accepted. "
            f"{REMEDY_OPERATORS}"
        )
    replaced: dict[str, Callable[..., Any]] = {name: cast(dtypes[name]) for name in returning_casts(nodes, dtypes, {result})}
    replaced |= dict.fromkeys(odd_signs(list(map(_call, nodes))), torch.sign)
    return [_step(node, replaced) for node in nodes]


def _call(node: dict[str, Any]) -> Call:
    inputs = [name for item in node["inputs"] for name in names_in(item["arg"])]
    outputs = [name for output in node["outputs"] for name in names_in(output)]
    return Call(_name(node).removesuffix("_"), inputs, outputs[0] if outputs else "")


def _step(node: dict[str, Any], replaced: dict[str, Callable[..., Any]]) -> Instruction:
    """One call; `replaced`: by its first output, what is called in place of the operator."""
    function = find_operator(node["target"])
    if function is None:
        raise ValueError(node["target"])
    positional = tuple(_argument(item["arg"]) for item in node["inputs"] if item["kind"] == 1)
    keywords = {item["name"]: _argument(item["arg"]) for item in node["inputs"] if item["kind"] != 1}
    check_kinds(node["target"], positional, keywords)
    outputs = _outputs(node["outputs"])
    if outputs[:1] and outputs[0] in replaced:
        function = replaced[outputs[0]]
    return Instruction(function, positional, keywords, outputs)


def _outputs(outputs: list[dict[str, Any]]) -> tuple[str, ...]:
    names: list[str] = []
    for output in outputs:
        ((kind, value),) = output.items()
        if kind == "as_tensors":
            names += [item["name"] for item in value]
        elif kind == "as_none":
            names.append("")
        else:
            names.append(value["name"] if kind == "as_tensor" else value["as_name"])
    # A list of one is still a list: the second, nameless output makes the step unpack it.
    return (*names, "") if outputs and "as_tensors" in outputs[0] else tuple(names)


def _argument(argument: dict[str, Any]) -> Any:
    """A serialized argument (union `Argument` of the schema) as a literal or a reference."""
    ((kind, value),) = argument.items()
    match kind:
        case "as_none":
            return None
        case "as_tensor":
            return Ref(value["name"])
        case "as_tensors":
            return [Ref(item["name"]) for item in value]
        case "as_optional_tensors":
            return [_argument(item) for item in value]
        case "as_int":
            return checked_int(value)
        case "as_ints":
            return [checked_int(item) for item in value]
        case "as_float":
            return float(value)  # infinities and NaN are written as text
        case "as_floats":
            return [float(item) for item in value]
        case "as_bool" | "as_bools" | "as_string":
            return value
        case "as_sym_int" | "as_sym_bool" | "as_sym_float":
            return _symbol(value)
        case "as_sym_ints" | "as_sym_floats":
            return [_symbol(item) for item in value]
        case "as_scalar_type":
            return _wide(_dtype(value, "an operator's result"))
        case "as_memory_format":
            return MEMORY_FORMATS[value]
        case "as_layout":
            return torch.strided
        case "as_device":
            return torch.device("cpu")
        case _:
            raise ValueError(f"an argument of kind {kind}")


def _symbol(value: dict[str, Any]) -> Any:
    """A size: the result of an earlier step, or a number."""
    ((kind, item),) = value.items()
    return Ref(item) if kind == "as_name" else checked_int(item) if isinstance(item, int) else item
