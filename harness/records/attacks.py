"""How adversarial sets were made, and what noise does without an adversary."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal

from pydantic import Field

from harness.records.parts import Interval, Part


class Queries(Part):
    """How often an attack asked its target: times that it was asked about an image or a version of it."""

    total: int
    median: float = Field(description="over the attacked images")
    largest: int

    @classmethod
    def of(cls, counts: Sequence[int]) -> Queries:
        """Of the counts of the attacked images."""
        return cls(total=sum(counts), median=median(counts) if counts else 0.0, largest=max(counts, default=0))


class AttackRecord(Part):
    """One adversarial set, stored in `file` (arrays `images` uint8 NHWC, `index`, `labels`).

    In a cascade it holds only the images on which some model held out until then; `n` are those.
    """

    source: str = Field(description="why it was made, see `harness.sources.SOURCES`")
    target: str = Field(description="what it is aimed at: `twin`, or an engine (of S3: its graph read back into PyTorch)")
    made_on: str = Field(default="twin", description="the row of the answers of the model that was attacked: a target, or its graph")
    name: str = Field(description="of the attack; with NAME#2 and so on where its seed is not the run's first")
    library: str
    norm: Literal["Linf", "L2"]
    eps: float
    eps_exact: str = Field(description="the radius as a fraction, e.g. 8/255")
    steps: int
    step_size: str
    seed: int
    n: int
    n_attacked: int = Field(description="images that somebody who counts had right; the rest stay as they are")
    target_accuracy: float = Field(description="of the model that was attacked (`made_on`), on the `n` images of the set")
    linf_max: float
    l2_mean: float = Field(description="mean ||x' - x||_2 over the attacked images")
    l2_median: float | None = Field(description="median over the images that were fooled; the figure of a minimum-norm attack")
    zero_gradient_share: float = Field(
        description="share of attacked images whose loss gradient at the start is zero in more than 99 % of its entries"
    )
    undone_by_rounding: int = Field(
        default=0, description="attacked images that the attack's own floats fool while no bytes near them do: successes lost to rounding"
    )
    queries: Queries
    inherited_from: str | None = Field(
        default=None, description="the engine whose set this is: it answers as this one does, to the bit; None: made on this one"
    )
    set_sha256: str
    file: str

    @property
    def zero_gradients(self) -> int:
        """Attacked images whose loss gradient at the start is zero, see `zero_gradient_share`."""
        return round(self.zero_gradient_share * self.n_attacked)


class NoiseFloor(Part):
    """What random-sign noise does to the twin, draw by draw: each draw's accuracy is over the same `n` attacked images."""

    n: int
    eps_exact: str
    right: list[int] = Field(description="images right clean and under the draw, for each draw")
    minimum: float
    mean: float
    maximum: float
    ci95: Interval = Field(description="of the mean over draws of these images (Student's t)")
    worst: float = Field(description="accuracy over images that every draw leaves right: the worst draw of each image")
