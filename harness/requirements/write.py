"""A requirements file drafted from a finished run: what that run meets, with some room, to be made one's own."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import product
from typing import Any, cast

from harness.records import EngineRecord
from harness.requirements.file import CONFIDENCE, SCHEMA
from harness.requirements.judge import in_question
from harness.requirements.kinds import KINDS, Kind
from harness.requirements.reading import Question, Reading
from harness.requirements.units import Value
from reports.format import clean
from reports.run import Run

# Base unit -> how a limit is written: the unit, how much of the base that is, and the step it is rounded outwards to (None: two digits).
WRITTEN: dict[str, tuple[str, float, float | None]] = {
    "ms": ("ms", 1, None), "images/s": ("images/s", 1, None), "mJ": ("mJ", 1, None), "B": ("MiB", 2**20, None),
    "share": ("%", 0.01, 1), "points": ("points", 0.01, 0.5),
}  # fmt: skip
OPEN = 1.0  # a share or a loss of so much requires nothing


@dataclass(frozen=True)
class Draft:
    """A line to be: its kind and options, the flavour it is about (None: the run), and what each build of it showed."""

    key: str
    options: Mapping[str, Any]
    flavour: str | None
    readings: Sequence[Reading]

    @property
    def kind(self) -> Kind:
        """Its entry in the table."""
        return KINDS[self.key]


def draft(run: Run) -> str:
    """The file as text: every figure that counts is a line that the run meets; times, sizes, rates and energies with a tenth of room."""
    engines = in_question(run.raw, [])
    drafts = [found for found in _drafts(run, engines) if all(r.value is not None and not r.doubt for r in found.readings)]
    sampled = sum(reading.bounds is not None for found in drafts for reading in found.readings)
    level = 1 - (1 - CONFIDENCE) / max(sampled, 1)
    flavours = list(dict.fromkeys(engine.flavour for engine in engines))
    parts = [_head(run, flavours)]
    for key in KINDS:
        lines = [(one, text) for one in drafts if one.key == key and (text := _limit(one, level)) is not None]
        if lines:
            parts.append(_block(key, [(_table(one, text, len(flavours) > 1), _observed(one)) for one, text in lines]))
    return "\n".join(parts)


def _drafts(run: Run, engines: Sequence[EngineRecord]) -> Iterator[Draft]:
    by_flavour = {flavour: [e for e in engines if e.flavour == flavour] for flavour in dict.fromkeys(e.flavour for e in engines)}
    for key, kind in KINDS.items():
        for flavour, builds in by_flavour.items() if kind.per == "engine" else [(None, [None])]:
            offered = [option.offered(run, builds[0]) for option in kind.options.values()]
            for values in product(*offered):
                options = dict(zip(kind.options, values, strict=True))
                meant = [engine for engine in builds if engine is None or kind.means(engine)]
                readings = [kind.read(Question(run, engine, engines, options, frozenset())) for engine in meant]
                yield Draft(key, options, flavour, readings)


def _limit(found: Draft, level: float) -> str | None:
    """The limit as the file has it; None where the run meets none that requires something."""
    unit, side = found.kind.unit, found.kind.side
    values = [_reached(reading, side, level) for reading in found.readings]
    if None in values or (side == "real" and not all(values)):
        return None
    if unit.base == "truth":
        return "true"
    if unit.base == "names":
        sets = [set(cast(Sequence[str], value)) for value in values]
        names = set.intersection(*sets) if side == "all_of" else set.union(*sets)
        return None if (side == "all_of" and not names) or not _known(found.kind, names) else json.dumps(sorted(names))
    figures = [cast(float, value) for value in values]
    if unit.base == "count":
        return str(round(min(figures)))
    figure = max(figures) * (1 + (unit.slack or 0)) if side == "at_most" else min(figures) / (1 + (unit.slack or 0))
    number, base = _rounded(figure, unit.base, up=side == "at_most")
    at_stake = min((r.at_stake for r in found.readings if r.at_stake is not None), default=math.inf)
    meaningless = base <= 0 or base >= min(at_stake, OPEN if unit.slack is None else math.inf)
    return None if meaningless else json.dumps(f"{number} {WRITTEN[unit.base][0]}")


def _known(kind: Kind, names: set[str]) -> bool:
    """Whether a file may name them: a run may hold a gate or a source of somebody's plugin."""
    try:
        kind.unit.parse(sorted(names))
    except ValueError:
        return False
    return True


def _reached(reading: Reading, side: str, level: float) -> Value | None:
    """What the run shows at the least: the bound that a limit must lie beyond."""
    if reading.bounds is None:
        return reading.value
    lower, upper = reading.bounds(level)
    return upper if side == "at_most" else lower


def _rounded(figure: float, base: str, *, up: bool) -> tuple[str, float]:
    """A figure in base units, rounded outwards: as text in the unit that is written, and in base units again."""
    _, factor, step = WRITTEN[base]
    value = Decimal(figure / factor)
    grid = Decimal(str(step)) if step is not None else Decimal(10) ** (value.adjusted() - 1 if value else 0)
    rounded = (value / grid).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR) * grid
    if up and step is not None:
        rounded = max(rounded, grid)
    return f"{rounded.normalize():f}", float(rounded) * factor


def _table(found: Draft, limit: str, named: bool) -> str:
    keys = [f"{name} = {json.dumps(value)}" for name, value in found.options.items() if value is not None]
    keys += [f"engine = {json.dumps(found.flavour)}"] if named and found.flavour is not None else []
    return "{ " + ", ".join([*keys, f"{found.kind.side} = {limit}"]) + " }"


def _observed(found: Draft) -> str:
    """What the run showed; of builds that differ, the worst where they can be ranked."""
    values, show = [cast(Value, reading.value) for reading in found.readings], found.kind.unit.show
    shown = list(dict.fromkeys(clean(show(value)) for value in values))
    if len(shown) == 1 or found.kind.side not in ("at_most", "at_least"):
        return " and ".join(shown)
    worst = max if found.kind.side == "at_most" else min
    return f"{clean(show(worst(cast(Sequence[float], values))))}, the worst of {len(values)} builds"


def _block(key: str, lines: Sequence[tuple[str, str]]) -> str:
    if len(lines) == 1:
        return f"{key} = {lines[0][0]}  # {lines[0][1]}"
    return "\n".join([f"{key} = [", *(f"    {table},  # {observed}" for table, observed in lines), "]"])


def _head(run: Run, flavours: Sequence[str]) -> str:
    record = run.raw
    source = f"{clean(record.model.name)} on {clean(record.device.name)}, {clean(record.created)}"
    return "\n".join(
        [
            f"# Drafted from a run of {source}; what it showed stands behind each line.",
            "# Every line is met by that run, with room. Put in what the deployment needs instead.",
            f"schema = {SCHEMA}",
            f"name = {json.dumps(f'{clean(record.model.name)} on {clean(record.device.name)}')}",
            f"confidence = {CONFIDENCE}  # that no line passes unjustly, over all lines together",
            f"engines = {json.dumps(list(flavours))}",
            "",
        ]
    )
