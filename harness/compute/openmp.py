"""PyTorch's threads, told to sleep while they wait for one another.

By default they spin. That gains up to a tenth where nothing else runs; where something does, each spins away the time that the other
needs to finish: on two busy cores gradients took 3 to 4 times as long (`tests/benchmarks/bench_waiting.py`).

Source: the OpenMP specification, OMP_WAIT_POLICY; libgomp's manual, section 4.
"""

from __future__ import annotations

import os


def sleep_while_waiting() -> None:
    """From now on, unless the user has chosen; before PyTorch is imported, which reads it once. onnxruntime has threads of its own."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
