"""`harness compress`: check everything, run the method, keep the result."""

from __future__ import annotations

import copy
import shutil
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.compression.card import card_of, finish
from harness.compression.job import Job
from harness.compression.recipe import CompressionRecipe, load_recipe
from harness.compression.request import Request, check
from harness.compression.table import Method, find_method
from harness.compression.work_folder import check_own, claim_folder, trained
from harness.data.dataset import Dataset, check_numbering
from harness.data.load import load_all, load_data, peek_shape, stratified
from harness.data.split import refuse_common
from harness.errors import UsageError
from harness.models.architectures import build
from harness.models.load import Twin, load_twin, square
from harness.models.probe import parameters, takes
from harness.run import RunFolder, check_space
from harness.settings import check_output
from harness.training import processes
from harness.training.recipe import Stage
from harness.training.selection import correct
from harness.training.train import allowed, nothing_to_resume
from harness.training.train import check as check_stage

TEACHER_IMAGES = 500
ROBUST = 0.2  # a teacher below this accuracy under a short PGD is not robust
COPIES = 8  # of the network in a checkpoint, at most: weights, average, momentum and best, each with a mask, scores or ADMM's variables


def compress(request: Request, out: Path, work: Path | None = None, *, resume: bool = False) -> Path | None:
    """Compress a model and write OUT (packed safetensors) and its card beside it, OUT with .json.

    Args:
        request: what to do.
        out: FILE.safetensors, which does not exist yet.
        work: folder for the stages' checkpoints, kept; by default one beside `out`, removed at the end. A stage that is finished there is
            not trained again.
        resume: refuse to start where no epoch is finished.

    Returns:
        The card's path; None in every process but the first (see `harness.training.processes`).

    Raises:
        UsageError: something the user can mend, found before any training.
        UntrustedError: training diverged, or the folder's checkpoints are of another request.
    """
    processes.join()
    request = check(request)
    check_out(out)
    method = find_method(request.method)
    recipe = load_recipe(request.recipe, request.method, method.stages, request.seed, method.constants)
    twin = load_model(request)
    folder = work or out.with_suffix(".stages")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--work {folder} is a file; expected a folder for checkpoints")
    if resume and not trained(folder):
        raise nothing_to_resume(folder)
    with processes.first_alone():
        data = load_all(request.data) if method.stages else None
        ready = prepare(request, recipe, twin, data, folder)
    job = ready.job
    if data is not None and job.teachers:
        warn_if_weak(twin, data, next(iter(recipe.stages.values())))
    files = len(recipe.stages) + 1  # one of a stage, and the one that is being written beside it
    check_space(folder, files * COPIES * 4 * parameters(job.network)[0])
    with RunFolder(folder) if processes.rank() == 0 else nullcontext():  # only who holds the folder may remove it
        if work is None and processes.rank() == 0:
            check_own(folder)
        try:
            if processes.rank() == 0:
                claim_folder(folder, request, recipe, ready.networks)
            compressed = method.run(job).eval().cpu()
            return finish(request, job, compressed, twin, ready.test, out) if processes.rank() == 0 else None
        finally:
            if work is None and processes.rank() == 0 and (card_of(out).exists() or not trained(folder)):
                shutil.rmtree(folder, ignore_errors=True)


def load_model(request: Request) -> Twin:
    """The model to compress, or to learn from, for the images that it meets first. Raises UsageError as `load_twin`."""
    options = request.model_dump(include={"arch", "classes", "image_size", "normalize"})
    images = request.data if find_method(request.method).stages else request.test
    return load_twin(request.model, **options, data_shape=peek_shape(images))


@dataclass(frozen=True)
class Ready:
    """A compression that may start.

    Attributes:
        job: what the method is given.
        networks: the model, then those that it learns from besides.
        test: the images that the result is measured on.
    """

    job: Job
    networks: list[Twin]
    test: Dataset


def prepare(request: Request, recipe: CompressionRecipe, twin: Twin, data: Dataset | None, folder: Path, kind: type[Job] = Job) -> Ready:
    """Everything that comes before the method's own code.

    Args:
        request: what `check` returned.
        recipe: the one that it names.
        twin: the model.
        data: the training images; None where the method trains nothing.
        folder: of the stages' checkpoints.
        kind: of the job.

    Raises:
        UsageError: images, a student or a teacher that do not fit.
    """
    method = find_method(request.method)
    for stage in recipe.stages.values():
        if method.objective not in (None, stage.objective):
            raise UsageError(
                f"stage {stage.name} of the recipe has objective {stage.objective}; {request.method} has a loss of its own, and "
                f"expected objective {method.objective}, by which its student is selected"
            )
    if twin.arch is None and request.student is None:
        raise UsageError(f"{twin.name} ({twin.source}) has no named architecture to save weights for; give FILE.safetensors with --arch")
    if data is not None:
        check_data(data, twin, recipe)
    names = twin.class_names or (data.class_names if data is not None else ())
    told: dict[str, Any] = {"input_shape": twin.input_shape, "classes": twin.classes, "resize": twin.resize}
    test, _ = load_data(request.test, seed=request.seed, class_names=names, **told)
    if data is not None:
        refuse_common(test, data)
    network, arch = start(request, twin, method)
    found = teachers(request, twin, method)
    modules = {role: teacher.module for role, teacher in found.items()}
    pattern = request.pattern or "irregular"
    job = kind(network, arch, twin.input_shape, data, request.rate or "", recipe, folder, pattern, request.until, modules)
    if data is not None:
        job.check_variations = partial(allowed, list(recipe.stages.values()), data, twin.module, twin.name)
    return Ready(job, [twin, *found.values()], test)


def check_out(out: Path) -> None:
    """Refuse a file that cannot be written, or is there already. Raises UsageError."""
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: expected a name that ends in .safetensors")
    for path in (out, card_of(out)):
        if path.exists():
            raise UsageError(f"--out {out}: {path} exists already; choose another name, or delete it")
    check_output(out)


def check_data(data: Dataset, twin: Twin, recipe: CompressionRecipe) -> None:
    """The training images must be what the model classifies, and enough for every stage.

    Raises:
        UsageError: other classes, or numbered otherwise, another size, or too few.
    """
    if data.classes > twin.classes or (data.class_names and data.classes != twin.classes):
        raise UsageError(f"{twin.name} has {twin.classes} classes, {data.name} has {data.classes}")
    check_numbering(data.name, data.class_names, twin.name, twin.class_names)
    if (shape := (data.images.shape[3], *data.images.shape[1:3])) != twin.input_shape:
        raise UsageError(f"{twin.name} takes images of {twin.input_shape}, {data.name} has {shape} (channels, height, width)")
    for stage in recipe.stages.values():
        check_stage(stage, data)


def start(request: Request, twin: Twin, method: Method) -> tuple[nn.Module, str]:
    """The network that is trained, and its architecture: a copy of the twin, or a fresh student.

    Raises:
        UsageError: a student that cannot take the teacher's images.
    """
    arch = request.student or twin.arch
    assert arch is not None  # noqa: S101  # prepare
    if not method.teachers:
        return copy.deepcopy(twin.module).requires_grad_(), arch
    torch.manual_seed(request.seed)
    student = build(arch, twin.classes, square(twin.input_shape))
    if not takes(student, twin.input_shape):
        raise UsageError(
            f"--student {arch} does not run on images of {twin.input_shape} (channels, height, width), which {twin.name} takes"
        )
    return student, arch


def teachers(request: Request, twin: Twin, method: Method) -> dict[str, Twin]:
    """The networks to learn from, by role.

    Raises:
        UsageError: the standard teacher has other classes, numbers them otherwise, or takes other images.
    """
    if not method.teachers:
        return {}
    found = {"robust": twin}
    if request.standard_teacher is not None:
        try:
            standard = load_twin(request.standard_teacher, classes=twin.classes)
        except UsageError as error:
            kinds = "a zoo name, FILE.safetensors with its card beside it, .pt2 or .onnx"
            raise UsageError(f"--standard-teacher {request.standard_teacher}: expected {kinds}; {error}") from error
        if standard.input_shape != twin.input_shape:
            raise UsageError(
                f"--standard-teacher {standard.name} takes images of {standard.input_shape}, {twin.name} of {twin.input_shape}"
            )
        check_numbering(f"--standard-teacher {standard.name}", standard.class_names, twin.name, twin.class_names)
        found["standard"] = standard
    return found


def warn_if_weak(teacher: Twin, data: Dataset, stage: Stage) -> None:
    """Say so where a teacher of robustness is not robust on a few of the training images."""
    if stage.objective == "standard":
        return
    few = data.subset(stratified(data.labels, min(TEACHER_IMAGES, len(data)), stage.seed))
    robust = correct(teacher.module, few, stage, robust=True) / len(few)
    if robust < ROBUST and processes.rank() == 0:
        print(
            f"warning: the teacher {teacher.name} is not robust: {robust:.1%} of {len(few)} training images under a short PGD at "
            f"{stage.eps:g}/255. A student cannot learn from it what it does not have.",
            file=sys.stderr,
        )
