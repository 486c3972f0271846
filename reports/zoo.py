"""The model zoo: what each network's card measured, and the command that makes it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.cards import Card, command, epochs, nonzero, rounds_activations
from harness.records import Share
from reports.elements import Section, Table, table
from reports.format import NONE, count, estimate, percent, significant
from reports.markdown import document

COLUMNS = ("network", "architecture", "not zero", "γ, bits", "epochs", "clean", "ε", "PGD", "worst of three")
BRIEF = ("network", "not zero", "clean", "ε", "robust")
WORST = "worst case of these"
NUMBERS = (2, 3, 4)
ATTACKS = (
    "γ: bits that store the parent's weights over bits that store these: each at the bits that tell its levels apart, and where zeros are "
    "left out a mask of one bit per weight. "
    "Epochs: of the network's own training, after its parent's. The students (ard, rslad, iad) start from nothing and have half the epochs "
    "of resnet18x16-at: they are under-trained, and being below it says nothing against their methods. PGD: 20 steps of ε/4. Worst of "
    "three: an image counts when it withstands "
    "PGD, APGD-CE and APGD-DLR (50 steps each). Shares of {n:,} images of {data}, float32, with 95 % Wilson intervals. "
    "≤: all three follow gradients, and activations of few bits hide them, so that what is left is an upper bound (PGD chose the epoch of "
    "the resnet18x16-at-lowbit ones too; trainings of today ask Square as well). The report of "
    "harness reproduce, docs/reproduction.md, has an attack by queries too: of 256 images it leaves resnet18x16-at-lowbit-w1a1 7.8 %."
)
ORIGIN = (
    "Written by harness models list --markdown out of the cards. harness models show NAME prints a card with recipe, data hash, seed and "
    "all attacks."
)


def zoo_page(cards: Mapping[str, Card]) -> str:
    """The whole zoo as Markdown: `harness models list --markdown`."""
    commands = [line for card in cards.values() if (line := command(card)) is not None]
    sections = [
        Section("networks", "Networks", tables=[zoo_table(cards)]),
        Section("commands", "Commands", ["Each makes its network again, on CIFAR-10."], code="\n".join(commands)),
    ]
    return document("The model zoo", ORIGIN, sections)


def zoo_table(cards: Mapping[str, Card]) -> Table:
    """A row per network."""
    measured = next(iter(cards.values()))["measured"]
    note = ATTACKS.format(n=measured["clean"]["n"], data=measured["data"])
    return table("What was measured", COLUMNS, [tuple(_row(name, card)) for name, card in cards.items()], numbers=NUMBERS, note=note)


def brief_row(card: Card) -> tuple[str, ...]:
    """What a terminal has room for, in the order of `BRIEF`, without the name."""
    measured = card["measured"]
    clean, worst = (Share.model_validate(measured[key]).accuracy for key in ("clean", WORST))
    return count(nonzero(card)), percent(clean), card["eps"], f"{_bound(card)}{percent(worst)}"


def _bound(card: Card) -> str:
    """`≤ ` where the attacks that were run may have been misled."""
    return "≤ " if rounds_activations(card) else ""


def _row(name: str, card: Card) -> Iterator[str]:
    measured, size = card["measured"], card.get("size")
    pgd = next(figure for attack, figure in measured.items() if attack.startswith("pgd "))
    clean, alone, worst = (Share.model_validate(figure) for figure in (measured["clean"], pgd, measured[WORST]))
    yield from (name, card["arch"], count(nonzero(card)))
    yield significant(size["ratio"]["weight_bits"]) if size else NONE
    yield count(epochs(card))
    yield estimate(clean.accuracy, clean.ci95)
    yield card["eps"]
    yield from (f"{_bound(card)}{estimate(share.accuracy, share.ci95)}" for share in (alone, worst))
