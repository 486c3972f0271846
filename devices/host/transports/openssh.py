"""A session with the agent on another machine, through the system's OpenSSH client and the user's own configuration.

Host keys are always checked, nothing is ever asked for, and the sessions of one process share one connection.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from devices.host.channel import LINE_LENGTH
from devices.host.errors import DeviceError
from devices.host.install import NEWER_PYTHON
from devices.host.pack import worker_archive
from devices.worker.plain import printable, read_json
from devices.worker.wire import ClosedError, NonsenseError, Wire

CONFIG = "EDGE_HARNESS_SSH_CONFIG"  # a file that is read instead of ~/.ssh/config and /etc/ssh/ssh_config
CONNECT_S = 10
HELLO_S = 60.0  # a slow board under load starts Python meanwhile
OLDEST_PYTHON = (3, 10)

_OPTIONS = {
    "BatchMode": "yes", "StrictHostKeyChecking": "yes", "ConnectTimeout": CONNECT_S, "ServerAliveInterval": 5, "ServerAliveCountMax": 3,
    "ControlMaster": "auto", "ControlPersist": 30, "ClearAllForwardings": "yes", "ForwardAgent": "no", "ForwardX11": "no",
    "PermitLocalCommand": "no", "RequestTTY": "no", "RemoteCommand": "none", "LogLevel": "ERROR",
}  # fmt: skip
_BOOTSTRAP = Path(__file__).parents[2] / "worker" / "bootstrap.py"
_RUN_BOOTSTRAP = "import sys;exec(sys.stdin.buffer.read(int(sys.argv[1])))"
BANNER_LINES = 500  # a login script may print before the agent speaks
_HOST = re.compile(r"(ssh://)?[A-Za-z0-9_][\w.@:%+\[\]-]*", re.ASCII)
_WITH_PORT = re.compile(r"[^:/]+:\d+")
_PLACE = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>\d+))?/?")

# What OpenSSH says -> what it means and what to do; `passing`: it may be over in a minute, as after a restart of the device.
_FAULTS: tuple[tuple[str, bool, str], ...] = (
    (
        r"HOST IDENTIFICATION HAS CHANGED|host key .*has changed",
        False,
        "its host key is not the one that is known: it was installed anew, or another machine answers in its place. Nothing was "
        "sent. Compare the fingerprint that the device itself shows (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) with the one that "
        "the network shows (ssh-keyscan ADDRESS | ssh-keygen -lf -); only where they are the same, forget the old: ssh-keygen -R ADDRESS",
    ),
    (
        r"host key is known for|Host key verification failed",
        False,
        "its host key is not known yet. Log in once by hand (ssh {host}), compare the fingerprint with the device's own "
        "(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub there), and accept it",
    ),
    (r"Permission denied \(", False, "it accepts no key of yours, and no password is asked for. Install your key: ssh-copy-id {login}"),
    (
        r"Could not resolve hostname",
        False,
        "that name leads nowhere. Add it to ~/.ssh/config (Host {alias}, then HostName, User), or pass --host USER@ADDRESS",
    ),
    (r"Bad configuration option|Bad owner or permissions|terminating, \d+ bad", False, "your ssh configuration is not accepted"),
    (r"refused|timed out|No route|unreachable", True, "is it on, in this network, and does its SSH server run? Try: ssh {host}"),
)


class UnreachableError(DeviceError):
    """No session could be opened. `passing`: it is worth trying again soon."""

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


class Session:
    """One session with the agent. What it is asked and answers goes over `wire`."""

    def __init__(self, host: str, python: Sequence[str]) -> None:
        """Log in, start Python there, and hand it the agent, unless it is there.

        Args:
            host: alias of the ssh configuration, or USER@ADDRESS.
            python: the command that starts Python there, word by word.

        Raises:
            UnreachableError: no login, or no fitting Python; the message says why and what to do.
        """
        bootstrap, archive = _BOOTSTRAP.read_bytes(), worker_archive()
        words = (*python, "-c", _RUN_BOOTSTRAP, str(len(bootstrap)), hashlib.sha256(archive).hexdigest(), str(len(archive)))
        self._host, self._python = host, python
        self._greeting = ""  # the last line that came before the agent spoke
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe would be held open by the shared connection
        self._process = subprocess.Popen(
            [*ssh_command(host), "-T", "--", host, shlex.join(words)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101 - both are pipes
        self.wire = Wire(self._process.stdout.fileno(), self._process.stdin.fileno())
        try:
            self.wire.write(bootstrap)
            hello = self._hello()
            if tuple(hello["python"]) < OLDEST_PYTHON:
                found = ".".join(map(str, hello["python"]))
                raise UnreachableError(
                    f"{host}: {shlex.join(python)} is Python {found}; the worker needs 3.10 or newer. Install one beside it, there: "
                    f"{NEWER_PYTHON}",
                    passing=False,
                )
            if not hello["have"]:
                self.wire.write(archive)
        except NonsenseError as error:
            self.close()
            raise UnreachableError(f"{host} does not speak as the agent does: {error}", passing=False) from error
        except ClosedError as error:
            fault = self.fault(str(error))
            self.close()
            raise fault from None
        except BaseException:
            self.close()
            raise

    def _hello(self) -> dict[str, Any]:
        """What the bootstrap says first, after whatever the login's own scripts print."""
        stop = time.monotonic() + HELLO_S
        for _ in range(BANNER_LINES):
            line = self.wire.line(stop - time.monotonic())
            if line is None:
                raise ClosedError(f"nothing came for {HELLO_S:g} s")
            if line.startswith(b'{"edge-harness": 1,'):
                return _checked_hello(line)
            self._greeting = printable(line.decode(errors="replace"), LINE_LENGTH) or self._greeting
        raise ClosedError(f"{BANNER_LINES} lines of other text came")

    def fault(self, silence: str = "") -> UnreachableError:
        """Why the session ended, from OpenSSH's exit code and its words; of one that goes on, `silence` says what was missed."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self._stderr.seek(0)
        lines = [printable(line) for line in self._stderr.read(1 << 16).decode(errors="replace").splitlines() if line.strip()]
        code, last = self._process.poll(), lines[-1] if lines else self._greeting or "no message"
        if code in (126, 127):
            return UnreachableError(
                f"{self._host}: {shlex.join(self._python)} cannot be run there ({last}). Install Python 3.10 or newer "
                f'(sudo apt-get install -y python3), or name the right one in the profile: python = "/path/to/python3"',
                passing=False,
            )
        if code is not None and 0 < code < 255:  # below 0 a signal here ended the ssh client, and nothing is known of the agent
            return UnreachableError(f"{self._host}: the agent ended with exit code {code}: {last}", passing=False)
        for pattern, passing, meaning in _FAULTS:
            if found := next((line for line in lines if re.search(pattern, line)), None):
                said = meaning.format(host=self._host, **_parts(self._host))
                return UnreachableError(f"{self._host} cannot be reached: {said}. ssh says: {found.strip('@ ')}", passing=passing)
        if code == 0 and silence:
            return UnreachableError(
                f"{self._host} does not answer as it should: its login ended before the agent spoke, without an error ({last}). Does this "
                f"key start a command of its own there, or a login script end the shell? Try: ssh {self._host} true",
                passing=True,
            )
        if code is None and silence and not lines:
            return UnreachableError(
                f"{self._host} does not answer as it should: {silence}, and ssh says nothing. Does a login script there wait, "
                f"print without an end, or start another shell? Try: ssh {self._host} true",
                passing=True,
            )
        return UnreachableError(f"{self._host} cannot be reached. ssh says: {last}", passing=True)

    def close(self) -> None:
        """End it; the agent ends by itself then."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()


def check_host(host: str) -> None:
    """Raise `DeviceError` unless `host` can be a destination and nothing else, such as an option."""
    if not _HOST.fullmatch(host):
        raise DeviceError(f"'{host}' is no host; expected USER@ADDRESS or an alias of your ssh configuration")
    if _WITH_PORT.fullmatch(host):
        raise DeviceError(f"'{host}' has a port, which goes into an address only: ssh://{host}")


def _parts(host: str) -> dict[str, str]:
    """`login`: as ssh-copy-id takes it, which knows no address with ssh://; `alias`: as `Host` of the configuration does."""
    user, _, place = host.removeprefix("ssh://").rpartition("@")
    found = _PLACE.fullmatch(place) if host.startswith("ssh://") else None
    name, port = (found["six"] or found["name"], found["port"]) if found else (place, None)
    return {"login": f"{f'-p {port} ' if port else ''}{f'{user}@' if user else ''}{name}", "alias": name}


def drop_connection(host: str) -> None:
    """Close the connection that sessions with `host` share: it may be dead without knowing."""
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [*ssh_command(host), "-O", "exit", "--", host], stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=False
        )


def ssh_command(host: str) -> list[str]:
    """The client and its options. Those on the command line come before the user's own configuration."""
    if shutil.which("ssh") is None:
        raise DeviceError("ssh is not installed on this machine. Install it: apt-get install -y openssh-client")
    check_host(host)
    config = os.environ.get(CONFIG)
    options = {**_OPTIONS, "ControlPath": _sockets() / "%C"}
    return ["ssh", *(["-F", config] if config else []), *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]


@cache
def _sockets() -> Path:
    """A private folder for the sockets of shared connections, removed with them at the end. Its path is short: a socket's must be."""
    folder = Path(tempfile.mkdtemp(prefix="eh-", dir="/tmp" if len(tempfile.gettempdir()) > 30 else None))  # noqa: S108

    def remove() -> None:
        for socket in folder.iterdir():
            with suppress(subprocess.TimeoutExpired, OSError):
                subprocess.run(
                    ["ssh", "-F", os.devnull, "-o", f"ControlPath={socket}", "-O", "exit", "--", "any"],
                    stdin=subprocess.DEVNULL, capture_output=True, timeout=5, check=False,
                )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _checked_hello(line: bytes) -> dict[str, Any]:
    try:
        hello = read_json(line)
        return {"python": [int(part) for part in hello["python"]], "have": bool(hello["have"])}
    except (ValueError, KeyError, TypeError) as error:
        raise NonsenseError(f"not a message: {line[:80]!r}") from error
