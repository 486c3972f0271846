"""What a device answers when it is asked what it has, changed one field at a time: facts, or a `DeviceError`, on one line each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from devices.host import probe
from devices.host.channel import Exit
from devices.host.errors import DeviceError
from devices.host.profile import load_profile

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


@pytest.mark.parametrize("place", list(places(ANSWER)), ids=".".join)
def test_no_field_of_the_answer_can_do_harm(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "connect", lambda profile, say: Nowhere())
    for wrong in WRONG:
        answer: Any = deepcopy(ANSWER)
        at = answer
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = wrong
        if wrong is ABSENT:
            del at[place[-1]]

        def printed(channel: object, lines: list[str], answer: Any = answer) -> Exit:
            lines += ["=== answer", *json.dumps(answer, indent=0).splitlines()]
            return Exit(0, False, ())

        monkeypatch.setattr(probe, "_run", printed)
        try:
            seen = probe.probe(load_profile("jetson-orin"))
        except DeviceError as error:
            assert str(error).isprintable()
        else:
            assert all(text.isprintable() for text in (*map(str, seen.found.values()), *seen.missing, *seen.different))
