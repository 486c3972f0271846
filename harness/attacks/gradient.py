"""Modules made ready for attack: held still while they are attacked, and in a fast form that makes the gradients.

The fast form serves only to find images. Who is fooled is decided in float32 on the module itself (`harness.attacks.batch`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional as F

from harness.compute.placement import CPU, device, repeatable
from harness.compute.precision import arithmetic, native_bf16
from harness.errors import UsageError, out_of_memory
from harness.models.fold import fold_batch_norms

SAMPLE = 32
TOP1_AGREEMENT = 0.95  # a fast form must name the same class for this share of the sample
COSINE = 0.9  # ... and its gradients must point the same way: median cosine over the sample


@contextmanager
def frozen_eval(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and frozen parameters, so that no weight gradient is computed; both are put back afterwards."""
    # Flags are set one by one: `eval()` is refused by exported programs, and restoring the root would lose the children's.
    modes = [(part, part.training) for part in module.modules()]
    frozen = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        for part, _ in modes:
            part.training = False
        for parameter in frozen:
            parameter.requires_grad_(False)
        with repeatable():
            yield
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter in frozen:
            parameter.requires_grad_(True)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's generator started at `seed`; the caller's state is put back afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


class FastForm(nn.Module):
    """A frozen module run channels-last where gradients are fastest, its convolutions and matrix products in bfloat16 if `bf16`.

    Logits are float32, on the form's device.
    """

    def __init__(self, module: nn.Module, bf16: bool) -> None:
        super().__init__()
        self.device = device()
        self.module = module.requires_grad_(False).to(self.device).to(memory_format=torch.channels_last)
        self.bf16 = bf16
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> logits (n, classes)."""
        with arithmetic(self.device.type, self.bf16):
            logits: Tensor = self.module(images.to(self.device).contiguous(memory_format=torch.channels_last))
        return logits.float()


def in_float32(form: nn.Module) -> nn.Module:
    """The same network, weights shared, in float32: the form itself, unless it is one in bfloat16."""
    return FastForm(form.module, False) if isinstance(form, FastForm) and form.bf16 else form


def fast(module: nn.Module, sample: Tensor, *, bf16: bool = True) -> nn.Module:
    """The fastest form of `module` (in evaluation mode) that still answers like it on `sample`; in the worst case itself.

    Tried in turn: batch norms folded into the convolutions, then not; bfloat16 where the CPU has it, then float32. On a GPU float32
    alone: what bfloat16 leaves undecided is attacked again on the module itself, and that is on the CPU. A copy is made, the module is
    untouched. Measured on a ResNet-18x16, images through forward and backward per second of one core: 275 as Foolbox calls it, 390
    frozen, 580 and channels-last, 610 and folded, 1,200 and bfloat16.

    Args:
        sample: float32 (n, c, h, w); the first 32 are used.
        bf16: allow it. An attack that measures distances to the boundary must see the boundary in float32.

    Raises:
        UsageError: the module has no gradient that PyTorch can take.
    """
    sample = sample[:SAMPLE]
    try:
        logits, gradient = _answer(module, sample)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        reason = str(error).strip().splitlines()[0].split("; ")[0][:200]
        raise UsageError(
            f"the model answers, but PyTorch cannot take its gradient, which attacks need: {reason}. Write what it changes in place as a "
            "new value (y = 2 * x for x *= 2); a .pt2 saved after .run_decompositions() has it so."
        ) from error
    makers: tuple[Callable[[nn.Module], nn.Module], ...] = (_folded, copy.deepcopy)
    may_reduce = bf16 and device() == CPU and native_bf16()
    for make in makers:
        for reduced in (True, False) if may_reduce else (False,):
            try:
                form = FastForm(make(module), reduced)
                got_logits, got_gradient = _answer(form, sample)
            # What tracing, copying and autocast raise on an architecture that they cannot take.
            except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
                continue
            same = (got_logits.argmax(1) == logits.argmax(1)).float().mean()
            cosine = (_directions(got_gradient) * _directions(gradient)).sum(1).median()
            if same >= TOP1_AGREEMENT and cosine >= COSINE:
                return form
    return module


def _folded(module: nn.Module) -> nn.Module:
    """A copy with batch norms folded, whether the module has layers or was read from a file."""
    folded: nn.Module = fuse(fold_batch_norms(module))
    return folded


def place(form: nn.Module) -> torch.device:
    """Where an attack on `form` works: on the form's own device; modules that are no fast form are attacked on the CPU."""
    return form.device if isinstance(form, FastForm) else CPU


def _directions(gradient: Tensor) -> Tensor:
    """Each image's gradient scaled to length 1, however small it is; zero stays zero."""
    return F.normalize(gradient.flatten(1).double(), eps=1e-30)


def logits_of(module: nn.Module, images: Tensor) -> Tensor:
    """The module's logits, (n, classes).

    Raises:
        UsageError: the output has another shape.
    """
    logits: Tensor = module(images)
    if logits.ndim != 2 or len(logits) != len(images) or logits.shape[1] < 2:
        raise UsageError(f"the model's output has shape {tuple(logits.shape)}; expected logits ({len(images)}, classes >= 2)")
    return logits


def _answer(module: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of the cross-entropy against the predicted class, both on the images' device."""
    with torch.enable_grad():
        images = images.detach().clone().requires_grad_()
        logits = logits_of(module, images)
        gradient = loss_gradient(logits, logits.argmax(1), images)
    return logits.detach().to(images.device), gradient


def loss_gradient(logits: Tensor, labels: Tensor, images: Tensor) -> Tensor:
    """Gradient of the summed cross-entropy with respect to the images that the logits were computed from."""
    return torch.autograd.grad(F.cross_entropy(led_back(logits, images), labels, reduction="sum"), images)[0]


def led_back(logits: Tensor, images: Tensor) -> Tensor:
    """The logits (n, classes), with a gradient of zero where they have none.

    Behind a comparison, or integers that do not come back, nothing leads from a network's answers to its images (n, c, h, w). Such a
    gradient is zero, as a gate then says, and no reason to end.
    """
    if logits.requires_grad or not images.requires_grad or not torch.is_grad_enabled():
        return logits
    return logits + 0 * images.flatten(1).sum(1, keepdim=True).to(logits.device)
