"""The record of a sweep, `sweep.json`: what the reports read. Imports neither torch nor pandas.

Format history (`schema`): 1 — first. 2 — a front says at which radius. 3 — a made-up device is `synthetic`.

Accuracies are shares in [0, 1], intervals 95 % intervals. The figures are those of the run folders it names; nothing is measured here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from harness.records import Part, Share, Verdict, read_record, write_record

SCHEMA = 3
SWEEP = "sweep.json"

Axis = Literal["size", "latency", "memory"]


class Size(Part):
    """How large a network is, by every way of counting; see `harness.compression.count`."""

    parameters: int
    nonzero: int
    weight_bits: int
    file_bytes: int
    macs: int
    macs_nonzero: int


class AgainstParent(Part):
    """How many times less than the same engine of the parent needs: 2.0 is half. None where either is not known."""

    latency: dict[str, float] = Field(default={}, description="batch size -> ratio of the median latencies")
    memory: float | None = None
    artefact: float | None = None


class EngineRow(Part):
    """One engine of one cell."""

    flavour: str
    status: str
    error: str | None
    precision: str | None = Field(description="what the evidence allows to say")
    clean: Share | None
    robust: Share | None = Field(description="worst case over the attacks of the primary radius")
    verdict: Verdict | None
    latency_ms: dict[str, float] = Field(description="batch size -> median; measurements that do not count are left out")
    latency_invalid: str | None = Field(default=None, description="why a measurement was left out, with its remedy")
    memory_bytes: int | None
    artefact_bytes: int | None = Field(description="None: no file of it is known")
    simulated: bool
    against_parent: AgainstParent | None = Field(default=None, description="None for the parent itself, or where its engine did not run")

    @property
    def sound(self) -> bool:
        """Whether its figures may be ranked and recommended: it ran, and its verdict is one to rely on."""
        return self.status == "ok" and self.verdict is not None and self.verdict.sound


class CellRow(Part):
    """One network. Where `status` is not `finished`, what it lacks is absent."""

    label: str
    parent: str
    method: str | None = Field(default=None, description="None: the parent itself")
    rate: str | None = None
    pattern: str | None = None
    student: str | None = None
    recipe: str | None = None
    seed: int | None = None
    status: Literal["finished", "failed", "to do"]
    error: str | None = None
    network_cached: bool | None = Field(default=None, description="the network was there already; None for the parent")
    run_cached: bool = False
    sha256: str | None = None
    parent_sha256: str | None = Field(default=None, description="of the network it was made of; None where it was made of none")
    epochs: int | None = None
    eps: str
    weights: str | None = Field(default=None, description="the network's file")
    run: str | None = Field(default=None, description="the run folder")
    clean: Share | None = Field(default=None, description="the network itself, on all images")
    robust: Share | None = Field(default=None, description="the network itself, worst case over the attacks")
    verdict: Verdict | None = None
    size: Size | None = None
    gamma: dict[str, float] | None = Field(default=None, description="parent / this, by every way of counting")
    engines: list[EngineRow] = Field(default=[])


class Point(Part):
    """A candidate of a front. `given_up`: robust accuracy of the best less this one's, with a one-sided 95 % upper bound (Tango)."""

    name: str
    cost: float
    robust: Share
    on_front: bool
    given_up: float
    given_up_at_most: float


class Front(Part):
    """Robust accuracy against one cost, and the candidate that the rule recommends."""

    axis: Axis
    eps: str = Field(description="the radius at which every candidate was attacked")
    unit: str
    what: str = Field(description="what the cost is")
    delta: float
    points: list[Point]
    recommended: str
    rule: str
    reason: str


class DeviceRow(Part):
    """The device that the engines ran on."""

    name: str
    synthetic: bool
    emulated: bool


class SweepRecord(Part):
    """A whole sweep, finished or not."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null", protected_namespaces=())

    schema_: int = Field(default=SCHEMA, alias="schema")
    name: str
    created: str
    harness_version: str
    command: list[str]
    spec: dict[str, Any]
    executor: str
    cache: str
    environment: dict[str, Any]
    device: DeviceRow
    tier: str
    cells: list[CellRow]
    fronts: list[Front] = Field(default=[])

    @property
    def exit_code(self) -> int:
        """0: every cell finished; else 3. What the verdicts say is a result, not a failure."""
        return 0 if all(cell.status == "finished" for cell in self.cells) else 3

    def save(self, folder: Path) -> None:
        """Write `folder/sweep.json`, whole or not at all."""
        write_record(self, folder / SWEEP)

    @classmethod
    def load(cls, folder: Path) -> SweepRecord:
        """Read `folder/sweep.json`.

        Raises:
            UsageError: there is none.
            UntrustedError: it is damaged or of a schema this version does not know.
        """
        return read_record(cls, folder / SWEEP, SCHEMA, "the folder of a sweep")
