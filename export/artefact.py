"""An artefact: the file of one flavour, with a manifest beside it. Standard library only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.errors import ExportError

MANIFEST_SCHEMA = 2  # history: 1 - first; 2 - module_sha256

UNKNOWN = "unknown"  # precision of a file that does not say it


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Artefact:
    """One deployable file.

    Attributes:
        flavour: a key of `export.flavours.FLAVOURS`.
        path: the file.
        sha256: of the file's bytes.
        source_sha256: of the twin's weights file.
        module_sha256: of the twin itself, see `export.identity`: one file can make several twins.
        precision: what it claims: fp32, fp16, int8; `UNKNOWN` of a file that its runtime alone can look into.
        runtime: the runtime it is meant for.
        input_name, input_shape: the one input; shape is (channels, height, width), the batch is dynamic. No name: whatever it is.
        output_name, classes: the one output, (batch, classes). No name, as above.
        calibration: method and hash of the calibration images; empty where there is none.
        options: what the build was told and, as `session_config`, what the runtime must be told.
    """

    flavour: str
    path: Path
    sha256: str
    source_sha256: str
    module_sha256: str
    precision: str
    runtime: str
    input_name: str
    input_shape: tuple[int, int, int]
    output_name: str
    classes: int
    calibration: dict[str, Any]
    options: dict[str, Any]

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size

    @property
    def session_config(self) -> dict[str, str]:
        """Entries of the runtime's configuration with which the file must be run."""
        return dict(self.options.get("session_config", {}))

    @property
    def one_by_one(self) -> bool:
        """Whether it is asked for one image at a time: the scales of its activations are those of all images of a request."""
        return bool(self.options.get("one_by_one", False))

    def save(self) -> None:
        """Write the manifest beside the file, as NAME.json."""
        manifest = {"schema": MANIFEST_SCHEMA, **asdict(self), "path": self.path.name}
        self.path.with_suffix(".json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def load_artefact(manifest: Path) -> Artefact:
    """Read a manifest and check the file beside it against its hash.

    Raises:
        ExportError: unreadable manifest, unknown schema, missing file, or a file that changed since.
    """
    try:
        raw = json.loads(manifest.read_text(encoding="utf-8"))
        if raw.pop("schema") != MANIFEST_SCHEMA:
            raise ExportError(f"{manifest} has an unknown schema; this version reads {MANIFEST_SCHEMA}")
        raw["path"], raw["input_shape"] = manifest.parent / Path(raw["path"]).name, tuple(raw["input_shape"])
        artefact = Artefact(**raw)
        found = sha256_file(artefact.path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExportError(f"cannot read artefact {manifest}: {error}") from error
    if found != artefact.sha256:
        raise ExportError(
            f"{artefact.path} changed since it was exported: sha256 {found[:12]}…, manifest says {artefact.sha256[:12]}…. Export it again."
        )
    return artefact
