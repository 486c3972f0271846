"""The networks that come with the package: weights and cards. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).parent / "weights"


def cards(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """The networks shipped: name -> model card. A network is NAME.safetensors with its card NAME.json, and nothing else.

    Args:
        folder: where they lie; the package's own by default.
    """
    cards = sorted((folder or WEIGHTS).glob("*.json"), key=lambda path: path.stem)
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in cards if path.with_suffix(".safetensors").is_file()}


def weights_file(name: str) -> Path:
    """The weights of a network shipped."""
    return WEIGHTS / f"{name}.safetensors"
