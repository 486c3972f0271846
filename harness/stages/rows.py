"""Models between the twin and its engines that are no target: the parent, and an exported file computed node by node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from export.artefact import Artefact
from export.session import to_input
from export.simulate import BATCH, open_artefact
from harness.answers import Images, Logits
from harness.attacks.target import ModuleTarget
from harness.errors import UsageError
from harness.models.load import Twin, load_twin
from harness.models.shipped import cards
from harness.sources import PARENT, simulated_name

READ_HERE = (".onnx", ".pt2")  # files that the workstation itself can compute


@dataclass(frozen=True, eq=False)
class File:
    """An artefact as its file defines it: onnxruntime without any graph optimisation, so that Q/DQ round and layers compute in float.

    `flavour`: whose it is.
    """

    flavour: str
    artefact: Artefact

    @property
    def id(self) -> str:
        """Its row."""
        return simulated_name(self.flavour)

    @property
    def sha256(self) -> str:
        """Of the file."""
        return self.artefact.sha256

    @cached_property
    def _answer(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        return open_artefact(self.artefact, optimise=False)

    def logits(self, images: Images) -> Logits:
        """Float32 (n, classes). Raises ExportError: it cannot be run."""
        if not len(images):  # of none, the number of classes must still be right
            return self._answer(to_input(np.zeros((1, *images.shape[1:]), np.uint8)))[:0]
        return np.concatenate([self._answer(to_input(images[start : start + BATCH])) for start in range(0, len(images), BATCH)])


def parent_of(twin: Twin) -> ModuleTarget | None:
    """The network of the zoo that the twin's card says it was compressed from; None where it says none, or another one than the zoo's."""
    recorded = (twin.card.get("method") or {}).get("parent") or {}
    if recorded.get("name") not in cards():
        return None
    try:
        parent = load_twin(recorded["name"])
    except UsageError:
        return None
    alike = (parent.sha256, parent.input_shape, parent.classes) == (recorded.get("sha256"), twin.input_shape, twin.classes)
    return ModuleTarget(parent.module, PARENT) if alike else None
