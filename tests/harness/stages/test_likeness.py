"""Which answers an engine's are held against, where its CPU may saturate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from export.session import EXACT_INTEGERS
from harness.stages import likeness

AVX2, VNNI = ["avx", "avx2"], ["avx", "avx2", "avx512_vnni"]
FOUND = np.eye(4, 3, dtype=np.float32)


@pytest.mark.parametrize(
    ("there", "here", "config", "transport", "asked", "passed"),
    [
        (VNNI, VNNI, {}, "local", True, False),  # exact integers on both: logits decide
        (VNNI, AVX2, {}, "ssh", True, False),
        (AVX2, AVX2, {}, "local", False, False),  # the kernels of this very CPU
        (AVX2, AVX2, {}, "ssh", False, True),  # another CPU that saturates: labels decide
        (AVX2, VNNI, {}, "ssh", None, None),
        (AVX2, VNNI, EXACT_INTEGERS, "ssh", True, False),  # told to be exact: it must be, on any CPU
    ],
)
def test_a_file_is_held_against_kernels_that_saturate_alike(monkeypatch, there, here, config, transport, asked, passed):
    exact: list[bool] = []

    def simulated(artefact: Any, images: Any, *, exact: bool = True, calls: list[bool] = exact) -> Any:
        calls.append(exact)
        return FOUND + np.float32(0.1)  # other logits, the same labels

    monkeypatch.setattr(likeness, "simulated_logits", simulated)
    monkeypatch.setattr(likeness, "describe_machine", lambda: {"isa_flags": here})
    artefact = SimpleNamespace(runtime="onnxruntime", precision="int8", session_config=config)
    engine = SimpleNamespace(name="e", exported=SimpleNamespace(artefact=artefact))
    subject = SimpleNamespace(profile=SimpleNamespace(transport=transport), test=SimpleNamespace(images=np.zeros((4, 1, 1, 1), np.uint8)))
    measured = SimpleNamespace(engine=engine, facts=SimpleNamespace(environment={"isa_flags": there}))
    gate = likeness._file_fidelity(subject, measured, FOUND)  # type: ignore[arg-type]
    assert (exact, gate.passed) == ([] if asked is None else [asked], passed)
