"""The clock of a user's own engine against the one here: it may count neither less nor more than what passes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from quick_engines import silent

from devices.host.rounds import Timing
from devices.host.station import own_engine
from harness.audit.gates import own_clock
from harness.stages.self_checks import _own_clock

# Each call takes 2 ms, of which the engine tells FACTOR times as many nanoseconds; `batch` is that of the call.
ENGINE = """
import json, sys, time
hello = {"protocol": 1, "name": "m", "version": "1", "shape": [2, 2, 1], "classes": 3, "output": "logits", "measure": True}
say = lambda message: print(json.dumps(message), flush=True)
say(hello)
while (line := sys.stdin.readline()) and (request := json.loads(line))["op"] != "close":
    ns = []
    batch = request["batch"]
    for _ in range(request["repeats"]):
        start = time.perf_counter_ns()
        time.sleep(0.002)
        ns.append(int((time.perf_counter_ns() - start) * FACTOR))
    say({"ns": ns})
"""


@pytest.mark.parametrize(
    ("factor", "sound"),
    [("1", True), ("1000", False), ("1e-3", False), ("(0.5 if batch == 8 else 1)", False), ("(2 if batch == 8 else 1)", False)],
    ids=["sound", "picoseconds", "microseconds", "half of it at one batch size", "twice as much at one"],
)
def test_a_clock_that_counts_otherwise_at_any_batch_size_is_seen(factor: str, sound: bool, tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text(ENGINE.replace("FACTOR", factor))
    with own_engine("mine", [sys.executable, str(tmp_path / "engine.py")], silent) as session:
        ns, none = session.measure(1, 3).ns, np.zeros(0, np.int64)
        share = _own_clock(session, dict.fromkeys((1, 8), Timing(ns, np.zeros(3, np.int64), none, True, {}, none)))
    assert own_clock("mine", share).passed is sound
