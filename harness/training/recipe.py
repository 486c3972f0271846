"""A training recipe: a TOML file, validated before any work."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from harness.eps import parse_eps
from harness.errors import UsageError
from harness.toml.read import read_toml


class Stage(BaseModel):
    """One training: everything that decides its weights, except the network it starts from and the data.

    Perturbation sizes are in pixel levels: `eps = 8` means 8/255.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$", description="of the files that training writes")
    objective: Literal["standard", "n-fgsm", "pgd-at", "trades"]
    epochs: int = Field(gt=0)
    batch: int = Field(default=128, gt=1)
    lr: float = Field(gt=0, description="peak learning rate")
    schedule: Literal["one-cycle", "cosine", "steps"] = Field(
        default="one-cycle", description="cosine and steps begin at the peak; steps divide it by ten at each milestone"
    )
    warmup: float = Field(default=0.25, gt=0, lt=1, description="share of the one-cycle schedule spent rising")
    milestones: tuple[PositiveInt, ...] = Field(
        default=(), description="epochs after which `steps` divides the rate by ten, of each period where there is one"
    )
    period: int | None = Field(default=None, gt=0, description="epochs after which `steps` begins again at the peak")
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = Field(default=True, description="momentum as Nesterov's")
    weight_decay: float = Field(default=5e-4, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    average: float = Field(default=0.999, ge=0, lt=1, description="decay of the weights' moving average per step; 0: none")
    eps: float = Field(default=8, gt=0, lt=255, description="radius of the adversary, in 1/255")
    steps: int = Field(default=10, gt=0, description="inner steps of pgd-at, trades and the distillations")
    beta: float = Field(default=6, ge=0, description="weight of the robust term of trades")
    holdout: int = Field(default=2000, gt=0, description="training images kept for selection")
    seed: int = 0
    flip: bool | None = Field(default=None, description="mirror every second image; left out: where mirrored images keep their label")
    crop: int | None = Field(default=None, ge=0, le=64, description="zero padding of random crops, 0: none; left out: 4, or 0 as for flip")
    bf16: bool = Field(default=True, description="autocast, where the hardware has it")

    @model_validator(mode="after")
    def _has_steps(self) -> Stage:
        if self.schedule != "steps" and (self.milestones or self.period is not None):
            raise ValueError(f"milestones and period are of the schedule steps, and this is {self.schedule}: say schedule = 'steps'")
        return self


class Recipe(Stage):
    """A stage that starts from a fresh network and ends in a model card."""

    description: str
    arch: str
    claim: str = Field(description="radius that the model card claims robustness at, and a bench attacks by default")

    @field_validator("claim")
    @classmethod
    def _is_a_radius(cls, claim: str) -> str:
        try:
            parse_eps(claim)
        except UsageError as error:  # pydantic names the field, and reports a ValueError with all other faults
            raise ValueError(str(error).removeprefix("--eps ")) from error
        return claim


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        UsageError: the file is missing, not TOML, or holds an unknown or invalid field.
    """
    content = read_toml(path, "recipe")
    try:
        return Recipe(**content)
    except ValidationError as error:
        raise UsageError(f"recipe {path}: {faults(error)}") from error


def faults(error: ValidationError) -> str:
    """Every field that is wrong, on one line; of one that is not known, the nearest that is."""
    return "; ".join(": ".join([*([".".join(map(str, e["loc"]))] if e["loc"] else []), f"{e['msg']}{_nearest(e)}"]) for e in error.errors())


def _nearest(fault: ErrorDetails) -> str:
    near = difflib.get_close_matches(str(fault["loc"][-1]), Stage.model_fields, n=1) if fault["type"] == "extra_forbidden" else []
    return f"; did you mean {near[0]}?" if near else ""
