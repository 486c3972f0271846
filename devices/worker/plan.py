"""An engine file (a "plan") and its manifest, sealed by this user on this machine.

Deserialising a plan executes the native code in it. A hash beside the file proves only that the two belong together, so the manifest also
carries an HMAC under a key that never leaves this user's account: what was built elsewhere, or changed since, is not loaded.

Standard library only, Python 3.10 on: it travels to devices.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from devices.worker.errors import BuildError
from devices.worker.files import write_whole

SCHEMA = 1  # history: 1 - first
KEY_BYTES = 32
REMEDY = "Deserialising a plan executes native code, so only plans built here are loaded: build it again from its ONNX file."
SUFFIX = ".json"  # NAME.plan's manifest is NAME.plan.json


@dataclass(frozen=True)
class TensorrtPlan:
    """One built engine.

    Attributes:
        path: the file.
        sha256: of its bytes.
        onnx_sha256: of the ONNX file it was built from.
        library, version: what built it: `tensorrt` or `tensorrt_rtx`.
        target: what it was built for: `sm86` and the like ahead of time, else `gpu`, the one in the machine that built it.
        options: what the builder was told.
        layers: of the network as parsed; the engine has fewer, its inspector counts them.
        seconds: the build took.
        warnings: what the builder said against it.
    """

    path: Path
    sha256: str
    onnx_sha256: str
    library: str
    version: str
    target: str
    options: dict[str, Any]
    layers: int
    seconds: float
    warnings: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size

    def read(self) -> builtins.bytes:
        """The engine's bytes, which are those that were sealed: what is hashed is what is returned.

        Raises:
            BuildError: the file cannot be read, or changed since it was built.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise BuildError(f"cannot read {self.path}: {error.strerror or error}. {REMEDY}") from error
        if (found := hashlib.sha256(content).hexdigest()) != self.sha256:
            raise BuildError(f"{self.path} changed since it was built: sha256 {found[:12]}…, manifest says {self.sha256[:12]}…. {REMEDY}")
        return content

    def save(self) -> None:
        """Write the sealed manifest beside the file.

        Raises:
            BuildError: the key of this user cannot be made.
        """
        facts = {"schema": SCHEMA, **asdict(self), "path": self.path.name, "warnings": list(self.warnings)}
        write_plan(_manifest(self.path), json.dumps({**facts, "seal": _seal(facts)}, indent=1).encode())


def verify_plan(path: Path) -> TensorrtPlan:
    """The plan at `path`, if this user built it on this machine and it has not changed since. Deserialise what its `read` returns.

    Raises:
        BuildError: no manifest, an unknown schema, a seal that is not ours, or bytes other than those that were built.
    """
    try:
        facts = json.loads(_manifest(path).read_text(encoding="utf-8"))
        seal = facts.pop("seal")
        ours = isinstance(seal, str) and hmac.compare_digest(seal.encode(), _seal(facts).encode())
        if facts["schema"] != SCHEMA:
            raise BuildError(f"{_manifest(path)} has schema {facts['schema']!r}; this version reads {SCHEMA}. {REMEDY}")
    except FileNotFoundError as error:
        raise BuildError(f"{path} has no manifest ({_manifest(path).name}): it was not built by this project. {REMEDY}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(f"cannot read {_manifest(path)}: {error}. {REMEDY}") from error
    if not ours or facts["path"] != path.name:
        raise BuildError(f"{path} was not built by this user on this machine, or its manifest was changed. {REMEDY}")
    del facts["schema"]
    plan = TensorrtPlan(**{**facts, "path": path, "warnings": tuple(facts["warnings"])})
    plan.read()
    return plan


def write_plan(path: Path, data: bytes | memoryview) -> None:
    """Write an engine file or its manifest, whole or not at all.

    Raises:
        BuildError: the folder cannot be written.
    """
    try:
        write_whole(path, data)
    except OSError as error:
        raise BuildError(f"cannot write {path}: {error.strerror or error}") from error


def _manifest(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _seal(facts: dict[str, Any]) -> str:
    return hmac.new(_key(), json.dumps(facts, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _key() -> bytes:
    """This user's key on this machine, made at first use: `$XDG_STATE_HOME/edge-harness/plan.key`, readable by the user alone."""
    try:
        path = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "edge-harness" / "plan.key"
    except RuntimeError as error:
        raise BuildError("this user has no home folder for the key that seals plans: set HOME or XDG_STATE_HOME") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        key = path.read_bytes()
    except OSError as error:
        raise BuildError(f"cannot make or read {path}, which seals the plans built here: {error.strerror or error}") from error
    if len(key) != KEY_BYTES:
        raise BuildError(f"{path} holds {len(key)} bytes; expected {KEY_BYTES}. Delete it, and build the plans again.")
    return key
