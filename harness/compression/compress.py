"""`harness compress`: check everything, run the method, pack the result, count it and measure it."""

from __future__ import annotations

import copy
import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from harness.compression.count import denormals, ratios, size
from harness.compression.job import Job
from harness.compression.recipe import CompressionRecipe, load_recipe
from harness.compression.table import Method, find_method
from harness.data.dataset import Dataset, check_numbering
from harness.data.load import load_all, load_data, peek_shape, stratified
from harness.data.split import refuse_common
from harness.errors import UntrustedError, UsageError
from harness.models.architectures import build, family
from harness.models.load import Twin, load_twin, square
from harness.models.normalisation import without_normalisation
from harness.models.packed import pack
from harness.models.probe import parameters, takes
from harness.run import RunFolder, check_space
from harness.settings import NEVER_BEGUN, check_output, check_seed
from harness.training import processes
from harness.training.card import identity, measured, remarks, source, training
from harness.training.recipe import Stage
from harness.training.train import CHECKPOINT, allowed, correct, nothing_to_resume
from harness.training.train import check as check_stage

CLAIM = "8/255"  # of a model whose card names no radius
HALF = "0.5"  # the rate of 2:4
TEACHER_IMAGES = 500
ROBUST = 0.2  # a teacher below this accuracy under a short PGD is not robust
NOTE, TEMPORARY_NOTE = "request.json", "request.tmp"  # of whose checkpoints lie in a folder
COPIES = 8  # of the network in a checkpoint, at most: weights, average, momentum and best, each with a mask, scores or ADMM's variables


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
    classes: int | None = None
    image_size: int | None = None
    normalize: str | None = None
    seed: int = 0

    def command(self, out: str) -> str:
        """The command line that asks for this."""
        fields = self.model_dump(exclude_defaults=True, exclude={"model"})
        options = (word for name, value in fields.items() for word in (f"--{name.replace('_', '-')}", str(value)))
        return shlex.join(["harness", "compress", self.model, *options, "--out", out])


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


def trained(folder: Path) -> bool:
    """Whether some stage left a checkpoint."""
    return any(folder.rglob(CHECKPOINT))


def check_own(folder: Path) -> None:
    """Refuse a folder that a compression did not make: it would be removed at the end.

    Raises:
        UsageError: it holds something else.
    """
    others = sorted(path.name for path in folder.iterdir() if path.name not in (*NEVER_BEGUN, TEMPORARY_NOTE))
    if others and not (folder / NOTE).exists() and not trained(folder):
        raise UsageError(
            f"{folder}, where the checkpoints would lie and which is removed at the end, holds {', '.join(others[:3])}"
            f"{', …' if len(others) > 3 else ''} already: expected no such folder, or that of an interrupted compression. Choose another "
            "--out, or a folder for the checkpoints with --work."
        )


def card_of(out: Path) -> Path:
    """Where the card of the weights in `out` lies."""
    return out.with_suffix(".json")


def check_out(out: Path) -> None:
    """Refuse a file that cannot be written, or is there already. Raises UsageError."""
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: expected a name that ends in .safetensors")
    for path in (out, card_of(out)):
        if path.exists():
            raise UsageError(f"--out {out}: {path} exists already; choose another name, or delete it")
    check_output(out)


def check(request: Request) -> Request:
    """The request with its rate and pattern filled in, after checking all that needs no file.

    Raises:
        UsageError: see `compress`.
    """
    method = find_method(request.method)
    check_seed(request.seed)
    pattern = request.pattern or next(iter(method.patterns), None)
    if request.pattern and request.pattern not in method.patterns:
        raise UsageError(f"--pattern {request.pattern}: {request.method} knows {', '.join(method.patterns) or 'no pattern'}")
    rate = request.rate or (HALF if pattern == "2:4" else method.default)
    method.rate(rate)
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
    return request.model_copy(update={"rate": rate or None, "pattern": pattern})


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


def claim_folder(folder: Path, request: Request, recipe: CompressionRecipe, networks: list[Twin]) -> None:
    """Note in the folder what its checkpoints belong to. How far to go (`until`) may change, and the places of files: networks stand there
    by their hashes, and each checkpoint holds that of its images.

    Raises:
        UntrustedError: they belong to another request.
    """
    now = {
        **request.model_dump(exclude={"until", "recipe", "test", "model", "standard_teacher", "data"}),
        "networks": [twin.sha256 for twin in networks],
        "recipe": recipe.model_dump(mode="json"),
    }
    note = folder / NOTE
    if note.exists() and trained(folder):
        try:
            then = dict(json.loads(note.read_text()))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise UntrustedError(f"{note} is damaged: {error}. Delete {folder}, or choose another.") from error
        method = find_method(request.method)
        if then.get("method") == request.method and method.rate(then["rate"] or "") == method.rate(request.rate or ""):
            then["rate"] = request.rate  # the same, perhaps written otherwise
        with suppress(ValidationError):  # read back, so that a field which a later version added counts with its default
            then["recipe"] = CompressionRecipe.model_validate(then["recipe"]).model_dump(mode="json")
        was, is_now = (dict(leaves({key: values.get(key) for key in now})) for values in (then, now))
        if other := [f"{key} {was.get(key)} then, {is_now.get(key)} now" for key in was | is_now if was.get(key) != is_now.get(key)]:
            raise UntrustedError(f"{folder} holds the checkpoints of another request: {'; '.join(other)}. Delete it, or choose another.")
    temporary = folder / TEMPORARY_NOTE
    temporary.write_text(json.dumps(now, indent=1) + "\n")
    temporary.replace(note)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What is in nested dictionaries, by dotted names."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from leaves(inner, f"{name}.{key}" if name else key)


def finish(request: Request, job: Job, compressed: nn.Module, parent: Twin, test: Dataset, out: Path) -> Path:
    """Pack the network, count and measure the file, and put it and its card in their places; returns the card's path."""
    packed, card = job.out / out.name, job.out / card_of(out).name
    pack(without_normalisation(compressed).state_dict(), packed)
    card.write_text(json.dumps(make_card(request, job, parent, test, packed), indent=1) + "\n")
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(packed, out)
    shutil.move(card, card_of(out))  # last: weights without a card are an interrupted work
    return card_of(out)


def make_card(request: Request, job: Job, parent: Twin, test: Dataset, packed: Path) -> dict[str, Any]:
    """What the network in `packed` is, how it was made, how small it is and how it does on every image of `test`."""
    normalize = None if job.teachers else request.normalize or parent.card.get("normalize")
    options: dict[str, Any] = {"arch": job.arch, "classes": parent.classes, "image_size": square(job.input_shape), "normalize": normalize}
    twin = load_twin(str(packed), **options, data_shape=job.input_shape)
    claim = parent.card.get("eps", CLAIM)
    names = test.class_names or (job.data.class_names if job.data is not None else ()) or parent.class_names
    before = size(parent.module.cpu(), parent.input_shape)
    after = size(twin.module, twin.input_shape)
    figures = measured(twin.module, test, claim, request.seed)
    return {
        **identity(twin, packed.stem, describe(request, job, parent), claim, names, packed),
        "normalize": normalize,
        **({key: parent.card.get(key) for key in ("data", "licence")} if job.data is None else source(job.data)),
        "method": {
            "name": request.method,
            "command": request.command(f"{packed.stem}.safetensors"),
            "rate": job.rate,
            "pattern": request.pattern,
            "until": request.until,
            "parent": {"name": parent.name, "sha256": parent.sha256},
            "standard_teacher": request.standard_teacher,
            "recipe": job.recipe.model_dump(mode="json"),
            "notes": job.notes,
        },
        "stages": {name: training(fitted) for name, fitted in job.fitted.items()},
        "seed": request.seed,
        "size": {"this": asdict(after), "parent": asdict(before), "ratio": ratios(before, after)},
        "augmentation": None if job.data is None else job.augmentation.card(),
        "measured": figures,
        "remarks": remarks(figures, test, *slow(twin.module)),
    }


def slow(network: nn.Module) -> list[str]:
    """A remark where weights are denormal numbers."""
    if not (found := denormals(network)):
        return []
    return [
        f"{found:,} weights are denormal (below 1.2e-38): multiplying them is up to ten times slower on many CPUs; they may be set to zero"
    ]


def describe(request: Request, job: Job, parent: Twin) -> str:
    """One line: what was done to what."""
    what = find_method(request.method).summary
    rate = f" at {job.rate}" if job.rate else ""
    until = f", stopped after {request.until}" if request.until else ""
    source = f"{job.arch} learnt from {parent.name}" if job.teachers else f"of {parent.name}"
    return f"{what}{rate}{until}: {source}"
