"""Evidence of precision from a TensorRT engine: the inspector's layers, joined by name with the layer profile and with the ONNX nodes.

An engine keeps what it runs in a kernel's name. Where it hides it (layers fused by its Myelin compiler have no tactic), the answer is
"unknown", never a guess from what was asked for. Sparse means a kernel whose name says so: the inspector's `HasSparseWeights`, like the
builder's flag, only permits one.

Formats: NVIDIA's pages "Engine Inspector" and "Migrating IEngineInspector Usage from TensorRT 10.x to 11.x" (which renames "Bindings" to
"I/O Tensors"; the layers stay), and trtexec's --exportLayerInfo and --exportProfile.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.artefact import UNKNOWN, Artefact
from export.errors import ExportError
from export.evidence import MIN_INTEGER_SHARE, Evidence, KernelShare
from export.macs import MacNode, mac_nodes

SPARSE_LABEL = " 2:4"
LONGEST_MS = 1e15  # of a layer: sums and shares of such stay finite
DETAILED = "Build the engine with detailed profiling verbosity."

_MOVEMENT = frozenset(
    {"reformat", "noop", "shuffle", "constant", "slice", "concat", "gather", "shape", "identity", "signal", "wait", "shapehosttodevice"}
)
_FUSED = frozenset({"myelin", "kgen"})  # what the Myelin compiler writes; without a tactic it may hold anything
_MULTIPLIES = re.compile(r"conv|gemm|matmul|matrix|fully|fc", re.IGNORECASE)

# What a kernel's name says of its arithmetic, from names in NVIDIA's documentation and issue tracker. The first match counts.
_TACTICS = (
    ("int8", re.compile(r"i8i8|i8f32|int8|s8s8|imma|i8816|i16832")),
    ("fp8", re.compile(r"e4m3|fp8")),
    ("bf16", re.compile(r"bf16")),
    ("tf32", re.compile(r"tf32|(?<!f16_)s1688")),
    ("fp16", re.compile(r"f16f16|fp16|hmma|h884|h1688|h16816|half|f16_s\d")),
    ("fp32", re.compile(r"f32f32|fp32|sgemm|scudnn")),
)
# The same for a tensor's "Format/Datatype", long ("Row major linear FP32") and short ("Half") spellings.
_TYPES = (
    ("int8", re.compile(r"\bint8\b")),
    ("fp8", re.compile(r"\bfp8\b")),
    ("bf16", re.compile(r"\bbf16\b|\bbfloat16\b")),
    ("fp16", re.compile(r"\bfp16\b|\bhalf\b")),
    ("fp32", re.compile(r"\bfp32\b|\bfloat\b")),
)
_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_NONE = KernelShare(0.0, None, 0.0)
_MYELIN_SUFFIX = re.compile(r"_myl\d+_\d+$")


@dataclass(frozen=True)
class Layer:
    """One layer of an engine.

    Attributes:
        name: as the profile has it too.
        kind: its arithmetic (int8, fp8, bf16, fp16, tf32, fp32), `movement` where it computes nothing, `unknown` where the engine hides it.
        sparse: its kernel uses 2:4 sparsity.
        type: the inspector's LayerType.
        nodes: the ONNX nodes it says it holds.
    """

    name: str
    kind: str
    sparse: bool
    type: str
    nodes: frozenset[str]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every share it counts in."""
        return (self.kind, "sparse") if self.sparse else (self.kind,)

    @property
    def multiplies(self) -> bool:
        """Whether it is a convolution or matrix product by its type."""
        return _MULTIPLIES.search(self.type) is not None


def read_layers(inspector: Any) -> list[Layer]:
    """The layers of an engine inspector's JSON object, of TensorRT 10 or 11.

    Raises:
        ExportError: not such an object, or one with layer names only.
    """
    raw = inspector.get("Layers") if isinstance(inspector, dict) else None
    if not isinstance(raw, list) or not raw:
        raise ExportError(f"this is no engine information: expected an object with the list 'Layers', got {type(inspector).__name__}")
    if names := [layer for layer in raw if not isinstance(layer, dict)]:
        raise ExportError(f"the engine keeps names only, such as {names[0]!r}, so its kernels are unknown. {DETAILED}")
    return [_layer(layer) for layer in raw]


def read_profile(rows: Any) -> dict[str, float]:
    """Layer name -> milliseconds of one pass, from trtexec's --exportProfile or the worker's own profiler in the same form.

    Raises:
        ExportError: not a list of rows with `name` and `averageMs`.
    """
    found: dict[str, float] = {}
    try:
        for row in rows:
            if "name" in row:  # the first row holds the number of passes
                found[row["name"]] = found.get(row["name"], 0.0) + _milliseconds(row["averageMs"])
    except (TypeError, KeyError, ValueError) as error:
        raise ExportError(f"this is no layer profile: {error!r}; expected a list of rows with name and averageMs") from error
    return found


def _milliseconds(value: Any) -> float:
    if not 0 <= (found := float(value)) <= LONGEST_MS:
        raise ValueError(f"averageMs is {found}")
    return found


def kernel_shares(layers: list[Layer], profile: dict[str, float], nodes: list[MacNode]) -> dict[str, KernelShare]:
    """Kind of kernel -> its share of the layers, of the profiled time and of the MACs; `sparse` besides, as a part of the others.

    Time of rows that no layer has, and MACs of nodes that no layer names, are `unknown`.
    """
    number, time, macs = (defaultdict[str, float](float) for _ in range(3))
    left = dict(profile)
    for layer in layers:
        spent = left.pop(layer.name, 0.0)
        for kind in layer.kinds:
            number[kind] += 1
            time[kind] += spent
    if left:
        time["unknown"] += sum(left.values())
    for node in nodes:
        runner = _runner(node, layers)
        for kind in runner.kinds if runner else ("unknown",):
            macs[kind] += node.macs
    all_time, all_macs = sum(profile.values()), sum(node.macs for node in nodes)
    return {
        kind: KernelShare(
            number[kind] / len(layers), time[kind] / all_time if all_time else None, macs[kind] / all_macs if all_macs else 0.0
        )
        for kind in {**number, **time, **macs}
    }


def tensorrt_evidence(file: Path, artefact: Artefact) -> Evidence:
    """What the engine built from an artefact runs.

    Args:
        file: JSON with `inspector` (the engine information) and `profile` (rows, may be empty), as the worker saves it.
        artefact: the ONNX file that the engine was built from, or an engine of which nothing is known: there are no MACs to count then.

    Raises:
        ExportError: the artefact itself cannot be read. A missing or damaged `file` gives a share of None.
    """
    claimed = claim(artefact)
    nodes = mac_nodes(artefact.path) if claimed != UNKNOWN else []
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        layers, profile = read_layers(raw["inspector"]), read_profile(raw["profile"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ExportError) as error:
        label = claimed if claimed == UNKNOWN else f"{claimed} claimed, not verified"
        return Evidence(claimed, label, None, {}, f"the engine information cannot be read: {error}")
    shares = kernel_shares(layers, profile, nodes)
    types = dict(Counter(layer.type for layer in layers).most_common())
    if claimed == UNKNOWN:
        return Evidence(claimed, _slowest(shares), None, types, "; ".join(_of_time(kind, share) for kind, share in shares.items()), shares)
    return Evidence(claimed, _label(claimed, shares), shares.get("int8", _NONE).macs, types, _note(claimed, shares), shares)


def _slowest(shares: dict[str, KernelShare]) -> str:
    """The precision of the kernels that take most of the time; where nothing was timed, of most layers."""
    kinds = {kind: share for kind, share in shares.items() if kind not in ("movement", "sparse")}
    return max(kinds, key=lambda kind: (kinds[kind].time or 0.0, kinds[kind].layers), default=UNKNOWN)


def _of_time(kind: str, share: KernelShare) -> str:
    time = "an unknown part of the time" if share.time is None else f"{share.time:.1%} of the time"
    return f"{kind}: {share.layers:.1%} of the layers, {time}"


def claim(artefact: Artefact) -> str:
    """What an artefact claims: its precision, and 2:4 where its weights have that form."""
    return artefact.precision + (SPARSE_LABEL if artefact.options.get("sparse") else "")


def _label(claimed: str, shares: dict[str, KernelShare]) -> str:
    """The precision that may be printed."""
    precision = claimed.removesuffix(SPARSE_LABEL)
    own, hidden = (shares.get(kind, _NONE).macs for kind in (precision, "unknown"))
    if own + hidden < MIN_INTEGER_SHARE:
        others = {kind: share.macs for kind, share in shares.items() if kind not in (precision, "unknown", "sparse")}
        return f"{claimed} claimed, {max(others, key=lambda kind: others[kind])} kernels"
    if own < MIN_INTEGER_SHARE:
        return f"{claimed} claimed, not verified"
    return precision if claimed == precision else claimed if "sparse" in shares else f"{precision}, 2:4 claimed, no sparse kernel"


def _note(claimed: str, shares: dict[str, KernelShare]) -> str:
    words = [_in_words(shares.get("int8", _NONE), "INT8")]
    if claimed.endswith(SPARSE_LABEL) or "sparse" in shares:
        words.append(_in_words(shares.get("sparse", _NONE), "sparse"))
    if hidden := shares.get("unknown"):
        words.append(f"{_in_words(hidden, 'unknown')} (fused, or named by no layer)")
    return "; ".join(words)


def _in_words(share: KernelShare, kind: str) -> str:
    time = "an unknown part of the time" if share.time is None else f"{share.time:.1%} of the time"
    return f"{share.layers:.1%} of the layers, {time} and {share.macs:.1%} of the MACs in {kind} kernels"


def _layer(raw: dict[str, Any]) -> Layer:
    name, kind, tactic = str(raw.get("Name", "")), str(raw.get("LayerType", "")), str(raw.get("TacticName", "")).lower()
    layers = _MYELIN_SUFFIX.sub("", name).split(" + ")
    nodes = frozenset({*layers, *_ONNX_LAYER.findall(str(raw.get("Metadata", "")))}) - {""}
    sparse = "sparse" in tactic or "sptensor" in tactic
    return Layer(name, _kind(raw, kind.lower(), name, tactic), sparse, kind or str(raw.get("ParameterType", "")), nodes)


def _kind(raw: dict[str, Any], kind: str, name: str, tactic: str) -> str:
    if kind in _MOVEMENT:
        return "movement"
    if (found := _first(_TACTICS, tactic)) is not None:
        return found
    if kind in _FUSED or "ForeignNode" in name:
        return "unknown"
    weights = raw.get("Weights")
    seen = {_type(tensor) for tensor in (raw.get("Inputs") or [])[:1]}
    if isinstance(weights, dict) and weights.get("Count"):
        seen.add(_first(_TYPES, str(weights.get("Type", "")).lower()))
    return next(iter(seen)) or "unknown" if len(seen) == 1 else "unknown"


def _type(tensor: dict[str, Any]) -> str | None:
    """The data type of an inspector's tensor; None where it hides it ("N/A due to dynamic shapes")."""
    kind = next((str(tensor[key]) for key in ("Format/Datatype", "Datatype", "DataType", "Format") if key in tensor), "")
    return _first(_TYPES, kind.lower())


def _first(table: tuple[tuple[str, re.Pattern[str]], ...], text: str) -> str | None:
    return next((name for name, pattern in table if pattern.search(text)), None)


def _runner(node: MacNode, layers: list[Layer]) -> Layer | None:
    """The layer that multiplies for a node: of those that name it, the one that is a product by its type, else the only one that computes.

    None where none does, or where several could.
    """
    named = [layer for layer in layers if node.name in layer.nodes and layer.kind != "movement"]
    for candidates in ([layer for layer in named if layer.multiplies], named):
        if len({(layer.kind, layer.sparse) for layer in candidates}) == 1:
            return candidates[0]
    return None
