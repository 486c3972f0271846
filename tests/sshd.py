"""A real SSH server on loopback: own keys, own port, no password, and a login whose cache folder is its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devices.host.profile import DeviceProfile, load_profile
from devices.host.transports.openssh import CONFIG, drop_connection

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
MISSING = None if SSHD and shutil.which("ssh") else "sshd is not installed: apt-get install -y openssh-server"
HOST = "board"

_SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv {variables}
"""
_CLIENT = """
Host {host}
HostName 127.0.0.1
Port {port}
IdentityFile {folder}/user_key
IdentitiesOnly yes
UserKnownHostsFile {folder}/known_hosts
GlobalKnownHostsFile /dev/null
"""


@dataclass
class Board:
    """The server, and the machine as it looks to one who logs in. `variables` are set in every session."""

    folder: Path
    python: str = sys.executable
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        for name in ("host_key", "user_key", "other_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.know("host_key")
        self.config = self.folder / "config"
        self.config.write_text(_CLIENT.format(host=HOST, port=self.port, folder=self.folder))
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def cache(self) -> Path:
        """The folder that the harness keeps on the device."""
        return self.folder / "cache" / "edge-harness"

    @property
    def lock(self) -> Path:
        """The device's lock."""
        return self.folder / "edge-harness.lock"

    def know(self, key: str) -> None:
        """Let a key of this folder be the one that is known as the host's."""
        kind, public = (self.folder / f"{key}.pub").read_text().split()[:2]
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {public}\n")

    def start(self) -> None:
        """Start the server."""
        assert SSHD is not None
        Path("/run/sshd").mkdir(exist_ok=True) if os.geteuid() == 0 else None
        variables = {"XDG_CACHE_HOME": str(self.folder / "cache"), "TMPDIR": str(self.folder), "XDG_RUNTIME_DIR": str(self.folder)}
        variables |= self.variables
        words = " ".join(f'"{name}={value}"' for name, value in variables.items())
        settings = self.folder / "sshd_config"
        settings.write_text(_SERVER.format(port=self.port, folder=self.folder, variables=words))
        self._server = subprocess.Popen([SSHD, "-D", "-f", str(settings), "-E", str(self.folder / "log")], start_new_session=True)
        stop = time.monotonic() + 10
        while time.monotonic() < stop:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise RuntimeError((self.folder / "log").read_text())

    def drop(self) -> None:
        """Cut every connection; the server goes on."""
        assert self._server is not None
        for pid in children(self._server.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def reboot(self) -> None:
        """Kill every process of a run, and cut every connection. What was written stays."""
        for pid in processes(self.cache):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.drop()

    def stop(self) -> None:
        """Stop the server, its sessions, and whatever a run left."""
        drop_connection(HOST)
        if self._server is not None:
            self.drop()
            self._server.kill()
            self._server.wait()
        for pid in processes(self.cache):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def profile(self, base: str = "host", **changes: Any) -> DeviceProfile:
        """A device's profile that leads here."""
        from dataclasses import replace

        return replace(load_profile(base), **{"transport": "ssh", "host": HOST, "python": self.python, **changes})


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def processes(cache: Path) -> list[int]:
    """Workers of a device: they run in a run's folder, or hold one of its files open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            places = [process / "cwd", *(process / "fd").iterdir()]
            if any(str(place.readlink()).startswith(f"{cache}/jobs/") for place in places) and int(process.name) != os.getpid():
                found.append(int(process.name))
        except OSError:
            continue
    return found


__all__ = ["CONFIG", "HOST", "MISSING", "Board", "children", "processes"]
