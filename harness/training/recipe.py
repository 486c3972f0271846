"""A training recipe: a TOML file, validated before any work."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness.eps import parse_eps
from harness.errors import UsageError


class Recipe(BaseModel):
    """Everything that decides the weights of a trained network, except the data.

    Perturbation sizes are in pixel levels: `eps = 8` means 8/255.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$", description="of the files that training writes")
    description: str
    arch: str
    claim: str = Field(description="radius that the model card claims robustness at, and a bench attacks by default")
    objective: Literal["standard", "n-fgsm", "pgd-at"]
    epochs: int = Field(gt=0)
    batch: int = Field(default=128, gt=1)
    lr: float = Field(gt=0, description="peak learning rate of the one-cycle schedule")
    warmup: float = Field(default=0.25, gt=0, lt=1, description="share of the schedule spent rising")
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    average: float = Field(default=0.999, ge=0, lt=1, description="decay of the weights' moving average per step; 0: none")
    eps: float = Field(default=8, description="radius of the adversary, in 1/255")
    steps: int = Field(default=10, description="inner steps of pgd-at")
    holdout: int = Field(default=2000, gt=0, description="training images kept for selection")
    seed: int = 0
    bf16: bool = True

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
    try:
        return Recipe(**tomllib.loads(path.read_text()))
    except OSError as error:
        raise UsageError(f"cannot read recipe {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"recipe {path}: {faults}") from error
