"""What a compression is asked for, and what can be checked of it without a file."""

from __future__ import annotations

import shlex

from pydantic import BaseModel, ConfigDict

from harness.compression.table import find_method
from harness.errors import UsageError
from harness.models.architectures import family
from harness.settings import check_seed

HALF = "0.5"  # the rate of 2:4


class Request(BaseModel):
    """What the user asked for. `model`, `arch`, … are as in `load_twin`; the rest as in `harness compress --help`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    method: str
    rate: str | None = None
    pattern: str | None = None
    recipe: str = "cpu"
    until: str | None = None
    student: str | None = None
    standard_teacher: str | None = None
    data: str = "cifar10"
    test: str = "cifar10-sample"
    arch: str | None = None
    classes: int | None = None
    image_size: int | None = None
    normalize: str | None = None
    seed: int = 0

    def command(self, out: str) -> str:
        """The command line that asks for this."""
        fields = self.model_dump(exclude_defaults=True, exclude={"model"})
        options = (word for name, value in fields.items() for word in (f"--{name.replace('_', '-')}", str(value)))
        return shlex.join(["harness", "compress", self.model, *options, "--out", out])


def check(request: Request) -> Request:
    """The request with its rate and pattern filled in, after checking all that needs no file.

    Raises:
        UsageError: see `compress`.
    """
    method = find_method(request.method)
    check_seed(request.seed)
    pattern = request.pattern or next(iter(method.patterns), None)
    if request.pattern and request.pattern not in method.patterns:
        raise UsageError(f"--pattern {request.pattern}: {request.method} knows {', '.join(method.patterns) or 'no pattern'}")
    rate = request.rate or (HALF if pattern == "2:4" else method.default)
    method.rate(rate)
    if request.until is not None and request.until not in method.stages:
        raise UsageError(f"--until {request.until}: the stages of {request.method} are {', '.join(method.stages) or 'none'}")
    if request.student is not None:
        if not method.teachers:
            raise UsageError(f"--student {request.student} is for distillation; {request.method} compresses the model itself")
        family(request.student)
    if ("standard" in method.teachers) != (request.standard_teacher is not None):
        need = (
            "needs --standard-teacher MODEL, trained without an adversary" if "standard" in method.teachers else "has no --standard-teacher"
        )
        raise UsageError(f"{request.method} {need}")
    return request.model_copy(update={"rate": rate or None, "pattern": pattern})
