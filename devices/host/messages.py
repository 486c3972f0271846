"""What an engine says, line by line (protocol 1, `devices.worker.serve`): believed only where it is of the right kind and size."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat

from devices.worker.plain import printable

MOST_CLASSES = 1 << 20
MOST_SIDE = 1 << 16  # of an image, in pixels
MOST_NS = 1 << 62
MOST_SENSORS = 1000


class Said(BaseModel):
    """A message from the other end: what is not expected in it is ignored, what is expected must be of the right kind and size."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Loaded(Said):
    """What is known of the engine that really runs.

    Attributes:
        options: every option as the runtime has it.
        plan_sha256: of the plan that runs: its file where the runtime keeps one, else artefact, version and options.
        environment, before: what the device looked like (see `devices.worker.environment`, `devices.worker.observed`).
        load_ns: loading the artefact, without importing the runtime and without building.
        build_ns: building the engine.
        first_ns: the first call of all, one image.
        synthetic: its clock and memory are made up.
    """

    options: dict[str, Any] = {}
    plan_sha256: str = Field(default="", max_length=64)
    environment: dict[str, Any] = {}
    before: dict[str, Any] = {}
    load_ns: int | None = Field(default=None, ge=0, le=MOST_NS)
    build_ns: int = Field(default=0, ge=0, le=MOST_NS)
    first_ns: int | None = Field(default=None, ge=0, le=MOST_NS)
    synthetic: bool = False


Word = Annotated[str, Field(max_length=200), AfterValidator(lambda text: printable(text))]


class Hello(Said):
    """The first line of an engine."""

    protocol: Literal[1]
    name: Word
    version: Word
    shape: list[Annotated[int, Field(ge=1, le=MOST_SIDE)]] = Field(min_length=3, max_length=3, description="height, width, channels")
    classes: int = Field(ge=2, le=MOST_CLASSES)
    output: Literal["logits", "labels"]
    measure: bool = False
    loaded: Loaded = Loaded()

    @property
    def form(self) -> str:
        """What the engine takes and gives, in words."""
        height, width, channels = self.shape
        return f"images of {height}x{width}x{channels} and answers {self.output} of {self.classes} classes"


class Fault(Said):
    """An engine that cannot go on says why."""

    status: Literal["refused", "built", "crashed"]
    error: str


class Working(Said):
    """What a long step has come to, before an answer."""

    step: str
    done: int = Field(ge=0)
    total: int = Field(ge=0)


class Rows(Said):
    """How many rows of numbers follow."""

    n: int


class Now(Said):
    """The device's sensors, "KIND:NAME" -> number."""

    now: dict[Annotated[str, Field(max_length=200)], FiniteFloat] = Field(max_length=MOST_SENSORS)


class TimedCalls(Said):
    """Nanoseconds of each call, when it began, and of its parts."""

    ns: list[int]
    start_ns: list[int] = []
    parts: dict[str, list[int]] = {}
