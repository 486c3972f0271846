"""A command that outlives the connection: a forked process starts it, writes down what it says and how it ends. Standard library only.

In the job's folder, below `.run`: `state.json` (what was started), `alive` (locked while the supervisor lives), `out` (the lines), and
`end.json` once it has ended; `reserve` keeps room for that on a full disk. The supervisor keeps the device's lock, which it inherits.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from devices.errors import DeviceError
from devices.files import write_whole
from devices.lock import boot_id
from devices.process import run_command

FOLDER = ".run"

_RESERVE_BYTES = 1 << 14
_STOP_S = 10.0
_POLL_S = 0.02


class Run:
    """The latest command of one job folder."""

    def __init__(self, job: Path) -> None:
        self._job = job
        self._folder = job / FOLDER

    @property
    def out(self) -> Path:
        """What it said so far, one line each."""
        return self._folder / "out"

    @property
    def state(self) -> dict[str, Any]:
        """What was started: `key`, `command`, `boot_id`, `pid`; empty where nothing was."""
        return _read(self._folder / "state.json")

    @property
    def end(self) -> dict[str, Any]:
        """How it ended: `code`, `hung`, `stderr`, or `error` where it could not be started; empty where it has not."""
        return _read(self._folder / "end.json")

    def alive(self) -> bool:
        """Whether a supervisor lives. It holds a lock, so no process that has its number by chance is taken for it."""
        try:
            fd = os.open(self._folder / "alive", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(fd)

    def start(
        self, key: str, command: list[str], variables: dict[str, str], silence_limit_s: float, connection: tuple[int, ...] = ()
    ) -> None:
        """Start a command in the job's folder, instead of the one before. Nothing of it keeps the file descriptors `connection` open."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        alive = os.open(self._folder / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(alive, fcntl.LOCK_EX)
        self.out.touch()
        (self._folder / "reserve").write_bytes(bytes(_RESERVE_BYTES))
        pid = os.fork()
        if pid == 0:
            self._supervise(command, variables, silence_limit_s, connection)
        os.close(alive)
        write_whole(self._folder / "state.json", json.dumps({"key": key, "command": command, "boot_id": boot_id(), "pid": pid}))

    def stop(self) -> bool:
        """Kill the command, all it started and its supervisor; False where nothing ran."""
        pid = self.state.get("pid")
        if pid is None or not self.alive():
            return False
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.kill(pid, number)
            stop = time.monotonic() + _STOP_S
            while self.alive() and time.monotonic() < stop:
                time.sleep(_POLL_S)
            if not self.alive():
                return True
        return True

    def _supervise(self, command: list[str], variables: dict[str, str], silence_limit_s: float, connection: tuple[int, ...]) -> NoReturn:
        """The forked process: nothing of it may return to the agent's code."""
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, _interrupt)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            null = os.open(os.devnull, os.O_RDWR)
            for fd in {0, 1, 2, *connection}:
                os.dup2(null, fd)
            os.environ.update(variables)
            end: dict[str, Any]
            try:
                with self.out.open("w", encoding="utf-8", buffering=1) as out:
                    ended = run_command(command, str(self._job), lambda line: print(line, file=out), silence_limit_s)
                end = {"code": ended.code, "hung": ended.hung, "stderr": list(ended.stderr)}
            except DeviceError as error:
                end = {"error": str(error)}
            except KeyboardInterrupt:
                end = {"code": -signal.SIGKILL, "hung": False, "stderr": ["stopped from the workstation"]}
            except OSError as error:
                end = {"code": 1, "hung": False, "stderr": [f"what the worker said could not be written: {error}"]}
            (self._folder / "reserve").unlink()
            write_whole(self._folder / "end.json", json.dumps(end))
        finally:
            os._exit(0)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _read(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
