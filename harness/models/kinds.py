"""Which files can be a model, by their names and their first bytes. Imports no torch: a wrong file is answered at once."""

from __future__ import annotations

import difflib
import zipfile
from itertools import islice
from pathlib import Path

from harness.errors import UsageError
from harness.models.shipped import cards

READABLE = (".safetensors", ".pt2", ".onnx")
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".tar"}
SAVE = (
    "torch.export.save(torch.export.export(model.eval(), (torch.rand(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim('n')},)), "
    "'model.pt2'), then give --model model.pt2"
)  # the one way that asks for nothing but the network itself
SAVE_AGAIN = "Save it again with torch.export.save of PyTorch 2.9 or newer, or give the weights as .safetensors with --arch"
MOST_LOOKED_AT = 10_000  # entries of a folder
LIKE = 0.5  # to a name that is there, where that may be meant (difflib)
READ_AT_ONCE = 64 << 20  # bytes: a larger ONNX file is read once, when it is loaded


def kind_of(path: Path) -> str:
    """The end of a file's name that says what it holds, such as `.onnx`; capitals are the same."""
    return path.suffix.lower()


def check_kind(model: str) -> None:
    """Refuse what is neither a network of the zoo nor a model's file. A network of the zoo goes before a file or folder of its name.

    Raises:
        UsageError: a pickle, a file that is not there or of another kind, or a name that no network of the zoo has.
        ExportError: no ONNX file, by its name one.
    """
    path, zoo = Path(model), cards()
    if model in zoo:
        return
    if kind_of(path) in PICKLES:
        raise UsageError(
            f"{path} is a pickle by its name, and pickles run code when loaded: refused. Convert it where you trust it: "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors'), then give --model model.safetensors --arch NAME. "
            f"A network of your own: {SAVE}."
        )
    if kind_of(path) in READABLE:
        if not path.exists():
            raise UsageError(f"there is no file {path}. {_nearby(path)}")
        _check_content(path)
    elif path.exists():
        raise UsageError(f"{path} is of no known kind. Expected a zoo name or a file {', '.join(READABLE)}.")
    else:
        near = difflib.get_close_matches(model, zoo, n=2, cutoff=LIKE)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(
            f"unknown model '{model}'.{hint} Zoo: {', '.join(zoo) or 'none in this installation'}. Files: {', '.join(READABLE)}. If it is "
            f"an architecture, give its weights too: --model WEIGHTS.safetensors --arch {model}. A network of your own: {SAVE}."
        )


def _check_content(path: Path) -> None:
    """Refuse a file that is of another format than its name says. What is inside is for whoever loads it."""
    if not path.is_file():
        raise UsageError(f"{path} is not a file")
    match kind_of(path):
        case ".onnx" if path.stat().st_size <= READ_AT_ONCE:
            from export.checked import parse_onnx

            parse_onnx(path)
        case ".safetensors":
            from safetensors import SafetensorError, safe_open

            try:
                with safe_open(path, "np"):
                    pass
            except (OSError, SafetensorError) as error:
                raise no_safetensors(path, error) from error
        case ".pt2" if not zipfile.is_zipfile(path):
            raise UsageError(f"{path} is not a torch.export program: it is not a zip file. {SAVE_AGAIN}.")


def check_arch(path: Path, arch: str | None) -> None:
    """Refuse weights whose architecture nobody names. Raises UsageError."""
    if kind_of(path) == ".safetensors" and arch is None and not path.with_suffix(".json").exists():
        raise without_arch(path)


def without_arch(path: Path) -> UsageError:
    """The error for weights without an architecture, or with a card that is not theirs."""
    card = path.with_suffix(".json")
    beside = f"the card {card.name} beside it is damaged or of other weights" if card.exists() else f"no card {card.name} lies beside it"
    return UsageError(
        f"{path} holds weights alone, and {beside}: name their architecture with --arch (zoo, torchvision or timm name). "
        f"A network of your own: {SAVE}."
    )


def no_safetensors(path: Path, error: Exception) -> UsageError:
    """The error for a file that safetensors cannot read."""
    return UsageError(f"{path} is not a readable safetensors file: {str(error).splitlines()[0]}")


def _nearby(path: Path) -> str:
    """What the folder of a file that is not there holds instead, in a sentence."""
    folder = path.parent
    if not folder.is_dir():
        return f"There is no folder {folder.absolute()} either."
    others = sorted(entry.name for entry in islice(folder.iterdir(), MOST_LOOKED_AT) if kind_of(entry) in READABLE)
    if near := difflib.get_close_matches(path.name, others, n=1):
        return f"Did you mean {folder / near[0]}?"
    return f"{folder.absolute()} holds {', '.join(others[:5]) or 'no model'}{', …' if len(others) > 5 else ''}."
