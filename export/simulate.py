"""An artefact's answers without its own runtime: onnxruntime on this CPU, every node as the file says it.

For a `trt-*` flavour no graph optimisation is made, so that each Q/DQ pair rounds and each layer between computes in float: the arithmetic
that the file defines, and TensorRT's kernels follow up to the order of their sums. float16 is rounded between operators, not within them.
What comes out is a simulation and must be called one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.artefact import Artefact
from export.errors import ExportError
from export.session import first_line, open_session, to_input

BATCH = 32


def simulated_logits(artefact: Artefact, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits, float32 (n, classes), of images uint8 (n, h, w, c), n > 0.

    Raises:
        ExportError: onnxruntime cannot load or run the file, or there is no image.
    """
    if len(images) == 0:
        raise ExportError("no image to simulate")
    session = open_artefact(artefact)
    return np.concatenate([run(session, artefact, to_input(images[start : start + BATCH])) for start in range(0, len(images), BATCH)])


def open_artefact(artefact: Artefact) -> Any:
    """An onnxruntime session of an artefact: optimised where onnxruntime is its runtime, else node by node.

    Raises:
        ExportError: onnxruntime refuses the file.
    """
    return open_session(str(artefact.path), optimise=artefact.runtime == "onnxruntime")


def run(session: Any, artefact: Artefact, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of one batch, float32 (n, c, h, w).

    Raises:
        ExportError: onnxruntime cannot run the file.
    """
    try:
        logits: NDArray[np.float32] = session.run([artefact.output_name], {artefact.input_name: batch})[0]
    except Exception as error:
        raise ExportError(f"onnxruntime cannot run {artefact.path.name}: {first_line(error)}") from error
    return logits
