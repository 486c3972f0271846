"""Network definitions by name: this project's own, torchvision's classifiers, and timm's where it is installed."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from harness.data.picture import Resize
from harness.errors import UsageError
from harness.models.variants import shape, split
from harness.models.zoo import ARCHITECTURES


def torchvision_names() -> list[str]:
    """torchvision's classifiers."""
    import torchvision

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def timm_names() -> list[str]:
    """timm's architectures; none where timm is not installed."""
    try:
        import timm
    except ImportError:
        return []
    names: list[str] = timm.list_models()
    return names


# torchvision's own weights of these take pixels of -1 to 1: with them it sets `transform_input`, which makes such of standardised ones.
# That is no weight, and no file of weights tells it.
OF_MINUS_ONE_TO_ONE = ("googlenet", "inception_v3")

LIBRARIES: dict[str, Callable[[], Iterable[str]]] = {
    "zoo": lambda: ARCHITECTURES,
    "torchvision": torchvision_names,
    "timm": timm_names,
}


def family(arch: str) -> str:
    """Where an architecture comes from: `zoo`, `torchvision` or `timm`; see `find`."""
    return find(arch)[0]


def find(arch: str) -> tuple[str, str]:
    """Where an architecture comes from, and its name there; its form is left aside.

    The first of zoo, torchvision and timm that has it, or the one that the name says: `timm/resnet18`.

    Raises:
        UsageError: nowhere; names the nearest.
    """
    arch, _ = split(arch)
    if home := next(_homes(arch), None):
        return home, arch.rpartition("/")[2]
    near = difflib.get_close_matches(arch, sorted({*ARCHITECTURES, *torchvision_names(), *timm_names()}), n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    timm = f"{len(timm_names())} of timm (timm.list_models())" if timm_names() else "none of timm, which is not installed"
    raise UsageError(
        f"unknown architecture '{arch}'.{hint} Choices: {', '.join(ARCHITECTURES)}, "
        f"{len(torchvision_names())} of torchvision (torchvision.models.list_models()), {timm}."
    )


def namesakes(arch: str) -> str:
    """What to try where another library has an architecture of that name too, with a space before it; empty where none has."""
    base, _ = split(arch)
    others = [f"--arch {home}/{base}" for home in list(_homes(base))[1:]]
    return f" Another architecture has that name too: {' or '.join(others)}." if others else ""


def _homes(base: str) -> Iterator[str]:
    """The libraries that have an architecture, in the order in which they are looked up; none is imported before it is asked."""
    library, slash, name = base.rpartition("/")
    return (home for home, names in LIBRARIES.items() if (not slash or home == library) and name in names())


def build(arch: str, classes: int, image_size: int | None = None) -> nn.Module:
    """An untrained network in eval mode. Nothing is downloaded.

    Args:
        arch: a name that `family` knows, with or without a form (`harness.models.variants`).
        classes: number of logits.
        image_size: height and width of the input; tells vision transformers, whose weights depend on it.

    Raises:
        UsageError: unknown name, or a size the architecture cannot take.
    """
    base, variants = split(arch)
    return shape(_build(base, classes, image_size), variants, arch).eval()


def _build(arch: str, classes: int, image_size: int | None) -> nn.Module:
    kind, arch = find(arch)
    if kind == "zoo":
        return ARCHITECTURES[arch](classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return (_torchvision if kind == "torchvision" else _timm)(arch, classes, image_size)
        except (ValueError, AssertionError, RuntimeError) as error:
            raise UsageError(f"cannot build {arch} for images of {image_size} pixels: {str(error).splitlines()[0]}") from error


def _torchvision(arch: str, classes: int, image_size: int | None) -> nn.Module:
    import torchvision

    options: dict[str, Any] = {}
    if image_size is not None and arch.startswith("vit_"):
        options["image_size"] = image_size
    if arch in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    network: nn.Module = torchvision.models.get_model(arch, weights=None, num_classes=classes, **options)
    return network


def _timm(arch: str, classes: int, image_size: int | None) -> nn.Module:
    import timm

    if image_size is not None:
        try:
            sized: nn.Module = timm.create_model(arch, pretrained=False, num_classes=classes, img_size=image_size)
            return sized
        except TypeError:
            pass  # a network of convolutions: takes any size, and no such argument
    network: nn.Module = timm.create_model(arch, pretrained=False, num_classes=classes)
    return network


def image_size_of(arch: str) -> int:
    """The input height and width an architecture was published with."""
    kind, arch = find(arch)
    if kind == "zoo":
        return 32
    if kind == "torchvision":
        import torchvision

        return int(torchvision.models.get_model_weights(arch).DEFAULT.transforms().crop_size[0])
    import timm

    configuration = timm.get_pretrained_cfg(arch)
    return int(configuration.input_size[-1]) if configuration is not None else 224


def published_resize(arch: str, size: int) -> Resize | None:
    """How the images of an architecture's published weights are scaled; None where it was published without, or with bars at the edges.

    Args:
        arch: a name that `family` knows.
        size: height and width of the input; another than the published one keeps the proportion of edge and crop.
    """
    kind, arch = find(arch)
    if kind == "torchvision":
        import torchvision

        weights = torchvision.models.get_model_weights(arch).DEFAULT
        published = weights.transforms()
        edge = size * published.resize_size[0] // published.crop_size[0]
        return Resize(edge, published.interpolation.value == "bicubic", False, f"torchvision's {weights}")
    if kind == "timm":
        import timm

        configuration = timm.get_pretrained_cfg(arch)
        if configuration is not None and configuration.crop_mode in ("center", "squash"):
            edge, filtered = math.floor(size / configuration.crop_pct), configuration.interpolation == "bicubic"
            return Resize(edge, filtered, configuration.crop_mode == "squash", f"timm's {arch}")
    return None


def head_keys(arch: str, image_size: int | None = None) -> list[str]:
    """State-dict keys whose first dimension is the number of classes: those that differ between two class counts."""
    one, two = (_shapes(arch, classes, image_size) for classes in (3, 5))
    return [key for key, shape in one.items() if shape != two.get(key)]


def _shapes(arch: str, classes: int, image_size: int | None) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights, on the meta device: nothing is allocated or drawn."""
    try:
        with torch.device("meta"):
            network = build(arch, classes, image_size)
    except (UsageError, NotImplementedError, RuntimeError, TypeError):  # some constructors compute with real values
        network = build(arch, classes, image_size)
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}
