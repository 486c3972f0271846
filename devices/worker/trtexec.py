"""A cross-check on an engine's latency: NVIDIA's own `trtexec`, where the device has it (JetPack: /usr/src/tensorrt/bin).

TensorRT 11 turned trtexec's defaults round: CUDA graph and spin wait are on, copies are off, where 10 has the opposite. Every switch is
therefore set, by the name that this very trtexec offers in its help; one that it does not offer is already as wanted.
Its raw times are read (--exportTimes), not its summary. Standard library and numpy, Python >= 3.10.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

JETPACK = Path("/usr/src/tensorrt/bin/trtexec")
LIMIT_S = 120.0
SECONDS = 2

# What the worker's own measurement does: copies within the call, no CUDA graph, waiting without sleep, one stream.
SWITCHES = ("--includeDataTransfers", "--noCudaGraph", "--useSpinWait", "--infStreams=1")
_PARTS = {"host_to_device": ("h2dMs", "inMs"), "compute": ("computeMs",), "device_to_host": ("d2hMs", "outMs")}  # TensorRT 8.2 renamed


def find_trtexec() -> Path | None:
    """The program, on the PATH or where JetPack puts it."""
    found = shutil.which("trtexec")
    return Path(found) if found else JETPACK if JETPACK.is_file() else None


def command(program: Path, plan: Path, tensor: str, shape: tuple[int, ...], times: Path, offered: str) -> list[str]:
    """The words to run an engine.

    Args:
        program: trtexec.
        plan: the engine, one of ours.
        tensor, shape: its input and the shape to run it at, the batch first.
        times: file for the raw times.
        offered: what `trtexec --help` printed.
    """
    switches = [switch for switch in SWITCHES if switch.partition("=")[0] in offered]
    sizes = "x".join(map(str, shape))
    return [
        str(program),
        f"--loadEngine={plan}",
        f"--shapes={tensor}:{sizes}",
        "--warmUp=500",
        f"--duration={SECONDS}",
        "--iterations=10",
        "--avgRuns=1",
        f"--exportTimes={times}",
        *switches,
    ]


def read_times(text: str) -> dict[str, NDArray[np.int64]]:
    """Part of a call -> nanoseconds of every call, from the JSON of --exportTimes.

    Raises:
        ValueError: it is something else.
    """
    try:
        rows = json.loads(text)
        found = {part: [next(row[name] for name in names if name in row) for row in rows] for part, names in _PARTS.items()}
        if not rows:
            raise ValueError("no call was timed")
        return {part: np.round(np.array(values, np.float64) * 1e6).astype(np.int64) for part, values in found.items()}
    except (TypeError, KeyError, StopIteration, ValueError) as error:
        raise ValueError(f"these are no times of trtexec: {error or 'a part of the call is missing'}") from error


def cross_check(plan: Path, tensor: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """What trtexec measures of an engine: `batch`, `command`, and `parts_ns`; or `absent`, the reason why there is nothing.

    A failure here is no failure of the engine, which has run before.
    """
    program = find_trtexec()
    if program is None:
        return {"absent": f"trtexec is not on the PATH, nor at {JETPACK}"}
    with tempfile.TemporaryDirectory(prefix="edge-harness-trtexec-") as folder:
        times = Path(folder) / "times.json"
        try:
            offered = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=LIMIT_S, check=False).stdout
            words = command(program, plan, tensor, shape, times, offered)
            done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            if done.returncode != 0:
                return {"absent": f"trtexec ended with code {done.returncode}: {' | '.join(done.stdout.splitlines()[-2:])}"}
            parts = read_times(times.read_text(encoding="utf-8"))
        except (OSError, subprocess.TimeoutExpired, ValueError) as error:
            return {"absent": f"trtexec gave nothing to read: {error}"}
    return {"batch": shape[0], "command": words[3:], "parts_ns": {part: values.tolist() for part, values in parts.items()}}
