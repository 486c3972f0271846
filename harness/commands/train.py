"""`harness train`: a network from a recipe, and its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.interruption import going_on
from harness.commands.options import GoOn

EPILOG = "Example: harness train harness/training/recipes/resnet8.toml --data cifar10 --out training/resnet8"


def train(
    recipe: Annotated[Path, typer.Argument(help="a recipe, TOML")],
    out: Annotated[Path, typer.Option(help="folder for checkpoint, weights and card; an interrupted run there goes on")],
    data: Annotated[str, typer.Option(help="training images: cifar10 or FILE.npz (images, labels)")] = "cifar10",
    test: Annotated[str, typer.Option(help="images for the figures on the card")] = "cifar10-sample",
    resume: GoOn = False,
) -> None:
    """Train a network from a recipe. Ends with NAME.safetensors and its model card NAME.json."""
    from harness.training.card import train_with_card

    with going_on():
        card = train_with_card(recipe, data, test, out, resume=resume)
    if card is not None:  # several processes: the first one writes
        print(card)
