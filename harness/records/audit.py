"""What follows from the answers: transfer, the gap taken apart, gates, claims and their verdicts."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from harness.records.parts import Interval, Part, Share


class Verdict(StrEnum):
    """The answer to one claim, best first. `NOT_REFUTED` is the best that transferred attacks alone can give."""

    HOLDS = "HOLDS"
    NOT_REFUTED = "NOT REFUTED BY TRANSFER"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNTRUSTED = "UNTRUSTED"
    DEGRADED = "DEGRADED"
    FAILS = "FAILS"
    ENGINE_FAILED = "ENGINE FAILED"

    @property
    def sound(self) -> bool:
        """Whether the figures under this verdict may be relied on: compared, ranked, recommended."""
        return self not in (Verdict.UNTRUSTED, Verdict.ENGINE_FAILED)

    @property
    def exit_code(self) -> int:
        """The process's exit code for this verdict (see README, exit codes)."""
        return {"HOLDS": 0, "NOT_REFUTED": 0, "FAILS": 1, "DEGRADED": 1, "ENGINE_FAILED": 4}.get(self.name, 3)


class Flips(Part):
    """The paired 2x2 table of twin and engine on the same adversarial bytes, counts of images."""

    both_right: int
    twin_only: int
    engine_only: int
    both_wrong: int


class Transfer(Part):
    """One adversarial set replayed on one engine.

    An image counts as right where the model is right on the clean image and on x'.
    `transfer_rate`: of the images both have right when clean and that fool the twin, the share that fools the engine too;
    None if there is none.
    """

    engine: str
    source: str
    target: str = Field(description="what the set is aimed at, as in `attacks`")
    attack: str
    eps: float
    eps_exact: str
    n: int
    twin_accuracy: float
    engine_accuracy: float
    ci95: Interval
    transfer_rate: float | None
    transfer_ci95: Interval | None
    flips: Flips
    label_disagreement: float
    differential_evasion: float = Field(description="share of images the twin has right and the engine wrong")


class SeededTransfer(Part):
    """The transfer rate of one attack over all its seeds, on one engine: of the pairs of image and seed that count in `Transfer`.

    Sets of later seeds hold only the images on which some model held out until then.
    """

    engine: str
    source: str
    target: str = Field(description="what the sets are aimed at, as in `attacks`")
    attack: str = Field(description="its name with the first seed")
    eps_exact: str
    seeds: list[int]
    transfer_rate: float
    ci95: Interval = Field(description="bootstrap over the images, 2,000 resamples, seed 0")


class Replay(Part):
    """What fools one model, shown byte for byte to another. Over images that both have right when clean and on which some set that is aimed
    at `made_for` alone fools it; `fooled`: the share on which one of these sets fools `shown_to` too. None: there is no such image.
    """

    made_for: str = Field(description="`twin`, or an engine")
    shown_to: str
    fooled: Share | None


class Gap(Part):
    """Robust accuracy lost from one model to another, on the same images. `lower`, `upper`: one-sided 95 % Tango bounds."""

    gap: float
    lower: float
    upper: float


class Level(Part):
    """A model of the decomposition. `lost`: from the level before it; None: it is the first."""

    name: Literal["parent", "twin", "quantized", "simulated", "engine", "rebuild"]
    model: str = Field(description="its row of answers")
    robust: Share
    lost: Gap | None


class Waterfall(Part):
    """The levels from the parent or the twin down to the engine and its worst build. The losses add up to that from first to last.

    `under` replay: attacks on the PyTorch models alone (of the parent: those on it), shown byte for byte; adaptive: all that the claim
    rests on.
    """

    under: Literal["replay", "adaptive"]
    sets: list[str] = Field(description="attacks, each with its source")
    levels: list[Level]


class Decomposition(Part):
    """Where one flavour's robustness goes. `replay`: twin less engine under S1 (G_replay); `adaptive`: under all sets (G_adapt)."""

    engine: str
    eps_exact: str
    n: int
    replay: Gap | None
    adaptive: Gap
    waterfalls: list[Waterfall]
    note: str = Field(default="", description="what is left out, and why")


class Gate(Part):
    """A condition under which the figures may be believed. `passed` is None where it was not tested."""

    name: str
    engine: str | None
    passed: bool | None
    observed: str
    limit: str
    remedy: str


class Claim(Part):
    """A claim and its answer. Gap, bounds and margin are shares; `lower` and `upper` are one-sided 95 % Tango bounds."""

    statement: str
    engine: str
    control: bool = Field(
        default=False,
        description="the float engine beside others: judged by itself, outside Holm's family; undecided, it does not count",
    )
    verdict: Verdict
    eps_exact: str
    twin_robust: Share | None
    engine_robust: Share | None
    gap: float | None = Field(description="twin accuracy - engine accuracy, worst case over the sources")
    lower: float | None
    upper: float | None
    margin: float
    n: int
    sources: list[str] = Field(default=[], description="of the sets that the claim rests on, see `harness.sources.SOURCES`")
    n_required: int | None = Field(description="images that would decide, at the discordance seen")
    p_value: float | None = Field(description="one-sided, of 'gap >= margin', Holm-adjusted over the claims")
    mcnemar_p: float | None = Field(description="exact and two-sided, of 'no gap'; beside the verdict, decides nothing")
    relative_robustness: float | None = Field(description="engine accuracy / twin accuracy, worst case over the sources")
    relative_ci95: Interval | None = Field(description="paired bootstrap over the images, 2,000 resamples, seed 0")
    reason: str
