"""A compression recipe: a TOML file with one table per stage of the method, validated before any work."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import UsageError
from harness.toml.read import read_toml
from harness.training.recipe import Stage, faults

RECIPES = Path(__file__).parent / "recipes"
SHARES = ("alpha", "alpha_1", "alpha_2", "warmup_share")  # of a loss or of the epochs
COUNTS = ("every", "norm")
DIVISORS = ("temperature", "growth")
PARTS = {"alpha_1": 0.5, "alpha_2": 0.25}  # of one loss, by default; the labels have the rest
NOTHING = "cpu"  # the recipe of a method that trains nothing and ships none


class CompressionRecipe(BaseModel):
    """What decides a compressed network besides the start, the rate and the data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    stages: dict[str, Stage]
    options: dict[str, float] = Field(default={}, description="constants of the method, by their names in the paper")


def load_recipe(recipe: str, method: str, stages: tuple[str, ...], seed: int, constants: tuple[str, ...] = ()) -> CompressionRecipe:
    """Read a recipe and check that it is one for the method.

    Args:
        recipe: `cpu` or `paper` for the method's shipped one, or a TOML file.
        method: the method's name.
        stages: the stages the method trains.
        seed: of every stage.
        constants: that the method has, by their names in the paper.

    Raises:
        UsageError: the file is missing, not TOML, or holds an unknown, missing or invalid field, stage or constant.
    """
    path = RECIPES / recipe / f"{method}.toml" if "/" not in recipe and not recipe.endswith(".toml") else Path(recipe)
    if not path.is_file() and not stages and recipe == NOTHING:
        return CompressionRecipe(description="nothing is trained", stages={})
    if not path.is_file():
        why = f"{method} has no published schedule" if recipe == "paper" else f"there is no recipe {recipe} for {method}"
        raise UsageError(f"{why}. Choices: {', '.join(shipped(method))}, or a TOML file.")
    content = read_toml(path, "recipe")
    try:
        common = _table(content.pop("common", {}), "common", path)
        tables = {name: _stage(name, seed, common | _table(content.pop(name), name, path), path) for name in stages if name in content}
        _refuse({"stages"} & content.keys(), f"recipe {path}", f"; its tables are {', '.join(stages)}" if stages else "")
        found = CompressionRecipe(stages=tables, **content)
    except ValidationError as error:
        raise UsageError(f"recipe {path}: {faults(error)}") from error
    if missing := [name for name in stages if name not in found.stages]:
        raise UsageError(f"recipe {path} lacks the stage{'s' * (len(missing) > 1)} {', '.join(missing)} of {method}")
    if strange := [name for name in found.options if name not in constants]:
        raise UsageError(f"recipe {path}: {method} has no constant {', '.join(strange)}; it has {', '.join(constants) or 'none'}")
    _check_constants(found.options, path)
    return found


def _check_constants(options: dict[str, float], path: Path) -> None:
    """A constant out of its range turns a loss round, or makes it NaN."""
    for name, value in options.items():
        good, expected = math.isfinite(value) and value >= 0, "at least 0"
        if name in SHARES:
            good, expected = 0 <= value <= 1, "0 to 1"
        elif name in COUNTS:
            good, expected = value >= 1 and value % 1 == 0, "1, 2, 3 …"
        elif name in DIVISORS:
            good, expected = math.isfinite(value) and value > 0, "above 0"
        if not good:
            raise UsageError(f"recipe {path}: {name} = {value:g}; expected {expected}")
    if PARTS.keys() & options.keys() and (both := sum(options.get(name, usual) for name, usual in PARTS.items())) > 1:
        raise UsageError(f"recipe {path}: alpha_1 + alpha_2 = {both:g}; expected 1 at most, of which the labels have the rest")


def _table(value: object, name: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"recipe {path}: {name} is {value!r}; expected a table [{name}]")
    return value


def _refuse(names: set[str], where: str, hint: str) -> None:
    if names:
        raise UsageError(f"{where}: {', '.join(sorted(names))} cannot be set{hint}")


def _stage(name: str, seed: int, fields: dict[str, Any], path: Path) -> Stage:
    _refuse({"name", "seed"} & fields.keys(), f"recipe {path}, stage {name}", ": the command says it")
    try:
        return Stage(name=name, seed=seed, **fields)
    except ValidationError as error:
        raise UsageError(f"recipe {path}, stage {name}: {faults(error)}") from error


def shipped(method: str) -> list[str]:
    """The names of a method's shipped recipes."""
    return sorted(path.parent.name for path in RECIPES.glob(f"*/{method}.toml"))
