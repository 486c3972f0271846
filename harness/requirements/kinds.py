"""The table of what can be required. A new kind is one entry; its reader is `(Question) -> Reading`, imported at the first use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from harness.audit.gates import GATES
from harness.eps import parse_eps
from harness.errors import UsageError, unknown
from harness.records import EngineRecord
from harness.requirements.reading import Question, Reading
from harness.requirements.units import COUNT, DURATION, ENERGY, POINTS, RATE, SHARE, SIZE, TRUE, Unit, names
from harness.sources import SOURCES
from reports.run import Run

Side = Literal["at_most", "at_least", "all_of", "may_fail", "real"]
REQUIRED = object()
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)")
_SHORT = {"p999": "p99.9"}


@dataclass(frozen=True)
class Option:
    """A key beside the limit.

    Attributes:
        parse: what the file holds -> its value; ValueError says what is wrong.
        default: where it is left out; `REQUIRED`: it may not be.
        offered: the values worth a line in a file that is written from a run.
    """

    parse: Callable[[object], Any]
    default: object
    offered: Callable[[Run, EngineRecord | None], Sequence[object]]


@dataclass(frozen=True)
class Kind:
    """One thing that can be required.

    Attributes:
        title: of its rows, before its options.
        side: the key of its limit: how the figure must stand to it.
        unit: of the limit.
        path: `module:function` that reads the figure.
        options: its other keys.
        per: whose figure it is.
        of_settings: it depends on threads and the like, so that only engines with the settings asked for are meant.
    """

    title: str
    side: Side
    unit: Unit
    path: str
    options: Mapping[str, Option] = field(default_factory=dict)
    per: Literal["engine", "run"] = "engine"
    of_settings: bool = False

    def means(self, engine: EngineRecord) -> bool:
        """Whether it is asked of such an engine."""
        return not self.of_settings or engine.varied is None

    def read(self, question: Question) -> Reading:
        """The figure."""
        module, _, function = self.path.partition(":")
        reader: Callable[[Question], Reading] = getattr(import_module(module), function)
        return reader(question)

    def name(self, options: Mapping[str, Any]) -> str:
        """What a row is called."""
        details = [f"batch {options['batch']}"] if "batch" in options else []
        details += [f"eps {options['eps']}"] if options.get("eps") else []
        details += [f"{options['source']} alone"] if options.get("source") else []
        title = f"{self.title} {options['percentile']}" if "percentile" in options else self.title
        return ", ".join([title, *details])

    @property
    def example(self) -> str:
        """A table of this kind, for errors."""
        keys = [f"{name} = …" for name, option in self.options.items() if option.default is REQUIRED]
        return "{ " + ", ".join([*keys, f"{self.side} = …"]) + " }"


def _batch(given: object) -> int:
    return int(COUNT.parse(given))  # type: ignore[arg-type]


def _percentile(given: object) -> str:
    text = _SHORT.get(str(given), str(given))
    match = _PERCENTILE.fullmatch(text)
    if match is None or not 0 < float(match[1]) < 100:
        raise ValueError(f'{given!r} is not a percentile such as "p50", "p99" or "p99.9"')
    return text


def _eps(given: object) -> str:
    try:
        eps = parse_eps(given) if isinstance(given, str) else None
    except UsageError as error:
        raise ValueError(str(error).removeprefix("--eps ")) from error
    if not eps:
        raise ValueError(f'{given!r} is not a radius above 0 such as "8/255"')
    levels = eps * 255
    return f"{levels.numerator}/255" if levels.denominator == 1 else str(eps)


def _source(given: object) -> str:
    choices = [source.id for source in SOURCES.values() if source.decides]
    if given not in choices:
        raise ValueError(str(unknown("source", str(given), choices)))
    return str(given)


def _batches(_run: Run, engine: EngineRecord | None) -> list[int]:
    return [] if engine is None else sorted(map(int, engine.latency))


BATCH = Option(_batch, REQUIRED, _batches)
PERCENTILE = Option(_percentile, REQUIRED, lambda _run, _engine: ("p50", "p99"))
EPS = Option(_eps, None, lambda run, _engine: list(dict.fromkeys(claim.eps_exact for claim in run.raw.claims)))
SOURCE = Option(_source, None, lambda _run, _engine: (None,))
ATTACK = {"source": SOURCE, "eps": EPS}

KINDS: dict[str, Kind] = {
    "latency": Kind(
        "latency", "at_most", DURATION, "harness.requirements.timing:latency", {"percentile": PERCENTILE, "batch": BATCH},
        of_settings=True,
    ),
    "throughput": Kind("throughput", "at_least", RATE, "harness.requirements.timing:throughput", {"batch": BATCH}, of_settings=True),
    "energy": Kind("energy of one image", "at_most", ENERGY, "harness.requirements.timing:energy", {"batch": BATCH}, of_settings=True),
    "load-time": Kind("load time", "at_most", DURATION, "harness.requirements.timing:load_time", of_settings=True),
    "memory": Kind("peak memory", "at_most", SIZE, "harness.requirements.sizes:memory", of_settings=True),
    "device-memory": Kind("memory on the accelerator", "at_most", SIZE, "harness.requirements.sizes:device_memory", of_settings=True),
    "artefact": Kind("artefact", "at_most", SIZE, "harness.requirements.sizes:artefact"),
    "clean-accuracy": Kind("clean accuracy", "at_least", SHARE, "harness.requirements.accuracy:clean_accuracy"),
    "clean-loss": Kind("clean accuracy loss", "at_most", POINTS, "harness.requirements.accuracy:clean_loss"),
    "robust-accuracy": Kind("robust accuracy", "at_least", SHARE, "harness.requirements.accuracy:robust_accuracy", ATTACK),
    "robustness-gap": Kind("robustness gap", "at_most", POINTS, "harness.requirements.accuracy:robustness_gap", ATTACK),
    "images": Kind("attacked images", "at_least", COUNT, "harness.requirements.evidence:images", per="run"),
    "builds": Kind("builds", "at_least", COUNT, "harness.requirements.evidence:builds"),
    "sources": Kind("sources", "all_of", names("sources", lambda: SOURCES), "harness.requirements.evidence:sources"),
    "hardware": Kind("real hardware", "real", TRUE, "harness.requirements.evidence:hardware"),
    "gates": Kind("gates", "may_fail", names("gates", lambda: GATES, none=True), "harness.requirements.evidence:gates", per="run"),
}  # fmt: skip
