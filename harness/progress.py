"""Progress of long work, on standard error: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

PLAIN_INTERVAL_S = 10.0
ENOUGH = 3  # steps that a guess of the time left rests on


class Whole:
    """Where a command stands as a whole, beside the step at hand: how many of its steps are over, and about how long the others take."""

    def __init__(self, what: str = "", total: int = 0) -> None:
        self.what, self.total, self.done, self.started = what, total, 0, time.monotonic()

    def advance(self) -> None:
        """One more step is over."""
        self.done += 1

    def __str__(self) -> str:
        if not self.total:
            return ""
        left = (time.monotonic() - self.started) / max(self.done, 1) * (self.total - self.done)
        guess = f", about {in_words(left)} left in all" if self.done >= ENOUGH else ""
        return f"{self.what} {min(self.done + 1, self.total)} of {self.total}{guess}"


_whole = Whole()


@contextmanager
def whole(what: str, total: int) -> Iterator[Whole]:
    """Let every `Track` meanwhile show where the command stands: `what` is counted, such as "set", and `total` how many there are."""
    global _whole  # of the terminal, of which there is one
    before, _whole = _whole, Whole(what, total)
    try:
        yield _whole
    finally:
        _whole = before


def in_words(seconds: float) -> str:
    """A time to wait, as people say it."""
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"


class Track:
    """One long step. Use as a context manager; call `advance` with the work done and a short status.

    Args:
        title: what is being done, a few words.
        total: amount of work, in `unit`s.
        unit: what is counted, for the rate ("images").
        done: work finished before this process started (a resumed step).
        summary: whether a line stays when the step is over.
        silent: print nothing, as one of several processes at the same work.
    """

    def __init__(self, title: str, total: int, unit: str = "images", done: int = 0, summary: bool = True, silent: bool = False) -> None:
        self.title, self.total, self.unit, self.done, self.summary = title, total, unit, done, summary
        self.silent = silent
        self.resumed = done
        self.started = time.monotonic()
        self.last_line = self.started
        self.status = ""
        self.bar: Progress | None = None

    def __enter__(self) -> Track:
        console = Console(stderr=True)
        if console.is_terminal and not self.silent:
            self.bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]} {task.fields[status]}", markup=False),
                TimeRemainingColumn(),
                TextColumn("{task.fields[whole]}", markup=False),
                console=console,
                transient=True,
            )
            self.task = self.bar.add_task(self.title, total=self.total, completed=self.done, rate="", status="", whole=str(_whole))
            self.bar.start()
        return self

    def advance(self, amount: int, status: str = "") -> None:
        """Count `amount` more units; `status` is shown beside the bar."""
        self.done += amount
        self.status = status
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, rate=self.rate(), status=status, whole=str(_whole))
        elif not self.silent and time.monotonic() - self.last_line >= PLAIN_INTERVAL_S and self.done < self.total:
            self.last_line = time.monotonic()
            parts = (f"{self.title}: {self.done}/{self.total} {self.unit}", self.rate(), f"{self.left()} {status}".rstrip(), str(_whole))
            print(", ".join(filter(None, parts)), file=sys.stderr)

    def rate(self) -> str:
        """Units per second of this process, as text."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        return f"{(self.done - self.resumed) / seconds:.3g} {self.unit}/s"

    def left(self) -> str:
        """Time left at the present rate, as text."""
        fresh = self.done - self.resumed
        seconds = (time.monotonic() - self.started) * (self.total - self.done) / max(fresh, 1)
        return f"{in_words(seconds)} left"

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()
        if kind is None and self.summary and not self.silent:
            seconds = time.monotonic() - self.started
            detail = f" {self.status}" if self.status else ""
            print(f"{self.title}: {self.done} {self.unit} in {seconds:.1f} s{detail}", file=sys.stderr)
