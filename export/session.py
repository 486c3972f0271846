"""The one way this package runs an ONNX graph: onnxruntime on the CPU, silent, errors as `ExportError`.

Integers are multiplied exactly, whatever the CPU, unless somebody asks for this computer's own kernels: what is judged here is a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError

if TYPE_CHECKING:
    from onnx import ModelProto

# Without it, U8S8 kernels for x86 CPUs that lack VNNI add two products in 16 bits, which saturates. It changes nothing on any other CPU.
EXACT_INTEGERS = {"session.x64quantprecision": "1"}
# By default onnxruntime's threads keep a core busy for some 70 ms after a call. Nothing is timed here, and PyTorch computes next.
ASLEEP = {"session.force_spinning_stop": "1"}


def runs_exact(config: Mapping[str, str]) -> bool:
    """Whether a session of that configuration multiplies integers exactly on every CPU."""
    return config.items() >= EXACT_INTEGERS.items()


def to_input(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (n, h, w, c) -> float32 (n, c, h, w) in [0, 1], the division every engine's worker makes too."""
    scaled: NDArray[np.float32] = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
    return scaled


def open_session(model: str | ModelProto, *, optimise: bool = True, config: Mapping[str, str] | None = None, exact: bool = True) -> Any:
    """Load a file or a graph in memory.

    Args:
        model: path of the file, or the graph.
        optimise: every graph optimisation (onnxruntime's default), or none.
        config: further entries of the session's configuration, as an artefact's `session_config`.
        exact: multiply integers exactly where this CPU's kernels would saturate.

    Raises:
        ExportError: onnxruntime refuses it; the message has its words.
    """
    import onnxruntime as ort

    def load(entries: Mapping[str, str]) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        for key, value in {**ASLEEP, **entries}.items():
            options.add_session_config_entry(key, value)
        if not optimise:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    content: str | bytes = model if isinstance(model, str) else model.SerializeToString()
    if exact and optimise:
        content = _for_exact(content) or content
    own = dict(config or {})
    try:
        try:
            return load(own | EXACT_INTEGERS if exact else own)
        except ort.capi.onnxruntime_pybind11_state.NotImplemented:
            if not exact or runs_exact(own):
                raise
            return load(own)  # integer operators of signed activations have no kernels in that mode; those that they have never saturate
    except Exception as error:
        raise ExportError(f"onnxruntime cannot load the graph: {first_line(error)}") from error


def _for_exact(model: str | bytes) -> bytes | None:
    """The graph with what onnxruntime lacks where it multiplies exactly (see `own_weights`); None where it lacks nothing."""
    import onnx

    from export.own_weights import own_weights, own_zero_points

    try:
        graph = (whole := onnx.load(model) if isinstance(model, str) else onnx.load_from_string(model)).graph
    except Exception:  # noqa: BLE001 - protobuf's own types; onnxruntime says what is wrong with the file
        return None
    changed = [own_zero_points(graph), own_weights(graph)]
    return whole.SerializeToString() if any(changed) else None


def first_line(error: BaseException) -> str:
    """The first line of an exception that says something, at most 300 characters, with its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
