"""A linear model whose answers are known, engines of it that open in a moment, and a look at which of their processes are left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from pydantic import BaseModel, ConfigDict

from devices.host.channel import Exit
from devices.host.profile import DeviceProfile, load_profile
from devices.host.session import EngineId, EngineSession
from devices.host.station import Station, Wanted
from devices.host.transports import Transport
from devices.worker.spec import RuntimeOptions
from devices.worker.wire import ClosedError

SHAPE = (3, 4, 4)
CLASSES = 5
ENGINE = EngineId("linear")


class Said(BaseModel):
    """Any answer, as it came."""

    model_config = ConfigDict(extra="allow")

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)  # type: ignore[misc]


@dataclass(frozen=True)
class Linear:
    """A linear classifier as an ONNX file, and what it must answer."""

    path: Path
    weight: np.ndarray
    bias: np.ndarray

    def logits(self, images: np.ndarray) -> np.ndarray:
        x = images.transpose(0, 3, 1, 2).reshape(len(images), -1).astype(np.float64) / 255
        return x @ self.weight + self.bias


def save_linear(
    path: Path, weight: np.ndarray, bias: np.ndarray, *, tail: tuple[onnx.NodeProto, ...] = (), output: list[Any] | None = None
) -> None:
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["gemm" if tail else "logits"]),
    ]
    graph = helper.make_graph(
        [*nodes, *tail],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, output or ["n", CLASSES])],
        [numpy_helper.from_array(weight.astype(np.float32), "weight"), numpy_helper.from_array(bias.astype(np.float32), "bias")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example.foreign", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def make_linear(folder: Path, seed: int = 1) -> Linear:
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(48, CLASSES)).astype(np.float32), rng.normal(size=CLASSES).astype(np.float32)
    path = folder / f"linear-{seed}.onnx"
    save_linear(path, weight, bias)
    return Linear(path, weight, bias)


def some_images(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)


def wanted(artefact: Path, **changes: Any) -> Wanted:
    """An engine of a model file with one thread, not timed, so that nothing rests before it loads."""
    settings: dict[str, Any] = {
        "flavour": "onnx-fp32",
        "runtime": "onnxruntime",
        "artefact": artefact,
        "options": RuntimeOptions("input", "logits", threads=1),
        "shape": (4, 4, 3),
        "timed": False,
    }
    return Wanted(**{**settings, **changes})


def silent(step: str, done: int, total: int) -> None:
    pass


@contextmanager
def opened(
    folder: Path, engines: Mapping[EngineId, Wanted], profile: DeviceProfile | None = None, seed: int = 0
) -> Iterator[dict[EngineId, EngineSession]]:
    """Sessions with all of these engines at once, by default on this machine."""
    with Station(profile or load_profile("host"), folder, seed) as station:
        folder.mkdir(parents=True, exist_ok=True)
        station.send(engines, silent)
        sessions = {engine: station.session(engine, silent) for engine in engines}
        try:
            for session in sessions.values():
                session.__enter__()
            yield sessions
        finally:
            for session in sessions.values():
                session.close()


def run(transport: Transport, there: str, code: str) -> tuple[Exit, list[str]]:
    """Run some Python on a device to its end: how it ended, and its lines."""
    channel, lines = transport.open([*transport.python, "-c", code], there), []
    with suppress(ClosedError):
        while (line := channel.line(60.0)) is not None:
            lines.append(line.decode())
    return channel.end(), lines


def processes(place: Path) -> list[int]:
    """Running processes that work in a folder or below it, or were started with a path there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            there = (process / "cwd").readlink().is_relative_to(place.resolve()) or str(place).encode() in (
                process / "cmdline"
            ).read_bytes()
            dead = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if there and not dead and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def left(place: Path, limit_s: float = 10.0) -> list[int]:
    """The processes there that are still left after some time to end."""
    stop = time.monotonic() + limit_s
    while (found := processes(place)) and time.monotonic() < stop:
        time.sleep(0.05)
    return found
