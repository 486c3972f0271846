"""What is told of long work: the step at hand, and where the command stands as a whole."""

from __future__ import annotations

import pytest

from harness import progress
from harness.progress import Track, whole


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that every look at the clock gives."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_has_step_rate_survivors_and_the_time_left_of_the_whole_run(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with whole("set", 5) as steps:
        for _ in range(3):
            steps.advance()
        clock[0] = 300.0  # the two that are left take two thirds of what the three took
        with Track("S1 pgd on twin", 64) as track:
            clock[0] = 316.0
            track.advance(32, "robust 40.0%")
    line = capsys.readouterr().err.splitlines()[0]
    assert line == "S1 pgd on twin: 32/64 images, 2 images/s, 16 s left robust 40.0%, set 4 of 5, about 3.5 min left in all"


def test_nothing_is_guessed_of_few_steps_and_nothing_said_where_nothing_is_counted(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with whole("set", 5), Track("step", 4) as track:
        clock[0] = 20.0
        track.advance(2)
    with Track("step", 4) as track:
        clock[0] = 40.0
        track.advance(2)
    told = [line for line in capsys.readouterr().err.splitlines() if "left" in line]
    assert told == ["step: 2/4 images, 0.1 images/s, 20 s left, set 1 of 5", "step: 2/4 images, 0.1 images/s, 20 s left"]
