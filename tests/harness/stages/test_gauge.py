"""What the live line says of the device: when it is asked, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from devices.host.session import EngineError
from harness.stages import gauge as module
from harness.stages.gauge import EVERY_S, MOST_SHARE, Gauge, in_words


class Sessions(dict[str, Any]):
    """Of engines that count how often they are asked; asking takes `slow` seconds of the clock `now`."""

    now, slow, asked = 0.0, 0.0, 0
    is_open = True
    fault: EngineError | None = None

    def sense(self) -> dict[str, float]:
        self.asked += 1
        self.now += self.slow
        if self.fault is not None:
            raise self.fault
        return {"temperature_c:cpu": 40.0 + self.asked}


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Sessions:
    made = Sessions()
    monkeypatch.setattr(module.time, "monotonic", lambda: made.now)

    class Session:
        is_open = property(lambda self: made.is_open)

        def now(self) -> dict[str, float]:
            return made.sense()

    made["a"] = Session()
    return made


def test_it_asks_the_first_engine_that_is_open_and_not_more_often_than_it_must(sessions: Sessions) -> None:
    gauge = Gauge(sessions, ["closed", "a"], emulated=False)
    assert str(gauge) == ""
    gauge.look()
    assert str(gauge) == "41 °C"
    sessions.now += EVERY_S - 0.1
    gauge.look()
    assert sessions.asked == 1
    sessions.now += 0.2
    gauge.look()
    assert (str(gauge), sessions.asked) == ("42 °C", 2)


def test_a_slow_device_is_asked_less_often(sessions: Sessions) -> None:
    sessions.slow = 1.0
    gauge = Gauge(sessions, ["a"], emulated=False)
    gauge.look()
    sessions.now += 0.9 / MOST_SHARE - 1
    gauge.look()
    assert sessions.asked == 1
    sessions.now += 0.2 / MOST_SHARE
    gauge.look()
    assert sessions.asked == 2


def test_an_emulated_device_says_so_and_is_not_asked(sessions: Sessions) -> None:
    gauge = Gauge(sessions, ["a"], emulated=True)
    gauge.look()
    assert (str(gauge), sessions.asked) == ("emulated", 0)


def test_an_engine_that_fails_meanwhile_is_no_fault_of_the_line(sessions: Sessions) -> None:
    sessions.fault = EngineError("crashed", "it ended")
    gauge = Gauge(sessions, ["a"], emulated=False)
    gauge.look()
    assert (str(gauge), sessions.asked) == ("", 1)
    sessions.is_open = False
    sessions.now += 2 * EVERY_S
    gauge.look()
    assert sessions.asked == 1, "nobody is there to ask"


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        ({}, ""),
        ({"temperature_c:cpu": 51.2, "temperature_c:gpu": 61.7}, "62 °C"),
        ({"frequency_hz:cpu0": 6e8, "frequency_hz:cpu1": 1.8e9, "temperature_c:cpu": -3.0}, "-3 °C 1.80 GHz"),
        ({"frequency_hz:cpu0": 2e9, "frequency_hz:gpu": 9.18e8, "frequency_hz:emc": 3.2e9}, "918 MHz"),
        ({"power_w:gpu": 71.46}, "71.5 W"),
        ({"power_w:VDD_IN": 9.0, "power_w:VDD_CPU": 3.0}, ""),
    ],
)
def test_the_words(sample: dict[str, float], words: str) -> None:
    assert in_words(sample) == words
