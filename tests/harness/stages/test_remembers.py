"""Whether a user's own engine remembers answers is told from the time of its requests, whichever comes after which."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from quick_engines import silent

from devices.host.rounds import Timing
from devices.host.station import own_engine
from harness.limits import LIMITS
from harness.stages.self_checks import _equal, _remembered_while_timed, _remembers

# Images of 2x2x1 and 3 classes. A request takes 2 ms longer where the condition holds: `turn` counts requests, `known` says that the images
# were shown before, `alike` how many requests in turn were so.
ENGINE = """
import json, sys, time
say = lambda message: (sys.stdout.buffer.write(message), sys.stdout.buffer.flush())
say(json.dumps({"protocol": 1, "name": "m", "version": "1", "shape": [2, 2, 1], "classes": 3, "output": "logits"}).encode() + b"\\n")
turn, alike, seen = 0, 0, set()
while (line := sys.stdin.buffer.readline()) and (request := json.loads(line))["op"] != "close":
    image = sys.stdin.buffer.read(4 * request["n"])
    known = image in seen
    seen.add(image)
    alike = (alike + 1) * known
    time.sleep(0.002 * (CONDITION))
    turn += 1
    say(json.dumps({"n": request["n"]}).encode() + b"\\n" + bytes(12 * request["n"]))
"""


@pytest.mark.parametrize(
    ("condition", "remembers"),
    [("turn % 2", False), ("not turn % 2", False), ("not known", True)],
    ids=["every second request is slow", "every second one is quick", "what is new is slow"],
)
def test_only_an_engine_that_remembers_is_quicker_where_it_is_asked_again(condition: str, remembers: bool, tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text(ENGINE.replace("CONDITION", condition))
    pool = np.random.default_rng(0).integers(0, 256, (9, 2, 2, 1), np.uint8)
    with own_engine("mine", [sys.executable, str(tmp_path / "engine.py")], silent) as session:
        session.logits(pool[:1])
        session.logits(pool[:1])
        assert (_remembers(session, pool) < LIMITS.repeated_speed) is remembers


@pytest.mark.parametrize(
    ("condition", "remembers"),
    [("True", False), ("request['n'] == 1 or not known", True), ("alike < 20", True)],
    ids=["sound", "several images alone are remembered", "nothing is, where something new was among the last requests"],
)
def test_an_engine_that_remembers_as_it_is_timed_alone_is_seen(condition: str, remembers: bool, tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text(ENGINE.replace("CONDITION", condition))
    pool = np.random.default_rng(0).integers(0, 256, (18, 2, 2, 1), np.uint8)
    with own_engine("mine", [sys.executable, str(tmp_path / "engine.py")], silent) as session:
        session.set_pool(pool)
        session.measure(3, 30)
        ns, none = session.measure(3, 20).ns, np.zeros(0, np.int64)
        timing = Timing(ns, np.zeros(20, np.int16), none, True, {}, none)
        assert _remembers(session, pool) >= LIMITS.repeated_speed
        assert (_remembered_while_timed(session, pool, 3, timing) < LIMITS.repeated_speed) is remembers


def test_other_answers_to_timed_calls_do_not_hide_behind_what_tells_nothing() -> None:
    answers = np.random.default_rng(0).normal(size=(8, 10)).astype(np.float32)
    shut_out = np.where(np.arange(10) == 3, -1e9, 0)
    for offset in (0, 1000, shut_out):
        these = np.float32(answers + offset)
        assert _equal(these + np.float32(0.04), these, np.arange(8), 0.05)
        assert not _equal(these[::-1], these, np.arange(8), 0.05)
