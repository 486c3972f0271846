"""Weights under other names: the refusal's own line makes them fit. Architectures of two libraries, and heads that only training uses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.errors import UsageError
from harness.models.architectures import build, find
from harness.models.load import Twin, load_twin
from harness.models.normalisation import with_normalisation
from harness.models.probe import parameters
from harness.models.weights import network_from

Weights = dict[str, Tensor]


def prefixed(prefix: str, **more: Tensor) -> Callable[[Weights], Weights]:
    return lambda weights: {f"{prefix}{key}": value for key, value in weights.items()} | more


def masked(weights: Weights) -> Weights:
    convolutions = [key for key, value in weights.items() if value.ndim == 4]
    masks = {f"{key}_mask": (weights[key] > 0).float() for key in convolutions}
    return {(f"{key}_orig" if key in convolutions else key): value for key, value in weights.items()} | masks


def two_copies(weights: Weights) -> Weights:
    return prefixed("state.ema.")(weights) | prefixed("state.model.")(weights)


def old_densenet(weights: Weights) -> Weights:
    return {re.sub(r"(\.denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value for key, value in weights.items()}


FORMS: dict[str, tuple[str, Callable[[Weights], Weights], str]] = {
    "data parallel": ("mobilenetv2-cifar-x0.25", prefixed("module."), "behind 'module.'"),
    "averaged": ("mobilenetv2-cifar-x0.25", prefixed("module.", n_averaged=torch.tensor(7)), "behind 'module.'"),
    "lightning": ("mobilenetv2-cifar-x0.25", prefixed("model.net.", loss_weight=torch.ones(4)), "behind 'model.net.'"),
    "nested": ("resnet8", prefixed("_orig_mod.module.backbone."), "behind '_orig_mod.module.backbone.'"),
    "two copies": ("resnet8", two_copies, "behind 'state.ema.' and behind 'state.model.'"),
    "a copy beside the weights": ("resnet8", lambda weights: weights | prefixed("teacher.")(weights), "behind 'teacher.' and behind ''"),
    "pruning": ("resnet8", masked, "masks are still apart"),
    "pruning behind a prefix": ("resnet8", lambda weights: prefixed("module.")(masked(weights)), "behind 'module.'"),
    "old densenet": ("densenet121", old_densenet, "Convert them"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_line_in_the_refusal_converts_the_weights(form: str, tmp_path: Path) -> None:
    arch, change, words = FORMS[form]
    torch.manual_seed(0)
    weights = build(arch, 5).state_dict()
    save_file({key: value.clone() for key, value in change(weights).items()}, tmp_path / "given.safetensors")
    with pytest.raises(UsageError) as caught:
        network_from(tmp_path / "given.safetensors", arch, None, None)
    text = str(caught.value)
    assert words in text
    line = text.partition("Convert them: ")[2].replace("'FILE'", repr(str(tmp_path / "given.safetensors")))
    exec(line.replace("'NEW'", repr(str(tmp_path / "new.safetensors"))), {"safetensors": safetensors, "re": re})
    found = load_file(tmp_path / "new.safetensors")
    network_from(tmp_path / "new.safetensors", arch, None, None)
    for key, value in weights.items():
        expected = value * (value > 0) if "pruning" in form and value.ndim == 4 else value
        torch.testing.assert_close(found[key], expected, rtol=0, atol=0)


def test_no_line_is_given_for_weights_of_another_network(tmp_path: Path) -> None:
    save_file(build("resnet8", 5).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(UsageError) as caught:
        network_from(tmp_path / "other.safetensors", "resnet18", None, None)
    assert "Convert" not in str(caught.value) and "--arch timm/resnet18" in str(caught.value)


def test_a_library_may_be_named() -> None:
    assert [find(name) for name in ("resnet18", "timm/resnet18", "torchvision/resnet18", "zoo/resnet8")] == [
        ("torchvision", "resnet18"), ("timm", "resnet18"), ("torchvision", "resnet18"), ("zoo", "resnet8"),
    ]  # fmt: skip
    assert type(build("timm/resnet18", 3)).__module__.startswith("timm.")
    with pytest.raises(UsageError, match="unknown architecture 'timm/resnet8'"):
        find("timm/resnet8")


@pytest.mark.parametrize(("arch", "size"), [("googlenet", 64), ("inception_v3", 96)])
def test_heads_that_only_training_uses_may_be_absent(arch: str, size: int, tmp_path: Path) -> None:
    network = torchvision.models.get_model(arch, num_classes=4, init_weights=False).eval()
    heads = ("AuxLogits.", "aux1.", "aux2.")
    kept = {key: value.clone() for key, value in network.state_dict().items() if not key.startswith(heads)}
    assert len(kept) < len(network.state_dict())
    save_file(kept, tmp_path / "bare.safetensors")
    save_file(network.state_dict(), tmp_path / "whole.safetensors")
    found, whole = (network_from(tmp_path / f"{name}.safetensors", arch, None, None) for name in ("bare", "whole"))
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(found(x), network(x))
        torch.testing.assert_close(whole(x), network(x))
    assert parameters(whole) == parameters(found), "heads that nothing deployed has are no parameters of it"


def test_weights_that_take_pixels_of_minus_one_to_one_are_told(tmp_path: Path) -> None:
    """torchvision loads its own with `transform_input`, of which the file holds nothing."""
    network = torchvision.models.googlenet(num_classes=4, init_weights=False, transform_input=True).eval()
    save_file(network.state_dict(), tmp_path / "theirs.safetensors")

    def load(normalize: str | None) -> Twin:
        return load_twin(str(tmp_path / "theirs.safetensors"), arch="googlenet", image_size=64, normalize=normalize)

    told, right = load("imagenet"), load("0.5/0.5")
    assert "give --normalize 0.5/0.5" in told.remarks[0] and load(None).remarks == told.remarks and not right.remarks
    x = torch.rand(2, 3, 8, 8)
    wanted = network._transform_input(with_normalisation(torch.nn.Identity(), "imagenet", 3)(x))
    torch.testing.assert_close(right.module.normalize(x), wanted)  # type: ignore[operator]


@pytest.mark.parametrize("arch", ["mnasnet0_5", "mnasnet1_0"])
def test_weights_are_of_the_present_version(arch: str, tmp_path: Path) -> None:
    """torchvision's MNASNet asks for it, which safetensors does not tell."""
    network = torchvision.models.get_model(arch, num_classes=4).eval()
    save_file(network.state_dict(), tmp_path / "mnasnet.safetensors")
    found = network_from(tmp_path / "mnasnet.safetensors", arch, None, None)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found(x), network(x))
