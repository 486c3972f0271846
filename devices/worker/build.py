"""A TensorRT engine built in a process of its own: the builder takes several times the memory of the engine, none of which is the engine's.

What was built is kept, for the same file, library, options, board, GPU and number of the build, so that a second run does not build again;
and so are the times that the builder measured of each kernel, for other files on the same board. Builds of different numbers share
neither: their spread is what they are for.

Numpy at most, Python 3.10 on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from devices.worker.caller import end_with_caller
from devices.worker.errors import BuildError
from devices.worker.files import sha256_file
from devices.worker.kept import MOST_BYTES, surplus
from devices.worker.plan import TensorrtPlan, verify_plan
from devices.worker.tensorrt import BuildOptions, Watch, build_plan

KEPT = 32  # plans, the longest unused go first
PLAN, KERNELS = "engine.plan", "kernels.cache"

Build = Callable[[Path, Path, BuildOptions], None]

_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from devices.worker.build import main; main(*sys.argv[2:])"


def build_apart(onnx: Path, out: Path, options: BuildOptions, watch: Watch) -> None:
    """`devices.worker.tensorrt.build_plan` in a process of its own, which ends with this one. Verify what lies at `out` then.

    `watch` is told of its progress.

    Raises:
        BuildError: as `build_plan`, in its words; or that process was ended.
    """
    told = json.dumps({**asdict(options), "timing_cache": options.timing_cache and str(options.timing_cache)})
    command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), str(onnx), str(out), told]
    refusal = None
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace") as child:
        assert child.stdout is not None  # noqa: S101 - it is a pipe
        for line in child.stdout:
            words = json.loads(line) if line.endswith("\n") else None  # the last one may be cut off by its end
            if isinstance(words, str):
                refusal = words
            elif words is not None:
                watch(*words)
        code = child.wait()
    if refusal is not None:
        raise BuildError(refusal)
    if code < 0:
        raise BuildError(f"the builder was ended by signal {-code}; the system does that where memory runs out: `dmesg` says so")
    if code:
        raise BuildError(f"the builder ended with code {code}; its last words are in the log")


def main(onnx: str, out: str, told: str) -> None:
    """The other process: builds. A line of JSON on standard output is a step of it, or, a string, why it could not."""
    answer = os.dup(1)

    def say(words: object) -> None:
        os.write(answer, f"{json.dumps(words)}\n".encode())

    os.dup2(2, 1)  # what a library prints is no answer
    end_with_caller(0)
    raw = json.loads(told)
    cache = Path(raw["timing_cache"]) if raw["timing_cache"] else None
    options = BuildOptions(**{**raw, "batches": tuple(raw["batches"]), "timing_cache": cache})
    try:
        build_plan(Path(onnx), Path(out), options, watch=lambda *step: say(step))
    except BuildError as error:
        say(str(error))


def kept_plan(onnx: Path, options: BuildOptions, identity: dict[str, str], number: int, build: Build) -> tuple[TensorrtPlan, bool]:
    """The plan of this very file, library, options, board and number of the build; and whether `build` had to make it now.

    Args:
        onnx: the file.
        options: without a timing cache.
        identity: library, version, GPU and board: plans and kernel times of one are not those of another.
        number: of the build, from 0.
        build: makes it, as `build_apart`.

    Raises:
        BuildError: it cannot be built, or written.
    """
    shelf = _shelf(onnx.parent)
    facts = {"onnx": sha256_file(onnx), "options": {**asdict(options), "timing_cache": None}, "number": number, **identity}
    path = shelf / f"plan-{_name(facts)}" / PLAN
    with contextlib.suppress(BuildError):
        plan = verify_plan(path)
        os.utime(path.parent)
        return plan, False
    cache = shelf / f"kernels-{_name({**identity, 'number': number})}" / KERNELS
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    build(onnx, path, replace(options, timing_cache=cache))
    _prune(shelf, path.parent)
    return verify_plan(path), True


def _shelf(beside: Path) -> Path:
    """`$XDG_CACHE_HOME/edge-harness/engines`, by default below `~/.cache`; `beside` where this user cannot write there."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-harness" / "engines"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return beside
    return folder if os.access(folder, os.W_OK) else beside


def _prune(shelf: Path, newest: Path) -> None:
    for folder in surplus(shelf.glob("plan-*"), MOST_BYTES, {newest.name}, KEPT):
        shutil.rmtree(folder, ignore_errors=True)


def _name(facts: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
