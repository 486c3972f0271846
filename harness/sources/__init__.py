"""Who a set is aimed at and why: the one table of sources (see `README.md`, What a run does). Names and words only: imports no torch.

A new source is one file with `plan(context) -> Iterator[Planned]` and one entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from typing import TYPE_CHECKING, Final, Literal

from harness.answers import TWIN, Column
from harness.errors import unknown

if TYPE_CHECKING:
    from harness.sources.planned import Context, Planned


TIERS = ("quick", "bench", "qualify")  # each has the sources of those before it
OWN_GRAPH: Final = "engines with a graph of their own"  # that has quantizers, or was not made of the twin here


@dataclass(frozen=True)
class Source:
    """One source.

    Attributes:
        id: what the record calls it.
        title: what its sets are aimed at.
        absent: what it means that a run has none.
        needed: whose claim can hold only with it.
        decides: its sets count in worst cases.
        path: `module:function` that plans its sets, imported at the first use.
        tier: the first tier whose runs have it; a run that names its sources has those.
        of_flavour: its sets are aimed at an artefact's graph, which all builds of a flavour share: they count for each of them.
    """

    id: str
    title: str
    absent: str
    needed: Literal["every engine", "engines with a graph of their own", "no engine"]
    decides: bool
    path: str
    tier: str = "quick"
    of_flavour: bool = False

    def plan(self, context: Context) -> Iterator[Planned]:
        """The sets of a run, in the order they are made."""
        module, _, function = self.path.partition(":")
        planner: Callable[[Context], Iterator[Planned]] = getattr(import_module(module), function)
        return planner(context)


_ALL = (
    Source(
        id="S0",
        title="no model: random noise, the floor",
        absent="it is not known what noise of that size does without an adversary",
        needed="no engine",
        decides=False,
        path="harness.sources.s0:plan",
    ),
    Source(
        id="S1",
        title="the PyTorch twin",
        absent="the claim that was made for the twin was not attacked",
        needed="every engine",
        decides=True,
        path="harness.sources.s1:plan",
    ),
    Source(
        id="S2",
        title="the PyTorch twin without its quantizers",
        absent="smoother gradients may find images that its quantizers hide",
        needed="no engine",
        decides=True,
        path="harness.sources.s2:plan",
        tier="bench",
    ),
    Source(
        id="S3",
        title="the exported graph read back into PyTorch, with straight-through gradients where it rounds (the STE twin)",
        absent="low transfer may be misaligned gradients: the engine's own graph was not attacked",
        needed=OWN_GRAPH,
        decides=True,
        path="harness.sources.s3:plan",
        of_flavour=True,
    ),
    Source(
        id="S4",
        title="the engine itself, along gradients of what is nearly it and by queries; and the twin with the same attacks and budgets",
        absent="the engine itself was not attacked",
        needed="every engine",
        decides=True,
        path="harness.sources.s4:plan",
    ),
    Source(
        id="S5",
        title="the twin and each quantized engine's graph, to part them (DIVA, and the reverse)",
        absent="images made to part twin and engine may part them more often",
        needed="no engine",
        decides=True,
        path="harness.sources.s5:plan",
        tier="bench",
        of_flavour=True,
    ),
    Source(
        id="S6",
        title="other engines: what fools one is shown to all others",
        absent="whether the engines share their weaknesses is not known",
        needed="no engine",
        decides=False,
        path="harness.sources.s6:plan",
        tier="qualify",
    ),
    Source(
        id="S7",
        title="the twin with weights of 4 and of 2 bits",
        absent="a coarser network's gradients may fool quantized engines better",
        needed="no engine",
        decides=True,
        path="harness.sources.s7:plan",
        tier="bench",
        of_flavour=True,
    ),
    Source(
        id="gate",
        title="the twin, at a radius where nothing can survive",
        absent="it is not known whether the attacks can break anything",
        needed="no engine",
        decides=False,
        path="harness.sources.gate:plan",
    ),
)
SOURCES: dict[str, Source] = {source.id: source for source in _ALL}


def find_source(name: str) -> Source:
    """The source of that id.

    Raises:
        UsageError: there is none; names the choices.
    """
    if name not in SOURCES:
        raise unknown("source", name, SOURCES)
    return SOURCES[name]


def of_run(named: Sequence[str], tier: str) -> list[Source]:
    """The sources of a run: those that it names, else those of its tier."""
    return [s for s in SOURCES.values() if (s.id in named if named else TIERS.index(s.tier) <= TIERS.index(tier))]


def concerns(column: Column, engine: str) -> bool:
    """Whether a set counts in an engine's claim: it is `aimed` at the twin or at that engine, by a source that decides, within a ball.

    Sets that are aimed at other engines are replayed too and reported, and move no verdict but their own: a verdict must not depend on
    the company that an engine keeps.
    """
    record = column.record
    return decides(column) and aimed(SOURCES[record.source], record.target, engine)


def decides(column: Column) -> bool:
    """Whether a set counts in anybody's claim."""
    record = column.record
    source = SOURCES.get(record.source)
    return source is not None and source.decides and record.norm == "Linf" and record.target != PARENT


def aimed(source: Source, target: str, engine: str) -> bool:
    """Whether a source's set for that target is one for that engine: it is the twin, the engine, or the graph of its flavour."""
    return target in (TWIN, flavour_of(engine) if source.of_flavour else engine)


def flavour_of(engine: str) -> str:
    """The flavour of an engine by its name, which ends with the number of its build where it is not the first."""
    return engine.partition("#")[0]


SMOOTH = f"{TWIN}-smooth"  # the row of the twin without its quantizers


FEWER_BITS = (4, 2)  # of the weights of the networks that stand in for quantized engines


def fewer_bits_name(bits: int) -> str:
    """The row of the twin with weights of so many bits."""
    return f"{TWIN}-w{bits}"


PARENT = "parent"  # the row of the network that the twin was compressed from, and the target of its own sets


def simulated_name(engine: str) -> str:
    """The row of an engine's file, computed node by node on the workstation."""
    return f"simulated-{flavour_of(engine)}"


def graph_name(engine: str) -> str:
    """The row of an engine's graph read back: one for all builds of a flavour."""
    return f"graph-{flavour_of(engine)}"


def deciding(columns: Iterable[Column], engine: str, eps: Fraction) -> list[Column]:
    """The sets that an engine's worst case in the ball of that radius rests on: what a smaller ball breaks, a larger one contains.

    Of S4, whose attacks follow from what an engine answers, the twin's sets count where the engine was attacked in the same way.
    """
    own = [column for column in columns if concerns(column, engine) and column.eps <= eps]
    on_engine = {column.record.name for column in own if (column.record.source, column.record.target) == ("S4", engine)}
    return [column for column in own if column.record.source != "S4" or column.record.name in on_engine]


def facing(columns: Iterable[Column], model: str, eps: Fraction) -> list[Column]:
    """The sets that a worst case rests on, see `deciding`; of the parent those that are aimed at it."""
    if model != PARENT:
        return deciding(columns, model, eps)
    return [c for c in columns if c.record.target == PARENT and c.record.norm == "Linf" and c.eps <= eps]


def complete(columns: Iterable[Column], engine: str) -> set[str]:
    """The sources of an engine's sets; S4 only where both the twin and the engine were attacked, and by the same attacks."""
    columns = list(columns)
    sources = {column.record.source for column in columns}
    on_twin, on_engine = (
        {column.record.name for column in columns if (column.record.source, column.record.target) == ("S4", target)}
        for target in (TWIN, engine)
    )
    return sources if on_engine and on_engine <= on_twin else sources - {"S4"}


def lacking(sources: Iterable[str], *, own_graph: bool) -> list[Source]:
    """The sources without which a claim on an engine cannot hold, and that it has not."""
    present = set(sources)
    whose = ("every engine", OWN_GRAPH) if own_graph else ("every engine",)
    return [source for source in SOURCES.values() if source.needed in whose and source.id not in present]
