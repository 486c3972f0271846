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
from harness.attacks.table import resolve
from harness.audit import gates
from harness.audit.metrics import Right
from harness.audit.statistics import share
from harness.cards import nonzero
from harness.data.dataset import Dataset, check_numbering
from harness.data.load import load_data, stratified
from harness.errors import UsageError
from harness.models.shipped import WEIGHTS
from harness.records import Gate
from harness.reproduce import claims
from harness.reproduce.arithmetic import faults
from harness.reproduce.claims import Attacked
from harness.reproduce.evaluate import PLAIN, TEMPERED, Bench, Evaluation, Loaded, mask
from harness.reproduce.measure import engines
from harness.reproduce.networks import Network, beside, command, networks
from harness.reproduce.paper import Paper, paper, published
from harness.reproduce.record import OurRow, PublishedRow, ReproduceRecord, TableRow
from harness.run import environment, now
from harness.settings import check_seed
from harness.stages.names import find_profile
from harness.sweep.cache import Cache
from harness.sweep.recommend import Candidate, recommend
from harness.sweep.record import CellRow, Front
from harness.sweep.run import fronts

DISTANCE, QUERIES = "cw-l2", "square"
# Every network faces all of them. The paper's, then two against gradients that a quantizer hides: the cross-entropy unsaturated, and
# no gradient at all.
ATTACKS = (
    *((name, PLAIN) for name in ("FB_pgd_at", "apgd-ce", "apgd-dlr", DISTANCE)),
    ("apgd-ce", TEMPERED),
    (QUERIES, PLAIN),
)
DELTA = 0.05  # robust accuracy that the recommendation may give up


@dataclass(frozen=True)
class ReproduceOptions:
    """What the user chose. `folders`: of networks; the zoo's by default. `device`: where latency and memory are measured, if anywhere."""

    samples: int = 256
    data: str = "cifar10-sample"
    seed: int = 0
    folders: tuple[Path, ...] = (WEIGHTS,)
    device: str | None = None


@dataclass(frozen=True)
class Reproduction:
    """One reproduction: the images, the networks, and what each is attacked with."""

    options: ReproduceOptions
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
        self._check_images(data)
        index = stratified(data.labels, self.options.samples, self.options.seed)
        return Bench(data, index, Fraction(self.paper.eps), self.options.seed, self.cache)

    def _check_images(self, data: Dataset) -> None:
        """Every network must take the images, and know their classes. Raises UsageError."""
        shape = (data.images.shape[3], *data.images.shape[1:3])
        for network in self.networks:
            wanted = tuple(network.card["input_shape"])
            if wanted != shape:
                raise UsageError(f"--data {data.name} has images of {shape} (channels, height, width), {network.name} takes {wanted}")
            if data.classes > network.card["classes"] or (data.class_names and data.classes != network.card["classes"]):
                raise UsageError(f"--data {data.name} has {data.classes} classes, {network.name} {network.card['classes']}")
            check_numbering(f"--data {data.name}", data.class_names, network.name, network.card.get("class_names", ()))

    def check(self) -> None:
        """Everything that can be wrong, before any attack.

        Raises:
            UsageError: unknown data, device or folder, more samples than there are, or no network.
        """
        check_seed(self.options.seed)
        if self.options.device is not None:
            find_profile(self.options.device)
        if not self.networks or not len(self.bench.index):
            raise UsageError("there is no network to attack")

    @cached_property
    def rows(self) -> dict[str, list[Network]]:
        """Row of the paper -> our networks."""
        return {row.name: beside(row.ours, self.networks) for row in self.paper.row}

    def attack(self) -> None:
        """Make every evaluation that is not kept; each is kept as soon as it is there."""
        shape = self.bench.data.images.shape
        for number, network in enumerate(self.networks):
            subject = Loaded(network, (shape[3], shape[1], shape[2]))
            for step, (name, source) in enumerate(ATTACKS, 1):
                if self.bench.known(network, resolve(name), source) is None:
                    place = f"[{number * len(ATTACKS) + step}/{len(self.networks) * len(ATTACKS)}]"
                    print(f"{place} {network.name}: {title(name, source)}", file=sys.stderr)
                    self.bench.evaluate(subject, resolve(name), source)

    def engines(self) -> list[CellRow]:
        """Every network's engines on the device, under those of the attacks that a bench makes."""
        radius = tuple(name for name, source in ATTACKS if source == PLAIN and resolve(name).bounded)
        return engines(self.networks, self.options, radius, self.paper.eps, self.cache)

    def known(self, network: Network) -> dict[str, Evaluation]:
        """What is kept of a network, by the name of the attack."""
        found = {title(name, source): self.bench.known(network, resolve(name), source) for name, source in ATTACKS}
        return {name: kept for name, kept in found.items() if kept is not None}

    def record(self, words: list[str], measured: Sequence[CellRow] = ()) -> ReproduceRecord:
        """Everything put together, once every network was attacked."""
        kept = {network.sha256: self.known(network) for network in self.networks}
        known = [Attacked(network, survives(own := kept[network.sha256]), unsound(own)) for network in self.networks]
        by_row = {name: [one for one in known if one.network in own] for name, own in self.rows.items()}
        placed = {network.sha256 for own in self.rows.values() for network in own}
        attacks = {key: found.attack for evaluations in kept.values() for key, found in evaluations.items()}
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
                    parameters=row.parameters,
                    gamma=row.gamma,
                    ours=[our_row(one, kept[one.network.sha256]) for one in by_row[row.name]],
                    missing=None if self.rows[row.name] else command(row.ours, self.paper),
                )
                for row in self.paper.row
            ],
            others=[our_row(one, kept[one.network.sha256]) for one in known if one.network.sha256 not in placed],
            published=[PublishedRow(**figure.model_dump()) for figure in published()],
            faults=faults(self.paper, published()),
            claims=[
                claims.pruning(self.paper, by_row, known),
                claims.distillation(self.paper, by_row),
                claims.one_bit(self.paper, by_row, known),
            ],
            fronts=list(recommended(known, measured, self.paper.eps)),
        )


def title(name: str, source: str) -> str:
    """What tables call an attack."""
    return f"{name} T" if source == TEMPERED else name


def survives(known: dict[str, Evaluation]) -> Right:
    """Bool (n,): right when clean and under every L-inf attack."""
    found: Right = np.logical_and.reduce([kept.survives for kept in known.values() if kept.attack.norm == "Linf"])
    return found


def failed(known: dict[str, Evaluation]) -> list[Gate]:
    """The gates that a network's evaluation fails."""
    attacks = {name: kept.attack for name, kept in known.items()}
    bounded = {name: kept for name, kept in known.items() if kept.attack.norm == "Linf"}
    white_box = {name: kept for name, kept in bounded.items() if name != QUERIES}
    found = [
        gates.zero_gradient([(name, a.zero_gradients, a.n_attacked) for name, a in attacks.items() if name in white_box]),
        gates.query_attack(survives(white_box), bounded[QUERIES].survives),
        gates.rounding([(name, a.undone_by_rounding, a.n_attacked) for name, a in attacks.items()]),
    ]
    return [gate for gate in found if gate.passed is False]


def unsound(known: dict[str, Evaluation]) -> str | None:
    """Those that the robustness rests on, in words; None where its figures may be believed."""
    return "; ".join(map(in_words, filter(gates.guards, failed(known)))) or None


def in_words(gate: Gate) -> str:
    """A gate's name and what was seen."""
    return f"{gate.name}: {gate.observed}"


def our_row(one: Attacked, known: dict[str, Evaluation]) -> OurRow:
    """One network's figures."""
    first = next(iter(known.values()))
    clean = mask(first.clean)
    card = one.network.card
    size = card.get("size")
    return OurRow(
        network=one.network.name,
        arch=one.network.arch,
        sha256=one.network.sha256,
        parameters=int(card["parameters"]),
        nonzero=nonzero(card),
        parent_nonzero=int(size["parent"]["nonzero"]) if size else None,
        gamma=size["ratio"] if size else None,
        epochs=one.network.epochs,
        clean=share(int(clean.sum()), len(clean)),
        robust={key: share(int(kept.survives.sum()), len(clean)) for key, kept in known.items() if kept.attack.norm == "Linf"},
        worst=share(int(one.right.sum()), len(one.right)),
        cw_l2=known[DISTANCE].l2,
        unsound=one.unsound,
        failed=[in_words(gate) for gate in failed(known)],
        zero_gradient=max(kept.attack.zero_gradient_share for kept in known.values()),
    )


def recommended(known: Sequence[Attacked], measured: Sequence[CellRow], eps: str) -> Iterator[Front]:
    """The networks by the size of their weights; their engines, by what was measured on them, by latency and memory.

    A network that fails a gate is no candidate: what it has left is an upper bound.
    """
    sized = [Candidate(one.network.name, weight_bytes(one.network) / 1024, one.right) for one in known if one.unsound is None]
    front = recommend(sized, "size", "stored size of the weights, networks run in float32", "KiB", DELTA, eps)
    if front is not None:
        yield front
    yield from (front for front in fronts(measured, DELTA, "1") if front.axis != "size")


def weight_bytes(network: Network) -> float:
    """Bytes that store the weights (`harness.compression.count.Size.weight_bits`); by the card, else all in float32."""
    card = network.card
    return float(card["size"]["this"]["weight_bits"]) / 8 if "size" in card else 4.0 * int(card["parameters"])


def reproduce(options: ReproduceOptions, cache: Cache, words: list[str]) -> ReproduceRecord:
    """All of it: attack, measure where a device is named, and put together.

    Raises:
        UsageError: see `Reproduction.check`.
    """
    work = Reproduction(options, cache)
    work.check()
    work.attack()
    return work.record(words, work.engines() if options.device else ())
