"""Our networks, by their cards: which stands beside which row of the paper, and how a missing one is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from export.artefact import sha256_file
from harness import cards
from harness.compression import rate
from harness.compression.request import Request
from harness.compression.table import METHODS
from harness.errors import UsageError
from harness.models import shipped
from harness.models.weights import read_weights
from harness.reproduce.paper import Ours, Paper

NEEDED = ("arch", "classes", "input_shape", "parameters")  # of a card
STANDARD = "standard"  # the training objective without an adversary
STEPPED = ("pgd-at", "trades")  # those whose adversary takes several steps


@dataclass(frozen=True)
class Network:
    """One network with its card. `file` is its weights'."""

    name: str
    file: Path
    card: dict[str, Any]

    @property
    def arch(self) -> str:
        """Its architecture."""
        return str(self.card["arch"])

    @cached_property
    def sha256(self) -> str:
        """Of the file as it is, whatever the card says."""
        return sha256_file(self.file)

    @property
    def method(self) -> dict[str, Any] | None:
        """How it was compressed; None for a network that was not."""
        return self.card.get("method")

    @property
    def parent_sha256(self) -> str | None:
        """Of the network it was made of, or learnt from."""
        return None if self.method is None else str(self.method["parent"]["sha256"])

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """The recipe that it was compressed by, stage by stage."""
        stages: dict[str, dict[str, Any]] = (self.method or {}).get("recipe", {}).get("stages", {})
        return stages

    @property
    def inner_steps(self) -> set[int]:
        """Steps of the attacks that it was trained against, in any of its stages."""
        recipes = [*self.stages.values(), self.card.get("recipe", {})]
        return {int(recipe["steps"]) for recipe in recipes if recipe.get("objective") in STEPPED and "steps" in recipe}

    @property
    def epochs(self) -> int | None:
        """Of its own training."""
        return cards.epochs(self.card)

    @property
    def robustly_trained(self) -> bool:
        """A network that was not compressed, and was trained against an adversary."""
        return self.method is None and self.card.get("recipe", {}).get("objective", STANDARD) != STANDARD


def networks(folders: Sequence[Path]) -> list[Network]:
    """The networks in `folders` (NAME.safetensors with NAME.json), once each; of two that are called the same, the second by its hash too.

    Raises:
        UsageError: a folder is not there, or holds a network without a card that names its architecture.
    """
    found: dict[str, Network] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--networks {folder}: there is no such folder")
        try:
            cards = shipped.cards(folder)
        except ValueError as error:
            raise UsageError(f"--networks {folder}: a card there is damaged: {error}") from error
        for name, card in cards.items():
            if lacking := [key for key in NEEDED if not isinstance(card, dict) or key not in card]:
                raise UsageError(f"--networks {folder}: the card {name}.json does not say {', '.join(lacking)}")
            network = Network(name, folder / f"{name}.safetensors", card)
            read_weights(network.file)  # refuses what is no weights at all
            if name in {other.name for other in found.values()}:
                network = replace(network, name=f"{name} ({network.sha256[:8]})")
            found.setdefault(network.sha256, network)
    return list(found.values())


def beside(ours: Ours, candidates: Sequence[Network]) -> list[Network]:
    """The networks that stand beside a row, by name."""
    if ours.method is None:
        pruned = {network.parent_sha256 for network in candidates if network.method and network.method["name"] == "radmm"}
        robust = [network for network in candidates if network.robustly_trained]
        return [network for network in robust if network.sha256 in pruned] or robust
    return sorted((network for network in candidates if _is(network, ours)), key=lambda network: network.name)


def _is(network: Network, ours: Ours) -> bool:
    made = network.method
    if made is None or made["name"] != ours.method or made.get("until") != ours.until or made.get("pattern") not in (None, "irregular"):
        return False
    if ours.student is not None:
        return without_width(network.arch) == without_width(ours.student)
    return ours.rate is None or _same_rate(str(made["rate"]), ours.rate)


def without_width(arch: str) -> str:
    """An architecture without its width and form: `resnet18x16` and `resnet18x64:a4` are of one family."""
    base = arch.partition(":")[0]
    return base.split("x", 1)[0] if base.startswith("resnet") else base.split("-x", 1)[0]


def _same_rate(one: str, other: str) -> bool:
    """`8x` and `0.875` are the same rate."""
    if one.startswith("w") or other.startswith("w"):
        return one == other
    return abs(rate.sparsity(one) - rate.sparsity(other)) < 1e-3


def command(ours: Ours, paper: Paper) -> str:
    """What makes a network for a row that has none."""
    if ours.method is None:
        return f"harness train harness/training/recipes/{paper.parent}.toml --data cifar10 --out networks"
    standard = paper.standard_teacher if "standard" in METHODS[ours.method].teachers else None
    asked = ours.model_dump(include={"method", "rate", "until", "student"})
    name = "-".join(part for part in (paper.parent, *asked.values()) if part)
    return Request(model=paper.parent, standard_teacher=standard, **asked).command(f"networks/{name}.safetensors")
