"""The cells of a sweep: every network that it makes and benches, checked as far as that can be without training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from harness.compression.compress import prepare
from harness.compression.job import Job
from harness.compression.recipe import load_recipe
from harness.compression.request import Request, check
from harness.compression.table import find_method
from harness.data.dataset import Dataset
from harness.data.load import load_all, load_data, peek_shape
from harness.data.split import refuse_common
from harness.errors import UsageError
from harness.models.load import Twin, load_twin
from harness.settings import DEFAULT_EPS
from harness.stages.names import check_names
from harness.sweep.spec import MethodSpec, Model, Spec
from harness.training.regime import Regime


@dataclass(frozen=True)
class Cell:
    """One network of the sweep.

    Attributes:
        number: its place, from 0.
        label: its name in the report, and of its files.
        parent: the network that it comes from.
        request: what to make of the parent; None for the parent itself, with which the others are compared.
        eps: the radius that it is attacked at.
    """

    number: int
    label: str
    parent: Model
    request: Request | None
    eps: str


def cells(spec: Spec) -> list[Cell]:
    """Every cell, each parent before what is made of it.

    Raises:
        UsageError: an unknown method, model, device, …, or a rate that cannot be reached: all that can be known before training.
    """
    check_names(spec.bench.settings(spec.models[0], spec.bench.eps or DEFAULT_EPS))
    twins = {model: load_model(model, spec) for model in spec.models}
    found = []
    for model, twin in twins.items():
        eps = spec.bench.eps or str(twin.card.get("eps", DEFAULT_EPS))
        found.append(Cell(0, twin.name, model, None, eps))
        found += [Cell(0, label(twin.name, request), model, request, eps) for request in requests(spec, model)]
    numbered = [replace(cell, number=number) for number, cell in enumerate(found)]
    if twice := {cell.label for cell in numbered if sum(other.label == cell.label for other in numbered) > 1}:
        raise UsageError(f"the sweep asks twice for {', '.join(sorted(twice))}. Every model, method, rate and seed is wanted once.")
    for one, other in combinations(numbered, 2):
        if one.request and other.request and identity(one.request) == identity(other.request):
            raise UsageError(f"{one.label} and {other.label} are the same network: its rate is written in two ways")
    data = load_all(spec.compress.data) if any(find_method(wanted.name).stages for wanted in spec.methods) else None
    for twin in twins.values():
        check_images(twin, spec, data)
    for cell in numbered:
        if cell.request is not None:
            try:
                rehearse(cell.request, twins[cell.parent], data)
            except UsageError as error:
                raise UsageError(f"{cell.label}: {error}") from error
    return numbered


def load_model(model: Model, spec: Spec) -> Twin:
    """A network of the sweep, for the images of its bench. Raises UsageError as `load_twin`."""
    return load_twin(**model.model_dump(), data_shape=peek_shape(spec.bench.data))


def check_images(twin: Twin, spec: Spec, data: Dataset | None) -> None:
    """The images of the bench must be the parent's, and none that networks of the sweep are trained on (`data`).

    Raises:
        UsageError: as `load_data` and `refuse_common`.
    """
    told: dict[str, Any] = {"input_shape": twin.input_shape, "classes": twin.classes, "resize": twin.resize}
    test, _ = load_data(spec.bench.data, seed=spec.bench.seed, class_names=twin.class_names, **told)
    if data is not None:
        refuse_common(test, data)


def identity(request: Request) -> tuple[Request, object]:
    """A request whose rate is not a text."""
    return request.model_copy(update={"rate": None}), find_method(request.method).rate(request.rate or "")


def requests(spec: Spec, model: Model) -> Iterator[Request]:
    """What `[[methods]]` asks for of one model. A method that trains nothing has one seed: the others would repeat it."""
    for wanted in spec.methods:
        method = find_method(wanted.name)
        seeds = spec.seeds if method.stages else spec.seeds[:1]
        for rate, pattern, student, seed in product(wanted.rates or (None,), wanted.patterns or (None,), wanted.students or (None,), seeds):
            yield _request(spec, model, wanted, rate, pattern, student, seed)


def _request(
    spec: Spec, model: Model, wanted: MethodSpec, rate: str | None, pattern: str | None, student: str | None, seed: int
) -> Request:
    request = Request(
        **model.model_dump(), method=wanted.name, rate=rate, pattern=pattern, student=student, seed=seed,
        recipe=wanted.recipe, until=wanted.until, standard_teacher=wanted.standard_teacher,
        data=spec.compress.data, test=spec.compress.test,
    )  # fmt: skip
    return check(request)


def label(parent: str, request: Request) -> str:
    """A cell's name: parent, method and what sets it apart, as a file may be called."""
    recipe = Path(request.recipe).stem if request.recipe != "cpu" else None
    pattern = None if request.pattern in (None, "irregular") else request.pattern
    standard = Path(request.standard_teacher).stem if request.standard_teacher else None
    parts = [parent, request.method, request.rate, pattern, request.student, standard, recipe, request.until, f"s{request.seed}"]
    return "-".join(re.sub(r"[^\w.]+", "_", part).strip("_") for part in parts if part)


class _TrainingReached(Exception):  # noqa: N818  # a signal, not a fault
    """A rehearsal has come to the first training."""


class _Rehearsal(Job):
    def train(self, stage: str, regime: Regime | None = None) -> nn.Module:
        raise _TrainingReached(stage)


def rehearse(request: Request, twin: Twin, data: Dataset | None) -> None:
    """Do all of a compression that comes before its first training: whatever it would refuse, it refuses now.

    Raises:
        UsageError: see `harness.compression.compress.compress`.
    """
    method = find_method(request.method)
    recipe = load_recipe(request.recipe, request.method, method.stages, request.seed, method.constants)
    with TemporaryDirectory() as nothing:
        ready = prepare(request, recipe, twin, data if method.stages else None, Path(nothing), _Rehearsal)
        with suppress(_TrainingReached):
            method.run(ready.job)
