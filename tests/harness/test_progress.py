"""What is told of long work: the step at hand, and where the command stands as a whole."""

from __future__ import annotations

import io
import threading
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness import progress
from harness.progress import Track, bar_width, beside, live_line, whole


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that every look at the clock gives."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_has_step_rate_survivors_and_the_time_left_of_the_whole_run(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with whole("set", [20, 50, 50, 200, 40]) as steps:
        for clock[0] in (50.0, 175.0, 300.0):  # 2.5 s for each part of the work
            steps.advance()
        with Track("S1 pgd on twin", 64) as track:
            for clock[0], done in ((332.0, 32), (900.0, 8)):  # the second time, the step at hand has taken longer than its share
                track.advance(done, "robust 40.0%")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "S1 pgd on twin: 32/64 images, 1 images/s, 32 s left robust 40.0%, set 4 of 5, about 9.5 min left in all"
    assert lines[1].endswith("set 4 of 5, about 1.7 min left in all")


def test_nothing_is_guessed_of_few_steps_and_nothing_said_where_nothing_is_counted(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with whole("set", [1.0] * 5), Track("step", 4) as track:
        clock[0] = 20.0
        track.advance(2)
    with Track("step", 4) as track:
        clock[0] = 40.0
        track.advance(2)
    told = [line for line in capsys.readouterr().err.splitlines() if "left" in line]
    assert told == ["step: 2/4 images, 0.1 images/s, 20 s left, set 1 of 5", "step: 2/4 images, 0.1 images/s, 20 s left"]


def test_the_device_is_told_beside_the_step_as_it_is_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    said = ["50 °C"]

    class Device:
        def __str__(self) -> str:
            return said[-1]

    with beside(Device()), Track("step", 4) as track:
        for celsius, clock[0] in ((51, 20.0), (52, 40.0)):
            said.append(f"{celsius} °C 1.80 GHz")
            track.advance(1)
    assert [line.partition(" left, ")[2] for line in capsys.readouterr().err.splitlines()[:2]] == ["51 °C 1.80 GHz", "52 °C 1.80 GHz"]


def test_a_step_that_does_not_advance_tells_its_seconds(
    clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while an engine is built by a process of its own."""
    real = threading.Event()
    said: list[str] = []
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_S", 0.02)
    with Track("trt-int8: build", 6, unit="parts", summary=False):
        for clock[0] in (25.0, 95.0):
            for _ in range(500):
                said += capsys.readouterr().err.splitlines()
                if said and said[-1].endswith(f"{progress.in_words(clock[0])} so far"):
                    break
                real.wait(0.01)
    assert said == ["trt-int8: build: 0/6 parts, 25 s so far", "trt-int8: build: 0/6 parts, 1.6 min so far"]


@given(st.integers(40, 250), st.text("x y", max_size=60), st.lists(st.text("abc ", max_size=40), max_size=6))
def test_a_live_line_is_never_wider_than_its_terminal(columns: int, title: str, others: list[str]) -> None:
    shown, details = live_line(columns, title, "100/1000", others)
    assert details.startswith("100/1000")
    assert len("* ") + len(shown) + 1 + bar_width(columns) + bool(bar_width(columns)) + len(details) <= columns
    assert shown == title or (len(shown) < len(title) and shown.endswith("…"))


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_of_80_columns_shows_where_the_run_and_its_device_stand(
    no_color: bool, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    made = partial(Console, file=terminal, force_terminal=True, width=80, no_color=no_color)
    monkeypatch.setattr(progress, "Console", lambda stderr: made())
    with beside("54 °C 1.80 GHz"), whole("set", [1.0] * 21) as steps:
        for clock[0] in (10.0, 20.0, 30.0, 40.0):
            steps.advance()
        with Track("S4 square-warm on ort-int8-precise at 8/255", 1000) as track:
            clock[0] = 41.0
            track.advance(500, "robust 41.3%")
    assert "S4 square-warm on o… 500/1000  set 5/21 " in terminal.getvalue()
    assert "54 °C 1.80 GHz  robust 41.3%" in terminal.getvalue()


@pytest.mark.parametrize("still", [False, True])
def test_while_engines_are_timed_nothing_is_drawn_between_two_rounds(still: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=terminal, force_terminal=True, width=80))
    with Track("engines in turns: latency, batch 1", 5, unit="rounds", summary=False, still=still) as track:
        track.advance(1)
        before = terminal.tell()
        time.sleep(0.4)
        assert (terminal.tell() > before) == (not still)
        track.advance(1)
        assert terminal.tell() > before
        assert "2/5" in terminal.getvalue() or not still
