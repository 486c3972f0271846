"""A Python function as an engine: asked in this process, through the same session and checks as a program at the end of pipes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.host.channel import Channel, Exit
from devices.host.session import EngineId, EngineSession
from devices.worker.spec import BATCH
from devices.worker.wire import SilentError

Function = Callable[[NDArray[np.uint8]], Any]  # uint8 (n, h, w, c) -> logits (n, classes), or labels (n,); an array or a tensor
Shape = tuple[int, int, int]  # height, width, channels


def function_session(name: str, function: Function, shape: Shape, classes: int, batch: int = BATCH) -> EngineSession:
    """A session with a function; `classes` is the number of classes where it names labels only."""
    return EngineSession(EngineId(name), lambda: _InProcess(name, function, shape, classes), batch)


class _InProcess(Channel):
    """Speaks protocol 1 (docs/engines-of-your-own.md) without a program behind it."""

    def __init__(self, name: str, function: Function, shape: Shape, classes: int) -> None:
        self.remote = False
        self._function, self._shape = function, shape
        self._answer = bytearray()
        try:
            sample = as_array(function(np.zeros((1, *shape), np.uint8)))
            self._labels = sample.ndim == 1 and sample.dtype.kind in "iu"
            self._classes = classes if self._labels or sample.ndim != 2 else sample.shape[1]
            hello = {"protocol": 1, "name": name, "version": "Python function", "shape": list(shape), "classes": self._classes}
            self._put({**hello, "output": "labels" if self._labels else "logits"})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a function of somebody else raises is that engine's result
            self._put({"status": "crashed", "error": f"{type(error).__name__}: {error}"})

    def send(self, raw: bytes, limit_s: float) -> None:
        """Take a request, and answer it at once."""
        line, _, rest = raw.partition(b"\n")
        request = json.loads(line)
        if request["op"] != "ask":
            return
        images = np.frombuffer(rest, np.uint8).reshape(request["n"], *self._shape)
        try:
            rows = as_array(self._function(images))
            self._check(rows, len(images))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
            self._put({"status": "crashed", "error": f"{type(error).__name__}: {error}"})
            return
        self._put({"n": len(rows)})
        self._answer += rows.astype("<i4" if self._labels else "<f4").tobytes()

    def _check(self, rows: NDArray[Any], n: int) -> None:
        expected, kinds = ((n,), "iu") if self._labels else ((n, self._classes), "iuf")
        if rows.shape != expected:
            raise ValueError(f"the function returns {rows.shape} for {n} images; expected {expected}")
        if rows.dtype.kind not in kinds:
            wanted = "whole numbers, as for its first image" if self._labels else "real numbers"
            raise ValueError(f"the function returns {rows.dtype} for {n} images; expected {wanted}")

    def _put(self, message: dict[str, Any]) -> None:
        self._answer += json.dumps(message).encode() + b"\n"

    def line(self, limit_s: float) -> bytes | None:
        """The next line of the answer."""
        line, end, rest = bytes(self._answer).partition(b"\n")
        if not end:
            return None
        self._answer = bytearray(rest)
        return line

    def read(self, size: int, limit_s: float) -> bytes:
        """`size` bytes of the answer. Raises SilentError: there are not so many."""
        if len(self._answer) < size:
            raise SilentError(f"{len(self._answer)} of {size} bytes")
        found, self._answer = bytes(self._answer[:size]), self._answer[size:]
        return found

    @property
    def pending(self) -> bool:
        """Whether something of an answer was not read."""
        return bool(self._answer)

    def end(self, wait_s: float = 0.0) -> Exit:
        """Nothing runs that would have to end."""
        return Exit(0, hung=False, stderr=())


def as_array(answer: Any) -> NDArray[Any]:
    """What a function returned, as an array: a tensor on any device too."""
    return np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer)
