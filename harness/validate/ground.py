"""What all checks stand on: the same images and networks, and a folder that keeps what is done."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import api, spine
from harness.attacks.sets import make_set
from harness.attacks.table import resolve
from harness.data.dataset import Dataset
from harness.data.load import load_data, stratified
from harness.errors import UsageError
from harness.models.load import load_twin
from harness.models.predictions import logits
from harness.models.shipped import WEIGHTS
from harness.records import RECORD, RunRecord, Share, Step
from harness.reproduce.evaluate import Bench, Evaluation, Loaded
from harness.reproduce.networks import Network, networks
from harness.reproduce.run import ReproduceOptions, Reproduction
from harness.settings import make_settings, stored_settings
from harness.sweep.cache import Cache

EPS = Fraction(8, 255)
ROBUST = "resnet18x16-at"  # the network that claims are made for


@dataclass(frozen=True)
class Ground:
    """One validation.

    Attributes:
        samples: attacked images, stratified by class.
        seed: of their choice and of random starts.
        data: images of CIFAR-10's test set, as `--data` names them.
        folder: of the runs; one that has finished there is not run again.
        cache: of single evaluations, shared with `harness reproduce`.
    """

    samples: int
    seed: int
    data: str
    folder: Path
    cache: Cache

    @cached_property
    def bench(self) -> Bench:
        """The images. Raises UsageError: more samples than there are."""
        data, _ = load_data(self.data, input_shape=None, classes=None, seed=self.seed)
        if not 1 <= self.samples <= len(data):
            raise UsageError(f"--samples {self.samples}: {data.name} has {len(data)} images; expected 1 to {len(data)}")
        return Bench(data, stratified(data.labels, self.samples, self.seed), EPS, self.seed, self.cache)

    @property
    def attacked(self) -> Dataset:
        """The attacked images alone."""
        return self.bench.data.subset(self.bench.index)

    @cached_property
    def networks(self) -> dict[str, Network]:
        """The shipped ones by name."""
        return {network.name: network for network in networks((WEIGHTS,))}

    def evaluation(self, name: str, attack: str, source: str) -> Evaluation:
        """A network under one attack; kept."""
        height, width, channels = self.bench.data.images.shape[1:]
        return self.bench.evaluate(Loaded(self.networks[name], (channels, height, width)), resolve(attack), source)

    def right(self, name: str, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which of these versions of the attacked images a network has right, bool (n,)."""
        right: NDArray[np.bool_] = logits(load_twin(name).module, images).argmax(1) == self.attacked.labels
        return right

    def set_against(self, name: str, attack: str) -> NDArray[np.uint8]:
        """The attacked images as one attack on one network leaves them, uint8 (n, h, w, c)."""
        data, place = self.attacked, self.folder / "sets" / name
        index = np.arange(len(data))
        made = make_set(load_twin(name).module, data, index, resolve(attack), EPS, self.seed, source="S1", folder=place)[1][:]
        shutil.rmtree(place)
        return made

    def run(self, name: str, **options: Any) -> RunRecord:
        """A bench of a shipped network, kept in `folder/NAME`; one that has begun there goes on.

        Raises:
            UsageError: another run is there.
        """
        place = self.folder / name
        if not (place / RECORD).exists():
            return api.bench(images=self.data, out=place, seed=self.seed, **options)
        plain = {key: value for key, value in options.items() if key not in ("engines", "attacks")}
        wanted = make_settings(
            **plain, data=self.data, seed=self.seed, flavours=tuple(options["engines"]), attacks=tuple(options["attacks"])
        )
        record = RunRecord.load(place)
        if stored_settings(record.settings, place) != wanted:
            raise UsageError(f"{place} holds another run than this check's (other images, seed or engines). Choose another --out.")
        return record if record.status == Step.FINISHED else spine.resume(place)

    def reproduction(self) -> Reproduction:
        """The benchmarking paper's rows on the same images."""
        return Reproduction(ReproduceOptions(samples=self.samples, data=self.data, seed=self.seed), self.cache)


def shown(share: Share) -> str:
    """A share with interval and n."""
    low, high = share.ci95
    return f"{100 * share.accuracy:.1f} % [{100 * low:.1f}, {100 * high:.1f}], n = {share.n}"
