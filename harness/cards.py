"""What a model card tells, whoever wrote it: a training's card and a compression's differ in shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Card = Mapping[str, Any]


def epochs(card: Card) -> int | None:
    """Epochs that made a network out of its parent (of one that has none: that trained it); None where that is not known."""
    if "stages" in card:
        return sum(int(stage["epochs"]) for stage in card["stages"].values())
    return int(card["epochs"]) if "epochs" in card else None


def nonzero(card: Card) -> int:
    """Parameters that are not zero; all of them where the card is of a version that did not count."""
    return int(card["size"]["this"]["nonzero"] if "size" in card else card.get("nonzero", card["parameters"]))


def command(card: Card) -> str | None:
    """The command that makes the network again; None where the card does not say."""
    if "method" in card:
        return str(card["method"]["command"]) if "command" in card["method"] else None
    return None if "command" not in card else str(card["command"])


def rounds_activations(card: Card) -> bool:
    """Whether the network rounds its activations to few bits (`resnet18x16:a4`), which hides gradients from an attack."""
    return any(form[:1] == "a" and form[1:].isdigit() for form in str(card["arch"]).split(":")[1:])
