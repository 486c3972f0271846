"""One of our networks under one attack, kept by what decides it, so that nothing is attacked twice."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor, nn

from harness.attacks.clean import judge
from harness.attacks.grid import distance_l2
from harness.attacks.search import margins
from harness.attacks.sets import make_set
from harness.attacks.table import Attack
from harness.audit.metrics import Right
from harness.audit.statistics import median
from harness.compute.placement import device
from harness.data.dataset import Dataset, to_tensor
from harness.models.load import Twin, load_twin
from harness.records import AttackRecord, Median, write_record
from harness.reproduce.networks import Network
from harness.stack import ImageStack
from harness.sweep.cache import Cache
from harness.sweep.keys import EVALUATING, code, digest, recorded

KIND, FILE, SETS = "evaluations", "evaluation.json", "adversarial"
PLAIN, TEMPERED = "S1", "S1-T"
BATCH = 256


class Evaluation(BaseModel):
    """What one attack left. `clean`, `right`: one digit per image, 1 where the network has it right (under the attack: clean and then).
    `l2`: of an attack that takes no radius, the distance at which an image fools, over those that are right when clean.
    """

    clean: str
    right: str
    attack: AttackRecord
    l2: Median | None
    temperature: float | None = None

    @property
    def survives(self) -> Right:
        """Bool (n,)."""
        return mask(self.right)


def mask(digits: str) -> Right:
    """`0110` as bool (n,)."""
    return np.asarray([digit == "1" for digit in digits], dtype=np.bool_)


def digits(right: Right) -> str:
    """Bool (n,) as `0110`."""
    return "".join("1" if one else "0" for one in right)


class Tempered(nn.Module):
    """The network with its logits divided by a temperature: who is right stays the same, and the cross-entropy no longer saturates.

    Source: Gupta and Ajanthan, "Improved Gradient-Based Adversarial Attacks for Quantized Networks", AAAI 2022.
    """

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes)."""
        logits: Tensor = self.network(images) / self.temperature
        return logits

    def extra_repr(self) -> str:
        """The temperature, so that the module's hash holds it."""
        return f"temperature={self.temperature!r}"


@dataclass(frozen=True)
class Bench:
    """The images that every network is attacked on, and where results are kept."""

    data: Dataset
    index: NDArray[np.int64]
    eps: Fraction
    seed: int
    cache: Cache

    def key(self, network: Network, attack: Attack, source: str) -> str:
        """Of one evaluation: all that decides it."""
        return digest(
            {
                "network": network.sha256,
                "card": recorded(network.card),
                "data": self.data.sha256,
                "index": hashlib.sha256(self.index.astype("<i8").tobytes()).hexdigest(),
                "attack": repr(attack),
                "source": source,
                "eps": str(self.eps),
                "seed": self.seed,
                "on": device().type,
                "code": code(EVALUATING),
            }
        )

    def known(self, network: Network, attack: Attack, source: str = PLAIN) -> Evaluation | None:
        """A kept evaluation; None where there is none, or it is damaged."""
        folder = self.cache.find(KIND, self.key(network, attack, source))
        if folder is None:
            return None
        try:
            kept = Evaluation.model_validate_json((folder / FILE).read_bytes())
        except (OSError, ValueError):
            return None
        whole = len(kept.clean) == len(kept.right) == kept.attack.n == len(self.index)
        return kept if whole and {*kept.clean, *kept.right} <= {"0", "1"} else None

    def evaluate(self, subject: Loaded, attack: Attack, source: str = PLAIN) -> Evaluation:
        """Attack the network now, unless that is kept.

        Raises:
            UsageError: see `harness.attacks.sets.make_set`, and the images do not fit the network.
        """
        network = subject.network
        if (kept := self.known(network, attack, source)) is not None:
            return kept
        key = self.key(network, attack, source)
        with self.cache.making(KIND, key, anew=self.cache.find(KIND, key) is not None) as folder:
            if folder is not None:
                found = self._attack(subject, attack, source, folder / SETS)
                shutil.rmtree(folder / SETS)
                write_record(found, folder / FILE)
        return Evaluation.model_validate_json((self.cache.place(KIND, key) / FILE).read_bytes())

    def _attack(self, subject: Loaded, attack: Attack, source: str, place: Path) -> Evaluation:
        module = subject.twin.module
        clean, labels = self.data.images[self.index], self.data.labels[self.index]
        temperature = subject.temperature(clean, labels) if source == TEMPERED else None
        target = module if temperature is None else Tempered(module, temperature).eval()
        record, images = make_set(target, self.data, self.index, attack, self.eps, self.seed, source=source, folder=place)
        at_first = in_parts(module, clean, labels)
        under = in_parts(module, images, labels)
        distance = np.where(under, np.inf, distance_l2(clean, images))[at_first]
        l2 = None if attack.bounded or not len(distance) else median(distance)
        return Evaluation(clean=digits(at_first), right=digits(at_first & under), attack=record, l2=l2, temperature=temperature)


@dataclass(frozen=True)
class Loaded:
    """A network that is loaded when it is first attacked."""

    network: Network
    input_shape: tuple[int, int, int]

    @cached_property
    def twin(self) -> Twin:
        """The network itself."""
        return load_twin(str(self.network.file), arch=self.network.arch, data_shape=self.input_shape)

    def temperature(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
        """The median margin of the images it has right: divided by it, a typical image's cross-entropy still has a gradient."""
        found = np.concatenate(
            [
                margins(self.twin.module(to_tensor(images[i : i + BATCH])).detach(), torch.from_numpy(labels[i : i + BATCH])).numpy()
                for i in range(0, len(images), BATCH)
            ]
        )
        return float(np.median(found[found > 0])) if (found > 0).any() else 1.0


def in_parts(module: nn.Module, images: ImageStack, labels: NDArray[np.int64]) -> Right:
    """Who is right, bool (n,), in batches."""
    return np.concatenate([judge(module, images[i : i + BATCH], labels[i : i + BATCH])[0] for i in range(0, len(images), BATCH)])
