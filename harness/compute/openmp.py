"""PyTorch's threads, told to sleep soon while they wait for one another.

By default they spin. That gains where nothing else runs; where something does, each spins away the time that the other needs to finish: on
two busy cores gradients took 3 to 30 times as long. Threads that spin for some microseconds, as long as it takes from one operation to the
next, and then sleep lose neither (`tests/benchmarks/bench_waiting.py`).

Source: the OpenMP specification, OMP_WAIT_POLICY; libgomp's manual, GOMP_SPINCOUNT, which counts where both are given.
"""

from __future__ import annotations

import os

from devices.host.variables import set_here

SPINS = 1000
SETTINGS = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": str(SPINS)}


def sleep_while_waiting() -> None:
    """From now on, unless the user has chosen; before PyTorch is imported, which reads it once. Engines are not told."""
    chosen = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    if chosen in ({}, SETTINGS):  # those of a parent are its own, and no choice of the user's
        set_here(SETTINGS)
