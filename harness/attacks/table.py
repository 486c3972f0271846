"""The table of attacks. Names and figures only: importing it imports neither torch nor an attack library.

A new attack is one function in one small file, `(search, *, steps) -> None`, and one entry here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from harness.attacks.access import Access
from harness.errors import UsageError, unknown

if TYPE_CHECKING:
    from harness.attacks.search import Search

    AttackFunction = Callable[[Search], None]


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        name: what the record and the command line call it.
        library: who wrote it.
        norm: "Linf": bounded by a radius. "L2": looks for the smallest distance and takes no radius.
        steps: gradient steps (draws, for noise).
        step_size: in words, for the report.
        description: one line.
        path: `module:function`, imported at the first use; a module without a dot is one of this package.
        bf16: may work on a bfloat16 form of the module. Not where it measures distances to the boundary, or takes no gradient.
        access: what it needs of its target.
        takes_start: begins its runs where the search says, and not where it chooses itself.
        continues: goes on where earlier sets left an image, and makes no random start after that.
        stops: does no more to an image once it fools, and nothing to one that the target has wrong.
        random: another seed finds something else.
        repeat: which of the run's seeds it has, from 1.
        runs: how often it makes its steps, on images that it cannot break.
    """

    name: str
    library: str
    norm: Literal["Linf", "L2"]
    steps: int
    step_size: str
    description: str
    path: str
    bf16: bool = True
    access: Access = Access.GRADIENT
    takes_start: bool = True
    continues: bool = False
    stops: bool = False
    random: bool = True
    repeat: int = 1
    runs: float = 1.0

    @property
    def bounded(self) -> bool:
        """Whether the attack takes a radius."""
        return self.norm == "Linf"

    @property
    def can_go_on(self) -> bool:
        """Whether it may begin where an attack of the same radius, on nearly the same network, left off."""
        return self.takes_start and self.bounded

    @property
    def function(self) -> AttackFunction:
        """What asks a `harness.attacks.search.Search` for logits, which keeps each image's best iterate.

        Iterates are not promised to lie in the ball, on the uint8 grid, or to fool: `harness.attacks.batch` sees to that.

        Raises:
            UsageError: there is no such function.
        """
        module, _, function = self.path.partition(":")
        try:
            return partial(getattr(import_module(module), function), steps=self.steps)
        except (ImportError, AttributeError, ValueError) as error:
            raise UsageError(f"the attack {self.name} has no function {self.path}: {error}") from error

    def with_steps(self, steps: int) -> Attack:
        """The same attack with another number of steps, named NAME-STEPS."""
        return self if steps == self.steps else replace(self, steps=steps, name=f"{self.name}-{steps}")

    def on(self, form: str) -> Attack:
        """The same attack on another form of a network, named NAME@FORM."""
        return replace(self, name=f"{self.name}{ON}{form}")

    def nearby(self) -> Attack:
        """The same attack where another one, on nearly the same network, left off: with a quarter of the steps.

        What can be won there is near. An attack that always `continues` knows that itself.
        """
        return self if self.continues else replace(self, steps=max(self.steps // NEARBY, 1))

    def again(self, repeat: int) -> Attack:
        """The same attack with a later one of the run's seeds, named NAME#REPEAT."""
        return self if repeat == 1 else replace(self, repeat=repeat, name=f"{self.name}{AGAIN}{repeat}")


NEARBY = 4  # a run from where an attack on nearly the same network ended takes one in so many of the steps
ON = "@"  # in the name of an attack, before the form of the network that it was made on where sets on several count alike
AGAIN = "#"  # in the name of an attack, before the number of its seed where that is not the run's first


ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        Attack(
            "noise",
            "harness",
            "Linf",
            10,
            "eps",
            "random signs, the worst of the draws: the floor",
            "harness.attacks.noise:noise",
            bf16=False,
        ),
        Attack(
            "fgsm",
            "foolbox",
            "Linf",
            1,
            "eps",
            "one step along the gradient's sign",
            "harness.attacks.foolbox_attacks:fgsm",
            takes_start=False,
            random=False,
        ),
        Attack(
            "bim",
            "foolbox",
            "Linf",
            10,
            "eps/5",
            "iterated FGSM from the clean image",
            "harness.attacks.foolbox_attacks:bim",
            takes_start=False,
            random=False,
        ),
        Attack("pgd", "harness", "Linf", 20, "eps/4", "projected gradient descent, random start", "harness.attacks.pgd:pgd"),
        Attack(
            "FB_pgd_at",
            "foolbox",
            "Linf",
            40,
            "0.033 eps",
            "Foolbox's PGD with its defaults: weak",
            "harness.attacks.foolbox_attacks:fb_pgd",
        ),
        Attack(
            "cw-l2",
            "foolbox",
            "L2",
            40,
            "Adam 0.02, 5 searches from c = 1",
            "Carlini & Wagner",
            "harness.attacks.foolbox_attacks:cw_l2",
            bf16=False,
            takes_start=False,
            random=False,
        ),
        Attack("apgd-ce", "harness", "Linf", 50, "adaptive, from 2 eps", "Auto-PGD, cross-entropy", "harness.attacks.apgd:apgd_ce"),
        Attack(
            "apgd-scaled",
            "harness",
            "Linf",
            50,
            "adaptive, from 2 eps",
            "Auto-PGD, cross-entropy of logits divided by a temperature",
            "harness.attacks.apgd:apgd_scaled",
        ),
        Attack(
            "apgd-probs",
            "harness",
            "Linf",
            50,
            "adaptive, from 2 eps",
            "Auto-PGD, margin of the probabilities at that temperature",
            "harness.attacks.apgd:apgd_probs",
        ),
        Attack("apgd-dlr", "harness", "Linf", 50, "adaptive, from 2 eps", "Auto-PGD, DLR loss", "harness.attacks.apgd:apgd_dlr"),
        Attack(
            "apgd-t",
            "harness",
            "Linf",
            50,
            "adaptive, from 2 eps",
            "Auto-PGD, DLR loss towards at most 9 classes: a quarter of the steps each, all of them towards the 2 that came nearest",
            "harness.attacks.apgd:apgd_t",
            runs=9 / 4 + 2,
        ),
        Attack(
            "bpda",
            "harness",
            "Linf",
            50,
            "adaptive, from eps/2 or 2 eps",
            "Auto-PGD on the margin; on an engine, its own margin with the gradient of its graph or of the twin",
            "harness.attacks.bpda:bpda",
        ),
        *(
            Attack(
                name,
                "harness",
                "Linf",
                50,
                "adaptive, from 2 eps",
                f"DIVA by Auto-PGD, then the two margins: {aim}",
                "harness.attacks.diva:diva",
            )
            for name, aim in (
                ("diva", "fools the second of a pair of networks while the first stays right"),
                ("diva-reverse", "fools the first of a pair of networks while the second stays right"),
            )
        ),
        *(
            Attack(
                name,
                "pyautoattack",
                "Linf",
                1000,
                "random squares",
                f"1,000 queries, no gradient, {start}",
                "harness.attacks.square:square",
                bf16=False,
                access=Access.SCORES,
                continues=continues,
                stops=True,
            )
            for name, start, continues in (
                ("square", "random start", False),
                ("square-warm", "from the best failure of the attacks before it", True),
            )
        ),
        Attack(
            "square-l2",
            "pyautoattack",
            "L2",
            1000,
            "random squares in L2 balls of 4 to 0.125",
            "1,000 queries for the smallest L2 distance, no gradient",
            "harness.attacks.square:square_l2",
            bf16=False,
            access=Access.SCORES,
            takes_start=False,
        ),
        Attack(
            "bisect",
            "harness",
            "Linf",
            8,
            "halved",
            "points between the clean image and the best failure, where a stand-in for the target crosses its boundary",
            "harness.attacks.bisect:bisect",
            bf16=False,
            access=Access.LABELS,
            continues=True,
        ),
        Attack(
            "autoattack",
            "pyautoattack",
            "Linf",
            100,
            "adaptive; FAB's; random squares",
            "AutoAttack's standard version, whole: slow, for its own figure",
            "harness.attacks.autoattack:autoattack",
            bf16=False,
            stops=True,
            takes_start=False,
        ),
        Attack(
            "hopskipjump",
            "foolbox",
            "Linf",
            1000,
            "halved until it fools",
            "1,000 queries for labels alone",
            "harness.attacks.hopskipjump:hopskipjump",
            bf16=False,
            access=Access.LABELS,
            stops=True,
            takes_start=False,
        ),
    )
}

# The benchmarking paper's names for attacks that are in the table. Its `FB_pgd_at` is an attack of its own: other steps than `pgd`.
ALIASES: dict[str, str] = {"AA_apgd-ce": "apgd-ce", "AA_apgd-dlr": "apgd-dlr", "CWL2": "cw-l2"}


def family(name: str) -> str:
    """An attack's name without the number of its seed."""
    return name.partition(AGAIN)[0]


def resolve(name: str) -> Attack:
    """The attack of that name or alias. NAME-N is the attack with N steps: `apgd-ce-100`, `pgd-40`.

    Raises:
        UsageError: no such attack; names the nearest.
    """
    known = ATTACKS | {alias: ATTACKS[target] for alias, target in ALIASES.items()}
    if name in known:
        return known[name]
    variant = re.fullmatch(r"(.+)-([1-9][0-9]{0,4})", name)
    if variant and variant[1] in known and known[variant[1]].steps > 1:
        return known[variant[1]].with_steps(int(variant[2]))
    raise unknown("attack", name, known)
