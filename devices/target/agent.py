"""The agent: serves one connection on a device. It keeps files, starts the worker, tells how it fares, and ends with the connection.

Standard library only, Python >= 3.10. Each request is one message; `OPERATIONS` has what answers it. What was started goes on without it.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devices.emulator import emulator
from devices.files import sha256_file
from devices.lock import DeviceLock, boot_id
from devices.quota import usable_cpus
from devices.target.store import DamagedError, Store
from devices.target.supervise import FOLDER, Run
from devices.wire import BEAT, BEAT_S, CHUNK, ClosedError, Wire

ROOM_BYTES = 64 << 20  # left free for what the job writes

_POLL_S = 0.1
_NAME = re.compile(r"[0-9a-f]{32}")

Message = dict[str, Any]


class RequestError(Exception):
    """A request that cannot be met; the message is for the user."""


def serve(cache: str) -> None:
    """Answer requests on standard input until it is closed, or silent for so long that the connection must be dead."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors are not waited for
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
                reply = {"error": f"{error.filename or self._jobs.parent}: {error.strerror or error}", "damaged": False}
            self._wire.send(reply)

    def close(self) -> None:
        """Give the lock back, unless the worker still runs: its supervisor keeps it."""
        if self._lock is None:
            return
        if self._lock.acquire(self._who, self._token) is None and not Run(self._jobs / self._token).alive():
            self._lock.release()
        self._lock.close()

    def hello(self, request: Message) -> Message:
        """What this machine says of itself, and which packages its Python has not. Its clock is told, and never relied upon."""
        return {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "cpus": usable_cpus(),
            "time": time.time(),
            "absent": [name for name in request["packages"] if importlib.util.find_spec(name) is None],
            "emulator": emulator(),
        }

    def observe(self, request: Message) -> Message:
        """The machine's state (see `devices.observed`) and the versions of packages. Needs numpy; `hello` says whether it is there."""
        from devices.observed import observe_now

        return observe_now(request["watch"], request["packages"])

    def lock(self, request: Message) -> Message:
        """Wait for the device, saying for whom. A lock that this very job holds (its worker outlived a connection) is no obstacle."""
        self._who, self._token, said = request["who"], request["job"], None
        held, self._lock = self._lock, self._lock or DeviceLock()
        lock = self._lock
        while (holder := lock.acquire(self._who, self._token)) is not None and holder.get("token") != self._token:
            who = str(holder.get("who") or "a process that does not say whose it is")
            if who != said:
                said = who
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
        self._store.make_room(size + ROOM_BYTES, set(request["files"]), lambda: self._forget(request["job"]))
        if (free := self._store.free_bytes()) < size:
            raise RequestError(
                f"the disk is full: {free / 2**20:.0f} MiB free at {self._jobs.parent}, {size / 2**20:.0f} MiB needed. Make room there."
            )
        return {"missing": needed}

    def receive(self, request: Message) -> Message:
        """Take one file, or the rest of it."""
        self._store.receive(request["sha256"], request["offset"], self._wire.read(request["size"] - request["offset"]))
        return {}

    def lay(self, request: Message) -> Message:
        """Make the job's folder of files in the store; one whose command lives is left as it is."""
        job = self._job(request)
        if Run(job).alive():
            return {}
        job.mkdir(mode=0o700, exist_ok=True)
        for path, sha256 in request["files"].items():
            target = job / path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            self._store.link(sha256, target)
        return {}

    def start(self, request: Message) -> Message:
        """Start the command. One that was started with the same key is not started again.

        Where `adopt` is set, neither is the same command when it still runs, or ended well: it belongs to an earlier connection.
        """
        run, command = self._run(request), from_here(request["command"])
        adopted = request["adopt"] and run.state.get("command") == command and (run.alive() or run.end.get("code") == 0)
        if not adopted and run.state.get("key") != request["key"]:
            run.stop()
            run.start(request["key"], command, request["variables"], request["silence_limit_s"], self._wire.fds)
        return {"key": run.state["key"]}

    def follow(self, request: Message) -> Message:
        """Tell every line from byte `offset` on as it comes, then how it ended, or that it is gone without an end."""
        run = self._run(request)
        offset, spoken = request["offset"], time.monotonic()
        while True:
            alive, end = run.alive(), run.end
            for line, after in _lines(run.out, offset, last=not alive):
                self._wire.send({"line": line, "offset": after})
                offset = after
                spoken = time.monotonic()
            if not alive and end:
                if self._lock is not None:  # the supervisor of an earlier connection may have had it until now
                    self._lock.acquire(self._who, self._token)
                return {"end": end}
            if not alive:
                restarted = run.state.get("boot_id") != boot_id()
                return {"gone": "the device restarted" if restarted else "its process was killed", "free_bytes": self._store.free_bytes()}
            if time.monotonic() - spoken > BEAT_S / 2:
                self._wire.send(BEAT)
                spoken = time.monotonic()
            self._wire.check(_POLL_S)

    def stop(self, request: Message) -> Message:
        """Stop the command and all it started, whichever connection that was; the device's lock is given back with it."""
        stopped = self._run(request).stop()
        self._lock, self._token = self._lock or DeviceLock(), request["job"]
        return {"stopped": stopped}

    def list(self, request: Message) -> Message:
        """Every file below a folder of the job."""
        folder = self._job(request) / request["path"]
        files = [
            {"path": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "sha256": self._hash(path)}
            for path in sorted(folder.rglob("*"))
            if path.is_file() and FOLDER not in path.relative_to(folder).parts
        ]
        if not folder.is_dir():
            raise RequestError(f"there is no folder {request['path'] or '.'} in the job")
        return {"files": files}

    def fetch(self, request: Message) -> Message:
        """Send one file from byte `offset` on, `size` bytes in all."""
        with (self._job(request) / request["path"]).open("rb") as file:
            file.seek(request["offset"])
            left = request["size"] - request["offset"]
            self._wire.send({"size": left})
            while left > 0:
                piece = file.read(min(left, CHUNK))
                if not piece:
                    raise ClosedError("the file shrank while it was sent")
                self._wire.write(piece)
                left -= len(piece)
        return {}

    def remove(self, request: Message) -> Message:
        """Delete the job's folder; what runs in it is stopped. The store keeps its files."""
        self._run(request).stop()
        shutil.rmtree(self._job(request), ignore_errors=True)
        return {}

    def _job(self, request: Message) -> Path:
        name: str = request["job"]
        if not _NAME.fullmatch(name):
            raise RequestError(f"{name!r} is not the name of a job")
        return self._jobs / name

    def _run(self, request: Message) -> Run:
        return Run(self._job(request))

    def _forget(self, job: str) -> None:
        """Delete the folders of other jobs, which were broken off and never taken up again."""
        for folder in self._jobs.iterdir():
            if folder.name != job and not Run(folder).alive():
                shutil.rmtree(folder, ignore_errors=True)

    def _hash(self, path: Path) -> str:
        self._wire.send(BEAT)
        return sha256_file(path)


OPERATIONS: dict[str, Callable[[Agent, Message], Message]] = {
    name: getattr(Agent, name)
    for name in ("hello", "observe", "lock", "missing", "receive", "lay", "start", "follow", "stop", "list", "fetch", "remove")
}


def from_here(command: list[str]) -> list[str]:
    """A command whose program, where it is a relative path, is found from the folder that this process began in: a login's home.

    The command runs in the job's folder; `python = "venv/bin/python"` was looked for, and found, from the home folder.
    """
    program, *words = command
    return [str(Path.cwd() / program) if "/" in program else program, *words]


def _lines(path: Path, offset: int, *, last: bool) -> list[tuple[str, int]]:
    """Complete lines from byte `offset` on, each with the offset of the next; with `last`, an unfinished one too."""
    with path.open("rb") as file:
        file.seek(offset)
        raw = file.read()
    *whole, rest = raw.split(b"\n")
    found = []
    for line in whole:
        offset += len(line) + 1
        found.append((line.decode(errors="replace"), offset))
    return [*found, (rest.decode(errors="replace"), offset + len(rest))] if rest and last else found
