"""Who performs the tasks of a sweep. In this process: one after the other, a network and its bench before the next."""

from __future__ import annotations

from typing import Protocol

from devices.worker.environment import describe_machine
from devices.worker.observed import gpu
from devices.worker.reader import Reader
from harness.records import hardware
from harness.sweep.cache import Cache
from harness.sweep.tasks import Outcome, Task, attempt


def machine() -> str:
    """The computer, as far as it decides a latency."""
    return hardware({**describe_machine(), "gpu": gpu(Reader())})


class Executor(Protocol):
    """Takes tasks, gives back outcomes. `name` is for the record, `place` the `machine` that benches run on or from."""

    name: str
    place: str

    def start(self, task: Task, number: int) -> None:
        """Take a task of cell `number`; lower numbers go first."""

    def next(self) -> tuple[Task, Outcome]:
        """Wait for a task to end. At least one must have been started and not been given back."""

    def close(self) -> None:
        """Let go of whatever was taken."""


class Local:
    """This process."""

    name = "local"

    def __init__(self, cache: Cache, cpus: int | None) -> None:
        self.cache, self.cpus = cache, cpus
        self.place = machine()
        self.waiting: list[tuple[int, Task]] = []

    def start(self, task: Task, number: int) -> None:
        """See `Executor`."""
        self.waiting.append((number, task))

    def next(self) -> tuple[Task, Outcome]:
        """See `Executor`."""
        chosen = min(range(len(self.waiting)), key=lambda i: self.waiting[i][0])
        _, task = self.waiting.pop(chosen)
        return task, attempt(task, self.cache, self.cpus)

    def close(self) -> None:
        """Nothing was taken."""
