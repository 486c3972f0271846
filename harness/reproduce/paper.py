"""The paper's tables and other published figures, read from the data files beside this module. Imports no torch."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

FOLDER = Path(__file__).parent / "paper"
LINF = ("fb_pgd", "apgd_ce", "apgd_dlr")


class Part(BaseModel):
    """A table of a data file: frozen, every key known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Ours(Part):
    """The network of this project that stands beside a row. Without a method: the parent itself."""

    method: str | None = None
    rate: str | None = None
    until: str | None = None
    student: str | None = None


class Row(Part):
    """One row. Figures in percent; None where it was not transcribed."""

    system: str
    name: str
    fb_pgd: float | None = None
    apgd_ce: float | None = None
    apgd_dlr: float | None = None
    cw_l2: float | None = None
    sparsity: float | None = Field(default=None, description="share of zeros that the label stands for")
    parameters: int | None = Field(default=None, description="P as printed")
    gamma: float | None = Field(default=None, description="γ as printed, of the bits that store the weights")
    decimals: int = Field(default=0, description="with which the figures are printed")
    ours: Ours

    @property
    def linf(self) -> dict[str, float]:
        """The L-inf figures there are, by attack."""
        return {name: value for name in LINF if (value := getattr(self, name)) is not None}

    @property
    def figures(self) -> list[float]:
        """All accuracies there are, in percent."""
        return [*self.linf.values(), *([] if self.cw_l2 is None else [self.cw_l2])]


class Hydra(Part):
    """What HYDRA's P counts besides the network: parameters of a block that is never used, and importance scores."""

    unused: int
    scores: int


class Student(Part):
    """A distilled network as tables print it. `millions`: its P; `gamma`: the teacher's P over its own; `tables`: in how many."""

    network: str
    gamma: float
    millions: float | None = None
    tables: int | None = None


class Noted(Part):
    """A fault that was seen in the paper, and that no figure here shows."""

    where: str
    what: str


class Paper(Part):
    """The paper. `n`: images behind each figure, as far as can be told; see `harness.reproduce.arithmetic.images`."""

    title: str
    source: str
    eps: str
    n: int
    parent: str = Field(description="what our networks are made of where a row is missing")
    standard_teacher: str
    parameters: dict[str, int]
    hydra: Hydra
    student: tuple[Student, ...]
    noted: tuple[Noted, ...]
    row: tuple[Row, ...]

    def named(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.row if row.name == name)


class Published(Part):
    """A robust accuracy that somebody else published, in percent."""

    system: str
    network: str
    robust: float
    clean: float | None = None
    attack: str
    source: str


@cache
def paper() -> Paper:
    """The tables."""
    return Paper.model_validate(tomllib.loads((FOLDER / "tables.toml").read_text(encoding="utf-8")))


@cache
def published() -> tuple[Published, ...]:
    """The figures of others."""
    return tuple(
        Published.model_validate(figure) for figure in tomllib.loads((FOLDER / "published.toml").read_text(encoding="utf-8"))["figure"]
    )
