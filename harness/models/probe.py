"""What a twin must be before anything is measured on it, tried on a probe batch; and what it costs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from harness.errors import UsageError, out_of_memory

PROBES = 3
ONE_SCORE = (
    "expected logits (n, classes), at least two classes. One score z of class 1 against class 0, before any sigmoid, is two logits: "
    "z = z.reshape(-1, 1); return torch.cat([0 * z, z], 1)."
)
# How a dynamic batch is asked for, by the kind of file.
DYNAMIC = {
    "pt2": " Export it again with a dynamic batch: torch.export.export(..., dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).",
    "onnx": " Export it again with a dynamic batch, all of it in one file: torch.onnx.export(network.eval(), (images,), 'model.onnx', "
    "dynamo=True, external_data=False, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).",
}
TOLERANCE = 1e-3  # of the largest logit: above any float32 summation order, far below the effect of batch statistics or dropout
# Operators of convolutions and linear layers: the places among their arguments where the weight may stand, the usual one first.
WEIGHT_OF = {torch.ops.aten.convolution: (1,), torch.ops.aten.addmm: (2, 1), torch.ops.aten.mm: (1, 0)}


def takes(network: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    """Whether a network runs on images of that shape, (channels, height, width)."""
    try:
        with torch.no_grad():
            network(torch.zeros(1, *input_shape))
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError, ZeroDivisionError) as error:
        if out_of_memory(error):
            raise
        return False
    return True


def probe(network: nn.Module, input_shape: tuple[int, int, int], name: str, source: str = "") -> int:
    """Check a classifier on random images; returns its number of classes.

    Args:
        network: in eval mode.
        input_shape: (channels, height, width).
        name: for errors.
        source: the kind of its file, for the remedy of a fixed batch.

    Raises:
        UsageError: it does not run, its output is not finite logits of shape (n, classes), looks like probabilities, changes from call
            to call, or depends on the batch an image is in, or it changes its own weights or buffers.
    """
    images = torch.rand(PROBES, *input_shape, generator=torch.Generator().manual_seed(0))
    fixed = f"the batch is fixed in the network.{DYNAMIC.get(source, '')}"
    untouched, held = images.clone(), _held(network)
    with torch.no_grad():
        logits = _run(network, images, name, fixed)
        if not torch.equal(images, untouched):
            raise UsageError(f"{name} changes the images that it is given, in place. Let its forward begin with x = x.clone().")
        again = _run(network, images, name, fixed)
        # As many images, so that the kernels are the same: a quantized network magnifies what another summation order changes.
        elsewhere = _run(network, torch.cat([images[:1], 1 - images[1:]]), name, fixed)
        single = _run(network, images[:1], name, fixed)
    _check_output(logits, PROBES, name, fixed)
    _check_output(single, 1, name, fixed)
    if single.shape[1] != logits.shape[1]:
        raise UsageError(f"{name} returns {tuple(single.shape)} for one image and {tuple(logits.shape)} for {PROBES}; {fixed}")
    bound = TOLERANCE * float(logits.abs().max().clamp(min=1e-3))
    if float((again - logits).abs().max()) > bound:
        raise UsageError(f"{name} answers differently each time; it must be deterministic. Export it in eval mode (dropout off).")
    if float((elsewhere - logits)[:1].abs().max()) > bound:
        raise UsageError(
            f"{name}: an image's logits depend on the rest of its batch. Export it in eval mode (batch norm with stored statistics)."
        )
    if changed := [key for key, (tensor, writes) in _held(network).items() if held[key][0] is not tensor or held[key][1] != writes]:
        raise UsageError(
            f"{name} changes its own {changed[0]} whenever it answers, so that its answers may depend on what it was asked before. Take "
            "that (a counter, statistics of what it saw) out of its forward, and export it again in eval mode."
        )
    _check_logits(logits, name)
    return int(logits.shape[1])


def _held(network: nn.Module) -> dict[str, tuple[Tensor, int]]:
    """Every parameter and buffer by name: the tensor, and how often it was written to."""
    return {
        name: (tensor, 0 if tensor.is_inference() else tensor._version)
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }


def _run(network: nn.Module, images: Tensor, name: str, fixed: str) -> Tensor:
    shape = tuple(images.shape)
    try:
        output = network(images)
    except Exception as error:  # the user's network can fail in any way
        if out_of_memory(error):
            raise
        n, *image = shape
        if n > 1 and takes(network, (image[0], image[1], image[2])):
            raise UsageError(f"{name} runs on one image, not on {n}; {fixed}") from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"{name} does not run on float32 images {shape}: {reason}. Another input size (--image-size), or a fixed batch?"
        ) from error
    if not isinstance(output, Tensor):
        raise UsageError(f"{name} returns {type(output).__name__}; expected one tensor of logits (n, classes)")
    return output


def _check_output(output: Tensor, n: int, name: str, fixed: str) -> None:
    got = f"{str(output.dtype).removeprefix('torch.')} {tuple(output.shape)}"
    if output.shape[:1] == (n,) and output.numel() == n:
        raise UsageError(f"{name} returns {got} for {n} images; {ONE_SCORE}")
    if output.ndim != 2:
        one_pixel = output.ndim > 2 and output[0].numel() == output.shape[1]
        what_to_do = "Flatten them at its end." if one_pixel else "Is it a classifier?"
        raise UsageError(f"{name} returns {got} for {n} images; expected logits ({n}, classes). {what_to_do}")
    if output.shape[0] != n:
        raise UsageError(f"{name} returns {got} for {n} images; {fixed}")
    if output.dtype != torch.float32:
        what_to_do = "Let it return logits.float()." if output.dtype.is_floating_point else "Is it a classifier?"
        raise UsageError(f"{name} returns {got} for {n} images; expected float32 logits ({n}, classes). {what_to_do}")
    if not bool(output.isfinite().all()):
        raise UsageError(f"{name} returns NaN or infinity on images in [0, 1]; its weights are damaged, or the input scale is another")


def _check_logits(logits: Tensor, name: str) -> None:
    sums = logits.sum(1)
    if bool((logits >= 0).all()) and any(bool((sums - total).abs().max() < 1e-3 * total) for total in (1, 100)):
        raise UsageError(
            f"{name} returns probabilities (rows are non-negative and sum to {float(sums[0]):.0f}); expected logits. "
            "Remove the softmax at its end: attacks need the logits' gradients."
        )


def parameters(network: nn.Module) -> tuple[int, int]:
    """(parameters, those that are not zero). Buffers do not count."""
    tensors = list(network.parameters())
    return sum(t.numel() for t in tensors), sum(int(t.count_nonzero()) for t in tensors)


def macs(network: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image; products of two activations are not counted."""
    return macs_and_zeros(network, input_shape)[0]


def macs_and_zeros(network: nn.Module, input_shape: tuple[int, int, int]) -> tuple[int, int]:
    """The same, and those of them whose weight is zero."""
    counted, fused = _Products(network), torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operator for a whole attention layer, which is not looked into
    try:
        with torch.no_grad(), counted:
            network(torch.zeros(1, *input_shape))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counted.macs, counted.of_zeros


class _Products(TorchDispatchMode):
    """Adds up multiply-accumulates where they are computed: some layers lend their weights to functions, and are never called."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = self.of_zeros = 0
        self.own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers()) if tensor.numel()}

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        result = function(*arguments, **(keywords or {}))
        if (weight := self._weight(function.overloadpacket, arguments)) is not None:
            found = int(flop_registry[function.overloadpacket](*arguments, out_val=result)) // 2
            self.macs += found
            self.of_zeros += found // weight.numel() * (weight.numel() - int(weight.count_nonzero()))
        return result

    def _weight(self, operator: Any, arguments: Any) -> Tensor | None:
        """The weight of a convolution or linear layer, None of any other operator. In a batch of products it is the matrix that is
        repeated for all: so frozen weights on a transposed view, as of windows, are multiplied. Or one of the network's: an einsum's."""
        if operator is torch.ops.aten.bmm:
            matrices: tuple[Tensor, ...] = arguments
            return next((each for each in matrices if (each.shape[0] > 1 and each.stride(0) == 0) or self._is_own(each)), None)
        if operator not in WEIGHT_OF:
            return None
        candidates: list[Tensor] = [arguments[place] for place in WEIGHT_OF[operator]]
        return next(filter(self._is_own, candidates), candidates[0])

    def _is_own(self, tensor: Tensor) -> bool:
        """Whether it is a parameter or buffer of the network, or a view of one."""
        return tensor.untyped_storage().data_ptr() in self.own
