"""Another machine, reached by SSH: files travel once, what was started outlives the connection, and one run at a time has the device.

A dropped connection is opened again, and everything goes on where it was: an upload, the job, a download.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from devices.host.channel import Channel
from devices.host.errors import DeviceError
from devices.host.transports import Facts, Progress, Say
from devices.host.transports.openssh import Session, UnreachableError, check_host, drop_connection, printable, ssh_command
from devices.worker.environment import CLOCK_SKEW
from devices.worker.files import sha256_file
from devices.worker.wire import BEAT, BEAT_S, CHUNK, ClosedError, Wire

if TYPE_CHECKING:
    from devices.host.profile import DeviceProfile

RECONNECT_S = 300.0  # a board has restarted by then
DROPS = 20  # of the connection, during one step

KEPT = "What is finished is kept; go on with --resume."

_LONGEST_PAUSE_S = 15.0

T = TypeVar("T")
Message = dict[str, Any]


class _DamagedError(DeviceError):
    """Bytes changed on the way."""


class Ssh:
    """See `devices.host.transports.Transport`. A folder there is named after who sent it, from where, and every byte in it."""

    def __init__(self, profile: DeviceProfile, say: Say) -> None:
        self.python = tuple(shlex.split(profile.python))
        self._profile, self._say = profile, say
        self._host = profile.host or profile.name
        check_host(self._host)
        self._session: Session | None = None
        self._hello: Message = {}
        self._skew_s = 0.0
        self._job = ""
        self._busy = threading.RLock()  # the connection serves one request, or one beat, at a time
        self._left = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and self._job:
                self._steadily(lambda wire: _ask(wire, "remove", job=self._job))
        except (ClosedError, DeviceError):
            self._say(f"the job's folder on {self._host} could not be removed; a run that needs the room does it")
        finally:
            self._left.set()
            with self._busy:
                self._close()

    def facts(self) -> Facts:
        """Log in and ask."""
        self._steadily(lambda wire: None)
        emulator = self._hello.get("emulator")
        machine, cpus = printable(str(self._hello["machine"])), int(self._hello["cpus"])
        absent = tuple(name for name in ("numpy", *self._profile.runtimes) if name in self._hello["absent"])
        return Facts(machine, cpus, printable(str(emulator)) if emulator else None, self._skew_s, absent)

    def put(self, folder: Path, progress: Progress) -> str:
        """Send what the device does not have yet; files and folders whose name begins with a dot stay here."""
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        files = {name: path for name, path in files.items() if not any(part.startswith(".") for part in name.split("/"))}
        hashes = {name: sha256_file(path) for name, path in files.items()}
        origin = [platform.node(), str(folder.resolve()), sorted(hashes.items())]
        self._job = hashlib.sha256(json.dumps(origin).encode()).hexdigest()[:32]
        contents = {sha256: files[name] for name, sha256 in hashes.items()}
        self._steadily(self._take_lock)
        self._twice(_Upload(self._job, contents, progress))
        there = self._steadily(lambda wire: _ask(wire, "lay", job=self._job, files=hashes))["folder"]
        self._beats.start()
        return printable(str(there), 4096)

    def open(self, command: Sequence[str], there: str) -> Channel:
        """Start it in a session of its own beside the agent's, which keeps the device's lock meanwhile."""
        self._steadily(lambda wire: None)
        variables = [f"{CLOCK_SKEW}={self._skew_s:.3f}"]
        words = shlex.join(["env", *variables, *command])
        return Channel([*ssh_command(self._host), "-T", "--", self._host, f"cd {shlex.quote(there)} && exec {words}"], None, remote=True)

    def _twice(self, step: Callable[[Wire], T]) -> T:
        """Take a step, and once more where bytes changed on the way."""
        try:
            return self._steadily(step)
        except _DamagedError as error:
            self._say(f"bytes changed on the way to or from {self._host} ({error}); they are sent again")
            return self._steadily(step)

    def _steadily(self, step: Callable[[Wire], T]) -> T:
        """Take a step that can be repeated; where the connection drops, open it again and repeat the step."""
        for _ in range(DROPS):
            with self._busy:
                session = self._connected()
                try:
                    return step(session.wire)
                except ClosedError:
                    fault = session.fault()
                    self._close()
            if not fault.passing:
                raise fault
            drop_connection(self._host)
            self._say(f"the connection to {self._host} was lost; trying again for up to {RECONNECT_S:g} s")
        raise DeviceError(f"the connection to {self._host} was lost {DROPS} times during one step. {KEPT}")

    def _beat(self) -> None:
        """Tell the agent now and then that this end lives: it gives the device's lock back after a silence."""
        while not self._left.wait(BEAT_S):
            with self._busy:
                if self._session is None:
                    continue
                try:
                    self._session.wire.send(BEAT)
                    self._session.wire.check(0.0)
                except ClosedError:
                    self._close()  # it is opened again for the next request

    def _connected(self) -> Session:
        """The session, opened where there is none; with patience where there has been one."""
        if self._session is not None:
            return self._session
        stop, pause_s = time.monotonic() + RECONNECT_S, 0.5
        while self._session is None:
            try:
                self._session = self._open()
            except UnreachableError as error:
                if not (self._hello and error.passing):
                    raise
                if time.monotonic() + pause_s > stop:
                    raise DeviceError(f"{error}. {KEPT}") from error
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return self._session

    def _open(self) -> Session:
        """Log in; see that it is the right kind of machine; take the device's lock for the job."""
        session = Session(self._host, self.python)
        try:
            again = bool(self._hello)
            self._greet(session.wire)
            if again and self._job:
                self._take_lock(session.wire)
        except ClosedError:
            fault = session.fault()
            session.close()
            raise fault from None
        except BaseException:
            session.close()
            raise
        return session

    def _greet(self, wire: Wire) -> None:
        before = time.time()
        hello = _ask(wire, "hello", packages=["numpy", *self._profile.runtimes])
        skew_s = float(hello["time"]) - (before + time.time()) / 2
        emulation = self._profile.emulation
        if emulation is not None and hello["machine"] != emulation.machine:
            raise DeviceError(
                f"{self._host} is {printable(str(hello['machine']))}, but {self._profile.name} is {emulation.machine}. "
                f"No job was sent. Choose another --device or another --host."
            )
        self._hello, self._skew_s = hello, skew_s

    def _take_lock(self, wire: Wire) -> None:
        who = f"{getpass.getuser()}@{platform.node()}, process {os.getpid()}"
        wire.send({"op": "lock", "job": self._job, "who": who})
        while "waiting" in (answer := _answer(wire)):
            self._say(f"{self._host} is in use by {printable(str(answer['waiting']))}; waiting for it")
        if left_over := answer.get("left_over"):
            self._say(f"took over {self._host} from a run that ended without a word: {printable(str(left_over))}")

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


class _Upload:
    """Sends the files that the device lacks, or the rest of them. Called again after a drop, it goes on."""

    def __init__(self, job: str, contents: dict[str, Path], progress: Progress) -> None:
        self._job, self._contents, self._progress = job, contents, progress
        self._sizes = {sha256: path.stat().st_size for sha256, path in contents.items()}
        self._total = 0

    def __call__(self, wire: Wire) -> None:
        missing: dict[str, int] = _ask(wire, "missing", job=self._job, files=self._sizes)["missing"]
        left = sum(self._sizes[sha256] - int(begun) for sha256, begun in missing.items())
        self._total = self._total or left
        for sha256, begun in missing.items():
            wire.send({"op": "receive", "sha256": sha256, "size": self._sizes[sha256], "offset": begun})
            with self._contents[sha256].open("rb") as file:
                file.seek(begun)
                while piece := file.read(CHUNK):
                    wire.write(piece)
                    left -= len(piece)
                    self._progress("upload", max(self._total - left, 0), self._total)
            _answer(wire)


def _ask(wire: Wire, op: str, **request: Any) -> Message:
    wire.send({"op": op, **request})
    return _answer(wire)


def _answer(wire: Wire) -> Message:
    answer = wire.receive()
    if "error" in answer:
        raise (_DamagedError if answer.get("damaged") else DeviceError)(f"on the device: {printable(str(answer['error']), 1000)}")
    return answer
