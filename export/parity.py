"""Parity of an artefact: the file, run on this CPU by onnxruntime or, a saved program, by PyTorch, against the PyTorch module it came from.

It is of the export, not of any kernels (see `export.simulate`): a file for another runtime is simulated, and integers are exact,
so that it says the same on every workstation. What the measured CPU makes of the file is judged from the engine's own answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from export import scale
from export.artefact import Artefact
from export.errors import ExportError
from export.session import to_input
from export.simulate import open_artefact

if TYPE_CHECKING:
    from torch import nn

BATCH = 32
OWN_ERRORS = 2  # times the twin's own: the engine is one more draw of rounding errors than the few of which that is the largest


@dataclass(frozen=True)
class Limit:
    """What an artefact of one precision must meet. `logit_error` is of the largest logit (`export.scale`) or 1; None: there is no limit."""

    logit_error: float | None
    agreement: float
    remedy: str


LIMITS: dict[str, Limit] = {
    "fp32": Limit(1e-3, 0.999, "The export changed the model: do not use this file; report the architecture."),
    "fp16": Limit(None, 0.99, "Half precision overflows or rounds too much: keep the layers with large activations in fp32."),
    "int8": Limit(
        None,
        0.9,
        "Quantization changed the answers: try another --calibration (percentile, entropy) or other calibration images.",
    ),
}
GIVEN = {"fp32": LIMITS["fp16"]}
"""Of a file that was not made here: its logits may be counted otherwise (a log-softmax, a temperature) and its weights be rounded."""


@dataclass(frozen=True)
class ParityResult:
    """How far an artefact is from its twin on `n` images, whether that is within `limit` (text), and what to do if not (else empty).

    `max_logit_error` is float32's largest number where a logit is NaN or infinite.
    """

    n: int
    max_logit_error: float
    top1_agreement: float
    passed: bool
    limit: str
    remedy: str


def check_parity(module: nn.Module, artefact: Artefact, images: NDArray[np.uint8], *, given: bool = False) -> ParityResult:
    """Compare logits and top-1 of an artefact with its twin's.

    Where activations are rounded to levels, float arithmetic in another order moves a value at a border by a level: the limit of the
    logits' error is then what such errors make of the twin itself (`export.sensitivity`).

    Args:
        module: the twin, in eval mode.
        artefact: the file; of onnxruntime's own flavours with its session options and default (full) graph optimisation, of others with
            no optimisation.
            A saved program is one that this process exported (see `export.pt2`).
        images: uint8 (n, h, w, c), n > 0.
        given: it was not made here: where it computes in floats too, the labels count, not the logits.

    Raises:
        ExportError: the file cannot be loaded or run, or there is no image. A poor result raises nothing: see `passed`.
    """
    if len(images) == 0:
        raise ExportError("no image to prove the artefact on")
    twin, engine = _logits(module, artefact, images)
    if engine.shape != twin.shape:
        raise ExportError(f"{artefact.path.name} returns {engine.shape}, the twin {twin.shape}; it is not an export of this model")
    finite = bool(np.isfinite(engine).all())
    error = scale.most(twin, engine) if finite else float(np.finfo(np.float32).max)
    agreement = float(np.mean(engine.argmax(1) == twin.argmax(1)))
    limit = (GIVEN if given else LIMITS).get(artefact.precision, LIMITS[artefact.precision])
    text = f"top-1 agreement >= {limit.agreement:.1%}"
    passed = finite and agreement >= limit.agreement
    if limit.logit_error is not None:
        allowed = limit.logit_error * max(1.0, scale.largest(twin))
        beyond = float(scale.apart(twin, engine).max())
        if finite and beyond > allowed:
            allowed = max(allowed, OWN_ERRORS * _own_error(module, images))
        text += f", |logit error| <= {allowed:.2g}"
        passed = passed and beyond <= allowed
    return ParityResult(len(images), error, agreement, passed, text, "" if passed else limit.remedy)


def _own_error(module: nn.Module, images: NDArray[np.uint8]) -> float:
    from export.sensitivity import own_error  # which imports PyTorch

    return own_error(module, images)


def _logits(module: nn.Module, artefact: Artefact, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    import torch

    answer = open_artefact(artefact)
    twin, engine = [], []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch = to_input(images[start : start + BATCH])
            twin.append(module(torch.from_numpy(batch)).numpy())
            engine.append(answer(batch))
    return np.concatenate(twin), np.concatenate(engine)
