"""The agent: serves one connection on a device. It keeps files and the device's lock, and ends with the connection.

Standard library only, Python >= 3.10. Each request is one message; `OPERATIONS` has what answers it.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devices.worker.emulator import emulator
from devices.worker.files import FULL
from devices.worker.gpu_access import barred
from devices.worker.kept import clear
from devices.worker.lock import DeviceLock
from devices.worker.quota import allowed_cpus, fast_cpus, usable_cpus
from devices.worker.reader import Reader
from devices.worker.store import DamagedError, Store
from devices.worker.wire import BEAT, ClosedError, Wire

ROOM_BYTES = 64 << 20  # left free for what the job writes

_ARCHIVE = Path(__file__).parents[2].name  # in the store; what is imported later is read from it
_NAME = re.compile(r"[0-9a-f]{32}")

Message = dict[str, Any]


class RequestError(Exception):
    """A request that cannot be met; the message is for the user."""


def serve(cache: str) -> None:
    """Answer requests on standard input until it is closed, or silent for so long that the connection must be dead."""
    out = os.dup(1)
    os.dup2(2, 1)  # a stray print is no message
    agent = Agent(Wire(0, out), Path(cache))
    try:
        agent.serve()
    except ClosedError:
        pass
    finally:
        agent.close()


class Agent:
    """One connection. `folder` holds `store/` and `jobs/`."""

    def __init__(self, wire: Wire, folder: Path) -> None:
        self._wire = wire
        self._store = Store(folder / "store")
        self._jobs = folder / "jobs"
        self._jobs.mkdir(mode=0o700, exist_ok=True)
        self._lock: DeviceLock | None = None
        self._who = self._token = ""

    def serve(self) -> None:
        """Answer one request after the other; see `serve`."""
        while True:
            request = self._wire.receive()
            try:
                reply = OPERATIONS[request["op"]](self, request)
            except (RequestError, DamagedError) as error:
                reply = {"error": str(error), "damaged": isinstance(error, DamagedError)}
            except OSError as error:
                remedy = ". Make room there, as `harness devices clean` does" if error.errno in FULL else ""
                reply = {"error": f"{error.filename or self._jobs.parent}: {error.strerror or error}{remedy}", "damaged": False}
            self._wire.send(reply)

    def close(self) -> None:
        """Give the lock back, where it is held."""
        if self._lock is None:
            return
        if self._lock.acquire(self._who, self._token) is None:
            self._lock.release()
        self._lock.close()

    def hello(self, request: Message) -> Message:
        """What this machine says of itself, and which packages its Python has not. Its clock is told, and never relied upon."""
        return {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "cpus": usable_cpus(),
            "allowed": allowed_cpus(),
            "fast": fast_cpus(),
            "time": time.time(),
            "absent": [name for name in request["packages"] if importlib.util.find_spec(name) is None],
            "emulator": emulator(),
            "gpu_barred": barred(Reader()),
        }

    def observe(self, request: Message) -> Message:
        """The machine's state (see `devices.worker.observed`) and the versions of packages. Needs numpy, which `hello` tells of."""
        from devices.worker.observed import observe_now

        return observe_now(request["watch"], request["packages"])

    def lock(self, request: Message) -> Message:
        """Wait for the device, saying for whom. A lock that this very job holds (its worker outlived a connection) is no obstacle."""
        self._who, self._token, last_who = request["who"], request["job"], None
        held, self._lock = self._lock, self._lock or DeviceLock()
        lock = self._lock
        while (holder := lock.acquire(self._who, self._token)) is not None and holder.get("token") != self._token:
            who = str(holder.get("who") or "a process that does not say whose it is")
            if who != last_who:
                last_who = who
                self._wire.send({"waiting": who})
            self._wire.check(1.0)
            self._wire.send(BEAT)
        return {"left_over": None if held else lock.left_over}

    def missing(self, request: Message) -> Message:
        """Which files must be sent, and from which byte on. Every file that is here was read again: its hash is right now."""
        needed = {}
        for sha256 in request["files"]:
            if not self._store.have(sha256):
                needed[sha256] = self._store.begun(sha256)
            self._wire.send(BEAT)
        size = sum(request["files"][sha256] - begun for sha256, begun in needed.items())
        keep = {*request["files"], _ARCHIVE}
        if gone := self._store.trim(size, keep):
            self._forget(request["job"])  # its files are those of the store
        self._store.make_room(size + ROOM_BYTES, keep, lambda: self._forget(request["job"]))
        if (free := self._store.free_bytes()) < size:
            raise RequestError(
                f"the disk is full: {free / 2**20:.0f} MiB free at {self._jobs.parent}, {size / 2**20:.0f} MiB needed. Make room there, "
                "as `harness devices clean` does."
            )
        return {"missing": needed, "trimmed": len(gone), "trimmed_bytes": sum(gone.values())}

    def receive(self, request: Message) -> Message:
        """Take one file, or the rest of it."""
        self._store.receive(request["sha256"], request["offset"], self._wire.read(request["size"] - request["offset"]))
        return {}

    def lay(self, request: Message) -> Message:
        """Make the run's folder of files in the store; says where it lies."""
        job = self._job(request)
        job.mkdir(mode=0o700, exist_ok=True)
        for path, sha256 in request["files"].items():
            target = job / path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            self._store.link(sha256, target)
        return {"folder": str(job.resolve()), "home": str(Path.cwd())}

    def remove(self, request: Message) -> Message:
        """Delete the run's folder. The store keeps its files."""
        shutil.rmtree(self._job(request), ignore_errors=True)
        return {}

    def clean(self, request: Message) -> Message:
        """Throw away all that is kept here, but the agent itself. The lock is held: no other run uses any of it."""
        return clear(self._jobs.parent, {_ARCHIVE})

    def _job(self, request: Message) -> Path:
        name: str = request["job"]
        if not _NAME.fullmatch(name):
            raise RequestError(f"{name!r} is not the name of a job")
        return self._jobs / name

    def _forget(self, job: str) -> None:
        """Delete the folders of other jobs, which were broken off and never taken up again."""
        for folder in self._jobs.iterdir():
            if folder.name != job:
                shutil.rmtree(folder, ignore_errors=True)


OPERATIONS: dict[str, Callable[[Agent, Message], Message]] = {
    name: getattr(Agent, name) for name in ("hello", "observe", "lock", "missing", "receive", "lay", "remove", "clean")
}
