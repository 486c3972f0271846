"""The finished file: packed, counted, measured, and its card."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from harness.compression.count import denormals, ratios, size
from harness.compression.job import Job
from harness.compression.request import Request
from harness.compression.table import find_method
from harness.data.dataset import Dataset
from harness.models.load import Twin, load_twin, square
from harness.models.normalisation import without_normalisation
from harness.models.packed import pack
from harness.training.card import identity, measured, remarks, source, training

CLAIM = "8/255"  # of a model whose card names no radius


def card_of(out: Path) -> Path:
    """Where the card of the weights in `out` lies."""
    return out.with_suffix(".json")


def finish(request: Request, job: Job, compressed: nn.Module, parent: Twin, test: Dataset, out: Path) -> Path:
    """Pack the network, count and measure the file, and put it and its card in their places; returns the card's path."""
    packed, card = job.out / out.name, job.out / card_of(out).name
    pack(without_normalisation(compressed).state_dict(), packed)
    card.write_text(json.dumps(make_card(request, job, parent, test, packed), indent=1) + "\n", encoding="utf-8")
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
