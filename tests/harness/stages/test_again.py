"""An engine that is opened once more and says other things of itself than at first: its result, whatever it says."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from quick_engines import silent

from devices.host.session import EngineError
from devices.host.station import own_engine
from harness.stages.again import _fresh, _moved

# Images of 2x2x1 and 3 classes; every answer is 0. Opened again, it says what its second argument does.
ENGINE = """
import json, os, sys
hello = {"protocol": 1, "name": "mine", "version": "1", "shape": [2, 2, 1], "classes": 3, "output": "logits"}
if os.path.exists(sys.argv[1]):
    hello |= json.loads(sys.argv[2])
open(sys.argv[1], "w").close()
out = sys.stdout.buffer
out.write(json.dumps(hello).encode() + b"\\n"); out.flush()
while (line := sys.stdin.buffer.readline()) and (request := json.loads(line))["op"] != "close":
    n, (height, width, channels) = request["n"], hello["shape"]
    sys.stdin.buffer.read(n * height * width * channels)
    numbers = n * (hello["classes"] if hello["output"] == "logits" else 1)
    out.write(json.dumps({"n": n}).encode() + b"\\n" + bytes(4 * numbers)); out.flush()
"""
BEFORE = "before it said images of 2x2x1 and answers logits of 3 classes"


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ('{"classes": 4}', "images of 2x2x1 and answers logits of 4 classes"),
        ('{"classes": 2}', "images of 2x2x1 and answers logits of 2 classes"),
        ('{"shape": [2, 1, 2]}', "images of 2x1x2 and answers logits of 3 classes"),
        ('{"output": "labels"}', "images of 2x2x1 and answers labels of 3 classes"),
    ],
)
def test_an_engine_that_is_another_one_when_it_is_opened_anew_is_a_result(other: str, says: str, tmp_path: Path) -> None:
    program = tmp_path / "engine.py"
    program.write_text(ENGINE)
    with own_engine("mine", [sys.executable, str(program), str(tmp_path / "was-opened"), other], silent) as session:
        session.logits(np.zeros((2, 2, 2, 1), np.uint8))
        with pytest.raises(EngineError) as caught:
            _fresh(session, np.zeros((3, 2, 2, 1), np.uint8), np.zeros((5, 2, 2, 1), np.uint8), (1,))
    assert (caught.value.status, str(caught.value)) == ("crashed", f"opened again, it says that it takes {says}; {BEFORE}")


def test_a_program_that_can_be_started_once_alone_is_a_result(tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text(ENGINE)
    program = tmp_path / "engine"
    program.write_text(f"#!/bin/sh\nrm {program}\nexec {sys.executable} {tmp_path / 'engine.py'} {tmp_path / 'was-opened'} {{}}\n")
    program.chmod(0o755)
    with own_engine("mine", [str(program)], silent) as session:
        session.logits(np.zeros((2, 2, 2, 1), np.uint8))
        with pytest.raises(EngineError, match=f"cannot run {program}: No such file") as caught:
            _fresh(session, np.zeros((3, 2, 2, 1), np.uint8), np.zeros((5, 2, 2, 1), np.uint8), (1,))
    assert caught.value.status == "refused"


def test_images_in_another_place_are_none_of_those_that_were_shown() -> None:
    for shape in ((40, 32, 32, 3), (40, 5, 7, 1), (40, 224, 16, 3)):
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        moved = _moved(images, 0)
        assert moved.shape == images.shape and moved.dtype == np.uint8
        assert not {image.tobytes() for image in moved} & {image.tobytes() for image in images}
        assert (np.sort(moved.reshape(40, -1)) == np.sort(images.reshape(40, -1))).all()
