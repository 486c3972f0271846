"""`harness reproduce`: attack each of our networks as the paper did, put its rows beside ours, answer its claims, recommend."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np

from harness import __version__
from harness.attacks.table import Attack, resolve
from harness.audit.metrics import Right
from harness.audit.statistics import share
from harness.data.load import load_data, stratified
from harness.errors import UsageError
from harness.hops.subject import find_profile
from harness.models.zoo import WEIGHTS
from harness.reproduce import claims
from harness.reproduce.arithmetic import faults
from harness.reproduce.claims import Attacked
from harness.reproduce.evaluate import PLAIN, TEMPERED, Bench, Evaluation, Subject, mask
from harness.reproduce.measure import Engine, engines
from harness.reproduce.networks import Network, beside, command, networks
from harness.reproduce.paper import Paper, paper, published
from harness.reproduce.record import OurRow, PublishedRow, ReproduceRecord, TableRow
from harness.run import environment, now
from harness.sweep.cache import Cache
from harness.sweep.recommend import Candidate, recommend
from harness.sweep.record import Front

LINF = ("FB_pgd_at", "apgd-ce", "apgd-dlr")
DISTANCE = "cw-l2"
DELTA = 0.05  # robust accuracy that the recommendation may give up
# Against gradients that a quantizer hides: the cross-entropy unsaturated, and no gradient at all.
ADAPTIVE = (("apgd-ce", TEMPERED), ("square", PLAIN))


@dataclass(frozen=True)
class Options:
    """What the user chose. `folders`: of networks; the zoo's by default. `device`: where latency and memory are measured, None for "
    "nowhere."""

    samples: int = 256
    data: str = "cifar10-sample"
    seed: int = 0
    folders: tuple[Path, ...] = (WEIGHTS,)
    device: str | None = None
    attacks: tuple[tuple[str, str], ...] = (*((name, PLAIN) for name in LINF), (DISTANCE, PLAIN))


@dataclass(frozen=True)
class Reproduction:
    """One reproduction: the images, the networks, and what each is attacked with."""

    options: Options
    cache: Cache

    @cached_property
    def paper(self) -> Paper:
        """The paper."""
        return paper()

    @cached_property
    def networks(self) -> list[Network]:
        """Those that stand beside a row, then those that were compressed otherwise, and what either were made of."""
        found = networks(self.options.folders)
        rows = [network for row in self.paper.row for network in beside(row.ours, found)]
        parents = {network.parent_sha256 for network in found}
        others = [network for network in found if network.method is not None or network.sha256 in parents]
        return list({network.sha256: network for network in (*rows, *others)}.values())

    @cached_property
    def bench(self) -> Bench:
        """The images."""
        data, _ = load_data(self.options.data, input_shape=None, classes=None, seed=self.options.seed)
        if not 1 <= self.options.samples <= len(data):
            raise UsageError(f"--samples {self.options.samples}: {data.name} has {len(data)} images; expected 1 to {len(data)}")
        index = stratified(data.labels, self.options.samples, self.options.seed)
        return Bench(data, index, Fraction(self.paper.eps), self.options.seed, self.cache)

    @cached_property
    def rows(self) -> dict[str, list[Network]]:
        """Row of the paper -> our networks."""
        return {row.name: beside(row.ours, self.networks) for row in self.paper.row}

    def tasks(self) -> Iterator[tuple[Network, Attack, str]]:
        """Every evaluation: each network under the paper's attacks; one-bit networks and their strongest rivals under the adaptive ones."""
        for network in self.networks:
            for name, source in self.options.attacks:
                yield network, resolve(name), source
        if self.rows["w1a1"]:
            for network in (*self.rows["w1a1"], *self.rivals()):
                for name, source in ADAPTIVE:
                    yield network, resolve(name), source

    def rivals(self) -> list[Network]:
        """The most robust network that is not w1a1, by what is known so far; none where nothing is."""
        others = [
            (network, right)
            for network in self.networks
            if network not in self.rows["w1a1"] and (right := self.survives(network)) is not None
        ]
        return [max(others, key=lambda one: int(one[1].sum()))[0]] if others else []

    def attack(self) -> None:
        """Make every evaluation that is not kept; each is kept as soon as it is there."""
        shape = self.bench.data.images.shape
        subjects = {network.sha256: Subject(network, (shape[3], shape[1], shape[2])) for network in self.networks}
        rivals = min(1, len(self.networks) - len(self.rows["w1a1"])) if self.rows["w1a1"] else 0  # chosen when the others are known
        total = len(self.networks) * len(self.options.attacks) + (len(self.rows["w1a1"]) + rivals) * len(ADAPTIVE)
        for number, (network, attack, source) in enumerate(self.tasks(), 1):
            if self.bench.known(network, attack, source) is None:
                print(
                    f"[{number}/{total}] {network.name}: {attack.name}{' with temperature' if source == TEMPERED else ''}", file=sys.stderr
                )
                self.bench.evaluate(subjects[network.sha256], attack, source)

    def known(self, network: Network) -> dict[str, Evaluation]:
        """What is kept of a network, by the name of the attack."""
        wanted = dict.fromkeys((*self.options.attacks, *ADAPTIVE))
        found = {(name, source): self.bench.known(network, resolve(name), source) for name, source in wanted}
        return {f"{name} T" if source == TEMPERED else name: kept for (name, source), kept in found.items() if kept is not None}

    def survives(self, network: Network) -> Right | None:
        """Bool (n,): right when clean and under every L-inf attack that is kept; None where none is."""
        masks = [kept.survives for kept in self.known(network).values() if kept.attack.norm == "Linf"]
        return np.logical_and.reduce(masks) if masks else None

    def record(self, words: list[str], measured: Sequence[Engine] = ()) -> ReproduceRecord:
        """Everything that is kept, put together."""
        known = [Attacked(network, right) for network in self.networks if (right := self.survives(network)) is not None]
        by_row = {name: [one for one in known if one.network in own] for name, own in self.rows.items()}
        placed = {network.sha256 for own in self.rows.values() for network in own}
        attacks = {key: kept.attack for one in known for key, kept in self.known(one.network).items()}
        return ReproduceRecord(
            created=now(),
            harness_version=__version__,
            command=words,
            environment=environment(),
            title=self.paper.title,
            source=self.paper.source,
            eps=self.paper.eps,
            data=self.bench.data.name,
            data_sha256=self.bench.data.sha256,
            samples=len(self.bench.index),
            seed=self.options.seed,
            attacks={key: f"{a.library}, {a.steps} steps of {a.step_size}" for key, a in attacks.items()},
            rows=[
                TableRow(
                    system=row.system,
                    name=row.name,
                    paper={**row.linf, **({"cw_l2": row.cw_l2} if row.cw_l2 is not None else {})},
                    ours=[our_row(one, self.known(one.network)) for one in by_row[row.name]],
                    missing=None if self.rows[row.name] else command(row.ours, self.paper),
                )
                for row in self.paper.row
            ],
            others=[our_row(one, self.known(one.network)) for one in known if one.network.sha256 not in placed],
            published=[PublishedRow(**figure.model_dump()) for figure in published()],
            faults=faults(self.paper, published()),
            claims=[
                claims.pruning(self.paper, by_row, known),
                claims.distillation(self.paper, by_row),
                claims.one_bit(self.paper, by_row, known, self._how()),
            ],
            fronts=list(fronts(known, measured)),
        )

    def _how(self) -> str:
        """How one-bit networks were attacked."""
        told = {f"{name} T" if source == TEMPERED else name for name, source in ADAPTIVE}
        done = all(told <= self.known(network).keys() for network in self.rows["w1a1"])
        beyond = (
            "Auto-PGD with a temperature and Square"
            if done
            else "nothing else yet: Auto-PGD with a temperature and Square are still to be run"
        )
        return f"w1a1 was attacked through straight-through gradients (FB_pgd_at, Auto-PGD) and by {beyond}."


def our_row(one: Attacked, known: dict[str, Evaluation]) -> OurRow:
    """One network's figures."""
    first = next(iter(known.values()))
    clean = mask(first.clean)
    card = one.network.card
    return OurRow(
        network=one.network.name,
        arch=one.network.arch,
        sha256=one.network.sha256,
        parameters=int(card["parameters"]),
        gamma=card["size"]["ratio"] if "size" in card else None,
        epochs=one.network.epochs,
        clean=share(int(clean.sum()), len(clean)),
        robust={key: share(int(kept.survives.sum()), len(clean)) for key, kept in known.items() if kept.attack.norm == "Linf"},
        worst=share(int(one.right.sum()), len(one.right)),
        cw_l2_median=known[DISTANCE].attack.l2_median if DISTANCE in known else None,
        zero_gradient=max(kept.attack.zero_gradient_share for kept in known.values()),
    )


def fronts(known: Sequence[Attacked], measured: Sequence[Engine]) -> Iterator[Front]:
    """Robust accuracy against the size of the weights and, of the engines that were measured, against latency and memory."""
    sized = [Candidate(one.network.name, weight_bytes(one.network) / 1024, one.right) for one in known]
    right = {one.network.sha256: one for one in known}
    ran = [(engine, right[engine.network.sha256]) for engine in measured if engine.network.sha256 in right]
    latency = [Candidate(f"{e.network.name}, {e.flavour}", e.latency_ms, one.right) for e, one in ran if e.latency_ms is not None]
    memory = [
        Candidate(f"{e.network.name}, {e.flavour}", e.memory_bytes / 2**20, one.right) for e, one in ran if e.memory_bytes is not None
    ]
    for front in (
        recommend(sized, "size", "size of the non-zero weights", "KiB", DELTA),
        recommend(latency, "latency", "median latency at batch 1", "ms", DELTA),
        recommend(memory, "memory", "peak memory", "MiB", DELTA),
    ):
        if front is not None:
            yield front


def weight_bytes(network: Network) -> float:
    """Bytes of the non-zero weights at the bits that tell their levels apart; by the card, else all in float32."""
    card = network.card
    return float(card["size"]["this"]["weight_bits"]) / 8 if "size" in card else 4.0 * int(card["parameters"])


def reproduce(options: Options, cache: Cache, words: list[str]) -> ReproduceRecord:
    """All of it: attack, measure where a device is named, and put together.

    Raises:
        UsageError: unknown data, device or folder, or more samples than there are.
    """
    work = Reproduction(options, cache)
    if options.device is not None:
        find_profile(options.device)
    if not work.networks or not len(work.bench.index):
        raise UsageError("there is no network to attack")
    work.attack()
    return work.record(words, engines(work.networks, options, cache) if options.device else ())
