"""The record of a reproduction, `reproduce.json`: what the report reads. Imports neither torch nor pandas.

Format history (`schema`): 1 — first. 2 — the C&W distance has an interval, a front says at which radius. 3 — P is
counted (without zeros) beside the parent's and stands for the paper's rows too; networks that fail a gate; answers are "here".

Accuracies are shares in [0, 1] with 95 % intervals; the paper's own figures are in percent, as printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from harness.records import Interval, Median, Part, Share, write_record
from harness.sweep.record import Front

SCHEMA = 3
REPRODUCE = "reproduce.json"

Answer = Literal["REPRODUCED HERE", "NOT REPRODUCED HERE", "MIXED", "UNDECIDED"]


class OurRow(Part):
    """One of our networks beside a row of the paper (or beside none)."""

    network: str
    arch: str
    sha256: str
    parameters: int = Field(description="all of them, zeros too")
    nonzero: int = Field(description="P: those that are not zero")
    parent_nonzero: int | None = Field(description="P of the network it was made of, or learnt from; P x gamma by non-zeros (Eq. 14)")
    gamma: dict[str, float] | None = Field(description="the parent's count over this one's, by every way of counting")
    epochs: int | None
    clean: Share
    robust: dict[str, Share] = Field(description="attack -> accuracy left, right when clean and under the attack")
    worst: Share = Field(description="right when clean and under each of the L-inf attacks")
    cw_l2: Median | None = Field(description="L2 distance of the nearest images found that fool, pixels in [0, 1]")
    failed: list[str] = Field(description="gates that its evaluation fails, with what was seen")
    unsound: str | None = Field(description="those of them that the robustness rests on: what it has left is an upper bound")
    zero_gradient: float = Field(description="largest share, over the attacks, of images whose loss gradient at the start is zero")


class TableRow(Part):
    """A row of the paper with all our networks of that kind; `missing`: the command that makes one, where there is none."""

    system: str
    name: str
    paper: dict[str, float] = Field(description="accuracies in percent")
    parameters: int | None = Field(description="P as the paper prints it, where it was transcribed")
    gamma: float | None = Field(default=None, description="γ of the weights' bits as the paper prints it, where it was transcribed")
    ours: list[OurRow]
    missing: str | None


class Fault(Part):
    """Where the paper's own figures do not hold."""

    where: str
    what: str


class Pairing(Part):
    """Two of our networks on the same images. `gain`: robust accuracy of the first less that of the second."""

    first: str
    second: str
    n: int
    gain: float
    bounds: Interval = Field(description="Tango's score bounds, each one-sided 95 %: together a 90 % interval")
    p: float = Field(description="McNemar, exact, two-sided, Holm-adjusted over the claim's pairs")
    n_required: int | None = Field(description="images that would tell the gain seen from none, at 80 % power")


class ClaimAnswer(Part):
    """One of the paper's claims, and what our networks say."""

    claim: str
    answer: Answer
    reason: str
    paper: str = Field(description="what the paper's own figures come to")
    pairs: list[Pairing]
    missing: list[str] = Field(description="rows without which it cannot be (fully) decided")


class PublishedRow(Part):
    """A figure of others, in percent."""

    system: str
    network: str
    clean: float | None
    robust: float
    attack: str
    source: str


class ReproduceRecord(Part):
    """The whole of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null", protected_namespaces=())

    schema_: int = Field(default=SCHEMA, alias="schema")
    created: str
    harness_version: str
    command: list[str]
    environment: dict[str, Any]
    title: str
    source: str
    eps: str
    data: str
    data_sha256: str
    samples: int
    seed: int
    attacks: dict[str, str] = Field(description="attack -> its steps and step size")
    rows: list[TableRow]
    others: list[OurRow] = Field(description="our networks that the paper has no row for")
    published: list[PublishedRow]
    faults: list[Fault]
    claims: list[ClaimAnswer]
    fronts: list[Front] = Field(default=[])

    def save(self, folder: Path) -> None:
        """Write `folder/reproduce.json`, whole or not at all."""
        write_record(self, folder / REPRODUCE)
