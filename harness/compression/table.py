"""The compression methods: one table entry each, the code in `methods/`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from harness.compression.job import Job
from harness.compression.methods import distillation
from harness.compression.methods.filters import filters
from harness.compression.methods.hydra import hydra
from harness.compression.methods.lowbit import lowbit, ptq_int8, qat_int8
from harness.compression.methods.magnitude import magnitude
from harness.compression.methods.radmm import radmm
from harness.compression.rate import bits, half, no_rate, sparsity
from harness.errors import unknown


@dataclass(frozen=True)
class Method:
    """A compression method.

    Attributes:
        run: job -> the compressed network, baked: plain weights, nothing parametrized.
        summary: one line for `--help` and cards.
        stages: what it trains, in order; each is a table of the recipe.
        rate: checks the text of `--rate`.
        default: the rate where none is given.
        patterns: the sparsity patterns it knows; the first is the default.
        teachers: the roles of the networks it learns from; empty where it compresses the given network itself.
        constants: that a recipe may set, by their names in the paper.
        objective: the one that a recipe must name where the method's loss takes its place; it says how epochs are judged.
    """

    run: Callable[[Job], nn.Module]
    summary: str
    stages: tuple[str, ...]
    rate: Callable[[str], object]
    default: str
    patterns: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    objective: str | None = None


def _distillation(name: str, summary: str, constants: str, *teachers: str, objective: str = "pgd-at") -> Method:
    run = distillation.METHODS[name]
    return Method(run, summary, ("distil",), no_rate, "", teachers=teachers, constants=tuple(constants.split()), objective=objective)


UNSTRUCTURED = ("irregular", "filter", "column")

METHODS: dict[str, Method] = {
    "radmm": Method(
        radmm, "RAP-ADMM: robust pruning by ADMM", ("admm", "retrain"), sparsity, "8x", UNSTRUCTURED, constants=("rho", "growth", "every")
    ),
    "hydra": Method(hydra, "HYDRA: robust pruning by learnt scores", ("prune", "finetune"), sparsity, "0.9", (*UNSTRUCTURED, "2:4")),
    "magnitude": Method(magnitude, "magnitude pruning, fine-tuned", ("finetune",), sparsity, "0.9", UNSTRUCTURED),
    "nm24": Method(magnitude, "2:4 structured sparsity by magnitude, fine-tuned", ("finetune",), half, "0.5", ("2:4",)),
    "filters": Method(filters, "channels really removed, fine-tuned", ("finetune",), sparsity, "2x", constants=("norm",)),
    "lowbit": Method(lowbit, "DoReFa weights and activations of few bits", ("train",), bits, "w4a4"),
    "ptq-int8": Method(ptq_int8, "weights rounded to INT8, no training", (), no_rate, ""),
    "qat-int8": Method(qat_int8, "quantization-aware fine-tuning for INT8", ("finetune",), no_rate, ""),
    "kd": _distillation("kd", "plain distillation into a student", "alpha temperature", "robust", objective="standard"),
    "ard": _distillation("ard", "Adversarially Robust Distillation", "alpha temperature kl_weight", "robust"),
    "rslad": _distillation("rslad", "Robust Soft Label Adversarial Distillation", "kl_weight", "robust"),
    "iad-1": _distillation("iad-1", "Introspective Adversarial Distillation I", "alpha beta warmup_share", "robust"),
    "iad-2": _distillation("iad-2", "Introspective Adversarial Distillation II", "alpha_1 alpha_2 beta warmup_share", "robust", "standard"),
}


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        UsageError: unknown; lists the choices.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]
