"""`harness compress`: check everything, run the method, pack the result, count it and measure it."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from harness.compression.count import ratios, size
from harness.compression.job import Job
from harness.compression.recipe import CompressionRecipe, load_recipe
from harness.compression.table import Method, find_method
from harness.data.dataset import Dataset
from harness.data.load import load_all, load_data
from harness.errors import UsageError
from harness.models.architectures import build, family
from harness.models.load import Twin, load_twin
from harness.models.packed import pack, round_trip
from harness.run import check_space
from harness.training.card import identity, measured, training
from harness.training.train import accuracy

CLAIM = "8/255"  # of a model whose card names no radius
TEACHER_IMAGES = 500
ROBUST = 0.2  # a teacher below this accuracy under a short PGD is not robust
COPIES = 6  # of the network in a checkpoint: weights, their average, momentum, the best, and the file being written beside the old one


class Request(BaseModel):
    """What the user asked for. `model`, `arch`, … are as in `load_twin`; the rest as in `harness compress --help`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    method: str
    rate: str | None = None
    pattern: str | None = None
    recipe: str = "cpu"
    until: str | None = None
    student: str | None = None
    standard_teacher: str | None = None
    data: str = "cifar10"
    test: str = "cifar10-sample"
    arch: str | None = None
    seed: int = 0


def compress(request: Request, out: Path, work: Path | None = None) -> Path:
    """Compress a model and write OUT (packed safetensors) and its card beside it, OUT with .json.

    Args:
        request: what to do.
        out: FILE.safetensors.
        work: folder for the stages' checkpoints, kept; by default one beside `out`, removed at the end. A stage that is finished there is
            not trained again.

    Returns:
        The card's path.

    Raises:
        UsageError: something the user can mend, found before any training.
        UntrustedError: training diverged, or a checkpoint is of another request.
    """
    method = find_method(request.method)
    rate, pattern = check(request, method, out)
    recipe = load_recipe(request.recipe, request.method, method.stages, request.seed)
    twin = load_twin(request.model, arch=request.arch)
    data = load_all(request.data)
    test, _ = load_data(request.test, input_shape=twin.input_shape, classes=twin.classes, seed=request.seed)
    check_fit(twin, data)
    folder = work or out.with_suffix(".stages")
    check_space(out.parent, COPIES * 4 * twin.parameters * len(recipe.stages))
    job = Job(*start(request, twin, method), twin.input_shape, data, rate, recipe, folder, pattern=pattern, until=request.until)
    job.teachers = teachers(request, method, twin, job)
    network = method.run(job).eval()
    network.load_state_dict(round_trip(network.state_dict()))
    out.parent.mkdir(parents=True, exist_ok=True)
    pack(network.state_dict(), out)
    card = write_card(request, job, twin, test, out)
    if work is None:
        shutil.rmtree(folder, ignore_errors=True)
    return card


def check(request: Request, method: Method, out: Path) -> tuple[str, str]:
    """The rate and the pattern to use, after checking all that needs no file.

    Raises:
        UsageError: see `compress`.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: expected a name that ends in .safetensors")
    rate = method.default if request.rate is None else request.rate
    method.rate(rate)
    pattern = request.pattern or (method.patterns or ("irregular",))[0]
    if request.pattern and request.pattern not in method.patterns:
        raise UsageError(f"--pattern {request.pattern}: {request.method} knows {', '.join(method.patterns) or 'no pattern'}")
    if request.until is not None and request.until not in method.stages:
        raise UsageError(f"--until {request.until}: the stages of {request.method} are {', '.join(method.stages) or 'none'}")
    if request.student is not None:
        if not method.teachers:
            raise UsageError(f"--student {request.student} is for distillation; {request.method} compresses the model itself")
        family(request.student)
    if ("standard" in method.teachers) != (request.standard_teacher is not None):
        need = (
            "needs --standard-teacher MODEL, trained without an adversary" if "standard" in method.teachers else "has no --standard-teacher"
        )
        raise UsageError(f"{request.method} {need}")
    return rate, pattern


def check_fit(twin: Twin, data: Dataset) -> None:
    """The training images must be what the model classifies.

    Raises:
        UsageError: other classes or another size, or a model without a named architecture.
    """
    if twin.arch is None:
        raise UsageError(f"{twin.name} ({twin.source}) has no named architecture to save weights for; give FILE.safetensors with --arch")
    if twin.classes != data.classes:
        raise UsageError(f"{twin.name} has {twin.classes} classes, {data.name} has {data.classes}")
    if (shape := (data.images.shape[3], *data.images.shape[1:3])) != twin.input_shape:
        raise UsageError(f"{twin.name} takes images of {twin.input_shape}, {data.name} has {shape} (channels, height, width)")


def start(request: Request, twin: Twin, method: Method) -> tuple[nn.Module, str]:
    """The network that is trained, and its architecture: the twin itself, or a fresh student."""
    assert twin.arch is not None  # noqa: S101  # check_fit
    if not method.teachers:
        copied = load_twin(request.model, arch=request.arch).module
        return copied.requires_grad_(), twin.arch
    arch = request.student or twin.arch
    torch.manual_seed(request.seed)
    return build(arch, twin.classes), arch


def teachers(request: Request, method: Method, twin: Twin, job: Job) -> dict[str, nn.Module]:
    """The networks to learn from, by role; warns where the robust one is not.

    Raises:
        UsageError: the standard teacher has other classes or takes other images.
    """
    if not method.teachers:
        return {}
    found = {"robust": twin.module}
    if "robust" in method.teachers and request.method != "kd":
        stage = next(iter(job.recipe.stages.values()))
        few = job.data.subset(np.arange(min(TEACHER_IMAGES, len(job.data))))
        if (robust := accuracy(twin.module, few, stage, robust=True)) < ROBUST:
            print(
                f"warning: the teacher {twin.name} is not robust: {robust:.1%} of {len(few)} training images under a short PGD at "
                f"{stage.eps:g}/255. A student cannot learn from it what it does not have.",
                file=sys.stderr,
            )
    if request.standard_teacher is not None:
        standard = load_twin(request.standard_teacher, classes=twin.classes)
        if standard.input_shape != twin.input_shape:
            raise UsageError(
                f"--standard-teacher {standard.name} takes images of {standard.input_shape}, {twin.name} of {twin.input_shape}"
            )
        found["standard"] = standard.module
    return found


def write_card(request: Request, job: Job, parent: Twin, test: Dataset, out: Path) -> Path:
    """Count and measure the file that was written, and put its card beside it."""
    twin = load_twin(str(out), arch=job.arch, classes=job.data.classes)
    claim = parent.card.get("eps", CLAIM)
    before = size(parent.module, parent.input_shape, 4 * parent.parameters)
    after = size(twin.module, twin.input_shape, out.stat().st_size)
    card = {
        **identity(twin, out.stem, describe(request, job, parent), claim, job.data, out),
        "method": {
            "name": request.method,
            "rate": job.rate,
            "pattern": job.pattern if find_method(request.method).patterns else None,
            "until": request.until,
            "parent": {"name": parent.name, "sha256": parent.sha256},
            "standard_teacher": request.standard_teacher,
            "recipe": recipe_of(job.recipe),
            "notes": job.notes,
        },
        "stages": {name: training(history, job.recipe.stages[name].holdout) for name, history in job.history.items()},
        "seed": request.seed,
        "size": {"this": asdict(after), "parent": asdict(before), "ratio": ratios(before, after)},
        "measured": measured(twin.module, test, claim, request.seed),
    }
    path = out.with_suffix(".json")
    path.write_text(json.dumps(card, indent=1) + "\n")
    return path


def describe(request: Request, job: Job, parent: Twin) -> str:
    """One line: what was done to what."""
    what = find_method(request.method).summary
    rate = f" at {job.rate}" if job.rate else ""
    until = f", stopped after {request.until}" if request.until else ""
    source = f"{job.arch} learnt from {parent.name}" if job.teachers else f"of {parent.name}"
    return f"{what}{rate}{until}: {source}"


def recipe_of(recipe: CompressionRecipe) -> dict[str, Any]:
    """A recipe for the card."""
    return recipe.model_dump(mode="json")
