"""What a runtime is told, for any batch sizes that a run times."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from devices.worker.spec import BATCH
from harness.settings import Settings
from harness.stages.engines import runtime_options


@pytest.mark.parametrize(
    ("timed", "expected"),
    [((), (1, BATCH, BATCH)), ((4,), (1, 4, BATCH)), ((1, 8, 64), (1, 8, 64)), ((64, 1), (1, 64, 64))],
)
def test_a_runtime_that_builds_is_told_smallest_usual_and_largest_batch(timed: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    """Nothing may be timed at all: then it builds for the batch that everything is classified in."""
    artefact: Any = SimpleNamespace(input_name="input", output_name="logits", options={}, session_config={})
    assert runtime_options(artefact, Settings(model="resnet8", batches=timed), 1, False).batches == expected
