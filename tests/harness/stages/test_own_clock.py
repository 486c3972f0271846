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
from harness.stages.self_checks import _own_clock, _own_work

# A request takes ASK seconds, a timed call CALL, of which it tells FACTOR times as many nanoseconds; `batch` is that of the call.
ENGINE = """
import json, sys, time
hello = {"protocol": 1, "name": "m", "version": "1", "shape": [2, 2, 1], "classes": 3, "output": "logits", "measure": True}
say = lambda message: print(json.dumps(message), flush=True)
say(hello)
while (line := sys.stdin.buffer.readline()) and (request := json.loads(line))["op"] != "close":
    ns = []
    if request["op"] == "ask":
        batch = request["n"]
        sys.stdin.buffer.read(4 * batch)
        time.sleep(ASK)
        sys.stdout.buffer.write(json.dumps({"n": request["n"]}).encode() + b"\\n" + bytes(12 * request["n"]))
        sys.stdout.buffer.flush()
        continue
    batch = request["batch"]
    for _ in range(request["repeats"]):
        start = time.perf_counter_ns()
        time.sleep(CALL)
        ns.append(int((time.perf_counter_ns() - start) * FACTOR))
    say({"ns": ns})
"""


@pytest.mark.parametrize(
    ("factor", "sound"),
    [("1", True), ("1000", False), ("1e-3", False), ("(0.5 if batch == 8 else 1)", False), ("(2 if batch == 8 else 1)", False)],
    ids=["sound", "picoseconds", "microseconds", "half of it at one batch size", "twice as much at one"],
)
def test_a_clock_that_counts_otherwise_at_any_batch_size_is_seen(factor: str, sound: bool, tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text(ENGINE.replace("FACTOR", factor).replace("CALL", "0.002").replace("ASK", "0"))
    with own_engine("mine", [sys.executable, str(tmp_path / "engine.py")], silent) as session:
        ns, none = session.measure(1, 3).ns, np.zeros(0, np.int64)
        share = _own_clock(session, dict.fromkeys((1, 8), Timing(ns, np.zeros(3, np.int64), none, True, {}, none)))
    assert own_clock("mine", share).passed is sound


@pytest.mark.parametrize(
    ("ask", "call", "sound"),
    [
        ("0.002 * batch", "0.002 * batch", True),
        ("0.002 * max(batch, 8)", "0.002 * max(batch, 8)", True),
        ("0.002 * batch", "0.0005 * batch", False),
        ("0.002 * batch", "0.002 * batch * (batch > 1)", False),
        ("0.002 * batch", "0.002 * batch * (batch > 8)", False),
    ],
    ids=["sound", "filled up to eight", "a quarter of each image", "nothing of a single image", "nothing of up to eight"],
)
def test_an_engine_that_does_less_where_it_only_times_itself_is_seen(ask: str, call: str, sound: bool, tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text(ENGINE.replace("FACTOR", "1").replace("CALL", call).replace("ASK", ask))
    pool = np.random.default_rng(0).integers(0, 256, (20, 2, 2, 1), np.uint8)
    with own_engine("mine", [sys.executable, str(tmp_path / "engine.py")], silent) as session:
        session.logits(pool)
        assert own_clock("mine", _own_work(session, pool)).passed is sound
