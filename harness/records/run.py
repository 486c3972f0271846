"""The whole record."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from harness.records.attacks import AttackRecord, NoiseFloor
from harness.records.audit import Claim, Decomposition, Gate, Replay, SeededTransfer, Transfer, Verdict
from harness.records.described import DataRecord, DeviceRecord, ModelRecord
from harness.records.engines import EngineRecord
from harness.records.files import read_record, write_record
from harness.records.parts import Part
from harness.records.requirements import Qualification, Requirement
from harness.records.timing import Ratio

SCHEMA = 5
RECORD = "record.json"


class Step(StrEnum):
    """How far a run has come; a resumed run goes on after the last step that is in the record."""

    STARTED = "started"
    EXPORTED = "exported"
    ATTACKED = "attacked"
    MEASURED = "measured"
    FINISHED = "finished"


class RunRecord(Part):
    """A whole run."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null", protected_namespaces=())

    schema_: int = Field(default=SCHEMA, alias="schema")
    status: Step
    created: str = Field(description="ISO 8601, UTC")
    harness_version: str
    command: list[str]
    settings: dict[str, Any] = Field(description="the validated options of the run; a resumed run must have the same")
    tier: Literal["quick", "bench", "qualify"]
    seed: int
    environment: dict[str, Any] = Field(description="the workstation: platform, Python and library versions")
    device: DeviceRecord
    model: ModelRecord
    data: DataRecord
    engines: list[EngineRecord] = Field(default=[])
    ratios: list[Ratio] = Field(default=[], description="of the engines' latencies, pair by pair")
    attacks: list[AttackRecord] = Field(default=[])
    transfer: list[Transfer] = Field(default=[])
    seeded: list[SeededTransfer] = Field(default=[], description="transfer rates over all seeds, where a run has several")
    noise: NoiseFloor | None = Field(default=None, description="None: no noise was drawn (S0)")
    decompositions: list[Decomposition] = Field(default=[])
    replays: list[Replay] = Field(default=[], description="cross-engine replay (S6) at the primary radius; moves no verdict")
    gates: list[Gate] = Field(default=[])
    claims: list[Claim] = Field(default=[])
    verdict: Verdict | None = None
    qualification: Qualification | None = Field(default=None, description="None: no requirements file was given")
    requirements: list[Requirement] = Field(default=[])

    def save(self, folder: Path) -> None:
        """Write `folder/record.json`, whole or not at all."""
        write_record(self, folder / RECORD)

    @classmethod
    def load(cls, folder: Path) -> RunRecord:
        """Read `folder/record.json`.

        Raises:
            UsageError: there is no record there.
            UntrustedError: it is damaged or of a schema this version does not know.
        """
        return read_record(cls, folder / RECORD, SCHEMA, "a run folder")
