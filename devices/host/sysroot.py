"""A sysroot: Python, numpy and the runtime for another instruction set, unpacked in the cache folder, so that QEMU can run them here.

Made of Debian's packages (apt checks their signatures, and knows what depends on what) and PyPI's wheels. Nothing is installed on the
machine itself. What was downloaded is kept, so that an interrupted build goes on and a repair is quick.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devices.host.errors import DeviceError
from devices.host.profile import Emulation
from devices.worker.files import sha256_file, write_whole
from devices.worker.spec import FormatError, read_versioned

SCHEMA = 1  # history of manifest.json: 1 - first
MANIFEST = "manifest.json"

SUITE, PYTHON = "bookworm", "3.11"
DEBIAN = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGES = (f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libstdc++6")
ARCHITECTURES = {"aarch64": "arm64"}  # machine -> Debian's name of it
MANYLINUX = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")  # Debian 12 has glibc 2.36

Say = Callable[[str], None]


@dataclass(frozen=True)
class Sysroot:
    """One sysroot, built or not.

    Attributes:
        folder: holds the tree, the downloads and the manifest; named after what is in it.
        machine: instruction set.
        packages: pip requirements, NAME==VERSION.
    """

    folder: Path
    machine: str
    packages: tuple[str, ...]

    @classmethod
    def of(cls, emulation: Emulation) -> Sysroot:
        """The sysroot in which an emulation runs. Devices with the same packages share it."""
        name = "-".join((emulation.machine, SUITE, *emulation.packages)).replace("==", "-")
        return cls(cache_folder() / "sysroots" / name, emulation.machine, emulation.packages)

    @property
    def root(self) -> Path:
        """The tree, QEMU's `-L`."""
        return self.folder / "root"

    @property
    def python(self) -> Path:
        """The interpreter's binary."""
        return self.root / "usr" / "bin" / f"python{PYTHON}"

    @property
    def site(self) -> Path:
        """Where the wheels are unpacked."""
        return self.root / "opt" / "wheels"

    @property
    def variables(self) -> dict[str, str]:
        """What the environment of the interpreter must say."""
        libraries = (self.root / place / f"{self.machine}-linux-gnu" for place in ("lib", "usr/lib"))
        return {"PYTHONHOME": str(self.root / "usr"), "PYTHONPATH": str(self.site), "LD_LIBRARY_PATH": ":".join(map(str, libraries))}

    @property
    def finished(self) -> bool:
        """Whether a build came to its end; `faults` looks closer."""
        return (self.folder / MANIFEST).is_file()

    def faults(self) -> list[str]:
        """Files of the finished build that are missing or changed, or what is wrong with the manifest; empty: it is whole."""
        try:
            files = read_versioned(self.folder / MANIFEST, SCHEMA)["files"]
        except (FormatError, KeyError) as error:
            return [str(error)]
        return [path for path, digest in files.items() if _digest(self.root / path) != digest]

    def build(self, say: Say) -> None:
        """Download and unpack; a tree that is there is replaced.

        Args:
            say: called with a line before each step.

        Raises:
            DeviceError: a tool is missing, the network fails, or another process is building it. What was downloaded is kept.
        """
        with self._lock():
            (self.folder / MANIFEST).unlink(missing_ok=True)
            fresh = self.folder / "root.tmp"
            for tree in (fresh, self.root):
                shutil.rmtree(tree, ignore_errors=True)
            say(f"downloading {', '.join(PACKAGES)} and what they need for {self.machine} from {DEBIAN} ({SUITE}, about 25 MB) ...")
            packages = self._download_packages()
            say(f"unpacking {len(packages)} packages ...")
            fresh.mkdir()
            for package in packages:
                _run("dpkg-deb", "--extract", str(package), str(fresh))
            say(f"downloading the {self.machine} wheels of {', '.join(self.packages)} from PyPI (about 35 MB) ...")
            self._install_wheels(fresh / self.site.relative_to(self.root))
            fresh.replace(self.root)
            self.seal()

    def seal(self) -> None:
        """Write the manifest of the tree as it is now: from here on it counts as finished."""
        files = {str(path.relative_to(self.root)): _digest(path) for path in sorted(self.root.rglob("*")) if _is_plain(path)}
        write_whole(self.folder / MANIFEST, json.dumps({"schema": SCHEMA, "files": files}, indent=1))

    def _download_packages(self) -> list[Path]:
        """Let apt resolve, download and verify, in folders of its own: the machine's package database is neither read nor written."""
        if not KEYRING.is_file():
            raise DeviceError(f"{KEYRING} is not there, so Debian's packages cannot be verified: apt-get install -y debian-archive-keyring")
        apt, architecture = self.folder / "apt", ARCHITECTURES[self.machine]
        for place in ("state/lists/partial", "cache/archives/partial", "etc", "log"):
            (apt / place).mkdir(parents=True, exist_ok=True)
        (apt / "state" / "status").write_text("", encoding="utf-8")
        (apt / "etc" / "sources.list").write_text(f"deb [signed-by={KEYRING}] {DEBIAN} {SUITE} main\n", encoding="utf-8")
        settings = {
            "Dir::State": apt / "state", "Dir::State::status": apt / "state" / "status", "Dir::Cache": apt / "cache",
            "Dir::Log": apt / "log", "Dir::Etc": apt / "etc", "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null", "APT::Architecture": architecture, "APT::Architectures": architecture,
            "APT::Install-Recommends": "false", "APT::Sandbox::User": "", "Acquire::Languages": "none", "Acquire::Retries": "3",
        }  # fmt: skip
        options = [f"--option={key}={value}" for key, value in settings.items()]
        _run("apt-get", *options, "--quiet=2", "update")
        _run("apt-get", *options, "--quiet=2", "--yes", "--download-only", "install", *PACKAGES)
        shutil.rmtree(apt / "state" / "lists")  # 50 MB of index, renewed by the next build anyway
        return sorted((apt / "cache" / "archives").glob("*.deb"))

    def _install_wheels(self, target: Path) -> None:
        platforms = [f"--platform={name}_{self.machine}" for name in MANYLINUX]
        _run(
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
            "--implementation=cp", f"--python-version={PYTHON}", *platforms, f"--target={target}", *self.packages,
        )  # fmt: skip

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise DeviceError(f"another process is building {self.folder}. Wait for it, then run this again.") from error
            yield


def cache_folder() -> Path:
    """Where what can be downloaded again is kept: `$XDG_CACHE_HOME/edge-harness`, by default `~/.cache/edge-harness`.

    Raises:
        DeviceError: this user has no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-harness"
    except RuntimeError as error:
        raise DeviceError("this user has no home folder to keep downloads in: set HOME or XDG_CACHE_HOME") from error


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise DeviceError(
            f"{command[0]} cannot be run: {error.strerror}. Building a sysroot needs apt-get and dpkg-deb (Debian, Ubuntu)."
        ) from error
    if done.returncode:
        words = _last_words(done.stderr.splitlines() or done.stdout.splitlines())
        raise DeviceError(f"{Path(command[0]).name} failed: {words}. What was downloaded is kept; run it again.")


def _last_words(lines: Sequence[str]) -> str:
    return " | ".join(line.strip() for line in lines[-2:]) or "no message"


def _is_plain(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _digest(path: Path) -> str | None:
    """Of a file its bytes' SHA-256, of a link its target's; None where there is neither."""
    if path.is_symlink():
        return hashlib.sha256(str(path.readlink()).encode()).hexdigest()
    return sha256_file(path) if path.is_file() else None
