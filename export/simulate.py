"""An artefact's answers as its file defines them: onnxruntime on this CPU, with the artefact's own session options and exact integers.

For a `trt-*` flavour no graph optimisation is made, so that each Q/DQ pair rounds and each layer between computes in float: the arithmetic
that the file defines, and TensorRT's kernels follow up to the order of their sums. float16 is rounded between operators, not within them.
What comes out is a simulation and must be called one. A saved program (`torch-trt`) is no ONNX graph: PyTorch runs it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from export.artefact import Artefact
from export.errors import ExportError
from export.session import first_line, open_session, to_input

BATCH = 32


def simulated_logits(
    artefact: Artefact, images: NDArray[np.uint8], *, optimise: bool | None = None, exact: bool = True
) -> NDArray[np.float32]:
    """Logits, float32 (n, classes), of images uint8 (n, h, w, c), n > 0.

    `optimise` as for `open_artefact`. Without `exact`, by this computer's own kernels, which may saturate.

    Raises:
        ExportError: the file cannot be loaded or run, or there is no image.
    """
    if len(images) == 0:
        raise ExportError("no image to simulate")
    answer = open_artefact(artefact, optimise=optimise, exact=exact)
    step = 1 if artefact.one_by_one else BATCH
    return np.concatenate([answer(to_input(images[start : start + step])) for start in range(0, len(images), step)])


def open_artefact(
    artefact: Artefact, *, optimise: bool | None = None, exact: bool = True
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """What answers for an artefact here: images, float32 (n, c, h, w) -> logits, float32 (n, classes).

    onnxruntime, optimised where that is asked for (None: where it is the artefact's own runtime), else node by node; PyTorch for a saved
    program.

    Raises:
        ExportError: the file is refused; from the function: it cannot be run.
    """
    if artefact.path.suffix == ".pt2":
        from export.pt2 import open_pt2  # which imports PyTorch

        return open_pt2(artefact)
    own = artefact.runtime == "onnxruntime"
    session = open_session(str(artefact.path), optimise=own if optimise is None else optimise, config=artefact.session_config, exact=exact)

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            logits: NDArray[np.float32] = session.run([artefact.output_name], {artefact.input_name: batch})[0]
        except Exception as error:
            raise ExportError(f"onnxruntime cannot run {artefact.path.name}: {first_line(error)}") from error
        return logits

    return run
