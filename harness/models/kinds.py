"""Which files can be a model, by their names. Imports no torch: a wrong name is answered at once."""

from __future__ import annotations

import difflib
from itertools import islice
from pathlib import Path

from harness.errors import UsageError

READABLE = (".safetensors", ".pt2", ".onnx")
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".tar"}
SAVE = (
    "torch.export.save(torch.export.export(model.eval(), (torch.rand(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim('n')},)), "
    "'model.pt2'), then give --model model.pt2"
)  # the one way that asks for nothing but the network itself
MOST_LOOKED_AT = 10_000  # entries of a folder


def kind_of(path: Path) -> str:
    """The end of a file's name that says what it holds, such as `.onnx`; capitals are the same."""
    return path.suffix.lower()


def check_kind(path: Path) -> None:
    """Refuse what is no model's file.

    Raises:
        UsageError: a pickle, a file that is not there, or one of another kind.
    """
    if kind_of(path) in PICKLES:
        raise UsageError(
            f"{path} is a pickle by its name, and pickles run code when loaded: refused. Convert it where you trust it: "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors'), then give --model model.safetensors --arch NAME. "
            f"A network of your own: {SAVE}."
        )
    if kind_of(path) in READABLE:
        if not path.exists():
            raise UsageError(f"there is no file {path}. {_nearby(path)}")
    elif path.exists():
        raise UsageError(f"{path} is of no known kind. Expected a zoo name or a file {', '.join(READABLE)}.")


def _nearby(path: Path) -> str:
    """What the folder of a file that is not there holds instead, in a sentence."""
    folder = path.parent
    if not folder.is_dir():
        return f"There is no folder {folder.absolute()} either."
    others = sorted(entry.name for entry in islice(folder.iterdir(), MOST_LOOKED_AT) if kind_of(entry) in READABLE)
    if near := difflib.get_close_matches(path.name, others, n=1):
        return f"Did you mean {folder / near[0]}?"
    return f"{folder.absolute()} holds {', '.join(others[:5]) or 'no model'}{', …' if len(others) > 5 else ''}."
