"""Weights out of a safetensors file into a network of a named architecture: every key must fit, none may be missing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.errors import UsageError
from harness.models.architectures import build, head_keys, namesakes
from harness.models.kinds import no_safetensors
from harness.models.packed import is_packed, unpack
from harness.models.remedies import remedy
from harness.models.variants import FILTERS, fit_to, split

WEIGHT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
AUXILIARY = ("AuxLogits", "aux1", "aux2")
SHOWN = 3  # keys named in an error; the rest are counted


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        UsageError: unreadable, truncated, or not of that format.
    """
    try:
        if not path.is_file():
            raise UsageError(f"there is no file {path}" if not path.exists() else f"{path} is not a file")
        weights = unpack(load_file(path)) if is_packed(path) else load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise no_safetensors(path, error) from error
    if not weights:
        raise UsageError(f"{path} holds no tensor")
    return weights


def network_from(path: Path, arch: str, classes: int | None, image_size: int | None) -> nn.Module:
    """The architecture with the weights of a safetensors file; see `network_with`."""
    return network_with(read_weights(path), str(path), arch, classes, image_size)


def network_with(weights: dict[str, Tensor], place: str, arch: str, classes: int | None, image_size: int | None) -> nn.Module:
    """The architecture with the weights, in eval mode. Never returns a weight that did not come from them.

    Args:
        weights: by name.
        place: where they come from, for messages.
        arch: see `harness.models.architectures`.
        classes: number of logits, or None to read it from the weights of the last layer.
        image_size: see `build`.

    Raises:
        UsageError: unknown architecture, or keys and shapes that do not fit it (named).
    """
    found = classes_in(weights, arch, image_size)
    if classes is not None and found is not None and classes != found:
        raise UsageError(f"{place} has {found} classes, not {classes}")
    network = build(arch, found or classes or 1000, image_size)
    leave_out_auxiliary(network, weights)
    if FILTERS in split(arch)[1]:
        fit_to(network, weights)
    check_keys(network.state_dict(), weights, place, arch)
    refuse_non_finite(weights, place)
    network.load_state_dict(_of_this_version(weights, network), strict=False)
    leave_out_auxiliary(network, {})  # checked like all others, but no deployed network has them, and no count of it
    return network


def _of_this_version(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The weights, said to be of the modules' present versions, as their names and shapes are. Unsaid, torchvision's MNASNet refuses them,
    and others take them for older ones and change them."""
    state = OrderedDict(weights)
    state._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]
    return state


def leave_out_auxiliary(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Drop heads that only training uses (GoogLeNet's, Inception's) where the weights come without them, as torchvision saves them too."""
    for head in AUXILIARY:
        if getattr(network, head, None) is not None and not any(key.startswith(f"{head}.") for key in weights):
            setattr(network, head, None)
            network.aux_logits = False  # type: ignore[assignment]


def classes_in(weights: dict[str, Tensor], arch: str, image_size: int | None) -> int | None:
    """Number of classes of the file's last layer; None where the file has no such layer."""
    counts = {weights[key].shape[0] for key in head_keys(arch, image_size) if key in weights and weights[key].ndim}
    return counts.pop() if len(counts) == 1 else None


def check_keys(expected: dict[str, Tensor], weights: dict[str, Tensor], place: str, arch: str) -> None:
    """Keys and shapes must be equal, floats be floats; only batch-norm step counters, which inference never reads, may be absent.

    Raises:
        UsageError: they are not; lists missing, unexpected, misshapen and mistyped ones.
    """
    missing = [key for key in expected if key not in weights and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in weights if key not in expected]
    shapes = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in weights and weights[key].shape != tensor.shape
    ]
    types = [
        f"{key} {str(weights[key].dtype).removeprefix('torch.')}"
        for key, tensor in expected.items()
        if key in weights and tensor.is_floating_point() and weights[key].dtype not in WEIGHT_TYPES
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes), ("of a type that is no weight's", types))
    faults = [f"{len(keys)} {what} ({_some(keys)})" for what, keys in found if keys]
    if faults:
        hint = (remedy(expected, weights) or namesakes(arch)) if missing or unexpected else ""
        raise UsageError(f"the weights in {place} do not fit --arch {arch}: {'; '.join(faults)}.{hint}")


def refuse_non_finite(weights: Mapping[str, Tensor], place: str, *, infinite: bool = False) -> None:
    """Refuse NaN and infinity, which a layer often hides: an infinite variance silences its channel without a word.

    Args:
        weights: by name.
        place: where they come from, for messages.
        infinite: infinity alone is accepted.

    Raises:
        UsageError: names the tensor and counts what is not finite in it.
    """
    for key, tensor in weights.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        wrong = tensor.isnan() if infinite else ~tensor.isfinite()
        if bool(wrong.any()):
            what = "NaN" if infinite else "NaN or infinity"
            raise UsageError(
                f"{place}: {int(wrong.sum()):,} of the {tensor.numel():,} values of '{key}' are {what}. "
                "Saved in float16, values above 65,504 become infinite: save it in float32 or bfloat16. Else the training diverged."
            )


def _some(keys: Iterable[str]) -> str:
    listed = list(keys)
    return ", ".join(listed[:SHOWN]) + (", …" if len(listed) > SHOWN else "")
