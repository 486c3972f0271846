"""`--model`: a zoo name or a file becomes a twin. No code of a model file is ever executed, and nothing is unpickled."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from torch import nn

from export.artefact import sha256_file
from harness.errors import UsageError
from harness.models import probe
from harness.models.architectures import image_size_of
from harness.models.normalisation import with_normalisation
from harness.models.onnx_graph import read_onnx
from harness.models.pt2 import read_pt2
from harness.models.weights import network_from
from harness.models.zoo import cards, weights_file

PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib", ".tar"}
Source = Literal["zoo", "safetensors", "pt2", "onnx"]


@dataclass(frozen=True)
class Twin:
    """The PyTorch model a robustness claim was made for.

    Attributes:
        name: what the record calls it: the zoo name or the file's.
        source: what it was read from.
        arch: the architecture's name where there is one.
        module: float32, in eval mode, images (n, c, h, w) in [0, 1] -> logits (n, classes). Its parameters take no gradient
            (attacks need the images' alone); training turns them on again.
        sha256: of the weights' file.
        input_shape: (channels, height, width).
        classes: number of logits.
        parameters, nonzero_parameters: of the module.
        macs: multiply-accumulates of convolutions and linear layers for one image.
        card: the zoo's model card, else empty.
    """

    name: str
    source: Source
    arch: str | None
    module: nn.Module
    sha256: str
    input_shape: tuple[int, int, int]
    classes: int
    parameters: int
    nonzero_parameters: int
    macs: int
    card: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """What the user said about a file, as `load_twin` takes it."""

    arch: str | None
    classes: int | None
    image_size: int | None


def load_twin(
    model: str, *, arch: str | None = None, classes: int | None = None, image_size: int | None = None, normalize: str | None = None
) -> Twin:
    """Load and check a classifier.

    Args:
        model: a zoo name, or a .safetensors (with `arch`), .pt2 or .onnx file.
        arch: zoo, torchvision or timm name, for safetensors.
        classes: number of classes, where the weights do not say it; checked where they do.
        image_size: height and width of the input, where the file leaves them open.
        normalize: see `harness.models.normalisation`; for files whose network takes standardised input.

    Raises:
        UsageError: unknown name, unreadable, damaged or hostile file, weights that do not fit, or not a classifier (see `probe`).
    """
    try:
        return _load(model, Options(arch, classes, image_size), normalize)
    except OSError as error:
        raise UsageError(f"cannot read model '{model[:80]}': {error.strerror or error}") from error


def _load(model: str, options: Options, normalize: str | None) -> Twin:
    path, arch, classes = Path(model), options.arch, options.classes
    if model in (found := cards()):
        card = found[model]
        refused = [
            f"--{key}" for key, value in (("arch", arch), ("image-size", options.image_size), ("normalize", normalize)) if value is not None
        ]
        if refused:
            raise UsageError(f"{model} is a network of the zoo, complete as it is; {', '.join(refused)} is for files")
        stored = Options(card["arch"], classes or card["classes"], None)
        network, _ = _safetensors(weights_file(model), stored)
        shape = cast(tuple[int, int, int], tuple(card["input_shape"]))
        return _finish(model, "zoo", card["arch"], network, weights_file(model), shape, classes, card)
    read = _reader(model, path, found)
    if arch is not None and path.suffix != ".safetensors":
        raise UsageError(f"--arch {arch} is for .safetensors weights; {path.name} describes its own network")
    network, shape = read(path, options)
    network = with_normalisation(network, normalize, shape[0])
    source = cast(Source, path.suffix.removeprefix("."))
    return _finish(path.stem, source, arch, network, path, shape, classes, {})


def _finish(
    name: str,
    source: Source,
    arch: str | None,
    network: nn.Module,
    path: Path,
    shape: tuple[int, int, int],
    classes: int | None,
    card: dict[str, Any],
) -> Twin:
    """Check the network and count what it costs."""
    network = network.eval().requires_grad_(False)
    found = probe.probe(network, shape, str(path))
    if classes is not None and found != classes:
        raise UsageError(f"{path} has {found} classes, not {classes}")
    total, nonzero = probe.parameters(network)
    return Twin(
        name=name,
        source=source,
        arch=arch,
        module=network,
        sha256=sha256_file(path),
        input_shape=shape,
        classes=found,
        parameters=total,
        nonzero_parameters=nonzero,
        macs=probe.macs(network, shape),
        card=card,
    )


def _reader(model: str, path: Path, zoo: dict[str, Any]) -> Callable[[Path, Options], tuple[nn.Module, tuple[int, int, int]]]:
    """The function that reads this kind of file.

    Raises:
        UsageError: a pickle, an unknown kind of file, or neither a zoo name nor a file.
    """
    suffix = path.suffix
    if suffix in PICKLES:
        raise UsageError(
            f"{path} is a pickle by its name, and pickles run code when loaded: refused. Convert it where you trust it: "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors'), then give --model model.safetensors --arch NAME."
        )
    if suffix in READERS:
        if not path.exists():
            raise UsageError(f"there is no file {path}")
        return READERS[suffix]
    if path.exists():
        raise UsageError(f"{path} is of no known kind. Expected a zoo name or a file {', '.join(READERS)}.")
    near = difflib.get_close_matches(model, zoo, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    shipped = ", ".join(zoo) or "none in this installation"
    raise UsageError(f"unknown model '{model}'.{hint} Zoo: {shipped}. Files: {', '.join(READERS)}.")


def _safetensors(path: Path, options: Options) -> tuple[nn.Module, tuple[int, int, int]]:
    if options.arch is None:
        raise UsageError(f"{path} holds weights alone: name their architecture with --arch (zoo, torchvision or timm name)")
    size = options.image_size or image_size_of(options.arch)
    return network_from(path, options.arch, options.classes, options.image_size), (3, size, size)


def _pt2(path: Path, options: Options) -> tuple[nn.Module, tuple[int, int, int]]:
    program = read_pt2(path)
    channels, height, width = program.input_shape
    if options.image_size is not None:
        height = width = options.image_size
    return program.network, (channels, height, width)


def _onnx(path: Path, options: Options) -> tuple[nn.Module, tuple[int, int, int]]:
    graph = read_onnx(path)
    channels, height, width = graph.input_shape
    if options.image_size is not None:
        for size in (height, width):
            if size not in (None, options.image_size):
                raise UsageError(f"{path} takes images of {height}x{width}, not --image-size {options.image_size}")
        height = width = options.image_size
    if height is None or width is None:
        raise UsageError(f"{path} leaves its input size open ({channels or '?'}x{height or '?'}x{width or '?'}); give --image-size")
    return graph, (channels or 3, height, width)


READERS: dict[str, Callable[[Path, Options], tuple[nn.Module, tuple[int, int, int]]]] = {
    ".safetensors": _safetensors,
    ".pt2": _pt2,
    ".onnx": _onnx,
}
