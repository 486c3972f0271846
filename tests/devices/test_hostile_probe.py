"""What a device answers when it is asked what it has, changed one field at a time: facts, or a `DeviceError`, on one line each."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from commandline import harness

from devices.host import probe
from devices.host.channel import Channel, Exit
from devices.host.errors import DeviceError
from devices.host.profile import load_profile

pytestmark = pytest.mark.slow(20)

ANSWER = {
    "found": {"python": "3.10.12", "machine": "aarch64", "system": "Ubuntu", "numpy": "1.26.4", "onnxruntime": "1.20", "tensorrt": "10.3"},
    "system": {"name": "Ubuntu 22.04", "machine": "aarch64", "l4t": "# R36", "managed": False, "venv": False, "home": "/home/me"},
    "state": {
        "power_mode": "MAXN", "isa_flags": ["asimd"], "memory_bytes": 64 << 30, "clocks_locked": True, "l4t": "36.4.3",
        "clocks_hz": {"gpu": [1e9, 1e9]}, "governors": ["performance"],
    },
}  # fmt: skip
ABSENT = object()
WRONG = [ABSENT, None, -7, 1 << 63, 1e308, "", "3", "3.x", "....", "9" * 5000, "\x1b[31m", [], [[]], {"a": 1}, True]
Place = tuple[str, ...]


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield (*here, key)
        yield from places(inner, (*here, key))


class Nowhere:
    """A way to no device."""

    python = ("python3",)

    def __enter__(self) -> Nowhere:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def put(self, *_: object) -> str:
        return "/there"

    def open(self, *_: object) -> None:
        pass


def changed(place: Place, wrong: object) -> Any:
    answer: Any = deepcopy(ANSWER)
    at = answer
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = wrong
    if wrong is ABSENT:
        del at[place[-1]]
    return answer


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Make every device answer that, whichever is asked."""
    monkeypatch.setattr(probe, "connect", lambda profile, say: Nowhere())

    def says(answer: object) -> None:
        def printed(channel: object, lines: list[str]) -> Exit:
            lines += ["=== answer", *json.dumps(answer, indent=0).splitlines()]
            return Exit(0, False, ())

        monkeypatch.setattr(probe, "_run", printed)

    return says


@pytest.mark.parametrize("place", list(places(ANSWER)), ids=".".join)
def test_no_field_of_the_answer_can_do_harm(place: Place, answers: Callable[[object], None]) -> None:
    for wrong in WRONG:
        answers(changed(place, wrong))
        try:
            seen = probe.probe(load_profile("jetson-orin"))
        except DeviceError as error:
            assert str(error).isprintable()
        else:
            assert all(text.isprintable() for text in (*map(str, seen.found.values()), *seen.missing, *seen.different))


@pytest.mark.parametrize("place", list(places(ANSWER)), ids=".".join)
def test_the_commands_end_with_an_answer_or_one_line(
    place: Place, answers: Callable[[object], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`probe`, and `prepare`, which probes what it has built. Every field lacks once, and has one value that none can have."""
    monkeypatch.setattr(probe, "prepare", lambda profile, say: None)
    number = list(places(ANSWER)).index(place)
    for words in (("probe", "jetson-orin"), ("probe", "jetson-orin", "--json"), ("prepare", "raspberry-pi-4")):
        for wrong in (ABSENT, WRONG[1:][number % (len(WRONG) - 1)]):
            answers(changed(place, wrong))
            code, said = harness("devices", *words), capsys.readouterr()
            assert code in (0, 4), (wrong, said.err)
            assert all(map(str.isprintable, (*said.err.splitlines(), *said.out.splitlines())))


@pytest.mark.parametrize(
    ("talk", "ends"),
    [
        ("while True: print('x')", "does not stop talking"),
        ("while True: print('x' * (1 << 20))", "does not stop talking"),
        ("import time\nwhile True: print('x', flush=True); time.sleep(0.1)", "does not stop talking"),
        ("while True: print('x' * 65536, end='')", "does not stop talking"),
        ("import time; time.sleep(60)", "was silent"),
        ("print('=== answer')", "an answer that cannot be used"),
        ("print('=== answer'); print('[' * 5000)", "an answer that cannot be used"),
        ("print('=== answer'); print('{\"found\": NaN}')", "an answer that cannot be used"),
    ],
)
def test_a_python_that_never_ends_comes_to_an_end(talk: str, ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines without end, slow and fast, one line without end, silence, and no answer behind the answer's mark."""

    class Talking(Nowhere):
        def open(self, *_: object) -> Channel:
            return Channel([sys.executable, "-c", talk], None)

    monkeypatch.setattr(probe, "connect", lambda profile, say: Talking())
    monkeypatch.setattr(probe, "LIMIT_S", 1.0)
    monkeypatch.setattr(probe, "LONGEST_S", 3.0)
    began = time.monotonic()
    with pytest.raises(DeviceError, match=ends) as error:
        probe.probe(load_profile("jetson-orin"))
    assert str(error.value).isprintable() and time.monotonic() - began < 60


def test_an_interrupt_ends_the_python_that_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs at an import, as on a board with a broken driver, or under an emulator, ran on for ever."""
    opened: list[Channel] = []

    class Interrupted(Channel):
        def line(self, limit_s: float) -> bytes | None:
            raise KeyboardInterrupt

    class Hanging(Nowhere):
        def open(self, *_: object) -> Channel:
            opened.append(Interrupted([sys.executable, "-c", "import time; time.sleep(600)"], None))
            return opened[0]

    monkeypatch.setattr(probe, "connect", lambda profile, say: Hanging())
    with pytest.raises(KeyboardInterrupt):
        probe.probe(load_profile("jetson-orin"))
    assert opened[0]._process.returncode is not None
