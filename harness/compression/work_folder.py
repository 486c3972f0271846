"""The folder of the checkpoints: whose they are, and whether it may be removed at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.compression.recipe import CompressionRecipe
from harness.compression.request import Request
from harness.compression.table import find_method
from harness.errors import UntrustedError, UsageError
from harness.models.load import Twin
from harness.settings import NEVER_BEGUN
from harness.training.train import CHECKPOINT

NOTE, TEMPORARY_NOTE = "request.json", "request.tmp"  # of whose checkpoints lie in a folder


def trained(folder: Path) -> bool:
    """Whether some stage left a checkpoint."""
    return any(folder.rglob(CHECKPOINT))


def check_own(folder: Path) -> None:
    """Refuse a folder that a compression did not make: it would be removed at the end.

    Raises:
        UsageError: it holds something else.
    """
    others = sorted(path.name for path in folder.iterdir() if path.name not in (*NEVER_BEGUN, TEMPORARY_NOTE))
    if others and not (folder / NOTE).exists() and not trained(folder):
        raise UsageError(
            f"{folder}, where the checkpoints would lie and which is removed at the end, holds {', '.join(others[:3])}"
            f"{', …' if len(others) > 3 else ''} already: expected no such folder, or that of an interrupted compression. Choose another "
            "--out, or a folder for the checkpoints with --work."
        )


def claim_folder(folder: Path, request: Request, recipe: CompressionRecipe, networks: list[Twin]) -> None:
    """Note in the folder what its checkpoints belong to. How far to go (`until`) may change, and the places of files: networks stand there
    by their hashes, and each checkpoint holds that of its images.

    Raises:
        UntrustedError: they belong to another request.
    """
    now = {
        **request.model_dump(exclude={"until", "recipe", "test", "model", "standard_teacher", "data"}),
        "networks": [twin.sha256 for twin in networks],
        "recipe": recipe.model_dump(mode="json"),
    }
    note = folder / NOTE
    if note.exists() and trained(folder):
        try:
            then = dict(json.loads(note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise UntrustedError(f"{note} is damaged: {error}. Delete {folder}, or choose another.") from error
        method = find_method(request.method)
        if then.get("method") == request.method and method.rate(then["rate"] or "") == method.rate(request.rate or ""):
            then["rate"] = request.rate  # the same, perhaps written otherwise
        with suppress(ValidationError):  # read back, so that a field which a later version added counts with its default
            then["recipe"] = CompressionRecipe.model_validate(then["recipe"]).model_dump(mode="json")
        was, is_now = (dict(leaves({key: values.get(key) for key in now})) for values in (then, now))
        if other := [f"{key} {was.get(key)} then, {is_now.get(key)} now" for key in was | is_now if was.get(key) != is_now.get(key)]:
            raise UntrustedError(f"{folder} holds the checkpoints of another request: {'; '.join(other)}. Delete it, or choose another.")
    temporary = folder / TEMPORARY_NOTE
    temporary.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    temporary.replace(note)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What is in nested dictionaries, by dotted names."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from leaves(inner, f"{name}.{key}" if name else key)
