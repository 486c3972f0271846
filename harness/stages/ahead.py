"""TensorRT engines built ahead of time on this machine: by the real parser and builder, and not run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from devices.worker.tensorrt import TARGETS, UNSHOWN, BuildOptions, RejectedError, TensorrtPlan, build_plans, load_library
from export.errors import ExportError
from export.flavours import FLAVOURS
from export.lint import rule_for
from harness.errors import UsageError
from harness.stages.engines import Steps
from harness.stages.export import Exported

RUNTIME = "tensorrt"
ALIKE = 0.01  # sizes of two plans that differ by no more: manifests and names alone can


def check_ahead(target: str, builds: int, flavours: tuple[str, ...]) -> None:
    """Refuse what cannot be built, before any work.

    Raises:
        UsageError: a number of builds below one, or no flavour for TensorRT.
        ExportError: an unknown target, or TensorRT for RTX is not installed.
    """
    BuildOptions(target=target)
    if builds < 1:
        raise UsageError(f"--builds {builds}: expected a whole number of at least 1")
    if not any(name in FLAVOURS and FLAVOURS[name].runtime == RUNTIME for name in flavours):
        choices = ", ".join(name for name, flavour in FLAVOURS.items() if flavour.runtime == RUNTIME)
        raise UsageError(
            f"--aot {target} builds TensorRT engines, and none of the flavours {', '.join(flavours)} is for it. Add one of {choices}."
        )
    load_library(ahead=True)


def build_ahead(exported: list[Exported], target: str, builds: int, folder: Path, say: Callable[[str], None]) -> list[TensorrtPlan]:
    """Build the engines of every `trt-*` artefact for a compute capability, into `folder`.

    Raises:
        ExportError: TensorRT for RTX rejects a network; with the lint rule that would have caught it.
    """
    plans = []
    for artefact in (part.artefact for part in exported if part.artefact.runtime == RUNTIME):
        options = BuildOptions(target=target, sparse=bool(artefact.options.get("sparse")))
        try:
            with Steps(f"{artefact.flavour} for {target}") as steps:
                built = build_plans(artefact.path, folder, options, count=builds, watch=steps)
        except RejectedError as error:
            rule = rule_for(error.words)
            raise ExportError(f"{error} It is rule {rule}." if rule else str(error)) from error
        for plan in built:
            say(f"{artefact.flavour} built ahead of time for {target} ({TARGETS[target]}), not run: {describe(plan)}")
        plans += built
    for plan in plans:
        if remark := of_sparsity(plan, plans):
            say(remark)
    return plans


def of_sparsity(plan: TensorrtPlan, plans: Sequence[TensorrtPlan]) -> str:
    """What a plan that may use sparse kernels does not show; "" of one that may not."""
    if not plan.options["sparse"]:
        return ""
    alike = [other.path.name for other in plans if not other.options["sparse"] and abs(other.bytes - plan.bytes) <= ALIKE * plan.bytes]
    size = f" It is as large as {alike[0]}, which has none." if alike else ""
    return f"{plan.path.name}: {UNSHOWN}.{size}"


def describe(plan: TensorrtPlan) -> str:
    """One engine in a line: size, layers, seconds, what built it, and what the builder said against it."""
    facts = f"{plan.bytes / 1024:.0f} KiB of {plan.layers} layers in {plan.seconds:.1f} s by {plan.library} {plan.version}"
    return "; ".join([facts, *plan.warnings])
