"""An engine in 21 lines (protocol 1): a linear classifier with fixed weights on 32x32 images."""

import json
import sys

import numpy as np

SHAPE, CLASSES = (32, 32, 3), 10
WEIGHT = np.random.default_rng(0).normal(size=(32 * 32 * 3, CLASSES)).astype("<f4")


def say(**message):
    """One line of JSON to the harness."""
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")


say(protocol=1, name="linear", version="1.0", shape=SHAPE, classes=CLASSES, output="logits")
sys.stdout.buffer.flush()
while (line := sys.stdin.buffer.readline()) and (request := json.loads(line))["op"] != "close":
    pixels = np.frombuffer(sys.stdin.buffer.read(request["n"] * len(WEIGHT)), np.uint8).reshape(request["n"], -1)
    say(n=request["n"])
    sys.stdout.buffer.write((pixels.astype("<f4") / 255 @ WEIGHT).astype("<f4").tobytes())
    sys.stdout.buffer.flush()
