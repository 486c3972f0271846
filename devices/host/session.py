"""An engine held open: asked, measured, asked again, until it is closed.

The same for this machine, an emulated CPU, a board, and the user's own engine (`exec:`), since all of them speak protocol 1 over a pair of
pipes (see `devices.worker.serve`, docs/engines-of-your-own.md).

Nothing that the other end says is believed unchecked: a wrong length, NaN, silence, garbage, endless output and death end as an
`EngineError`, never as a hang.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from devices.host.channel import END_S, Channel
from devices.host.errors import DeviceError
from devices.host.messages import MOST_NS, Fault, Hello, Loaded, Now, Rows, TimedCalls, Working
from devices.worker.plain import cleaned, printable, read_json
from devices.worker.spec import FRESH
from devices.worker.wire import ClosedError, NonsenseError, SilentError

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]
Progress = Callable[[str, int, int], None]
Status = Literal["crashed", "hung", "nan", "refused", "built"]

ANSWER_S = 120.0  # that an engine may take to answer one batch
LOAD_S = 1800.0  # a TensorRT engine is built meanwhile, and says nothing
MOST_BYTES = 1 << 30  # of one file of an answer
MOST_FILES = 64  # of one answer
UNASKED_S = 0.2  # that more bytes than an answer holds may take to come
LIKELY = 1e6  # logits are at most that, and at least as far above 0: then another order of bytes explains such as are not finite
ENDED_S = 0.1  # that a silent program has to end by itself
MOST_STEPS = 100_000  # lines of progress before one answer

_FILE = re.compile(r"\w[\w.+-]*", re.ASCII)  # never a path, never hidden: it is written on this machine

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class EngineError(Exception):
    """What an engine does wrong: it is that engine's result, not a fault of the device or of this program.

    Attributes:
        status: `crashed`, `hung`, `nan`, `refused`, or `built` (ahead of time, with nothing here to run it on).
    """

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, order=True)
class EngineId:
    """Which engine: a flavour, and which of its builds, from 0. In words the second is `FLAVOUR#2`."""

    flavour: str
    build: int = 0

    def __str__(self) -> str:
        return self.flavour if self.build == 0 else f"{self.flavour}#{self.build + 1}"


@dataclass(frozen=True, eq=False)
class Calls:
    """Timed calls in order.

    Attributes:
        ns: int64 (n,), how long each took.
        start_ns: int64 (n,), when each began, on the device's clock; empty where that is not known.
        parts: part of a call (`host_to_device`, `compute`, `device_to_host`) -> int64 (n,); empty for an engine without memory of its own.
    """

    ns: NDArray[np.int64]
    start_ns: NDArray[np.int64]
    parts: dict[str, NDArray[np.int64]]


@dataclass
class Cost:
    """What was asked of a session so far: requests, images, and the seconds that it took to answer."""

    requests: int = 0
    images: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Limits:
    """Seconds that an engine may be silent: while it loads, and while it answers one request."""

    load_s: float = LOAD_S
    answer_s: float = ANSWER_S


@dataclass
class EngineSession:
    """One engine, open from `__enter__` to `__exit__`. A closed or failed session answers nothing more.

    A connection that drops is opened again, and the request repeated; where another plan than before runs then, `replaced` says so and
    the session ends: its answers must not be mixed.

    Attributes:
        id: which engine.
        open: starts the program at the other end; called again after a lost connection.
        batch: images in one request.
        limits: how long it may be silent.
        progress: called with step, done, total while it loads or works for long.
        cost: what was asked of it.
        own: it is the user's own, which has promised no more than the protocol: what else its first line holds is ignored.
        timed: what it answered to calls that were timed from here: batch size -> first image's place in the pool -> the last logits.
    """

    id: EngineId
    open: Callable[[], Channel]
    batch: int
    limits: Limits = Limits()
    progress: Progress = lambda step, done, total: None
    cost: Cost = field(default_factory=Cost)
    own: bool = False
    timed: dict[int, dict[int, Logits]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._channel: Channel | None = None
        self._hello: Hello | None = None
        self._fault: EngineError | None = None
        self._pool: Images | None = None

    def __enter__(self) -> Self:
        """Load the engine.

        Raises:
            EngineError: it does not load; the session is closed.
            DeviceError: the device cannot be reached.
        """
        try:
            self._connect()
        except EngineError as error:
            self._fault = error
            raise
        except BaseException:
            self._drop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close(wait=kind is None)

    @property
    def is_open(self) -> bool:
        """Whether it was entered and neither closed nor failed since."""
        return self._channel is not None

    @property
    def hello(self) -> Hello:
        """What it said first. Raises ValueError before it was opened."""
        if self._hello is None:
            raise ValueError(f"the session of {self.id} was never opened")
        return self._hello

    @property
    def loaded(self) -> Loaded:
        """Runtime options, plan hash, environment of the engine."""
        return self.hello.loaded

    @property
    def plan_sha256(self) -> str:
        """Of the plan that runs; of a user's own engine that says none, its name and version."""
        hello = self.hello
        return hello.loaded.plan_sha256 or hashlib.sha256(f"{hello.name}/{hello.version}".encode()).hexdigest()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of an image."""
        height, width, channels = self.hello.shape
        return height, width, channels

    def logits(self, images: Images) -> Logits:
        """Logits, float32 (n, classes), of uint8 images (n, h, w, c). Of an engine that names labels only: 1 for the label, 0 elsewhere.

        Raises:
            EngineError: a wrong answer, or none.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != self.shape:
            raise ValueError(f"images are {images.dtype} {images.shape}; expected uint8 (n, {', '.join(map(str, self.shape))})")
        parts = [self._steadily(partial(self._ask, images[i : i + self.batch])) for i in range(0, len(images), self.batch)]
        return np.concatenate(parts) if parts else np.zeros((0, self.hello.classes), np.float32)

    def measure(self, batch: int, repeats: int, *, same: bool = False) -> Calls:
        """Time `repeats` calls of `batch` images, by the engine's own clock where it has one, else around each request.

        Args:
            batch: images in each call. They come from the pool (see `set_pool`).
            repeats: calls.
            same: the same input at every call, to see whether answers are remembered.

        Raises:
            EngineError: as `logits`.
        """
        if not self.hello.measure:
            return self._measure_requests(batch, repeats, same)
        calls = self._steadily(lambda: self._request({"op": "measure", "batch": batch, "repeats": repeats, "same": same}, TimedCalls))
        lengths = {len(calls.ns), *(len(part) for part in calls.parts.values()), *([len(calls.start_ns)] if calls.start_ns else [])}
        numbers = [*calls.ns, *calls.start_ns, *(value for part in calls.parts.values() for value in part)]
        if lengths != {repeats} or min(calls.ns) <= 0 or any(not 0 <= value < MOST_NS for value in numbers):
            raise self._wrong(f"timings of {sorted(lengths)} calls; expected {repeats}, each a positive number of nanoseconds")
        arrays = {name: np.array(part, np.int64) for name, part in calls.parts.items()}
        return Calls(np.array(calls.ns, np.int64), np.array(calls.start_ns, np.int64), arrays)

    def check_like(self, first: Hello) -> None:
        """Refuse an engine that takes other images, or answers in another form, than it said when it was first opened.

        Raises:
            EngineError: `crashed`; the session is closed.
        """
        before, now = ((list(hello.shape), hello.classes, hello.output) for hello in (first, self.hello))
        if before != now:
            self._fail("crashed", f"opened again, it says that it takes {self.hello.form}; before it said {first.form}")

    def set_pool(self, images: Images) -> None:
        """The images that timed calls take in turn, uint8 (n, h, w, c)."""
        self._pool = images
        self._steadily(self._send_pool)

    def now(self) -> dict[str, float]:
        """The device's temperatures, clocks and power at this moment, "KIND:NAME" -> number (see `devices.worker.telemetry.source`).

        Empty where no sensor can be read, of an emulated device, and of a user's own engine, which nobody asks for it. Reading may take
        some tens of milliseconds of the device's time, so ask between rounds of timing only, while no engine of that device is timed.

        Raises:
            EngineError: as `logits`.
        """
        return self._steadily(lambda: self._request({"op": "now"}, Now)).now if self.hello.loaded.plan_sha256 else {}

    def call(self, request: dict[str, Any], kind: type[M], limit_s: float | None = None) -> tuple[M, dict[str, bytes]]:
        """Any other operation of `devices.worker.serve`: its answer, and the files behind it by name.

        Raises:
            EngineError: as `logits`.
        """
        return self._steadily(lambda: self._with_files(request, kind, limit_s))

    def close(self, *, wait: bool = True) -> None:
        """End the engine; kill it where it does not end by itself."""
        if self._channel is not None and wait:
            try:
                self._channel.send(b'{"op": "close"}\n', END_S)
            except ClosedError:
                wait = False
        self._drop(wait)

    def _send_pool(self) -> None:
        if self._pool is not None and self.hello.loaded.plan_sha256:  # the harness's own worker keeps it; no other engine was promised to
            self._request({"op": "pool", "n": len(self._pool)}, Rows, self._pool.tobytes())

    def _ask(self, images: Images) -> Logits:
        begin = time.monotonic()
        rows = self._request({"op": "ask", "n": len(images)}, Rows, np.ascontiguousarray(images).tobytes())
        if rows.n != len(images):
            raise self._wrong(f"{rows.n} rows for {len(images)} images")
        classes, labels = self.hello.classes, self.hello.output == "labels"
        raw = self._bytes(4 * len(images) * (1 if labels else classes))
        self.cost.requests += 1
        self.cost.images += len(images)
        self.cost.seconds += time.monotonic() - begin
        if labels:
            return self._one_hot(np.frombuffer(raw, "<i4"))
        answer = np.frombuffer(raw, "<f4").reshape(len(images), classes).astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(answer).all(axis=1))
        if len(bad):
            if self.own:
                self._check_form(raw)
            cause = "an overflow in low precision, or NaN in the weights. Compare with the fp32 flavour."
            if np.isneginf(answer[~np.isfinite(answer)]).all() and np.isfinite(answer).any(axis=1).all():
                cause = (
                    "-inf for some classes alone, as the logarithm of a probability of zero, or for a class that is shut out. Give a "
                    "finite number below all others."
                )
            where = f"the first in place {bad[0]} of its request"
            self._fail("nan", f"{len(bad)} of {len(images)} images give logits that are not finite, {where}: {cause}")
        return answer

    def _check_form(self, raw: bytes) -> None:
        """Of logits that are not finite: whether they are numbers of another form. Raises EngineError."""
        if (text := self._unasked(UNASKED_S)) is not None:
            raise self._wrong(text)
        swapped = np.abs(np.frombuffer(raw, ">f4"))
        if swapped.any() and ((swapped == 0) | ((swapped > 1 / LIKELY) & (swapped < LIKELY))).all():
            raise self._wrong(f"logits that are not finite, but at most {swapped.max():.3g} read as big endian; expected little endian")

    def _unasked(self, wait_s: float) -> str | None:
        """What it wrote that nobody asked for, in words; None where there is nothing. Raises ClosedError: it is gone."""
        channel = self._alive()
        line = channel.line(wait_s)
        if line is None and not channel.pending:
            return None
        beginning = f" ({line[:60]!r})" if line is not None and line.isascii() else ""
        return (
            f"something that nobody asked for{beginning}; expected nothing behind the {self.hello.classes} float32 numbers of an image, or "
            "its int32 label: neither 64-bit numbers nor text"
        )

    def _one_hot(self, labels: NDArray[np.int32]) -> Logits:
        classes = self.hello.classes
        if labels.size and not (labels.min() >= 0 and labels.max() < classes):
            raise self._wrong(f"label {labels.min() if labels.min() < 0 else labels.max()}; expected 0 to {classes - 1}")
        rows = np.zeros((len(labels), classes), np.float32)
        rows[np.arange(len(labels)), labels] = 1
        return rows

    def _measure_requests(self, batch: int, repeats: int, same: bool) -> Calls:
        """Timed from here, the way of the bytes included."""
        pool = self._pool if self._pool is not None else np.zeros((1, *self.shape), np.uint8)
        ns, starts, kept = [], [], self.timed.setdefault(batch, {})
        for i in range(repeats):
            first = 0 if same else i % FRESH
            chunk = pool[np.arange(first, first + batch) % len(pool)]
            starts.append(time.perf_counter_ns())
            answer = self._steadily(partial(self._ask, chunk))
            ns.append(time.perf_counter_ns() - starts[-1])
            kept[first] = answer
        return Calls(np.array(ns, np.int64), np.array(starts, np.int64), {})

    def _with_files(self, request: dict[str, Any], kind: type[M], limit_s: float | None) -> tuple[M, dict[str, bytes]]:
        message = self._exchange(request, b"", limit_s)
        answer = self._checked(message, kind)
        sizes = message.get("blobs", {})
        if (
            not isinstance(sizes, dict)
            or len(sizes) > MOST_FILES
            or not all(_FILE.fullmatch(name) and type(size) is int and 0 <= size <= MOST_BYTES for name, size in sizes.items())
        ):
            raise self._wrong(f"files of these names and sizes: {str(sizes)[:80]!r}")
        return answer, {name: self._bytes(size) for name, size in sizes.items()}

    def _request(self, request: dict[str, Any], kind: type[M], raw: bytes = b"") -> M:
        return self._checked(self._exchange(request, raw, None), kind)

    def _exchange(self, request: dict[str, Any], raw: bytes, limit_s: float | None) -> dict[str, Any]:
        """Send a request; the first line of its answer."""
        channel = self._alive()
        if channel.pending and (text := self._unasked(0.0)) is not None:
            raise self._wrong(text)
        limit_s = self.limits.answer_s if limit_s is None else limit_s
        try:
            channel.send(json.dumps(request).encode() + b"\n" + raw, limit_s)
        except SilentError as error:
            self._fail("hung", f"{error}, so it was killed: it does not read what it is asked")
        return self._message(limit_s)

    def _message(self, limit_s: float) -> dict[str, Any]:
        """The next line that is not progress."""
        for _ in range(MOST_STEPS):
            try:
                line = self._alive().line(limit_s)
            except NonsenseError as error:
                raise self._wrong(str(error)) from error
            if line is None:
                self._silent(f"it said nothing for {limit_s:g} s and was killed; give a slow device a longer limit")
            try:
                message = cleaned(read_json(line))
            except ValueError:
                message = None
            if not isinstance(message, dict):
                raise self._wrong(f"{line[:60]!r}; expected one line of JSON")
            if "status" in message:
                fault = self._checked(message, Fault)
                self._fail(fault.status, printable(fault.error, 2000))
            if "step" not in message:
                return message
            step = self._checked(message, Working)
            self.progress(printable(step.step, 200), step.done, step.total)
        raise self._wrong(f"{MOST_STEPS:,} lines of progress and nothing else")

    def _checked(self, message: dict[str, Any], kind: type[M]) -> M:
        try:
            return kind.model_validate(message)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise self._wrong(f"a message in which {printable(where, 60)} is wrong: {printable(first['msg'].lower())}") from error

    def _bytes(self, size: int) -> bytes:
        try:
            return self._alive().read(size, self.limits.answer_s)
        except SilentError as error:
            self._silent(f"{error} and it was killed: it stopped within an answer, or the answer is too short")

    def _steadily(self, step: Callable[[], T]) -> T:
        """Take a step; once more where the connection was lost and the same plan runs again."""
        if self._fault is not None:
            raise self._fault
        try:
            return step()
        except ClosedError as error:
            first = self.hello
            before = first.loaded.plan_sha256
            self._after_loss(error)
            self._connect()
            if (now := self.hello.loaded.plan_sha256) != before:
                self._fail(
                    "crashed",
                    f"after a lost connection another plan runs ({now[:12]}…, {before[:12]}… before): its answers must not be mixed with "
                    f"those of the first. Run again; keep the plan on the device.",
                )
            self.check_like(first)
            try:
                self._send_pool()
                return step()
            except ClosedError as again:
                self._after_loss(again)
                raise DeviceError(
                    f"the connection of {self.id} was lost twice during one request ({again}). Go on with --resume."
                ) from again

    def _after_loss(self, error: ClosedError) -> None:
        """Give up the channel; it must have been the connection that ended, or the engine's end is its result."""
        channel, self._channel = self._alive(), None
        ended = channel.end(1.0)
        if not channel.lost(ended):
            self._fail("hung" if ended.hung else "crashed", ended.in_words(str(error)))

    def _connect(self) -> None:
        """Load the engine; once more where the connection was lost meanwhile."""
        for last in (False, True):
            self._channel = self.open()
            try:
                first = self._message(self.limits.load_s)
                if self.own:
                    first.pop("loaded", None)
                self._hello = self._checked(first, Hello)
                return
            except ClosedError as error:
                channel, self._channel = self._alive(), None
                ended = channel.end(1.0)
                if not channel.lost(ended):
                    self._fail("hung" if ended.hung else "crashed", ended.in_words(str(error)))
                if last:
                    said = " ".join(ended.stderr[-1:]) or error
                    raise DeviceError(f"the connection was lost twice while {self.id} was loaded ({said}). Go on with --resume.") from error

    def _alive(self) -> Channel:
        if self._channel is None:
            raise self._fault or ValueError(f"the session of {self.id} is closed")
        return self._channel

    def _wrong(self, what: str) -> EngineError:
        """The answer breaks the protocol: the engine is not believed any more. To be raised."""
        self._fault = EngineError("crashed", f"it answered with {what}")
        self._drop()
        return self._fault

    def _fail(self, status: Status, message: str) -> NoReturn:
        self._fault = EngineError(status, message)
        self._drop()
        raise self._fault

    def _silent(self, message: str) -> NoReturn:
        """Nothing comes any more: it is killed, where it has not ended and something that it started keeps its output open."""
        channel, self._channel = self._alive(), None
        over = channel.over()  # before its input is closed, at which any program may end
        ended = channel.end(ENDED_S)
        if not over or channel.lost(ended):
            self._fail("hung", message)
        self._fail("crashed", f"{ended.in_words('')}; something that it started went on and held its output open")

    def _drop(self, wait: bool = False) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.end() if wait else channel.end(0.0)
