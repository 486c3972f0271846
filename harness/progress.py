"""Progress of long work, on standard error: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn

PLAIN_INTERVAL_S, LIVE_INTERVAL_S = 10.0, 1.0  # of a step that does not advance: where it stands is shown again after so long
ENOUGH = 3  # steps that a guess of the time left rests on
MOST_BAR, FOR_BAR = 24, 90  # columns of a terminal: a bar takes what is above the latter
LEAST_TITLE = 20  # of them
SPINNER, GAP = 2, 2


class Whole:
    """Where a command stands as a whole, beside the step at hand: how many of its steps are over, and about how long the others take.

    Args:
        what: is counted, such as "set".
        work: of each step, in any unit.
    """

    def __init__(self, what: str = "", work: Sequence[float] = ()) -> None:
        self.what, self.work, self.total, self.done = what, work, len(work), 0
        self.started = self.since = time.monotonic()

    def advance(self) -> None:
        """One more step is over."""
        self.done += 1
        self.since = time.monotonic()

    def __str__(self) -> str:
        if not self.total:
            return ""
        guess = f", about {in_words(self._left_s)} left in all" if self.done >= ENOUGH else ""
        return f"{self.what} {min(self.done + 1, self.total)} of {self.total}{guess}"

    @property
    def short(self) -> str:
        """The same for a narrow line."""
        guess = f" {in_words(self._left_s)}" if self.done >= ENOUGH else ""
        return f"{self.what} {min(self.done + 1, self.total)}/{self.total}{guess}" if self.total else ""

    @property
    def _left_s(self) -> float:
        """At the pace of the steps that are over; the step at hand may take longer than that."""
        pace = (self.since - self.started) / max(sum(self.work[: self.done]), 1e-9)
        now, later = sum(self.work[self.done : self.done + 1]), sum(self.work[self.done + 1 :])
        return max(pace * now - (time.monotonic() - self.since), 0.0) + pace * later


_whole = Whole()
_device: object = ""


@contextmanager
def whole(what: str, work: Sequence[float]) -> Iterator[Whole]:
    """Let every `Track` meanwhile show where the command stands; see `Whole`."""
    global _whole  # of the terminal, of which there is one
    before, _whole = _whole, Whole(what, work)
    try:
        yield _whole
    finally:
        _whole = before


@contextmanager
def beside(device: object) -> Iterator[None]:
    """Let every `Track` meanwhile show how the device is: `str(device)` at that moment, which asks nobody."""
    global _device  # of the terminal, as above
    before, _device = _device, device
    try:
        yield
    finally:
        _device = before


def in_words(seconds: float) -> str:
    """A time to wait, as people say it."""
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"


class Track:
    """One long step. Use as a context manager; call `advance` with the work done and a short status. While that is not called, as during
    the build of an engine, the seconds are shown.

    Args:
        title: what is being done, a few words.
        total: amount of work, in `unit`s.
        unit: what is counted, for the rate ("images").
        done: work finished before this process started (a resumed step).
        summary: whether a line stays when the step is over.
        silent: print nothing, as one of several processes at the same work.
        still: draw nothing between two calls of `advance`, while this computer may be timed.
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str = "images",
        done: int = 0,
        summary: bool = True,
        silent: bool = False,
        still: bool = False,
    ) -> None:
        self.title, self.total, self.unit, self.done, self.summary = title, total, unit, done, summary
        self.silent, self.still = silent, still
        self.resumed = done
        self.started = time.monotonic()
        self.last_line = self.started
        self.status = ""
        self.bar: Progress | None = None
        self._over, self._printing = threading.Event(), threading.Lock()
        self._ticks = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Track:
        console = Console(stderr=True)
        if console.is_terminal and not self.silent:
            texts = [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("title", "details")]
            bar = [BarColumn(bar_width=width)] if (width := bar_width(console.width)) else []
            columns: list[ProgressColumn] = [SpinnerColumn(), texts[0], *bar, texts[1]]
            self.bar = Progress(*columns, console=console, transient=True, auto_refresh=not self.still)
            self.task = self.bar.add_task("", total=self.total, completed=self.done, **self._fields())
            self.bar.start()
        if not (self.silent or self.still):
            self._ticks.start()
        return self

    def advance(self, amount: int, status: str = "") -> None:
        """Count `amount` more units; `status` is shown beside the bar."""
        self.done += amount
        self.status = status
        self._show()

    def _show(self) -> None:
        """Where it stands, now: in the bar, or in a line where the last one is some time ago."""
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, refresh=self.still, **self._fields())
            return
        with self._printing:
            if self.silent or time.monotonic() - self.last_line < PLAIN_INTERVAL_S or self.done >= self.total:
                return
            self.last_line = time.monotonic()
            pace = (self.rate(), f"{self.left()} {self.status}".rstrip()) if self.done > self.resumed else (self.so_far(), self.status)
            parts = (f"{self.title}: {self.done}/{self.total} {self.unit}", *pace, str(_device), str(_whole))
            print(", ".join(filter(None, parts)), file=sys.stderr)

    def _tick(self) -> None:
        while not self._over.wait(PLAIN_INTERVAL_S if self.bar is None else LIVE_INTERVAL_S):
            self._show()

    def _fields(self) -> dict[str, Any]:
        """The live line's texts, as many as fit beside one another."""
        assert self.bar is not None  # noqa: S101 - it is there
        pace = [self.rate(), self.left()] if self.done > self.resumed else [self.so_far()]
        counts = f"{self.done}/{self.total}"
        others = [_whole.short, str(_device), self.status, *pace]
        title, details = live_line(self.bar.console.width, self.title, counts, others)
        return {"title": title, "details": details}

    def rate(self) -> str:
        """Units per second of this process, as text."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = (self.done - self.resumed) / seconds
        return f"{f'{rate:,.0f}' if rate >= 100 else f'{rate:.3g}'} {self.unit}/s"

    def left(self) -> str:
        """Time left at the present rate, as text."""
        fresh = self.done - self.resumed
        seconds = (time.monotonic() - self.started) * (self.total - self.done) / max(fresh, 1)
        return f"{in_words(seconds)} left"

    def so_far(self) -> str:
        """Time since it began, as text; "" within the first second."""
        seconds = time.monotonic() - self.started
        return f"{in_words(seconds)} so far" if seconds >= 1 else ""

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        if not (self.silent or self.still):
            self._ticks.join()
        if self.bar is not None:
            self.bar.stop()
        if kind is None and self.summary and not self.silent:
            seconds = time.monotonic() - self.started
            detail = f" {self.status}" if self.status else ""
            print(f"{self.title}: {self.done} {self.unit} in {seconds:.1f} s{detail}", file=sys.stderr)


def live_line(columns: int, title: str, count: str, others: list[str]) -> tuple[str, str]:
    """A title, cut where it must be, and the details that fit beside it in a terminal of so many columns.

    Args:
        columns: of the terminal.
        title: what is being done.
        count: how much of it is done; always shown.
        others: the most important first, "" where there is nothing to say; one that does not fit gives way to a shorter one that does.
    """
    room = columns - SPINNER - bar_width(columns) - GAP - len(count)
    left = room - min(len(title), LEAST_TITLE)
    parts = [count]
    for text in filter(None, others):
        if GAP + len(text) <= left:
            parts.append(text)
            left -= GAP + len(text)
    most = LEAST_TITLE + max(left, 0)
    return title if len(title) <= most else f"{title[: most - 1].rstrip()}…", (" " * GAP).join(parts)


def bar_width(columns: int) -> int:
    """Of the bar in a terminal of so many columns; 0: there is none, the texts come first."""
    return min(max(columns - FOR_BAR, 0), MOST_BAR)
