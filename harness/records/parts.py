"""What several parts of a record are made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

Interval = tuple[float, float]


class Part(BaseModel):
    """A piece of the record: frozen, and nothing in it that the schema does not name."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Share(Part):
    """A count out of n with its Wilson interval."""

    correct: int
    n: int
    accuracy: float
    ci95: Interval


class Median(Part):
    """The median of n figures, of which `missing` are larger than any that was found. None: it, or a bound, is among those; a bound also
    where n is too small to have one.
    """

    value: float | None
    n: int
    missing: int
    low: float | None = Field(description="of the 95 % interval between two order statistics")
    high: float | None


class Mismatch(Part):
    """Something that is not as the device's profile declares it, or that changed during the run. `engine`: whose job saw it."""

    engine: str
    what: str
    declared: str
    observed: str
    remedy: str
