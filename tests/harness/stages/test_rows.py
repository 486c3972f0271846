"""The models between: what the file computes node by node, and what a network of the zoo was compressed from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort

from export.flavours import export_flavour
from export.session import to_input
from harness.data.load import load_data
from harness.models.load import load_twin
from harness.sources import PARENT
from harness.stages.rows import File, parent_of


def test_the_file_is_computed_without_any_optimisation(tmp_path: Path) -> None:
    twin = load_twin("resnet8")
    test, calibration = load_data("cifar10-sample", input_shape=twin.input_shape, classes=10, seed=0)
    artefact = export_flavour(
        twin.module, "ort-int8", input_shape=twin.input_shape, source_sha256=twin.sha256, folder=tmp_path,
        calibration_images=calibration.images[:32], calibration_method="minmax",
    )  # fmt: skip
    row, images = File("ort-int8", artefact), test.images[:40]
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(artefact.path), options, providers=["CPUExecutionProvider"])
    expected = session.run([artefact.output_name], {artefact.input_name: to_input(images)})[0]
    np.testing.assert_allclose(row.logits(images), expected, rtol=1e-4, atol=1e-4)
    assert (row.id, row.sha256) == ("simulated-ort-int8", artefact.sha256)
    assert row.logits(images[:0]).shape == (0, 10)


def test_the_parent_is_the_one_of_the_card_and_no_other() -> None:
    twin = load_twin("resnet18x16-at-nm24")
    parent, expected = parent_of(twin), load_twin("resnet18x16-at")
    assert parent is not None and parent.id == PARENT
    assert all(bool((a == b).all()) for a, b in zip(parent.module.parameters(), expected.module.parameters(), strict=True))
    assert parent_of(expected) is None
    method = twin.card["method"]
    for told in ({"name": "resnet18x16-at", "sha256": "0" * 64}, {"name": "no-such-network", "sha256": expected.sha256}, None):
        assert parent_of(replace(twin, card={**twin.card, "method": {**method, "parent": told}})) is None
    assert parent_of(replace(twin, card={})) is None
