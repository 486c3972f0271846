"""ONNX Runtime on the CPU.

The highest optimisation level is the default, since that is what people deploy. Its graph holds this CPU's own layouts (NCHWc), which
onnxruntime warns about when it writes the graph out; here that is the point: the file shows the kernels this very machine runs.

No code from a model is executed: no custom-operator library is ever registered, so a model that needs one is refused by the runtime.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from devices.worker.engines import Loaded, RefusedError
from devices.worker.spec import RuntimeOptions

LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

STOP_SPINNING = "session.force_spinning_stop"  # with the end of a call; within it threads spin as ever
# onnxruntime takes any key in silence, a misspelt one too; these are the ones that change results or speed on a CPU.
SESSION_CONFIG = (
    "session.x64quantprecision",
    "session.qdqisint8allowed",
    "session.disable_quant_qdq",
    "session.disable_double_qdq_remover",
    "session.disable_prepacking",
    "session.set_denormal_as_zero",
    "session.intra_op.allow_spinning",
    "session.dynamic_block_base",
    "mlas.disable_kleidiai",
)

_ERRORS_ONLY = 3


class OnnxRuntime:
    """An ONNX file in an onnxruntime session (`devices.worker.engines.Engine`)."""

    sleeps = False

    def load(self, artefact: Path, options: RuntimeOptions, optimised_graph: Path | None = None) -> Loaded:
        """Open a session with explicit threads and sequential execution."""
        settings = _session_options(options)
        if self.sleeps:
            settings.add_session_config_entry(STOP_SPINNING, "1")
        if optimised_graph is not None:
            settings.optimized_model_filepath = str(optimised_graph)
        try:
            self._session = ort.InferenceSession(str(artefact), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime raises a dozen types of its own
            raise RefusedError(f"onnxruntime {ort.__version__} will not load the model: {error}") from error
        self._check(options)
        self._input, self._outputs = options.input_name, [options.output_name]
        return Loaded(ort.__version__, self._describe(options))

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """One blocking call."""
        logits: NDArray[np.float32] = self._session.run(self._outputs, {self._input: batch})[0]
        return logits

    def close(self) -> None:
        """Drop the session."""
        del self._session

    def _check(self, options: RuntimeOptions) -> None:
        inputs = {value.name: value.type for value in self._session.get_inputs()}
        outputs = {value.name: value.type for value in self._session.get_outputs()}
        if inputs != {options.input_name: "tensor(float)"}:
            raise RefusedError(f"the model's inputs are {inputs}; expected the one input '{options.input_name}', tensor(float)")
        if outputs.get(options.output_name) != "tensor(float)":
            raise RefusedError(f"the model's outputs are {outputs}; expected '{options.output_name}', tensor(float)")

    def _describe(self, options: RuntimeOptions) -> dict[str, object]:
        settings = self._session.get_session_options()
        return {
            "providers": self._session.get_providers(),
            "intra_op_num_threads": settings.intra_op_num_threads,
            "inter_op_num_threads": settings.inter_op_num_threads,
            "execution_mode": settings.execution_mode.name,
            "graph_optimization_level": settings.graph_optimization_level.name,
            "enable_mem_pattern": settings.enable_mem_pattern,
            "enable_cpu_mem_arena": settings.enable_cpu_mem_arena,
            "session_config": {key: settings.get_session_config_entry(key) for key in options.session_config},
            "build": ort.get_build_info(),
        }


def _session_options(options: RuntimeOptions) -> ort.SessionOptions:
    if options.graph_optimisation not in LEVELS:
        raise RefusedError(f"unknown graph optimisation '{options.graph_optimisation}'. Choices: {', '.join(LEVELS)}.")
    settings = ort.SessionOptions()
    settings.graph_optimization_level = LEVELS[options.graph_optimisation]
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.log_severity_level = _ERRORS_ONLY
    for key, value in options.session_config.items():
        if key not in SESSION_CONFIG:
            raise RefusedError(f"unknown session config entry '{key}'. Choices: {', '.join(SESSION_CONFIG)}.")
        settings.add_session_config_entry(key, value)
    return settings
