"""The model card: where the weights came from and what was measured on them, each figure with n and an interval."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from export.artefact import sha256_file
from harness.attacks.table import resolve
from harness.attacks.worst_case import worst_case
from harness.audit.gates import undone_remark
from harness.audit.statistics import no_information_rate, share
from harness.compute import placement
from harness.data import cifar10
from harness.data.dataset import Dataset
from harness.data.load import load_all, load_data
from harness.data.split import refuse_common
from harness.errors import UsageError
from harness.models.load import Twin, load_twin
from harness.models.probe import parameters
from harness.run import RunFolder, check_space
from harness.training import processes
from harness.training.augmentation import Augmentation
from harness.training.recipe import Recipe, load_recipe
from harness.training.selection import Fitted, selection_attacks
from harness.training.train import CHECKPOINT, allowed, initial, nothing_to_resume, train

CHANNELS = 3  # of the architectures that are trained
DATA, TEST = "cifar10", "cifar10-sample"  # where the command names no other
CARD_ATTACKS = ("pgd", "apgd-ce", "apgd-dlr")
CIFAR = "Apache-2.0 (weights); CIFAR-10: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
LICENCES = dict.fromkeys((cifar10.TRAINING, "cifar10"), CIFAR)  # by data: torchvision's, and cifar10.npz
COPIES = 4  # of the network in a checkpoint: weights, average, momentum and best


def train_with_card(recipe_file: Path, data_name: str, test_name: str, out: Path, *, resume: bool = False) -> Path | None:
    """Train a recipe, measure the result on the test images and write NAME.safetensors and NAME.json into `out`.

    An interrupted training goes on; with `resume`, one that was not begun is refused.

    Returns:
        The card's path; None in every process but the first.

    Raises:
        UsageError: images that are not in colour, test images of another size, with other classes or trained on, too little space, or
            another training into `out` at work.
        UntrustedError: see `harness.training.train.fit`.
    """
    processes.join()
    recipe = load_recipe(recipe_file)
    if resume and not (out / CHECKPOINT).exists():
        raise nothing_to_resume(out)
    with processes.first_alone():
        data = load_all(data_name)
        if (shape := shape_of(data))[0] != CHANNELS:
            raise UsageError(f"{data.name} has images of {shape} (channels, height, width); the networks take {CHANNELS} channels")
        test, _ = load_data(test_name, input_shape=shape, classes=data.classes, seed=recipe.seed, class_names=data.class_names)
        refuse_common(test, data)
    network = initial(recipe, data.classes)
    check_space(out, 2 * COPIES * 4 * parameters(network)[0])  # a checkpoint, and the one that is being written beside it
    with RunFolder(out) if processes.rank() == 0 else nullcontext():
        check_new(out, recipe.name)
        augmentation = allowed([recipe], data)
        weights, fitted = train(recipe, data, out, network, augmentation)
        if processes.rank() > 0:
            return None
        card = weights.with_suffix(".json")
        content = {
            "command": command(recipe_file, data_name, test_name, out),
            **make_card(recipe, data, test, weights, fitted, augmentation),
        }
        card.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return card


def check_new(out: Path, name: str) -> None:
    """Refuse to train where weights of that name lie which no training here left: they would be written over. Raises UsageError."""
    there = [path for suffix in (".safetensors", ".json") if (path := out / f"{name}{suffix}").exists()]
    if there and not (out / CHECKPOINT).exists():
        raise UsageError(
            f"--out {out} holds {' and '.join(path.name for path in there)}, which this training would write over, and no {CHECKPOINT} of "
            "it. Choose another folder, or move them away."
        )


def command(recipe_file: Path, data_name: str, test_name: str, out: Path) -> str:
    """The command line that trains the same network again."""
    told = (("--data", data_name, DATA), ("--test", test_name, TEST))
    options = (word for option, given, usual in told if given != usual for word in (option, given))
    return shlex.join(["harness", "train", str(recipe_file), *options, "--out", out.name])


def shape_of(data: Dataset) -> tuple[int, int, int]:
    """(channels, height, width) of the images."""
    _, height, width, channels = data.images.shape
    return channels, height, width


def make_card(recipe: Recipe, data: Dataset, test: Dataset, weights: Path, fitted: Fitted, augmentation: Augmentation) -> dict[str, Any]:
    """The card of trained `weights`, measured on every image of `test`."""
    twin = load_twin(str(weights), arch=recipe.arch, classes=data.classes, data_shape=shape_of(data))
    figures = measured(twin.module, test, recipe.claim, recipe.seed)
    return {
        **identity(twin, recipe.name, recipe.description, recipe.claim, data.class_names, weights),
        **source(data),
        "recipe": recipe.model_dump(),
        **training(fitted),
        "seed": recipe.seed,
        "augmentation": augmentation.of(recipe).card(),
        "measured": figures,
        "remarks": remarks(figures, test),
    }


def identity(twin: Twin, name: str, description: str, claim: str, class_names: Sequence[str], weights: Path) -> dict[str, Any]:
    """What a network is."""
    return {
        "name": name,
        "description": description,
        "arch": twin.arch,
        "classes": twin.classes,
        "class_names": list(class_names),
        "input_shape": twin.input_shape,
        "parameters": twin.parameters,
        "nonzero": twin.nonzero_parameters,
        "macs": twin.macs,
        "eps": claim,
        "sha256": sha256_file(weights),
    }


def source(data: Dataset) -> dict[str, Any]:
    """Which images a network was trained on, and the licence of such weights, where it is known."""
    return {"data": {"name": data.name, "sha256": data.sha256, "n": len(data)}, "licence": LICENCES.get(data.name)}


def training(fitted: Fitted) -> dict[str, Any]:
    """How long a training ran and on what, which epoch was kept and what it showed on the held-out images."""
    robust = "_".join(["robust", *(attack.replace("-", "").lower() for attack in selection_attacks(fitted.queries))])
    return {
        "trained_on": placement.name(),
        "epochs": len(fitted.history),
        "selected_epoch": fitted.kept.number,
        "held_out": {"n": fitted.held_out, "clean": fitted.kept.clean, robust: fitted.kept.robust},
    }


def remarks(figures: Mapping[str, Any], test: Dataset, *others: str) -> list[str]:
    """What a reader of `measured` figures must know, and `others`; each is also said on standard error."""
    clean, most = figures["clean"], no_information_rate(test.labels, test.classes)
    found = [*others]
    if (undone := undone_remark([(name, *counts) for name, counts in figures.get("undone by rounding", {}).items()])) is not None:
        found.append(undone)
    if clean["ci95"][0] <= most:
        found.append(
            f"clean accuracy is {clean['accuracy']:.1%} of {clean['n']:,}, no better than chance (always the most frequent class: "
            f"{most:.1%}). Do training and test images have the same classes in the same order? Was the rate of learning, or "
            "of compression, too high, or the training too short? Do varied images (flip, crop) keep their label?"
        )
    for remark in found:
        print(f"warning: {remark}", file=sys.stderr)
    return found


def measured(module: nn.Module, test: Dataset, claim: str, seed: int) -> dict[str, Any]:
    """Clean accuracy, accuracy under each attack alone, and under the worst of them, on all of `test` at the claimed radius."""
    index, attacks = np.arange(len(test)), [resolve(name) for name in CARD_ATTACKS]

    def figure(accuracy: float) -> dict[str, Any]:
        return share(round(accuracy * len(test)), len(test)).model_dump()

    whole = worst_case(module, test, index, attacks, Fraction(claim), seed)
    first, *others = attacks
    alone = {a.name: worst_case(module, test, index, [a], Fraction(claim), seed) for a in others}
    alone[first.name] = whole  # the first attack meets every image there
    together = whole.accuracy
    return {
        "data": test.name,
        "eps": claim,
        "clean": figure(together["clean"]),
        **{f"{a.name} ({a.steps} steps of {a.step_size})": figure(alone[a.name].accuracy[a.name]) for a in attacks},
        "worst case of these": figure(together[attacks[-1].name]),
        "undone by rounding": {a.name: alone[a.name].undone[a.name] for a in attacks},
    }
