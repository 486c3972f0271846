"""Filter pruning that really removes channels: a smaller dense network, then fine-tuning."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import nn

from harness.compression.job import Job
from harness.errors import UsageError
from harness.models.load import square
from harness.models.normalisation import without_normalisation
from harness.models.probe import parameters, takes
from harness.models.variants import FILTERS, with_variant
from harness.models.weights import network_with

SEARCH_STEPS = 12
TOLERANCE = 0.1  # of the share of parameters left
CANNOT = "filters cannot remove channels of this network"
ELSE = "Methods that leave the channels in place: magnitude, nm24, hydra, radmm, lowbit, qat-int8, ptq-int8."


def filters(job: Job) -> nn.Module:
    """Remove the channels of the smallest L2 norm, equally in every layer, until the share of parameters asked for is gone; fine-tune.

    Channels that depend on one another (residual sums, depthwise layers) go together: torch-pruning finds these groups. A channel's
    importance is that of its group: the sum of |w|^norm over its weights in a layer, averaged over the layers and batch norms of the group.
    With `norm = 1` in a recipe's options this is the group L1 norm. Li et al. judge a filter by its own convolution's weights alone.

    Source: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017; Fang et al., "DepGraph", CVPR 2023.
    """
    job.network = smaller(job.network, job.sparsity, job.input_shape, round(job.option("norm", 2)))
    job.arch = with_variant(job.arch, FILTERS)
    check_form(job)
    return job.train("finetune")


def check_form(job: Job) -> None:
    """The smaller network's weights must be readable as what its architecture says: told before it is fine-tuned.

    Raises:
        UsageError: they are not.
    """
    try:
        weights = without_normalisation(job.network).state_dict()
        network_with(weights, "the smaller network", job.arch, None, square(job.input_shape))
    except UsageError as error:
        raise UsageError(f"filters does not know every kind of layer of this network: {error}") from error


def smaller(network: nn.Module, rate: float, input_shape: tuple[int, int, int], norm: int = 2) -> nn.Module:
    """The network with about `rate` of its parameters removed, by bisection over the share of channels.

    Raises:
        UsageError: the network cannot be made so small; says the nearest.
    """
    whole, low, high = parameters(network)[0], 0.0, 0.98
    best = copy.deepcopy(network)
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        tried = without_channels(network, middle, input_shape, norm)
        if abs(parameters(tried)[0] / whole - (1 - rate)) < abs(parameters(best)[0] / whole - (1 - rate)):
            best = tried
        low, high = (middle, high) if parameters(tried)[0] > (1 - rate) * whole else (low, middle)
    left = parameters(best)[0] / whole
    if abs(left - (1 - rate)) > TOLERANCE * (1 - rate):
        raise UsageError(f"--rate {rate:g}: removing channels cannot reach it; the nearest here is {1 - left:.4f} ({1 / left:.2f}x)")
    return best


def without_channels(network: nn.Module, share: float, input_shape: tuple[int, int, int], norm: int = 2) -> nn.Module:
    """A copy of the network with `share` of each layer's channels removed, those of the smallest L`norm` norm, but no class.

    Raises:
        UsageError: a network whose channels cannot be followed, or that does not run without them.
    """
    copied = copy.deepcopy(network).requires_grad_()
    try:
        _remove(copied, share, input_shape, norm)
    # What torch-pruning raises on operators that it cannot follow, such as ShuffleNet's exchange of channels.
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise UsageError(f"{CANNOT}: torch-pruning cannot follow its channels ({type(error).__name__}: {error}). {ELSE}") from error
    if not takes(copied, input_shape):
        raise UsageError(f"{CANNOT}: without some of its channels it does not run. {ELSE}")
    return copied


def _remove(network: nn.Module, share: float, input_shape: tuple[int, int, int], norm: int) -> None:
    """See `without_channels`; in place."""
    import torch_pruning  # slow to import

    *_, last = (layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # of parameters outside any known layer: `check_form` refuses what went wrong with them
        pruner = torch_pruning.pruner.MagnitudePruner(
            network,
            torch.zeros(1, *input_shape, device=last.weight.device),
            importance=torch_pruning.importance.MagnitudeImportance(p=norm, normalizer=None),
            pruning_ratio=share,
            ignored_layers=[last],
        )
    pruner.step()
