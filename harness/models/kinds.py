"""Which files can be a model, by their names. Imports no torch: a wrong name is answered at once."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError

READABLE = (".safetensors", ".pt2", ".onnx")
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".tar"}
SAVE = (
    "torch.export.save(torch.export.export(model.eval(), (torch.rand(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim('n')},)), "
    "'model.pt2'), then give --model model.pt2"
)  # the one way that asks for nothing but the network itself


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
            raise UsageError(f"there is no file {path}")
    elif path.exists():
        raise UsageError(f"{path} is of no known kind. Expected a zoo name or a file {', '.join(READABLE)}.")
