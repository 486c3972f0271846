"""The device's own files and commands, seen through one door: a recorded tree goes through the same code as a board.

Where `EDGE_HARNESS_ROOT` names a folder, files are read below it and commands are looked for in its `bin` first. Standard library only,
Python >= 3.10. What cannot be read is empty or None, never a guess.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = "EDGE_HARNESS_ROOT"
COMMAND_LIMIT_S = 10.0


class Reader:
    """Reads below `root`, by default that of `EDGE_HARNESS_ROOT`, else the machine's own."""

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root or os.environ.get(ROOT) or "/").resolve()

    @property
    def recorded(self) -> bool:
        """Whether this is a recorded tree, not the machine itself."""
        return self.root != Path("/")

    def text(self, path: str) -> str:
        """A file's text without white space at its ends, "" where it cannot be read. `path` is absolute, as on the device."""
        try:
            return self._there(path).read_text(encoding="utf-8", errors="replace").strip().strip("\0")
        except OSError:
            return ""

    def number(self, path: str) -> float | None:
        """The number that a file holds, decimal or with 0x; None where it holds none."""
        text = self.text(path)
        try:
            return float(int(text, 0)) if text.lower().startswith("0x") else float(text)
        except ValueError:
            return None

    def free_memory(self) -> int | None:
        """Bytes that programs could have without swapping; None where nothing tells."""
        found = re.search(r"^MemAvailable:\s+(\d+) kB", self.text("/proc/meminfo"), re.MULTILINE)
        return int(found[1]) * 1024 if found else None

    def paths(self, pattern: str) -> list[str]:
        """Absolute paths, as on the device, that match a glob pattern; sorted."""
        found = self.root.glob(pattern.lstrip("/"))
        return sorted(f"/{path.relative_to(self.root)}" for path in found)

    def opens(self, path: str) -> bool:
        """Whether this user may read and write there."""
        return os.access(self._there(path), os.R_OK | os.W_OK)

    def rights(self, path: str) -> tuple[int, int]:
        """Mode and number of the group of a file; none and root's where it cannot be seen."""
        try:
            found = self._there(path).stat()
        except OSError:
            return 0, 0
        return found.st_mode, found.st_gid

    def finds(self, command: str) -> bool:
        """Whether a command of that name can be run."""
        return shutil.which(command, path=self._environment()["PATH"]) is not None

    def output(self, command: Sequence[str]) -> str | None:
        """What a command prints; None where it cannot be run, fails, or takes longer than `COMMAND_LIMIT_S`."""
        try:
            done = subprocess.run(
                list(command),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_LIMIT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None

    def stream(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command that prints lines until it is killed; its standard output is a pipe that never blocks the reader.

        Raises:
            OSError: it cannot be started.
        """
        process = subprocess.Popen(
            list(command), env=self._environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        os.set_blocking(process.stdout.fileno(), False)
        return process

    def _there(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _environment(self) -> dict[str, str]:
        """`LC_ALL=C`: numbers are printed with a point everywhere."""
        path = os.environ.get("PATH", os.defpath)
        return {**os.environ, "LC_ALL": "C", "PATH": f"{self.root / 'bin'}{os.pathsep}{path}" if self.recorded else path}
