"""`--model`: a zoo name or a file becomes a twin. No code of a model file is ever executed, and nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import BaseModel, ValidationError
from torch import nn

from export.artefact import sha256_file
from export.checked import external_files, parse_onnx
from harness.data.picture import Resize
from harness.errors import UsageError
from harness.models import probe
from harness.models.architectures import OF_MINUS_ONE_TO_ONE, find, image_size_of, published_resize
from harness.models.kinds import READABLE, check_kind, kind_of, without_arch
from harness.models.normalisation import given_twice, parse_normalisation, with_normalisation
from harness.models.onnx_answers import check_answers
from harness.models.onnx_batch import without_size
from harness.models.onnx_graph import read_onnx
from harness.models.pt2 import read_pt2
from harness.models.pt2_sizes import check_sizes
from harness.models.shipped import cards, weights_file
from harness.models.weights import network_from

Source = Literal["zoo", "safetensors", "pt2", "onnx"]
Shape = tuple[int, int, int]
CHANNELS = 3  # of every architecture that is built by name
MAX_IMAGE_SIZE = 4096


@dataclass(frozen=True)
class Twin:
    """The PyTorch model a robustness claim was made for.

    Attributes:
        name: what the record calls it: the zoo name or the file's.
        source: what it was read from.
        arch: the architecture's name where there is one.
        module: float32, in eval mode, images (n, c, h, w) in [0, 1] -> logits (n, classes). Its parameters take no gradient
            (attacks need the images' alone); training turns them on again.
        sha256: of the weights' file; of an ONNX model in several files, over all of them.
        input_shape: (channels, height, width).
        classes: number of logits.
        parameters, nonzero_parameters: of the module.
        macs: multiply-accumulates of convolutions and linear layers for one image.
        card: its model card: the zoo's, or the one beside a file; else empty.
        resize: how images are scaled for it before their centre is cropped, where its architecture was published with that.
        remarks: what a user should know of it before believing a figure, a sentence each.
    """

    name: str
    source: Source
    arch: str | None
    module: nn.Module
    sha256: str
    input_shape: Shape
    classes: int
    parameters: int
    nonzero_parameters: int
    macs: int
    card: dict[str, Any] = field(default_factory=dict)
    resize: Resize | None = None
    remarks: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of its logits, in their order, as its card tells them; empty where it does not."""
        return tuple(self.card.get("class_names", ()))


@dataclass(frozen=True)
class LoadOptions:
    """What the user said about a file, as `load_twin` takes it."""

    arch: str | None
    classes: int | None
    image_size: int | None
    data_shape: Shape | None


def load_twin(
    model: str,
    *,
    arch: str | None = None,
    classes: int | None = None,
    image_size: int | None = None,
    normalize: str | None = None,
    data_shape: Shape | None = None,
) -> Twin:
    """Load and check a classifier.

    A card FILE.json beside FILE.safetensors, as training and compression write it, tells what is not told here.

    Args:
        model: a zoo name, or a .safetensors (with `arch`), .pt2 or .onnx file.
        arch: zoo, torchvision or timm name, for safetensors.
        classes: number of classes, where the weights do not say it; checked where they do.
        image_size: height and width of the input, where the file leaves them open.
        normalize: see `harness.models.normalisation`; for files whose network takes standardised input.
        data_shape: (channels, height, width) of the images that the twin is for, where they are all alike. Taken for the input's where
            neither the file nor `image_size` says it and the network runs on it; else the architecture's published size is.

    Raises:
        UsageError: unknown name, unreadable, damaged or hostile file, weights that do not fit, or not a classifier (see `probe`).
    """
    if image_size is not None and not 1 <= image_size <= MAX_IMAGE_SIZE:
        raise UsageError(f"--image-size {image_size}: expected 1 to {MAX_IMAGE_SIZE} pixels")
    try:
        return _load(model, LoadOptions(arch, classes, image_size, data_shape), normalize)
    except OSError as error:
        raise UsageError(f"cannot read model '{model[:80]}': {error.strerror or error}") from error


def _load(model: str, options: LoadOptions, normalize: str | None) -> Twin:
    path, arch, classes = Path(model), options.arch, options.classes
    if model in (found := cards()):
        card = found[model]
        refused = [
            f"--{key}" for key, value in (("arch", arch), ("image-size", options.image_size), ("normalize", normalize)) if value is not None
        ]
        if refused:
            raise UsageError(f"{model} is a network of the zoo, complete as it is; {', '.join(refused)} is for files")
        stored = LoadOptions(card["arch"], classes or card["classes"], None, None)
        network, _ = _safetensors(weights_file(model), stored)
        shape = cast(Shape, tuple(card["input_shape"]))
        return _finish(model, "zoo", card["arch"], network, weights_file(model), shape, classes, card)
    check_kind(model)
    read = READERS[kind_of(path)]
    if arch is not None and kind_of(path) != ".safetensors":
        raise UsageError(f"--arch {arch} is for .safetensors weights; {path.name} describes its own network")
    card, unused = _card_or_why_not(path, arch)
    if card:
        arch, classes, normalize = card["arch"], classes or card["classes"], normalize or card.get("normalize")
        shape = cast(Shape, tuple(card["input_shape"]))
        options = LoadOptions(arch, classes, options.image_size or square(shape), shape)
    network, shape = read(path, options)
    _refuse_double(path, network)
    whole = with_normalisation(network, normalize, shape[0])
    source = cast(Source, kind_of(path).removeprefix("."))
    twin = _finish(path.stem, source, arch, whole, path, shape, classes, card)
    remarks = (
        unused,
        None if normalize is None else given_twice(network, normalize, shape),
        None if arch is None or card else _of_its_range(arch, normalize),
        _of_its_precision(path, network),
    )
    return replace(twin, remarks=tuple(remark for remark in remarks if remark is not None))


def _refuse_double(path: Path, network: nn.Module) -> None:
    """Refuse weights in float64: what is called fp32 would compute in it too, and no tool quantizes it."""
    for name, weight in network.named_parameters():
        if weight.dtype is torch.float64 and weight.ndim > 1:
            raise UsageError(f"{path} has '{name.removeprefix('w_')}' in float64; expected float32. Export model.float() instead.")


def _of_its_range(arch: str, normalize: str | None) -> str | None:
    """A remark where torchvision's own weights of an architecture would take other pixels."""
    home, name = find(arch)
    if home != "torchvision" or name not in OF_MINUS_ONE_TO_ONE:
        return None
    if normalize is not None and set(sum(parse_normalisation(normalize, CHANNELS), ())) == {0.5}:
        return None
    return (
        f"torchvision's own weights of {name} take pixels of -1 to 1 (its transform_input, which no file of weights tells): where these "
        "began as torchvision's, give --normalize 0.5/0.5"
    )


def _of_its_precision(path: Path, network: nn.Module) -> str | None:
    """A remark where a file computes in half precision what the twin computes in float32."""
    if not getattr(network, "widened", False):
        return None
    as_it_is = f"; the file as it is can be measured beside them with --engine {path}" if kind_of(path) == ".onnx" else ""
    return (
        f"{path.name} computes in float16 or bfloat16: the twin, and what is made of it, has its weights and computes in float32{as_it_is}"
    )


def square(shape: Shape) -> int | None:
    """The size of square images of that shape (channels, height, width); None of others."""
    return shape[1] if shape[1] == shape[2] else None


class _Card(BaseModel):
    """What a card must tell of its weights to be believed."""

    arch: str
    classes: int
    input_shape: Shape
    normalize: str | None = None
    sha256: str
    class_names: tuple[str, ...] = ()


def card_beside(path: Path, arch: str | None) -> dict[str, Any]:
    """The card of FILE.safetensors; {} where there is none, or one of other weights or another architecture than `arch`."""
    return _card_or_why_not(path, arch)[0]


def _card_or_why_not(path: Path, arch: str | None) -> tuple[dict[str, Any], str | None]:
    """The card beside the weights, and a remark where there is one that is not used: without it they have another radius and scaling.

    Raises:
        UsageError: it is there and cannot be read.
    """
    beside = path.with_suffix(".json")
    if kind_of(path) != ".safetensors" or not beside.is_file():
        return {}, None
    try:
        raw = beside.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {beside}, the card beside the weights: {error.strerror or error}") from error
    try:
        card = _Card.model_validate_json(raw)
    except ValidationError as error:
        cut_off = raw.lstrip().startswith(b"{") and any(fault["type"] == "json_invalid" for fault in error.errors())
        return {}, f"{beside.name} beside the weights is damaged, and nothing of it is used" if cut_off else None
    if card.sha256 != (found := sha256_file(path)):
        why = f"of other weights ({card.sha256[:12]}…, these are {found[:12]}…)"
    elif arch not in (None, card.arch):
        why = f"of {card.arch}, not of --arch {arch}"
    else:
        return json.loads(raw), None
    return {}, f"{beside.name} beside the weights is a card {why}: nothing of it is used, such as its radius or how images are scaled"


def _finish(
    name: str,
    source: Source,
    arch: str | None,
    network: nn.Module,
    path: Path,
    shape: Shape,
    classes: int | None,
    card: dict[str, Any],
) -> Twin:
    """Check the network and count what it costs."""
    network = network.eval().requires_grad_(False)
    found = probe.probe(network, shape, str(path), source)
    if classes is not None and found != classes:
        raise UsageError(f"{path} has {found} classes, not {classes}")
    total, nonzero = probe.parameters(network)
    return Twin(
        name=name,
        source=source,
        arch=arch,
        module=network,
        sha256=_sha256(path),
        input_shape=shape,
        classes=found,
        parameters=total,
        nonzero_parameters=nonzero,
        macs=probe.macs(network, shape),
        card=card,
        resize=published_resize(arch, max(shape[1:])) if arch is not None and source == "safetensors" else None,
    )


def _sha256(path: Path) -> str:
    """Of the file; of an ONNX model whose weights lie beside it, over the hashes of all its files."""
    beside = external_files(parse_onnx(path), path) if kind_of(path) == ".onnx" else []
    if not beside:
        return sha256_file(path)
    return hashlib.sha256("".join(map(sha256_file, (path, *beside))).encode()).hexdigest()


def _safetensors(path: Path, options: LoadOptions) -> tuple[nn.Module, Shape]:
    if options.arch is None:
        raise without_arch(path)
    network, size, data = network_from(path, options.arch, options.classes, options.image_size), options.image_size, options.data_shape
    if data is not None and data[0] != CHANNELS:
        raise UsageError(
            f"the images have {data[0]} channel(s), {options.arch} takes {CHANNELS}. Grey images: numpy.repeat(images, 3, axis=3), "
            "if the network was trained on them so."
        )
    if size is None and data is not None and probe.takes(network, data):
        return network, data
    size = size or image_size_of(options.arch)
    return network, (CHANNELS, size, size)


def _pt2(path: Path, options: LoadOptions) -> tuple[nn.Module, Shape]:
    program = read_pt2(path)
    if program.probabilities:  # where they are near 0 or 1 they have no gradient to attack with
        raise UsageError(
            f"{path} ends in probabilities ({program.probabilities}); expected logits, whose gradients attacks need. "
            f"Return what goes into the {program.probabilities}."
        )
    channels, height, width = program.input_shape
    _, *fixed = (size if fixed else None for size, fixed in zip(program.input_shape, program.fixed, strict=True))
    if options.image_size is not None:
        _check_size(path, fixed, options.image_size)
        same = (height, width) == (options.image_size, options.image_size)
        if not same and (broken := program.conditions.broken_by(channels, options.image_size, options.image_size)):
            raise UsageError(
                f"{path} was saved from images of {height}x{width}, and --image-size {options.image_size} breaks a condition under which "
                f"it is that network: {broken}. Export it with images of the size that is wanted, or leave --image-size out."
            )
        height = width = options.image_size
        check_sizes(path, program.network, (channels, height, width))
    return program.network, (channels, height, width)


def _onnx(path: Path, options: LoadOptions) -> tuple[nn.Module, Shape]:
    asked = (CHANNELS, options.image_size, options.image_size) if options.image_size else options.data_shape
    graph = read_onnx(path, asked or (CHANNELS, None, None))
    channels, height, width = graph.input_shape
    if options.image_size is not None:
        _check_size(path, (height, width), options.image_size)
        height = width = options.image_size
    elif options.data_shape is not None:
        height, width = height or options.data_shape[1], width or options.data_shape[2]
    if height is None or width is None:
        raise without_size(str(path), (channels, height, width))
    shape = channels or _open_channels(graph.eval(), options.data_shape, height, width), height, width
    check_answers(path, graph.eval(), shape)
    return graph, shape


def _open_channels(network: nn.Module, data_shape: Shape | None, height: int, width: int) -> int:
    """The channels of a file that leaves them open: the data's where it runs on them."""
    return data_shape[0] if data_shape is not None and probe.takes(network, (data_shape[0], height, width)) else CHANNELS


def _check_size(path: Path, fixed: Sequence[int | None], image_size: int) -> None:
    """Refuse an --image-size other than the height and width that a file fixes; None where it does not."""
    if any(size not in (None, image_size) for size in fixed):
        height, width = (size or "any" for size in fixed)
        raise UsageError(f"{path} takes images of {height}x{width}, not --image-size {image_size}")


READERS: dict[str, Callable[[Path, LoadOptions], tuple[nn.Module, Shape]]] = dict(zip(READABLE, (_safetensors, _pt2, _onnx), strict=True))
