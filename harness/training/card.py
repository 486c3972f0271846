"""The model card: where the weights came from and what was measured on them, each figure with n and an interval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from export.artefact import sha256_file
from harness.attacks.table import resolve
from harness.attacks.worst_case import worst_case
from harness.audit.statistics import share
from harness.data.dataset import Dataset
from harness.data.load import load_all, load_data
from harness.models.load import Twin, load_twin
from harness.training import processes
from harness.training.recipe import Recipe, load_recipe
from harness.training.train import VALIDATION_STEPS, Fitted, train

CARD_ATTACKS = ("pgd", "apgd-ce", "apgd-dlr")
LICENCE = "Apache-2.0 (weights); CIFAR-10: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"


def train_with_card(recipe_file: Path, data_name: str, test_name: str, out: Path) -> Path | None:
    """Train a recipe, measure the result on the test images and write NAME.safetensors and NAME.json into `out`.

    Returns:
        The card's path; None in every process but the first.
    """
    processes.join()
    recipe = load_recipe(recipe_file)
    with processes.first_alone():
        test, _ = load_data(test_name, input_shape=None, classes=None, seed=recipe.seed)
        data = load_all(data_name)
    weights, fitted = train(recipe, data, out)
    if processes.rank() > 0:
        return None
    card = weights.with_suffix(".json")
    card.write_text(json.dumps(make_card(recipe, data, test, weights, fitted), indent=1) + "\n")
    return card


def make_card(recipe: Recipe, data: Dataset, test: Dataset, weights: Path, fitted: Fitted) -> dict[str, Any]:
    """The card of trained `weights`, measured on every image of `test`."""
    twin = load_twin(str(weights), arch=recipe.arch, classes=data.classes)
    return {
        **identity(twin, recipe.name, recipe.description, recipe.claim, data.class_names, weights),
        "data": source(data),
        "recipe": recipe.model_dump(),
        **training(fitted, recipe.holdout),
        "seed": recipe.seed,
        "measured": measured(twin.module, test, recipe.claim, recipe.seed),
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
        "macs": twin.macs,
        "eps": claim,
        "sha256": sha256_file(weights),
        "licence": LICENCE,
    }


def source(data: Dataset) -> dict[str, Any]:
    """Which images a network was trained on."""
    return {"name": data.name, "sha256": data.sha256, "n": len(data)}


def training(fitted: Fitted, holdout: int) -> dict[str, Any]:
    """How long a training ran, which epoch was kept and what it showed on the held-out images."""
    return {
        "epochs": len(fitted.history),
        "selected_epoch": fitted.kept.number,
        "held_out": {"n": holdout, "clean": fitted.kept.clean, f"robust_pgd{VALIDATION_STEPS}": fitted.kept.robust},
    }


def measured(module: nn.Module, test: Dataset, claim: str, seed: int) -> dict[str, Any]:
    """Clean accuracy, accuracy under each attack alone, and under the worst of them, on all of `test` at the claimed radius."""
    index, attacks = np.arange(len(test)), [resolve(name) for name in CARD_ATTACKS]

    def figure(accuracy: float) -> dict[str, Any]:
        return share(round(accuracy * len(test)), len(test)).model_dump()

    alone = {a.name: worst_case(module, test, index, [a], Fraction(claim), seed).accuracy for a in attacks}
    together = worst_case(module, test, index, attacks, Fraction(claim), seed).accuracy
    return {
        "data": test.name,
        "eps": claim,
        "clean": figure(together["clean"]),
        **{f"{a.name} ({a.steps} steps of {a.step_size})": figure(alone[a.name][a.name]) for a in attacks},
        "worst case of these": figure(together[attacks[-1].name]),
    }
